"""The journal: the kinds of entries, their fields, and how they get there.

Source: systemd.io/JOURNAL_NATIVE_PROTOCOL.
"""

import logging
import os
import socket
import sys
from collections.abc import Mapping, MutableMapping
from enum import StrEnum
from pathlib import Path
from typing import Any

SOCKET = Path("/run/systemd/journal/socket")

_LINE_BYTES = 32 * 1024
_PATIENCE_SEC = 1.0
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_FIELDS = "journal_fields"


class Kind(StrEnum):
    """What an entry is about, as its MESSAGE_ID. gitopsd.catalog explains each; none is ever given to another kind."""

    STARTED = "58aff66ed8564cf2885521542a3e615d"
    IDLE = "aaf140b3e57d4ffa985a6372c23f9015"
    CONFIG_BROKEN = "00e4f190f87c4a43968f57d0efb436b0"
    RECEIVER_CLOSED = "9a189293f88f45efab1e7ed9fa27f534"
    DELIVERY_ACCEPTED = "0bf5496646d64a1780e2d7262f268e7c"
    DELIVERY_IGNORED = "5f73c096810941528fa5e0a68c54aaf0"
    DELIVERY_REFUSED = "e57a5b38db6e45e6871007a6d5dcfbeb"
    DELIVERY_TURNED_AWAY = "3dcb0ce290034e4fa5af71b61f73a68f"
    JOB_STARTED = "6ecf7b1d6f9b475980f635d1fd9a2c89"
    JOB_PHASE = "7649ef77367a4b0a95c3538269dded7b"
    JOB_SUCCEEDED = "99b32599679b4d168c56db2dccbec8fd"
    JOB_UNCHANGED = "a82fe9e83ace4961ad1b1e3c1f7fed7f"
    JOB_FAILED = "33aac055fd07416db915daeca0127022"
    JOB_REFUSED = "de46a230cca8403184dbaa5ffbfe7aa6"
    JOB_INTERRUPTED = "f9dd4b4aae884324acce03c711ebd884"
    TIP_MOVED = "16b9f5feb89d4cc3adebb4ad1bb22d46"
    SYNC_NOT_STARTED = "177a42817fe8443ab9f92f5e05af3735"


def fields(kind: Kind, **values: object) -> dict[str, Any]:
    """For `extra=` of a log call: the fields of its entry. `repo="blog"` is GITOPSD_REPO; what is None is left out."""
    named = {f"GITOPSD_{name.upper()}": str(value) for name, value in values.items() if value is not None}
    return {_FIELDS: {"MESSAGE_ID": str(kind), **named}}


def entry_of(extra: Mapping[str, Any]) -> dict[str, str]:
    """What `fields` has put into `extra`: the fields of an entry by their names in the journal."""
    entry: dict[str, str] = extra.get(_FIELDS, {})
    return entry


class Sender:
    """Sends entries to journald; sends nothing where there is none. The journal is a copy: it holds nobody up."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._socket: socket.socket | None = None
        if path.is_socket():
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # Its queue is short, so a moment of patience; but a journald that hangs must not hold up the sync.
            self._socket.settimeout(_PATIENCE_SEC)
            try:
                self._socket.connect(str(path))
            except OSError:
                self.close()

    def is_open(self) -> bool:
        """Whether there is a journal."""
        return self._socket is not None

    def send(self, message: bytes, entry: Mapping[str, str]) -> bool:
        """Send one entry: `message` with the fields of `entry`. Whether the journal has taken it."""
        if self._socket is None:
            return False
        pairs: dict[str, str | bytes] = {"SYSLOG_IDENTIFIER": "gitopsd", "PRIORITY": "6", **entry, "MESSAGE": message}
        try:
            self._socket.send(b"".join(_encode(key, value) for key, value in pairs.items()))
        except TimeoutError:
            self.close()
        except OSError:
            return False
        return self._socket is not None

    def close(self) -> None:
        """Send nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _encode(key: str, value: str | bytes) -> bytes:
    content = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
    # With its length: what is not all text (a stray line end or carriage return) would be cut there.
    return key.encode() + b"\n" + len(content).to_bytes(8, "little") + content + b"\n"


class Output:
    """Writes the output of a command into the journal, line by line."""

    def __init__(self, entry: MutableMapping[str, str], path: Path = SOCKET) -> None:
        """`entry`: the fields of each line; whoever changes them does so for the lines that follow."""
        self._entry = entry
        self._unfinished = b""
        self._sender = Sender(path)

    def write(self, chunk: bytes) -> None:
        """Add output; each whole line of it becomes an entry."""
        if not self._sender.is_open():
            return
        *lines, self._unfinished = (self._unfinished + chunk).split(b"\n")
        for line in lines:
            for start in range(0, len(line) or 1, _LINE_BYTES):
                self._sender.send(line[start : start + _LINE_BYTES], self._entry)
        while len(self._unfinished) > _LINE_BYTES:
            self._sender.send(self._unfinished[:_LINE_BYTES], self._entry)
            self._unfinished = self._unfinished[_LINE_BYTES:]

    def close(self) -> None:
        """Add what is left of a last line, and close."""
        if self._unfinished:
            self._sender.send(self._unfinished, self._entry)
        self._sender.close()


def set_up_log() -> None:
    """Log lines to the journal with their fields where stderr leads there, else to stderr as one line each."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter(prefixed="JOURNAL_STREAM" in os.environ))
    if _stderr_is_the_journal(os.environ) and (sender := Sender()).is_open():
        handler = _JournalHandler(sender, otherwise=handler)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # nothing that is shown
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _stderr_is_the_journal(environment: Mapping[str, str]) -> bool:
    """Source: systemd.exec(5) on JOURNAL_STREAM. It is inherited, so what it says may be of somebody else's stderr."""
    try:
        found = os.fstat(2)
    except OSError:  # it is closed
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _one_line(record: logging.LogRecord) -> str:
    """A line break in a message must not look like a line of our own."""
    return " ".join(record.getMessage().split("\n"))


def _priority(record: logging.LogRecord) -> int:
    return next((number for level, number in _PRIORITIES if record.levelno >= level), 7)


class _JournalHandler(logging.Handler):
    def __init__(self, sender: Sender, otherwise: logging.Handler) -> None:
        super().__init__()
        self._sender = sender
        self._otherwise = otherwise

    def emit(self, record: logging.LogRecord) -> None:
        entry = {"PRIORITY": str(_priority(record)), **entry_of(record.__dict__)}
        if not self._sender.send(_one_line(record).encode("utf-8", "replace"), entry):
            self._otherwise.emit(record)


class _LineFormatter(logging.Formatter):
    """With the priority prefix of sd-daemon(3) where systemd reads it, else with the level's name."""

    def __init__(self, *, prefixed: bool) -> None:
        super().__init__()
        self._prefixed = prefixed

    def format(self, record: logging.LogRecord) -> str:
        if self._prefixed:
            return f"<{_priority(record)}>{_one_line(record)}"
        return f"{record.levelname.lower()}: {_one_line(record)}"
