"""`gitopsd poll` and `gitopsd catchall`: find what no webhook told of. What timers start."""

import os
import time
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import holds, journal, lock, runner
from gitopsd import poll as remotes
from gitopsd.cli import terminal
from gitopsd.cli.exits import EXIT_BUSY, EXIT_DONE
from gitopsd.discovery import find_repos
from gitopsd.errors import GitopsdError
from gitopsd.model import Job, Trigger
from gitopsd.settings import Config
from gitopsd.store import Store, path_in
from gitopsd.store.notes import POLL_NOTE


def poll(config_path: Path, *, as_json: bool) -> int:
    """Ask every remote, queue a sync where the tip has moved, and see that what is due is dispatched."""
    config, store = opened(config_path)
    secrets = configuration.secret_names(config)
    tips = remotes.ask(find_repos(config).repos.values(), secrets)
    moved = remotes.enqueue_moved(store, tips)
    remotes.enqueue_looks(store, tips)
    problems = {tip.repo.name: tip.problem for tip in tips if tip.problem}
    store.write_note(POLL_NOTE, {"at": time.time(), "problems": problems})
    _see_to_dispatch(config, store)
    if as_json:
        terminal.print_json({"asked": [tip.repo.name for tip in tips], "moved": moved, "problems": problems})
    else:
        print(f"remotes asked: {len(tips)}; moved: {', '.join(moved) or 'none'}")
        for name, problem in problems.items():
            print(terminal.plain(f"{name}: {problem}").plain)
    return EXIT_BUSY if problems else EXIT_DONE


def catchall(config_path: Path, *, as_json: bool) -> int:
    """Queue a sync of every repo that has a remote, and see that they are dispatched."""
    config, store = opened(config_path)
    # What has no remote has nothing that could have been missed there.
    jobs = [store.enqueue(repo.name, Trigger.TIMER) for repo in find_repos(config).repos.values() if repo.url]
    _see_to_dispatch(config, store)
    if as_json:
        terminal.print_json({"jobs": [terminal.job_json(job) for job in jobs]})
    else:
        queued = ", ".join(f"job {job.id} of {job.repo}" for job in jobs)
        print(f"queued: {queued or 'nothing, no repo with a remote is configured'}")
    return EXIT_DONE


def opened(config_path: Path) -> tuple[Config, Store]:
    """Configuration and store, for what units do: root may do it, and the user of the syncs. Raises GitopsdError."""
    journal.set_up_log()
    config = configuration.load(config_path)
    # Who only may look would ask the remotes with keys of his own, and tell everybody that he could not.
    if runner.uses_units(config) and os.geteuid() != 0 and not _is_user_of_syncs(config.state_dir / "locks"):
        raise GitopsdError("only root and the user of the syncs may do this; run it with sudo")
    return config, Store(path_in(config.state_dir), time.time)


def _is_user_of_syncs(locks: Path) -> bool:
    """By the group, as their sandbox may be one in which nothing can be written there."""
    return locks.stat().st_gid in (os.getegid(), *os.getgroups())


def _see_to_dispatch(config: Config, store: Store) -> None:
    """Start the daemon if a job is due that no hold keeps, or a record of a running one is of a sync that was killed.

    A daemon that runs looks at the records by itself, and so does one that somebody starts by hand later.
    """
    running = {job.repo for job in store.running()}
    is_orphaned = running - lock.held(config.state_dir, running)
    due = set(store.due())
    is_due = any(job.repo in due and not _is_kept(config, job) for job in store.waiting())
    if (is_due or is_orphaned) and runner.uses_units(config):
        runner.start_daemon()


def _is_kept(config: Config, job: Job) -> bool:
    """Whether nothing would start `job`: it is held, or may be held and there is no telling (`status` says why)."""
    try:
        return holds.keeps(config.state_dir, job, time.time())
    except GitopsdError:
        return True
