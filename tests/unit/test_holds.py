"""Holds: read by many, written by one; what cannot be read holds."""

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitopsd import holds, runner
from gitopsd.cli import poll, serve
from gitopsd.errors import GitopsdError
from gitopsd.model import Hold, Job, JobState, Trigger
from gitopsd.settings import Config
from gitopsd.store import Store
from gitopsd.store import path_in as store_path
from tests.conftest import ForNobody
from tests.users import ALICE, act_as, needs_root

NOW = 1_700_000_000.0
HOLD = Hold(repo="blog", by="root", reason="disk swap", at=NOW)
BACK = HOLD._replace(reason="rolled back", revision="1" * 40)


def path_in(state_dir: Path, repo: str = "blog") -> Path:
    return state_dir / "holds" / f"{repo}.json"


def write_text(state_dir: Path, text: str) -> None:
    path_in(state_dir).parent.mkdir(exist_ok=True)
    path_in(state_dir).write_text(text)


def job(trigger: Trigger) -> Job:
    return Job(
        id=1,
        repo="blog",
        trigger=trigger,
        state=JobState.PENDING,
        reason="",
        attempts=1,
        failures=0,
        interruptions=0,
        due_at=NOW,
        created_at=NOW,
    )


@pytest.mark.parametrize("hold", [HOLD, BACK, HOLD._replace(until=NOW + 1), HOLD._replace(revision="a" * 64)])
def test_a_hold_is_read_as_it_was_written_and_is_of_its_repo_alone(tmp_path: Path, hold: Hold) -> None:
    holds.write(tmp_path / "state", hold)

    assert holds.read(tmp_path / "state", "blog", NOW) == hold
    assert holds.read(tmp_path / "state", "blog2", NOW) is None


def test_where_nothing_was_ever_held_nothing_is(tmp_path: Path) -> None:
    assert holds.read(tmp_path / "nowhere", "blog", NOW) is None
    assert list(tmp_path.iterdir()) == []


def test_a_hold_ends_when_its_time_has_come(tmp_path: Path) -> None:
    holds.write(tmp_path, HOLD._replace(until=NOW + 60))

    assert holds.read(tmp_path, "blog", NOW + 59.9) is not None
    assert holds.read(tmp_path, "blog", NOW + 60) is None


def test_a_newer_hold_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    holds.write(tmp_path, BACK)
    holds.write(tmp_path, HOLD)

    assert holds.read(tmp_path, "blog", NOW) == HOLD


def test_what_is_removed_holds_no_longer_and_may_be_removed_again(tmp_path: Path) -> None:
    holds.write(tmp_path, HOLD)
    for _ in range(2):
        holds.remove(tmp_path, "blog")
        assert holds.read(tmp_path, "blog", NOW) is None
    assert list((tmp_path / "holds").iterdir()) == []


def test_whoever_gets_into_the_state_directory_can_read_a_hold_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        holds.write(tmp_path, HOLD)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (path_in(tmp_path).parent, path_in(tmp_path))]
    assert modes == [0o755, 0o644]


@needs_root
def test_another_user_can_read_a_hold_and_neither_change_nor_remove_it(for_nobody: ForNobody) -> None:
    state_dir = for_nobody.place / "state"
    state_dir.mkdir()
    state_dir.chmod(0o755)
    holds.write(state_dir, HOLD)

    def read() -> None:
        assert holds.read(state_dir, "blog", NOW) == HOLD

    assert act_as(ALICE, read) == ""
    assert "cannot be written: Permission denied" in act_as(ALICE, lambda: holds.write(state_dir, BACK))
    assert "cannot be removed: Permission denied" in act_as(ALICE, lambda: holds.remove(state_dir, "blog"))
    read()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "null",
        "{}",
        "[" * 5000,
        '{"by": "root", "reason": "x"}',
        '{"by": "root", "at": 1}',
        *(
            json.dumps({"by": "root", "reason": "x", "at": NOW} | wrong)
            for wrong in (
                {"at": "soon"},
                {"at": None},
                {"at": -1},
                {"at": float("nan")},
                {"until": float("inf")},
                {"until": 1e12},
                {"until": 10**400},
                {"until": "never"},
                {"revision": ""},
                {"revision": "HEAD"},
                {"revision": "--upload-pack=x"},
                {"revision": "1" * 39},
                {"revision": "A" * 40},
                {"revision": "1" * 40 + "\n"},
                {"revision": 7},
            )
        ),
    ],
)
def test_what_is_no_hold_is_an_error_and_not_taken_for_none(tmp_path: Path, text: str) -> None:
    write_text(tmp_path, text)

    with pytest.raises(GitopsdError, match=rf"^hold {path_in(tmp_path)}: is not what gitopsd writes; remove it"):
        holds.read(tmp_path, "blog", NOW)


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_what_is_no_file_is_an_error_and_is_neither_followed_nor_waited_for(tmp_path: Path, kind: str) -> None:
    holds.write(tmp_path, HOLD._replace(repo="other"))
    make: dict[str, Any] = {
        "directory": lambda path: path.mkdir(),
        "link": lambda path: path.symlink_to("other.json"),
        "pipe": os.mkfifo,
    }
    make[kind](path_in(tmp_path))

    with pytest.raises(GitopsdError, match="cannot be read: "):
        holds.read(tmp_path, "blog", NOW)


