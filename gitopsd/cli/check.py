"""`gitopsd check`: everything that would keep a push from being deployed, before the push."""

import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from gitopsd import config as configuration
from gitopsd import poll, runner, systemd
from gitopsd.cli import keys, notify, terminal
from gitopsd.cli.exits import EXIT_CONFIG, EXIT_DONE
from gitopsd.cli.places import as_unit, directory_of, is_empty, leads_to_release, mirror_of, problem_for_unit
from gitopsd.cli.policies import of_signers, of_way_back
from gitopsd.cli.problems import of_credential, of_rules
from gitopsd.discovery import find_repos, origin_of
from gitopsd.errors import ConfigError, GitopsdError, StoreError
from gitopsd.remotes import normalise_url
from gitopsd.settings import Config, Repo
from gitopsd.store import Store, path_in

_GIT_CONFIG = Path("/var/lib/gitopsd-sync/.gitconfig")
_DUBIOUS = re.compile("dubious ownership in repository at '(.+)'")


class Finding(NamedTuple):
    """One thing looked at. `problem` is None where it is well."""

    subject: str
    problem: str | None = None


def check(config_path: Path, *, offline: bool, as_json: bool) -> int:
    """Look at everything and print what was found."""
    out = Console(quiet=True) if as_json else terminal.console()
    try:
        with terminal.waiting(out, "asking the remotes"):
            findings = _look(configuration.load(config_path), offline=offline)
    except ConfigError as error:
        findings = [Finding("configuration", problem) for problem in error.problems]
    bad = [finding for finding in findings if finding.problem]
    if as_json:
        terminal.print_json(
            {"ok": not bad, "findings": [{"subject": each.subject, "problem": each.problem} for each in findings]}
        )
    for finding in findings:
        show(out, finding)
    return EXIT_CONFIG if bad else EXIT_DONE


def ask(config: Config, repos: Iterable[Repo], *, in_unit: bool) -> list[poll.Tip]:
    """What the remotes of `repos` say to those who sync them."""
    secrets = configuration.secret_names(config)
    return poll.ask(repos, secrets, as_unit) if in_unit else poll.ask(repos, secrets)


def of_tip(tip: poll.Tip, *, in_unit: bool) -> Finding:
    """Whether a sync can reach its remote."""
    found = f" ({tip.tag})" if tip.tag else ""
    subject = f"{tip.repo.name}: remote {tip.repo.url} {tip.repo.ref}{found}"
    return Finding(subject, _with_remedy(tip, in_unit=in_unit) or None)


def show(out: Console, finding: Finding) -> None:
    """Print one line on `finding`."""
    mark = Text("✗ ", style="bold red") if finding.problem else Text("✓ ", style="green")
    subject = f"{finding.subject}: " if finding.problem else finding.subject
    out.print(Text.assemble(mark, terminal.plain(subject), terminal.plain(finding.problem or "")))


def _look(config: Config, *, offline: bool) -> list[Finding]:
    found = find_repos(config)
    findings = [Finding(f"configuration {config.source}: repos {', '.join(found.repos) or '(none)'}")]
    findings += [Finding("roots", problem.removeprefix("roots: ")) for problem in found.problems.values()]
    try:
        units = runner.uses_units(config)
    except GitopsdError as error:
        units = False
        findings.append(Finding("runner", str(error).removeprefix("runner: ")))
    findings += _secrets(config, in_unit=units)
    findings += [Finding(f"receiver '{name}'", problem) for name, problem in of_rules(config, found.repos)]
    findings += [
        Finding(f"{repo.name}: no receiver names it, so nothing but gitopsd sync runs its command")
        for repo in found.repos.values()
        if not repo.url
        and not repo.images
        and not any(repo.name in (each.repos or ()) for each in config.receivers.values())
    ]
    findings += [
        Finding(repo.name, "images: there is no 'deploy' for them to run")
        for repo in found.repos.values()
        if repo.images and not repo.deploy
    ]
    findings += [
        Finding(repo.name, problem) for repo in found.repos.values() if (problem := of_way_back(repo)) is not None
    ]
    if units and os.geteuid() != 0:
        return [
            *findings,
            Finding("places and remotes", "only root can look at them as syncs do; run: sudo gitopsd check"),
        ]
    findings += [Finding(subject, problem or None) for subject, problem in notify.look(config)]
    findings += _places(config)
    findings += [of_path(config, repo, in_unit=units) for repo in found.repos.values()]
    findings += [
        Finding(f"{repo.name}: {subject}", problem)
        for repo in found.repos.values()
        for subject, problem in of_signers(config, repo, in_unit=units)
    ]
    if not offline:
        findings += [of_tip(tip, in_unit=units) for tip in ask(config, found.repos.values(), in_unit=units)]
    return findings


