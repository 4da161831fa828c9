"""Pending and due jobs → runner; level-triggered."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from gitopsd import holds, lock
from gitopsd.errors import GitopsdError
from gitopsd.model import Job, JobState
from gitopsd.runner import Runner
from gitopsd.settings import Config
from gitopsd.store import Store

_log = logging.getLogger(__name__)
_RESCAN_SEC = 5.0
_HOLD_OFF_SEC = 1.0
_BREATH_SEC = 0.02
_LONGEST_HOLD_OFF_SEC = 60.0
_TROUBLE_FROM = 3
"""So many syncs of one repo in a row that failed without a record are trouble that a person has to see to."""
_PRUNE_SEC = 3600.0
_HANGS_SEC = 1.0


class Dispatcher:
    """Looks at the records and starts what is missing, over and over; a wake-up only makes the next look come sooner.

    So a wake-up that is lost, a sync that found the lock taken, or a crash costs a moment and never a deploy.
    """

    def __init__(
        self, config: Callable[[], Config | None], store: Store, runner: Runner, clock: Callable[[], float]
    ) -> None:
        self._config = config
        self._store = store
        self._runner = runner
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._left: dict[str, int] = {}  # the job that is due after the last sync of a repo
        self._held_off: dict[str, float] = {}
        self._failed: dict[str, int] = {}  # how many syncs of a repo, the last ones in a row, failed without a record
        self._pruned_at = 0.0
        self._problem = ""
        self._looked_at = time.monotonic()
        self.moves = 0
        """How often it has looked: what hangs does not move."""
        self._thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def wake(self) -> None:
        """Look now."""
        if not self._wake.is_set():  # to set it takes a lock, and deliveries may come by the thousand
            self._wake.set()

    def stop(self) -> None:
        """Start nothing more. What has not had its turn stays pending in the store, for the next start."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits, not even for a later time, but what is held. Raises StoreError."""
        if self._runner.running() or self._store.running():
            return False
        # Of a hold that ends by itself somebody has to see the end.
        return all(self._is_kept(job, holds.keeps_for_good) for job in self._store.waiting())

    def problem(self) -> str:
        """Why no job is started now; "" while all is well."""
        if not self._thread.is_alive():
            return "the dispatcher has stopped"
        if time.monotonic() - self._looked_at > 3 * _RESCAN_SEC:
            return "the dispatcher hangs"
        stuck = [repo for repo, count in list(self._failed.items()) if count >= _TROUBLE_FROM]
        trouble = [f"the sync of {repo} fails before it comes to its job; see its log or journal" for repo in stuck]
        return "; ".join(filter(None, [self._problem, *trouble]))

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            looked_at = self._clock()
            try:
                self._look()
                self._problem = ""
            except GitopsdError as error:
                if str(error) != self._problem:
                    _log.error("%s", error)
                self._problem = str(error)
            except Exception as error:  # noqa: BLE001 - the next look may go well; without one nothing is deployed
                self._problem = f"the dispatcher met a fault: {error!r}"
                _log.error("%s; it goes on", self._problem)
            self._looked_at = time.monotonic()
            self.moves += 1
            # Deliveries may come by the thousand, and to look takes time from them.
            self._stopping.wait(_BREATH_SEC)
            self._wake.wait(self._pause_sec(looked_at))

    def _look(self) -> None:
        config = self._config()
        if config is None:
            return
        trouble = []
        for repo in self._wanted():
            before = time.monotonic()
            try:
                if self._has_nothing_but_held(config, repo):
                    self._failed.pop(repo, None)
                    continue
                if not lock.is_free(config.state_dir, repo):
                    continue
                if self._under_way(config) >= config.max_parallel or self._stopping.is_set():
                    break
                self._runner.start(repo, self._ended)
            except GitopsdError as error:  # one repo's trouble is no other's
                trouble.append(str(error))
                if time.monotonic() - before > _HANGS_SEC:
                    break  # whoever hangs would do so for each repo
            self.moves += 1
        if self._clock() - self._pruned_at > _PRUNE_SEC or self._store.is_overfull(config.keep):
            self._pruned_at = self._clock()
            self._store.prune(config.keep)
        if trouble:
            raise GitopsdError("; ".join(trouble))

    def _has_nothing_but_held(self, config: Config, repo: str) -> bool:
        """Whether a sync of `repo` would come to nothing. What is recorded as running has to be seen to, held or not.

        Raises GitopsdError if it may be held, and there is no telling.
        """
        hold = holds.read(config.state_dir, repo, self._clock())
        if hold is None or self._store.unfinished(repo, JobState.RUNNING):
            return False
        pending = self._store.unfinished(repo, JobState.PENDING)
        return pending is None or pending.trigger not in holds.allowed(hold)

    def _is_kept(self, job: Job, keeps: Callable[[Path, Job, float], bool] = holds.keeps) -> bool:
        """Whether a hold keeps `job`. Where there is no telling, somebody has to stay who sees when it can be told."""
        config = self._config()
        try:
            return config is not None and keeps(config.state_dir, job, self._clock())
        except GitopsdError:
            return False

    def _under_way(self, config: Config) -> int:
        """How many syncs run, whoever started them. A record alone may be of one that was killed."""
        ours = set(self._runner.running())
        others = {job.repo for job in self._store.running()} - ours
        return len(ours) + len(lock.held(config.state_dir, others))

    def _wanted(self) -> list[str]:
        """The repos that a sync may have to be started for: a due job waits, or one is recorded as running."""
        now = time.monotonic()
        for repo in [repo for repo, until in list(self._held_off.items()) if until <= now]:
            del self._held_off[repo]
        ours = {*self._runner.running(), *self._held_off}
        wanted = dict.fromkeys([*(job.repo for job in self._store.running()), *self._store.due()])
        for repo in [repo for repo in list(self._failed) if repo not in wanted]:
            self._failed.pop(repo, None)  # somebody else has come to its job
        return [repo for repo in wanted if repo not in ours]

    def _ended(self, repo: str, exit_code: int) -> None:
        if exit_code == 0:
            self._failed.pop(repo, None)
        else:
            self._failed[repo] = self._failed.get(repo, 0) + 1
        before, left = self._left.pop(repo, None), self._left_job(repo)
        if left is not None:
            self._left[repo] = left
        if exit_code != 0 or left == before is not None:
            # It could not even try (busy, store not writable), or left the same job once more: not at once again. A job
            # that was left once may have come in the last moment.
            longer = 2 ** min(max(0, self._failed.get(repo, 0) - 1), 10)
            self._held_off[repo] = time.monotonic() + min(_HOLD_OFF_SEC * longer, _LONGEST_HOLD_OFF_SEC)
        self._wake.set()

    def _left_job(self, repo: str) -> int | None:
        """The job of `repo` that is due; 0 where there is no telling."""
        try:
            pending = self._store.unfinished(repo, JobState.PENDING) if repo in self._store.due() else None
        except GitopsdError:
            return 0
        return pending.id if pending else None

    def _pause_sec(self, looked_at: float) -> float:
        """How long to wait after a look. What has become due since then is a reason for another one at once."""
        try:
            due_at = self._store.next_due_at(looked_at)
        except GitopsdError:
            return _RESCAN_SEC
        pause_sec = _RESCAN_SEC if due_at is None else min(_RESCAN_SEC, max(0.0, due_at - self._clock()))
        held_off_sec = (max(0.0, until - time.monotonic()) for until in list(self._held_off.values()))
        return min([pause_sec, *held_off_sec])
