"""Run the engine under its contract → Outcome. The contract: docs/engine.md."""

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from gitopsd import modes, process, systemd
from gitopsd.config import secret_names
from gitopsd.errors import GitopsdError
from gitopsd.globs import matches_image
from gitopsd.model import Image, Job, JobState, Outcome, Phase
from gitopsd.references import is_image, is_revision
from gitopsd.settings import Config, Health, Repo

EXIT_TRY_AGAIN = 75
EXIT_REFUSED = 77
EXIT_CONFIG = 78

_EVENT_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,99}")
_REASON_LENGTH = 500
_REPORT_BYTES = 256 * 1024
_LONGER_SEC = 2 * process.GRACE_SEC
_WITH_WAY_BACK = 3
_TO_SETTLE = 8
"""A unit has six times its `settle` to become active, and then has to stay so."""


class Report(NamedTuple):
    """What the engine has written to its output file so far."""

    values: Mapping[str, str] = MappingProxyType({})
    phases: tuple[Phase, ...] = ()

    @property
    def phase(self) -> str:
        """The phase it is in, or was in last."""
        return self.phases[-1].name if self.phases else "start"


def run(
    config: Config,
    repo: Repo,
    job: Job,
    *,
    output_path: Path,
    on_output: Callable[[bytes], None],
    lock_fd: int,
    stop_fd: int | None,
    pinned: str | None = None,
) -> Outcome:
    """Sync `repo` once, to the revision `pinned` if there is one.

    `output_path` is the file for the engine's `key=value` lines; `stop_fd` readable ends it.
    """
    if not os.access(config.engine, os.X_OK) or not config.engine.is_file():  # timeout's 127 may be an engine's
        reason = f"engine {config.engine}: is not an executable file"
        return Outcome(state=JobState.FAILED, reason=reason, exit_code=EXIT_CONFIG)
    environment = engine_environment(config, repo, job, output_path, pinned) | {"GITOPSD_LOCK_FD": str(lock_fd)}
    try:
        output_path.unlink(missing_ok=True)
        ended = process.run(
            # Ours is the limit; this one is for an engine that outlives us, and would keep the lock for good.
            ("timeout", "--signal=KILL", f"{limit_sec(repo) + _LONGER_SEC:g}", str(config.engine), repo.name),
            environment=environment,
            timeout_sec=limit_sec(repo),
            on_output=on_output,
            keep_fds=(lock_fd,),
            stop_fd=stop_fd,
        )
    except GitopsdError as error:
        return Outcome(state=JobState.FAILED, reason=f"engine {error}", exit_code=EXIT_CONFIG)
    except OSError as error:
        reason = f"{output_path}: cannot be written: {error.strerror}"
        return Outcome(state=JobState.FAILED, reason=reason, exit_code=EXIT_TRY_AGAIN, retry=True, keep_trying=True)
    return _outcome(repo, ended, read_report(output_path))


def limit_sec(repo: Repo) -> float:
    """How long a sync of `repo` may take. With a way back it has the time to find out that it is to be gone."""
    if not repo.rollback:
        return repo.timeout_sec
    health = repo.health
    finding_out = health.tries * (health.timeout_sec + health.interval_sec) if health else 0.0
    settling = _TO_SETTLE * repo.settle_sec if repo.units else 0.0
    return _WITH_WAY_BACK * repo.timeout_sec + 2 * (finding_out + settling)


def engine_environment(
    config: Config, repo: Repo, job: Job, output_path: Path, pinned: str | None = None
) -> dict[str, str]:
    """What the engine is told: the operator's environment without the secrets of receivers, and the contract's keys."""
    inherited = systemd.child_environment(os.environ, secret_names(config))
    told = {
        "GITOPSD_URL": repo.url,
        "GITOPSD_REF": repo.ref,
        "GITOPSD_PATH": str(repo.path),
        "GITOPSD_STRATEGY": repo.strategy,
        "GITOPSD_DEPLOY": shlex.join(repo.deploy),
        "GITOPSD_STATE_DIR": str(config.state_dir),
        "GITOPSD_OUTPUT": str(output_path),
        "GITOPSD_FORCE": _yes(job.force),
        # From the store, which the daemon writes too: whatever it is, it is a commit id or nothing.
        "GITOPSD_HINT": job.revision if job.revision and is_revision(job.revision) else "",
        "GITOPSD_REVISION": pinned or "",
        "GITOPSD_OPT_IN": _yes(repo.opted_in_by_file),
        **_policy_environment(repo),
        **_health_environment(repo.health),
        **_event_environment(repo, job),
    }
    return {key: value for key, value in inherited.items() if not key.startswith("GITOPSD_")} | told


def _yes(wanted: bool) -> str:
    return "yes" if wanted else ""


def _digits(seconds: float) -> str:
    """Seconds as a shell counts them: without an exponent, whatever their number."""
    return f"{seconds:.3f}".rstrip("0").removesuffix(".")


