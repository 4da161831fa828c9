"""Serve a WSGI application on sockets that are there already, and stop without cutting an answer off."""

import functools
import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

from gitopsd.settings import Limits
from gitopsd.web.channel import PART_BYTES, Channel

_log = logging.getLogger(__name__)
_DRAIN_SEC = 10.0
_LOOP_SEC = 0.5
_LOOK_SEC = 0.25
_LOOK_SEC_WHEN_FULL = 0.05
_HONEST_SEC = 0.5
_LOOKS_TO_CHANGE = 10
"""Where all connections are taken, a tenth is closed at a look: all can change in the time that an honest one needs."""

_SILENT_SEC = 60.0
_UNFINISHED_BYTES = 64 * 1024 * 1024
_SMALL_BYTES = 64 * 1024
_OTHER_FILES = 256
_LEAST_CONNECTIONS = 10
_CHANNEL_TIMEOUT_SEC = 30
Works = Sequence[Callable[[], object]]

_HEAD_BYTES = 32 * 1024
_RECEIVE_BYTES = 64 * 1024
"""A large body arrives in few rounds: in each of them all others have their turn."""

_SEND_BYTES = 18000
"""Answers are small: one `send` for head and body, not one each and the interpreter lock to and fro between."""


class _Arrived:
    """Whose request is complete: waitress would have threads serve them."""

    def __init__(self) -> None:
        self._channels: list[HTTPChannel] = []

    def add_task(self, channel: HTTPChannel) -> None:
        """Take one in."""
        self._channels.append(channel)

    def take(self) -> list[HTTPChannel]:
        """Those that have come since."""
        channels, self._channels = self._channels, []
        return channels


def _serve(channel: HTTPChannel) -> None:
    """Answer its request. What it meets beside the application must not end the loop, and with it all others."""
    try:
        channel.service()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is that connection's
        _log.error("a connection is closed for a fault in its answer: %r", error)
        channel.handle_close()


