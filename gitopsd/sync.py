"""One repo: lock → claim → script → finish, until nothing is pending."""

import logging
from collections.abc import Callable

from gitopsd import joblog, lock, script, systemd
from gitopsd.errors import GitopsdError
from gitopsd.model import Config, Job, JobState, Outcome, Repo
from gitopsd.store import Store

_log = logging.getLogger(__name__)
_PATIENCE_SEC = 1.0


def run(config: Config, name: str, store: Store, find_repo: Callable[[str], Repo], stop_fd: int | None) -> None:
    """Sync the repo `name` until no job of it is due, or `stop_fd` is readable.

    Raises BusyError if another sync of it runs, StoreError if the record cannot be written (then the job stays
    `running`, and whoever takes the lock next records it as interrupted and does it again).
    """

    def interrupted(job: Job) -> Outcome:
        return script.interrupted(script.read_report(joblog.report_path(config.state_dir, name, job.id)))

    # A moment of patience, as whoever looks whether the lock is free holds it for that moment.
    with lock.hold(config.state_dir, name, patience_sec=_PATIENCE_SEC) as lock_fd:
        while job := store.claim(name, interrupted, config.retry):
            _log.info("job %d of %s: running (%s)", job.id, name, job.trigger)
            done = store.finish(job, _run_engine(config, job, find_repo, lock_fd, stop_fd), config.retry)
            level = logging.INFO if done.state in (JobState.SUCCEEDED, JobState.UNCHANGED) else logging.WARNING
            _log.log(level, "job %d of %s: %s: %s", done.id, name, done.state, done.reason)
            joblog.remove_old(config.state_dir, name, config.keep.logs)
            if done.state is JobState.INTERRUPTED:
                return


def _run_engine(
    config: Config, job: Job, find_repo: Callable[[str], Repo], lock_fd: int, stop_fd: int | None
) -> Outcome:
    try:
        repo = find_repo(job.repo)
    except GitopsdError as error:
        return Outcome(state=JobState.REFUSED, reason=str(error), exit_code=script.EXIT_REFUSED)
    log = joblog.JobLog(joblog.log_path(config.state_dir, job.repo, job.id), config.keep.log_bytes)
    journal = systemd.Journal({"GITOPSD_REPO": job.repo, "GITOPSD_JOB": str(job.id)})

    def on_output(chunk: bytes) -> None:
        log.write(chunk)
        journal.write(chunk)

    try:
        return script.run(
            config,
            repo,
            job,
            output_path=joblog.report_path(config.state_dir, job.repo, job.id),
            on_output=on_output,
            lock_fd=lock_fd,
            stop_fd=stop_fd,
        )
    finally:
        log.close()
        journal.close()
