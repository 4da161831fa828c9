"""A sync as a child process: what it is told, what it must not know, and how its end is heard of."""

import os
import signal
import threading
from pathlib import Path

import pytest

from gitopsd.errors import GitopsdError
from gitopsd.runner import LocalRunner
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
    """A configuration that is read from a pipe: whoever reads it waits, and can be looked at."""

    def __init__(self, root: Path) -> None:
        self.path = root / "held.yaml"
        os.mkfifo(self.path)

    def pid(self) -> int:
        """The process that has this configuration on its command line, once it is past its start."""
        mark = str(self.path).encode()

        def found() -> list[int]:
            entries = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
            return [int(entry.name) for entry in entries if mark in _read(entry / "cmdline")]

        (pid,) = wait_for(found, "the child")
        return int(pid)

    def release(self) -> None:
        self.path.write_text("nonsense")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def held(site: Site) -> Held:
    return Held(site.root)


def test_the_end_of_a_sync_is_told_with_its_exit_code(site: Site) -> None:
    for path, code in ((site.config_path, 0), (site.root / "missing.yaml", 78)):
        ends = Ends()
        LocalRunner(path, set(), quiet=True).start("blog", ends)
        assert ends.wait() == [("blog", code)]


def test_a_sync_runs_until_it_ends_in_a_process_group_of_its_own(held: Held) -> None:
    runner, ends = LocalRunner(held.path, set(), quiet=True), Ends()
    runner.start("blog", ends)
    pid = held.pid()
    assert runner.running() == ["blog"]
    assert os.getpgid(pid) == os.getsid(pid) == pid
    assert (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")[-3:-1] == [b"run", b"blog"]
    held.release()
    ends.wait()
    assert runner.running() == []


def test_stopping_ends_every_sync(held: Held) -> None:
    runner, ends = LocalRunner(held.path, set(), quiet=True), Ends()
    runner.start("blog", ends)
    held.pid()
    runner.stop()
    ((repo, code),) = ends.wait()
    assert repo == "blog"
    assert code in (-signal.SIGTERM, 0, 78)  # it may be ended while it starts, or while it reads


@pytest.mark.parametrize("known_at", ["once", "later"])
def test_a_sync_does_not_see_what_is_the_daemons_alone(
    held: Held, monkeypatch: pytest.MonkeyPatch, known_at: str
) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/gitopsd.service")
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    names = {"github-webhook-secret"} if known_at == "once" else set[str]()
    runner, ends = LocalRunner(held.path, names, quiet=True), Ends()
    names.add("github-webhook-secret")  # as the daemon does when it has read its configuration

    runner.start("blog", ends)
    environment = (Path("/proc") / str(held.pid()) / "environ").read_bytes().decode()
    held.release()
    ends.wait()

    assert "SSH_AUTH_SOCK=/run/agent" in environment
    assert SECRET not in environment
    assert "CREDENTIALS_DIRECTORY" not in environment
    assert "LISTEN_FDS" not in environment


def test_an_interpreter_that_is_gone_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    runner = LocalRunner(tmp_path / "gitopsd.yaml", set())
    with pytest.raises(GitopsdError, match="python: cannot be started: No such file"):
        runner.start("blog", Ends())
    assert runner.running() == []
