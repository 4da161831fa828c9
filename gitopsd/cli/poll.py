"""`gitopsd poll` and `gitopsd catchall`: find what no webhook told of. What timers start."""

import time
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import journal, lock, runner
from gitopsd import poll as remotes
from gitopsd.cli import terminal
from gitopsd.cli.exits import EXIT_BUSY, EXIT_DONE
from gitopsd.discovery import find_repos
from gitopsd.model import Config, Trigger
from gitopsd.store import POLL_NOTE, Store, path_in


def poll(config_path: Path, *, as_json: bool) -> int:
    """Ask every remote, queue a sync where the tip has moved, and see that what is due is dispatched."""
    journal.set_up_log()
    config = configuration.load(config_path)
    store = Store(path_in(config.state_dir), time.time)
    secrets = {name for receiver in config.receivers.values() for name in receiver.secrets}
    tips = remotes.ask(find_repos(config).repos.values(), secrets)
    moved = remotes.enqueue_moved(store, tips)
    problems = {tip.repo.name: tip.problem for tip in tips if tip.problem}
    store.write_note(POLL_NOTE, problems)
    _see_to_dispatch(config, store)
    if as_json:
        terminal.print_json({"asked": [tip.repo.name for tip in tips], "moved": moved, "problems": problems})
    else:
        print(f"asked {len(tips)} remotes; moved: {', '.join(moved) or 'none'}")
        for name, problem in problems.items():
            print(f"{name}: {problem}")
    return EXIT_BUSY if problems else EXIT_DONE


def catchall(config_path: Path, *, as_json: bool) -> int:
    """Queue a sync of every repo, and see that they are dispatched."""
    journal.set_up_log()
    config = configuration.load(config_path)
    store = Store(path_in(config.state_dir), time.time)
    jobs = [store.enqueue(name, Trigger.TIMER) for name in find_repos(config).repos]
    _see_to_dispatch(config, store)
    if as_json:
        terminal.print_json({"jobs": [terminal.job_json(job) for job in jobs]})
    else:
        print(f"queued: {', '.join(f'job {job.id} of {job.repo}' for job in jobs) or 'nothing, no repo is configured'}")
    return EXIT_DONE


def _see_to_dispatch(config: Config, store: Store) -> None:
    """Start the daemon if a job is due, or a record of a running one is of a sync that was killed.

    A daemon that runs looks at the records by itself, and so does one that somebody starts by hand later.
    """
    running = {job.repo for job in store.running()}
    is_orphaned = running - lock.held(config.state_dir, running)
    if (store.due() or is_orphaned) and runner.uses_units(config):
        runner.start_daemon()
