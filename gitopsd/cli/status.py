"""`gitopsd status` and `gitopsd history`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from gitopsd import config as configuration
from gitopsd import holds, joblog, script
from gitopsd.cli import notify, terminal
from gitopsd.cli.exits import EXIT_DONE
from gitopsd.cli.problems import of_daemon, of_remotes, of_rules, of_units, of_waiting, states_of_units
from gitopsd.discovery import find_repo, find_repos
from gitopsd.errors import GitopsdError
from gitopsd.model import Hold, Job, JobState, Trigger
from gitopsd.runner import UnitState, unit_of
from gitopsd.settings import Config, Repo
from gitopsd.store import Store, path_in

NEVER_SYNCED = "new"


class Standing(NamedTuple):
    """How one repo stands. `state` is that of the running job, else `held`, that of the last one that ended, or `new`.

    `unit` is None where syncs are no units. `hold_problem` is why nobody can tell whether it is held, or "".
    """

    repo: Repo
    state: str
    reason: str
    revision: str | None
    pending: Job | None
    running: Job | None
    last_job: Job | None
    unit: UnitState | None
    hold: Hold | None
    hold_problem: str

    @property
    def wanted(self) -> Job | None:
        """The job that waits to be started: none that is held."""
        return self.pending if self.pending and self.pending.trigger in holds.allowed(self.hold) else None


def status(config_path: Path, name: str | None, *, as_json: bool) -> int:
    """How every repo stands, and what keeps deliveries out."""
    config = configuration.load(config_path)
    store = Store(path_in(config.state_dir), time.time)
    found = find_repos(config)
    repos = [find_repo(config, name)] if name else list(found.repos.values())
    units: dict[str, UnitState] = {}
    trouble = []
    try:
        units = states_of_units(config, [repo.name for repo in repos])
    except GitopsdError as error:  # the records are to be seen all the same
        trouble = [str(error)]
    standings = [standing_of(config, store, repo, units.get(repo.name)) for repo in repos]
    pending = [standing.wanted for standing in standings if standing.wanted]
    waiting = of_waiting(pending, [standing.repo.name for standing in standings if standing.running])
    asked = [repo.name for repo in repos]
    problems = list(
        dict.fromkeys(
            [
                *trouble,
                *(standing.hold_problem for standing in standings if standing.hold_problem),
                *of_daemon(config, store, asked),
                *(f"receiver '{receiver}': {problem}" for receiver, problem in of_rules(config, found.repos)),
                *of_remotes(config, store, repos),
                *notify.problems(config, store),
                *of_units(units, pending),
                *waiting,
                *found.problems.values(),
            ]
        )
    )
    if as_json:
        terminal.print_json({"repos": [_json(standing) for standing in standings], "problems": problems})
        return EXIT_DONE
    out, now = terminal.console(), time.time()
    if standings:
        terminal.print_table(
            out,
            ("REPO", "STATE", "REVISION", "REF", "WHEN", "REASON"),
            [
                (
                    standing.repo.name,
                    terminal.state(standing.state),
                    terminal.short(standing.revision),
                    standing.repo.ref or "-",
                    _when(standing, now),
                    _reason(standing),
                )
                for standing in standings
            ],
        )
    else:
        out.print(terminal.plain(f"no repo is configured in {config.source}"))
    if name and standings[0].unit:
        unit = standings[0].unit
        out.print(terminal.plain(f"{unit_of(name)}: {unit.active} ({unit.sub})"), style="dim")
    for problem in problems:
        out.print(terminal.plain(f"! {problem}"), style="bold red")
    return EXIT_DONE


def history(config_path: Path, name: str | None, *, limit: int, as_json: bool) -> int:
    """The newest jobs, of one repo or of all."""
    config = configuration.load(config_path)
    store = Store(path_in(config.state_dir), time.time)
    jobs = store.jobs(name, limit=limit)
    if not jobs and name:
        find_repo(config, name)
    if as_json:
        terminal.print_json({"jobs": [terminal.job_json(job) for job in jobs]})
        return EXIT_DONE
    out = terminal.console()
    _print_history(out, jobs, ("TO",) if terminal.is_narrow(out) else ("FROM", "TO"))
    return EXIT_DONE


def _print_history(out: Console, jobs: Sequence[Job], revisions: Sequence[str]) -> None:
    now = time.time()
    terminal.print_table(
        out,
        ("JOB", "REPO", "TRIGGER", "STATE", *revisions, "WHEN", "TOOK", "REASON"),
        [
            (
                str(job.id),
                job.repo,
                job.trigger,
                terminal.state(job.state),
                *(terminal.short(job.old_revision if each == "FROM" else job.new_revision) for each in revisions),
                terminal.ago(job.created_at, now),
                _took(job),
                job.reason,
            )
            for job in jobs
        ],
    )


def standing_of(config: Config, store: Store, repo: Repo, unit: UnitState | None) -> Standing:
    """How `repo` stands, by the records."""
    running = store.unfinished(repo.name, JobState.RUNNING)
    pending = store.unfinished(repo.name, JobState.PENDING)
    last_job = store.last_job(repo.name)
    in_place = store.last_job(repo.name, done=True)
    hold, hold_problem = hold_of(config, repo.name)
    if running:
        phase = script.read_report(joblog.report_path(config.state_dir, repo.name, running.id)).phase
        state, reason = str(JobState.RUNNING), f"job {running.id} is in {phase}"
    elif hold:
        waits = f"; job {pending.id} waits" if pending else ""
        state, reason = terminal.HELD, f"{terminal.held(hold, time.time())}{_failed_under(hold, last_job)}{waits}"
    elif last_job:
        state, reason = str(last_job.state), last_job.reason
    elif pending:
        state, reason = str(JobState.PENDING), f"job {pending.id} waits for its turn"
    else:
        state, reason = NEVER_SYNCED, f"never synced; gitopsd sync {repo.name}"
    return Standing(
        repo=repo,
        state=state,
        reason=reason,
        revision=in_place.new_revision if in_place else None,
        pending=pending,
        running=running,
        last_job=last_job,
        unit=unit,
        hold=hold,
        hold_problem=hold_problem,
    )


def hold_of(config: Config, name: str) -> tuple[Hold | None, str]:
    """The hold of a repo, and why that cannot be told, or ""."""
    try:
        return holds.read(config.state_dir, name, time.time()), ""
    except GitopsdError as error:
        return None, str(error)


def _failed_under(hold: Hold, last_job: Job | None) -> str:
    """What became of the rollback that `hold` is for, if that was not well."""
    if last_job is None or last_job.trigger is not Trigger.ROLLBACK or (last_job.started_at or 0.0) < hold.at:
        return ""
    is_bad = last_job.state in (JobState.FAILED, JobState.REFUSED)
    return f"; job {last_job.id} {last_job.state}: {last_job.reason}" if is_bad else ""


def _reason(standing: Standing) -> str:
    if standing.running or standing.hold or not standing.last_job:
        return standing.reason
    return terminal.reason(standing.last_job, standing.pending)


def _when(standing: Standing, now: float) -> str:
    if standing.running:
        return terminal.ago(standing.running.started_at, now)
    if standing.hold:
        return terminal.ago(standing.hold.at, now)
    return terminal.ago(standing.last_job.finished_at if standing.last_job else None, now)


def _took(job: Job) -> str:
    return terminal.duration(job.finished_at - job.started_at) if job.started_at and job.finished_at else "-"


def _json(standing: Standing) -> dict[str, Any]:
    unit = standing.unit
    return {
        "name": standing.repo.name,
        "ref": standing.repo.ref,
        "path": str(standing.repo.path),
        "revision": standing.revision,
        "state": standing.state,
        "reason": standing.reason,
        "pending": standing.pending.id if standing.pending else None,
        "running": standing.running.id if standing.running else None,
        "held": terminal.hold_json(standing.hold),
        "last_job": terminal.job_json(standing.last_job) if standing.last_job else None,
        "unit": {"name": unit_of(standing.repo.name), "active": unit.active, "sub": unit.sub} if unit else None,
    }
