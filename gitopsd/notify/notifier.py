"""The round: look at all repos, tell what is new, stay while a sync is under way."""

import logging
import time
from collections.abc import Callable

from gitopsd import lock
from gitopsd.errors import GitopsdError
from gitopsd.notify.messages import Messenger
from gitopsd.notify.statuses import Reporter
from gitopsd.settings import Config
from gitopsd.store import Store

_log = logging.getLogger(__name__)
_LIMIT_SEC = 600.0
_LOOK_SEC = 1.0


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

        A start that comes meanwhile starts nothing. So this one looks once more after whatever it has done, and goes on
        until a look has found nothing, and nobody held the lock of a repo before it. `limit_sec`: no longer than that.
        """
        deadline = time.monotonic() + limit_sec
        while time.monotonic() < deadline:
            names = self._store.repos()
            # This first: what ends now is seen by the look.
            is_busy = bool(lock.held(self._config.state_dir, names))
            told = [self._look(name) for name in names]
            if not any(told) and not is_busy:
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
