"""What every test gets: a place of its own, and the duty to leave nothing behind."""

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.site import Site
from tests.strategies import STRATEGIES
from tests.system.roots import RELEASES

_LEAK_PATIENCE_SEC = 5.0
_NOBODY = 65534
# Where it matters little which strategy, or which release of Debian, the tests run with.
_EITHER_STRATEGY = ("test_bad_remotes", "test_engine_partial", "test_nothing_lost", "test_verify")
_EITHER_RELEASE = (
    "test_activation",
    "test_deploys",
    "test_events",
    "test_host",
    "test_notifications",
    "test_privileges",
    "test_robustness",
    "test_setup",
    "test_status_units",
    "test_tunnel",
)
_FIGURES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash-runs", type=int, default=10, help="how often the daemon is killed at a random moment")
    parser.addoption("--cuts", type=int, default=6, help="at how many of its calls a sync is ended; 0: at each")
    parser.addoption("--swaps", type=int, default=40, help="how often a release is changed below a reader")
    parser.addoption("--all-variants", action="store_true", help="run each test with both strategies and both releases")
    parser.addoption("--no-skips", action="store_true", help="a system test that cannot run here is a failure")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests to which the strategy or the release makes little difference, run each with one that is drawn by lot."""
    if config.getoption("--all-variants"):
        return
    variants: dict[str, list[pytest.Item]] = {}
    for item in items:
        if variant := _variant_of(item):
            variants.setdefault(item.nodeid.replace(variant, ""), []).append(item)
    left_out: set[pytest.Item] = set()
    for several in variants.values():
        left_out |= {*several} - {random.choice(several)}
    config.hook.pytest_deselected(items=[*left_out])
    items[:] = [item for item in items if item not in left_out]


def _variant_of(item: pytest.Item) -> str:
    """The strategy or release that a test is for, where it might as well be the other; else "" ."""
    choices = {**dict.fromkeys(_EITHER_STRATEGY, STRATEGIES), **dict.fromkeys(_EITHER_RELEASE, RELEASES)}
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return ""
    mine = choices.get(item.path.stem, ())
    return next((value for value in mine if value in item.callspec.params.values()), "")


@pytest.fixture
def cuts(request: pytest.FixtureRequest) -> int:
    wanted: int = request.config.getoption("--cuts")
    return wanted


@pytest.fixture
def swaps(request: pytest.FixtureRequest) -> int:
    wanted: int = request.config.getoption("--swaps")
    return wanted


@pytest.fixture
def crash_runs(request: pytest.FixtureRequest) -> int:
    runs: int = request.config.getoption("--crash-runs")
    return runs


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says a figure at the end of the whole run."""
    return request.config.stash.setdefault(_FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for figure in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(figure)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A configuration, a state directory, remotes and checkouts of this test's own; ends whatever it started."""
    for name in ("GITOPSD_CONFIG", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    here = Site(tmp_path)
    try:
        yield here
    finally:
        here.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB at `state`, where a `site` has its records."""
    place = tmp_path / "state"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("no mount command here to make a small disk with")
    argv = [mount, "-t", "tmpfs", "-o", "size=1m", "gitopsd-test", str(place)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # a daemon on it may be ended only after this


@dataclass(frozen=True)
class ForNobody:
    """A place that everybody can get to, and the rights of a user to whom nothing belongs."""

    place: Path

    @contextlib.contextmanager
    def rights(self) -> Iterator[None]:
        """Within the block this process may do no more than any other user. Root may enter and read everything."""
        before = os.getresuid()
        try:
            if before[1] == 0:
                os.setresuid(_NOBODY, _NOBODY, 0)
            yield
        finally:
            os.setresuid(*before)


@pytest.fixture
def for_nobody() -> Iterator[ForNobody]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if os.geteuid() == 0:
            os.chown(place, _NOBODY, -1)
        place.chmod(0o755)
        yield ForNobody(place)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fails a test that leaves a process, a thread or a descriptor."""
    before = _possessions()
    yield
    deadline = time.monotonic() + _LEAK_PATIENCE_SEC
    while (left := _possessions() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"left behind: {', '.join(sorted(left))}"


def _possessions() -> set[str]:
    own = {f"thread {thread.name}" for thread in threading.enumerate()}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            own |= {f"process {pid}" for pid in (task / "children").read_text().split()}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this listing
            own.add(f"fd {entry.name} {entry.readlink()}")
    return own
