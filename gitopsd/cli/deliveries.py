"""`gitopsd deliveries` and `gitopsd replay`: what has come, what became of it, and one of them once more."""

import time
from collections.abc import Iterator
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import intake
from gitopsd.cli import exits, sync, terminal
from gitopsd.discovery import find_repos
from gitopsd.errors import GitopsdError, PayloadError
from gitopsd.model import Decision, Delivery
from gitopsd.settings import Config, Receiver
from gitopsd.store import Store, path_in

_BRANCH = "refs/heads/"


def deliveries(config_path: Path, receiver: str | None, *, limit: int, as_json: bool) -> int:
    """The newest deliveries (to `receiver`), with what was decided and why."""
    config = configuration.load(config_path)
    store = Store(path_in(config.state_dir), time.time)
    found = store.newest_deliveries(receiver, limit=limit)
    if not found and receiver:
        _receiver(config, receiver)
    if as_json:
        terminal.print_json({"deliveries": [terminal.delivery_json(delivery) for delivery in found]})
    elif not found:
        print("no delivery has come yet; gitopsd receivers shows where they are to be sent")
    else:
        out, now = terminal.console(), time.time()
        columns = ("NO", "WHEN", "RECEIVER", "EVENT", "ABOUT", "DECISION", "WHY")
        terminal.print_table(out, columns, [tuple(_cells(store, delivery, now)) for delivery in found])
    return exits.EXIT_DONE


def replay(config_path: Path, name: str, *, wait: bool, as_json: bool) -> int:
    """Take the delivery `name` (a number or an id) once more, by the configuration of today."""
    config = configuration.load(config_path)
    sync.require_rights(config, f"replay {name}")
    store = Store(path_in(config.state_dir), time.time)
    delivery = store.delivery(name)
    if delivery is None:
        raise GitopsdError(f"there is no delivery '{name}'; gitopsd deliveries shows their numbers")
    repos = find_repos(config).repos
    receiver = _receiver(config, delivery.receiver)
    content = _content(config, store, receiver, delivery)
    again, _ = intake.record(config, store, receiver, content, repos, rescan=lambda: repos, now=time.time())
    if again.decision is not Decision.ACCEPTED:
        if as_json:
            terminal.print_json({"delivery": terminal.delivery_json(again), "jobs": []})
        else:
            print(terminal.plain(f"delivery {delivery.number} leads to nothing: {_after(again.reason)}").plain)
        return exits.EXIT_REFUSED
    queued = [job for job in map(store.job, again.jobs) if job]
    if not wait:
        return sync.leave(config, store, queued, as_json=as_json, about={"delivery": terminal.delivery_json(again)})
    jobs = sync.follow(config, store, {repos[job.repo]: job for job in queued}, as_json=as_json)
    if as_json:
        terminal.print_json(
            {"delivery": terminal.delivery_json(again), "jobs": [terminal.job_json(job) for job in jobs]}
        )
    return exits.worst(sync.exit_code(config, job) for job in jobs)


def summary(delivery: Delivery) -> str:
    """What a delivery is about, in a few words; "" if it does not tell."""
    revision = terminal.short(delivery.revision) if delivery.revision else ""
    return " ".join(filter(None, (delivery.remote, delivery.ref.removeprefix(_BRANCH), revision)))


def _content(config: Config, store: Store, receiver: Receiver, delivery: Delivery) -> intake.Content:
    body = store.body(delivery.number)
    if body is None and delivery.decision is Decision.DUPLICATE:
        first = f"the body is kept with the first one: gitopsd replay {delivery.delivery_id}"
        raise GitopsdError(f"delivery {delivery.number} is a duplicate; {first}")
    if body is None:
        which = "if they are not over 256K and hide no secret"
        kept = f"those of the last {config.keep.bodies} deliveries are (keep.bodies), {which}"
        raise GitopsdError(f"the body of delivery {delivery.number} is not kept; {kept}")
    try:
        return intake.reread(receiver, delivery, body)
    except PayloadError as error:
        raise GitopsdError(f"delivery {delivery.number} is not what {receiver.provider} sends: {error}") from error


def _receiver(config: Config, name: str) -> Receiver:
    if name not in config.receivers:
        raise GitopsdError(f"there is no receiver '{name}'; known: {', '.join(config.receivers)}")
    return config.receivers[name]


def _cells(store: Store, delivery: Delivery, now: float) -> Iterator[str]:
    yield str(delivery.number)
    yield terminal.ago(delivery.received_at, now)
    yield delivery.receiver
    yield delivery.event
    yield summary(delivery) or "-"
    yield str(delivery.decision)
    yield "; ".join(filter(None, (delivery.reason, _jobs(store, delivery)))) or "-"


def _jobs(store: Store, delivery: Delivery) -> str:
    """The jobs that it was accepted as. Of those that are forgotten only the number is left."""
    if delivery.decision is not Decision.ACCEPTED:
        return ""
    jobs = {number: store.job(number) for number in delivery.jobs}
    return ", ".join(f"job {number}{f' of {job.repo}' if job else ''}" for number, job in jobs.items())


def _after(reason: str) -> str:
    """The reason of a replay without the words that say that it is one."""
    return reason.partition("; ")[2] or reason
