"""Inherited sockets, sd_notify, credentials, the journal: what systemd hands to a process, and the way back."""

import logging
import os
import socket
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

import sdnotify

from gitopsd.model import Secret

_FIRST_FD = 3
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
            self._notifier.notify(f"STATUS={text}")


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
    return (
        None,
        f"secret '{name}' is {state} (looked for {' and '.join(places)}); add LoadCredential={name}:/path/to/file",
    )


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
