"""Where messages go: the URLs in the credentials."""

import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from gitopsd import process, systemd
from gitopsd.errors import GitopsdError
from gitopsd.notify.news import Message, plain
from gitopsd.notify.patience import all_within
from gitopsd.notify.sender import WHY

MISSING = "Apprise is not installed; apt install apprise, or pip install 'gitopsd[notify]'"

_SEND_SEC = 20.0
_MAX_REASON = 300


class Target(NamedTuple):
    """One line of one credential: a URL of Apprise, which holds tokens; or why there is none."""

    name: str
    url: str = ""
    problem: str = ""

    def __repr__(self) -> str:
        return f"Target(name={self.name!r}, problem={self.problem!r})"


def is_installed() -> bool:
    """Whether Apprise is there."""
    return importlib.util.find_spec("apprise") is not None


def load(names: Iterable[str], environment: Mapping[str, str]) -> list[Target]:
    """The targets in the credentials `names`. One with several lines is several: `ntfy-url`, `ntfy-url (2)`."""
    found = []
    for name in names:
        secret, problem = systemd.secret(name, environment, systemd.NOTIFY)
        lines = secret.value.decode("utf-8", "replace").splitlines() if secret else []
        urls = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not urls:
            found.append(Target(name, problem=problem or f"credential '{name}' holds no URL"))
        found += [Target(f"{name} ({number})" if number > 1 else name, url) for number, url in enumerate(urls, 1)]
    return found


def send(targets: Sequence[Target], message: Message | None, *, limit_sec: float = _SEND_SEC) -> dict[str, str]:
    """Send `message` to each of `targets` at once: by their names "" where it was taken, else why not.

    Without a message nothing is sent: it is only found out what can be known to be wrong before that.
    """
    if not is_installed():
        return {target.name: target.problem or MISSING for target in targets}
    tasks = {target.name: _sending(target, message, limit_sec) for target in targets}
    return all_within(limit_sec + 2 * process.GRACE_SEC, tasks)


def _sending(target: Target, message: Message | None, limit_sec: float) -> Callable[[], str]:
    return lambda: target.problem or _send(target.url, message, limit_sec)


def _send(url: str, message: Message | None, limit_sec: float) -> str:
    environment = systemd.child_environment(os.environ, frozenset())
    environment.pop("CREDENTIALS_DIRECTORY", None)
    order = json.dumps({"url": url, "message": message._asdict() if message else None})
    try:
        with process.open_memory("message", order) as file:
            argv = process.own_argv("gitopsd.notify.sender", process.path_of(file))
            ended, said = process.output_of(
                argv, environment=environment, timeout_sec=limit_sec, keep_fds=(file.fileno(),)
            )
    except GitopsdError as error:
        return str(error)
    if ended.timed_out:
        return f"no end within {limit_sec:g} s"
    if ended.exit_code is None:
        return f"its process was killed by {ended.signal_name}"
    return "" if ended.exit_code == 0 else plain(said.rpartition(f"\n{WHY}")[2].strip())[:_MAX_REASON]
