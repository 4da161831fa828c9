"""What is remembered of deliveries that proved themselves, and of those that did not: notes in the store."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from gitopsd import journal
from gitopsd.errors import StoreError
from gitopsd.journal import Kind
from gitopsd.store import Store
from gitopsd.store.notes import PROOF_NOTE, REFUSED_NOTE, REJECTED_NOTE, UNKNOWN_RECEIVER

_log = logging.getLogger(__name__)
_REJECTED_LOG_SEC = 10.0
_MAX_REFUSED_HOOKS = 5
_PROOF_SEC = 10.0
_REST_SEC = 10.0


class _Trouble:
    """When the store could not be written. To try again takes seconds, in which nobody is answered."""

    def __init__(self) -> None:
        self._met_at = -_REST_SEC

    def is_recent(self) -> bool:
        """Whether it is too early to try again."""
        return time.monotonic() - self._met_at < _REST_SEC

    @contextlib.contextmanager
    def passed_over(self) -> Iterator[None]:
        """A note that cannot be written is left out: whatever is to be accepted will meet the trouble, too."""
        try:
            yield
        except StoreError:
            self._met_at = time.monotonic()


class Rejections:
    """Says what is refused, in the log and in a note for `gitopsd status`; a flood of it only in sums."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._trouble = _Trouble()
        self._unsaid: dict[tuple[str, str], int] = {}
        self._said_at: dict[tuple[str, str], float] = {}
        self._noted_at: dict[tuple[str, str, str], float] = {}
        self._clean: set[tuple[str, str]] = set()

    def refused(self, receiver: str, hook: str, reason: str, store: Store, *, kind: str = "") -> None:
        """A delivery for `receiver` was refused. Anybody can bring that about, so it is said once in ten seconds.

        `hook` is what the sender calls its webhook, or "": where one of several has another secret, the deliveries of
        the others must not hide that. `kind` stands for all reasons like this one, where a sender can vary it.
        """
        with self._guard:
            self._say(receiver, reason, kind or reason, time.monotonic())
        self.note(receiver, hook, reason, store)

    def note(self, receiver: str, hook: str, reason: str, store: Store) -> None:
        """Keep for `gitopsd status` why a delivery led to nothing, until one of the same webhook is in order."""
        with self._guard:
            if not self._may_note(receiver, hook, reason, time.monotonic()):
                return
            self._clean = {each for each in self._clean if each[0] != receiver}
            with self._trouble.passed_over():
                store.write_note(f"{REJECTED_NOTE}{receiver}", {"at": self._clock(), "reason": reason})
                if receiver == UNKNOWN_RECEIVER:  # of which there is nothing to be in order
                    return
                note = store.read_note(f"{REFUSED_NOTE}{receiver}") or {}
                note[hook] = {"at": self._clock(), "reason": reason}
                newest = sorted(note.items(), key=lambda item: -item[1]["at"])[:_MAX_REFUSED_HOOKS]
                store.write_note(f"{REFUSED_NOTE}{receiver}", dict(newest))

    def proven(self, receiver: str, hook: str, store: Store) -> None:
        """A delivery was in order: what was noted of its webhook, by us or by the daemon before us, is over."""
        if (receiver, hook) in self._clean or self._trouble.is_recent():
            return
        with self._guard, self._trouble.passed_over():
            note = store.read_note(f"{REFUSED_NOTE}{receiver}") or {}
            left = {other: refused for other, refused in note.items() if other not in ("", hook)}
            if left != note:
                store.write_note(f"{REFUSED_NOTE}{receiver}", left or None)
            # What is refused from now on is news again.
            self._noted_at = {
                key: at for key, at in self._noted_at.items() if key[:2] not in ((receiver, ""), (receiver, hook))
            }
            self._clean.add((receiver, hook))

    def _may_note(self, receiver: str, hook: str, reason: str, now: float) -> bool:
        """Once in ten seconds for each webhook and reason, and for no more than a few, as anybody can make them up."""
        key = (receiver, hook, reason)
        if self._trouble.is_recent():
            return False
        recent = {known: at for known, at in self._noted_at.items() if now - at < _REJECTED_LOG_SEC}
        if key in recent or sum(known[0] == receiver for known in recent) >= _MAX_REFUSED_HOOKS:
            return False
        self._noted_at = {**recent, key: now}
        return True

    def _say(self, receiver: str, reason: str, kind: str, now: float) -> None:
        key = (receiver, kind)
        if now - self._said_at.get(key, -_REJECTED_LOG_SEC) < _REJECTED_LOG_SEC:
            self._unsaid[key] = self._unsaid.get(key, 0) + 1
            return
        more = f" ({unsaid} more like it before)" if (unsaid := self._unsaid.pop(key, 0)) else ""
        self._said_at[key] = now
        extra = journal.fields(Kind.DELIVERY_REFUSED, receiver=receiver)
        _log.warning("receiver '%s': refused a delivery: %s%s", receiver, reason, more, extra=extra)


class Proofs:
    """Keeps, while a secret is being rotated, who has signed with which one and when: `gitopsd init --finish` asks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._trouble = _Trouble()
        self._written_at: dict[tuple[str, str, str], float] = {}

    def given(self, receiver: str, secret: str, repo: str, store: Store) -> None:
        """A delivery about the remote of `repo` was signed with `secret`. A burst of them is one note."""
        key, now = (receiver, secret, repo), time.monotonic()
        if self._trouble.is_recent():
            return
        with self._guard, self._trouble.passed_over():
            if now - self._written_at.get(key, -_PROOF_SEC) < _PROOF_SEC:
                return
            note = store.read_note(f"{PROOF_NOTE}{receiver}") or {}
            note.setdefault(secret, {})[repo] = self._clock()
            store.write_note(f"{PROOF_NOTE}{receiver}", note)
            self._written_at[key] = now
