"""What keeps deliveries out, or syncs from running: for `gitopsd status` and `gitopsd why`."""

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from gitopsd import config as configuration
from gitopsd import lock, runner, systemd
from gitopsd.cli import terminal
from gitopsd.errors import GitopsdError
from gitopsd.model import Job, RemoteName
from gitopsd.remotes import is_remote_of, normalise_url
from gitopsd.runner import UnitState
from gitopsd.settings import Config, Repo
from gitopsd.signatures import NO_SECRET
from gitopsd.store import Store
from gitopsd.store.notes import (
    CONFIG_NOTE,
    POLL_NOTE,
    REFUSED_NOTE,
    REJECTED_NOTE,
    REMOTES_NOTE,
    STATUS_NOTE,
    UNKNOWN_RECEIVER,
)

_PATIENCE_SEC = 20.0
_RECENT_SEC = 3600.0
_REFUSED_SEC = 7 * 86400.0


def of_daemon(config: Config, store: Store, repos: Collection[str], *, refusals: bool = True) -> list[str]:
    """One line for each thing that keeps deliveries out, or polls of `repos`; empty while all is well.

    `refusals`: also for each webhook whose last delivery was refused.
    """
    try:
        states = _states(config)
        reason = _reason_of_silence(states) if states else _reason_without_units(config)
    except GitopsdError as error:
        return [str(error)]
    if reason:
        return [reason]
    problems = list(store.read_note(STATUS_NOTE) or [])
    if os.geteuid() == 0 and states:  # who else cannot see them
        problems = [*dict.fromkeys([*problems, *_closed_receivers(config)])]
    problems += _of_suspended(config)
    problems += [*_of_stale(config, store, in_unit=bool(states)), *_of_unknown(config, store)]
    for name in config.receivers if refusals else ():
        if any(f"receiver '{name}' is closed" in problem for problem in problems):
            continue
        problems += _of_refusals(name, store.read_note(f"{REFUSED_NOTE}{name}") or {})
    return [*problems, *_of_helpers(states), *_of_poll(store, repos)]


def _of_stale(config: Config, store: Store, *, in_unit: bool) -> Iterator[str]:
    note = store.read_note(CONFIG_NOTE)
    if note and note["digest"] != configuration.digest(config) and not lock.is_free(config.state_dir, lock.DAEMON):
        do = f"systemctl reload {runner.DAEMON_UNIT}" if in_unit else "kill -HUP its process"
        since = terminal.ago(note["at"], time.time())
        yield f"the configuration was changed, and the daemon goes by that of {since}; {do}"


