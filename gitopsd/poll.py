"""Remote tips → enqueue."""

import logging
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from gitopsd import journal, process, systemd
from gitopsd.errors import GitopsdError
from gitopsd.globs import is_followed
from gitopsd.journal import Kind
from gitopsd.model import DONE, JobState, Trigger
from gitopsd.references import follows_tags, pattern_of
from gitopsd.settings import Repo
from gitopsd.store import DRIFT, Store

_log = logging.getLogger(__name__)
_REMOTE_SEC = 20.0
_PARALLEL = 8
_UNFINISHED = (JobState.PENDING, JobState.RUNNING)
_NO_SUCH_REF = 2  # git ls-remote --exit-code
# Versions as git orders them; v2.0-rc1 comes before v2.0.
_LS_REMOTE = ("git", "-c", "versionsort.suffix=-", "ls-remote", "--exit-code", "--sort=-version:refname", "--")
_PEELED = "^{}"
# What git says after the line that tells the cause (of ssh, say).
_NOISE = ("fatal: Could not read from remote", "Please make sure", "and the repository exists", "hint:", "warning:")


class Tip(NamedTuple):
    """What a remote says: the revision that a repo follows there, or why that cannot be told.

    `tag` is the one that it stands for, "" where a branch is followed.
    """

    repo: Repo
    revision: str = ""
    tag: str = ""
    problem: str = ""


def ask(
    repos: Iterable[Repo],
    secrets: Collection[str],
    run_as: Callable[[Repo, Sequence[str]], Sequence[str]] = lambda _repo, argv: argv,
) -> list[Tip]:
    """The tips of those of `repos` that have a remote, asked side by side.

    `secrets`: names of what git must not find in its environment.

    `run_as` makes of git's argv one that runs it as somebody else.
    """
    environment = _environment(secrets)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(lambda repo: _tip(repo, environment, run_as), filter(lambda repo: repo.url, repos)))


def default_branch(
    repo: Repo,
    secrets: Collection[str],
    run_as: Callable[[Repo, Sequence[str]], Sequence[str]] = lambda _repo, argv: argv,
) -> str:
    """The branch that the remote of `repo` takes for its own; "" if it does not say. The rest as for `ask`."""
    environment = _with_ssh(repo, _environment(secrets))
    try:
        argv = run_as(repo, ("git", "ls-remote", "--symref", "--", repo.url, "HEAD"))
        _, text = process.output_of(argv, environment=environment, timeout_sec=_REMOTE_SEC)
    except GitopsdError:
        return ""  # whoever asks for the tip next is told why
    found = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", text, re.MULTILINE)
    return found[1] if found else ""


def _environment(secrets: Collection[str]) -> dict[str, str]:
    environment = systemd.child_environment(os.environ, frozenset(secrets))
    environment.pop("CREDENTIALS_DIRECTORY", None)
    return environment | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def enqueue_moved(store: Store, tips: Iterable[Tip]) -> list[str]:
    """Queue a job for each repo whose tip is none that a job has seen yet; their names. Raises StoreError."""
    moved = []
    for tip in tips:
        if tip.problem or not _has_moved(store, tip):
            continue
        job = store.enqueue(tip.repo.name, Trigger.POLL, revision=tip.revision)
        extra = journal.fields(Kind.TIP_MOVED, repo=job.repo, job=job.id, revision=tip.revision)
        _log.info("%s: the remote has moved to %s; job %d", job.repo, tip.revision[:10], job.id, extra=extra)
        moved.append(job.repo)
    return moved


def enqueue_looks(store: Store, tips: Iterable[Tip]) -> None:
    """Queue a job for each repo whose files are compared although its tip stands (`drift`). Raises StoreError.

    Not where they would be those of another revision, as the last job was refused for another reason or has failed, or
    `paths` left the tip out: then to look would be to deploy.
    """
    for tip in tips:
        name, last_job = tip.repo.name, store.last_job(tip.repo.name)
        if tip.problem or tip.repo.drift == "off" or last_job is None:
            continue
        # What was refused for drift may have been put right since.
        is_drift = last_job.state is JobState.REFUSED and last_job.reason.startswith(DRIFT)
        if last_job.state not in DONE and not is_drift:
            continue
        if last_job.new_revision == tip.revision and not any(store.unfinished(name, state) for state in _UNFINISHED):
            store.enqueue(name, Trigger.POLL, revision=tip.revision)


