"""Hold one repo's lock."""

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
from filelock import BaseFileLock, FileLock, Timeout

from gitopsd import modes
from gitopsd.errors import BusyError, GitopsdError

DAEMON = ".serve"
"""The lock of the daemon. It begins with a dot, as no repo's name does."""

NOTIFIER = ".notify"
"""The lock of who tells what became of jobs."""

_TAKES_MODE = tuple(map(int, filelock.__version__.split(".")[:2])) >= (3, 10)


@contextmanager
def hold(state_dir: Path, repo: str, *, patience_sec: float = 0.0) -> Iterator[int]:
    """Hold the lock of `repo` for the block; gives the descriptor that holds it.

    A child that inherits the descriptor holds the lock too: it is free only when the last of them has ended, so a
    sync that was killed cannot be overtaken while its engine still writes.

    Raises BusyError if it is not free within `patience_sec` seconds, GitopsdError if the directory cannot be used.
    """
    path = _lock_path(state_dir, repo)
    try:
        modes.make_directory(path.parent)
        lock = _file_lock(path, patience_sec)
        lock.acquire(poll_interval=0.02)
    except Timeout as error:
        who = {DAEMON: "gitopsd serve", NOTIFIER: "gitopsd notify"}.get(repo, f"sync of {repo}")
        raise BusyError(f"another {who} is running (it holds {path})") from error
    except OSError as error:
        raise GitopsdError(f"lock {path}: {error.strerror}; is its directory writable?") from error
    try:
        fd = _descriptor(path)
        modes.share(fd, path.parent)
        yield fd
    finally:
        lock.release()


def is_free(state_dir: Path, repo: str) -> bool:
    """Whether nobody holds the lock of `repo` in this moment. Makes nothing; to read the file is enough.

    Raises GitopsdError if there is no telling.
    """
    path = _lock_path(state_dir, repo)
    try:
        # Not to wait for whoever writes into it, should it be a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise GitopsdError(f"lock {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise GitopsdError(f"lock {path}: is not a file; remove it")
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two who look do not see each other
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def held(state_dir: Path, repos: Iterable[str]) -> set[str]:
    """Those of `repos` whose lock somebody holds now. One that cannot be opened is nobody's."""
    found = set()
    for repo in repos:
        with suppress(GitopsdError):
            if not is_free(state_dir, repo):
                found.add(repo)
    return found


def _lock_path(state_dir: Path, repo: str) -> Path:
    # Beside the store: whoever shares the records must share the locks.
    # The daemon's is in a directory apart: who syncs must not be able to take it away.
    return state_dir / ("daemon" if repo == DAEMON else "locks") / f"{repo}.lock"


def _file_lock(path: Path, patience_sec: float) -> BaseFileLock:
    # Made here, as a filelock before 3.20.3 follows a link, and empties the file that it leads to.
    os.close(modes.open_file(path, os.O_RDWR))
    # And told the mode, as one before 4.0 sets its own with each attempt, also of a lock that it does not get.
    mode: dict[str, Any] = {"mode": modes.mode_of_file(path.parent)} if _TAKES_MODE else {}
    return FileLock(path, timeout=patience_sec, **mode)


def _descriptor(path: Path) -> int:
    """The descriptor that filelock just opened for `path`; it has no public name for it."""
    wanted = path.stat()
    for entry in Path("/proc/self/fd").iterdir():
        fd = int(entry.name)
        try:
            found = os.fstat(fd)
            # Not that of another thread, which has opened the file to find that it cannot have the lock.
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) and _holds(fd):
                return fd
        except OSError:
            continue  # it was closed since: by another thread, or the one of the listing itself
    raise GitopsdError(f"lock {path}: its file was removed while it was taken; try again")


def _holds(fd: int) -> bool:
    """Source: proc_pid_fdinfo(5)."""
    return "\nlock:" in Path(f"/proc/self/fdinfo/{fd}").read_text()
