"""Whether the policies of a repo can be what they were meant to be."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from gitopsd import runner
from gitopsd.cli.places import may_read, may_write, mirror_of, user_called
from gitopsd.config import releases_of
from gitopsd.settings import Config, Repo


def of_way_back(repo: Repo) -> str | None:
    """Why `rollback` is of no use to `repo`, or None."""
    if not repo.rollback or repo.deploy or repo.compose or repo.units or repo.health:
        return None
    return "rollback: nothing can fail after a revision was put in place; add deploy, compose, units or health"


def of_signers(config: Config, repo: Repo, *, in_unit: bool) -> Iterator[tuple[str, str | None]]:
    """The file that says who may sign, and what is wrong with it, if anything is. Raises GitopsdError."""
    key = {"ssh": "allowed_signers", "gpg": "keyring"}.get(repo.verify)
    if key is None:
        return
    file = Path(getattr(repo, key))
    try:
        yield f"{key} {file}", _of_file(file, _written_by_sync(config, repo), *_rights(repo, in_unit=in_unit))
    except OSError as error:
        yield f"{key} {file}", f"cannot be looked at: {error.strerror}"


Right = Callable[[Path], bool]


def _rights(repo: Repo, *, in_unit: bool) -> tuple[str, Right, Right]:
    """As whom the sync runs, whether that user may read a file, and whether he may write it."""
    if not in_unit:
        # Of root, who may write everything, there is nothing to be said.
        is_root = os.geteuid() == 0
        return "this user", lambda path: os.access(path, os.R_OK), lambda path: not is_root and os.access(path, os.W_OK)
    user = user_called(runner.rights_of(runner.unit_of(repo.name)).user)
    if user is None or user.pw_uid == 0:  # that there is none stands beside the path
        return "root", lambda _: True, lambda _: False
    return user.pw_name, lambda path: may_read(user, path), lambda path: may_write(user, path)


def _written_by_sync(config: Config, repo: Repo) -> tuple[Path, ...]:
    of_release = (releases_of(repo.path), mirror_of(config, repo)) if repo.strategy == "release" else ()
    return tuple(Path(os.path.realpath(place)) for place in (repo.path, *of_release))


def _of_file(file: Path, written: tuple[Path, ...], user: str, may_be_read: Right, may_be_written: Right) -> str | None:
    place = Path(os.path.realpath(file))
    if not os.path.exists(place):
        return "is not there"
    if not os.path.isfile(place):
        return "is not a file"
    if any(place.is_relative_to(each) for each in written):
        return "lies where the sync writes, so a commit could bring its own; put it elsewhere, for root to write"
    if not may_be_read(place):
        return f"cannot be read by {user}, as whom the sync runs"
    for each in (place, *place.parents):
        is_shared = each.stat().st_mode & stat.S_ISVTX  # as /tmp, where nobody can replace what is another's
        if not is_shared and may_be_written(each):
            return f"{each} can be written by {user}, and so by what is deployed; let it be for root alone to write"
    return None
