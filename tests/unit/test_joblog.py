"""A job's log keeps its beginning and its end, and a full disk costs lines, never the deploy."""

import errno
import logging
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from gitopsd.joblog import JobLog, log_path, remove_old, report_path


def write(path: Path, chunks: list[bytes], max_bytes: int) -> bytes:
    log = JobLog(path, max_bytes)
    for chunk in chunks:
        log.write(chunk)
    log.close()
    return path.read_bytes()


def note(left_out: int) -> bytes:
    return f"\n[… {left_out} bytes left out: keep.log_size …]\n".encode()


def test_a_short_output_is_kept_as_it_is(tmp_path: Path) -> None:
    path = log_path(tmp_path, "blog", 7)

    assert write(path, [b"fetch\n", b"", b"deploy \xff\n"], 1000) == b"fetch\ndeploy \xff\n"
    assert path == tmp_path / "logs" / "blog" / "7.log"
    assert path.stat().st_mode & 0o777 == 0o640


def test_the_beginning_is_there_while_the_job_still_runs(tmp_path: Path) -> None:
    log = JobLog(tmp_path / "1.log", 1000)
    try:
        log.write(b"fetch\n")

        assert (tmp_path / "1.log").read_bytes() == b"fetch\n"
    finally:
        log.close()


def test_a_long_output_loses_its_middle_and_says_how_much(tmp_path: Path) -> None:
    found = write(tmp_path / "1.log", [b"start ", b"x" * 5000, b" end"], 20)

    assert found == b"start xxxx" + note(4990) + b"xxxxxx end"


def test_of_a_very_large_output_little_is_held_in_memory_and_the_end_is_exact(tmp_path: Path) -> None:
    lines = [f"line {number}\n".encode() * 100 for number in range(3000)]
    whole = b"".join(lines)

    found = write(tmp_path / "1.log", lines, 1024 * 1024)

    tail = 64 * 1024
    head = 1024 * 1024 - tail
    assert found == whole[:head] + note(len(whole) - head - tail) + whole[-tail:]


@settings(deadline=None)
@given(chunks=some.lists(some.binary(max_size=40), max_size=20), max_bytes=some.integers(0, 120))
def test_whatever_is_written_the_log_is_whole_or_its_two_ends_with_a_true_note(
    chunks: list[bytes], max_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        found = write(Path(directory) / "1.log", chunks, max_bytes)

    whole = b"".join(chunks)
    head, tail = max_bytes - max_bytes // 2, max_bytes // 2
    if len(whole) <= max_bytes:
        assert found == whole
    else:
        assert found == whole[:head] + note(len(whole) - head - tail) + whole[len(whole) - tail :]


def test_an_older_log_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_text("something much longer from before")

    assert write(path, [b"new"], 100) == b"new"


def test_a_full_disk_costs_lines_and_is_said_once(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = small_disk / "1.log"

    found = write(path, [b"%06d\n" % number * 1000 for number in range(200)], 8 * 1024 * 1024)

    assert found.startswith(b"000000\n" * 1000)
    assert len(found) <= 1024 * 1024
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: cannot be written: {os.strerror(errno.ENOSPC)}; the rest of this job's output is lost"
    ]


def test_an_end_that_no_longer_fits_on_the_disk_is_said_too(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        filler.write(b"x" * (1024 - 16) * 1024)

    found = write(small_disk / "1.log", [b"y" * 32 * 1024], 1024 * 1024)

    assert len(found) < 32 * 1024
    assert "the rest of this job's output is lost" in caplog.text


def test_a_log_that_cannot_be_made_is_said_and_the_job_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").write_text("not a directory")
    path = log_path(tmp_path, "blog", 1)

    with caplog.at_level(logging.WARNING):
        log = JobLog(path, 100)
        log.write(b"x" * 500)
        log.close()

    assert len(caplog.records) == 1
    assert caplog.messages[0].startswith(f"{path}: cannot be written: ")
    assert caplog.messages[0].endswith("; this job's output is lost")


def test_old_logs_go_by_number_and_take_their_reports_along(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10, 11):
        log_path(tmp_path, "blog", number).parent.mkdir(parents=True, exist_ok=True)
        log_path(tmp_path, "blog", number).touch()
        report_path(tmp_path, "blog", number).touch()
    log_path(tmp_path, "shop", 1).parent.mkdir()
    log_path(tmp_path, "shop", 1).touch()
    (tmp_path / "logs" / "blog" / "notes.log").touch()
    report_path(tmp_path, "blog", 2).unlink()

    remove_old(tmp_path, "blog", 2)

    left = sorted(str(path.relative_to(tmp_path / "logs")) for path in tmp_path.rglob("*.*"))
    assert left == ["blog/10.log", "blog/10.report", "blog/11.log", "blog/11.report", "blog/notes.log", "shop/1.log"]


def test_fewer_logs_than_are_kept_all_stay(tmp_path: Path) -> None:
    log_path(tmp_path, "blog", 1).parent.mkdir(parents=True)
    log_path(tmp_path, "blog", 1).touch()

    remove_old(tmp_path, "blog", 50)
    remove_old(tmp_path, "never-synced", 50)

    assert log_path(tmp_path, "blog", 1).exists()


@pytest.mark.parametrize("trouble", ["a directory in the place of a log", "a file in the place of the directory"])
def test_old_logs_that_cannot_be_removed_are_said_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    directory = tmp_path / "logs" / "blog"
    if trouble.startswith("a directory"):
        log_path(tmp_path, "blog", 1).mkdir(parents=True)
        log_path(tmp_path, "blog", 2).touch()
    else:
        directory = tmp_path / "logs"
        directory.touch()

    remove_old(tmp_path, "blog", 1)

    if trouble.startswith("a directory"):
        assert caplog.messages == [f"{directory}: old logs cannot be removed: {os.strerror(errno.EISDIR)}"]


def test_a_log_whose_name_is_no_number_of_ours_is_left_alone(tmp_path: Path) -> None:
    directory = log_path(tmp_path, "blog", 1).parent
    directory.mkdir(parents=True)
    for name in ("1.log", "2.log", "².log"):
        (directory / name).touch()

    remove_old(tmp_path, "blog", 1)

    assert {path.name for path in directory.iterdir()} == {"2.log", "².log"}


def test_a_disk_that_takes_a_part_gets_the_rest_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all = os.write
    monkeypatch.setattr(os, "write", lambda fd, chunk: write_all(fd, chunk[:3]))

    assert write(tmp_path / "1.log", [b"0123456789"], 1000) == b"0123456789"
