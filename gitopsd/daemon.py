"""Wires the parts: sockets, signals, READY, WATCHDOG, STOPPING, idle exit."""

import contextlib
import gc
import logging
import math
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import journal, listeners, lock, runner, signals, systemd
from gitopsd.discovery import Found, Origins, find_repos
from gitopsd.dispatcher import Dispatcher
from gitopsd.errors import ConfigError, GitopsdError, StoreError
from gitopsd.journal import Kind
from gitopsd.model import Secret, Trigger
from gitopsd.receiver import Serving, create_app
from gitopsd.rounds import Rounds
from gitopsd.runner import Runner
from gitopsd.settings import MAX_BODY, Config, Limits, Repo
from gitopsd.store import Store, path_in
from gitopsd.store.notes import CONFIG_NOTE, STATUS_NOTE
from gitopsd.web import WebServer

_log = logging.getLogger(__name__)
_TICK_SEC = 1.0
_SHORTEST_TICK_SEC = 0.1
_MEND_SEC = 1.0
_RESCAN_PATIENCE_SEC = 2.0


class Daemon:
    """One `gitopsd serve`, from its first socket to its last answer."""

    def __init__(self, config_path: Path, sockets: list[socket.socket], *, may_idle: bool) -> None:
        """`may_idle`: whoever made the sockets keeps them, and starts another daemon for the next connection."""
        self._config_path = config_path
        self._sockets = sockets
        self._notifier = systemd.Notifier(os.environ)
        self._serving: Serving | None = None
        # A request that looks for new checkouts must not put back what a reload has just replaced.
        self._reloading = threading.Lock()
        self._rescanning: threading.Thread | None = None
        self._has_rescanned = False
        self._origins: Origins = {}
        self._lock = contextlib.ExitStack()
        self._lock_problem: str | None = "not tried yet"  # None once it is held
        self._config_problem = "the configuration is not loaded yet"
        self._is_broken = False
        self._mend_at = 0.0
        self._mended: Config | None = None
        self._secret_names: set[str] = set()
        self._runner: Runner | None = None
        self._dispatcher: Dispatcher | None = None
        app = create_app(
            lambda: self._serving or self._config_problem,
            rescan=self._rescan,
            wake=self._note_job,
            dispatcher_problem=lambda: self._dispatcher.problem() if self._dispatcher else self._config_problem,
            clock=time.time,
        )
        self._rounds = Rounds()
        self._has_new_job = False
        self._web = WebServer(app, sockets, MAX_BODY, Limits(), serve=self._rounds.run, answered=self._end_round)
        self._may_idle = may_idle
        self._busy_at = time.monotonic()
        self._connections_then = 0

    def run(self) -> bool:
        """Serve until SIGTERM or SIGINT, or until there is nothing to do; SIGHUP reloads the configuration.

        False if a job came after the last look of a daemon that ends by itself: then another has to be started.
        """
        with signals.caught(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signal_fd:
            self._load()
            # All modules and the configuration: they stay, and to look through them takes the time of many deliveries.
            gc.freeze()
            self._web.start()
            self._notifier.ready()
            names = ", ".join(listeners.name_of(each) for each in self._sockets)
            _log.info("listening on %s", names, extra=journal.fields(Kind.STARTED))
            while True:
                self._hold_lock()
                self._notifier.status(self._status())
                self._notifier.watchdog(self._web.moves, *([self._dispatcher.moves] if self._dispatcher else []))
                if not self._web.is_alive():
                    raise GitopsdError("the HTTP loop has ended by itself; the service has to be started anew")
                if self._ends_by_itself():
                    self._stop()
                    # From STOPPING on, whoever queues a job and starts the service has it started again. So look now.
                    return self._has_nothing_to_do()
                caught = self._wait(signal_fd)
                if signal.SIGTERM in caught or signal.SIGINT in caught:
                    break
                if signal.SIGHUP in caught:
                    self._load()
                self._mend()
            self._stop()
            return True

    def _load(self, *, again: bool = False) -> None:
        """Put the configuration in force, or leave the one in force as it is if the new one is broken.

        `again`: nobody asked for it, and what was said to be wrong is not said once more.
        """
        try:
            config = configuration.load(self._config_path)
            if self._runner is None:
                self._runner = runner.choose(config, self._config_text, self._secret_names)
        except GitopsdError as error:
            if not again or str(error) not in self._config_problem:
                self._tell_broken(error)
            return
        self._is_broken = False
        if self._serving:
            config = self._keep_place(config, self._serving.config)
        with self._reloading:
            self._serving = self._prepare(config)
        self._web.set_limits(config.max_body, config.limits)
        if self._dispatcher is None:
            self._dispatcher = Dispatcher(self._config, self._serving.store, self._runner, time.time)
            self._dispatcher.start()
        self._dispatcher.wake()
        _log.info("configuration %s: repos %s", config.source, ", ".join(self._serving.repos) or "(none)")

    def _mend(self) -> None:
        """Read what was broken again until it is in order, and so twice: somebody may be just writing it."""
        if not self._is_broken or time.monotonic() < self._mend_at:
            return
        self._mend_at = time.monotonic() + _MEND_SEC
        before, self._mended = self._mended, None
        with contextlib.suppress(ConfigError):
            self._mended = configuration.load(self._config_path)
            if self._mended == before:
                self._load(again=True)

    def _tell_broken(self, error: GitopsdError) -> None:
        self._is_broken = True
        self._config_problem = f"the configuration is broken: {error}"
        for problem in error.problems if isinstance(error, ConfigError) else (str(error),):
            _log.error("%s", problem, extra=journal.fields(Kind.CONFIG_BROKEN))
        if self._serving:
            _log.error("the configuration before it stays in force")
            problem = f"{self._config_problem}; the one before it stays in force"
            with self._reloading:
                self._serving = self._serving._replace(problem=problem)
            self._note(self._serving.store, [problem])
        else:
            _log.error("deliveries get 503 until it is mended")

    def _hold_lock(self) -> None:
        """Show others that a daemon lives: now, or as soon as a daemon before this one, or the disk, lets it."""
        if self._serving is None or self._lock_problem is None:
            return
        try:
            self._lock.enter_context(lock.hold(self._serving.config.state_dir, lock.DAEMON))
            self._lock_problem = None
        except GitopsdError as error:
            if str(error) != self._lock_problem:
                _log.warning("%s", error)
            self._lock_problem = str(error)

    def _prepare(self, config: Config) -> Serving:
        self._origins = {}  # a reload reads all of it anew
        found = find_repos(config, self._origins)
        secrets, closed = _read_secrets(config)
        # The name of a secret that was taken out of the configuration stays: its variable is in our environment yet.
        self._secret_names.update(configuration.receiver_secrets(config))
        store = (
            self._serving.store if self._serving else Store(path_in(config.state_dir), time.time, self._rounds.pause)
        )
        lines = [f"receiver '{name}' is closed: {why}" for name, why in closed.items()]
        for line in lines:
            _log.warning("%s", line, extra=journal.fields(Kind.RECEIVER_CLOSED))
        for line in found.problems.values():
            _log.warning("%s", line)
        self._note(store, lines)
        self._note(store, {"digest": configuration.digest(config), "at": time.time()}, CONFIG_NOTE)
        return Serving(
            config=config, store=store, repos={**self._unfit(found), **found.repos}, secrets=secrets, closed=closed
        )

    def _unfit(self, found: Found) -> dict[str, Repo]:
        """What was a repo below a root until now and cannot be read at the moment: its pushes are not dropped."""
        before = self._serving.repos if self._serving else {}
        return {
            name: repo
            for name, repo in before.items()
            if repo.opted_in_by_file and (name in found.problems or str(repo.path.parent) in found.problems)
        }

    def _note(self, store: Store, value: object, key: str = STATUS_NOTE) -> None:
        try:
            store.write_note(key, value)
        except StoreError as error:
            _log.error("%s", error)

    def _keep_place(self, config: Config, before: Config) -> Config:
        if config.state_dir != before.state_dir:
            _log.warning("state_dir changes with the next start only")
        if config.runner != before.runner:
            _log.warning("runner changes with the next start only")
        return config._replace(state_dir=before.state_dir, runner=before.runner)

    def _config(self) -> Config | None:
        return self._serving.config if self._serving else None

    def _config_text(self) -> str:
        """What syncs go by: the configuration in force, whatever stands in the file by now."""
        return configuration.dump(self._serving.config) if self._serving else ""

    def _note_job(self) -> None:
        self._has_new_job = True

    def _end_round(self) -> None:
        """Wake the dispatcher, if there is a reason: not before the answers have gone, whose time it would take."""
        self._has_rescanned = False
        if self._has_new_job and self._dispatcher:
            self._has_new_job = False
            self._dispatcher.wake()

    def _rescan(self) -> Mapping[str, Repo]:
        """Look for checkouts that were opted in since.

        What was known stays known: a checkout that is no repo at the moment (in the middle of a rebase, say) still gets
        its job, and the sync says what is wrong with it.
        """
        if self._serving is None:
            return {}
        # One look for all requests that have come at the same time. And a root on a disk that hangs must hold up one
        # of them for a moment, and none that comes after it.
        if not self._has_rescanned and not (self._rescanning and self._rescanning.is_alive()):
            self._has_rescanned = True
            self._rescanning = threading.Thread(target=self._look_for_repos, args=[self._serving], daemon=True)
            self._rescanning.start()
            self._rescanning.join(_RESCAN_PATIENCE_SEC)
        return self._serving.repos

    def _look_for_repos(self, serving: Serving) -> None:
        begin = time.monotonic()
        try:
            # Anybody's push may bring a look about, and all others wait for it: git is asked of what is new only.
            found = find_repos(serving.config, self._origins)
        except Exception as error:  # noqa: BLE001 - on a thread of its own, where nobody else would say it
            _log.error("roots: to look for new checkouts met a fault: %r", error)
            return
        with self._reloading:
            if self._serving and self._serving.config is serving.config:
                self._serving = self._serving._replace(repos={**self._serving.repos, **found.repos})
        if (taken := time.monotonic() - begin) < _RESCAN_PATIENCE_SEC:
            return
        _log.warning("roots: it took %.0f s to look for new checkouts", taken)
        # Who has pushed to one has had his answer meanwhile, which was that it leads to nothing.
        with contextlib.suppress(StoreError):
            for name in found.repos.keys() - serving.repos.keys():
                serving.store.enqueue(name, Trigger.POLL)
        if self._dispatcher:
            self._dispatcher.wake()

    def _status(self) -> str:
        if self._is_broken or self._dispatcher is None:
            return self._config_problem
        if problem := self._dispatcher.problem():
            return problem
        running = self._runner.running() if self._runner else []
        return f"syncing {', '.join(running)}" if running else "waiting for deliveries"

    def _ends_by_itself(self) -> bool:
        """Whether nothing was pending, running or connected for so long that the HTTP loop has ended."""
        if self._is_busy():
            self._busy_at = time.monotonic()
        if self._idle_left_sec() > 0 or not self._web.stop_if_idle(self._connections_then):
            return False
        _log.info("nothing to do for a while (idle_exit); the socket stays", extra=journal.fields(Kind.IDLE))
        return True

    def _idle_left_sec(self) -> float:
        """How much longer it has to be idle."""
        idle_exit_sec = self._serving.config.idle_exit_sec if self._may_idle and self._serving else None
        return math.inf if idle_exit_sec is None else self._busy_at + idle_exit_sec - time.monotonic()

    def _is_busy(self) -> bool:
        connections, self._connections_then = self._connections_then, self._web.connections
        if connections != self._web.connections or self._web.has_connections() or self._dispatcher is None:
            return True
        return self._is_broken or bool(self._dispatcher.problem()) or not self._has_nothing_to_do()

    def _has_nothing_to_do(self) -> bool:
        try:
            return self._dispatcher is None or self._dispatcher.is_idle()
        except StoreError:
            return False

    def _wait(self, signal_fd: int) -> bytes:
        ready, _, _ = select.select([signal_fd], [], [], min(_TICK_SEC, max(_SHORTEST_TICK_SEC, self._idle_left_sec())))
        return os.read(signal_fd, 64) if ready else b""

    def _stop(self) -> None:
        self._notifier.stopping()
        _log.info("stopping")
        if self._dispatcher:
            self._dispatcher.stop()
        self._web.stop()
        if self._runner and self._serving:
            self._runner.finish(self._serving.config.stop_timeout_sec)
        self._lock.close()


def _read_secrets(config: Config) -> tuple[dict[str, tuple[Secret, ...]], dict[str, str]]:
    """The secrets of each receiver that are there, and why each receiver that has none is closed."""
    secrets: dict[str, tuple[Secret, ...]] = {}
    closed = {}
    for receiver in config.receivers.values():
        read = [systemd.secret(name, os.environ) for name in receiver.secrets]
        read += [(systemd.secret(f"{name}{systemd.NEXT}", os.environ)[0], "") for name in receiver.secrets]
        usable = tuple(secret for secret, _ in read if secret)
        missing = "; ".join(problem for _, problem in read if problem)
        if usable:
            secrets[receiver.name] = usable
            if missing:
                _log.warning("receiver '%s': %s", receiver.name, missing)
        else:
            closed[receiver.name] = missing
    return secrets, closed
