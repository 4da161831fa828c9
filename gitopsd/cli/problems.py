"""What keeps deliveries out, or syncs from running: for `gitopsd status` and `gitopsd why`."""

import time
from collections.abc import Iterable, Iterator, Mapping

from gitopsd import lock, runner
from gitopsd.cli import terminal
from gitopsd.errors import GitopsdError
from gitopsd.model import Config
from gitopsd.runner import UnitState
from gitopsd.store import POLL_NOTE, REFUSED_NOTE, STATUS_NOTE, Store


def of_daemon(config: Config, store: Store) -> list[str]:
    """One line for each thing that keeps deliveries out; empty while they are received and all is well."""
    if reason := _reason_of_silence(config):
        return [reason]
    problems = list(store.read_note(STATUS_NOTE) or [])
    for name in config.receivers:
        if refused := store.read_note(f"{REFUSED_NOTE}{name}"):
            when = terminal.ago(refused["at"], time.time())
            hint = "is the secret the same at the provider?"
            problems.append(f"receiver '{name}' refused a delivery {when}: {refused['reason']}; {hint}")
    for repo, problem in (store.read_note(POLL_NOTE) or {}).items():
        problems.append(f"the last poll could not ask the remote of {repo}: {problem}")
    return problems


def of_units(states: Mapping[str, UnitState]) -> Iterator[str]:
    """One line for each unit of a sync that failed."""
    for repo, state in states.items():
        if state.active == "failed":
            unit = runner.unit_of(repo)
            yield f"{unit} failed without doing its job; see: journalctl -u '{unit}'"


def states_of_units(config: Config, repos: Iterable[str]) -> dict[str, UnitState]:
    """How the unit of each repo stands; empty where syncs are no units. Raises GitopsdError."""
    if not runner.uses_units(config):
        return {}
    names = {repo: runner.unit_of(repo) for repo in repos}
    states = runner.unit_states(names.values())
    return {repo: states[unit] for repo, unit in names.items()}


def _reason_of_silence(config: Config) -> str:
    """Why nobody receives deliveries; "" if somebody does, or is started as soon as one comes."""
    if not lock.is_free(config.state_dir, lock.DAEMON):
        return ""
    try:
        if not runner.uses_units(config):
            return "gitopsd serve is not running: deliveries are not received, and nothing is tried again"
        states = runner.unit_states([runner.SOCKET_UNIT, runner.DAEMON_UNIT])
    except GitopsdError as error:
        return str(error)
    socket, daemon = states[runner.SOCKET_UNIT], states[runner.DAEMON_UNIT]
    if socket.active != "active":
        remedy = f"systemctl enable --now {runner.SOCKET_UNIT}"
        return f"{runner.SOCKET_UNIT} is {socket.active}: deliveries are not received; run: {remedy}"
    if daemon.active == "failed" or daemon.sub == "auto-restart":
        return (
            f"{runner.DAEMON_UNIT} does not start: deliveries are not answered; see: journalctl -u {runner.DAEMON_UNIT}"
        )
    return ""  # it runs, or idles until the next delivery starts it
