"""Inherited sockets, sd_notify, the watchdog, credentials: what systemd hands to a process, and the way back."""

import os
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path

import sdnotify

from gitopsd.model import Secret

SECRETS_DIRECTORY = Path("/etc/gitopsd/secrets")
"""What gitopsd.service loads as a whole: LoadCredential=secret:/etc/gitopsd/secrets"""

KEYS_DIRECTORY = Path("/etc/gitopsd/keys")
"""The ssh keys of repos, each in a file of the repo's name. gitopsd-sync@ gets one of them, gitopsd-poll all."""

NOTIFY_DIRECTORY = Path("/etc/gitopsd/notify")
"""What gitopsd-notify.service loads as a whole, and nobody else sees: LoadCredential=notify:/etc/gitopsd/notify"""

SECRET, NOTIFY = "secret", "notify"
"""What these two directories are called where they are loaded as a whole."""

NEXT = ".next"
"""What follows the name of a secret in the name of its successor: both are accepted while it is being rotated."""

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
        self._moved: tuple[int, ...] = ()

    def ready(self) -> None:
        """The sockets are served."""
        self._notifier.notify("READY=1")

    def stopping(self) -> None:
        """The service is on its way out."""
        self._notifier.notify("STOPPING=1")

    def watchdog(self, *moves: int) -> None:
        """Tell the watchdog that all is well, if each of `moves`, which only grow, has grown since it was last told."""
        known = len(moves) == len(self._moved)
        if not known or all(now > before for now, before in zip(moves, self._moved, strict=True)):
            self._moved = moves
            self._notifier.notify("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`, sent when it is another than before."""
        if text != self._status:
            self._status = text
            line = " ".join(text.splitlines())  # a second line would be an assignment of its own
            # sdnotify sends Latin-1 and drops what is none, so give it the bytes of UTF-8 as if they were that.
            self._notifier.notify(f"STATUS={line}".encode().decode("latin-1"))


def secret(name: str, environment: Mapping[str, str], kind: str = SECRET) -> tuple[Secret | None, str]:
    """The secret `name`, from its credential, else from its environment variable. `kind`: SECRET or NOTIFY.

    Returns it, or None and one line on why there is none. A line end at its end does not count; an empty one is none.
    """
    variable = variable_of(name)
    file = f"{NOTIFY_DIRECTORY / name}" if kind == NOTIFY else f"{SECRETS_DIRECTORY / name} and restart gitopsd"
    remedy = f"put it into {file}, or export {variable}=…"
    places = credential_paths(name, environment, kind)
    for path in places:
        try:
            if value := path.read_bytes().rstrip(b"\r\n"):
                return Secret(name, value), ""
            return None, f"secret '{name}' is empty (credential {path}); {remedy}"
        except FileNotFoundError:
            continue
        except OSError as error:
            return None, f"secret '{name}' cannot be read (credential {path}: {error.strerror})"
    if value := os.fsencode(environment.get(variable, "")).rstrip(b"\r\n"):
        return Secret(name, value), ""
    state = "empty" if variable in environment else "missing"
    looked_for = " and ".join([*(f"credential {path}" for path in places[:1]), f"environment variable {variable}"])
    return None, f"secret '{name}' is {state} (looked for {looked_for}); {remedy}"


def credential_paths(name: str, environment: Mapping[str, str], directory: str = SECRET) -> list[Path]:
    """Where the credential `name` may be: loaded by that name, or as one of a directory that was loaded as a whole."""
    if not (given := environment.get("CREDENTIALS_DIRECTORY")):
        return []
    return [Path(given) / name, Path(given) / f"{directory}_{name}"]


def variable_of(name: str) -> str:
    """The environment variable of a secret: `github-webhook-secret` → `GITHUB_WEBHOOK_SECRET`."""
    return name.upper().replace("-", "_")


def child_environment(environment: Mapping[str, str], secrets: frozenset[str]) -> dict[str, str]:
    """`environment` for a child: without what is ours alone, and without the variables of `secrets` (names)."""
    hidden = _PRIVATE | {variable_of(name) for name in secrets}
    return {key: value for key, value in environment.items() if key not in hidden}
