"""Which sync is started when. The records are real; what is started is not, and the clock is set by hand."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gitopsd import dispatcher, holds, lock
from gitopsd.dispatcher import Dispatcher
from gitopsd.errors import GitopsdError
from gitopsd.model import Hold, JobState, Outcome, Trigger
from gitopsd.settings import Config, Retry
from gitopsd.store import Store, path_in
from tests.site import wait_for

RETRY = Retry(delay_sec=60)
FAILED = Outcome(state=JobState.FAILED, reason="no", exit_code=1, retry=True)


class Syncs:
    """A Runner whose syncs do their job when a test says so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ends: dict[str, Callable[[str, int], None]] = {}
        self.started: list[str] = []
        self.fault: Exception | None = None
        self.faulty: set[str] = set()

    def start(self, repo: str, on_end: Callable[[str, int], None]) -> None:
        if self.fault and repo in (self.faulty or {repo}):
            raise self.fault
        self.started.append(repo)
        self._ends[repo] = on_end

    def running(self) -> list[str]:
        return list(self._ends)

    def finish(self, timeout_sec: float) -> None:
        raise NotImplementedError  # whoever made the runner does this, and not the dispatcher

    def end(self, repo: str, outcome: Outcome | None = None, *, exit_code: int = 0) -> None:
        """The sync ends: with its job done, or (exit code) without having come to it."""
        if exit_code == 0 and (job := self._store.claim(repo, lambda _: FAILED, RETRY)):
            done = Outcome(state=JobState.SUCCEEDED, reason="", exit_code=0)
            self._store.finish(job, outcome or done, RETRY)
        self.leave(repo, exit_code)

    def leave(self, repo: str, exit_code: int = 0) -> None:
        """The sync ends, and its job stays as it is."""
        self._ends.pop(repo)(repo, exit_code)


class House:
    """A dispatcher and everything that it looks at."""

    def __init__(self, root: Path) -> None:
        self.now = 1_700_000_000.0
        self.config: Config | None = Config(
            source=root / "gitopsd.yaml", state_dir=root / "state", engine=root / "engine"
        )
        self.store = Store(path_in(root / "state"), lambda: self.now)
        self.syncs = Syncs(self.store)
        self.looked = 0
        self.dispatcher = Dispatcher(self._config, self.store, self.syncs, lambda: self.now)

    def _config(self) -> Config | None:
        self.looked += 1
        return self.config

    def want(self, *repos: str) -> None:
        for repo in repos:
            self.store.enqueue(repo, Trigger.MANUAL)
            self.now += 1
        self.dispatcher.wake()

    def hold(self, repo: str, *, until: float | None = None, revision: str | None = None) -> None:
        assert self.config is not None
        hold = Hold(repo=repo, by="root", reason="disk swap", at=self.now, until=until, revision=revision)
        holds.write(self.config.state_dir, hold)

    def resume(self, repo: str) -> None:
        assert self.config is not None
        holds.remove(self.config.state_dir, repo)

    def wait_for_starts(self, *repos: str) -> None:
        wait_for(lambda: len(self.syncs.started) >= len(repos), f"the start of {repos}, not {self.syncs.started}")
        assert self.syncs.started == list(repos)

    def look(self) -> None:
        """Wake it, and wait until it has looked at everything once more."""
        for _ in range(2):  # the first of the two may have begun before
            self._look_once()

    def _look_once(self) -> None:
        seen = self.looked
        self.dispatcher.wake()
        wait_for(lambda: self.looked > seen, "another look")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.dispatcher.start()
    yield made
    made.dispatcher.stop()
    made.store.close()


def test_a_wish_is_started_once_and_not_again_while_it_runs(house: House) -> None:
    house.want("blog")
    house.wait_for_starts("blog")
    house.want("blog")
    house.look()
    assert house.syncs.started == ["blog"]


def test_a_wish_that_came_during_a_sync_and_was_not_seen_by_it_is_started_afterwards(house: House) -> None:
    house.want("blog")
    house.wait_for_starts("blog")
    house.syncs.end("blog")
    house.want("blog")
    house.wait_for_starts("blog", "blog")


def test_what_waited_longest_is_first_and_no_more_run_than_allowed(house: House) -> None:
    assert house.config is not None
    house.config = house.config._replace(max_parallel=2)
    house.want("c", "b", "a")
    house.wait_for_starts("c", "b")
    house.look()
    assert house.syncs.started == ["c", "b"]
    house.syncs.end("b")
    house.wait_for_starts("c", "b", "a")


