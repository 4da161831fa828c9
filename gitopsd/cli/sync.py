"""`gitopsd sync`: enqueue like a push, start the same sync, follow it, and end with its outcome."""

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gitopsd import config as configuration
from gitopsd import joblog, lock, script
from gitopsd.cli import exits, terminal
from gitopsd.cli.logs import Tail
from gitopsd.discovery import find_repo, find_repos
from gitopsd.errors import GitopsdError
from gitopsd.model import Config, Job, JobState, Repo, Trigger
from gitopsd.runner import LocalRunner
from gitopsd.store import Store, path_in

_POLL_SEC = 0.05
_RESTART_SEC = 1.0
_TAKEN_OVER = (JobState.INTERRUPTED, JobState.SUPERSEDED)


def sync(config_path: Path, names: Sequence[str], *, everything: bool, wait: bool, force: bool, as_json: bool) -> int:
    """Sync `names` (or everything) now; the exit code says how it ended."""
    if bool(names) == everything:
        print("gitopsd sync: name repos, or give --all", file=sys.stderr)
        return exits.EXIT_USAGE
    config = configuration.load(config_path)
    try:
        repos = list(find_repos(config).repos.values()) if everything else [find_repo(config, name) for name in names]
    except GitopsdError as error:
        print(f"gitopsd sync: {error}", file=sys.stderr)
        return exits.EXIT_USAGE
    store = Store(path_in(config.state_dir), time.time)
    runner = _runner(config)
    jobs = [store.enqueue(repo.name, Trigger.MANUAL, force=force) for repo in dict.fromkeys(repos)]
    if not wait:
        return _leave(runner, jobs, config.max_parallel - len(_under_way(config, store)), as_json=as_json)
    screen = _Screen(quiet=as_json, prefixed=len(repos) > 1)
    followed = [
        _Followed(config, store, repo, job, screen) for repo, job in zip(dict.fromkeys(repos), jobs, strict=True)
    ]
    with screen:
        _follow(config, store, runner, followed)
    if as_json:
        terminal.print_json({"jobs": [terminal.job_json(each.job) for each in followed]})
    return exits.worst(exits.of_job(each.job) for each in followed)


def _runner(config: Config) -> LocalRunner:
    secrets = {name for receiver in config.receivers.values() for name in receiver.secrets}
    return LocalRunner(lambda: configuration.dump(config), secrets, quiet=True)


def _leave(runner: LocalRunner, jobs: Sequence[Job], slots: int, *, as_json: bool) -> int:
    """Start as many syncs as may run beside those that do, and go. The daemon starts the others when it looks next."""
    for job in jobs[: max(0, slots)]:
        runner.start(job.repo, lambda _repo, _code: None)
    if as_json:
        terminal.print_json({"jobs": [terminal.job_json(job) for job in jobs]})
    else:
        for job in jobs:
            print(f"{job.repo}: job {job.id} is queued; gitopsd logs --follow {job.id}")
    return exits.EXIT_DONE


def _under_way(config: Config, store: Store) -> set[str]:
    """The repos that are being synced now. A record alone may be of a sync that was killed."""
    return lock.held(config.state_dir, (job.repo for job in store.running()))


def _follow(config: Config, store: Store, runner: LocalRunner, followed: Sequence["_Followed"]) -> None:
    """Start what nobody runs, as the dispatcher does, and show what happens, until every job has ended."""
    ended_at: dict[str, float] = {}

    def on_end(repo: str, _code: int) -> None:
        ended_at[repo] = time.monotonic()

    while unfinished := [each for each in followed if not each.is_over()]:
        for each in unfinished:
            name = each.repo.name
            rested = time.monotonic() - ended_at.get(name, 0.0) > _RESTART_SEC or name not in ended_at
            under_way = {*runner.running(), *_under_way(config, store)} - {name}
            if name in runner.running() or not each.waits() or not rested or len(under_way) >= config.max_parallel:
                continue
            if lock.is_free(config.state_dir, name):
                runner.start(name, on_end)
        time.sleep(_POLL_SEC)


