"""`gitopsd remove`: take a repo out of the configuration again."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import files, holds, lock, runner
from gitopsd.cli import keys, places, terminal
from gitopsd.cli.exits import EXIT_DONE, EXIT_USAGE
from gitopsd.config import releases_of
from gitopsd.discovery import find_repo, find_repos
from gitopsd.errors import GitopsdError
from gitopsd.settings import Config, Repo


def remove(config_path: Path, name: str, *, yes: bool) -> int:
    """Remove the file and the deploy key of a repo, once a person says yes. Its checkout, history and logs stay.

    A directory in which nothing is yet, as `gitopsd add` makes it, is no checkout and goes too.
    """
    config = configuration.load(config_path)
    in_unit = runner.uses_units(config)
    if in_unit and os.geteuid() != 0:
        raise GitopsdError(f"only root may change the configuration; run: sudo gitopsd remove {name}")
    repo = find_repo(config, name)
    if repo.opted_in_by_file:
        raise GitopsdError(f"{name} is a repo because of {repo.path}/.gitops; remove that file")
    key = keys.path_of(name)
    wanted = [_file(config_path, name), *([key] if in_unit else [])]
    gone = [path for path in wanted if path.exists()]

    directory = _made_for(repo)
    is_empty = places.is_empty(directory)
    print(f"To be removed: {', '.join([*map(str, gone), *([f'{directory} (empty)'] if is_empty else [])])}")
    print(f"Stays: {', '.join([*_what_stays(config, repo), 'the history and the logs'])}")
    if not yes and not sys.stdin.isatty():
        print(f"gitopsd remove {name}: there is no terminal to ask at; give --yes", file=sys.stderr)
        return EXIT_USAGE
    if not yes and not terminal.ask(f"Remove {name}?"):
        print("Nothing was removed.")
        return EXIT_DONE
    files.remove(*gone)
    if in_unit:
        runner.reload_daemon()
    print(f"{name} is removed.")
    if not lock.is_free(config.state_dir, name):
        print("A sync of it runs: that, and what is queued behind it, goes on to its end.")
    elif is_empty:
        with contextlib.suppress(OSError):  # it is in use, or somebody has put something into it
            directory.rmdir()
    if name in find_repos(configuration.load(config_path)).repos:
        print(f"But it goes on to be a repo, as it has a file {repo.path}/.gitops below one of the roots.")
    else:
        holds.remove(config.state_dir, name)  # another repo of that name is not held
    if key in gone:
        print(f"Its deploy key can go, too: {keys.where_listed(repo.url)}")
    return EXIT_DONE


def _made_for(repo: Repo) -> Path:
    """The directory that is for this repo alone: around its symlink, if that is called like the repo."""
    directory = places.directory_of(repo)
    return directory if directory.name == repo.name else repo.path


def _what_stays(config: Config, repo: Repo) -> Iterator[str]:
    """What has come of the repo and is left alone."""
    if repo.strategy == "release":
        trees, mirror = releases_of(repo.path), places.mirror_of(config, repo)
        if os.path.lexists(trees):
            yield f"the releases in {trees} with the symlink {repo.path}"
        if os.path.lexists(mirror) and not places.is_empty(mirror):
            yield f"the mirror {mirror}"
    elif os.path.lexists(repo.path) and not places.is_empty(repo.path):
        yield f"the checkout {repo.path}"


def _file(config_path: Path, name: str) -> Path:
    """The file that is for this repo alone. Raises GitopsdError if it holds anything else."""
    file, is_alone = configuration.file_of(config_path, name)
    if file is None:
        raise GitopsdError(f"no file of the configuration names {name}")
    if not is_alone or file == config_path:
        raise GitopsdError(
            f"{file} holds more than {name}; take repos.{name} out there, then: systemctl reload gitopsd"
        )
    return file
