"""What reaches the journal: the output of commands, line by line, and what we log ourselves, with its fields."""

import os
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gitopsd import journal
from gitopsd.journal import Kind
from tests import catalog
from tests.journald import journald, read_entry


@contextmanager
def output(path: Path, **fields: str) -> Iterator[tuple[journal.Output, socket.socket]]:
    """The way of some output into the journal, and the socket of the journald at its end."""
    with journald(path) as listener:
        ours = journal.Output(fields, path)
        try:
            yield ours, listener
        finally:
            ours.close()


# The kinds of entries


def test_every_kind_of_entry_is_explained_and_nothing_else_is() -> None:
    explained = [each.message_id for each in catalog.read()]

    assert sorted(explained) == sorted(Kind)
    assert len(set(explained)) == len(explained)


def test_ids_are_of_the_form_that_the_journal_knows_and_none_is_given_twice() -> None:
    assert all(re.fullmatch("[0-9a-f]{32}", kind) for kind in Kind)
    assert len({str(kind) for kind in Kind.__members__.values()}) == len(Kind.__members__)


@pytest.mark.parametrize("explanation", catalog.read(), ids=lambda each: Kind(each.message_id).name)
def test_an_explanation_has_a_subject_a_source_and_a_text(explanation: catalog.Explanation) -> None:
    assert explanation.headers["Subject"]
    assert explanation.headers["Defined-By"] == "gitopsd"
    assert explanation.text


def test_fields_carry_the_name_of_ours_and_what_is_not_there_is_left_out() -> None:
    extra = journal.fields(Kind.JOB_STARTED, repo="blog", job=7, delivery=None)

    entry = {"MESSAGE_ID": str(Kind.JOB_STARTED), "GITOPSD_REPO": "blog", "GITOPSD_JOB": "7"}
    assert journal.entry_of(extra) == entry
    assert journal.entry_of({}) == {}


# The output of commands


def test_each_line_of_output_is_an_entry_with_our_fields(tmp_path: Path) -> None:
    with output(tmp_path / "journal", GITOPSD_REPO="blog", PRIORITY="5") as (ours, listener):
        for chunk in (b"fet", b"ch\nde", b"ploy \xff\rMESSAGE=x\n\n", b"no end"):
            ours.write(chunk)
        ours.close()
        entries = [read_entry(listener.recv(100_000)) for _ in range(4)]

    fields = {"SYSLOG_IDENTIFIER": b"gitopsd", "PRIORITY": b"5", "GITOPSD_REPO": b"blog"}
    assert entries == [
        {**fields, "MESSAGE": message} for message in (b"fetch", b"deploy \xff\rMESSAGE=x", b"", b"no end")
    ]


def test_fields_that_change_are_those_of_the_lines_that_follow(tmp_path: Path) -> None:
    fields = {"GITOPSD_PHASE": "fetch"}
    with journald(tmp_path / "journal") as listener:
        ours = journal.Output(fields, tmp_path / "journal")
        ours.write(b"one\nbegun in fetch, ")
        fields["GITOPSD_PHASE"] = "deploy"
        ours.write(b"ended in deploy\n")
        ours.close()
        entries = [read_entry(listener.recv(100_000)) for _ in range(2)]

    told = [(entry["GITOPSD_PHASE"], entry["MESSAGE"]) for entry in entries]
    assert told == [(b"fetch", b"one"), (b"deploy", b"begun in fetch, ended in deploy")]


