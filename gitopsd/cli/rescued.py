"""`gitopsd rescued`: the work that syncs found in the way of a repo, and have saved."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gitopsd import config as configuration
from gitopsd import process
from gitopsd.cli import terminal
from gitopsd.cli.exits import EXIT_DONE
from gitopsd.cli.places import mirror_of
from gitopsd.discovery import find_repo
from gitopsd.errors import GitopsdError
from gitopsd.settings import Config, Repo

_REFS = "refs/gitopsd/rescue/"
_GIT_SEC = 20.0
_FEW = 5
_TIME = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})")


class Rescued(NamedTuple):
    """One commit of saved work: when in UTC, why, and the files that it has otherwise than the commit before."""

    ref: str
    at: str
    why: str
    files: tuple[str, ...]


def rescued(config_path: Path, name: str, *, as_json: bool) -> int:
    """List what was saved of the repo `name`, the newest first, and how it is taken back."""
    config = configuration.load(config_path)
    repo = find_repo(config, name)
    place = _place(config, repo)
    with _opened(place) as directory_fd:
        found = [] if directory_fd is None else _find(directory_fd)
    if as_json:
        saved = [{"ref": each.ref, "at": each.at, "why": each.why, "files": list(each.files)} for each in found]
        terminal.print_json({"repo": name, "repository": str(place), "rescued": saved})
        return EXIT_DONE
    if not found:
        print(f"nothing of {name} has been saved")
        return EXIT_DONE
    out = terminal.console()
    rows = [(each.at, each.ref.removeprefix(_REFS), _few(each.files), each.why) for each in found]
    terminal.print_table(out, ("WHEN", "NAME", "FILES", "WHY"), rows)
    ref = found[0].ref
    print(f"to look at the newest: git -C {place} show --stat -p {ref}")
    print(f"to take a file out of it: git -C {place} show {ref}:FILE > FILE")
    return EXIT_DONE


def _place(config: Config, repo: Repo) -> Path:
    """The repository that has the refs."""
    if not repo.url:
        raise GitopsdError(f"{repo.name} has no git (strategy: none), so nothing is saved of it")
    return mirror_of(config, repo) if repo.strategy == "release" else repo.path


def _find(directory_fd: int) -> list[Rescued]:
    wanted = "--format=%(refname)%09%(contents:subject)"
    lines = _git(directory_fd, "for-each-ref", "--sort=-refname", wanted, _REFS).splitlines()
    found = []
    for ref, _, why in (line.partition("\t") for line in lines):
        # Of one with the index as its second parent, too, what differs from the first.
        files = _git(directory_fd, "log", "-1", "-m", "--first-parent", "--format=", "--name-only", "-z", ref)
        when = _TIME.search(ref)
        at = "{}-{}-{}T{}:{}:{}Z".format(*when.groups()) if when else "-"
        found.append(Rescued(ref=ref, at=at, why=why, files=tuple(filter(None, files.split("\0")))))
    return found


def _git(directory_fd: int, *arguments: str) -> str:
    """Ask git, as the owner of the repository that is open as `directory_fd`. Raises GitopsdError.

    What is in a repository may have git run commands, so nobody else is to run those: root becomes its owner, and of
    others git itself refuses to look.
    """
    argv = (*_as_owner(directory_fd), "git", "-C", f"/proc/self/fd/{directory_fd}", *arguments)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}  # ours may hold secrets
    ended, text = process.output_of(argv, environment=environment, timeout_sec=_GIT_SEC, keep_fds=(directory_fd,))
    if ended.exit_code != 0:
        why = next(iter(text.splitlines()), "git did not say why")
        raise GitopsdError(f"{why}; run this with sudo, or as the owner of the repository")
    return text


def _as_owner(directory_fd: int) -> Sequence[str]:
    owner = os.fstat(directory_fd)
    if os.geteuid() != 0 or owner.st_uid == 0:
        return ()
    return ("setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups", "--")


@contextmanager
def _opened(place: Path) -> Iterator[int | None]:
    """A descriptor of the directory, so that nobody puts another in its place; None where there is none."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise GitopsdError(f"{place}: {error.strerror}; run this with sudo") from error
    try:
        yield fd
    finally:
        os.close(fd)


def _few(files: Sequence[str]) -> str:
    more = f" and {len(files) - _FEW} more" if len(files) > _FEW else ""
    return f"{', '.join(files[:_FEW]) or '-'}{more}"
