"""Running one command: what it gets, what comes back, and that nothing of it stays."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopsd import process
from gitopsd.errors import GitopsdError
from gitopsd.process import Ended, output_of, run
from tests.site import wait_for

ENVIRONMENT = {"PATH": os.environ["PATH"]}
LONG_SEC = 60.0
SHORT_SEC = 1.0
"""Enough for a shell to start and to set its traps, on a busy machine too."""


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(process, "GRACE_SEC", 0.1)
    return process.GRACE_SEC


@pytest.fixture
def sleepers() -> Iterator[str]:
    """The command `sleep` with a number of seconds of this test's own; whoever still sleeps at the end fails it."""
    command = f"sleep {1000 + time.monotonic_ns() % 1_000_000_000}"
    yield command
    wait_for(lambda: not _running(command), "the end of every process of the group")


def _running(command: str) -> list[int]:
    wanted, found = command.replace(" ", "\0").encode() + b"\0", []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes() == wanted:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def shell(script: str, timeout_sec: float = LONG_SEC) -> tuple[Ended, str]:
    return output_of(["sh", "-c", script], environment=ENVIRONMENT, timeout_sec=timeout_sec)


@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ("exit 0", Ended(exit_code=0)),
        ("exit 1", Ended(exit_code=1)),
        ("exit 75", Ended(exit_code=75)),
        ("exit 255", Ended(exit_code=255)),
        ("kill -KILL $$", Ended(signal_name="SIGKILL")),
        ("kill -SEGV $$", Ended(signal_name="SIGSEGV")),
        ("kill -40 $$", Ended(signal_name="signal 40")),
    ],
)
def test_an_end_is_told_by_its_code_or_by_the_name_of_its_signal(script: str, ended: Ended) -> None:
    assert shell(f"ulimit -c 0; {script}") == (ended, "")


def test_output_and_errors_come_in_the_order_they_were_written() -> None:
    _, output = shell("echo one; echo two >&2; echo three; printf '\\377'")

    assert output == "one\ntwo\nthree\n�"


def test_output_is_handed_on_while_the_command_still_runs(tmp_path: Path) -> None:
    chunks: list[bytes] = []

    def answer(chunk: bytes) -> None:
        chunks.append(chunk)
        (tmp_path / "answer").touch()

    ended = run(
        ["sh", "-c", 'echo ready; while [ ! -e "$0" ]; do sleep 0.01; done; echo done', str(tmp_path / "answer")],
        environment=ENVIRONMENT,
        timeout_sec=LONG_SEC,
        on_output=answer,
    )

    assert (ended, b"".join(chunks)) == (Ended(exit_code=0), b"ready\ndone\n")


def test_a_huge_output_comes_whole() -> None:
    size = 0

    def count(chunk: bytes) -> None:
        nonlocal size
        size += len(chunk)

    ended = run(["head", "-c", "30000000", "/dev/zero"], environment=ENVIRONMENT, timeout_sec=LONG_SEC, on_output=count)

    assert (ended, size) == (Ended(exit_code=0), 30_000_000)


_LAST_WORDS = """
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1024 * 1024)
os.write(1, b"%09d\\n" % os.getpid() + b"x" * 999_990)
"""


def test_the_last_words_of_a_command_are_not_lost_however_much_the_pipe_holds() -> None:
    chunks: list[bytes] = []

    def read_slowly(chunk: bytes) -> None:
        if not chunks:
            stat = Path(f"/proc/{int(chunk[:9])}/stat")
            wait_for(lambda: ") Z " in stat.read_text(), "the end of the command")
        chunks.append(chunk)

    ended = run(
        [sys.executable, "-c", _LAST_WORDS], environment=ENVIRONMENT, timeout_sec=LONG_SEC, on_output=read_slowly
    )

    assert (ended, len(b"".join(chunks))) == (Ended(exit_code=0), 1_000_000)


def test_a_command_that_closes_its_output_is_still_waited_for() -> None:
    ended, output = shell("echo hello; exec >&- 2>&-; sleep 0.1; exit 7")

    assert (ended, output) == (Ended(exit_code=7), "hello\n")


_ASK = """
from gitopsd.process import output_of
print(output_of(["cat"], environment={"PATH": "/usr/bin:/bin"}, timeout_sec=60))
"""


def test_stdin_is_empty_whatever_ours_is() -> None:
    ours = subprocess.run([sys.executable, "-c", _ASK], input="a line\n", capture_output=True, text=True, check=True)

    assert ours.stdout == f"{(Ended(exit_code=0), '')}\n"
    assert shell("readlink /proc/self/fd/0") == (Ended(exit_code=0), "/dev/null\n")


