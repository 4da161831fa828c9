"""`gitopsd sync`: enqueue like a push, start the same sync, follow it, and end with its outcome."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gitopsd import config as configuration
from gitopsd import holds, joblog, lock, runner, script
from gitopsd.cli import exits, terminal
from gitopsd.cli.logs import Tail
from gitopsd.cli.screen import Screen
from gitopsd.discovery import find_repo, find_repos
from gitopsd.errors import GitopsdError
from gitopsd.model import Job, JobState, Trigger
from gitopsd.runner import Runner
from gitopsd.settings import Config, Repo
from gitopsd.store import Store, path_in

_POLL_SEC = 0.05
_RESTART_SEC = 1.0
_STARTS = 3
_TAKEN_OVER = (JobState.INTERRUPTED, JobState.SUPERSEDED)


def sync(config_path: Path, names: Sequence[str], *, everything: bool, wait: bool, force: bool, as_json: bool) -> int:
    """Sync `names` (or everything) now; the exit code says how it ended."""
    if bool(names) == everything:
        print("gitopsd sync: name repos or give --all, and not both", file=sys.stderr)
        return exits.EXIT_USAGE
    config = configuration.load(config_path)
    try:
        wanted = find_repos(config).repos.values() if everything else [find_repo(config, name) for name in names]
        repos = list(dict.fromkeys(wanted))
    except GitopsdError as error:
        print(f"gitopsd sync: {error}", file=sys.stderr)
        return exits.EXIT_USAGE
    require_rights(config, f"sync {' '.join(names) or '--all'}")
    held = {repo: why for repo in repos if (why := why_kept(config, repo.name))}
    for why in held.values():
        print(f"gitopsd sync: {terminal.plain(why).plain}", file=sys.stderr)
    if held and not everything:
        return exits.EXIT_REFUSED
    repos = [repo for repo in repos if repo not in held]
    store = Store(path_in(config.state_dir), time.time)
    jobs = {repo: store.enqueue(repo.name, Trigger.MANUAL, force=force) for repo in repos}
    if not wait:
        return leave(config, store, list(jobs.values()), as_json=as_json)
    followed = follow(config, store, jobs, as_json=as_json)
    if as_json:
        terminal.print_json({"jobs": [terminal.job_json(job) for job in followed]})
    elif [job.state for job in followed] == [JobState.UNCHANGED] and repos[0].deploy:
        print(f"to run its deploy command all the same: gitopsd sync {names[0]} --force")
    return exits.worst(exit_code(config, job) for job in followed)


def exit_code(config: Config, job: Job) -> int:
    """The exit code for how `job` ended, or for what it waits for yet."""
    is_kept = job.state is JobState.PENDING and why_kept(config, job.repo, job.trigger)
    return exits.EXIT_REFUSED if is_kept else exits.of_job(job)


def why_kept(config: Config, name: str, trigger: Trigger = Trigger.MANUAL) -> str:
    """Why no job of the repo with this trigger would be done now, and what to do; "" if one would.

    It is held, or may be held and nobody can tell.
    """
    try:
        hold = holds.read(config.state_dir, name, time.time())
    except GitopsdError as error:
        return str(error)
    if hold is None or trigger in holds.allowed(hold):
        return ""
    return f"{name} is {holds.why(hold)}; gitopsd resume {name}"


def require_rights(config: Config, command: str) -> None:
    """See that this user may start syncs, before anything is queued that others would then run. Raises GitopsdError."""
    if runner.uses_units(config) and os.geteuid() != 0:
        raise GitopsdError(f"only root may start syncs; run: sudo gitopsd {command}")


def follow(config: Config, store: Store, jobs: Mapping[Repo, Job], *, as_json: bool) -> list[Job]:
    """Start the syncs that `jobs` ask for and show what they do, unless `as_json`; the jobs as they have ended.

    Raises KeyboardInterrupt when the person has seen enough; the syncs go on.
    """
    screen = Screen(quiet=as_json, prefixed=len(jobs) > 1)
    followed = [_Followed(config, store, repo, job, screen) for repo, job in jobs.items()]
    try:
        with screen:
            _follow(config, store, _runner(config), followed)
    except KeyboardInterrupt:
        for each in followed:
            if not each.is_over():
                print(f"{each.repo.name}: goes on; gitopsd logs --follow {each.job.id}", file=sys.stderr)
        raise
    return [each.job for each in followed]


def _runner(config: Config) -> Runner:
    secrets = configuration.receiver_secrets(config)
    return runner.choose(config, lambda: configuration.dump(config), secrets, quiet=True)


def leave(
    config: Config, store: Store, jobs: Sequence[Job], *, as_json: bool, about: Mapping[str, Any] | None = None
) -> int:
    """Start as many syncs as may run beside those that do, and go. The daemon starts the others when it looks next.

    `about` stands before the jobs, with `as_json`.
    """
    kept = {job.id: why for job in jobs if (why := why_kept(config, job.repo, job.trigger))}
    free = [job for job in jobs if job.id not in kept]
    starter, slots = _runner(config), config.max_parallel - len(_under_way(config, store))
    for job in free[: max(0, slots)]:
        starter.start(job.repo, lambda _repo, _code: None)
    if len(free) > slots and runner.uses_units(config):
        runner.start_daemon()
    if as_json:
        terminal.print_json({**(about or {}), "jobs": [terminal.job_json(job) for job in jobs]})
    else:
        for job in jobs:
            what_next = kept.get(job.id, f"gitopsd logs --follow {job.id}")
            print(terminal.plain(f"{job.repo}: job {job.id} is queued; {what_next}").plain)
    return exits.EXIT_DONE


def _under_way(config: Config, store: Store) -> set[str]:
    """The repos that are being synced now. A record alone may be of a sync that was killed."""
    return lock.held(config.state_dir, (job.repo for job in store.running()))


def _follow(config: Config, store: Store, starter: Runner, followed: Sequence["_Followed"]) -> None:
    """Start what nobody runs, as the dispatcher does, and show what happens, until every job has ended."""
    ended_at: dict[str, float] = {}
    failed: dict[str, int] = {}

    def on_end(repo: str, code: int) -> None:
        ended_at[repo] = time.monotonic()
        failed[repo] = failed.get(repo, 0) + 1 if code else 0

    while unfinished := [each for each in followed if not each.is_over()]:
        for each in unfinished:
            name = each.repo.name
            if failed.get(name, 0) >= _STARTS:
                each.give_up("its sync fails before it comes to the job")
            rested = time.monotonic() - ended_at.get(name, 0.0) > _RESTART_SEC or name not in ended_at
            under_way = {*starter.running(), *_under_way(config, store)} - {name}
            if name in starter.running() or not each.is_due() or not rested or len(under_way) >= config.max_parallel:
                continue
            try:
                if lock.is_free(config.state_dir, name):
                    starter.start(name, on_end)
            except GitopsdError as error:
                each.give_up(str(error))
        time.sleep(_POLL_SEC)


class _Followed:
    """One job that is followed, and whichever job takes over from it."""

    def __init__(self, config: Config, store: Store, repo: Repo, job: Job, screen: Screen) -> None:
        self.repo = repo
        self.job = job
        self._config = config
        self._store = store
        self._screen = screen
        self._waiting_since = time.monotonic()
        self._given_up = False
        self._attach()

    def give_up(self, why: str) -> None:
        """Say why the job is not followed any further; it stays queued."""
        self._given_up = True
        self._screen.note(self.job, f"job {self.job.id}: {why}; see gitopsd status {self.repo.name}. It stays queued")

    def is_due(self) -> bool:
        """Whether the job is there to be started. A running one too: whoever ran it may be dead."""
        if self._given_up:
            return False
        return self.job.state is JobState.RUNNING or (self._waits() and self.job.due_at <= time.time())

    def is_over(self) -> bool:
        """Show what is new; whether the job has ended, or has waited in vain for longer than a sync may take."""
        if self._given_up or not self._waits():
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
        if self._waits():
            return self._is_kept() or self._has_waited_in_vain()
        self._screen.end(self.job)
        return True

    def _waits(self) -> bool:
        return self.job.state in (JobState.PENDING, JobState.RUNNING)

    def _is_kept(self) -> bool:
        """Whether the job waits for somebody to resume its repo."""
        kept = why_kept(self._config, self.repo.name, self.job.trigger) if self.job.state is JobState.PENDING else ""
        if kept:
            self._screen.note(self.job, f"job {self.job.id} stays queued: {kept}")
        return bool(kept)

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