def test_no_value_of_a_field_becomes_a_field_of_its_own(tmp_path: Path) -> None:
    value = "one\nGITOPSD_RESULT=succeeded\n\rtwo \udcff"
    with output(tmp_path / "journal", GITOPSD_REVISION=value) as (ours, listener):
        ours.write(b"line\n")
        entry = read_entry(listener.recv(100_000))

    assert entry["GITOPSD_REVISION"] == b"one\nGITOPSD_RESULT=succeeded\n\rtwo ?"
    assert set(entry) == {"SYSLOG_IDENTIFIER", "PRIORITY", "GITOPSD_REVISION", "MESSAGE"}


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_long_line_is_split_and_nothing_of_it_is_lost(tmp_path: Path, extra: int) -> None:
    line = bytes(range(32, 127)) * 1000
    line = line[: 64 * 1024 + extra]
    messages: list[bytes] = []

    def read() -> None:
        while messages[-1:] != [b"next"]:
            messages.append(read_entry(listener.recv(200_000))["MESSAGE"])

    with output(tmp_path / "journal") as (ours, listener):
        reader = threading.Thread(target=read)  # the queue of the socket may hold less than all of that
        reader.start()
        try:
            ours.write(line + b"\nnext\n")
        finally:
            reader.join()

    assert b"".join(messages[:-1]) == line
    assert [len(message) for message in messages[:2]] == [32 * 1024, 32 * 1024 + min(extra, 0)]
    assert len(messages) == (4 if extra > 0 else 3)


def test_a_line_without_end_does_not_grow_for_ever(tmp_path: Path) -> None:
    with output(tmp_path / "journal") as (ours, listener):
        for _ in range(9):
            ours.write(b"x" * 8 * 1024)

        first = read_entry(listener.recv(100_000))["MESSAGE"]

    assert first == b"x" * 32 * 1024


@pytest.mark.parametrize("there", ["nothing", "a file", "a socket that nobody listens on"])
def test_without_a_journal_no_output_is_written(tmp_path: Path, there: str) -> None:
    path = tmp_path / "journal"
    if there == "a file":
        path.write_text("")
    elif there != "nothing":
        with journald(path):
            pass
    ours = journal.Output({}, path)

    ours.write(b"line\n")
    ours.close()
    ours.close()


def test_a_journal_that_goes_away_costs_lines_of_output_only(tmp_path: Path) -> None:
    with output(tmp_path / "journal") as (ours, listener):
        listener.close()

        ours.write(b"line\nline")


@pytest.mark.timeout(15)
def test_a_journal_that_takes_nothing_costs_lines_and_does_not_hold_up_the_job(tmp_path: Path) -> None:
    with output(tmp_path / "journal") as (ours, _):
        ours.write(b"line\n" * 10_000)


# The log

_SET_UP = """
import functools, logging, os, pathlib, sys
from gitopsd import journal
place, stream = sys.argv[1:]
journal.Sender = functools.partial(journal.Sender, pathlib.Path(place))
if stream == "ours":
    found = os.fstat(2)
    stream = f"{found.st_dev}:{found.st_ino}"
if stream:
    os.environ["JOURNAL_STREAM"] = stream
journal.set_up_log()
log = logging.getLogger("gitopsd.part")
"""
_LOG = """
log.error("job %d of %s: failed", 7, "blog", extra=journal.fields(journal.Kind.JOB_FAILED, repo="blog", job=7))
log.warning("a name\\n<0>with a line break\\nin it")
log.info("plain")
log.debug("not this one")
log.critical("worst")
"""
_PREFIXED = ["<3>job 7 of blog: failed", "<4>a name <0>with a line break in it", "<6>plain", "<3>worst", ""]


