"""Exit codes, and what reaches a terminal."""

import pytest

from gitopsd.cli import exits, logs, terminal
from gitopsd.model import Job, JobState, Trigger


def job(state: JobState, exit_code: int | None = None) -> Job:
    return Job(
        id=1,
        repo="blog",
        trigger=Trigger.MANUAL,
        state=state,
        reason="",
        attempts=1,
        failures=0,
        interruptions=0,
        due_at=0.0,
        created_at=0.0,
        exit_code=exit_code,
    )


@pytest.mark.parametrize(
    ("state", "engine", "code"),
    [
        (JobState.SUCCEEDED, 0, 0),
        (JobState.UNCHANGED, 0, 0),
        (JobState.FAILED, 1, 1),
        (JobState.FAILED, 130, 1),
        (JobState.FAILED, None, 1),
        (JobState.FAILED, 75, 75),
        (JobState.FAILED, 78, 78),
        (JobState.REFUSED, 77, 77),
        (JobState.INTERRUPTED, None, 75),
        (JobState.PENDING, None, 75),
        (JobState.RUNNING, None, 75),
        (JobState.SUPERSEDED, None, 75),
    ],
)
def test_the_exit_code_tells_how_a_job_ended(state: JobState, engine: int | None, code: int) -> None:
    assert exits.of_job(job(state, engine)) == code


@pytest.mark.parametrize(
    ("codes", "worst"),
    [([], 0), ([0, 0], 0), ([0, 75], 75), ([75, 77, 0], 77), ([77, 1], 1), ([1, 78, 75], 78)],
)
def test_of_several_jobs_the_worst_end_counts(codes: list[int], worst: int) -> None:
    assert exits.worst(codes) == worst


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünï, 🌱", "plain, ünï, 🌱"),
        ("[bold]no markup[/bold] :smile:", "[bold]no markup[/bold] :smile:"),
        ("\x1b]0;title\x07", "�]0;title�"),
        ("a\rb\x08c\x9bd\x00", "a�b�c�d�"),
        ("right to \u202e left", "right to � left"),
        ("two\nlines", "two\nlines"),
        ("a\tb", "a       b"),
    ],
)
def test_no_control_character_reaches_the_terminal(text: str, shown: str) -> None:
    assert terminal.plain(text).plain == shown


@pytest.mark.parametrize(
    ("on_a_terminal", "shown"),
    [(True, "�]0;title� ünï �\n".encode()), (False, b"\x1b]0;title\x07 \xc3\xbcn\xc3\xaf \xff\n")],
)
def test_the_log_of_a_job_is_cleaned_for_a_terminal_only(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, on_a_terminal: bool, shown: bytes
) -> None:
    with open(1, "w", encoding="utf-8", closefd=False) as out:
        monkeypatch.setattr(out, "isatty", lambda: on_a_terminal, raising=False)
        monkeypatch.setattr("sys.stdout", out)
        logs._write(b"\x1b]0;title\x07 \xc3\xbcn\xc3\xaf \xff\n")
    assert capfdbinary.readouterr().out == shown


@pytest.mark.parametrize(
    ("seconds", "exact", "whole"),
    [
        (0.0, "0.00 s", "0 s"),
        (1.234, "1.23 s", "1 s"),
        (59.4, "59.40 s", "59 s"),
        (60.0, "1 min", "1 min"),
        (7199.0, "1 h", "1 h"),
        (200_000.0, "2 d", "2 d"),
    ],
)
def test_a_duration_is_told_in_its_largest_unit(seconds: float, exact: str, whole: str) -> None:
    assert terminal.duration(seconds) == exact
    assert terminal.duration(seconds, whole=True) == whole


def test_a_moment_that_seems_to_lie_ahead_was_just_now() -> None:
    assert terminal.ago(110.0, 100.0) == "0 s ago"
    assert terminal.ago(None, 100.0) == "-"


def test_times_for_machines_are_in_utc() -> None:
    assert terminal.iso(1_700_000_000.1239) == "2023-11-14T22:13:20.123Z"
    assert terminal.iso(None) is None


def test_a_table_in_a_pipe_has_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("blog", "a reason " * 40), ("a-much-longer-name", "[red]")]
    terminal.print_table(terminal.console(), ("REPO", "REASON"), rows)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["REPO", "blog", "a-much-longer-name"]
    assert lines[1].count("a reason") == 40
    assert lines[2].split() == ["a-much-longer-name", "[red]"]