def _possible(connections: int) -> int:
    """So many of these connections as there may be open files, beside large bodies and what else is open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(_LEAST_CONNECTIONS, min(connections, soft - _OTHER_FILES))


def _may_be_logged(record: logging.LogRecord) -> bool:
    """waitress names the path of a request that came to nothing, and that may end with a token.

    And where all connections are taken, it says so with each one that comes and goes; we say it now and then.
    """
    said = record.getMessage()
    record.msg, record.args = said.partition(" while serving ")[0], ()
    return not said.startswith("total open connections ")


class WebServer:
    """The HTTP loop, on a thread of its own, which is that of the application, too."""

    def __init__(
        self,
        app: Any,
        sockets: Sequence[socket.socket],
        max_body: int,
        limits: Limits,
        *,
        serve: Callable[[Works], None],
        answered: Callable[[], None],
    ) -> None:
        """`serve` runs all that it is given: what is to be done for the requests that have come at the same time.

        `answered` is called once their answers are on their way.
        """
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a burst is no fault
        logging.getLogger("waitress").addFilter(_may_be_logged)
        self._map: dict[int, Any] = {}
        self._arrived = _Arrived()
        self._serve = serve
        self._answered = answered
        # waitress takes sockets of one family a server only.
        families = [[each for each in sockets if (each.family == socket.AF_UNIX) is unix] for unix in (False, True)]
        self._servers = [
            create_server(
                app,
                map=self._map,
                sockets=of_one_family,
                # For tests, waitress says; it is the way to have no threads of its own.
                _dispatcher=self._arrived,  # type: ignore[arg-type] # of which it calls no more than there is
                max_request_header_size=_HEAD_BYTES,
                channel_timeout=_CHANNEL_TIMEOUT_SEC,
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
        self._listening = len(self._map)
        self._set_limits(max_body, limits)
        self._answering_sec = 0.0
        self._looked_at = 0.0
        self._silent_until = 0.0
        self._draining = threading.Event()
        self._asked_to_leave = threading.Event()
        self._has_stayed = threading.Event()
        self._has_left = False
        self._known_connections = 0
        self.moves = 0
        """How often the loop has gone round: what hangs does not move."""
        self.connections = 0
        """How many connections there were so far."""
        self._thread = threading.Thread(target=self._loop, name="web", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def set_limits(self, max_body: int, limits: Limits) -> None:
        """From now on refuse bodies that are larger, and go by these limits."""
        self._set_limits(max_body, limits)
        if self._most_connections < limits.connections:
            _log.warning(
                "limits.connections: %d of %d; for more raise LimitNOFILE=", self._most_connections, limits.connections
            )

    def _set_limits(self, max_body: int, limits: Limits) -> None:
        self._max_body = max_body
        self._limits = limits
        self._most_connections = _possible(limits.connections)
        for server in self._servers:
            server.adj.max_request_body_size = max_body + 1  # waitress refuses from this size on, declared or chunked
            server.adj.recv_bytes = max(PART_BYTES, min(_RECEIVE_BYTES, _UNFINISHED_BYTES // self._most_connections))
            server.adj.connection_limit = self._listening + self._most_connections  # it counts what listens, too

    def is_alive(self) -> bool:
        """Whether the loop runs."""
        return self._thread.is_alive()

    def stop_if_idle(self, connections: int) -> bool:
        """End the loop if nobody is connected in this moment. Who connects from now on waits in the socket's queue.

        Nor if anybody has been since there were so many `connections`: what he came for, the caller does not know of.
        Whether it has ended. On the loop's own thread nothing can be accepted between the look and the end.
        """
        self._known_connections = connections
        self._has_stayed.clear()
        self._asked_to_leave.set()
        for listener in list(self._map.values()):
            if isinstance(listener, BaseWSGIServer):
                listener.pull_trigger()  # it need not wait out its poll
        while self._thread.is_alive() and not self._has_stayed.wait(_LOOP_SEC):
            continue
        return self._has_left

    def stop(self) -> None:
        """Take no new connection, answer those who are in the middle of a request, and close everything."""
        self._draining.set()
        self._thread.join()
        wasyncore.close_all(self._map)

    def _open_channel(self, *arguments: Any, **more: Any) -> Channel:
        channel = Channel(*arguments, clock=self._heard_sec, **more)
        self.connections += 1
        return channel

    def _loop(self) -> None:
        give_up_at = None
        while True:
            connections = self.connections
            # Who waits to be let in where it is full does not wake it.
            patience_sec = _LOOK_SEC_WHEN_FULL if self._is_full() else _LOOP_SEC
            wasyncore.loop(timeout=patience_sec, map=self._map, use_poll=True, count=1)
            if self.connections > connections:
                self._accept_more()
            has_answered = self._answer()
            self._keep_limits()
            self.moves += 1
            if self._asked_to_leave.is_set():
                self._asked_to_leave.clear()
                if not has_answered and self.connections == self._known_connections and not self.has_connections():
                    self._has_left = True
                    return
                self._has_stayed.set()
            if not self._draining.is_set():
                continue
            if give_up_at is None:
                give_up_at = time.monotonic() + _DRAIN_SEC
                for channel in self._map.values():
                    if isinstance(channel, BaseWSGIServer):
                        channel.accepting = False
            if not self._in_flight() or time.monotonic() > give_up_at:
                return

    def _accept_more(self) -> None:
        """Let in who else waits: waitress lets in one a round, and then each would wait for a commit of its own."""
        for listener in [each for each in self._map.values() if isinstance(each, BaseWSGIServer) and each.accepting]:
            connections = self.connections - 1
            while self.connections > connections and not self._is_full():
                connections = self.connections
                listener.handle_accept()

    def _answer(self) -> bool:
        """Serve what has arrived, if anything has; nothing of an answer leaves before all of them are there."""
        channels = self._arrived.take()
        if not channels:
            return False
        begin = time.monotonic()
        self._serve([functools.partial(_serve, channel) for channel in channels])
        for channel in channels:
            if channel.connected:
                channel.handle_write()
        self._answered()
        self._answering_sec += time.monotonic() - begin
        return True

    def _heard_sec(self) -> float:
        """A clock of seconds that stands still while requests are answered: no one else can be heard then."""
        return time.monotonic() - self._answering_sec

    def _keep_limits(self) -> None:
        """Close who takes too long, and where something is used up, who has most of it. Once all have their answers."""
        now = time.monotonic()
        if now - self._looked_at < (_LOOK_SEC_WHEN_FULL if self._is_full() else _LOOK_SEC):
            return
        self._looked_at = now
        for channel in self._channels():
            channel.note_untaken()
            if channel.is_late(self._limits):
                channel.handle_close()
        if self._is_full():
            self._make_room(now)
        self._bound_bodies()

    def _make_room(self, now: float) -> None:
        """The oldest go, whatever they send: a delivery comes, is answered, and needs no more than that."""
        oldest = sorted(self._channels(), key=lambda channel: channel.connected_at)
        for channel in oldest[: max(1, self._most_connections // _LOOKS_TO_CHANGE)]:
            if self._heard_sec() - channel.connected_at > _HONEST_SEC:
                channel.handle_close()
        if now > self._silent_until:
            self._silent_until = now + _SILENT_SEC
            _log.warning(
                "all %d connections (limits.connections) are taken; the oldest are closed", self._most_connections
            )

    def _bound_bodies(self) -> None:
        """Each may be as large as a body may be, and nobody has seen a signature of any of them. Small ones go last."""
        channels = self._channels()
        too_much = sum(each.unfinished_bytes for each in channels) - max(_UNFINISHED_BYTES, 2 * self._max_body)
        if too_much <= 0:
            return
        for channel in sorted(channels, key=lambda each: (each.unfinished_bytes < _SMALL_BYTES, each.began_at)):
            if too_much > 0:
                too_much -= channel.unfinished_bytes
                channel.handle_close()

    def _is_full(self) -> bool:
        return len(self._map) - self._listening >= self._most_connections

    def has_connections(self) -> bool:
        """Whether anybody is connected."""
        return any(isinstance(channel, HTTPChannel) for channel in list(self._map.values()))

    def _in_flight(self) -> bool:
        return any(channel.is_in_use() for channel in self._channels())

    def _channels(self) -> list[Channel]:
        return [channel for channel in list(self._map.values()) if isinstance(channel, Channel)]
