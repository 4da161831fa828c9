"""`gitopsd why`: what became of the last delivery for a repo, and why."""

import shlex
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gitopsd import config as configuration
from gitopsd import holds
from gitopsd.cli import terminal
from gitopsd.cli.exits import EXIT_DONE
from gitopsd.cli.problems import of_daemon, of_remotes
from gitopsd.cli.status import hold_of
from gitopsd.discovery import find_repo
from gitopsd.model import Decision, Delivery, Hold, Job, JobState
from gitopsd.references import called
from gitopsd.settings import Repo
from gitopsd.store import Store, path_in

_LOOK_BACK = 1000
_LABEL_COLUMNS = 11


def why(config_path: Path, name: str, revision: str | None, *, as_json: bool) -> int:
    """Explain the last delivery (about `revision`) and the newest job (of that revision) of the repo `name`."""
    config = configuration.load(config_path)
    store = Store(path_in(config.state_dir), time.time)
    repo = find_repo(config, name)
    delivery = _last_delivery(store, name, revision)
    jobs = _chain(store, store.job(delivery.jobs[0])) if delivery and delivery.jobs else []
    newest = _latest_job(store, name, revision)
    told = [job.id for job in jobs]
    latest, before = (job if job and job.id not in told else None for job in (newest, _job_before(store, newest)))
    astray = _astray(store, delivery)
    hold, trouble = hold_of(config, name)
    found = [*filter(None, [trouble]), *of_daemon(config, store, [name]), *of_remotes(config, store, [repo])]
    problems = list(dict.fromkeys(found))
    if as_json:
        terminal.print_json(
            {
                "repo": name,
                "delivery": terminal.delivery_json(delivery) if delivery else None,
                "jobs": [terminal.job_json(job) for job in jobs],
                "unmatched": terminal.delivery_json(astray) if astray else None,
                "latest_job": terminal.job_json(latest) if latest else None,
                "job_before": terminal.job_json(before) if before else None,
                "held": terminal.hold_json(hold),
                "problems": problems,
            }
        )
        return EXIT_DONE
    out, now = terminal.console(), time.time()
    out.print(Text.assemble((name, "bold"), terminal.plain(f"  {_what(repo)} at {repo.path}")))
    held = [("held", f"{terminal.held(hold, now).removeprefix('held ')}; gitopsd resume {name}")] if hold else []
    for label, text in (*held, *_explain(delivery, revision, now)):
        out.print(Text.assemble((f"  {label:<{_LABEL_COLUMNS}}", "dim"), terminal.plain(text)))
    for job in jobs:
        _print_job(out, f"job {job.id}", job, _verdict(job, store.successor(job), hold), _timeline(job))
    for label, other in (("last job", latest), ("before", before)):
        if other:
            when = terminal.ago(other.finished_at or other.created_at, now)
            verdict = _verdict(other, store.successor(other), hold)
            _print_job(out, label, other, f"{verdict} (job {other.id}, {other.trigger}, {when})")
    if astray:
        text = f"newer, and for no repo here: {astray.remote}, {terminal.ago(astray.received_at, now)}: {astray.reason}"
        out.print(Text.assemble((f"  {'but':<{_LABEL_COLUMNS}}", "dim"), terminal.plain(text)))
    for problem in problems:
        out.print(terminal.plain(f"! {problem}"), style="bold red")
    return EXIT_DONE


def _what(repo: Repo) -> str:
    followed = called(repo.ref).removeprefix("refs/heads/")
    return f"follows {followed} of {repo.url}" if repo.url else f"runs {shlex.join(repo.deploy)}"


def _last_delivery(store: Store, name: str, revision: str | None) -> Delivery | None:
    deliveries = store.deliveries(name, limit=_LOOK_BACK if revision else 1)
    return next((each for each in deliveries if each.revision.startswith(revision or "")), None)


def _latest_job(store: Store, name: str, revision: str | None) -> Job | None:
    """The newest job (of that revision), whatever asked for it."""
    jobs = store.jobs(name, limit=_LOOK_BACK if revision else 1)
    return next((job for job in jobs if not revision or (job.new_revision or "").startswith(revision)), None)


def _job_before(store: Store, latest: Job | None) -> Job | None:
    """The last job that has ended, where `latest` has not."""
    if latest is None or latest.finished_at is not None:
        return None
    jobs = store.jobs(latest.repo, limit=_LOOK_BACK)
    return next((job for job in jobs if job.finished_at is not None and job.state is not JobState.SUPERSEDED), None)


def _chain(store: Store, job: Job | None) -> list[Job]:
    """`job`, and the jobs that took over from it."""
    jobs = []
    while job:
        jobs.append(job)
        successor = store.successor(job)
        job = successor if successor and successor.id > job.id else None
    return jobs


def _astray(store: Store, delivery: Delivery | None) -> Delivery | None:
    """The newest push that matched no repo, if it came after `delivery`: a name that is misspelt looks like that."""
    astray = next(iter(store.deliveries(None, limit=1)), None)
    if astray and delivery and astray.received_at < delivery.received_at:
        return None
    return astray


def _print_job(out: Console, label: str, job: Job, text: str, timeline: Iterable[str] = ()) -> None:
    head = (f"  {label:<{_LABEL_COLUMNS}}", "dim")
    out.print(Text.assemble(head, terminal.state(job.state), terminal.plain(f": {text}")))
    for line in timeline:
        out.print(terminal.plain(f"  {'':<{_LABEL_COLUMNS}}{line}"), style="dim")
    if job.state is JobState.FAILED:
        out.print(f"  {'':<{_LABEL_COLUMNS}}output: gitopsd logs {job.id}")


def _explain(delivery: Delivery | None, revision: str | None, now: float) -> Iterator[tuple[str, str]]:
    if delivery is None:
        about = f" about {revision}" if revision else ""
        yield "delivery", f"none{about} has come; look at the webhook at its provider"
        return
    revision = terminal.short(delivery.revision) if delivery.revision else ""
    what = " ".join(filter(None, (delivery.event, delivery.ref or delivery.remote, revision)))
    source = f"no {delivery.number}, {delivery.receiver}, {delivery.delivery_id}"
    yield "delivery", f"{what}, {terminal.ago(delivery.received_at, now)} ({source})"
    accepted = delivery.decision is Decision.ACCEPTED
    because = f" as job {', '.join(map(str, delivery.jobs))}" if accepted else f": {delivery.reason}"
    yield "decision", f"{delivery.decision}{because}"


def _verdict(job: Job, successor: Job | None, hold: Hold | None) -> str:
    moved = f"{terminal.short(job.old_revision)} → {terminal.short(job.new_revision)}; " if job.new_revision else ""
    if job.state is JobState.PENDING and job.trigger not in holds.allowed(hold):
        return "waits, as it is held"
    if job.state is JobState.PENDING:
        return "is due" if job.due_at <= time.time() else f"waits until {terminal.clock_time(job.due_at)[:8]}"
    return f"{moved}{terminal.reason(job, successor) or 'has not ended yet'}"


def _timeline(job: Job) -> Iterator[str]:
    """What happened when, each with the time since the wish was made."""
    moments = [("queued", job.created_at), ("claimed", job.started_at)]
    moments += [(phase.name, phase.at) for phase in job.phases]
    moments += [("finished", job.finished_at)]
    for label, at in moments:
        if at is not None:
            yield f"{terminal.clock_time(at)}  +{at - job.created_at:7.3f} s  {label}"
