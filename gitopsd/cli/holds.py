"""`gitopsd hold`, `resume` and `rollback`: leave a repo as it is, let it go on, or take it back and leave it there."""

import os
import pwd
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import holds, lock
from gitopsd.cli import exits, sync, terminal
from gitopsd.discovery import find_repo
from gitopsd.errors import GitopsdError
from gitopsd.model import DONE, Hold, Job, JobState, Trigger
from gitopsd.references import is_revision
from gitopsd.settings import Config, Repo
from gitopsd.store import Store, path_in

_PREFIX = re.compile(r"[0-9a-f]{4,64}")
_LOOK_BACK = 100_000
_GOES_LIVE = {"activate", "deploy"}
_GOES_BACK = "rollback"


class _UsageError(GitopsdError):
    """What was asked for cannot be."""


def hold(config_path: Path, name: str, *, reason: str, for_sec: float | None) -> int:
    """Deploy nothing of the repo `name` from now on, for so long or until it is resumed."""
    config = configuration.load(config_path)
    try:
        _find(config, name)
    except _UsageError as error:
        return _complain("hold", error)
    sync.require_rights(config, f"hold {name}")
    now = time.time()
    until = None if for_sec is None else now + for_sec
    new = Hold(repo=name, by=_who(), reason=reason, at=now, until=until)
    _write(config, new)
    _say(f"{name} is {holds.why(new)}{terminal.until(new)}")
    if lock.held(config.state_dir, [name]):
        print(f"A sync of {name} runs, and goes on to its end.")
    print(f"What comes for it is recorded, and nothing is deployed; gitopsd resume {name}")
    return exits.EXIT_DONE


def resume(config_path: Path, name: str, *, wait: bool, as_json: bool) -> int:
    """Hold the repo `name` no longer, and do what has waited; the exit code says how that ended."""
    config = configuration.load(config_path)
    try:
        repo = _find(config, name)
        if not _is_held(config, name):
            raise _UsageError(f"{name} is not held; gitopsd sync {name}")
    except _UsageError as error:
        return _complain("resume", error)
    sync.require_rights(config, f"resume {name}")
    store = Store(path_in(config.state_dir), time.time)
    # First the wish, so that it is one with what waits, and no sync of that comes between them.
    job = store.enqueue(name, Trigger.MANUAL)
    holds.remove(config.state_dir, name)
    if not as_json:
        print(f"{name} is no longer held")
    if not wait:
        return sync.leave(config, store, [job], as_json=as_json)
    followed = sync.follow(config, store, {repo: job}, as_json=as_json)
    if as_json:
        terminal.print_json({"jobs": [terminal.job_json(job) for job in followed]})
    return exits.worst(sync.exit_code(config, job) for job in followed)


def rollback(config_path: Path, name: str, *, to: str | None, reason: str, wait: bool, as_json: bool) -> int:
    """Take the repo `name` back to the revision `to`, else to the one before, and hold it there."""
    config = configuration.load(config_path)
    store = Store(path_in(config.state_dir), time.time)
    try:
        repo = _find(config, name)
        if not repo.url:
            raise _UsageError(f"{name} has no revisions that it could go back to (strategy: {repo.strategy})")
        sync.require_rights(config, f"rollback {name}")
        deployed = _deployed(store, name)
        in_place = _in_place(store, name, deployed)
        target = _named(name, deployed, to) if to else _before(name, deployed, in_place)
        if target == in_place:
            raise _UsageError(f"{name} is at {terminal.short(target)} already; to leave it there: gitopsd hold {name}")
    except _UsageError as error:
        return _complain("rollback", error)
    way = " ".join(["rollback", *([f"from {terminal.short(in_place)}"] if in_place else []), "to"])
    text = ": ".join(filter(None, (f"{way} {terminal.short(target)}", reason)))
    new = Hold(repo=name, by=_who(), reason=text, at=time.time(), revision=target)
    # The hold comes first: from here on nothing but the rollback is done.
    _write(config, new, quiet=as_json)
    try:
        return _go_back(config, store, repo, new, wait=wait, as_json=as_json)
    except GitopsdError:
        print(f"{name} stays held; gitopsd resume {name}", file=sys.stderr)
        raise


