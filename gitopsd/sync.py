"""One repo: lock → claim → script → finish, until nothing is pending."""

import logging
import select
from collections.abc import Callable

from gitopsd import holds, joblog, journal, lock, script
from gitopsd.errors import GitopsdError
from gitopsd.journal import Kind
from gitopsd.model import DONE, Job, JobState, Outcome, Trigger
from gitopsd.settings import Config, Repo, Retry
from gitopsd.store import Store

_log = logging.getLogger(__name__)
_PATIENCE_SEC = 1.0
_MOMENT_SEC = 0.2
_KINDS = {
    JobState.SUCCEEDED: Kind.JOB_SUCCEEDED,
    JobState.UNCHANGED: Kind.JOB_UNCHANGED,
    JobState.FAILED: Kind.JOB_FAILED,
    JobState.REFUSED: Kind.JOB_REFUSED,
    JobState.INTERRUPTED: Kind.JOB_INTERRUPTED,
}


def run(
    config: Config,
    name: str,
    store: Store,
    find_repo: Callable[[str], Repo],
    stop_fd: int | None,
    *,
    clock: Callable[[], float],
) -> None:
    """Sync the repo `name` until no job of it is due, or `stop_fd` is readable. While it is held only a rollback is.

    What has to be tried again takes its turn among the other repos: it is left, however soon it is due.

    Raises BusyError if another sync of it runs, GitopsdError if it may be held, and that cannot be told, StoreError if
    the record cannot be written (then the job stays `running`, and whoever takes the lock next records it as
    interrupted and does it again).
    """
    # A moment of patience, as whoever looks whether the lock is free holds it for that moment.
    with lock.hold(config.state_dir, name, patience_sec=_PATIENCE_SEC) as lock_fd:
        while claimed := _next(config, name, store, clock, stop_fd):
            job, pinned = claimed
            _log.info("job %d of %s: running (%s)", job.id, name, job.trigger, extra=_fields(Kind.JOB_STARTED, job))
            before = store.last_job(name)
            outcome = _run_engine(config, job, find_repo, lock_fd, stop_fd, pinned)
            done = store.finish(job, outcome, _retry_of(config, name))
            _tell_end(done)
            joblog.remove_old(config.state_dir, name, config.keep.logs)
            if before and store.job(before.id) is None:
                joblog.remove(config.state_dir, name, before.id)
            if done.state is JobState.INTERRUPTED or _is_to_try_again(store, name):
                return


def _next(
    config: Config, name: str, store: Store, clock: Callable[[], float], stop_fd: int | None
) -> tuple[Job, str | None] | None:
    """As `_claim`; for a job that is due in a moment it waits that moment, as to start anew would take longer."""
    if claimed := _claim(config, name, store, clock):
        return claimed
    pending = store.unfinished(name, JobState.PENDING)
    left_sec = pending.due_at - clock() if pending and pending.attempts == 1 else -1.0
    if not 0 < left_sec < _MOMENT_SEC or select.select([stop_fd] if stop_fd is not None else [], [], [], left_sec)[0]:
        return None
    return _claim(config, name, store, clock)


def _claim(config: Config, name: str, store: Store, clock: Callable[[], float]) -> tuple[Job, str | None] | None:
    """The next job, now `running`, and the revision that it has to go to if it is a rollback; None if none is due."""

    def interrupted(job: Job) -> Outcome:
        outcome = script.interrupted(script.read_report(joblog.report_path(config.state_dir, name, job.id)))
        _log.warning("job %d of %s: %s", job.id, name, outcome.reason, extra=_fields(Kind.JOB_INTERRUPTED, job))
        return outcome

    hold = holds.read(config.state_dir, name, clock())
    job = store.claim(name, interrupted, _retry_of(config, name), holds.allowed(hold))
    if job is None or job.trigger is not Trigger.ROLLBACK:
        return (job, None) if job else None
    # The hold is written before the rollback is queued. So it is there now, and was perhaps another a moment ago.
    hold = holds.read(config.state_dir, name, clock())
    return job, hold.revision if hold else None


def _is_to_try_again(store: Store, name: str) -> bool:
    pending = store.unfinished(name, JobState.PENDING)
    return pending is not None and pending.attempts > 1


def _retry_of(config: Config, name: str) -> Retry:
    """When the jobs of a repo are tried again. One that was taken out, or that no configuration names, has no own."""
    repo = config.repos.get(name)
    return (repo.retry if repo else None) or config.retry


def _tell_end(job: Job) -> None:
    level = logging.INFO if job.state in DONE else logging.WARNING
    extra = _fields(_KINDS[job.state], job, result=job.state)
    _log.log(level, "job %d of %s: %s: %s", job.id, job.repo, job.state, job.reason, extra=extra)


def _fields(kind: Kind, job: Job, **more: object) -> dict[str, object]:
    revision = job.new_revision or job.revision
    return journal.fields(kind, repo=job.repo, job=job.id, delivery=job.delivery, **{"revision": revision, **more})


class _Phases:
    """Tells of each phase of a job, as soon as the engine has written down that it began and says something."""

    def __init__(self, config: Config, job: Job) -> None:
        self._job = job
        self._path = joblog.report_path(config.state_dir, job.repo, job.id)
        self._told = 0
        self.fields: dict[str, str] = {}
        """What the output of this moment belongs to: the fields of its entries in the journal."""
        self._set_fields(_fields(Kind.JOB_PHASE, job))

    def look(self) -> None:
        """Look what the engine has written."""
        report = script.read_report(self._path)
        revision = report.values.get("new_revision") or self._job.revision
        for phase in report.phases[self._told :]:
            self._told += 1
            extra = _fields(Kind.JOB_PHASE, self._job, phase=phase.name, revision=revision)
            self._set_fields(extra)
            _log.info("job %d of %s: %s", self._job.id, self._job.repo, phase.name, extra=extra)

    def _set_fields(self, extra: dict[str, object]) -> None:
        self.fields.clear()
        self.fields.update({key: value for key, value in journal.entry_of(extra).items() if key != "MESSAGE_ID"})


def _run_engine(
    config: Config, job: Job, find_repo: Callable[[str], Repo], lock_fd: int, stop_fd: int | None, pinned: str | None
) -> Outcome:
    if job.trigger is Trigger.ROLLBACK:
        if pinned is None:
            reason = f"its hold is gone, which said where to go back to; gitopsd rollback {job.repo}"
            return Outcome(state=JobState.REFUSED, reason=reason, exit_code=script.EXIT_REFUSED)
        # What came while it waited asked for something newer.
        job = job._replace(event=None, images=(), revision=None, force=False)
    try:
        repo = find_repo(job.repo)
    except GitopsdError as error:
        return Outcome(state=JobState.REFUSED, reason=str(error), exit_code=script.EXIT_REFUSED)
    log = joblog.JobLog(joblog.log_path(config.state_dir, job.repo, job.id), config.keep.log_bytes)
    phases = _Phases(config, job)
    output = journal.Output(phases.fields)

    def on_output(chunk: bytes) -> None:
        phases.look()
        log.write(chunk)
        output.write(chunk)

    try:
        return script.run(
            config,
            repo,
            job,
            output_path=joblog.report_path(config.state_dir, job.repo, job.id),
            on_output=on_output,
            lock_fd=lock_fd,
            stop_fd=stop_fd,
            pinned=pinned,
        )
    finally:
        phases.look()
        log.close()
        output.close()
