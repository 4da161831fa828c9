"""Rights in the state directory: what is made there is shared as the directory around it is."""

import errno
import os
import stat
from pathlib import Path

_PRIVATE_DIRECTORY = 0o750
_PRIVATE_FILE = 0o640


def make_directory(path: Path) -> None:
    """Make `path` and what is missing above it; one that is there stays as it is. Raises OSError.

    In a directory with the setgid bit, which is how several users share one, it gets that directory's rights.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    mode = stat.S_IMODE(path.parent.stat().st_mode)
    wanted = mode & 0o777 if mode & stat.S_ISGID else _PRIVATE_DIRECTORY
    # Not by chmod: that would clear the setgid bit, and a sandbox (RestrictSUIDSGID=) lets nobody put it back.
    before = os.umask(~wanted & 0o777)
    try:
        path.mkdir(exist_ok=True)
    finally:
        os.umask(before)


def open_file(path: Path, flags: int) -> int:
    """A descriptor of the file at `path`, made if it is missing. Never follows a link. Raises OSError."""
    fd = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        share(fd, path.parent)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_file(path: Path | str, limit: int = -1, offset: int = 0) -> bytes:
    """At most `limit` bytes from `offset` on of a file that somebody else may have written.

    Follows no link, waits for no pipe. Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    with os.fdopen(fd, "rb") as file:
        file.seek(offset)
        return file.read(limit)


def share(fd: int, directory: Path) -> None:
    """Give an open file of ours the rights of `directory`, where it lies. Raises OSError."""
    wanted = mode_of_file(directory)
    found = os.fstat(fd)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != wanted:
        os.fchmod(fd, wanted)


def mode_of_file(directory: Path) -> int:
    """The rights of a file that is made in `directory`. Raises OSError."""
    mode = stat.S_IMODE(directory.stat().st_mode)
    return mode & 0o666 if mode & stat.S_ISGID else mode & _PRIVATE_FILE
