"""`gitopsd receivers`: where deliveries are to be sent, what they may trigger, and what has come last."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from gitopsd import config as configuration
from gitopsd import intake
from gitopsd.cli import terminal
from gitopsd.cli.deliveries import summary
from gitopsd.cli.endpoints import has_token_in_path, path_of, require_host
from gitopsd.cli.exits import EXIT_DONE
from gitopsd.cli.problems import of_daemon
from gitopsd.model import Delivery
from gitopsd.settings import Receiver
from gitopsd.store import Store, path_in
from gitopsd.store.notes import REJECTED_NOTE, UNKNOWN_RECEIVER

_HEADINGS = ("RECEIVER", "PROVIDER", "URL", "TRIGGERS", "LAST DELIVERY", "LAST REFUSED")
_RULES = ("events", "refs", "paths", "images", "tags", "allow_from")
_LOOK_BACK = 100


def receivers(config_path: Path, *, host: str, as_json: bool) -> int:
    """Every receiver, by the configuration and the records. `host`: the public name, for whole URLs."""
    require_host(host)
    config = configuration.load(config_path)
    store = Store(path_in(config.state_dir), time.time)
    rows = [
        (each, _last(store, each), store.read_note(f"{REJECTED_NOTE}{each.name}")) for each in config.receivers.values()
    ]
    astray = store.read_note(f"{REJECTED_NOTE}{UNKNOWN_RECEIVER}")
    problems = of_daemon(config, store, (), refusals=False)
    if as_json:
        shown = [_json(receiver, host, delivery, rejected) for receiver, delivery, rejected in rows]
        terminal.print_json({"receivers": shown, "unknown": _rejected_json(astray), "problems": problems})
        return EXIT_DONE
    out, now = terminal.console(), time.time()
    _print_table(
        out,
        [
            (
                receiver.name,
                receiver.provider,
                _url(receiver, host),
                "; ".join(_triggers(receiver)),
                _told(delivery, now),
                f"{terminal.ago(rejected['at'], now)}: {rejected['reason']}" if rejected else "-",
            )
            for receiver, delivery, rejected in rows
        ],
    )
    for problem in problems:
        out.print(terminal.plain(f"! {problem}"), style="bold red")
    return EXIT_DONE


def _print_table(out: Console, rows: Sequence[Sequence[str]]) -> None:
    """A line for each receiver; on a terminal that is too narrow for that a few, as a URL is there to be copied."""
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    if sum(widths) + 2 * len(widths) <= out.width:
        terminal.print_table(out, _HEADINGS, rows)
        return
    terminal.print_table(
        out,
        ("RECEIVER", "URL", ""),
        [(name, url, "\n".join(_in_lines(provider, *rest))) for name, provider, url, *rest in rows],
    )


def _in_lines(provider: str, triggers: str, delivery: str, refused: str) -> Iterator[str]:
    yield f"{provider}: {triggers}"
    if delivery != "-":
        yield f"last delivery {delivery}"
    if refused != "-":
        yield f"last refused {refused}"


def _last(store: Store, receiver: Receiver) -> Delivery | None:
    """The last one that came from outside."""
    newest = store.newest_deliveries(receiver.name, limit=_LOOK_BACK)
    return next((each for each in newest if not each.reason.startswith(intake.REPLAY)), None)


def _url(receiver: Receiver, host: str) -> str:
    token = "/TOKEN" if has_token_in_path(receiver) else ""
    return f"{f'https://{host}' if host else ''}{path_of(receiver)}{token}"


def _triggers(receiver: Receiver) -> Iterator[str]:
    """What it may trigger, and for what."""
    if receiver.suspended is not None:
        yield ": ".join(filter(None, ("suspended", receiver.suspended)))
    yield "every repo" if receiver.repos is None else ", ".join(receiver.repos)
    for rule in _RULES:
        if patterns := getattr(receiver, rule):
            yield f"{rule} {', '.join(patterns)}"
    if receiver.max_body is not None:
        yield f"max_body {receiver.max_body}"


def _told(delivery: Delivery | None, now: float) -> str:
    if delivery is None:
        return "-"
    what = " ".join(filter(None, (delivery.event, summary(delivery))))
    return f"{terminal.ago(delivery.received_at, now)}: {what}, {delivery.decision}"


def _json(
    receiver: Receiver, host: str, delivery: Delivery | None, rejected: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "name": receiver.name,
        "provider": receiver.provider,
        "url": _url(receiver, host),
        "repos": None if receiver.repos is None else list(receiver.repos),
        **{rule: list(getattr(receiver, rule)) for rule in _RULES},
        "suspended": receiver.suspended,
        "max_body": receiver.max_body,
        "last_delivery": terminal.delivery_json(delivery) if delivery else None,
        "last_rejected": _rejected_json(rejected),
    }


def _rejected_json(rejected: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {"at": terminal.iso(rejected["at"]), "reason": rejected["reason"]} if rejected else None
