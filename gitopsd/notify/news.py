"""What of the verdicts on a repo is news: one message for each change of state."""

import re
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from gitopsd.model import DONE, Job, JobState

_TRY_AGAIN = 75
_NETWORK_TRIES = 3
_JUST_NOW_SEC = 60.0
_DIGITS = 10
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


class Kind(StrEnum):
    """What a message is about: the words of `notify.on`, and a trial."""

    FAILURE = "failure"
    RECOVERY = "recovery"
    REFUSAL = "refusal"
    SUCCESS = "success"
    TRIAL = "trial"


_TITLES = {
    Kind.FAILURE: "{repo} failed on {host}",
    Kind.RECOVERY: "{repo} works again on {host}",
    Kind.REFUSAL: "{repo} was refused on {host}",
    Kind.SUCCESS: "{repo} was deployed on {host}",
}


class Message(NamedTuple):
    """What people get: plain text."""

    kind: Kind
    title: str
    body: str


class Told(NamedTuple):
    """How far the verdicts on a repo were looked at, and what of them was told.

    `job` is the newest verdict that was; `is_bad`: people were told that it fails or is refused; `passed_over` are the
    failures in a row that were not worth telling.
    """

    job: int = 0
    is_bad: bool = False
    passed_over: int = 0


def first_sight(verdicts: Iterable[Job], now: float) -> int:
    """The newest of `verdicts` on a repo that are its past: `Told.job` of whoever looks for the first time.

    What has ended just now is none of that: whoever was started with a sync may be there only after its end.
    """
    past = (job.id for job in verdicts if (job.finished_at or 0.0) < now - _JUST_NOW_SEC)
    return max(past, default=0)


def is_worth_telling(job: Job, passed_over: int) -> bool:
    """Whether a verdict counts. What the network is to blame for (75) passes by itself, so the third in a row does."""
    is_network = job.state is JobState.FAILED and job.exit_code == _TRY_AGAIN
    return not is_network or max(job.attempts, passed_over + 1) >= _NETWORK_TRIES


def look(told: Told, verdicts: Sequence[Job], on: Collection[str]) -> tuple[Told, tuple[Kind, Job] | None]:
    """What was told once the newer `verdicts`, the oldest first, are; and what is to be told of them, if anything.

    Only how it stands in the end is told, so a repo that fails and works by turns brings one message a look at most.
    """
    now, change, success = told, None, None
    for job in verdicts:
        if not is_worth_telling(job, now.passed_over):
            now = now._replace(job=job.id, passed_over=now.passed_over + 1)
            continue
        kind = _change_by(job, is_bad=now.is_bad)
        is_told = kind is not None and kind in on
        change = (kind, job) if kind and is_told else change
        success = (Kind.SUCCESS, job) if job.state is JobState.SUCCEEDED and Kind.SUCCESS in on else success
        now = now._replace(job=job.id, passed_over=0, is_bad=job.state not in DONE and (now.is_bad or is_told))
    if change and now.is_bad != told.is_bad:
        return now, change
    return now, None if now.is_bad else success


def _change_by(job: Job, *, is_bad: bool) -> Kind | None:
    """What changes with a verdict, after people were told that it is bad, or that it is not."""
    if job.state in DONE:
        return Kind.RECOVERY if is_bad else None
    if is_bad:
        return None
    return Kind.REFUSAL if job.state is JobState.REFUSED else Kind.FAILURE


def message_of(kind: Kind, job: Job, host: str) -> Message:
    """The message about a verdict, for people who do not sit before `host`."""
    lines = [plain(job.reason)]
    if job.new_revision:
        lines.append(f"from {_short(job.old_revision)} to {_short(job.new_revision)}")
    lines += [f"job {job.id} on {host}", "", f"gitopsd logs {job.id}", f"gitopsd why {job.repo}"]
    return Message(kind=kind, title=_TITLES[kind].format(repo=job.repo, host=host), body="\n".join(lines))


def trial_of(host: str) -> Message:
    """A message to find out whether messages arrive."""
    body = "This is a trial. Whoever reads it hears of deploys that fail, are refused, or work again."
    return Message(kind=Kind.TRIAL, title=f"gitopsd can be heard from {host}", body=body)


def plain(text: str) -> str:
    """A reason for others to read: on one line, without what steers a screen, and without credentials of a URL."""
    seen = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return _CREDENTIALS.sub("***@", seen)


def _short(revision: str | None) -> str:
    return plain(revision[:_DIGITS]) if revision else "nothing"