def test_the_environment_is_exactly_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET", "not for children")

    _, output = output_of(["/usr/bin/env"], environment={"A": "1", "B": "two words\n"}, timeout_sec=LONG_SEC)

    assert output == "A=1\nB=two words\n\n"


def test_descriptors_stay_with_us_but_for_those_to_keep(tmp_path: Path) -> None:
    chunks: list[bytes] = []
    with (tmp_path / "kept").open("w") as kept, (tmp_path / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        run(
            ["ls", "-l", "/proc/self/fd"],
            environment=ENVIRONMENT,
            timeout_sec=LONG_SEC,
            on_output=chunks.append,
            keep_fds=[kept.fileno()],
        )
        number = kept.fileno()

    found = dict(re.findall(r" (\d+) -> (.*)", b"".join(chunks).decode()))
    assert found.pop(str(number)) == str(tmp_path / "kept")
    (the_listing_itself,) = found.keys() - {"0", "1", "2"}
    assert found[the_listing_itself].startswith("/proc/")


def test_the_command_leads_a_group_and_a_session_of_its_own() -> None:
    _, output = output_of(["cat", "/proc/self/stat"], environment=ENVIRONMENT, timeout_sec=LONG_SEC)

    pid, _, _, _, group, session, *_ = output.split()
    assert pid == group == session
    assert int(group) != os.getpgrp()


# Time limits


def test_a_command_that_takes_too_long_is_told_to_end(sleepers: str) -> None:
    ended, output = shell(f"trap 'echo cleaning up; exit 3' TERM; echo started; {sleepers} & wait", SHORT_SEC)

    assert (ended, output) == (Ended(exit_code=3, timed_out=True), "started\ncleaning up\n")


def test_the_end_of_a_command_that_timed_out_may_look_like_success(sleepers: str) -> None:
    ended, _ = shell(f"trap 'exit 0' TERM; {sleepers} & wait", SHORT_SEC)

    assert ended == Ended(exit_code=0, timed_out=True)


def test_a_command_that_does_not_listen_is_killed_when_its_grace_is_over(short_grace: float, sleepers: str) -> None:
    ended, _ = shell(f"trap '' TERM; {sleepers}; {sleepers}", SHORT_SEC)

    assert ended == Ended(signal_name="SIGKILL", timed_out=True)


def test_the_time_limit_ends_grandchildren_that_do_not_listen(sleepers: str) -> None:
    ended, output = shell(f"(trap '' TERM; {sleepers}) & (sh -c \"trap '' TERM; {sleepers}\" &) ; wait", SHORT_SEC)

    assert (ended, output) == (Ended(signal_name="SIGTERM", timed_out=True), "")


def test_a_command_gets_its_grace_even_if_it_writes_all_the_time(short_grace: float) -> None:
    size = 0

    def count(chunk: bytes) -> None:
        nonlocal size
        size += len(chunk)

    ended = run(
        ["sh", "-c", "trap '' TERM; while :; do echo noise; done"],
        environment=ENVIRONMENT,
        timeout_sec=SHORT_SEC,
        on_output=count,
    )

    assert ended == Ended(signal_name="SIGKILL", timed_out=True)
    assert size > 0


@pytest.mark.parametrize("timeout_sec", [30 * 86400.0, 1e12], ids=["30 days", "for ever"])
def test_a_time_limit_may_be_very_long(timeout_sec: float) -> None:
    assert shell("echo hello", timeout_sec) == (Ended(exit_code=0), "hello\n")


def test_a_time_limit_of_nothing_ends_the_command(sleepers: str) -> None:
    ended, _ = shell(sleepers, 0.0)

    assert ended.timed_out


# What is left behind


def test_a_background_process_does_not_hold_up_the_run_and_is_killed(sleepers: str) -> None:
    ended, output = shell(f"{sleepers} & echo started; exit 4")

    assert (ended, output) == (Ended(exit_code=4), "started\n")


def test_a_background_process_that_does_not_listen_is_killed_too(sleepers: str) -> None:
    ended, _ = shell(f"(trap '' TERM HUP; {sleepers}) & exit 0")

    assert ended == Ended(exit_code=0)


def test_a_process_that_left_the_group_with_our_pipe_does_not_hold_up_the_run(sleepers: str, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    leave = f"setsid sh -c 'echo $$ > {pid}.new; mv {pid}.new {pid}; exec {sleepers}' &"
    try:
        ended, output = shell(f"{leave} while [ ! -e {pid} ]; do sleep 0.01; done; echo started")
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)

    assert (ended, output) == (Ended(exit_code=0), "started\n")


def test_an_error_of_whoever_takes_the_output_ends_the_command(sleepers: str) -> None:
    def refuse(chunk: bytes) -> None:
        raise KeyError(chunk)

    with pytest.raises(KeyError):
        run(["sh", "-c", f"echo hello; {sleepers}"], environment=ENVIRONMENT, timeout_sec=LONG_SEC, on_output=refuse)


# Being told to stop


def test_a_readable_stop_descriptor_ends_the_group(sleepers: str) -> None:
    reader, writer = os.pipe()
    chunks: list[bytes] = []

    def stop(chunk: bytes) -> None:
        chunks.append(chunk)
        os.write(writer, b"x")

    try:
        ended = run(
            ["sh", "-c", f"trap 'exit 9' TERM; echo started; {sleepers} & wait"],
            environment=ENVIRONMENT,
            timeout_sec=LONG_SEC,
            on_output=stop,
            stop_fd=reader,
        )
        assert ended == Ended(exit_code=9, stopped=True)
        assert chunks == [b"started\n"]
        assert os.read(reader, 10) == b"x"  # left for whoever else waits for it
    finally:
        os.close(reader)
        os.close(writer)


def test_who_is_told_to_stop_and_does_not_is_killed_and_has_not_timed_out(short_grace: float, sleepers: str) -> None:
    reader, writer = os.pipe()
    try:
        ended = run(
            ["sh", "-c", f"trap '' TERM; echo started; {sleepers}"],
            environment=ENVIRONMENT,
            timeout_sec=LONG_SEC,
            on_output=lambda chunk: os.close(writer),  # the end of a pipe is readable too
            stop_fd=reader,
        )
        assert ended == Ended(signal_name="SIGKILL", stopped=True)
    finally:
        os.close(reader)


# What cannot be started


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        pytest.param(["gitopsd-no-such-command"], "No such file or directory", id="not there"),
        pytest.param(["/etc/passwd"], "Permission denied", id="not executable"),
        pytest.param(["/etc"], "Permission denied", id="a directory"),
        pytest.param(["sh", "-c", "a\0b"], "", id="a zero byte in a word"),
        pytest.param(["x" * 300], "File name too long", id="too long a name"),
        pytest.param(["true", "x" * 200_000], "Argument list too long", id="too long a word"),
    ],
)
def test_a_command_that_cannot_be_started_is_an_error_with_its_name(argv: list[str], problem: str) -> None:
    with pytest.raises(GitopsdError) as caught:
        output_of(argv, environment=ENVIRONMENT, timeout_sec=LONG_SEC)

    assert str(caught.value).startswith(f"{argv[0]}: cannot be started: {problem}")


