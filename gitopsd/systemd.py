"""Inherited sockets, sd_notify, credentials, the journal: what systemd hands to a process, and the way back."""

import logging
import os
import socket
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

import sdnotify

from gitopsd.model import Secret

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")

_FIRST_FD = 3
_JOURNAL_LINE_BYTES = 32 * 1024
_JOURNAL_PATIENCE_SEC = 1.0
_PRIVATE = frozenset(
    ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID", "WATCHDOG_USEC")
)
"""What systemd tells this process and no other: a child that inherited it would answer in our name."""


def listen_sockets(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The inherited listening sockets by name, as sd_listen_fds(3) and sd_listen_fds_with_names(3) hand them over.

    Takes its variables out of `environment`; a socket without a name is called `unknown`.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    if pid != str(os.getpid()) or not count.isdigit():
        return found
    for index in range(int(count)):
        fd = _FIRST_FD + index
        os.set_inheritable(fd, False)
        name = names[index] if index < len(names) and names[index] else "unknown"
        found.setdefault(name, []).append(socket.socket(fileno=fd))
    return found


class Notifier:
    """Tells systemd how this service is doing; says nothing where nobody listens."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._notifier = sdnotify.SystemdNotifier()  # it reads NOTIFY_SOCKET once, now
        environment.pop("NOTIFY_SOCKET", None)
        self._status = ""

    def ready(self) -> None:
        """The sockets are served."""
        self._notifier.notify("READY=1")

    def stopping(self) -> None:
        """The service is on its way out."""
        self._notifier.notify("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`, sent when it is another than before."""
        if text != self._status:
            self._status = text
            line = " ".join(text.splitlines())  # a second line would be an assignment of its own
            # sdnotify sends Latin-1 and drops what is none, so give it the bytes of UTF-8 as if they were that.
            self._notifier.notify(f"STATUS={line}".encode().decode("latin-1"))


class Journal:
    """Writes lines into the journal with fields of ours, by its native protocol; does nothing where there is none.

    Source: systemd.io/JOURNAL_NATIVE_PROTOCOL. The journal is a copy: a line that it does not take is dropped.
    """

    def __init__(self, fields: Mapping[str, str], path: Path = JOURNAL_SOCKET) -> None:
        self._fields = {"SYSLOG_IDENTIFIER": "gitopsd", "PRIORITY": "6", **fields}
        self._unfinished = b""
        self._socket: socket.socket | None = None
        if path.is_socket():
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # Its queue is short, so a moment of patience; but a journald that hangs must not hold up the sync.
            self._socket.settimeout(_JOURNAL_PATIENCE_SEC)
            try:
                self._socket.connect(str(path))
            except OSError:
                self.close()

    def write(self, chunk: bytes) -> None:
        """Add output; each whole line of it becomes an entry."""
        if self._socket is None:
            return
        *lines, self._unfinished = (self._unfinished + chunk).split(b"\n")
        for line in lines:
            for start in range(0, len(line) or 1, _JOURNAL_LINE_BYTES):
                self._send(line[start : start + _JOURNAL_LINE_BYTES])
        while len(self._unfinished) > _JOURNAL_LINE_BYTES:
            self._send(self._unfinished[:_JOURNAL_LINE_BYTES])
            self._unfinished = self._unfinished[_JOURNAL_LINE_BYTES:]

    def close(self) -> None:
        """Add what is left of a last line, and close."""
        if self._socket is not None:
            if self._unfinished:
                self._send(self._unfinished)
            self._socket.close()
            self._socket = None

    def _send(self, message: bytes) -> None:
        if self._socket is None:
            return
        entry = b"".join(f"{key}={value}\n".encode() for key, value in self._fields.items())
        # With its length, as a message that is not all text (a stray carriage return) would be cut at it.
        entry += b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n"
        try:
            self._socket.send(entry)
        except TimeoutError:
            self._socket.close()
            self._socket = None
        except OSError:
            return


def secret(name: str, environment: Mapping[str, str]) -> tuple[Secret | None, str]:
    """The secret `name`, from $CREDENTIALS_DIRECTORY/<name>, else from its environment variable.

    Returns it, or None and one line on why there is none. A line end at its end does not count; an empty one is none.
    """
    variable = variable_of(name)
    places = [f"environment variable {variable}"]
    if directory := environment.get("CREDENTIALS_DIRECTORY"):
        path = Path(directory) / name
        places.insert(0, f"credential {path}")
        try:
            if value := path.read_bytes().rstrip(b"\r\n"):
                return Secret(name, value), ""
            return None, f"secret '{name}' is empty (credential {path})"
        except FileNotFoundError:
            pass
        except OSError as error:
            return None, f"secret '{name}' cannot be read (credential {path}: {error.strerror})"
    if value := os.fsencode(environment.get(variable, "")).rstrip(b"\r\n"):
        return Secret(name, value), ""
    state = "empty" if variable in environment else "missing"
    remedy = f"export {variable}=…, or in a unit LoadCredential={name}:/path/to/file"
    return None, f"secret '{name}' is {state} (looked for {' and '.join(places)}); {remedy}"


def variable_of(name: str) -> str:
    """The environment variable of a secret: `github-webhook-secret` → `GITHUB_WEBHOOK_SECRET`."""
    return name.upper().replace("-", "_")


def child_environment(environment: Mapping[str, str], secrets: frozenset[str]) -> dict[str, str]:
    """`environment` for a child: without what is ours alone, and without the variables of `secrets` (names)."""
    hidden = _PRIVATE | {variable_of(name) for name in secrets}
    return {key: value for key, value in environment.items() if key not in hidden}


def set_up_log() -> None:
    """Log lines to stderr, with the priority prefix of sd-daemon(3) where the journal reads it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter(prefixed="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _LineFormatter(logging.Formatter):
    """One line a record, always: a line break in a message must not look like a line of our own."""

    _PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def __init__(self, *, prefixed: bool) -> None:
        super().__init__()
        self._prefixed = prefixed

    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(record.getMessage().split("\n"))
        if not self._prefixed:
            return f"{record.levelname.lower()}: {text}"
        priority = next((number for level, number in self._PRIORITIES if record.levelno >= level), 7)
        return f"<{priority}>{text}"
