"""A sync in a unit of its own, gitopsd-sync@REPO.service: started and watched over D-Bus."""

import contextlib
import errno
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from gitopsd import journal, process
from gitopsd.errors import GitopsdError
from gitopsd.journal import Kind

SOCKET_UNIT = "gitopsd.socket"
DAEMON_UNIT = "gitopsd.service"
NOTIFY_UNIT = "gitopsd-notify.service"
POLL_UNIT = "gitopsd-poll.timer"
TUNNEL_UNIT = "gitopsd-tunnel.service"

_log = logging.getLogger(__name__)
_TEMPLATE = "gitopsd-sync@.service"
_BOOTED = Path("/run/systemd/system")
_UNIT_DIRECTORIES = tuple(
    Path(each) / "systemd/system" for each in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
)
_DESTINATION = b"org.freedesktop.systemd1"
_PATH = b"/org/freedesktop/systemd1"
_MANAGER = b"org.freedesktop.systemd1.Manager"
_SERVICE = b"org.freedesktop.systemd1.Service"
_SOCKET = b"org.freedesktop.systemd1.Socket"
_STATE = Path("/var/lib")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_WATCH_SEC = 0.2
_RESTART_SEC = 150.0
_DENIED = (1, 13)
_EXIT_FAILED = 1
_LONGEST_UNIT = 255


