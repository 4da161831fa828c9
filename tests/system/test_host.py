import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.host import Host, Request

SYSTEMD = {"debian12": "252", "debian13": "257"}
SERVER = """
import http.server as server
server.ThreadingHTTPServer.request_queue_size = 100
server.test(server.SimpleHTTPRequestHandler, server.ThreadingHTTPServer, port=8085, bind="127.0.0.1")
"""


def processes(host: Host) -> list[int]:
    """The living processes of the host's control group, as the machine sees them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"::/{host._group}" in (entry / "cgroup").read_text() and (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def is_running(host: Host, command: str) -> bool:
    return host.run("pgrep", "--full", command, check=False).returncode == 0


def serve_files(host: Host) -> None:
    host.start_process("python3", "-c", SERVER)
    host.wait_for(lambda: host.get("/").status == 200, "a server")


def test_a_host_boots_with_the_systemd_of_its_release(
    bare_host: Host, release: str, tell: Callable[[str], None]
) -> None:
    version = bare_host.run("systemctl", "--version").stdout.splitlines()[0]
    tell(f"{release}: {version}")
    assert version.split()[1] == SYSTEMD[release]
    assert bare_host.run("systemctl", "is-system-running").stdout == "running\n"


def test_two_hosts_at_once_do_not_disturb_each_other(make_host: Callable[[str], Host], release: str) -> None:
    one, other = make_host(release), make_host(release)
    try:
        for host in (one, other):
            host.power_on()
        for host in (one, other):
            host.wait_until_up()
            host.run("systemd-run", "--quiet", "--unit=same", "sleep", "1234")
            host.write("/root/name", host.name)
        one.run("systemctl", "kill", "--signal=KILL", "same")
        one.wait_for(lambda: one.unit("same", "ActiveState")["ActiveState"] != "active", "the end of `same`")
        assert other.unit("same", "ActiveState")["ActiveState"] == "active"
        assert not set(processes(one)) & set(processes(other))
        one.shut_down()
        assert other.read("/root/name") == other.name
        assert other.run("systemctl", "is-system-running").stdout == "running\n"
        assert is_running(other, "sleep 1234")
    finally:
        one.close()
        other.close()


def test_a_power_cut_ends_everything_and_keeps_the_disk(bare_host: Host) -> None:
    bare_host.write("/root/kept", "still here")
    bare_host.run("systemd-run", "--quiet", "--unit=busy", "sleep", "1234")
    started = bare_host.start_process("sleep", "2345")
    before = processes(bare_host)
    bare_host.power_cut()
    assert started.poll() is not None
    assert not [pid for pid in before if os.path.exists(f"/proc/{pid}")]
    bare_host.boot()
    assert bare_host.read("/root/kept") == "still here"
    assert not is_running(bare_host, "sleep 1234")


def test_a_host_that_was_shut_down_boots_again(bare_host: Host) -> None:
    bare_host.write("/root/kept", "still here")
    bare_host.shut_down()
    bare_host.boot()
    assert bare_host.read("/root/kept") == "still here"


def mounts() -> list[str]:
    """Ours, without the small disks of tests that run at the same time."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " gitopsd-test " not in line]


def test_nothing_of_a_host_is_left_after_its_end(make_host: Callable[[str], Host], release: str) -> None:
    before = mounts()
    groups = sorted(Path("/sys/fs/cgroup").rglob("gitopsd-test-*"))
    host = make_host(release)
    host.boot()
    assert mounts() == before
    assert processes(host)
    host.start_process("sleep", "1234")
    host.close()
    assert not processes(host)
    assert not host.place.exists()
    assert mounts() == before
    assert sorted(Path("/sys/fs/cgroup").rglob("gitopsd-test-*")) == groups


def test_a_host_ends_with_the_process_that_booted_it(make_host: Callable[[str], Host], release: str) -> None:
    host = make_host(release)
    child = os.fork()
    if child == 0:
        try:
            host.power_on()
            signal.pause()
        finally:
            os._exit(1)  # there is another pytest already
    try:
        host.wait_for(lambda: processes(host), "a process")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    host.wait_for(lambda: not processes(host), "the end")
    host.wait_for(host._remove_group, "the end of the control group")


def test_a_command_runs_as_the_user_who_is_named(bare_host: Host) -> None:
    bare_host.run("useradd", "--create-home", "--groups", "systemd-journal", "ada")
    bare_host.write("/root/secret", "root's", mode=0o600)
    bare_host.write("/home/ada/hers", "hers", mode=0o600, owner="ada")
    assert bare_host.run("id", "-un", user="ada").stdout == "ada\n"
    assert "systemd-journal" in bare_host.run("id", "-Gn", user="ada").stdout.split()
    assert bare_host.run("sh", "-c", 'cat "$HOME/hers"', user="ada").stdout == "hers"
    assert bare_host.run("cat", "/root/secret", user="ada", check=False).returncode == 1