def _secrets(config: Config, *, in_unit: bool) -> Iterator[Finding]:
    for receiver in config.receivers.values():
        for name in receiver.secrets:
            _, problem = systemd.secret(name, os.environ)
            if problem and in_unit:
                problem = of_credential(name, is_first=name == receiver.secrets[0])
            subject = f"receiver '{receiver.name}'"
            rotation = " (it is being rotated; see gitopsd init --finish)" if _is_rotated(name) else ""
            yield Finding(subject, problem) if problem else Finding(f"{subject}: secret '{name}'{rotation}")


def _is_rotated(name: str) -> bool:
    return os.path.exists(systemd.SECRETS_DIRECTORY / f"{name}{systemd.NEXT}")


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


def of_path(config: Config, repo: Repo, *, in_unit: bool) -> Finding:
    """Whether a sync of `repo` may write its checkout, or run its command where that is to run."""
    subject = f"{repo.name}: path {repo.path}"
    if not repo.url:  # nothing is written there by us
        return Finding(subject, None if os.path.isdir(repo.path) else "is not a directory; make it")
    if in_unit and (problem := problem_for_unit(config, repo)):
        return Finding(subject, problem)
    if problem := _of_symlink(repo):
        return Finding(subject, problem)
    if repo.strategy == "release":
        finding = _writable(subject, directory_of(repo))
        return finding if finding.problem else _writable(subject, mirror_of(config, repo))
    if os.path.exists(repo.path / ".git") or not os.path.lexists(repo.path):
        problem = _of_origin(repo)
        return Finding(subject, problem) if problem else _writable(subject, repo.path)
    if not os.path.isdir(repo.path):
        return Finding(subject, "is not a directory")
    try:
        empty = not any(repo.path.iterdir())
    except OSError as error:
        return Finding(subject, f"cannot be read: {error.strerror}")
    return _writable(subject, repo.path) if empty else Finding(subject, "is neither empty nor a git checkout")


def _of_symlink(repo: Repo) -> str:
    """What is wrong with what is at the path, as a symlink to a release has to be there, or must not be; or ""."""
    path, then = repo.path, f"then: gitopsd sync {repo.name}"
    if repo.strategy != "release":
        return f"leads to a release; remove that symlink, {then}" if leads_to_release(path) else ""
    if leads_to_release(path) or is_empty(path) or not os.path.lexists(path):
        return ""
    if path.is_symlink():
        return f"leads to {path.readlink()}, which is no release of it; remove that symlink, {then}"
    kind = "directory" if os.path.isdir(path) else "file"
    return f"is a {kind}, and is to be a symlink; move it away, {then}"


def _of_origin(repo: Repo) -> str:
    """What is wrong with where the checkout comes from: its sync would be refused. "" if nothing is."""
    origin = origin_of(repo.path)
    # The hosts may be two names of one (an alias of ssh, or of git itself); the rest is not.
    if not origin or normalise_url(origin).partition("/")[2] == normalise_url(repo.url).partition("/")[2]:
        return ""
    return f"its origin is {origin}, and url is {repo.url}; git -C {repo.path} remote set-url origin {repo.url}"


def _writable(subject: str, path: Path) -> Finding:
    """Whether `path`, or the nearest directory above it that exists, can be written."""
    nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK):
        return Finding(subject)
    return Finding(
        subject, f"{nearest} cannot be written by this user" if os.path.isdir(nearest) else f"{nearest} is a file"
    )


def _with_remedy(tip: poll.Tip, *, in_unit: bool) -> str:
    """The problem of a remote, with what mends those that every newcomer meets."""
    key = systemd.KEYS_DIRECTORY / tip.repo.name
    if "Host key verification failed" in tip.problem and (host := keys.host_of(tip.repo.url)):
        return f"{tip.problem} run: {keys.how_to_know(host)}"
    if dubious := _DUBIOUS.search(tip.problem):
        where = f"--file {_GIT_CONFIG}" if in_unit else "--global"
        return f"{tip.problem}; run: git config {where} --add safe.directory {shlex.quote(dubious[1])}"
    if "Permission denied" in tip.problem and in_unit and not key.exists():
        return f"{tip.problem} there is no key for it: {key} (root, 0600)"
    if "could not read Username" in tip.problem:
        return f"{tip.problem} (name a credential helper in {_GIT_CONFIG}, or take the ssh URL and a deploy key)"
    return tip.problem
