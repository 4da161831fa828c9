"""Hosts for system tests, or the reason why there are none."""

import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.host import Host, what_is_missing

# The whole of it: making a root tree, where there is none in the cache yet, is part of the first test's set-up.
_LIMIT_SEC = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_LIMIT_SEC))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With --no-skips a test that was skipped has failed, whatever the reason."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"--no-skips: {reason}"
    return report


@pytest.fixture(scope="session")
def make_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Host]]:
    """Makes hosts of a release that are switched off; ends them all at the end of the run. Skips where it cannot."""
    if reason := what_is_missing():
        pytest.skip(reason)
    try:
        trees = roots.trees(roots.RELEASES)
    except roots.RootError as error:
        pytest.skip(str(error))
    made: list[Host] = []
    # An end from outside is to be as orderly as an interrupt at the terminal.
    terminated = signal.signal(signal.SIGTERM, signal.default_int_handler)

    def make(release: str) -> Host:
        made.append(Host(trees[release], tmp_path_factory.mktemp(release), f"{release}-{len(made)}"))
        return made[-1]

    try:
        if reason := make("debian12").why_not():
            pytest.skip(reason)
        yield make
    finally:
        for host in made:
            host.close()
        signal.signal(signal.SIGTERM, terminated)


@pytest.fixture(scope="session")
def hosts(make_host: Callable[[str], Host], request: pytest.FixtureRequest) -> dict[str, Host]:
    """A host with gitopsd for each release that the tests of this run want, booted side by side."""
    wanted = {item.callspec.params.get("release") for item in request.session.items if hasattr(item, "callspec")}
    found = {release: make_host(release) for release in roots.RELEASES if release in wanted}
    for host in found.values():
        host.power_on()
    for host in found.values():
        host.wait_until_up()
        host.install()
    return found


@pytest.fixture(params=roots.RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def host(hosts: dict[str, Host], release: str) -> Iterator[Host]:
    """A booted host with gitopsd that is not configured, as new.

    It is used again. Who switches it off, or changes more of it than `Host.reset` brings back, takes `own_host`.
    """
    here = hosts[release]
    here.reset()
    try:
        yield here
    finally:
        here.end_processes()


@pytest.fixture
def bare_host(make_host: Callable[[str], Host], release: str) -> Iterator[Host]:
    """A booted host of the test's own, without gitopsd."""
    here = make_host(release)
    try:
        here.boot()
        yield here
    finally:
        here.close()


@pytest.fixture
def own_host(bare_host: Host) -> Host:
    """A booted host of the test's own, with gitopsd."""
    bare_host.install()
    return bare_host