def test_a_retry_is_started_when_its_time_has_come_and_not_before(house: House) -> None:
    house.want("blog")
    house.wait_for_starts("blog")
    house.syncs.end("blog", FAILED)
    house.now += 59
    house.look()
    assert house.syncs.started == ["blog"]
    house.now += 1
    house.look()
    house.wait_for_starts("blog", "blog")


def test_a_job_that_runs_by_the_records_and_is_run_by_nobody_is_taken_up(house: House) -> None:
    house.store.enqueue("blog", Trigger.MANUAL)
    assert house.store.claim("blog", lambda _: FAILED, RETRY)
    house.look()
    house.wait_for_starts("blog")


def test_a_repo_that_somebody_else_syncs_is_left_to_him(house: House, tmp_path: Path) -> None:
    with lock.hold(tmp_path / "state", "blog"):
        house.want("blog", "shop")
        house.wait_for_starts("shop")
        house.look()
        assert house.syncs.started == ["shop"]
    house.look()
    house.wait_for_starts("shop", "blog")


def test_a_sync_that_could_not_come_to_its_job_is_started_again_after_a_while(house: House) -> None:
    house.want("blog")
    house.wait_for_starts("blog")
    house.syncs.end("blog", exit_code=75)
    house.look()
    house.look()
    assert house.syncs.started == ["blog"]
    house.wait_for_starts("blog", "blog")


def test_a_job_that_came_in_the_last_moment_of_a_sync_has_one_at_once(house: House) -> None:
    house.want("blog")
    house.wait_for_starts("blog")
    house.syncs.leave("blog")
    house.wait_for_starts("blog", "blog")


def test_a_sync_that_ends_well_and_leaves_its_job_again_is_started_again_after_a_while(house: House) -> None:
    house.want("blog")
    house.wait_for_starts("blog")
    house.syncs.leave("blog")
    house.wait_for_starts("blog", "blog")
    left_at = time.monotonic()
    house.syncs.leave("blog")
    house.look()
    house.look()
    house.want("shop")
    house.wait_for_starts("blog", "blog", "shop")
    house.wait_for_starts("blog", "blog", "shop", "blog")
    assert time.monotonic() - left_at >= 1.0


