"""Start a repo's sync: systemd unit | child process; and who tells of its end."""

from collections.abc import Callable, Set
from typing import Protocol

from gitopsd import config as configuration
from gitopsd.errors import GitopsdError
from gitopsd.runner.local import LocalRunner, start_notifier
from gitopsd.runner.units import (
    DAEMON_UNIT,
    NOTIFY_UNIT,
    POLL_UNIT,
    SOCKET_UNIT,
    TUNNEL_UNIT,
    UnitRunner,
    UnitState,
    address,
    credentials_of_daemon,
    daemon_since,
    reason_against,
    reload_daemon,
    restart_daemon,
    rights_of,
    start_daemon,
    unit_of,
    unit_states,
    variables_of_daemon,
)
from gitopsd.settings import Config

__all__ = [
    "DAEMON_UNIT",
    "NOTIFY_UNIT",
    "POLL_UNIT",
    "SOCKET_UNIT",
    "TUNNEL_UNIT",
    "LocalRunner",
    "Runner",
    "UnitRunner",
    "UnitState",
    "address",
    "choose",
    "credentials_of_daemon",
    "daemon_since",
    "reload_daemon",
    "restart_daemon",
    "rights_of",
    "start_daemon",
    "start_notifier",
    "unit_of",
    "unit_states",
    "uses_units",
    "variables_of_daemon",
]


class Runner(Protocol):
    """Starts the sync of a repo and tells when it has ended."""

    def start(self, repo: str, on_end: Callable[[str, int], None]) -> None:
        """Start it; `on_end` gets the repo and the exit code, on any thread. Raises GitopsdError."""

    def running(self) -> list[str]:
        """The repos whose sync was started here and has not ended."""

    def finish(self, timeout_sec: float) -> None:
        """No more is started here: wait for what would not outlive this process, and then end it."""


def uses_units(config: Config) -> bool:
    """Whether syncs are units of systemd. `auto` takes them where they are and go by this very configuration.

    Raises GitopsdError if the configuration asks for units and they cannot be had.
    """
    if config.runner == "local":
        return False
    against = reason_against()
    if config.runner == "systemd" and against:
        raise GitopsdError(f"runner: systemd: {against}")
    # Units read the configuration by themselves, and another one than that of a daemon that was started by hand.
    return not against and (config.runner == "systemd" or config.source == configuration.DEFAULT_PATH)


def choose(config: Config, config_text: Callable[[], str], secrets: Set[str], *, quiet: bool = False) -> Runner:
    """The runner that `config` asks for; the rest as for LocalRunner. Raises GitopsdError."""
    return UnitRunner() if uses_units(config) else LocalRunner(config_text, secrets, quiet=quiet)