def test_an_environment_that_no_command_can_have_is_an_error() -> None:
    with pytest.raises(GitopsdError):
        output_of(["true"], environment={**ENVIRONMENT, "GITOPSD_PATH": "/srv/a\0b"}, timeout_sec=LONG_SEC)


def test_a_started_command_runs_on_its_own_until_it_is_waited_for() -> None:
    child = process.start(["sh", "-c", "exit 5"], environment=ENVIRONMENT, output=process.NOWHERE)

    assert child.wait() == 5


def test_runs_on_several_threads_do_not_disturb_each_other() -> None:
    results: dict[int, tuple[Ended, str]] = {}

    def one(number: int) -> None:
        results[number] = shell(f"echo {number}; exit {number}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == {number: (Ended(exit_code=number), f"{number}\n") for number in range(8)}


def test_what_made_a_group_of_its_own_ends_with_the_command(sleepers: str, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    ended, _ = shell(f"timeout 900 sh -c ': >{begun}; {sleepers}; :' & until [ -e {begun} ]; do sleep 0.01; done")
    assert ended == Ended(exit_code=0)


def test_who_steps_back_does_so_with_all_that_it_starts(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"read _; nice >{told}.new; cat /proc/self/autogroup >>{told}.new; mv {told}.new {told}"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True) as child:
        process.step_back(child, 7)
        assert child.stdin
        child.stdin.write(b"go on\n")
    niceness, *group = told.read_text().splitlines()

    assert niceness == "7"
    assert [line.rpartition(" ")[2] for line in group] in ([], ["7"])  # not every kernel has them


def test_who_has_ended_steps_back_without_a_word() -> None:
    with subprocess.Popen(["true"], start_new_session=True) as child:
        child.wait()
        process.step_back(child, 7)