def _go_back(config: Config, store: Store, repo: Repo, new: Hold, *, wait: bool, as_json: bool) -> int:
    job = store.enqueue(repo.name, Trigger.ROLLBACK)
    held = f"{repo.name} is {holds.why(new)}; gitopsd resume {repo.name}"
    if not wait:
        code = sync.leave(config, store, [job], as_json=as_json, about={"held": terminal.hold_json(new)})
    else:
        (done,) = sync.follow(config, store, {repo: job}, as_json=as_json)
        code = sync.exit_code(config, done)
        held = held if code == exits.EXIT_DONE else f"{repo.name} stays held; gitopsd resume {repo.name}"
        if as_json:
            terminal.print_json({"held": terminal.hold_json(new), "jobs": [terminal.job_json(done)]})
    if not as_json:
        _say(held)
    return code


def _find(config: Config, name: str) -> Repo:
    try:
        return find_repo(config, name)
    except GitopsdError as error:
        raise _UsageError(str(error)) from error


def _is_held(config: Config, name: str) -> bool:
    try:
        return holds.read(config.state_dir, name, time.time()) is not None
    except GitopsdError:  # nothing is deployed, so it is as good as held
        return True


def _write(config: Config, new: Hold, *, quiet: bool = False) -> None:
    """Hold a repo, and say what that takes the place of."""
    try:
        before = holds.read(config.state_dir, new.repo, new.at)
        replaced = terminal.held(before, new.at) if before else ""
    except GitopsdError as error:
        replaced = str(error)
    holds.write(config.state_dir, new)
    if replaced and not quiet:
        _say(f"In the place of the hold before: {replaced}")


def _deployed(store: Store, name: str) -> list[Job]:
    """The jobs that left a revision in place, the newest first."""
    jobs = store.jobs(name, limit=_LOOK_BACK)
    return [job for job in jobs if job.state in DONE and is_revision(job.new_revision or "")]


def _in_place(store: Store, name: str, deployed: Sequence[Job]) -> str | None:
    """What stands there: what was deployed last, else what was to be and failed when it was live already."""
    last_job = store.last_job(name)
    if last_job and last_job.state is JobState.FAILED and last_job.trigger is not Trigger.ROLLBACK:
        phases = {phase.name for phase in last_job.phases}
        if phases & _GOES_LIVE and _GOES_BACK not in phases:
            return last_job.new_revision
    return deployed[0].new_revision if deployed else None


def _before(name: str, deployed: Sequence[Job], in_place: str | None) -> str:
    """What was deployed before the revision in place was: who rolls back twice goes back twice. Raises _UsageError."""
    arrivals = [job for job in deployed if job.new_revision == in_place and job.trigger is not Trigger.ROLLBACK]
    earlier = [job for job in deployed if not arrivals or job.id < arrivals[0].id]
    found = next((job.new_revision for job in earlier if job.new_revision != in_place), None)
    if found is None:
        since = f" before {terminal.short(in_place)}" if in_place else ""
        raise _UsageError(f"by the records, no other revision of {name} was deployed{since}; give --to REVISION")
    return found


def _named(name: str, deployed: Sequence[Job], to: str) -> str:
    """The revision that begins with `to`, or is that as a whole. Raises _UsageError."""
    to = to.lower()
    if is_revision(to):
        return to
    if not _PREFIX.fullmatch(to):
        raise _UsageError("--to: give a revision, or four or more digits that it begins with (0-9, a-f)")
    found = list(dict.fromkeys(job.new_revision for job in deployed if (job.new_revision or "").startswith(to)))
    if len(found) == 1 and found[0]:
        return found[0]
    if found:
        raise _UsageError(f"--to {to}: {len(found)} revisions of {name} begin so; give more digits")
    unknown = f"no revision of {name} that was deployed begins so"
    raise _UsageError(f"--to {to}: {unknown}; see gitopsd history {name}, or give all digits")


def _who() -> str:
    """Who runs this, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def _say(text: str) -> None:
    print(terminal.plain(text).plain)


def _complain(command: str, error: GitopsdError) -> int:
    print(f"gitopsd {command}: {terminal.plain(str(error)).plain}", file=sys.stderr)
    return exits.EXIT_USAGE
