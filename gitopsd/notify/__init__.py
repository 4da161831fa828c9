"""Tell the outside what became of jobs: people by messages, forges by commit statuses. It changes no outcome.

It goes by the records and by what it noted there of what it told, so that it does not matter who starts it, or when.
"""

import logging
import time
from collections.abc import Callable

from gitopsd import lock
from gitopsd.errors import GitopsdError
from gitopsd.model import Config
from gitopsd.notify.messages import Messenger, of_target
from gitopsd.notify.statuses import Reporter, of_repo
from gitopsd.notify.troubles import Troubles
from gitopsd.store import Store

__all__ = ["HARD_LIMIT_SEC", "Messenger", "Notifier", "Reporter", "Troubles", "is_wanted", "of_repo", "of_target"]

HARD_LIMIT_SEC = 900.0
"""When a notifier is ended by whoever has started it, whatever it does. It comes to its end by itself before that."""

_log = logging.getLogger(__name__)
_LIMIT_SEC = 600.0
_LOOK_SEC = 1.0


def is_wanted(config: Config) -> bool:
    """Whether anybody is to be told of anything."""
    return bool(config.notify.urls) or any(repo.statuses for repo in config.repos.values())


class Notifier:
    """Looks at all repos, tells what is new, and stays while a sync is under way."""

    def __init__(
        self,
        config: Config,
        store: Store,
        messenger: Messenger,
        reporter: Reporter,
        *,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._config, self._store = config, store
        self._messenger, self._reporter, self._wait = messenger, reporter, wait
        self._broken: set[str] = set()

    def run(self, limit_sec: float = _LIMIT_SEC) -> bool:
        """Tell everything; whether all repos could be looked at. Raises StoreError.

        Whoever wants to start one while this one is there is told to by nobody: so this one looks once more after
        whatever it did, and after the end of each sync.
        """
        deadline = time.monotonic() + limit_sec
        while time.monotonic() < deadline:
            names = self._store.repos()
            # This first: what ends now is seen by the look.
            is_busy = bool(lock.held(self._config.state_dir, names))
            if not any([self._look(name) for name in names]) and not is_busy:
                break
            if is_busy:
                self._wait(_LOOK_SEC)
        return not self._broken

    def _look(self, name: str) -> bool:
        """Whether anything was told of this repo. What is wrong with its records is its own trouble."""
        if name in self._broken:
            return False
        try:
            told = self._messenger.look(name)
            repo = self._config.repos.get(name)
            return (self._reporter.look(repo) if repo and repo.statuses else False) or told
        except GitopsdError as error:
            self._broken.add(name)
            _log.warning("%s: nothing can be told of it: %s", name, error)
            return False
