"""Where messages go: the URLs in the credentials, by Apprise (only here)."""

import importlib.util
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from gitopsd import systemd
from gitopsd.notify.news import Kind, Message, plain
from gitopsd.notify.patience import all_within

MISSING = "Apprise is not installed; apt install apprise, or pip install 'gitopsd[notify]'"

_SEND_SEC = 20.0
_LOGGER = "apprise"
_SHORTEST_SECRET = 4
_TYPES = {Kind.FAILURE: "failure", Kind.REFUSAL: "warning", Kind.TRIAL: "info"}


@dataclass(frozen=True)
class Target:
    """One line of one credential: a URL of Apprise, which holds tokens; or why there is none."""

    name: str
    url: str = field(default="", repr=False)
    problem: str = ""


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


def problem_of(target: Target) -> str:
    """What can be known to be wrong with a target before anything is sent; "" if nothing is."""
    if target.problem or not is_installed():
        return target.problem or MISSING
    with _Words() as words:
        return "" if _load(target.url) is not None else words.why(target.url) or "it is no URL that Apprise knows"


def send(targets: Sequence[Target], message: Message, *, limit_sec: float = _SEND_SEC) -> dict[str, str]:
    """Send `message` to each of `targets` at once: by their names "" where it was taken, else why not."""
    if not is_installed():
        return {target.name: target.problem or MISSING for target in targets}
    import apprise  # noqa: F401, PLC0415 - slow, so here, before the clock runs

    with _Words() as words:
        tasks = {target.name: _sending(target, message, words) for target in targets}
        return all_within(limit_sec, tasks)


def _sending(target: Target, message: Message, words: "_Words") -> Callable[[], str]:
    def task() -> str:
        if target.problem:
            return target.problem
        return "" if _notify(target.url, message) else words.why(target.url) or "it was not taken"

    return task


def _notify(url: str, message: Message) -> bool:
    import apprise  # noqa: PLC0415

    if (service := _load(url)) is None:
        return False
    sender = apprise.Apprise(asset=service.asset)
    sender.add(service)
    kind, text = _TYPES.get(message.kind, "success"), apprise.NotifyFormat.TEXT
    return bool(sender.notify(body=message.body, title=message.title, notify_type=kind, body_format=text))


def _load(url: str) -> Any:
    """The service behind a URL; None if Apprise knows none."""
    import apprise  # noqa: PLC0415

    # On our own thread, one after another: what it would start by itself, a process has to wait for at its end.
    asset = apprise.AppriseAsset(app_id="gitopsd", app_desc="gitopsd", async_mode=False, secure_logging=True)
    return apprise.Apprise.instantiate(url, asset=asset)


class _Words(logging.Handler):
    """What Apprise says on each thread: its only word on why something failed. None of it gets into our log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, str] = {}

    def __enter__(self) -> "_Words":
        logger = logging.getLogger(_LOGGER)
        logger.propagate = False
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_LOGGER).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.threadName is not None:  # the number of a thread that has ended goes to the next one
            self._said.setdefault(record.threadName, record.getMessage())

    def why(self, url: str) -> str:
        """The first complaint on this thread, without any part of `url`."""
        return _without(plain(self._said.get(threading.current_thread().name, "")), url)


def _without(text: str, url: str) -> str:
    parts = {part for form in (url, unquote(url)) for part in re.split(r"[^\w.-]+", form.partition("://")[2])}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SHORTEST_SECRET:
            text = text.replace(part, "***")
    return text
