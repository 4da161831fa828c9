"""One repo's sync, until nothing is due: real store, real lock, an engine of a few lines."""

import functools
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gitopsd import holds, joblog, journal, lock, sync
from gitopsd.errors import BusyError, GitopsdError
from gitopsd.journal import Kind
from gitopsd.model import Hold, Job, JobState, Match, Outcome, Trigger
from gitopsd.settings import Config, Keep, Repo, Retry
from gitopsd.store import Store, path_in
from tests import catalog, records
from tests.journald import journald, read_entry

NOW = 1_700_000_000.0
INTERRUPTED = Outcome(state=JobState.INTERRUPTED, reason="it was killed", exit_code=None)


class Bench:
    """A repo called blog and its engine; each run of it writes a line to `runs`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = Config(
            source=root / "gitopsd.yaml",
            state_dir=root / "state",
            engine=root / "engine",
            retry=Retry(tries=2, delay_sec=60),
            keep=Keep(logs=2),
        )
        self.now = NOW
        self.store = Store(path_in(self.config.state_dir), lambda: self.now)
        self.repo = Repo(name="blog", url="/nowhere", ref="main", path=root / "checkout")
        self.write_engine("true")

    def write_engine(self, *lines: str) -> None:
        text = ("#!/bin/bash", f"echo run >> '{self.root}/runs'", "echo hello", *lines, "")
        self.config.engine.write_text("\n".join(text))
        self.config.engine.chmod(0o755)

    def sync(self, stop_fd: int | None = None) -> None:
        sync.run(self.config, "blog", self.store, self.find, stop_fd, clock=lambda: self.now)

    def find(self, name: str) -> Repo:
        if name != "blog":
            raise GitopsdError(f"there is no repo '{name}'")
        return self.repo

    def hold(self, *, until: float | None = None, revision: str | None = None) -> None:
        hold = Hold(repo="blog", by="root", reason="disk swap", at=NOW, until=until, revision=revision)
        holds.write(self.config.state_dir, hold)

    def resume(self) -> None:
        holds.remove(self.config.state_dir, "blog")

    def pins(self) -> list[str]:
        """What each run of an engine that notes that down was pinned to."""
        return (self.root / "pins").read_text().splitlines()

    def want(self) -> Job:
        return self.store.enqueue("blog", Trigger.MANUAL)

    def push(self, delivery_id: str) -> None:
        delivery = records.push(delivery_id, at=self.now)
        self.store.accept(delivery, [Match(repo="blog", ref="refs/heads/main", revision=None)])

    def states(self) -> list[str]:
        """Of all jobs, oldest first."""
        return [str(job.state) for job in reversed(self.store.jobs(limit=100))]

    def runs(self) -> int:
        path = self.root / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


def test_a_job_is_run_once_and_its_output_is_kept(bench: Bench) -> None:
    job = bench.want()
    bench.sync()
    bench.sync()
    assert bench.runs() == 1
    assert bench.states() == ["unchanged"]
    assert joblog.log_path(bench.config.state_dir, "blog", job.id).read_text() == "hello\n"


def test_without_a_job_no_engine_runs(bench: Bench) -> None:
    bench.sync()
    assert bench.runs() == 0


def test_a_wish_that_comes_after_the_claim_gets_a_run_of_its_own(bench: Bench) -> None:
    first = bench.want()

    def find(name: str) -> Repo:
        if bench.runs() == 0:
            assert bench.want().id != first.id
        return bench.find(name)

    sync.run(bench.config, "blog", bench.store, find, None, clock=lambda: NOW)
    assert bench.runs() == 2
    assert bench.states() == ["unchanged", "unchanged"]


def test_a_storm_that_is_over_as_a_run_ends_is_done_by_the_same_sync(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.push("one")

    def find(name: str) -> Repo:
        if bench.runs() == 0:
            bench.push("two")
        return bench.find(name)

    def wait(*_files: object) -> tuple[list[int], list[int], list[int]]:
        bench.now += 0.15
        return [], [], []

    monkeypatch.setattr(sync, "select", SimpleNamespace(select=wait))
    sync.run(bench.config, "blog", bench.store, find, None, clock=lambda: bench.now)
    assert bench.states() == ["unchanged", "unchanged"]


def test_a_sync_that_is_told_to_stop_does_not_wait_for_the_end_of_a_storm(bench: Bench) -> None:
    bench.push("one")
    reading, writing = os.pipe()

    def find(name: str) -> Repo:
        bench.push("two")
        return bench.find(name)

    bench.write_engine(f"echo stop >/proc/{os.getpid()}/fd/{writing}")
    try:
        sync.run(bench.config, "blog", bench.store, find, reading, clock=lambda: bench.now)
    finally:
        os.close(reading)
        os.close(writing)
    assert bench.runs() == 1
    assert bench.store.waiting() != []


def test_a_failed_job_is_queued_for_later_and_not_run_again_now(bench: Bench) -> None:
    bench.want()
    bench.write_engine("exit 1")
    bench.sync()
    assert bench.runs() == 1
    assert bench.states() == ["failed", "pending"]
    assert bench.store.next_due_at(NOW) == NOW + 60


def test_a_refused_job_is_not_tried_again(bench: Bench) -> None:
    bench.want()
    bench.write_engine("exit 77")
    bench.sync()
    assert bench.states() == ["refused"]


def test_a_job_of_a_repo_that_was_taken_out_is_refused_with_the_reason(bench: Bench) -> None:
    bench.store.enqueue("gone", Trigger.MANUAL)
    sync.run(bench.config, "gone", bench.store, bench.find, None, clock=lambda: NOW)
    (job,) = bench.store.jobs("gone", limit=2)
    assert (job.state, job.reason) == (JobState.REFUSED, "there is no repo 'gone'")
    assert bench.runs() == 0


def test_the_engine_runs_under_the_lock_of_its_repo_alone(bench: Bench) -> None:
    bench.want()
    locks = bench.config.state_dir / "locks"
    bench.write_engine(
        f"flock --nonblock '{locks}/blog.lock' true && exit 77", f"flock --nonblock '{locks}/x.lock' true"
    )
    bench.sync()
    assert bench.states() == ["unchanged"]
    assert lock.is_free(bench.config.state_dir, "blog")


def test_a_repo_that_somebody_else_syncs_keeps_its_job(bench: Bench) -> None:
    bench.want()
    with lock.hold(bench.config.state_dir, "blog"), pytest.raises(BusyError, match="another sync of blog is running"):
        bench.sync()
    assert bench.runs() == 0
    assert bench.states() == ["pending"]


def test_a_job_that_a_dead_sync_left_is_recorded_as_interrupted_and_done_again(bench: Bench) -> None:
    left = bench.want()
    assert bench.store.claim("blog", lambda _: pytest.fail("nothing was interrupted yet"), bench.config.retry)
    report_path = joblog.report_path(bench.config.state_dir, "blog", left.id)
    report_path.parent.mkdir(parents=True)
    report_path.write_text("phase=fetch at=1.0\nphase=deploy at=2.0\nphase=hea")

    bench.sync()

    assert bench.states() == ["interrupted", "unchanged"]
    interrupted = bench.store.job(left.id)
    assert interrupted is not None
    assert interrupted.reason == "interrupted during deploy; queued again"
    assert [phase.name for phase in interrupted.phases] == ["fetch", "deploy"]


def test_a_sync_that_is_told_to_stop_queues_its_job_again_and_ends(bench: Bench) -> None:
    bench.want()
    bench.write_engine("sleep 1000")
    reader, writer = os.pipe()
    try:
        os.write(writer, b"x")
        bench.sync(stop_fd=reader)
    finally:
        os.close(reader)
        os.close(writer)
    assert bench.states() == ["interrupted", "pending"]
    assert bench.store.due() == ["blog"]


def test_only_the_newest_logs_are_kept(bench: Bench) -> None:
    numbers = []
    for _ in range(4):
        numbers.append(bench.want().id)
        bench.sync()
    kept = [number for number in numbers if joblog.log_path(bench.config.state_dir, "blog", number).exists()]
    assert kept == numbers[-2:]


def test_a_repo_with_a_retry_of_its_own_is_tried_again_by_that(bench: Bench) -> None:
    repo = bench.repo._replace(retry=Retry(tries=1))
    bench.config = bench.config._replace(repos={"blog": repo})
    bench.want()
    bench.write_engine("exit 1")
    bench.sync()
    assert bench.states() == ["failed"]


def test_what_was_interrupted_again_and_again_waits_by_the_retry_of_its_repo(bench: Bench) -> None:
    repo = bench.repo._replace(retry=Retry(delay_sec=7))
    bench.config = bench.config._replace(repos={"blog": repo})
    bench.want()
    for _ in range(2):
        bench.store.claim("blog", lambda _: INTERRUPTED, Retry())
    bench.sync()
    assert bench.store.next_due_at(NOW) == NOW + 7


def test_the_log_of_a_look_that_found_nothing_goes_with_its_record(bench: Bench) -> None:
    numbers = []
    for _ in range(3):
        numbers.append(bench.store.enqueue("blog", Trigger.POLL).id)
        bench.sync()
    assert [job.id for job in bench.store.jobs("blog", limit=9)] == numbers[-1:]
    logs = joblog.log_path(bench.config.state_dir, "blog", 0).parent
    assert [path.name for path in logs.iterdir()] == [f"{numbers[-1]}.log"]


# What is held

PIN = 'echo "$GITOPSD_REVISION" >> "$(dirname "$0")/pins"'


def test_a_repo_that_is_held_keeps_its_job_until_it_is_resumed(bench: Bench) -> None:
    bench.hold()
    bench.want()
    bench.sync()
    assert (bench.runs(), bench.states()) == (0, ["pending"])
    bench.resume()
    bench.sync()
    assert (bench.runs(), bench.states()) == (1, ["unchanged"])


def test_a_hold_that_has_ended_holds_nothing(bench: Bench) -> None:
    bench.hold(until=NOW + 1)
    bench.want()
    bench.sync()
    assert bench.runs() == 0
    bench.now += 1
    bench.sync()
    assert bench.runs() == 1


def test_a_run_is_not_ended_by_a_hold_and_is_the_last_one(bench: Bench) -> None:
    bench.want()

    def find(name: str) -> Repo:
        bench.hold()
        bench.want()
        return bench.find(name)

    sync.run(bench.config, "blog", bench.store, find, None, clock=lambda: NOW)
    assert (bench.runs(), bench.states()) == (1, ["unchanged", "pending"])


def test_a_rollback_goes_to_the_revision_of_its_hold_and_nothing_else_does(bench: Bench) -> None:
    bench.write_engine(PIN)
    bench.want()
    bench.sync()
    bench.hold(revision="1" * 40)
    bench.want()
    bench.sync()
    bench.store.enqueue("blog", Trigger.ROLLBACK)
    bench.sync()
    bench.want()
    bench.sync()
    assert bench.pins() == ["", "1" * 40]
    assert bench.states() == ["unchanged", "superseded", "unchanged", "pending"]
    bench.resume()
    bench.sync()
    assert bench.pins() == ["", "1" * 40, ""]


def test_a_rollback_whose_hold_came_after_our_look_goes_to_its_revision_all_the_same(bench: Bench) -> None:
    bench.write_engine(PIN)

    class Late(Store):
        """Somebody rolls back between the look at the hold and the claim."""

        def claim(self, *words: Any) -> Job | None:
            if not bench.store.jobs("blog", limit=1):
                bench.hold(revision="1" * 40)
                bench.store.enqueue("blog", Trigger.ROLLBACK)
            return super().claim(*words)

    store = Late(path_in(bench.config.state_dir), lambda: NOW)
    try:
        sync.run(bench.config, "blog", store, bench.find, None, clock=lambda: NOW)
    finally:
        store.close()
    assert bench.pins() == ["1" * 40]


def test_a_rollback_whose_hold_is_gone_goes_nowhere(bench: Bench) -> None:
    bench.write_engine(PIN)
    bench.store.enqueue("blog", Trigger.ROLLBACK)
    bench.sync()
    assert (bench.runs(), bench.states()) == (0, ["refused"])


def test_a_rollback_goes_to_the_newest_hold_of_all_that_came_before_its_claim(bench: Bench) -> None:
    bench.write_engine(PIN)
    bench.hold(revision="1" * 40)
    bench.store.enqueue("blog", Trigger.ROLLBACK)

    class Late(Store):
        """Somebody rolls back to another revision between the look at the hold and the claim."""

        def claim(self, *words: Any) -> Job | None:
            bench.hold(revision="2" * 40)
            return super().claim(*words)

    store = Late(path_in(bench.config.state_dir), lambda: NOW)
    try:
        sync.run(bench.config, "blog", store, bench.find, None, clock=lambda: NOW)
    finally:
        store.close()
    assert bench.pins() == ["2" * 40]


def test_a_rollback_is_not_told_of_what_came_while_it_waited(bench: Bench) -> None:
    bench.write_engine(f'echo "[$GITOPSD_IMAGE$GITOPSD_HINT$GITOPSD_FORCE]" >> {bench.root}/told')
    bench.hold(revision="1" * 40)
    bench.store.enqueue("blog", Trigger.ROLLBACK)
    bench.store.enqueue("blog", Trigger.POLL, force=True, revision="3" * 40)
    bench.sync()
    assert (bench.root / "told").read_text() == "[]\n"


def test_a_rollback_under_a_hold_that_came_after_its_own_waits(bench: Bench) -> None:
    bench.store.enqueue("blog", Trigger.ROLLBACK)
    bench.hold()
    bench.sync()
    assert (bench.runs(), bench.states()) == (0, ["pending"])


def test_what_a_dead_sync_of_a_held_repo_left_is_recorded_and_not_done_again(bench: Bench) -> None:
    bench.want()
    bench.store.claim("blog", lambda _: pytest.fail("nothing was interrupted yet"), bench.config.retry)
    bench.hold()
    bench.sync()
    assert (bench.runs(), bench.states()) == (0, ["interrupted", "pending"])


def test_while_there_is_no_telling_whether_a_repo_is_held_nothing_is_done(bench: Bench) -> None:
    bench.hold()
    file = bench.config.state_dir / "holds" / "blog.json"
    file.write_text("nonsense")
    bench.want()
    with pytest.raises(GitopsdError, match=f"^hold {file}: is not what gitopsd writes"):
        bench.sync()
    assert (bench.runs(), bench.states()) == (0, ["pending"])
    assert lock.is_free(bench.config.state_dir, "blog")


# What is told of it


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO):
        yield caplog


def fields(told: pytest.LogCaptureFixture, name: str) -> list[str | None]:
    """A field of each line that was told."""
    return [journal.entry_of(record.__dict__).get(f"GITOPSD_{name}") for record in told.records]


def report(*lines: str) -> str:
    """A line of an engine that reports these."""
    return f"printf '%s\\n' {' '.join(repr(line) for line in lines)} >> $GITOPSD_OUTPUT"


def test_the_start_each_phase_and_the_end_are_told_with_what_they_are_about(
    bench: Bench, told: pytest.LogCaptureFixture
) -> None:
    bench.store.enqueue("blog", Trigger.POLL, revision="1" * 40)
    changed = ("old_revision=" + "0" * 40, "new_revision=" + "2" * 40)
    bench.write_engine(report("phase=fetch at=1.0"), report(*changed, "phase=select at=2.0", "phase=deploy at=3.0"))
    bench.sync()

    assert told.messages == [
        "job 1 of blog: running (poll)",
        "job 1 of blog: fetch",
        "job 1 of blog: select",
        "job 1 of blog: deploy",
        "job 1 of blog: succeeded: deployed",
    ]
    assert catalog.kinds_of(told.records) == {Kind.JOB_STARTED, Kind.JOB_PHASE, Kind.JOB_SUCCEEDED}
    assert fields(told, "REPO") == ["blog"] * 5
    assert fields(told, "JOB") == ["1"] * 5
    assert fields(told, "PHASE") == [None, "fetch", "select", "deploy", None]
    assert fields(told, "RESULT") == [None] * 4 + ["succeeded"]
    assert (fields(told, "REVISION")[0], fields(told, "REVISION")[-1]) == ("1" * 40, "2" * 40)


@pytest.mark.parametrize(
    ("code", "kind", "level"),
    [
        (0, Kind.JOB_UNCHANGED, logging.INFO),
        (1, Kind.JOB_FAILED, logging.WARNING),
        (75, Kind.JOB_FAILED, logging.WARNING),
        (77, Kind.JOB_REFUSED, logging.WARNING),
        (78, Kind.JOB_FAILED, logging.WARNING),
    ],
)
def test_each_end_is_told_as_what_it_is(
    bench: Bench, told: pytest.LogCaptureFixture, code: int, kind: Kind, level: int
) -> None:
    bench.want()
    bench.write_engine(report("new_revision=" + "2" * 40, "old_revision=" + "2" * 40), f"exit {code}")
    bench.sync()
    assert catalog.kinds_of(told.records[-1:]) == {kind}
    assert told.records[-1].levelno == level


def test_a_job_without_any_repo_is_told_as_refused(bench: Bench, told: pytest.LogCaptureFixture) -> None:
    bench.store.enqueue("gone", Trigger.MANUAL)
    sync.run(bench.config, "gone", bench.store, bench.find, None, clock=lambda: NOW)
    assert catalog.kinds_of(told.records) == {Kind.JOB_STARTED, Kind.JOB_REFUSED}
    assert fields(told, "REPO") == ["gone", "gone"]


def test_what_a_dead_sync_left_is_told_as_interrupted_before_it_is_done_again(
    bench: Bench, told: pytest.LogCaptureFixture
) -> None:
    bench.want()
    bench.store.claim("blog", lambda _: pytest.fail("nothing was interrupted yet"), bench.config.retry)
    bench.write_engine(report("new_revision=" + "2" * 40, "old_revision=" + "2" * 40))
    bench.sync()
    kinds = [next(iter(catalog.kinds_of([record]))) for record in told.records]
    assert kinds == [Kind.JOB_INTERRUPTED, Kind.JOB_STARTED, Kind.JOB_UNCHANGED]
    assert fields(told, "JOB") == ["1", "2", "2"]


def test_the_delivery_that_asked_for_a_job_is_told_with_all_of_it(bench: Bench, told: pytest.LogCaptureFixture) -> None:
    delivery = records.push("the-one", at=NOW)
    bench.store.accept(delivery, [Match(repo="blog", ref="refs/heads/main", revision="2" * 40)])
    bench.write_engine(report("phase=fetch at=1.0"))
    bench.sync()
    assert fields(told, "DELIVERY") == ["the-one"] * 3


def test_output_is_in_the_journal_with_the_phase_in_which_it_was_written_and_is_no_kind_of_ours(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.want()
    bench.write_engine(
        report("phase=fetch at=1.0"),
        "echo fetching",
        f"while [ ! -e '{tmp_path}/fetching' ]; do sleep 0.01; done",
        report("phase=deploy at=2.0"),
        "echo deploying",
    )
    monkeypatch.setattr(journal, "Output", functools.partial(journal.Output, path=tmp_path / "journal"))
    entries: dict[bytes, dict[str, bytes]] = {}

    def read() -> None:
        while b"deploying" not in entries:
            entry = read_entry(listener.recv(100_000))
            entries[entry["MESSAGE"]] = entry
            (tmp_path / entry["MESSAGE"].decode()).touch()

    with journald(tmp_path / "journal") as listener:
        reader = threading.Thread(target=read)
        reader.start()
        bench.sync()
        reader.join()
    for message, phase in ((b"fetching", b"fetch"), (b"deploying", b"deploy")):
        assert entries[message]["GITOPSD_PHASE"] == phase
        assert (entries[message]["GITOPSD_REPO"], entries[message]["GITOPSD_JOB"]) == (b"blog", b"1")
        assert "MESSAGE_ID" not in entries[message]
