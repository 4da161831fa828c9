"""How a daemon that ends by itself tells whether another one is needed. All else of it is tested as a process."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitopsd.daemon import Daemon
from gitopsd.model import Trigger
from gitopsd.store import Store, path_in

# Where there is no systemd, sdnotify leaves its socket to the end.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(path_in(tmp_path / "state"), time.time)
    yield made
    made.close()


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon that soon has nothing to do."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    path = tmp_path / "gitopsd.yaml"
    path.write_text(f"{{state_dir: {tmp_path}/state, runner: local, idle_exit: 100ms}}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Daemon(path, [listener], may_idle=True)
        yield made
    assert made._serving
    made._serving.store.close()


def after(do: Callable[[], None], then: Callable[[], object]) -> Callable[[], None]:
    def both() -> None:
        do()
        then()

    return both


def test_who_ends_with_nothing_to_do_is_done(daemon: Daemon) -> None:
    assert daemon.run()


def test_a_job_that_comes_while_it_ends_has_another_one_started(
    daemon: Daemon, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = after(daemon._stop, lambda: store.enqueue("blog", Trigger.POLL))
    monkeypatch.setattr(daemon, "_stop", queue)

    assert not daemon.run()

    assert store.due() == ["blog"]


def test_records_that_cannot_be_read_at_the_end_have_another_one_started(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_store() -> None:
        (tmp_path / "state").rename(tmp_path / "aside")
        (tmp_path / "state").touch()

    monkeypatch.setattr(daemon, "_stop", after(daemon._stop, break_store))

    assert not daemon.run()
