"""Serve a WSGI application on sockets that are there already, and stop without cutting an answer off."""

import logging
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import BaseWSGIServer, create_server

_THREADS = 4
_CONNECTIONS = 500
_DRAIN_SEC = 10.0
_LOOP_SEC = 0.5
_FIRST_WORDS_SEC = 2.0
_CHANNEL_TIMEOUT_SEC = 30
_SEND_BYTES = 18000
"""Answers are small: one `send` for head and body, not one each and the interpreter lock to and fro between."""


class _Parser(HTTPRequestParser):
    """Answers 400 where waitress 3.0 lets a ValueError through: a target like `http://[`, a length of 5,000 digits."""

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("the request line or a header is malformed") from error


class _Channel(HTTPChannel):
    parser_class = _Parser

    def is_in_use(self) -> bool:
        """Whether it is owed an answer: a request has begun to arrive, or is on its way from who has just connected."""
        has_just_come = self.last_activity == self.creation_time > time.time() - _FIRST_WORDS_SEC
        return bool(has_just_come or self.request or self.requests or self.total_outbufs_len)


def _leave_out_path(record: logging.LogRecord) -> bool:
    """waitress names the path of a request that came to nothing, and that may end with a token."""
    said = record.getMessage()
    record.msg, record.args = said.partition(" while serving ")[0], ()
    return True


class WebServer:
    """The HTTP loop, on a thread of its own."""

    def __init__(self, app: Any, sockets: Sequence[socket.socket], max_body: int) -> None:
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a burst is no fault
        logging.getLogger("waitress").addFilter(_leave_out_path)
        self._map: dict[int, Any] = {}
        # waitress takes sockets of one family a server only.
        families = [[each for each in sockets if (each.family == socket.AF_UNIX) is unix] for unix in (False, True)]
        self._servers = [
            create_server(
                app,
                map=self._map,
                sockets=of_one_family,
                threads=_THREADS,
                connection_limit=_CONNECTIONS,
                channel_timeout=_CHANNEL_TIMEOUT_SEC,
                max_request_body_size=max_body + 1,  # waitress refuses from this size on, declared or chunked
                ident="gitopsd",
                clear_untrusted_proxy_headers=False,
            )
            for of_one_family in families
            if of_one_family
        ]
        for server in self._servers:
            server.adj.send_bytes = _SEND_BYTES  # as an argument it is deprecated, and warns
        for listener in self._map.values():
            if isinstance(listener, BaseWSGIServer):
                listener.channel_class = self._open_channel  # type: ignore[assignment] # it is only called
        self._draining = threading.Event()
        self._asked_to_leave = threading.Event()
        self._answered = threading.Event()
        self._known_connections = 0
        self.moves = 0
        """How often the loop has gone round: what hangs does not move."""
        self.connections = 0
        """How many connections there were so far."""
        self._thread = threading.Thread(target=self._loop, name="web", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def set_max_body(self, max_body: int) -> None:
        """From now on refuse bodies that are larger."""
        for server in self._servers:
            server.adj.max_request_body_size = max_body + 1

    def is_alive(self) -> bool:
        """Whether the loop runs."""
        return self._thread.is_alive()

    def stop_if_idle(self, connections: int) -> bool:
        """End the loop if nobody is connected in this moment. Who connects from now on waits in the socket's queue.

        Nor if anybody has been since there were so many `connections`: what he came for, the caller does not know of.
        Whether it has ended. On the loop's own thread nothing can be accepted between the look and the end.
        """
        self._known_connections = connections
        self._answered.clear()
        self._asked_to_leave.set()
        for listener in list(self._map.values()):
            if isinstance(listener, BaseWSGIServer):
                listener.pull_trigger()  # it need not wait out its poll
        while self._thread.is_alive() and not self._answered.wait(_LOOP_SEC):
            continue
        return not self._answered.is_set()

    def stop(self) -> None:
        """Take no new connection, answer those who are in the middle of a request, and close everything."""
        self._draining.set()
        self._thread.join()
        for server in self._servers:
            server.task_dispatcher.shutdown()
        wasyncore.close_all(self._map)

    def _open_channel(self, *arguments: Any, **more: Any) -> _Channel:
        self.connections += 1
        return _Channel(*arguments, **more)

    def _loop(self) -> None:
        give_up_at = None
        while True:
            wasyncore.loop(timeout=_LOOP_SEC, map=self._map, use_poll=True, count=1)
            self.moves += 1
            if self._asked_to_leave.is_set():
                self._asked_to_leave.clear()
                if self.connections == self._known_connections and not self.has_connections():
                    return
                self._answered.set()
            if not self._draining.is_set():
                continue
            if give_up_at is None:
                give_up_at = time.monotonic() + _DRAIN_SEC
                for channel in self._map.values():
                    if isinstance(channel, BaseWSGIServer):
                        channel.accepting = False
            if not self._in_flight() or time.monotonic() > give_up_at:
                return

    def has_connections(self) -> bool:
        """Whether anybody is connected."""
        return any(isinstance(channel, HTTPChannel) for channel in list(self._map.values()))

    def _in_flight(self) -> bool:
        return any(channel.is_in_use() for channel in list(self._map.values()) if isinstance(channel, _Channel))
