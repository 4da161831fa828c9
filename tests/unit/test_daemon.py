"""How a daemon that ends by itself tells whether another one is needed. All else of it is tested as a process."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gitopsd import config as configuration
from gitopsd import daemon as module
from gitopsd import process
from gitopsd.daemon import Daemon
from gitopsd.discovery import Found, Origins
from gitopsd.model import Trigger
from gitopsd.settings import Config, Repo
from gitopsd.store import Store, path_in
from tests.remote import git
from tests.site import wait_for

# Where there is no systemd, sdnotify leaves its socket to the end.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

REPO = Repo(name="blog", url="https://github.com/me/blog.git", ref="main", path=Path("/srv/blog"))


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


def test_a_root_that_hangs_holds_up_one_request_for_a_moment_and_none_after_it(
    daemon: Daemon, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon._serving = daemon._prepare(configuration.load(daemon._config_path))
    looks, gate = [0], threading.Event()

    def find(_config: Config, _origins: Origins) -> Found:
        looks[0] += 1
        assert gate.wait(30)
        return Found(repos={"blog": REPO}, problems={})

    monkeypatch.setattr(module, "find_repos", find)
    monkeypatch.setattr(module, "_RESCAN_PATIENCE_SEC", 0.01)

    assert [dict(daemon._rescan()) for _ in range(3)] == [{}] * 3
    assert looks == [1]

    gate.set()
    wait_for(lambda: daemon._serving and "blog" in daemon._serving.repos, "what was found")
    wait_for(lambda: store.due() == ["blog"], "a job for whose push has had its answer")
    assert list(daemon._rescan()) == ["blog"]
    assert looks == [1]
    daemon._end_round()
    daemon._rescan()
    assert looks == [2]
    daemon._web.start()
    daemon._web.stop()


def test_a_look_for_new_checkouts_asks_git_about_no_other(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(argv: Sequence[str], **how: Any) -> tuple[process.Ended, str]:
        asked.append(Path(argv[argv.index("--file") + 1]).parents[1].name)
        return output_of(argv, **how)

    asked: list[str] = []
    output_of = process.output_of
    monkeypatch.setattr(process, "output_of", ask)
    opted_in(tmp_path / "root" / "blog")
    config = configuration.load(daemon._config_path)._replace(roots=(tmp_path / "root",))
    daemon._serving = daemon._prepare(config)
    assert asked == ["blog"]

    opted_in(tmp_path / "root" / "shop")
    assert list(daemon._rescan()) == ["blog", "shop"]
    daemon._end_round()
    assert list(daemon._rescan()) == ["blog", "shop"]
    assert asked == ["blog", "shop"]

    daemon._serving = daemon._prepare(config)  # a reload asks about all of them
    assert asked == ["blog", "shop", "blog", "shop"]
    daemon._web.start()
    daemon._web.stop()


def opted_in(path: Path) -> None:
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--template=", "--initial-branch=main")
    git(path, "remote", "add", "origin", f"https://github.com/me/{path.name}.git")
    (path / ".gitops").touch()