def _has_moved(store: Store, tip: Tip) -> bool:
    """What was refused, or failed for good, is not tried again for each poll: a person or a newer push has to come."""
    pending = store.unfinished(tip.repo.name, JobState.PENDING)
    gives_way = pending and pending.attempts > 1 and pending.trigger is not Trigger.ROLLBACK
    if (pending and not gives_way) or store.unfinished(tip.repo.name, JobState.RUNNING):
        return False  # that one fetches the newest; should it just have done so, the next poll comes
    last_job = store.last_job(tip.repo.name)
    return last_job is None or not _leads_nowhere(store, tip, last_job.new_revision or last_job.revision or "")


def _leads_nowhere(store: Store, tip: Tip, seen: str) -> bool:
    """Whether nothing lies between `seen` and the tip, or only pushes that a receiver's `paths` left out."""
    revision, on_the_way = tip.revision, set[str]()
    while revision and revision != seen and revision not in on_the_way:
        on_the_way.add(revision)
        revision = store.skipped_from(tip.repo.name, revision)
    return revision == seen != ""


def nothing_to_follow(repo: Repo) -> str:
    """What is said of a remote that has not what `repo` follows."""
    kind = "tag" if follows_tags(repo.ref) else "branch"
    return f"has no {kind} {repo.ref.removeprefix('refs/tags/')}"


def _tip(repo: Repo, environment: Mapping[str, str], run_as: Callable[[Repo, Sequence[str]], Sequence[str]]) -> Tip:
    try:
        argv = run_as(repo, (*_LS_REMOTE, repo.url, *_patterns(repo.ref)))
        ended, text = process.output_of(argv, environment=_with_ssh(repo, environment), timeout_sec=_REMOTE_SEC)
    except GitopsdError as error:
        return Tip(repo=repo, problem=str(error))
    if ended.exit_code == 0 and (tip := _highest(repo, text)):
        return tip
    if ended.timed_out:
        return Tip(repo=repo, problem=f"no answer within {_REMOTE_SEC:g} s")
    if ended.exit_code in (0, _NO_SUCH_REF):
        return Tip(repo=repo, problem=nothing_to_follow(repo))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(_NOISE)]
    return Tip(repo=repo, problem=lines[0] if lines else "git ls-remote failed")


def _patterns(ref: str) -> Sequence[str]:
    """What to ask for. A tag with a message is told twice: as itself, and as the commit that it stands for."""
    pattern = pattern_of(ref)
    return (pattern, f"{pattern}{_PEELED}") if follows_tags(ref) else (pattern,)


def _highest(repo: Repo, text: str) -> Tip | None:
    """The first one of what git has listed, the highest version first, that `repo` follows.

    git shows every ref that ends like the one we ask for, refs/heads/other/refs/heads/main too, and its own messages.
    """
    told = {name: revision for revision, _, name in (line.partition("\t") for line in text.splitlines())}
    name = next((name for name in told if not name.endswith(_PEELED) and is_followed(name, repo.ref)), "")
    if not name:
        return None
    tag = name.removeprefix("refs/tags/") if follows_tags(repo.ref) else ""
    return Tip(repo=repo, revision=told.get(f"{name}{_PEELED}", told[name]), tag=tag)


def _with_ssh(repo: Repo, environment: Mapping[str, str]) -> dict[str, str]:
    """With the key of this repo, where systemd has loaded them all (gitopsd-poll.service), or for root."""
    loaded = systemd.credential_paths(repo.name, os.environ, "ssh-key")[1:]
    ours = systemd.KEYS_DIRECTORY / repo.name
    keys = [path for path in (*loaded, ours) if os.access(path, os.R_OK)]
    ssh = f"ssh -oBatchMode=yes -oIdentitiesOnly=yes -i {shlex.quote(str(keys[0]))}" if keys else "ssh -oBatchMode=yes"
    return {"GIT_SSH_COMMAND": ssh, **environment}
