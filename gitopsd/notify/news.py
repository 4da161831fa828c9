"""What of the verdicts on a repo is news: one message for each change of state."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from gitopsd.model import Job, JobState

_TRY_AGAIN = 75
_NETWORK_TRIES = 3
_JUST_NOW_SEC = 60.0
_GOOD = (JobState.SUCCEEDED, JobState.UNCHANGED)
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


@dataclass(frozen=True, kw_only=True)
class Message:
    """What people get: plain text."""

    kind: Kind
    title: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Told:
    """How far the verdicts on a repo were looked at, and what of them was told.

    `job` is the newest verdict that was; `is_bad`: people were told that it fails or is refused; `passed_over` are the
    failures in a row that were not worth telling; `rolled_back` is the revision of a failure that was undone, or "".
    """

    job: int = 0
    is_bad: bool = False
    passed_over: int = 0
    rolled_back: str = ""


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
    now, found = told, None
    for job in verdicts:
        if not is_worth_telling(job, now.passed_over):
            now = replace(now, job=job.id, passed_over=now.passed_over + 1)
            continue
        kind = _kind_of(now, job, on)
        found = (kind, job) if kind else found
        now = _with(now, job, is_told=kind is not None)
    if found and found[0] is not Kind.SUCCESS and now.is_bad == told.is_bad:
        return now, None
    return now, found


def _kind_of(told: Told, job: Job, on: Collection[str]) -> Kind | None:
    """What the verdict is the news of, if that is wanted."""
    if job.state in _GOOD:
        kind = Kind.RECOVERY if told.is_bad else Kind.SUCCESS
        if kind is Kind.RECOVERY and (_is_still_bad(told, job) or kind not in on):
            kind = Kind.SUCCESS
        return kind if kind in on and (kind is Kind.RECOVERY or job.state is JobState.SUCCEEDED) else None
    kind = Kind.REFUSAL if job.state is JobState.REFUSED else Kind.FAILURE
    return kind if kind in on and not told.is_bad else None


def _is_still_bad(told: Told, job: Job) -> bool:
    """Whether nothing was deployed as this is the revision that was rolled back."""
    return job.state is JobState.UNCHANGED and told.rolled_back != "" and job.new_revision == told.rolled_back


def _with(told: Told, job: Job, *, is_told: bool) -> Told:
    now = replace(told, job=job.id, passed_over=0)
    if job.state in _GOOD:
        return now if _is_still_bad(told, job) else replace(now, is_bad=False, rolled_back="")
    is_undone = job.state is JobState.FAILED and "rolled back" in job.reason
    return replace(now, is_bad=told.is_bad or is_told, rolled_back=(job.new_revision or "") if is_undone else "")


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
