"""`gitopsd logs`: the output of a job."""

import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from gitopsd import config as configuration
from gitopsd import joblog, modes, process, runner
from gitopsd.cli import terminal
from gitopsd.cli.exits import EXIT_DONE
from gitopsd.discovery import find_repo
from gitopsd.errors import GitopsdError
from gitopsd.model import Job, JobState
from gitopsd.settings import Config
from gitopsd.store import Store, path_in

_POLL_SEC = 0.1
_TOO_MANY_DIGITS = 19  # for SQLite
_JOURNAL_SEC = 60.0


class Tail:
    """Reads what a log has grown by."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> bytes:
        """What is new since the last call; nothing while there is no file. Raises GitopsdError for any other."""
        try:
            chunk = modes.read_file(self._path, offset=self._offset)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise GitopsdError(f"log {self._path}: {error.strerror}; run this as the user of the daemon") from error
        self._offset += len(chunk)
        return chunk


def logs(config_path: Path, target: str, *, follow: bool) -> int:
    """Write the output of the job `target`, or of the newest job of the repo `target`, to stdout."""
    config = configuration.load(config_path)
    store = Store(path_in(config.state_dir), time.time)
    job = _find_job(config, store, target)
    path = joblog.log_path(config.state_dir, job.repo, job.id)
    if not path.exists() and job.finished_at is not None:
        return _from_journal(config, job)
    tail = Tail(path)
    while True:
        # Ended first, then read: what was written in between is read too.
        current = store.job(job.id) or job
        ended = current.state not in (JobState.PENDING, JobState.RUNNING)
        _write(tail.read())
        if ended or not follow:
            return EXIT_DONE
        time.sleep(_POLL_SEC)


def _find_job(config: Config, store: Store, target: str) -> Job:
    """A repo of that name comes before a job of that number."""
    started = [job for job in store.jobs(target, limit=20) if job.started_at]
    if started:
        return started[0]
    is_number = re.fullmatch("[0-9]+", target) is not None
    if is_number and len(target) < _TOO_MANY_DIGITS and (job := store.job(int(target))):
        return job
    if is_number and target not in config.repos:
        raise GitopsdError(f"there is no job {target}; gitopsd history lists them")
    find_repo(config, target)
    raise GitopsdError(f"no job of {target} has run yet; gitopsd sync {target}")


def _from_journal(config: Config, job: Job) -> int:
    """What the journal has of a job whose log is gone."""
    gone = f"the log of job {job.id} is gone (keep.logs)"
    if not shutil.which("journalctl"):
        raise GitopsdError(_why_never(job) or f"{gone}, and there is no journal here")
    matches = [f"GITOPSD_JOB={job.id}", f"GITOPSD_REPO={job.repo}"]
    if runner.uses_units(config):  # anybody can write such fields, but not as that unit
        matches.append(f"_SYSTEMD_UNIT={runner.unit_of(job.repo)}")
    argv = ("journalctl", "--no-pager", "--quiet", "--all", "--output=json", *matches)
    _, text = process.output_of(argv, environment={"PATH": "/usr/bin:/bin"}, timeout_sec=_JOURNAL_SEC)
    entries = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    # What has a MESSAGE_ID is ours; the output has none.
    output = [_message(entry) + b"\n" for entry in entries if "MESSAGE_ID" not in entry]
    if not output:
        raise GitopsdError(_why_never(job) or f"{gone}, and the journal has nothing of it")
    _write(b"".join(output))
    return EXIT_DONE


def _why_never(job: Job) -> str:
    """Why the job never had a log; "" if it had one."""
    if job.state is not JobState.REFUSED or job.phases:
        return ""
    return f"job {job.id} has no log: it was refused before it ran: {job.reason}"


def _message(entry: dict[str, Any]) -> bytes:
    """journalctl gives what is not all text as a list of bytes."""
    message = entry.get("MESSAGE") or ""
    return message.encode() if isinstance(message, str) else bytes(message)


def _write(chunk: bytes) -> None:
    """Write output as it is into a pipe; what a deploy or a remote wrote must not steer a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(terminal.plain(chunk.decode("utf-8", "replace")).plain)
    else:
        sys.stdout.buffer.write(chunk)
    sys.stdout.flush()
