"""`gitopsd serve` and `gitopsd run`: what units start."""

import contextlib
import logging
import signal
import sys
import time
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import holds, journal, notify, runner, signals, sync
from gitopsd.cli.exits import EXIT_BUSY, EXIT_DONE, EXIT_USAGE
from gitopsd.discovery import NAME, find_repo
from gitopsd.errors import GitopsdError
from gitopsd.model import JobState
from gitopsd.settings import Config
from gitopsd.store import Store, path_in

_log = logging.getLogger(__name__)


def serve(config_path: Path, address: str | None) -> int:
    """Serve on the inherited sockets, else on `address`, until SIGTERM."""
    from gitopsd import daemon, listeners

    journal.set_up_log()
    try:
        sockets = listeners.inherited()
        opened = None if sockets else address
        if opened:
            sockets = [listeners.open_at(opened)]
    except GitopsdError as error:
        _log.error("%s", error)
        return EXIT_USAGE
    if not sockets:
        _log.error("no socket was handed over; give --listen HOST:PORT, or start this by a systemd socket unit")
        return EXIT_USAGE
    try:
        is_done = daemon.Daemon(config_path, sockets, may_idle=opened is None).run()
    finally:
        for each in sockets:
            each.close()
        if opened and opened.startswith("unix:"):
            Path(opened.removeprefix("unix:")).unlink(missing_ok=True)
    return EXIT_DONE if is_done else EXIT_BUSY


def run(config_path: Path, repo: str) -> int:
    """Sync one repo until none of its jobs is due. What became of the jobs is in the store, not in the exit code."""
    if not NAME.fullmatch(repo):
        print(f"gitopsd run: {repo!r} is not a repo's name", file=sys.stderr)  # nor a part of the path of its lock
        return EXIT_USAGE
    journal.set_up_log()
    with signals.caught(signal.SIGTERM, signal.SIGINT) as stop_fd:
        config = configuration.load(config_path)
        store = Store(path_in(config.state_dir), time.time)
        _see_to_notifier(config)
        sync.run(config, repo, store, lambda name: find_repo(config, name), stop_fd, clock=time.time)
    _see_to_retry(config, store, repo)
    _see_to_notifier(config)
    return EXIT_DONE


def _see_to_notifier(config: Config) -> None:
    """Start who tells of the sync that begins, or has ended; where that is a unit, systemd does."""
    try:
        if notify.is_wanted(config) and not runner.uses_units(config):
            secrets = configuration.receiver_secrets(config)
            runner.start_notifier(configuration.dump(config), secrets, limit_sec=notify.HARD_LIMIT_SEC)
    except GitopsdError as error:
        _log.warning("nobody is told of the sync: %s", error)


def _see_to_retry(config: Config, store: Store, repo: str) -> None:
    """A job that is to be tried again later needs a daemon that knows when; an idle one has gone."""
    pending = store.unfinished(repo, JobState.PENDING)
    with contextlib.suppress(GitopsdError):  # another User= may not start it; then the next poll sees to the job
        if pending and not holds.keeps(config.state_dir, pending, time.time()) and runner.uses_units(config):
            runner.start_daemon()