@contextmanager
def logging_process(script: str, place: Path, stream: str) -> Iterator[subprocess.Popen[str]]:
    """A process that logs; `stream` is what JOURNAL_STREAM says, `ours` the very stderr of it, "" nothing."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path)}
    argv = [sys.executable, "-W", "error", "-c", _SET_UP + script, str(place), stream]
    with subprocess.Popen(
        argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process


def written(script: str, place: Path, stream: str) -> list[str]:
    """The lines that a process writes to stderr when it logs."""
    with logging_process(script, place, stream) as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    return said.split("\n")


def test_on_a_terminal_each_record_is_one_line_with_its_level(tmp_path: Path) -> None:
    with journald(tmp_path / "journal") as listener:
        said = written(_LOG, tmp_path / "journal", "")

        assert not has_entry(listener)
    assert said == [
        "error: job 7 of blog: failed",
        "warning: a name <0>with a line break in it",
        "info: plain",
        "critical: worst",
        "",
    ]


@pytest.mark.parametrize("stream", ["8:1", "8", "nonsense"])
def test_where_somebody_elses_stderr_is_the_journal_ours_gets_lines_with_their_priority(
    tmp_path: Path, stream: str
) -> None:
    with journald(tmp_path / "journal") as listener:
        assert written(_LOG, tmp_path / "journal", stream) == _PREFIXED

        assert not has_entry(listener)


def test_where_our_stderr_is_the_journal_records_go_there_with_their_priority_and_fields(tmp_path: Path) -> None:
    with journald(tmp_path / "journal") as listener:
        assert written(_LOG, tmp_path / "journal", "ours") == [""]

        entries = [read_entry(listener.recv(100_000)) for _ in range(4)]
        assert not has_entry(listener)
    common = {"SYSLOG_IDENTIFIER": b"gitopsd"}
    kind = {"MESSAGE_ID": Kind.JOB_FAILED.encode(), "GITOPSD_REPO": b"blog", "GITOPSD_JOB": b"7"}
    assert entries == [
        {**common, "PRIORITY": b"3", **kind, "MESSAGE": b"job 7 of blog: failed"},
        {**common, "PRIORITY": b"4", "MESSAGE": b"a name <0>with a line break in it"},
        {**common, "PRIORITY": b"6", "MESSAGE": b"plain"},
        {**common, "PRIORITY": b"3", "MESSAGE": b"worst"},
    ]


def test_where_our_stderr_is_the_journal_and_its_socket_is_not_there_the_lines_go_to_stderr(tmp_path: Path) -> None:
    assert written(_LOG, tmp_path / "journal", "ours") == _PREFIXED


@pytest.mark.parametrize("stream", ["", "8:1"])
def test_where_stderr_is_closed_nothing_is_said_and_nothing_fails(tmp_path: Path, stream: str) -> None:
    argv = [sys.executable, "-W", "error", "-c", f"{_SET_UP}{_LOG}print('done')", str(tmp_path / "journal"), stream]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path)}

    done = subprocess.run(
        ["bash", "-c", 'exec "$@" 2>&-', "bash", *argv], env=environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_what_a_journal_that_goes_away_does_not_take_goes_to_stderr(tmp_path: Path) -> None:
    script = 'log.info("before"); sys.stdin.read(); log.warning("after"); log.info("and after that")'
    place = tmp_path / "journal"
    with journald(place) as listener, logging_process(script, place, "ours") as process:
        before = read_entry(listener.recv(100_000))
        listener.close()
        _, said = process.communicate()
    assert before["MESSAGE"] == b"before"
    assert (process.returncode, said) == (0, "<4>after\n<6>and after that\n")


def test_an_entry_that_is_too_large_for_the_journal_goes_to_stderr_and_the_next_to_the_journal(tmp_path: Path) -> None:
    with journald(tmp_path / "journal") as listener:
        said = written('log.error("x" * 10_000_000); log.info("small")', tmp_path / "journal", "ours")

        assert read_entry(listener.recv(100_000))["MESSAGE"] == b"small"
    assert [len(line) for line in said] == [3 + 10_000_000, 0]


@pytest.mark.timeout(30)
def test_a_journal_that_takes_nothing_any_more_holds_nobody_up_and_no_record_is_lost(tmp_path: Path) -> None:
    with journald(tmp_path / "journal") as listener:
        said = written('for number in range(3000): log.info("%d", number)', tmp_path / "journal", "ours")
        taken = []
        while has_entry(listener):
            taken.append(read_entry(listener.recv(100_000))["MESSAGE"].decode())
    assert taken
    assert taken + [line.removeprefix("<6>") for line in said[:-1]] == [str(number) for number in range(3000)]


def has_entry(listener: socket.socket) -> bool:
    """Whether there is something to be read in this moment."""
    ready, _, _ = select.select([listener], [], [], 0)
    return bool(ready)
