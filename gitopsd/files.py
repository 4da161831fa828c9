"""Files that commands write: each is there as a whole, or not at all."""

import contextlib
import os
from pathlib import Path


def write(path: Path, text: str, *, mode: int, replace: bool = False) -> None:
    """Make `path`, of root with `mode`. Raises FileExistsError unless one that is there is to be replaced, OSError."""
    import tempfile  # noqa: PLC0415 - each sync imports this module, and writes no file by it

    fd, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(fd, mode)
            file.flush()
            os.fsync(fd)
        if replace:
            draft.replace(path)
        else:
            os.link(draft, path)  # unlike a rename it never takes the place of a file
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)


def remove(*paths: Path) -> None:
    """Remove what is there of `paths`. Raises OSError."""
    for path in paths:
        path.unlink(missing_ok=True)
    for directory in {path.parent for path in paths}:
        with contextlib.suppress(FileNotFoundError):
            sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """See to it that a power cut does not undo what was done in `directory`. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
