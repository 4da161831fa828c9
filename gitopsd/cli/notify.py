"""`gitopsd notify`: tell what became of jobs. What syncs start."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from gitopsd import config as configuration
from gitopsd import journal, lock, notify, runner, script, systemd
from gitopsd.cli import terminal
from gitopsd.cli.exits import EXIT_DONE, EXIT_FAILED
from gitopsd.cli.poll import opened
from gitopsd.errors import BusyError, GitopsdError
from gitopsd.joblog import report_path
from gitopsd.model import Job
from gitopsd.notify import news, targets
from gitopsd.notify.troubles import Troubles, of_repo, of_target
from gitopsd.settings import Config
from gitopsd.store import Store
from gitopsd.store.notes import UNTOLD_NOTE

_PATIENCE_SEC = 3.0


def tell(config_path: Path) -> int:
    """Tell what is new, and go on until no sync is under way."""
    from gitopsd.notify.messages import Messenger
    from gitopsd.notify.notifier import Notifier
    from gitopsd.notify.statuses import Reporter

    config, store = opened(config_path)
    if not notify.is_wanted(config):
        return EXIT_DONE
    environment, troubles = _environment(config), Troubles(store, time.time)
    try:
        # One that is at its end looks no more: a moment, and the lock is free. Any other looks once more.
        with lock.hold(config.state_dir, lock.NOTIFIER, patience_sec=_PATIENCE_SEC):
            messenger = Messenger(
                config, store, troubles, environment=environment, clock=time.time, host=os.uname().nodename
            )
            reporter = Reporter(
                store, troubles, environment=environment, clock=time.time, fetched=lambda job: _fetched(config, job)
            )
            is_whole = Notifier(config, store, messenger, reporter).run()
    except BusyError:
        return EXIT_DONE
    return EXIT_DONE if is_whole else EXIT_FAILED


def try_targets(config_path: Path) -> int:
    """Send a trial message to every target, and say of each whether it was taken."""
    journal.set_up_log()
    config = configuration.load(config_path)
    if not config.notify.urls:
        raise GitopsdError(f"{config.source} names nobody to notify; name a credential under notify.urls")
    if _uses_units(config) and os.geteuid() != 0:
        raise GitopsdError(f"only root may read {systemd.NOTIFY_DIRECTORY}; run: sudo gitopsd notify --test")
    found = targets.load(config.notify.urls, _environment(config))
    out = terminal.console()
    with terminal.waiting(out, "sending"):
        answers = targets.send(found, news.trial_of(os.uname().nodename))
    for name, problem in answers.items():
        out.print(terminal.plain(f"✗ {name}: {problem}" if problem else f"✓ {name}: the message was taken"))
    return EXIT_FAILED if any(answers.values()) else EXIT_DONE


def problems(config: Config, store: Store) -> Iterator[str]:
    """One line for each thing that was to be told, and could not be."""
    if config.notify.urls and not targets.is_installed():
        yield f"notify: {targets.MISSING}"
    asked = [of_target(name) for name in config.notify.urls]
    forges = [of_repo(repo.name) for repo in config.repos.values() if repo.statuses]
    for what, failed in (store.read_note(UNTOLD_NOTE) or {}).items():
        if what in forges or any(what == each or what.startswith(f"{each} (") for each in asked):
            when = terminal.ago(failed["at"], time.time())
            yield f"the last {what} failed {when}: {failed['reason']}"
    if notify.is_wanted(config) and _uses_units(config):
        yield from _of_unit()


def _of_unit() -> Iterator[str]:
    try:
        state = runner.unit_states([runner.NOTIFY_UNIT])[runner.NOTIFY_UNIT]
    except GitopsdError as error:
        yield str(error)
        return
    if state.load == "masked":
        yield f"{runner.NOTIFY_UNIT} is masked, so nobody is told of anything; systemctl unmask {runner.NOTIFY_UNIT}"
    elif state.active == "failed":
        yield f"{runner.NOTIFY_UNIT} failed, so not all is told; see: journalctl -u {runner.NOTIFY_UNIT}"


def look(config: Config) -> Iterator[tuple[str, str]]:
    """For `gitopsd check`: each target and each token, with what is wrong with it ("" if nothing can be seen)."""
    environment = _environment(config)
    found = targets.load(config.notify.urls, environment)
    for name, problem in targets.send(found, None).items():
        yield f"notify: {name}", problem
    for repo in config.repos.values():
        if repo.statuses:
            token, problem = systemd.secret(repo.statuses.token, environment, systemd.NOTIFY)
            yield f"{repo.name}: statuses: token '{repo.statuses.token}'", "" if token else problem


def _environment(config: Config) -> Mapping[str, str]:
    """Where credentials are. By hand, where syncs are units, they are what systemd would load."""
    if "CREDENTIALS_DIRECTORY" in os.environ or not _uses_units(config):
        return os.environ
    return {**os.environ, "CREDENTIALS_DIRECTORY": str(systemd.NOTIFY_DIRECTORY)}


def _uses_units(config: Config) -> bool:
    try:
        return runner.uses_units(config)
    except GitopsdError:
        return False


def _fetched(config: Config, job: Job) -> str:
    """What the engine of a running job says that it has fetched; "" before that."""
    return script.read_report(report_path(config.state_dir, job.repo, job.id)).values.get("new_revision", "")