class _Followed:
    """One job that is followed, and whichever job takes over from it."""

    def __init__(self, config: Config, store: Store, repo: Repo, job: Job, screen: "_Screen") -> None:
        self.repo = repo
        self.job = job
        self._config = config
        self._store = store
        self._screen = screen
        self._waiting_since = time.monotonic()
        self._attach()

    def waits(self) -> bool:
        """Whether the job is there to be started."""
        return self.job.state in (JobState.PENDING, JobState.RUNNING)

    def is_over(self) -> bool:
        """Show what is new; whether the job has ended, or has waited in vain for longer than a sync may take."""
        if not self.waits():
            return True
        # The state first, the output after it: what was written in between is shown too.
        current = self._store.job(self.job.id)
        if current is None:
            self._screen.note(self.job, f"job {self.job.id} is not in the store any more; was its file moved away?")
            return True
        self.job = current
        self._screen.phase(self.job, script.read_report(self._report_path).phase)
        self._screen.output(self.job, self._tail.read())
        if self.job.state in _TAKEN_OVER and (successor := self._store.successor(self.job)):
            self._screen.note(self.job, f"job {self.job.id}: {self.job.reason}; following job {successor.id}")
            self.job = successor
            self._attach()
            return False
        if self.job.state is JobState.RUNNING:
            self._waiting_since = time.monotonic()
        if self.waits():
            return self._has_waited_in_vain()
        self._screen.end(self.job)
        return True

    def _has_waited_in_vain(self) -> bool:
        """Whether the job has not begun for so long that whoever is in its way must be stuck."""
        if time.monotonic() - self._waiting_since < 2 * self.repo.timeout_sec:
            return False
        busy = f"something holds the lock of {self.repo.name}, or all of max_parallel"
        self._screen.note(self.job, f"job {self.job.id} has not begun: {busy}; it stays queued")
        return True

    def _attach(self) -> None:
        state_dir, name = self._config.state_dir, self.repo.name
        self._tail = Tail(joblog.log_path(state_dir, name, self.job.id))
        self._report_path = joblog.report_path(state_dir, name, self.job.id)


class _Screen:
    """What the person sees: output as it comes, the phase beside a spinner on a terminal, the end of each job."""

    def __init__(self, *, quiet: bool, prefixed: bool) -> None:
        self._out = Console(quiet=True) if quiet else terminal.console()
        self._prefixed = prefixed
        self._unfinished: dict[int, bytes] = {}
        self._status: AbstractContextManager[Any] = (
            self._out.status("waiting", spinner="dots") if self._out.is_terminal and not quiet else nullcontext()
        )

    def __enter__(self) -> None:
        self._status.__enter__()

    def __exit__(self, *exception: object) -> None:
        self._status.__exit__(None, None, None)

    def phase(self, job: Job, name: str) -> None:
        if hasattr(self._status, "update"):
            self._status.update(terminal.plain(f"{job.repo}: {name if job.started_at else 'waiting for its turn'}"))

    def output(self, job: Job, chunk: bytes) -> None:
        *lines, rest = (self._unfinished.get(job.id, b"") + chunk).split(b"\n")
        self._unfinished[job.id] = rest
        for line in lines:
            self._out.print(self._line(job, terminal.plain(line.decode("utf-8", "replace"))))

    def note(self, job: Job, text: str) -> None:
        self._out.print(self._line(job, terminal.plain(text)))

    def end(self, job: Job) -> None:
        if self._unfinished.pop(job.id, b""):
            self.output(job, b"\n")
        took = terminal.duration(job.finished_at - job.started_at) if job.finished_at and job.started_at else "-"
        text = Text.assemble(
            f"{job.repo}: ",
            terminal.state(job.state),
            f" ({_movement(job)}job {job.id}, {took})",
            terminal.plain(f": {job.reason}" if job.reason else ""),
        )
        self._out.print(text)
        if phases := _phases(job):
            self._out.print(terminal.plain(f"  {phases}"), style="dim")

    def _line(self, job: Job, text: Text) -> Text:
        return Text.assemble((f"{job.repo} │ ", "dim"), text) if self._prefixed else text


def _movement(job: Job) -> str:
    """From which revision to which, or where it stays."""
    if not job.new_revision:
        return ""
    if job.state is JobState.REFUSED:
        return f"stays at {terminal.short(job.old_revision)}, the remote has {terminal.short(job.new_revision)}, "
    return f"{terminal.short(job.old_revision)} → {terminal.short(job.new_revision)}, "


def _phases(job: Job) -> str:
    """How long each phase took."""
    ends = [*(phase.at for phase in job.phases[1:]), job.finished_at or 0.0]
    return ", ".join(
        f"{phase.name} {terminal.duration(end - phase.at)}" for phase, end in zip(job.phases, ends, strict=False)
    )