class UnitState(NamedTuple):
    """How a unit stands, in systemd's words; `queued` while systemd is about to change that."""

    load: str = "loaded"
    active: str = "inactive"
    sub: str = "dead"
    queued: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether it neither runs nor is about to."""
        return not self.queued and self.active in ("inactive", "failed")


def unit_of(repo: str) -> str:
    """The unit that syncs `repo`, its name escaped as systemd-escape(1) does. Raises GitopsdError if it is too long."""
    escaped = re.sub(r"[^A-Za-z0-9:_.]", lambda found: f"\\x{ord(found[0]):02x}", repo)
    unit = _TEMPLATE.replace("@", f"@{escaped}")
    if len(unit) > _LONGEST_UNIT:
        raise GitopsdError(f"the name '{repo}' is too long for a unit: each dash counts as four letters")
    return unit


def reason_against() -> str:
    """Why syncs cannot be units here; "" if they can."""
    if not _BOOTED.is_dir():
        return "systemd has not booted this host"
    if not any((directory / _TEMPLATE).exists() for directory in _UNIT_DIRECTORIES):
        return f"{_TEMPLATE} is not installed"
    import importlib.util  # noqa: PLC0415 - a sync has no use for it

    if importlib.util.find_spec("pystemd") is None:
        return "pystemd is not installed (python3-pystemd)"
    return ""


class Rights(NamedTuple):
    """As whom a unit runs ("" is root), what it may write and see, and where its ssh key is loaded from."""

    user: str
    read_only: bool
    writable: tuple[Path, ...]
    hides_homes: bool
    key: Path | None

    def lets_write(self, path: Path) -> bool:
        """Whether the sandbox does; owners and modes are another question."""
        if not self.read_only or any(path.is_relative_to(home) for home in _HOMES):
            return True  # of homes it is ProtectHome= that decides, also beside ProtectSystem=strict
        return any(path.is_relative_to(each) for each in self.writable)

    def hides(self, path: Path) -> bool:
        """Whether the sandbox hides what is at `path`."""
        return self.hides_homes and any(path.is_relative_to(home) for home in _HOMES)


class UnitRunner:
    """Starts units, which outlive this process, and tells of their end."""

    def __init__(self) -> None:
        self._bus = _Bus()
        self._guard = threading.Lock()
        self._on_end: dict[str, Callable[[str, int], None]] = {}
        self._watcher: threading.Thread | None = None

    def start(self, repo: str, on_end: Callable[[str, int], None]) -> None:
        """Start the unit of `repo`; `on_end` gets its name and 0 or 1, on a thread of its own. Raises GitopsdError.

        A unit that is just ending takes the start in and runs no more; whoever wants one looks again when it has ended.
        """
        _start(self._bus, unit_of(repo))
        with self._guard:
            self._on_end[repo] = on_end
            if self._watcher is None or not self._watcher.is_alive():
                self._watcher = threading.Thread(target=self._watch, name="units", daemon=True)
                self._watcher.start()

    def running(self) -> list[str]:
        """The repos whose unit was started here and has not ended."""
        return list(self._on_end)

    def finish(self, timeout_sec: float) -> None:
        """Leave them alone: they end and record it without us."""

    def _watch(self) -> None:
        """Looks again and again, as a signal of D-Bus that was missed would leave a repo without syncs for good."""
        pause = threading.Event()
        bus = _Bus()  # one connection serves one thread
        said = ""
        while True:
            pause.wait(_WATCH_SEC)
            with self._guard:
                if not self._on_end:
                    self._watcher = None
                    bus.close()
                    return
            try:
                self._look(bus)
                said = ""
            except Exception as error:  # noqa: BLE001 - without this thread no repo that runs now would be synced again
                if str(error) != said:
                    _log.warning("how syncs stand cannot be told, and is asked again: %s", error)
                said = str(error)

    def _look(self, bus: "_Bus") -> None:
        names = {repo: unit_of(repo) for repo in list(self._on_end)}
        states = _states(bus, names.values())
        for repo, unit in names.items():
            if states[unit].has_ended:
                self._tell_end(repo, states[unit])

    def _tell_end(self, repo: str, state: UnitState) -> None:
        if state.active == "failed":
            unit = unit_of(repo)
            extra = journal.fields(Kind.SYNC_NOT_STARTED, repo=repo)
            _log.warning("%s failed, and its job stays queued; see: journalctl -u '%s'", unit, unit, extra=extra)
        with self._guard:
            on_end = self._on_end.pop(repo)
        on_end(repo, _EXIT_FAILED if state.active == "failed" else 0)


def start_daemon() -> None:
    """Start the daemon, so that it looks at the records; one that runs looks by itself.

    Raises GitopsdError, also where its socket is switched off: that was somebody's wish, and a start would undo it.
    """
    bus = _Bus()
    if _states(bus, [SOCKET_UNIT])[SOCKET_UNIT].active != "active":
        raise GitopsdError(f"{SOCKET_UNIT} is switched off, and so no daemon is started for what is queued")
    _start(bus, DAEMON_UNIT)


def restart_daemon() -> None:
    """Have the daemon read its secrets again, if it runs; when this returns it has. Raises GitopsdError."""
    _systemctl("try-restart", DAEMON_UNIT)


def reload_daemon() -> None:
    """Have the daemon read its configuration again, if it runs. Raises GitopsdError."""
    _systemctl("try-reload-or-restart", DAEMON_UNIT)


def address() -> str:
    """Where the socket listens, as 127.0.0.1:8085 if it is TCP, else as unix:/run/hook.sock. Raises GitopsdError."""
    listens = _Bus().property_of(SOCKET_UNIT, b"Listen", b"a(ss)", _SOCKET)
    places = [where.decode() for kind, where in listens if kind == b"Stream"]
    tcp = [place for place in places if not place.startswith(("/", "@"))]
    return tcp[0] if tcp else f"unix:{places[0]}" if places else ""


def daemon_since() -> float | None:
    """When the daemon was started, in epoch seconds; None if it does not run. Raises GitopsdError."""
    bus = _Bus()
    if _states(bus, [DAEMON_UNIT])[DAEMON_UNIT].has_ended:
        return None
    return float(bus.property_of(DAEMON_UNIT, b"ExecMainStartTimestamp", b"t")) / 1e6


def variables_of_daemon() -> set[str]:
    """The names of the environment variables that gitopsd.service is given. Raises GitopsdError."""
    bus = _Bus()
    lines = [line.decode() for line in bus.property_of(DAEMON_UNIT, b"Environment", b"as")]
    for path, _ in bus.property_of(DAEMON_UNIT, b"EnvironmentFiles", b"a(sb)"):
        with contextlib.suppress(OSError):
            lines += Path(path.decode()).read_text(encoding="utf-8", errors="replace").splitlines()
    return {line.partition("=")[0].strip() for line in lines}


def unit_states(units: Iterable[str]) -> dict[str, UnitState]:
    """How these units stand. Raises GitopsdError if systemd cannot be asked."""
    return _states(_Bus(), units)


def credentials_of_daemon() -> set[str]:
    """The names of the credentials that gitopsd.service loads one by one. Raises GitopsdError."""
    bus = _Bus()
    kinds = (b"LoadCredential", b"LoadCredentialEncrypted")
    return {name.decode() for kind in kinds for name, _ in bus.property_of(DAEMON_UNIT, kind, b"a(ss)")}


def rights_of(unit: str) -> Rights:
    """As whom, and with what sandbox, a service runs. Raises GitopsdError."""
    bus = _Bus()
    loaded = bus.property_of(unit, b"LoadCredential", b"a(ss)")
    writable = [Path(path.decode().lstrip("+-")) for path in bus.property_of(unit, b"ReadWritePaths", b"as")]
    writable += [_STATE / path.decode() for path in bus.property_of(unit, b"StateDirectory", b"as")]
    return Rights(
        user=bus.property_of(unit, b"User", b"s").decode(),
        read_only=bus.property_of(unit, b"ProtectSystem", b"s") == b"strict",
        writable=tuple(writable),
        hides_homes=bus.property_of(unit, b"ProtectHome", b"s") != b"no",
        key=next((Path(path.decode()) for name, path in loaded if name == b"ssh-key"), None),
    )


def _systemctl(*words: str) -> None:
    """For whoever has a terminal: unlike a call over D-Bus it waits until systemd has done it."""
    argv = ("systemctl", "--quiet", *words)
    ended, text = process.output_of(argv, environment=os.environ, timeout_sec=_RESTART_SEC)
    if ended.exit_code != 0:
        why = "it takes too long" if ended.timed_out else text.strip() or "it failed"
        raise GitopsdError(f"{' '.join(argv)}: {why}; see: journalctl -u {DAEMON_UNIT}")


def _start(bus: "_Bus", unit: str) -> None:
    try:
        bus.call(b"StartUnit", b"ss", unit.encode(), b"replace")
    except _DeniedError as error:
        remedy = "run this as root (sudo); for the daemon itself polkit has to run, with the rules of gitopsd"
        raise GitopsdError(f"{unit} cannot be started by {_user()}: {remedy}") from error


def _states(bus: "_Bus", units: Iterable[str]) -> dict[str, UnitState]:
    names = list(units)
    rows = bus.call(b"ListUnitsByNames", b"as", [name.encode() for name in names])
    found = {}
    for name, _, load, active, sub, _, _, job, _, _ in rows:
        words = {"load": load.decode(), "active": active.decode(), "sub": sub.decode()}
        found[name.decode()] = UnitState(**words, queued=job != 0)
    return {name: found.get(name, UnitState()) for name in names}


class _DeniedError(GitopsdError):
    """polkit, or the bus, does not let this user do that."""


class _Bus:
    """The system bus. Whether that, or systemd, was restarted since the last call makes no difference."""

    def __init__(self) -> None:
        self._connection: Any = None

    def call(self, method: bytes, signature: bytes, *arguments: object) -> Any:
        """What a method of systemd's manager returns. Raises _DeniedError, GitopsdError."""
        from pystemd.dbuslib import apply_signature  # noqa: PLC0415 - slow to import, and not everywhere

        words = apply_signature(signature, list(arguments))
        return self._ask(method, lambda bus: bus.call_method(_DESTINATION, _PATH, _MANAGER, method, words).body)

    def property_of(self, unit: str, name: bytes, signature: bytes, interface: bytes = _SERVICE) -> Any:
        """A property of a unit, which is a service. Raises GitopsdError."""
        from pystemd.dbuslib import path_encode  # noqa: PLC0415

        path = path_encode(_PATH + b"/unit", unit.encode())
        return self._ask(name, lambda bus: bus.get_property(_DESTINATION, path, interface, name, signature))

    def _ask(self, what: bytes, question: Callable[[Any], Any]) -> Any:
        from pystemd.dbusexc import DBusBaseError  # noqa: PLC0415

        fresh = self._connection is None
        try:
            return question(self._open())
        except DBusBaseError as error:
            self.close()
            number = abs(error.errno)
            if number in _DENIED:
                raise _DeniedError(f"systemd: {what.decode()} was denied to {_user()}") from error
            if (
                not fresh and number != errno.ETIMEDOUT
            ):  # the connection may be an old one; who hangs is not asked twice
                return self._ask(what, question)
            why = error.err_message.decode() if isinstance(error.err_message, bytes) else error.err_message
            raise GitopsdError(f"systemd: {what.decode()} failed: {why or os.strerror(number)}") from error

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> Any:
        from pystemd.dbuslib import DBus  # noqa: PLC0415

        if self._connection is None:
            self._connection = DBus()
            self._connection.open()
        return self._connection


def _user() -> str:
    return "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
