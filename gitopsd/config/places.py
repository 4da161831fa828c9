"""Where repos stand: no two in one place, and none among the trees of another."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gitopsd.config.files import ConfigFile


def releases_of(path: Path) -> Path:
    """The directory of the trees, to one of which the symlink `path` leads with the strategy `release`."""
    return path.parent / f".{path.name}.releases"


class _Place(NamedTuple):
    """Where a repo stands: `names` are all of that one place. `trees` is where its releases are, if it has any."""

    file: ConfigFile
    repo: str
    path: str
    names: frozenset[str]
    trees: Path | None

    def problem(self, text: str) -> str:
        return self.file.problem(("repos", self.repo, "path"), f"{self.path} {text}")


def place_problems(files: Iterable[ConfigFile]) -> Iterator[str]:
    """A line for each path that is another repo's too, or that cannot be a symlink where it has to be one."""
    places: list[_Place] = []
    for file in files:
        for name, entry in file.section("repos").items():
            with contextlib.suppress(ValueError):  # a zero byte; the schema says so
                places += _places(file, name, entry if isinstance(entry, dict) else {})
    for place in places:
        if place.trees and Path(place.path).name in ("", ".."):
            yield place.problem(f"can be no symlink; take one such as /srv/{place.repo}/current")
    yield from _shared(places)
    yield from _among_trees(places)


def project_problems(files: Iterable[ConfigFile]) -> Iterator[str]:
    """A line for each repo whose services docker compose would take for those of another."""
    owners: dict[str, str] = {}
    for file in files:
        for name, entry in file.section("repos").items():
            project = project_of(name)
            if isinstance(entry, dict) and "compose" in entry and owners.setdefault(project, name) != name:
                text = f"repo '{owners[project]}' is the project '{project}' of docker compose too; call one otherwise"
                yield file.problem(("repos", name, "compose"), text)


def project_of(repo: str) -> str:
    """What docker compose calls the services of a repo; the engine says so too."""
    return repo.replace(".", "-")


def _places(file: ConfigFile, repo: str, entry: dict[str, Any]) -> Iterator[_Place]:
    """The place of a repo. A command alone has none: it may run where it likes."""
    path, strategy = entry.get("path"), entry.get("strategy")
    if not isinstance(path, str) or strategy == "none":
        return
    itself = Path(os.path.realpath(Path(path).parent)) / Path(path).name
    if strategy == "release":  # where its symlink leads to is another tree each time
        yield _Place(file, repo, path, frozenset([str(itself)]), releases_of(itself))
    else:
        yield _Place(file, repo, path, frozenset([str(itself), os.path.realpath(path)]), None)


def _shared(places: Iterable[_Place]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for place in places:
        others = [owners[name] for name in place.names if owners.get(name, place.repo) != place.repo]
        if others:
            yield place.problem(f"is the path of repo '{others[0]}' too")
        owners = dict.fromkeys(place.names, place.repo) | owners


def _among_trees(places: Sequence[_Place]) -> Iterator[str]:
    trees = [(place.trees, place.repo) for place in places if place.trees]
    for place in places:
        for directory, owner in trees:
            if any(Path(name).is_relative_to(directory) for name in place.names):
                yield place.problem(f"is in {directory}, where the releases of repo '{owner}' are")
