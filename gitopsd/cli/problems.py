"""What keeps deliveries out, or syncs from running: for `gitopsd status` and `gitopsd why`."""

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping

from gitopsd import lock, runner, systemd
from gitopsd.cli import terminal
from gitopsd.errors import GitopsdError
from gitopsd.model import Config, Job
from gitopsd.runner import UnitState
from gitopsd.store import POLL_NOTE, REFUSED_NOTE, STATUS_NOTE, Store

_PATIENCE_SEC = 20.0


def of_daemon(config: Config, store: Store, repos: Collection[str]) -> list[str]:
    """One line for each thing that keeps deliveries out, or polls of `repos`; empty while all is well."""
    if reason := _reason_of_silence(config):
        return [reason]
    problems = list(store.read_note(STATUS_NOTE) or [])
    if os.geteuid() == 0 and runner.uses_units(config):  # who else cannot see them
        problems = [*dict.fromkeys([*problems, *_closed_receivers(config)])]
    for name in config.receivers:
        if any(f"receiver '{name}' is closed" in problem for problem in problems):
            continue
        if refused := store.read_note(f"{REFUSED_NOTE}{name}"):
            when = terminal.ago(refused["at"], time.time())
            hint = "is the secret the same at the provider?"
            problems.append(f"receiver '{name}' refused a delivery {when}: {refused['reason']}; {hint}")
    return [*problems, *_of_poll(store, repos)]


def _of_poll(store: Store, repos: Collection[str]) -> Iterator[str]:
    note = store.read_note(POLL_NOTE)
    if not isinstance(note, dict):
        return
    for repo, problem in note.get("problems", {}).items():
        if repo in repos:
            when = terminal.ago(note["at"], time.time())
            yield f"the last poll ({when}) could not ask the remote of {repo}: {problem}"


def of_waiting(pending: Iterable[Job], running: Collection[str]) -> Iterator[str]:
    """One line for each job that is due and that nobody starts."""
    for job in pending:
        if job.repo not in running and time.time() - job.due_at > _PATIENCE_SEC:
            since = terminal.ago(job.due_at, time.time())
            hint = "the daemon's status line or log tells why"
            yield f"job {job.id} of {job.repo} was due {since}, and nobody has started it; {hint}"


def of_credential(name: str) -> str:
    """What is wrong with a secret that gitopsd.service loads, as its file is now; "" if nothing is."""
    path = systemd.SECRETS_DIRECTORY / name
    remedy = "write it, for root alone (0600), and run: systemctl restart gitopsd"
    try:
        return "" if path.read_bytes().strip() else f"secret '{name}' is empty ({path}); {remedy}"
    except PermissionError:
        return f"secret '{name}' cannot be looked at by this user ({path}); run this as root"
    except OSError as error:
        if name in runner.credentials_of_daemon():
            return ""
        return f"secret '{name}' cannot be read ({path}: {error.strerror}); {remedy}"


def _closed_receivers(config: Config) -> Iterator[str]:
    for receiver in config.receivers.values():
        problems = [of_credential(name) for name in receiver.secrets]
        if all(problems):
            yield f"receiver '{receiver.name}' is closed: {'; '.join(problems)}"


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
    try:
        if not runner.uses_units(config):
            if not lock.is_free(config.state_dir, lock.DAEMON):
                return ""
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
