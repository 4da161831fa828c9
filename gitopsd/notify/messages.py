"""Tell people: each message to every target, at least once, and noted so that it is not told again."""

import logging
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from gitopsd.notify import news, targets
from gitopsd.notify.news import Kind, Message, Told
from gitopsd.notify.targets import Target
from gitopsd.notify.troubles import Troubles, of_target
from gitopsd.settings import Config
from gitopsd.store import Store
from gitopsd.store.notes import TOLD_NOTE

_log = logging.getLogger(__name__)
_TRIES = 10
_OFFERED_SEC = 7 * 86400.0

Send = Callable[[Sequence[Target], Message], Mapping[str, str]]
"""Send to all of these: by their names "" where it was taken, else why not."""


class _Record(NamedTuple):
    """The note on a repo: what was told, and the news that some targets have not got yet (by name, with its tries)."""

    told: Told
    kind: str = ""
    about: int = 0
    owed: Mapping[str, int] = MappingProxyType({})

    @classmethod
    def of(cls, note: Mapping[str, Any]) -> "_Record":
        told = Told(job=note["job"], is_bad=note["bad"], passed_over=note["passed_over"])
        return cls(told=told, kind=note["kind"], about=note["about"], owed=note["owed"])

    def note(self) -> dict[str, Any]:
        return {
            "job": self.told.job,
            "bad": self.told.is_bad,
            "passed_over": self.told.passed_over,
            "kind": self.kind,
            "about": self.about,
            "owed": dict(self.owed),
        }


class Messenger:
    """Tells people what is new of a repo. Whoever uses it holds the lock of the notifier."""

    def __init__(
        self,
        config: Config,
        store: Store,
        troubles: Troubles,
        *,
        environment: Mapping[str, str],
        clock: Callable[[], float],
        host: str,
        send: Send = targets.send,
    ) -> None:
        self._config, self._store, self._troubles = config, store, troubles
        self._clock, self._host, self._send = clock, host, send
        self._targets = targets.load(config.notify.urls, environment)
        # One that hangs costs its time once, and not for each repo and each look.
        self._failing: set[str] = set()

    def look(self, repo: str) -> bool:
        """Tell what is new of `repo`; whether there was anything. Raises StoreError."""
        if not self._targets:
            return False
        note = self._store.read_note(f"{TOLD_NOTE}{repo}")
        if note is None:
            past = news.first_sight(self._store.verdicts(repo, after=0), self._clock())
            self._write(repo, _Record(told=Told(job=past)))
            return True
        before = _Record.of(note)
        told, found = news.look(before.told, self._store.verdicts(repo, after=before.told.job), self._config.notify.on)
        record = before._replace(told=told)
        if found:
            kind, job = found
            owed = {target.name: 0 for target in self._targets}
            record = record._replace(kind=kind, about=job.id, owed=owed)
        if record != before:
            self._write(repo, record)
        return self._deliver(repo, record)

    def _deliver(self, repo: str, record: _Record) -> bool:
        """Send what is owed to whom it was not sent in vain just now; whether it was sent to anybody."""
        owing = {name for name, tries in record.owed.items() if tries < _TRIES} - self._failing
        asked = [target for target in self._targets if target.name in owing]
        if not asked:
            return False
        if (message := self._message(record)) is None:
            self._write(repo, record._replace(owed={}))
            return False
        # Before it is sent: what takes us down each time is not to be tried for ever.
        names = [target.name for target in asked]
        owed = {name: tries + (name in names) for name, tries in record.owed.items()}
        self._write(repo, record._replace(owed=owed))
        answers = self._send(asked, message)
        for name in names:
            self._note(repo, record, name, answers[name])
        # Who cannot be reached now is offered it again for days: only an end of ours before this point has counted.
        job = self._store.job(record.about)
        is_old = job is None or self._clock() - (job.finished_at or job.created_at) > _OFFERED_SEC
        done = {name for name in names if is_old or not answers[name]}
        left = {name: tries for name, tries in record.owed.items() if name not in done}
        self._write(repo, record._replace(owed=left))
        return True

    def _note(self, repo: str, record: _Record, name: str, problem: str) -> None:
        if problem:
            self._failing.add(name)
            _log.warning("%s: %s could not be told of the %s: %s", repo, name, record.kind, problem)
        else:
            _log.info("%s: %s was told of the %s, job %d", repo, name, record.kind, record.about)
        self._troubles.note(of_target(name), problem)

    def _message(self, record: _Record) -> Message | None:
        """The message that is owed; None if its job is forgotten."""
        job = self._store.job(record.about)
        return news.message_of(Kind(record.kind), job, self._host) if job and record.kind in set(Kind) else None

    def _write(self, repo: str, record: _Record) -> None:
        self._store.write_note(f"{TOLD_NOTE}{repo}", record.note())
