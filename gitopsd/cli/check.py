"""`gitopsd check`: everything that would keep a push from being deployed, before the push."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gitopsd import config as configuration
from gitopsd import poll, runner, systemd
from gitopsd.cli import terminal
from gitopsd.cli.exits import EXIT_CONFIG, EXIT_DONE
from gitopsd.cli.places import problem_for_unit
from gitopsd.discovery import find_repos
from gitopsd.errors import ConfigError, StoreError
from gitopsd.model import Config, Repo
from gitopsd.store import Store, path_in


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `problem` is None where it is well."""

    subject: str
    problem: str | None = None


def check(config_path: Path, *, offline: bool, as_json: bool) -> int:
    """Look at everything and print what was found."""
    out = Console(quiet=True) if as_json else terminal.console()
    waiting: AbstractContextManager[Any] = out.status("asking the remotes") if out.is_terminal else nullcontext()
    try:
        with waiting:
            findings = _look(configuration.load(config_path), offline=offline)
    except ConfigError as error:
        findings = [Finding("configuration", problem) for problem in error.problems]
    bad = [finding for finding in findings if finding.problem]
    if as_json:
        terminal.print_json(
            {"ok": not bad, "findings": [{"subject": each.subject, "problem": each.problem} for each in findings]}
        )
    for finding in findings:
        mark = Text("✗ ", style="bold red") if finding.problem else Text("✓ ", style="green")
        subject = f"{finding.subject}: " if finding.problem else finding.subject
        out.print(Text.assemble(mark, terminal.plain(subject), terminal.plain(finding.problem or "")))
    return EXIT_CONFIG if bad else EXIT_DONE


def _look(config: Config, *, offline: bool) -> list[Finding]:
    found = find_repos(config)
    findings = [Finding(f"configuration {config.source}: repos {', '.join(found.repos) or '(none)'}")]
    findings += [Finding("roots", problem.removeprefix("roots: ")) for problem in found.problems.values()]
    findings += _secrets(config)
    findings += _places(config)
    units = runner.uses_units(config)
    findings += [_path(repo, in_unit=units) for repo in found.repos.values()]
    if not offline:
        findings += _remotes(config, found.repos.values())
    return findings


def _secrets(config: Config) -> Iterator[Finding]:
    units = runner.uses_units(config)
    for receiver in config.receivers.values():
        for name in receiver.secrets:
            _, problem = systemd.secret(name, os.environ)
            if problem and units:
                problem = _problem_of_credential(name)
            subject = f"receiver '{receiver.name}'"
            yield Finding(subject, problem) if problem else Finding(f"{subject}: secret '{name}'")


def _problem_of_credential(name: str) -> str:
    """What is wrong with a secret that gitopsd.service loads; "" if nothing is."""
    path = systemd.SECRETS_DIRECTORY / name
    try:
        if path.read_bytes().strip():
            return ""
        return f"secret '{name}' is empty ({path})"
    except PermissionError:
        return f"secret '{name}' cannot be looked at by this user ({path}); run this as root"
    except OSError as error:
        if name in runner.credentials_of_daemon():
            return ""
        return f"secret '{name}' cannot be read ({path}: {error.strerror}); write it there, for root alone"


def _places(config: Config) -> Iterator[Finding]:
    path = path_in(config.state_dir)
    if not os.path.lexists(path):
        yield _writable(f"state_dir {config.state_dir}", config.state_dir)  # a look makes nothing
    else:
        try:
            Store(path, time.time).probe()
            yield Finding(f"store {path}")
        except StoreError as error:
            yield Finding(f"store {path}", str(error).removeprefix(f"store {path}: "))
    executable = config.engine.is_file() and os.access(config.engine, os.X_OK)
    yield Finding(f"engine {config.engine}", None if executable else "is not an executable file")


def _path(repo: Repo, *, in_unit: bool) -> Finding:
    subject = f"{repo.name}: path {repo.path}"
    if in_unit and (problem := problem_for_unit(repo)):
        return Finding(subject, problem)
    if os.path.exists(repo.path / ".git") or not os.path.lexists(repo.path):
        return _writable(subject, repo.path)
    if not os.path.isdir(repo.path):
        return Finding(subject, "is not a directory")
    try:
        empty = not any(repo.path.iterdir())
    except OSError as error:
        return Finding(subject, f"cannot be read: {error.strerror}")
    return _writable(subject, repo.path) if empty else Finding(subject, "is neither empty nor a git checkout")


def _writable(subject: str, path: Path) -> Finding:
    """Whether `path`, or the nearest directory above it that exists, can be written."""
    nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK):
        return Finding(subject)
    return Finding(
        subject, f"{nearest} cannot be written by this user" if os.path.isdir(nearest) else f"{nearest} is a file"
    )


def _remotes(config: Config, repos: Iterable[Repo]) -> list[Finding]:
    secrets = {name for receiver in config.receivers.values() for name in receiver.secrets}
    return [
        Finding(f"{tip.repo.name}: remote {tip.repo.url} {tip.repo.ref}", tip.problem or None)
        for tip in poll.ask(repos, secrets)
    ]
