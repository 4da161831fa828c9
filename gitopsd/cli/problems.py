"""What keeps deliveries out, as the records tell it: for `gitopsd status` and `gitopsd why`."""

import time

from gitopsd import lock
from gitopsd.cli import terminal
from gitopsd.model import Config
from gitopsd.store import REFUSED_NOTE, STATUS_NOTE, Store


def of_daemon(config: Config, store: Store) -> list[str]:
    """One line for each thing that keeps deliveries out; empty while a daemon lives and all is well."""
    if lock.is_free(config.state_dir, lock.DAEMON):
        return ["gitopsd serve is not running: deliveries are not received, and nothing is tried again"]
    problems = list(store.read_note(STATUS_NOTE) or [])
    for name in config.receivers:
        if refused := store.read_note(f"{REFUSED_NOTE}{name}"):
            when = terminal.ago(refused["at"], time.time())
            hint = "is the secret the same at the provider?"
            problems.append(f"receiver '{name}' refused a delivery {when}: {refused['reason']}; {hint}")
    return problems