def _policy_environment(repo: Repo) -> dict[str, str]:
    return {
        "GITOPSD_GATE": shlex.join(repo.gate),
        "GITOPSD_COMPOSE": repo.compose,
        "GITOPSD_UNITS": " ".join(repo.units),
        "GITOPSD_SETTLE": _digits(repo.settle_sec),
        "GITOPSD_ROLLBACK": _yes(repo.rollback),
        "GITOPSD_TIMEOUT": _digits(repo.timeout_sec),
        "GITOPSD_KEEP": str(repo.keep),
        "GITOPSD_SUBMODULES": _yes(repo.submodules),
        "GITOPSD_DEPTH": str(repo.depth or ""),
        "GITOPSD_FILTER": repo.filter,
        "GITOPSD_REWIND": repo.rewind,
        "GITOPSD_LOCAL_CHANGES": repo.local_changes,
        "GITOPSD_VERIFY": repo.verify,
        "GITOPSD_ALLOWED_SIGNERS": repo.allowed_signers,
        "GITOPSD_KEYRING": repo.keyring,
        "GITOPSD_MERGE_BY": " ".join(repo.merge_by),
        "GITOPSD_CLEAN": repo.clean,
        "GITOPSD_DRIFT": repo.drift,
    }


def _health_environment(health: Health | None) -> dict[str, str]:
    if health is None:
        return {"GITOPSD_HEALTH": ""}
    return {
        "GITOPSD_HEALTH": shlex.join(health.command),
        "GITOPSD_HEALTH_INTERVAL": _digits(health.interval_sec),
        "GITOPSD_HEALTH_TRIES": str(health.tries),
        "GITOPSD_HEALTH_TIMEOUT": _digits(health.timeout_sec),
    }


def _event_environment(repo: Repo, job: Job) -> dict[str, str]:
    """What asked for the job, which is from the store, too: so of a form that is safe in a command.

    Where the configuration names the repo's images, others are none.
    """
    plausible = [image for image in job.images if is_image(image)]
    images = [image for image in plausible if (not repo.images or matches_image(image.name, repo.images))]
    last = images[-1] if images else Image(name="", tag="")
    return {
        "GITOPSD_EVENT_TYPE": job.event if job.event and _EVENT_TYPE.fullmatch(job.event) else "",
        "GITOPSD_IMAGE": last.name,
        "GITOPSD_TAG": last.tag,
        "GITOPSD_DIGEST": last.digest,
        "GITOPSD_IMAGES": " ".join(_reference(image) for image in images),
    }


def _reference(image: Image) -> str:
    return f"{image.name}{image.tag and ':'}{image.tag}{image.digest and '@'}{image.digest}"


def read_report(output_path: Path) -> Report:
    """What is in the engine's output file; an empty Report if there is none. Lines that are cut off are left out."""
    try:
        lines = modes.read_file(output_path, _REPORT_BYTES).decode("utf-8", "replace").split("\n")[:-1]
    except OSError:
        return Report()
    values: dict[str, str] = {}
    phases = []
    for line in lines:
        key, _, value = line.partition("=")
        if key == "phase":
            name, _, at = value.partition(" at=")
            phases.append(Phase(name=name, at=_seconds(at)))
        else:
            values[key] = value
    return Report(values, tuple(phases))


def interrupted(report: Report) -> Outcome:
    """The outcome of a sync that ended without a record."""
    return Outcome(
        state=JobState.INTERRUPTED,
        reason=f"interrupted during {report.phase}; queued again",
        exit_code=None,
        old_revision=report.values.get("old_revision") or None,
        phases=report.phases,
    )


def _outcome(repo: Repo, ended: process.Ended, report: Report) -> Outcome:
    if ended.stopped:
        return interrupted(report)
    state, keep_trying = _verdict(ended, report)
    return Outcome(
        state=state,
        reason=_reason(repo, ended, report, state),
        exit_code=ended.exit_code,
        old_revision=report.values.get("old_revision") or None,
        new_revision=report.values.get("new_revision") or None,
        phases=report.phases,
        # What was rolled back is known to be bad: only a newer revision, or a person, makes it another try.
        retry=state is JobState.FAILED
        and ended.exit_code != EXIT_CONFIG
        and (keep_trying or "rolled_back" not in report.values),
        keep_trying=keep_trying,
    )


def _verdict(ended: process.Ended, report: Report) -> tuple[JobState, bool]:
    """The state, and whether the cause is expected to pass by itself."""
    if ended.timed_out or ended.exit_code is None:
        return JobState.FAILED, False
    if ended.exit_code == 0:
        moved = report.values.get("old_revision") != report.values.get("new_revision")
        changed = report.values.get("changed", "yes" if moved else "no") == "yes"
        return (JobState.SUCCEEDED if changed else JobState.UNCHANGED), False
    if ended.exit_code == EXIT_REFUSED:
        return JobState.REFUSED, False
    return JobState.FAILED, ended.exit_code == EXIT_TRY_AGAIN


def _reason(repo: Repo, ended: process.Ended, report: Report, state: JobState) -> str:
    if ended.timed_out:
        return f"{report.phase} was ended: the sync took longer than {limit_sec(repo):g} s (repos.{repo.name}.timeout)"
    if ended.signal_name:
        return f"{report.phase} was killed by {ended.signal_name}"
    if given := report.values.get("reason"):
        return given[:_REASON_LENGTH]
    if state is JobState.SUCCEEDED:
        rescued = report.values.get("rescued")
        return f"deployed; work that was found here is saved as {rescued}" if rescued else "deployed"
    if state is JobState.UNCHANGED:
        return "nothing to do: this revision is deployed"
    return f"{report.phase}: the engine exited with {ended.exit_code}"


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
