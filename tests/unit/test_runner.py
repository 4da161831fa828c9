"""A sync as a child process: what it is told, what it must not know, and how its end is heard of."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopsd import process
from gitopsd.errors import GitopsdError
from gitopsd.model import Trigger
from gitopsd.runner import LocalRunner
from gitopsd.store import Store, path_in
from tests.site import SECRET, WAIT_SEC, Site, wait_for


class Ends:
    """The ends that a runner told of."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.came = threading.Event()

    def __call__(self, repo: str, exit_code: int) -> None:
        self.heard.append((repo, exit_code))
        self.came.set()

    def wait(self) -> list[tuple[str, int]]:
        assert self.came.wait(WAIT_SEC)
        return self.heard


class Held:
    """A site whose one sync goes on until it is let go."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.began, self.gate = site.root / "began", site.root / "gate"
        engine = site.root / "engine"
        engine.write_text(f"#!/bin/bash\necho $$ > '{self.began}'\nwhile [ ! -e '{self.gate}' ]; do sleep 0.01; done\n")
        engine.chmod(0o755)
        site.settings["engine"] = str(engine)
        site.add_repo("blog")
        store = Store(path_in(site.state_dir), time.time)
        store.enqueue("blog", Trigger.MANUAL)
        store.close()
        self.ends = Ends()

    def config_text(self) -> str:
        return self.site.config_path.read_text()

    def start(self, runner: LocalRunner) -> Path:
        """Start the sync; the process directory of `gitopsd run`, once its engine has begun."""
        runner.start("blog", self.ends)
        pid = runner._children["blog"].pid
        wait_for(lambda: self.began.exists() or self.ends.heard, "the engine")
        assert self.ends.heard == []
        return Path("/proc") / str(pid)

    def engine_fds(self) -> list[str]:
        """What the engine has open."""
        fds = Path("/proc") / wait_for(self.began.read_text, "its number").strip() / "fd"
        return [str(each.readlink()) for each in fds.iterdir()]


@pytest.fixture
def held(site: Site) -> Iterator[Held]:
    made = Held(site)
    yield made
    made.gate.touch()


def test_each_sync_goes_by_the_configuration_of_its_start_and_its_exit_code_is_told(site: Site) -> None:
    texts = iter((site.config_path.read_text(), "nonsense: 1\n"))
    runner = LocalRunner(lambda: next(texts), set(), quiet=True)
    site.config_path.write_text("this file is not looked at")
    for code in (0, 78):
        ends = Ends()
        runner.start("blog", ends)
        assert ends.wait() == [("blog", code)]


def test_a_sync_runs_until_it_ends_in_a_process_group_of_its_own(held: Held) -> None:
    runner = LocalRunner(held.config_text, set(), quiet=True)
    child = held.start(runner)
    pid = int(child.name)
    assert runner.running() == ["blog"]
    assert os.getpgid(pid) == os.getsid(pid) == pid
    assert (child / "cmdline").read_bytes().split(b"\0")[-3:-1] == [b"run", b"blog"]
    held.gate.touch()
    assert held.ends.wait() == [("blog", 0)]
    assert runner.running() == []


def test_the_configuration_is_in_the_hands_of_the_sync_and_of_nobody_else(held: Held) -> None:
    child = held.start(LocalRunner(held.config_text, set(), quiet=True))
    words = (child / "cmdline").read_bytes().decode().split("\0")
    path = words[words.index("--config") + 1]
    assert path.startswith("/proc/self/fd/")
    handed = child / "fd" / Path(path).name
    assert str(handed.readlink()).startswith("/memfd:gitopsd.yaml")
    assert handed.read_text() == held.config_text()
    assert not [name for name in held.engine_fds() if "memfd" in name]
    assert not [name for name in _own_fds() if "memfd" in name]


def _own_fds() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this listing
            found.append(str(entry.readlink()))
    return found


def test_what_runs_at_the_end_is_waited_for(held: Held) -> None:
    runner = LocalRunner(held.config_text, set(), quiet=True)
    held.start(runner)
    finishing = threading.Thread(target=runner.finish, args=(WAIT_SEC,))
    finishing.start()
    held.gate.touch()
    finishing.join(WAIT_SEC)
    assert not finishing.is_alive()
    assert runner.running() == []
    assert held.ends.wait() == [("blog", 0)]
    assert [job["state"] for job in held.site.jobs("blog")] == ["unchanged"]


def test_what_still_runs_when_its_time_is_up_is_told_to_end_and_queued_again(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    runner = LocalRunner(held.config_text, set(), quiet=True)
    held.start(runner)
    runner.finish(0.05)
    assert runner.running() == []
    assert held.ends.wait() == [("blog", 0)]
    assert [job["state"] for job in held.site.jobs("blog")] == ["interrupted", "pending"]
    assert "still running after stop_timeout, ended and queued again: blog" in caplog.messages


def test_where_nothing_runs_at_the_end_nothing_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    LocalRunner(lambda: "", set()).finish(10 * WAIT_SEC)
    assert caplog.messages == []


@pytest.mark.parametrize("known_at", ["once", "later"])
def test_a_sync_does_not_see_what_is_the_daemons_alone(
    held: Held, monkeypatch: pytest.MonkeyPatch, known_at: str
) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/gitopsd.service")
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    names = {"github-webhook-secret"} if known_at == "once" else set[str]()
    runner = LocalRunner(held.config_text, names, quiet=True)
    names.add("github-webhook-secret")  # as the daemon does when it has read its configuration

    environment = (held.start(runner) / "environ").read_bytes().decode()

    assert "SSH_AUTH_SOCK=/run/agent" in environment
    assert SECRET not in environment
    assert "CREDENTIALS_DIRECTORY" not in environment
    assert "LISTEN_FDS" not in environment


def test_an_interpreter_that_is_gone_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    runner = LocalRunner(lambda: "", set())
    with pytest.raises(GitopsdError, match="python: cannot be started: No such file"):
        runner.start("blog", Ends())
    assert runner.running() == []


def test_a_sync_whose_end_nobody_could_hear_of_is_ended_and_may_be_started_again(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_thread: threading.Thread) -> None:
        children.extend(runner._children.values())
        raise RuntimeError("can't start new thread")

    children: list[process.Child] = []
    runner = LocalRunner(held.config_text, set(), quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(
            GitopsdError, match=r"^the sync of blog cannot be started: can't start new thread: .*TasksMax="
        ):
            runner.start("blog", held.ends)

    assert runner.running() == []
    assert held.ends.heard == []
    assert [child.returncode is None for child in children] == [False]  # no zombie either
    held.start(runner)
    held.gate.touch()
    assert held.ends.wait() == [("blog", 0)]
