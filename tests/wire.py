"""A real git server on loopback, and a wire to it that may be slow, break off, or carry something else."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tests.remote import git_environment

_TICK_SEC = 1.0
Treatment = Callable[["Wire", socket.socket], None]


class Wire:
    """Listens until `close`. Each connection gets the treatment of the moment; `heard` counts them."""

    def __init__(self, base: Path) -> None:
        self.treat: Treatment = whole
        self.heard = 0
        self.base = base
        self.closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def url(self, name: str = "remote.git", scheme: str = "git") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        self.closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._connections:
            hang_up(connection)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.heard += 1
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.treat(self, connection)

    @contextlib.contextmanager
    def answers(self, connection: socket.socket) -> Iterator[IO[bytes]]:
        """What `git daemon` has to say on this connection."""
        argv = ["git", "daemon", "--inetd", "--export-all", f"--base-path={self.base}"]
        with subprocess.Popen(
            argv,
            stdin=connection.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=git_environment(),
            bufsize=0,
        ) as daemon:
            assert daemon.stdout is not None
            try:
                yield daemon.stdout
            finally:
                hang_up(connection)
                daemon.kill()


def hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def whole(wire: Wire, connection: socket.socket) -> None:
    with wire.answers(connection) as answers:
        while chunk := answers.read(65536):
            connection.sendall(chunk)


def slow(wire: Wire, connection: socket.socket) -> None:
    """Ten bytes a second."""
    with wire.answers(connection) as answers:
        while (chunk := answers.read(10)) and not wire.closed.wait(_TICK_SEC):
            connection.sendall(chunk)


def broken_off(after: int) -> Treatment:
    """The whole of it, but no more than so many bytes."""

    def treat(wire: Wire, connection: socket.socket) -> None:
        left = after
        with wire.answers(connection) as answers:
            while left > 0 and (chunk := answers.read(min(left, 4096))):
                connection.sendall(chunk)
                left -= len(chunk)

    return treat


def saying(content: bytes) -> Treatment:
    """These bytes, whatever it was asked for."""

    def treat(wire: Wire, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(content)

    return treat


def silent(wire: Wire, connection: socket.socket) -> None:
    """Nothing, for as long as somebody waits."""
    while connection.recv(65536):
        pass
