"""A connection: what has arrived of its request, what of its answer is not taken yet, and since when."""

from collections.abc import Callable
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver, FixedStreamReceiver
from waitress.utilities import BadRequest

from gitopsd.settings import Limits

_FIRST_WORDS_SEC = 2.0
_TAKE_SEC = 10.0
"""Answers are small: whoever has not taken one by then is not going to."""

_LINE_BYTES = 64 * 1024
PART_BYTES = 8192
"""So much is read at once of what is looked through, and of anything at the least."""

_MANY_REQUESTS = 16


class _Parser(HTTPRequestParser):
    def parse_header(self, header_plus: bytes) -> None:
        """Answer 400 where waitress 3.0 lets a ValueError through: `http://[` as a target, a length of 5,000 digits."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError("the request line or a header is malformed") from error

    def received(self, data: bytes) -> int:
        """Answer 400 to what costs much to look through and is no request: blank lines, and chunks without a body."""
        taken: int = super().received(data)
        if self.empty:
            self.empty = False
            self.parse_header(b"GET / HTTP/1.0\r\n")
            self.error = BadRequest("a request begins with a line that is not blank")
        elif isinstance(self.body_rcv, ChunkedReceiver) and self._is_mostly_framing(self.body_rcv):
            self.error = BadRequest("the lines between the chunks of this body are too long, or too many")
            self.completed = True
        if self.completed:
            self.expect_continue = False  # waitress would ask for a body that it has refused, or that is not to come
        return taken

    def _is_mostly_framing(self, body: ChunkedReceiver) -> bool:
        line = len(body.control_line) + len(body.trailer)  # waitress looks through all of it with each part
        return line > _LINE_BYTES or self.body_bytes_received > 2 * len(body) + PART_BYTES


class Channel(HTTPChannel):
    """A connection of waitress that knows how long it is waited for."""

    parser_class = _Parser

    def __init__(self, *arguments: Any, clock: Callable[[], float], **more: Any) -> None:
        """`clock` stands still while nobody can be heard."""
        super().__init__(*arguments, **more)
        self._clock = clock
        self.connected_at = self.began_at = clock()
        self._is_new = True
        self._untaken_since: float | None = None

    def recv(self, buffer_size: int) -> bytes:
        """Much at once is read of a body of known length alone; what else comes is looked through."""
        body = self.request.body_rcv if self.request else None
        most = max(PART_BYTES, body.remain) if isinstance(body, FixedStreamReceiver) else PART_BYTES
        return bytes(super().recv(min(buffer_size, most)))

    def received(self, data: bytes) -> bool:
        """Take what has arrived of a request, or of several: of very many, as nobody honest sends, none is answered."""
        request, was_new, self._is_new = self.request, self._is_new, False
        if request is None and not was_new:
            self.began_at = self._clock()
        super().received(data)
        if request is not None and self.request is not request:
            self.began_at = self._clock()  # the end of one, and the beginning of the next
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
        return self._clock() - self.began_at > limits.header_time_sec + (limits.body_time_sec if has_head else 0.0)

    def is_in_use(self) -> bool:
        """Whether it is owed an answer: a request has begun to arrive, or is on its way from who has just connected."""
        has_just_come = self._is_new and self._clock() - self.connected_at < _FIRST_WORDS_SEC
        return bool(has_just_come or self.request or self.requests or self.total_outbufs_len)