def of_rules(config: Config, repos: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each rule of a receiver that cannot be as it was meant, with the receiver. `repos`: the names that there are."""
    for receiver in config.receivers.values():
        for name in receiver.repos or ():
            if name not in repos:
                yield receiver.name, f"repos: '{name}' is none of the repos; take it out, or: gitopsd add URL"
        if receiver.max_body is not None and receiver.max_body > config.max_body:
            yield receiver.name, f"max_body: no receiver reads more than max_body of all, {config.max_body}"


def _of_unknown(config: Config, store: Store) -> Iterator[str]:
    """What came for a receiver that there is not, as long as that may be about the webhook somebody has just made."""
    rejected = store.read_note(f"{REJECTED_NOTE}{UNKNOWN_RECEIVER}")
    if rejected and time.time() - rejected["at"] < _RECENT_SEC:
        known = ", ".join(config.receivers)
        yield f"something came {terminal.ago(rejected['at'], time.time())}, and {rejected['reason']} (known: {known})"


def _of_suspended(config: Config) -> Iterator[str]:
    for receiver in config.receivers.values():
        if receiver.suspended is not None:
            why = ": ".join(filter(None, (f"receiver '{receiver.name}' is suspended", receiver.suspended)))
            yield f"{why}; what it gets is recorded and leads to nothing"


def _of_refusals(receiver: str, refusals: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for webhook, refused in refusals.items():
        if time.time() - refused["at"] < _REFUSED_SEC:
            when, which = terminal.ago(refused["at"], time.time()), f" of webhook {webhook}" if webhook else ""
            if refused["reason"] == NO_SECRET:  # it is told that the receiver is closed
                continue
            hint = "; is the secret the same at the provider?" if "secret" in refused["reason"] else ""
            yield f"receiver '{receiver}' refused a delivery{which} {when}: {refused['reason']}{hint}"


def _of_poll(store: Store, repos: Collection[str]) -> Iterator[str]:
    note = store.read_note(POLL_NOTE)
    if not isinstance(note, dict):
        return
    for repo, problem in note.get("problems", {}).items():
        if repo in repos:
            when = terminal.ago(note["at"], time.time())
            yield f"the last poll ({when}) could not ask the remote of {repo}: {problem}"


def of_remotes(config: Config, store: Store, repos: Iterable[Repo]) -> Iterator[str]:
    """One line for each of `repos` whose remote was renamed or transferred, as its deliveries tell."""
    told = [store.read_note(f"{REMOTES_NOTE}{receiver}") or {} for receiver in config.receivers]
    for repo in repos:
        for remote in (note[repo.name] for note in told if repo.name in note):
            name = RemoteName(full_name=remote["name"], urls=tuple(remote["urls"]))
            is_same = remote["url"] == normalise_url(repo.url)
            if is_same and remote["renamed"] and not is_remote_of(repo, name):
                yield f"the remote of {repo.name} is called {remote['name']} now; correct its url, which is {repo.url}"


def of_waiting(pending: Iterable[Job], running: Collection[str]) -> Iterator[str]:
    """One line for each job that is due and that nobody starts."""
    for job in pending:
        if job.repo not in running and time.time() - job.due_at > _PATIENCE_SEC:
            since = terminal.ago(job.due_at, time.time())
            hint = "the daemon's status line or log tells why"
            yield f"job {job.id} of {job.repo} was due {since}, and nobody has started it; {hint}"


def of_credential(name: str, *, is_first: bool = True) -> str:
    """What is wrong with a secret that gitopsd.service loads, as its file is now; "" if nothing is.

    `is_first`: whether it is the first one of its receiver, which `gitopsd init` makes.
    """
    path = systemd.SECRETS_DIRECTORY / name
    by_hand = "write it, for root alone (0600), and run: systemctl restart gitopsd"
    remedy = "run: gitopsd init" if is_first else by_hand
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
        problems = [of_credential(name, is_first=name == receiver.secrets[0]) for name in receiver.secrets]
        if all(problems):
            yield f"receiver '{receiver.name}' is closed: {'; '.join(problems)}"


def of_units(states: Mapping[str, UnitState], pending: Iterable[Job]) -> Iterator[str]:
    """One line for each unit of a sync that failed, or that keeps a job waiting as systemd does not load it."""
    waiting = {job.repo: job.id for job in pending}
    for repo, state in states.items():
        unit = runner.unit_of(repo)
        if repo in waiting and state.load == "masked":
            yield f"{unit} is masked, and job {waiting[repo]} waits; run: systemctl unmask '{unit}'"
        elif repo in waiting and state.load != "loaded":
            yield f"{unit} is not loaded, and job {waiting[repo]} waits; see: systemctl status '{unit}'"
        elif state.active == "failed":
            yield f"{unit} failed without doing its job; see: journalctl -u '{unit}'"


def states_of_units(config: Config, repos: Iterable[str]) -> dict[str, UnitState]:
    """How the unit of each repo stands; empty where syncs are no units. Raises GitopsdError."""
    if not runner.uses_units(config):
        return {}
    names = {repo: runner.unit_of(repo) for repo in repos}
    states = runner.unit_states(names.values())
    return {repo: states[unit] for repo, unit in names.items()}


def _states(config: Config) -> dict[str, UnitState]:
    """How the units stand that deliveries and polls need; empty where syncs are no units. Raises GitopsdError."""
    if not runner.uses_units(config):
        return {}
    return runner.unit_states([runner.SOCKET_UNIT, runner.DAEMON_UNIT, runner.POLL_UNIT, runner.TUNNEL_UNIT])


def _reason_without_units(config: Config) -> str:
    """As `_reason_of_silence`, where nothing starts a daemon by itself. Raises GitopsdError."""
    if not lock.is_free(config.state_dir, lock.DAEMON):
        return ""
    return "gitopsd serve is not running: deliveries are not received, and nothing is tried again"


def _reason_of_silence(states: Mapping[str, UnitState]) -> str:
    """Why nobody receives deliveries; "" if somebody does, or is started as soon as one comes."""
    socket, daemon = states[runner.SOCKET_UNIT], states[runner.DAEMON_UNIT]
    if socket.active != "active":
        remedy = f"systemctl enable --now {runner.SOCKET_UNIT}"
        return f"{runner.SOCKET_UNIT} is {socket.active}: deliveries are not received; run: {remedy}"
    if _fails(daemon):
        return (
            f"{runner.DAEMON_UNIT} does not start: deliveries are not answered; see: journalctl -u {runner.DAEMON_UNIT}"
        )
    return ""  # it runs, or idles until the next delivery starts it


def _of_helpers(states: Mapping[str, UnitState]) -> Iterator[str]:
    """One line for each unit beside the socket that is not as it should be. A timer that is masked was not wanted."""
    if not states:
        return
    poll, tunnel = states[runner.POLL_UNIT], states[runner.TUNNEL_UNIT]
    if poll.load != "masked" and poll.active != "active":
        remedy = f"systemctl start {runner.POLL_UNIT}"
        yield f"{runner.POLL_UNIT} is {poll.active}: what a webhook misses is not found; run: {remedy}"
    if _fails(tunnel):
        see = f"journalctl -u {runner.TUNNEL_UNIT}"
        yield f"{runner.TUNNEL_UNIT} failed: no delivery comes through it; see: {see}"


def _fails(state: UnitState) -> bool:
    return state.active == "failed" or state.sub == "auto-restart"
