"""Listening sockets: those that systemd hands over, or one of our own."""

import contextlib
import os
import re
import socket
import stat
from pathlib import Path

from gitopsd import systemd
from gitopsd.errors import GitopsdError

NAME = "webhook"
"""What the socket unit calls those for webhooks."""

_BACKLOG = 1024
_LAST_PORT = 65535


def name_of(listener: socket.socket) -> str:
    """Where it listens."""
    address = listener.getsockname()
    return f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"


def inherited() -> list[socket.socket]:
    """The sockets that systemd handed over for webhooks: those of that name, else all. Raises GitopsdError."""
    try:
        found = systemd.listen_sockets(os.environ)
    except OSError as error:
        raise GitopsdError(f"LISTEN_FDS: a descriptor handed over is no socket: {error.strerror}") from error
    return found.get(NAME) or [each for sockets in found.values() for each in sockets]


def open_at(address: str) -> socket.socket:
    """A listening socket at `HOST:PORT` or `unix:PATH`. Raises GitopsdError."""
    try:
        if address.startswith("unix:"):
            return _open_unix_socket(Path(address.removeprefix("unix:")))
        host, _, port = address.rpartition(":")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > _LAST_PORT:
            raise GitopsdError(f"--listen {address}: give HOST:PORT (a port is 1 to 65535) or unix:PATH")
        family, _, _, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        return socket.create_server((place[0], place[1]), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise GitopsdError(f"--listen {address}: {error.strerror or error}") from error


def _open_unix_socket(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode) and not _answers(path):
            path.unlink()  # a daemon that was killed left it behind
    listener.bind(str(path))
    listener.listen(_BACKLOG)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
