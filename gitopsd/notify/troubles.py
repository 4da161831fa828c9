"""What could not be told: noted for `gitopsd status`, until it can be."""

from collections.abc import Callable

from gitopsd.store import Store
from gitopsd.store.notes import UNTOLD_NOTE


class Troubles:
    """One line for each thing that failed the last time that it was tried."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock

    def note(self, what: str, problem: str) -> None:
        """Note that `what` has failed, or with "" that it has not. Raises StoreError."""
        found = dict(self._store.read_note(UNTOLD_NOTE) or {})
        before = dict(found)
        if problem:
            found[what] = {"at": self._clock(), "reason": problem}
        else:
            found.pop(what, None)
        if found != before:
            self._store.write_note(UNTOLD_NOTE, found)


def of_target(name: str) -> str:
    """What it is called where a target does not take a message."""
    return f"notification by {name}"


def of_repo(name: str) -> str:
    """What it is called where the forge of a repo does not take a status."""
    return f"commit status of {name}"
