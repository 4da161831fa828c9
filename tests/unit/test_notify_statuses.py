"""Which state each revision has, when its forge is told, and how often."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopsd.model import Job, JobState, Outcome, Trigger
from gitopsd.notify import statuses
from gitopsd.notify.forges import Answer, Status
from gitopsd.notify.statuses import Reporter, Told
from gitopsd.notify.troubles import Troubles
from gitopsd.settings import Repo, Retry, Statuses
from gitopsd.store import Store, path_in
from gitopsd.store.notes import UNTOLD_NOTE

START = 1_700_000_000.0
A, B, C = (letter * 40 for letter in "abc")
GOOD, SAME, FAILED, REFUSED = JobState.SUCCEEDED, JobState.UNCHANGED, JobState.FAILED, JobState.REFUSED
RETRY = Retry(tries=3, delay_sec=10.0)
Told_ = list[tuple[str, str, str]]


class Forge:
    """Records of one repo, and a forge that is told of them."""

    def __init__(self, root: Path) -> None:
        self.now = START
        self.store = Store(path_in(root / "state"), lambda: self.now)
        settings = Statuses(forge="github", token="token")
        self.repo = Repo(name="blog", url="git@github.com:me/blog.git", ref="main", path=root, statuses=settings)
        self.environment = {"TOKEN": "t0ken"}
        self.answer = Answer()
        self.fetched = ""
        self.told: Told_ = []
        self.asked = 0
        self.start()

    def start(self) -> None:
        """As a new process does."""
        self.reporter = Reporter(
            self.store,
            Troubles(self.store, lambda: self.now),
            environment=self.environment,
            clock=lambda: self.now,
            fetched=lambda _job: self.fetched,
            post=self._post,
        )

    def _post(self, repo: Repo, revision: str, status: Status, token: str) -> Answer:
        assert (repo, token) == (self.repo, "t0ken")
        self.asked += 1
        if not self.answer.problem:
            self.told.append((revision[0], status.state, status.text))
        return self.answer

    def push(self, revision: str | None) -> Job:
        return self.store.enqueue("blog", Trigger.WEBHOOK, revision=revision)

    def begin(self) -> Job:
        self.now += 100
        job = self.store.claim("blog", lambda _: Outcome(state=FAILED, reason="", exit_code=None), RETRY)
        assert job
        return job

    def end(self, job: Job, state: JobState, revision: str | None, *, network: bool = False) -> None:
        outcome = Outcome(state=state, reason=f"it {state}", exit_code=75 if network else None, new_revision=revision)
        self.store.finish(job, outcome._replace(retry=network, keep_trying=network), RETRY)

    def sync(self, state: JobState, revision: str | None, hint: str | None = None, *, network: bool = False) -> None:
        self.push(hint)
        self.end(self.begin(), state, revision, network=network)

    def look(self) -> Told_:
        """What the forge is told until nothing is new."""
        self.told = []
        while self.reporter.look(self.repo):
            pass
        return self.told


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    here = Forge(tmp_path)
    here.look()
    yield here
    here.store.close()


def test_a_revision_is_pending_from_its_push_on_until_it_is_deployed(forge: Forge) -> None:
    forge.push(A)
    assert forge.look() == [("a", "pending", "waits for its turn")]
    job = forge.begin()
    assert forge.look() == []
    forge.end(job, GOOD, A)
    assert forge.look() == [("a", "success", "it succeeded")]
    forge.start()
    assert forge.look() == []


@pytest.mark.parametrize("state", [FAILED, REFUSED])
def test_what_fails_or_is_refused_is_a_failure_with_its_reason(forge: Forge, state: JobState) -> None:
    forge.sync(state, A)
    assert forge.look() == [("a", "failure", f"it {state}")]


def test_what_no_push_told_of_is_pending_once_it_is_fetched(forge: Forge) -> None:
    forge.push(None)
    forge.begin()
    assert forge.look() == []
    forge.fetched = A
    assert forge.look() == [("a", "pending", "is being deployed")]


def test_a_look_that_finds_nothing_new_tells_nothing_but_to_who_waits(forge: Forge) -> None:
    forge.sync(SAME, A)
    assert forge.look() == []
    forge.push(B)
    forge.look()
    forge.end(forge.begin(), SAME, B)
    assert forge.look() == [("b", "success", "it unchanged")]
    forge.sync(SAME, B)
    assert forge.look() == []


def test_a_retry_is_not_pending_again_and_its_success_is_told(forge: Forge) -> None:
    forge.sync(FAILED, A, A)
    forge.look()
    forge.push(A)
    job = forge.begin()
    assert forge.look() == []
    forge.end(job, GOOD, A)
    assert forge.look() == [("a", "success", "it succeeded")]


def test_what_the_network_is_to_blame_for_is_told_from_the_third_time_on(forge: Forge) -> None:
    forge.push(A)
    assert [state for _, state, _ in forge.look()] == ["pending"]
    for expected in ([], [], ["failure"], []):
        forge.end(forge.begin(), FAILED, None, network=True)
        assert [state for _, state, _ in forge.look()] == expected
    forge.end(forge.begin(), GOOD, A)
    assert [state for _, state, _ in forge.look()] == ["success"]


def test_a_revision_that_was_overtaken_does_not_stay_pending(forge: Forge) -> None:
    forge.push(A)
    forge.look()
    forge.end(forge.begin(), GOOD, B)
    assert sorted(forge.look()) == [
        ("a", "success", f"overtaken by {'b' * 10}: it succeeded"),
        ("b", "success", "it succeeded"),
    ]


def test_a_rollback_overtakes_nothing(forge: Forge) -> None:
    forge.push(A)
    assert [state for _, state, _ in forge.look()] == ["pending"]
    forge.store.enqueue("blog", Trigger.ROLLBACK)
    forge.end(forge.begin(), GOOD, B)
    assert [(each, state) for each, state, _ in forge.look() if each == "a"] == []


def test_a_revision_that_waits_for_its_turn_is_not_overtaken(forge: Forge) -> None:
    forge.push(A)
    job = forge.begin()
    forge.push(B)
    assert sorted(forge.look()) == [("a", "pending", "is being deployed"), ("b", "pending", "waits for its turn")]
    forge.end(job, FAILED, A)
    assert forge.look() == [("a", "failure", "it failed")]
    forge.end(forge.begin(), GOOD, B)
    assert forge.look() == [("b", "success", "it succeeded")]


def test_of_two_ends_of_a_revision_since_the_last_look_the_second_is_told(forge: Forge) -> None:
    forge.sync(FAILED, A)
    forge.sync(GOOD, A)
    assert forge.look() == [("a", "success", "it succeeded")]


def test_only_what_is_a_commit_id_gets_near_a_forge(forge: Forge) -> None:
    forge.sync(FAILED, None, "../../user")
    forge.sync(FAILED, "main", "abc")
    forge.push("x" * 40)
    assert forge.look() == []


def test_nothing_of_the_past_is_told(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    forge.sync(GOOD, A)
    forge.now += 3600
    assert forge.look() == []
    forge.sync(GOOD, B)
    assert forge.look() == [("b", "success", "it succeeded")]
    forge.store.close()


def test_a_forge_that_does_not_answer_is_asked_once_by_each_notifier_until_it_does(forge: Forge) -> None:
    forge.answer = Answer("no answer")
    forge.sync(GOOD, A)
    forge.sync(GOOD, B)
    for count in range(1, 6):
        forge.start()
        assert forge.look() == []
        assert forge.asked == count
    assert forge.store.read_note(UNTOLD_NOTE)["commit status of blog"]["reason"] == "no answer"
    forge.answer = Answer()
    forge.start()
    assert forge.look() == [("a", "success", "it succeeded"), ("b", "success", "it succeeded")]
    assert forge.store.read_note(UNTOLD_NOTE) == {}


def test_what_a_forge_refuses_it_is_not_asked_more_than_a_few_times(forge: Forge) -> None:
    forge.answer = Answer("answered 401", is_final=True)
    forge.sync(GOOD, A)
    for _ in range(10):
        forge.start()
        forge.look()
    assert forge.asked == 3
    assert forge.store.read_note(UNTOLD_NOTE)["commit status of blog"]["reason"] == "answered 401"
    forge.answer = Answer()
    forge.sync(GOOD, B)
    forge.start()
    assert forge.look() == [("b", "success", "it succeeded")]


def test_a_revision_that_the_forge_does_not_know_keeps_no_other_waiting(forge: Forge) -> None:
    forge.answer = Answer("answered 422", is_final=True)
    forge.sync(GOOD, A)
    forge.sync(GOOD, B)
    forge.look()
    assert forge.asked == 2


def test_a_token_that_is_not_there_is_said_to_be_missing(forge: Forge) -> None:
    forge.environment.clear()
    forge.sync(GOOD, A)
    assert forge.look() == []
    problem = forge.store.read_note(UNTOLD_NOTE)["commit status of blog"]["reason"]
    assert "secret 'token' is missing" in problem
    assert "/etc/gitopsd/notify/token" in problem


def test_only_the_last_revisions_are_remembered(forge: Forge) -> None:
    for number in range(50):
        forge.sync(GOOD, f"{number:040x}")
        forge.look()
    assert len(forge.store.read_note("statuses of blog")["told"]) == 20


def test_a_state_that_was_told_is_not_told_again() -> None:
    told = Told(states={A: "pending", B: "success"})
    assert statuses.look(told, [], [(A, "waits"), (B, "waits"), (C, "waits")])[1] == {C: Status("pending", "waits")}
