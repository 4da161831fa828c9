"""A connection: what has arrived of its request, what of its answer is not taken yet, and since when."""

import time
from collections.abc import Callable
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

from gitopsd.settings import Limits

_FIRST_WORDS_SEC = 2.0
_TAKE_SEC = 10.0
"""Answers are small: whoever has not taken one by then is not going to."""

_CHUNK_LINE_BYTES = 64 * 1024
_PART_BYTES = 8192
_MANY_REQUESTS = 16


class _Parser(HTTPRequestParser):
    def parse_header(self, header_plus: bytes) -> None:
        """Answer 400 where waitress 3.0 lets a ValueError through: `http://[` as a target, a length of 5,000 digits."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("the request line or a header is malformed") from error

    def received(self, data: bytes) -> int:
        """Answer 400 to the line of a chunk that does not end: waitress looks through all of it with each part."""
        taken: int = super().received(data)
        body = self.body_rcv
        if isinstance(body, ChunkedReceiver) and len(body.control_line) + len(body.trailer) > _CHUNK_LINE_BYTES:
            self.error = BadRequest("the line of a chunk, or what follows the last one, is too long")
            self.completed = True
        return taken


class Channel(HTTPChannel):
    """A connection of waitress that knows how long it is waited for."""

    parser_class = _Parser

    def __init__(self, *arguments: Any, clock: Callable[[], float], **more: Any) -> None:
        """`clock` stands still while nobody can be heard."""
        super().__init__(*arguments, **more)
        self._clock = clock
        self.connected_at = self._began_at = clock()
        self._is_new = True
        self._untaken_since: float | None = None

    def received(self, data: bytes) -> bool:
        """Take what has arrived of a request, or of several: of very many, as nobody honest sends, none is answered."""
        if self.request is None and not self._is_new:
            self._began_at = self._clock()
        self._is_new = False
        for start in range(0, len(data), _PART_BYTES):
            super().received(data[start : start + _PART_BYTES])
            if len(self.requests) > _MANY_REQUESTS:
                self.handle_close()
                return False
        return True

    def handle_write(self) -> None:
        """Send what can be sent."""
        super().handle_write()
        if not self.total_outbufs_len:
            self._untaken_since = None

    def note_untaken(self) -> None:
        """Note that an answer is there which was not taken. To be called every now and then."""
        if self.total_outbufs_len and self._untaken_since is None:
            self._untaken_since = self._clock()

    @property
    def unfinished_bytes(self) -> int:
        """How much of a body has arrived whose end has not."""
        return self.request.body_bytes_received if self.request else 0

    def is_late(self, limits: Limits) -> bool:
        """Whether an answer takes longer to be taken than it may, or a request to arrive. Between them: as it likes."""
        if self._untaken_since is not None:
            return self._clock() - self._untaken_since > _TAKE_SEC
        if self.requests or (self.request is None and not self._is_new):
            return False
        has_head = self.request is not None and self.request.headers_finished
        return self._clock() - self._began_at > limits.header_time_sec + (limits.body_time_sec if has_head else 0.0)

    def is_in_use(self) -> bool:
        """Whether it is owed an answer: a request has begun to arrive, or is on its way from who has just connected."""
        has_just_come = self.last_activity == self.creation_time > time.time() - _FIRST_WORDS_SEC
        return bool(has_just_come or self.request or self.requests or self.total_outbufs_len)
