"""Repos that are held: a file for each, which only who may start syncs by hand can write.

They are no records of the store, as the daemon writes that: whoever conquers it must neither lift a hold nor turn one
into a rollback.
"""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gitopsd import files, modes
from gitopsd.errors import GitopsdError
from gitopsd.model import Hold, Job, Trigger
from gitopsd.references import is_revision

_MAX_BYTES = 64 * 1024
_MAX_TEXT = 500
_MODE, _DIRECTORY_MODE = 0o644, 0o755
_END_OF_TIME = 250_000_000_000.0  # not long before the last year that a calendar here knows


def read(state_dir: Path, repo: str, now: float) -> Hold | None:
    """The hold of `repo`, if there is one at the time `now`. Raises GitopsdError for a file that cannot be read."""
    path = _path(state_dir, repo)
    try:
        hold = _hold_of(repo, json.loads(modes.read_file(path, _MAX_BYTES)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GitopsdError(f"hold {path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise GitopsdError(f"hold {path}: is not what gitopsd writes; remove it, and hold the repo again") from error
    return None if hold.until is not None and hold.until <= now else hold


def write(state_dir: Path, hold: Hold) -> None:
    """Hold a repo from now on; on disk when this returns. Raises GitopsdError."""
    path = Path(_path(state_dir, hold.repo))
    data = {key: getattr(hold, key) for key in ("by", "reason", "at", "until", "revision")}
    try:
        _make_directory(path.parent)
        files.write(path, json.dumps(data), mode=_MODE, replace=True)
    except OSError as error:
        raise GitopsdError(f"hold {path}: cannot be written: {error.strerror}") from error


def remove(state_dir: Path, repo: str) -> None:
    """Hold `repo` no longer. Raises GitopsdError."""
    path = Path(_path(state_dir, repo))
    try:
        files.remove(path)
    except OSError as error:
        raise GitopsdError(f"hold {path}: cannot be removed: {error.strerror}") from error


def why(hold: Hold) -> str:
    """By whom and why, in a line."""
    return f"held by {hold.by}: {hold.reason}"


def allowed(hold: Hold | None) -> Collection[Trigger]:
    """What may be done under `hold`: all without one, else a rollback to its revision and nothing else."""
    if hold is None:
        return tuple(Trigger)
    return (Trigger.ROLLBACK,) if hold.revision else ()


def keeps(state_dir: Path, job: Job, now: float) -> bool:
    """Whether a hold keeps `job` from being done now. Raises GitopsdError for a file that cannot be read."""
    return job.trigger not in allowed(read(state_dir, job.repo, now))


def keeps_for_good(state_dir: Path, job: Job, now: float) -> bool:
    """As `keeps`, and by a hold that has no end of its own. Raises GitopsdError for a file that cannot be read."""
    hold = read(state_dir, job.repo, now)
    return job.trigger not in allowed(hold) and hold is not None and hold.until is None


def _make_directory(path: Path) -> None:
    """Everybody who gets into the state directory has to be able to look, whoever holds first."""
    modes.make_directory(path.parent)
    if not os.path.lexists(path):
        path.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
        path.chmod(_DIRECTORY_MODE)  # whatever the umask
        files.sync_directory(path.parent)


def _path(state_dir: Path, repo: str) -> str:
    return f"{state_dir}/holds/{repo}.json"


def _hold_of(repo: str, data: dict[str, Any]) -> Hold:
    revision = data.get("revision")
    if revision is not None and not is_revision(revision):
        raise ValueError
    until = data.get("until")
    return Hold(
        repo=repo,
        by=str(data["by"])[:_MAX_TEXT],
        reason=str(data["reason"])[:_MAX_TEXT],
        at=_time(data["at"]),
        until=None if until is None else _time(until),
        revision=revision,
    )


def _time(value: Any) -> float:
    at = float(value)
    if not 0 <= at < _END_OF_TIME:  # nor is a NaN
        raise ValueError
    return at
