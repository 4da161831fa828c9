"""A real HTTP server on loopback that others tell something: it keeps what it heard, and answers as it is told to."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Answer = tuple[int, Mapping[str, str], bytes]
OK: Answer = (200, {}, b"{}")


@dataclass(frozen=True)
class Heard:
    """One request. The names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any] = field(default_factory=dict)


class Listener:
    """Listens from its making to the end of a `with` block. While `is_hanging` it takes requests and never answers."""

    def __init__(self, answer: Callable[[Heard], Answer] = lambda _heard: OK) -> None:
        self.heard: list[Heard] = []
        self.answer = answer
        self._freed = threading.Event()
        self._freed.set()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                headers = {name.lower(): value for name, value in self.headers.items()}
                heard = Heard("POST", self.path, headers, json.loads(self.rfile.read(length) or b"{}"))
                listener.heard.append(heard)
                listener._freed.wait()
                code, more, body = listener.answer(heard)
                self.send_response(code)
                for name, value in {**more, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Whoever asked may have been killed."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def place(self) -> str:
        """Where it listens, as host:port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def hang(self) -> None:
        """Answer nobody any more."""
        self._freed.clear()

    def free(self) -> None:
        """Answer again, also those who wait."""
        self._freed.set()

    def titles(self) -> list[str]:
        """Of the messages that came, as Apprise's json:// sends them."""
        return [heard.body["title"] for heard in self.heard]

    def states(self) -> list[tuple[str, str]]:
        """Of the commit statuses that came: the revision and its state."""
        return [(heard.path.rpartition("/")[2], heard.body["state"]) for heard in self.heard]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._freed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