@pytest.fixture
def uptime(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the dispatcher takes for the time since the host was booted; it stands still until somebody changes it."""
    passed = [time.monotonic()]
    monkeypatch.setattr(dispatcher, "time", SimpleNamespace(monotonic=lambda: passed[0]))
    return passed


def test_a_sync_that_fails_before_its_job_again_and_again_is_started_later_and_later(
    house: House, uptime: list[float]
) -> None:
    house.want("blog")
    house.wait_for_starts("blog")
    for count, rest_sec in enumerate((1, 2, 4, 8, 16, 32, 60, 60), start=1):
        house.syncs.end("blog", exit_code=1)
        uptime[0] += rest_sec - 0.1
        house.look()
        assert len(house.syncs.started) == count, f"started again after {rest_sec - 0.1} s"
        uptime[0] += 0.2
        house.look()
        house.wait_for_starts(*["blog"] * (count + 1))


def test_after_a_sync_that_came_to_its_job_the_next_failure_is_a_first_one(house: House, uptime: list[float]) -> None:
    house.want("blog")
    for count in range(1, 5):
        house.wait_for_starts(*["blog"] * count)
        house.syncs.end("blog", exit_code=1)
        uptime[0] += 60
        house.look()
    house.syncs.end("blog")
    house.want("blog")
    house.wait_for_starts(*["blog"] * 6)
    house.syncs.end("blog", exit_code=1)
    uptime[0] += 1.1
    house.look()
    house.wait_for_starts(*["blog"] * 7)


def fail(house: House, uptime: list[float], count: int) -> None:
    """So many syncs of blog fail before they come to their job."""
    house.want("blog")
    for number in range(1, count + 1):
        house.wait_for_starts(*["blog"] * number)
        house.syncs.end("blog", exit_code=1)
        house.look()
        assert bool(house.dispatcher.problem()) is (number >= 3), number
        uptime[0] += 60 * (number < count)
        house.look()


def test_a_sync_that_fails_before_its_job_for_the_third_time_is_a_problem_until_one_comes_to_it(
    house: House, uptime: list[float]
) -> None:
    fail(house, uptime, 4)
    assert house.dispatcher.problem() == "the sync of blog fails before it comes to its job; see its log or journal"
    house.want("shop")
    house.wait_for_starts("blog", "blog", "blog", "blog", "shop")  # and it is no other repo's
    uptime[0] += 60
    house.look()
    house.syncs.end("blog")
    house.look()
    assert house.dispatcher.problem() == ""


def test_it_is_no_problem_any_more_once_somebody_else_has_done_the_job(house: House, uptime: list[float]) -> None:
    fail(house, uptime, 3)
    job = house.store.claim("blog", lambda _: FAILED, RETRY)
    assert job is not None
    house.store.finish(job, Outcome(state=JobState.SUCCEEDED, reason="", exit_code=0), RETRY)
    house.look()
    assert house.dispatcher.problem() == ""


def test_it_is_idle_only_while_nothing_runs_or_waits_not_even_for_a_later_time(house: House) -> None:
    assert house.dispatcher.is_idle()
    house.want("blog")
    assert not house.dispatcher.is_idle()
    house.wait_for_starts("blog")
    house.syncs.end("blog", FAILED)
    assert house.store.due() == []
    assert not house.dispatcher.is_idle()
    house.now += 60
    house.look()
    house.syncs.end("blog")
    assert house.dispatcher.is_idle()


def test_it_is_not_idle_while_a_sync_runs_that_has_done_its_job(house: House) -> None:
    house.want("blog")
    house.wait_for_starts("blog")
    job = house.store.claim("blog", lambda _: FAILED, RETRY)
    assert job is not None
    house.store.finish(job, Outcome(state=JobState.SUCCEEDED, reason="", exit_code=0), RETRY)
    assert house.store.running() == house.store.waiting() == []
    assert not house.dispatcher.is_idle()
    house.syncs.leave("blog")
    assert house.dispatcher.is_idle()


def test_it_moves_with_every_look_even_if_that_comes_to_nothing(house: House) -> None:
    for fault in (None, GitopsdError("blog: cannot be started")):
        house.syncs.fault = fault
        house.want("blog")
        before = house.dispatcher.moves
        house.look()
        assert house.dispatcher.moves > before


def test_a_lock_that_cannot_be_taken_keeps_no_other_repo_back(house: House) -> None:
    assert house.config is not None
    (house.config.state_dir / "locks" / "blog.lock").mkdir(parents=True)
    house.want("blog", "shop")
    house.wait_for_starts("shop")
    wait_for(lambda: "blog.lock" in house.dispatcher.problem(), "the problem")
    (house.config.state_dir / "locks" / "blog.lock").rmdir()
    house.look()
    house.wait_for_starts("shop", "blog")
    wait_for(lambda: house.dispatcher.problem() == "", "the all-clear")


def test_a_sync_that_cannot_be_started_keeps_no_other_repo_back(house: House) -> None:
    house.syncs.fault, house.syncs.faulty = GitopsdError("blog: cannot be started"), {"blog"}
    house.want("blog", "shop")
    house.wait_for_starts("shop")
    wait_for(lambda: house.dispatcher.problem() == "blog: cannot be started", "the problem")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (GitopsdError("python: cannot be started: Out of memory"), "python: cannot be started: Out of memory"),
        (ZeroDivisionError("oops"), "the dispatcher met a fault: ZeroDivisionError('oops')"),
    ],
)
def test_a_sync_that_cannot_be_started_is_a_problem_until_it_can(house: House, fault: Exception, said: str) -> None:
    assert house.dispatcher.problem() == ""
    house.syncs.fault = fault
    house.want("blog")
    wait_for(house.dispatcher.problem, "the problem")
    assert house.dispatcher.problem() == said
    house.syncs.fault = None
    house.look()
    house.wait_for_starts("blog")
    wait_for(lambda: house.dispatcher.problem() == "", "the all-clear")


def test_a_store_that_cannot_be_read_is_a_problem_until_it_can(house: House, tmp_path: Path) -> None:
    house.look()
    house.store.close()
    (tmp_path / "state").rename(tmp_path / "aside")
    (tmp_path / "state").touch()
    house.dispatcher.wake()
    wait_for(house.dispatcher.problem, "the problem")
    assert str(tmp_path / "state") in house.dispatcher.problem()
    (tmp_path / "state").unlink()
    (tmp_path / "aside").rename(tmp_path / "state")
    house.want("blog")
    house.wait_for_starts("blog")


def test_without_a_configuration_nothing_is_started(house: House) -> None:
    config, house.config = house.config, None
    house.look()  # one that began before may still go by it
    house.want("blog")
    house.look()
    assert house.syncs.started == []
    house.config = config
    house.look()
    house.wait_for_starts("blog")


def test_a_dispatcher_that_was_stopped_starts_nothing_and_says_so(house: House) -> None:
    house.dispatcher.stop()
    house.want("blog")
    assert house.syncs.started == []
    assert house.dispatcher.problem() == "the dispatcher has stopped"
    assert house.store.due() == ["blog"]


# What is held


def test_a_repo_that_is_held_is_not_started_until_it_is_resumed_and_others_are(house: House) -> None:
    house.hold("blog")
    house.want("blog", "shop")
    house.wait_for_starts("shop")
    house.look()
    assert house.syncs.started == ["shop"]
    house.resume("blog")
    house.look()
    house.wait_for_starts("shop", "blog")


def test_a_repo_whose_hold_has_ended_is_started_at_the_next_look(house: House) -> None:
    house.hold("blog", until=house.now + 100)
    house.want("blog")
    house.look()
    assert house.syncs.started == []
    house.now += 100
    house.look()
    house.wait_for_starts("blog")


def test_a_rollback_is_started_under_its_own_hold_and_a_push_is_not(house: House) -> None:
    house.hold("blog", revision="1" * 40)
    house.want("blog")
    house.look()
    assert house.syncs.started == []
    house.store.enqueue("blog", Trigger.ROLLBACK)
    house.look()
    house.wait_for_starts("blog")


def test_a_rollback_is_not_started_under_a_hold_that_is_not_its_own(house: House) -> None:
    house.hold("blog")
    house.store.enqueue("blog", Trigger.ROLLBACK)
    house.look()
    assert house.syncs.started == []


def test_a_job_that_nobody_runs_is_taken_up_although_its_repo_is_held_and_then_left(
    house: House, uptime: list[float]
) -> None:
    house.store.enqueue("blog", Trigger.MANUAL)
    assert house.store.claim("blog", lambda _: FAILED, RETRY)
    house.hold("blog")
    house.look()
    house.wait_for_starts("blog")
    interrupted = Outcome(state=JobState.INTERRUPTED, reason="no", exit_code=None)
    assert house.store.claim("blog", lambda _: interrupted, RETRY, ()) is None
    house.syncs.leave("blog")
    uptime[0] += 60
    house.look()
    assert house.syncs.started == ["blog"]


def test_a_hold_that_cannot_be_read_holds_is_a_problem_and_keeps_no_other_repo_back(
    house: House, tmp_path: Path
) -> None:
    house.hold("blog")
    file = tmp_path / "state" / "holds" / "blog.json"
    file.write_text("nonsense")
    house.want("blog", "shop")
    house.wait_for_starts("shop")
    wait_for(lambda: house.dispatcher.problem().startswith(f"hold {file}: is not what"), "the problem")
    house.syncs.end("shop")
    assert not house.dispatcher.is_idle(), "somebody has to see when it is mended"
    house.resume("blog")
    house.look()
    house.wait_for_starts("shop", "blog")
    wait_for(lambda: house.dispatcher.problem() == "", "the all-clear")


def test_it_is_idle_while_all_that_waits_is_held(house: House) -> None:
    house.hold("blog")
    house.want("blog")
    assert house.dispatcher.is_idle()
    house.want("shop")
    assert not house.dispatcher.is_idle()
    house.wait_for_starts("shop")
    house.syncs.end("shop")
    assert house.dispatcher.is_idle()
    house.resume("blog")
    assert not house.dispatcher.is_idle()


def test_it_is_not_idle_while_a_hold_has_an_end_that_somebody_has_to_see(house: House) -> None:
    house.hold("blog", until=house.now + 3600)
    house.want("blog")
    assert not house.dispatcher.is_idle()


def test_it_is_not_idle_while_a_job_of_a_held_repo_is_recorded_as_running(house: House) -> None:
    house.want("blog")
    assert house.store.claim("blog", lambda _: FAILED, RETRY)
    house.hold("blog")
    assert not house.dispatcher.is_idle()


def test_a_job_that_is_due_and_held_does_not_make_it_look_more_often(house: House) -> None:
    house.hold("blog")
    house.want("blog")
    house.look()
    assert house.dispatcher._pause_sec(house.now) == 5.0


def test_what_became_due_since_it_looked_is_looked_at_at_once(house: House) -> None:
    house.hold("blog")
    looked_at = house.now - 0.02
    house.want("blog")
    house.look()
    assert house.dispatcher._pause_sec(looked_at) == 0.0


def test_what_is_held_takes_no_place_of_those_that_may_run(house: House) -> None:
    assert house.config is not None
    house.config = house.config._replace(max_parallel=1)
    house.hold("blog")
    house.want("blog", "shop")
    house.wait_for_starts("shop")


def test_that_a_sync_failed_before_its_job_is_no_problem_once_its_repo_is_held(
    house: House, uptime: list[float]
) -> None:
    fail(house, uptime, 3)
    house.hold("blog")
    uptime[0] += 60
    house.look()
    assert house.dispatcher.problem() == ""
