"""Commit statuses: which state each revision has, and telling its forge so, once."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gitopsd import systemd
from gitopsd.model import DONE, Job, JobState, Trigger
from gitopsd.notify import forges, news
from gitopsd.notify.forges import FAILURE, PENDING, SUCCESS, Answer, Status
from gitopsd.notify.troubles import Troubles, of_repo
from gitopsd.references import is_revision
from gitopsd.settings import Repo
from gitopsd.store import Store
from gitopsd.store.notes import STATUSES_NOTE

_log = logging.getLogger(__name__)
_TRIES = 3
_REMEMBERED = 20
_DIGITS = 10
_WAITS, _RUNS = "waits for its turn", "is being deployed"

Post = Callable[[Repo, str, Status, str], Answer]
"""Tell the forge of a repo the status of a revision, with a token."""


class Told(NamedTuple):
    """How far the verdicts on a repo were looked at, and the state of each revision that is settled with its forge."""

    states: Mapping[str, str]
    job: int = 0
    passed_over: int = 0


def look(told: Told, verdicts: Sequence[Job], unfinished: Iterable[tuple[str, str]]) -> tuple[Told, dict[str, Status]]:
    """What is to be told now: a status for each revision whose state is another than it was told.

    `verdicts` are the newer ones, the oldest first; `unfinished` are revisions on their way, each with what it does.
    """
    now, states, found = told, dict(told.states), dict[str, Status]()
    on_the_way = dict(unfinished)
    for job in verdicts:
        if not news.is_worth_telling(job, now.passed_over):
            now = now._replace(job=job.id, passed_over=now.passed_over + 1)
            continue
        now = now._replace(job=job.id, passed_over=0)
        known = {**states, **{revision: status.state for revision, status in found.items()}}
        found |= _of_verdict(job, known, on_the_way)
    for revision, text in on_the_way.items():
        # What was told of once is told of again when it has ended: a retry does not make it any better.
        if revision not in states and revision not in found:
            found[revision] = Status(PENDING, text)
    return now, {revision: status for revision, status in found.items() if states.get(revision) != status.state}


def _of_verdict(job: Job, states: Mapping[str, str], on_the_way: Collection[str]) -> dict[str, Status]:
    """The statuses that follow from a verdict: of its revision, and of those that it has overtaken."""
    state, text = SUCCESS if job.state in DONE else FAILURE, news.plain(job.reason)
    revision = revision_in(job.new_revision) or revision_in(job.revision)
    overtaken = [each for each, known in states.items() if known == PENDING and each not in (revision, *on_the_way)]
    overtakes = revision and job.trigger is not Trigger.ROLLBACK  # then what waits goes on waiting
    found = {each: Status(state, f"overtaken by {revision[:_DIGITS]}: {text}") for each in overtaken if overtakes}
    # Most looks find nothing new, and nobody waits to hear of it.
    if revision and (job.state is not JobState.UNCHANGED or revision in states):
        found[revision] = Status(state, text)
    return found


def revision_in(text: str | None) -> str:
    """`text` if it is a whole commit id, which is all that may get into a URL; else "" ."""
    return text if text and is_revision(text) else ""


class Reporter:
    """Tells the forges of repos. Whoever uses it holds the lock of the notifier."""

    def __init__(
        self,
        store: Store,
        troubles: Troubles,
        *,
        environment: Mapping[str, str],
        clock: Callable[[], float],
        fetched: Callable[[Job], str],
        post: Post = forges.post,
    ) -> None:
        """`fetched` gives the revision that the engine of a running job has fetched, "" before that."""
        self._store, self._troubles, self._environment = store, troubles, environment
        self._clock, self._fetched, self._post = clock, fetched, post
        # Of a repo and a revision, or of all of a repo (""): not asked for again by this process.
        self._failing: set[tuple[str, str]] = set()

    def look(self, repo: Repo) -> bool:
        """Tell the forge of `repo` what it does not know yet; whether there was anything. Raises StoreError."""
        key = f"{STATUSES_NOTE}{repo.name}"
        before = self._store.read_note(key)
        if before is None:
            past = news.first_sight(self._store.verdicts(repo.name, after=0), self._clock())
            self._store.write_note(key, {"job": past, "passed_over": 0, "told": {}, "owed": {}})
            return True
        owed: dict[str, dict[str, Any]] = dict(before["owed"])
        states = {**before["told"], **{revision: each["state"] for revision, each in owed.items()}}
        told = Told(job=before["job"], passed_over=before["passed_over"], states=states)
        # The jobs first: one that ends in between has a verdict when those are read, and is no longer on its way.
        unfinished = list(self._unfinished(repo.name))
        told, found = look(told, self._store.verdicts(repo.name, after=told.job), unfinished)
        owed |= {
            revision: {"state": status.state, "text": status.text, "tries": 0} for revision, status in found.items()
        }
        note = {"job": told.job, "passed_over": told.passed_over, "told": before["told"], "owed": _last(owed)}
        if note != before:
            self._store.write_note(key, note)
        return self._deliver(repo, note)

    def _unfinished(self, repo: str) -> Iterable[tuple[str, str]]:
        for state, text in ((JobState.PENDING, _WAITS), (JobState.RUNNING, _RUNS)):
            if job := self._store.unfinished(repo, state):
                fetched = self._fetched(job) if state is JobState.RUNNING else ""
                if revision := revision_in(fetched) or revision_in(job.revision):
                    yield revision, text

    def _deliver(self, repo: Repo, note: dict[str, Any]) -> bool:
        """Tell what is owed, unless that came to nothing before; whether anything was asked of the forge."""
        asked = False
        for revision, each in list(note["owed"].items()):
            if not self._failing.isdisjoint({(repo.name, ""), (repo.name, revision)}):
                continue
            asked = True
            answer = self._tell(repo, revision, Status(each["state"], each["text"]))
            tries = each["tries"] + answer.is_final
            if not answer.problem or tries >= _TRIES:
                del note["owed"][revision]
                note["told"].pop(revision, None)  # the last one told is to be the last one
                note["told"] = _last({**note["told"], revision: each["state"]})
            else:
                each["tries"] = tries
            self._store.write_note(f"{STATUSES_NOTE}{repo.name}", note)
            self._troubles.note(of_repo(repo.name), answer.problem)
        return asked

    def _tell(self, repo: Repo, revision: str, status: Status) -> Answer:
        assert repo.statuses  # noqa: S101 - who has none is not looked at
        secret, problem = systemd.secret(repo.statuses.token, self._environment, systemd.NOTIFY)
        answer = (
            self._post(repo, revision, status, secret.value.decode("utf-8", "replace")) if secret else Answer(problem)
        )
        if answer.problem:
            self._failing.add((repo.name, revision if answer.is_final else ""))
            _log.warning("%s: the forge was not told of %s: %s", repo.name, revision[:_DIGITS], answer.problem)
        else:
            _log.info("%s: the forge was told of %s: %s", repo.name, revision[:_DIGITS], status.state)
        return answer


def _last(entries: Mapping[str, Any]) -> dict[str, Any]:
    return dict(list(entries.items())[-_REMEMBERED:])
