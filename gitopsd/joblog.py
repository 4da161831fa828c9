"""The output of one job: where it is kept, how much of it, and for how long."""

import logging
import os
from collections import deque
from pathlib import Path

from gitopsd import modes

_log = logging.getLogger(__name__)
_TAIL_BYTES = 64 * 1024


def log_path(state_dir: Path, repo: str, job_id: int) -> Path:
    """Where the output of a job is kept."""
    return state_dir / "logs" / repo / f"{job_id}.log"


def report_path(state_dir: Path, repo: str, job_id: int) -> Path:
    """Where the engine writes its `key=value` lines, beside the log."""
    return log_path(state_dir, repo, job_id).with_suffix(".report")


def remove_old(state_dir: Path, repo: str, keep: int) -> None:
    """Remove the logs of `repo` but for the newest `keep`."""
    directory = log_path(state_dir, repo, 0).parent
    try:
        numbers = sorted(int(path.stem) for path in directory.glob("*.log") if path.stem.isdecimal())
        for number in numbers[:-keep]:
            log_path(state_dir, repo, number).unlink(missing_ok=True)
            report_path(state_dir, repo, number).unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s: old logs cannot be removed: %s", directory, error.strerror)


def remove(state_dir: Path, repo: str, job_id: int) -> None:
    """Remove the log of a job, if it has one."""
    try:
        log_path(state_dir, repo, job_id).unlink(missing_ok=True)
        report_path(state_dir, repo, job_id).unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s: cannot be removed: %s", log_path(state_dir, repo, job_id), error.strerror)


class JobLog:
    """Writes a log of at most about `max_bytes`: its beginning as it comes, and its end when it is closed.

    A disk that is full costs lines of the log, never the deploy.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._tail_room = min(_TAIL_BYTES, max_bytes // 2)
        self._head_room = max_bytes - self._tail_room
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._left_out = 0
        self._fd: int | None = None
        try:
            modes.make_directory(path.parent)
            self._fd = modes.open_file(path, os.O_WRONLY | os.O_TRUNC)
        except OSError as error:
            _log.warning("%s: cannot be written: %s; this job's output is lost", path, error.strerror)

    def write(self, chunk: bytes) -> None:
        """Add what the engine wrote."""
        head, rest = chunk[: self._head_room], chunk[self._head_room :]
        self._head_room -= len(head)
        self._put(head)
        if rest:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
        while self._tail and self._tail_bytes - len(self._tail[0]) >= self._tail_room:
            dropped = len(self._tail.popleft())
            self._tail_bytes -= dropped
            self._left_out += dropped

    def close(self) -> None:
        """Add the end, and say how much between it and the beginning is missing."""
        tail = b"".join(self._tail)
        end = tail[-self._tail_room :]
        if left_out := self._left_out + len(tail) - len(end):
            self._put(f"\n[… {left_out} bytes left out: keep.log_size …]\n".encode())
        self._put(end)
        if self._fd is not None:
            os.close(self._fd)

    def _put(self, chunk: bytes) -> None:
        if not chunk or self._fd is None:
            return
        try:
            while chunk:  # a disk that is nearly full takes a part first
                chunk = chunk[os.write(self._fd, chunk) :]
        except OSError as error:
            _log.warning("%s: cannot be written: %s; the rest of this job's output is lost", self._path, error.strerror)
            os.close(self._fd)
            self._fd = None