def test_a_hold_that_may_not_be_read_is_an_error(for_nobody: ForNobody) -> None:
    with for_nobody.rights():
        holds.write(for_nobody.place, HOLD)
        path_in(for_nobody.place).chmod(0)
        with pytest.raises(GitopsdError, match="cannot be read: Permission denied"):
            holds.read(for_nobody.place, "blog", NOW)


def test_where_no_hold_can_be_made_or_removed_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "holds").write_text("")

    with pytest.raises(GitopsdError, match="cannot be written: "):
        holds.write(tmp_path, HOLD)
    with pytest.raises(GitopsdError, match="cannot be removed: "):
        holds.remove(tmp_path, "blog")


def test_who_held_a_repo_and_why_is_one_line() -> None:
    assert holds.why(HOLD) == "held by root: disk swap"


def test_of_a_text_that_somebody_wrote_at_length_the_beginning_is_shown(tmp_path: Path) -> None:
    holds.write(tmp_path, HOLD._replace(reason="x" * 10_000))

    found = holds.read(tmp_path, "blog", NOW)

    assert found
    assert found.reason == "x" * 500


@pytest.mark.parametrize(
    ("hold", "may"),
    [(None, set(Trigger)), (HOLD, set()), (BACK, {Trigger.ROLLBACK})],
    ids=["no hold", "a hold", "a rollback's"],
)
def test_a_hold_keeps_everything_but_a_rollback_of_its_own(
    tmp_path: Path, hold: Hold | None, may: set[Trigger]
) -> None:
    if hold:
        holds.write(tmp_path, hold)

    assert set(holds.allowed(hold)) == may
    assert {trigger for trigger in Trigger if not holds.keeps(tmp_path, job(trigger), NOW)} == may


def test_what_cannot_be_read_keeps_everything(tmp_path: Path) -> None:
    write_text(tmp_path, "{}")

    with pytest.raises(GitopsdError):
        holds.keeps(tmp_path, job(Trigger.ROLLBACK), NOW)


# Who starts the daemon


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each start of the daemon, on a host that seems to have units."""
    made: list[str] = []
    monkeypatch.setattr(runner, "uses_units", lambda _config: True)
    monkeypatch.setattr(runner, "start_daemon", lambda: made.append("started"))
    return made


@pytest.fixture
def records(tmp_path: Path) -> Iterator[tuple[Config, Store]]:
    """Blog has a due job."""
    config = Config(source=tmp_path / "x", state_dir=tmp_path / "state", engine=tmp_path / "x")
    store = Store(store_path(config.state_dir), time.time)
    store.enqueue("blog", Trigger.POLL)
    yield config, store
    store.close()


def see_to_dispatch(config: Config, store: Store) -> None:
    poll._see_to_dispatch(config, store)
    serve._see_to_retry(config, store, "blog")


@pytest.mark.parametrize("text", [None, "nonsense"], ids=["held", "held or not, there is no telling"])
def test_neither_a_poll_nor_a_sync_starts_a_daemon_that_would_have_only_held_jobs(
    records: tuple[Config, Store], starts: list[str], text: str | None
) -> None:
    config, store = records
    holds.write(config.state_dir, HOLD)
    if text is not None:
        path_in(config.state_dir).write_text(text)

    see_to_dispatch(config, store)

    assert starts == []
    holds.remove(config.state_dir, "blog")
    see_to_dispatch(config, store)
    assert starts == ["started"] * 2


def test_once_a_hold_has_ended_or_for_a_rollback_a_poll_starts_one(
    records: tuple[Config, Store], starts: list[str]
) -> None:
    config, store = records
    holds.write(config.state_dir, HOLD._replace(until=time.time() - 1))
    poll._see_to_dispatch(config, store)
    assert starts == ["started"]
    holds.write(config.state_dir, BACK)
    poll._see_to_dispatch(config, store)
    assert starts == ["started"]
    store.enqueue("blog", Trigger.ROLLBACK)
    poll._see_to_dispatch(config, store)
    assert starts == ["started"] * 2


def test_a_poll_starts_one_for_a_sync_of_a_held_repo_that_was_killed(
    records: tuple[Config, Store], starts: list[str]
) -> None:
    config, store = records
    store.claim("blog", lambda _: pytest.fail("nothing was interrupted yet"), config.retry)
    holds.write(config.state_dir, HOLD)
    poll._see_to_dispatch(config, store)
    assert starts == ["started"]
