"""The repos: those that the configuration names, and the opted-in checkouts below its roots."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitopsd import process
from gitopsd.errors import GitopsdError
from gitopsd.model import Config, Repo

OPT_IN_FILE = ".gitops"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_GIT_SEC = 10.0
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}  # ours may hold webhook secrets


@dataclass(frozen=True)
class Found:
    """The repos by name, and one line for each checkout below a root that opted in and yet cannot be one."""

    repos: Mapping[str, Repo] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def find_repos(config: Config) -> Found:
    """Every repo. What `config` names comes first: a checkout below a root that has its path or name is left to it."""
    repos = dict(config.repos)
    named_paths = {os.path.normpath(repo.path) for repo in config.repos.values()}
    problems = []
    for root in config.roots:
        for path in sorted(path.parent for path in root.glob(f"*/{OPT_IN_FILE}")):
            if os.path.normpath(path) in named_paths:
                continue
            try:
                repo = _read_checkout(path)
                if repo.name in repos:
                    raise GitopsdError(f"the name '{repo.name}' is taken by {repos[repo.name].path}")
                repos[repo.name] = repo
            except GitopsdError as error:
                problems.append(f"{path}: opted in, but no repo: {error}")
    return Found(repos, tuple(problems))


def find_repo(config: Config, name: str) -> Repo:
    """The repo called `name`. Raises GitopsdError if there is none."""
    if name in config.repos:
        return config.repos[name]
    repos = find_repos(config).repos
    if name not in repos:
        known = f"known: {', '.join(repos)}" if repos else "none is configured"
        raise GitopsdError(f"there is no repo '{name}' in the configuration; {known}")
    return repos[name]


def _read_checkout(path: Path) -> Repo:
    """The repo that stands at `path`, as its own git configuration says. Its name is the directory's, in lower case."""
    name = path.name.lower()
    if not _NAME.fullmatch(name):
        raise GitopsdError(f"'{path.name}' is no name for a repo; name it under repos: in the configuration")
    git_dir = path / ".git"
    if not git_dir.is_dir():
        raise GitopsdError("it is not a git checkout of its own (no .git directory)")
    # Reading the file, not asking the repository: git refuses to speak about a checkout that another user owns.
    argv = ("git", "config", "--file", str(git_dir / "config"), "--get", "remote.origin.url")
    ended, url = process.output_of(argv, environment=_ENVIRONMENT, timeout_sec=_GIT_SEC)
    if ended.exit_code != 0 or not url.strip():
        raise GitopsdError("it has no remote 'origin'")
    try:
        head = (git_dir / "HEAD").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise GitopsdError("its .git/HEAD cannot be read") from error
    if not head.startswith("ref: refs/heads/"):
        raise GitopsdError("it is not on a branch")
    ref = head.removeprefix("ref: refs/heads/")
    return Repo(name=name, url=url.strip(), ref=ref, path=path, opted_in_by_file=True)