def test_a_command_sees_nothing_of_our_environment(bare_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    seen = bare_host.run("env", environment={"THEIRS": "2"}).stdout.splitlines()
    assert "THEIRS=2" in seen
    assert "OURS=1" not in seen


def test_a_command_that_fails_fails_the_test_with_what_it_said(bare_host: Host) -> None:
    with pytest.raises(AssertionError, match=r"exited with 3:\nso sorry"):
        bare_host.run("sh", "-c", "echo so sorry >&2; exit 3")


def test_a_command_that_takes_too_long_is_ended(bare_host: Host) -> None:
    with pytest.raises(AssertionError, match=r"took more than 0\.5 s"):
        bare_host.run("sleep", "1234", timeout=0.5)
    bare_host.wait_for(lambda: not is_running(bare_host, "sleep 1234"), "the end of the command")


@pytest.mark.parametrize("user", [None, "games"])
def test_what_was_started_is_ended(bare_host: Host, user: str | None) -> None:
    bare_host.start_process("sleep", "1234", user=user)
    bare_host.wait_for(lambda: is_running(bare_host, "sleep 1234"), "the process")
    bare_host.end_processes()
    bare_host.wait_for(lambda: not is_running(bare_host, "sleep 1234"), "the end of the process")


def test_a_signal_reaches_the_command(bare_host: Host) -> None:
    process = bare_host.start_process("sh", "-c", "trap 'echo got it; exit 0' TERM; echo ready; while :; do :; done")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.stdout.read() == "got it\n"
    assert process.wait(10) == 0


def test_the_journal_is_what_was_logged_since_the_last_reset(bare_host: Host) -> None:
    bare_host.run("logger", "--tag", "tester", "before")
    bare_host.reset()
    bare_host.run("logger", "--tag", "tester", "after")
    assert [entry["MESSAGE"] for entry in bare_host.journal("SYSLOG_IDENTIFIER=tester")] == ["after"]


def test_a_remote_can_be_fetched_by_others(bare_host: Host) -> None:
    url = bare_host.add_remote("blog")
    revision = bare_host.push("blog", {"docs/page": "hello", "deploy.sh": "#!/bin/sh\n"})
    assert bare_host.run("git", "ls-remote", url, "main", user="games").stdout.split()[0] == revision
    tree = bare_host.run("git", "-C", url, "ls-tree", "-r", revision, user="games").stdout
    assert {line.split("\t")[1]: line[:6] for line in tree.splitlines()} == {
        "README": "100644",
        "deploy.sh": "100755",
        "docs/page": "100644",
    }


def test_requests_come_from_within_the_host(bare_host: Host) -> None:
    refused = bare_host.get("/")
    assert refused.status == 0
    assert "ConnectionRefusedError" in refused.error
    serve_files(bare_host)
    assert "etc/" in bare_host.get("/").body
    assert bare_host.deliver("blog", "1" * 40).status == 501


def test_requests_at_once_are_answered_in_the_order_in_which_they_were_given(bare_host: Host) -> None:
    serve_files(bare_host)
    requests = [Request("GET", "/etc/hostname-of-nobody" if number % 3 else "/") for number in range(40)]
    answers = bare_host.deliver_at_once(requests)
    assert [answer.status for answer in answers] == [404 if number % 3 else 200 for number in range(40)]


def test_connections_can_be_held_open(bare_host: Host) -> None:
    serve_files(bare_host)
    count = ["ss", "--no-header", "--tcp", "--numeric", "state", "established", "dport = :8085"]
    with bare_host.held_connections(25, "GET / HTTP/1.1\r\n"):
        assert len(bare_host.run(*count).stdout.splitlines()) == 25
    bare_host.wait_for(lambda: not bare_host.run(*count).stdout, "the end of the connections")


def test_a_reset_host_is_as_it_was_installed(host: Host) -> None:
    listing = ["find", "/etc/gitopsd", "/etc/systemd/system", "/srv", "/var/lib/gitopsd", "/var/lib/gitopsd-sync"]
    listing += ["-printf", "%y %m %u %g %p %l\n"]
    before = sorted(host.run(*listing).stdout.splitlines())
    host.configure({"repos": {}})
    host.add_remote("blog")
    host.write("/etc/systemd/system/gitopsd.service.d/test.conf", "[Service]\nExecStart=\nExecStart=/bin/false\n")
    host.write("/var/lib/gitopsd/store/left", "over")
    host.run("mount", "-t", "tmpfs", "tmpfs", "/var/lib/gitopsd/store")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "enable", "--now", "gitopsd.socket")
    host.run("systemctl", "start", "gitopsd.service", check=False)
    host.reset()
    assert sorted(host.run(*listing).stdout.splitlines()) == before
    assert host.run("systemctl", "list-units", "--plain", "--no-legend", "--failed").stdout == ""
    assert host.unit("gitopsd.socket", "ActiveState", "UnitFileState") == {
        "ActiveState": "inactive",
        "UnitFileState": "disabled",
    }


def test_a_reset_takes_less_than_a_second(host: Host, release: str, tell: Callable[[str], None]) -> None:
    started = time.monotonic()
    host.reset()
    taken = time.monotonic() - started
    tell(f"{release}: reset in {taken:.2f} s")
    assert taken < 1.0


def test_a_tree_that_nobody_asks_for_any_more_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = roots._cache()
    for key, days in {"debian11-new": 29, "debian11-old": 31, roots._key("debian12"): 31}.items():
        (cache / key / "etc").mkdir(parents=True)
        lock = cache / f"{key}.lock"
        lock.touch()
        os.utime(lock, times=(0, time.time() - days * 24 * 3600))
    roots._remove_old(keep={roots._key("debian12")})
    assert {entry.name for entry in cache.iterdir() if entry.is_dir()} == {"debian11-new", roots._key("debian12")}


@pytest.mark.parametrize(("option", "code", "word"), [("--verbose", 0, "skipped"), ("--no-skips", 1, "error")])
def test_a_test_without_the_means_for_it_is_skipped_or_fails(option: str, code: int, word: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--all-variants",
        option,
        __file__,
        "-k",
        "boots_with",
    ]
    done = subprocess.run(command, env={"PATH": "/nonexistent"}, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert f"2 {word}" in done.stdout.splitlines()[-1]
    assert "not installed here: systemd-nspawn, mmdebstrap" in done.stdout
