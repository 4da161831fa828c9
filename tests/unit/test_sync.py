"""One repo's sync, until nothing is due: real store, real lock, an engine of a few lines."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopsd import joblog, lock, sync
from gitopsd.errors import BusyError, GitopsdError
from gitopsd.model import Config, Job, JobState, Keep, Repo, Retry, Trigger
from gitopsd.store import Store, path_in

NOW = 1_700_000_000.0


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
        self.store = Store(path_in(self.config.state_dir), lambda: NOW)
        self.repo = Repo(name="blog", url="/nowhere", ref="main", path=root / "checkout")
        self.write_engine("true")

    def write_engine(self, *lines: str) -> None:
        text = ("#!/bin/bash", f"echo run >> '{self.root}/runs'", "echo hello", *lines, "")
        self.config.engine.write_text("\n".join(text))
        self.config.engine.chmod(0o755)

    def sync(self, stop_fd: int | None = None) -> None:
        sync.run(self.config, "blog", self.store, self.find, stop_fd)

    def find(self, name: str) -> Repo:
        if name != "blog":
            raise GitopsdError(f"there is no repo '{name}'")
        return self.repo

    def want(self) -> Job:
        return self.store.enqueue("blog", Trigger.MANUAL)

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

    sync.run(bench.config, "blog", bench.store, find, None)
    assert bench.runs() == 2
    assert bench.states() == ["unchanged", "unchanged"]


def test_a_failed_job_is_queued_for_later_and_not_run_again_now(bench: Bench) -> None:
    bench.want()
    bench.write_engine("exit 1")
    bench.sync()
    assert bench.runs() == 1
    assert bench.states() == ["failed", "pending"]
    assert bench.store.next_due_at() == NOW + 60


def test_a_refused_job_is_not_tried_again(bench: Bench) -> None:
    bench.want()
    bench.write_engine("exit 77")
    bench.sync()
    assert bench.states() == ["refused"]


def test_a_job_of_a_repo_that_was_taken_out_is_refused_with_the_reason(bench: Bench) -> None:
    bench.store.enqueue("gone", Trigger.MANUAL)
    sync.run(bench.config, "gone", bench.store, bench.find, None)
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
