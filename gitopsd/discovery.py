"""The repos: those that the configuration names, and the opted-in checkouts below its roots."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from gitopsd import modes, process
from gitopsd.config import has_credentials, releases_of
from gitopsd.errors import GitopsdError
from gitopsd.settings import Config, Repo

OPT_IN_FILE = ".gitops"

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_GIT_SEC = 10.0
_HEAD_BYTES = 4096
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}  # ours may hold webhook secrets

Origins = dict[Path, tuple[tuple[int, ...], str]]
"""Where checkouts came from when they were read, each with the stamp of the file that said so."""


class Found(NamedTuple):
    """The repos by name, and what is wrong with what is none: by the name it would have, or by the root."""

    repos: Mapping[str, Repo] = MappingProxyType({})
    problems: Mapping[str, str] = MappingProxyType({})


def find_repos(config: Config, origins: Origins | None = None) -> Found:
    """Every repo. What `config` names comes first: a checkout below a root that has its path or name is left to it.

    Who looks often keeps `origins`: a git process for each checkout takes long, and is then spared where the checkout's
    git configuration is the one that was read before.
    """
    origins = {} if origins is None else origins
    repos = dict(config.repos)
    places = {os.path.realpath(repo.path) for repo in config.repos.values() if repo.url}  # a command takes no place
    releases = [releases_of(repo.path) for repo in config.repos.values() if repo.strategy == "release"]
    trees = [Path(os.path.realpath(directory)) for directory in releases]
    problems = {}
    for root in config.roots:
        if not os.path.isdir(root) or not os.access(root, os.R_OK | os.X_OK):
            problems[str(root)] = f"roots: {root} is not a directory that this user may enter; make it, or take it out"
        for path in _opted_in(root):
            place, name = os.path.realpath(path), path.name.lower()
            if place in places or any(Path(place).is_relative_to(tree) for tree in trees):
                continue
            try:
                if name in repos:
                    raise GitopsdError(f"the name '{name}' is taken by {repos[name].path}")
                repos[name] = _read_checkout(path, origins)
                places.add(place)
            except GitopsdError as error:
                said = f"{path}: opted in, but no repo: {error}"
                problems[name] = f"{problems[name]}; {said}" if name in problems else said
    return Found(repos, problems)


def find_repo(config: Config, name: str) -> Repo:
    """The repo called `name`. Raises GitopsdError if there is none, with the reason if it is known."""
    if name in config.repos:
        return config.repos[name]
    found = find_repos(config)
    if name in found.repos:
        return found.repos[name]
    known = f"known: {', '.join(found.repos)}" if found.repos else "none is configured"
    roots = [problem for root, problem in found.problems.items() if root in map(str, config.roots)]
    missing = "; ".join([f"there is no repo '{name}' in the configuration; {known}", *roots])
    raise GitopsdError(found.problems.get(name) or missing)


def _opted_in(root: Path) -> Iterator[Path]:
    try:
        checkouts = [path for path in root.iterdir() if os.path.lexists(path / OPT_IN_FILE)]
        yield from sorted(checkouts, key=lambda path: (path.is_symlink(), path))  # a link to one of them is none more
    except OSError:
        return  # find_repos says so


def _read_checkout(path: Path, origins: Origins) -> Repo:
    """The repo that stands at `path`, as its own git configuration says. Its name is the directory's, in lower case."""
    name = path.name.lower()
    if not NAME.fullmatch(name):
        raise GitopsdError(f"'{path.name}' is no name for a repo; name it under repos: in the configuration")
    git_dir = path / ".git"
    if not os.path.isdir(git_dir):
        raise GitopsdError("it is not a git checkout of its own (no .git directory)")
    stamp = _stamp(git_dir / "config")
    if not stamp:
        raise GitopsdError("its .git/config is not a file")
    url = _origin(path, stamp, origins)
    if not url:
        raise GitopsdError("it has no remote 'origin'")
    if has_credentials(url):
        raise GitopsdError("the URL of its origin holds credentials; use an ssh key or a git credential helper")
    return Repo(name=name, url=url, ref=_branch(git_dir), path=path, opted_in_by_file=True)


def _stamp(path: Path) -> tuple[int, ...]:
    """What differs once the file at `path` was written, replaced or opened to us; () if it is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    if not stat.S_ISREG(found.st_mode):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _origin(path: Path, stamp: tuple[int, ...], origins: Origins) -> str:
    """As origin_of; git is asked only if `origins` does not have it by this stamp."""
    known, url = origins.get(path, ((), ""))
    if known == stamp:
        return url
    answer = _ask_origin(path)
    if answer is not None:  # what gave no answer may give one the next time
        origins[path] = stamp, answer
    return answer or ""


def origin_of(path: Path) -> str:
    """Where the checkout at `path` comes from, as its own git configuration says; "" if it does not."""
    return _ask_origin(path) or ""


def _ask_origin(path: Path) -> str | None:
    """As origin_of; None if git could not say."""
    # Reading the file, not asking the repository: git refuses to speak about a checkout that another user owns.
    argv = ("git", "config", "--file", str(path / ".git" / "config"), "--get", "remote.origin.url")
    ended, url = process.output_of(argv, environment=_ENVIRONMENT, timeout_sec=_GIT_SEC)
    return url.strip() if ended.exit_code in (0, 1) else None  # 1: it has none


def _branch(git_dir: Path) -> str:
    """The branch that the checkout is on."""
    try:
        head = modes.read_file(git_dir / "HEAD", _HEAD_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise GitopsdError("its .git/HEAD cannot be read") from error
    if not head.startswith("ref: refs/heads/"):
        raise GitopsdError("it is not on a branch")
    return head.removeprefix("ref: refs/heads/")
