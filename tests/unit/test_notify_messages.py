"""What is new of a repo reaches every target, at least once, and the note of it keeps it from being told again."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from gitopsd.model import JobState, Outcome, Trigger
from gitopsd.notify.messages import Messenger
from gitopsd.notify.news import Message
from gitopsd.notify.targets import Target
from gitopsd.notify.troubles import Troubles
from gitopsd.settings import Config, Notify, Retry
from gitopsd.store import Store, path_in
from gitopsd.store.notes import TOLD_NOTE, UNTOLD_NOTE

START = 1_700_000_000.0
GOOD, FAILED = JobState.SUCCEEDED, JobState.FAILED
RETRY = Retry(tries=1)


class KilledError(BaseException):
    """What the end of the process is here."""


class Desk:
    """Records, a messenger for them, and what it sent."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = START
        self.store = Store(path_in(root / "state"), lambda: self.now)
        self.on = Notify().on
        self.urls: tuple[str, ...] = ("phone", "mail")
        self.broken: set[str] = set()
        self.dies = False
        self.sent: list[tuple[str, str]] = []
        self.start()

    def start(self) -> None:
        """As a new process does."""
        notify = Notify(urls=self.urls, on=self.on)
        config = Config(
            source=self.root / "x", state_dir=self.root / "state", engine=self.root / "engine", notify=notify
        )
        self.messenger = Messenger(
            config,
            self.store,
            Troubles(self.store, lambda: self.now),
            environment={name.upper(): f"json://{name}" for name in self.urls},
            clock=lambda: self.now,
            host="web1",
            send=self._send,
        )

    def _send(self, targets: Sequence[Target], message: Message) -> Mapping[str, str]:
        taken = [target.name for target in targets if target.name not in self.broken]
        self.sent += [(name, message.title) for name in taken]
        if self.dies:
            raise KilledError
        return {target.name: "" if target.name in taken else "it is broken" for target in targets}

    def end(self, state: JobState, repo: str = "blog", exit_code: int | None = None) -> None:
        """A job of `repo` that ends so."""
        self.store.enqueue(repo, Trigger.MANUAL)
        job = self.store.claim(repo, lambda _: Outcome(state=FAILED, reason="", exit_code=None), RETRY)
        assert job
        self.store.finish(job, Outcome(state=state, reason=f"{state} as such", exit_code=exit_code), RETRY)

    def look(self, repo: str = "blog") -> list[tuple[str, str]]:
        """What is sent until nothing is new."""
        self.sent = []
        while self.messenger.look(repo):
            pass
        return self.sent


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    here = Desk(tmp_path)
    yield here
    here.store.close()


def both(title: str) -> list[tuple[str, str]]:
    return [("phone", title), ("mail", title)]


def test_a_first_job_ever_that_fails_is_told_although_nobody_looked_before(desk: Desk) -> None:
    desk.end(FAILED)
    assert desk.look() == both("blog failed on web1")


def test_nothing_of_the_past_is_told_and_what_ends_from_then_on_is(desk: Desk) -> None:
    desk.end(FAILED)
    desk.now += 3600
    assert desk.look() == []
    desk.end(FAILED)
    assert desk.look() == both("blog failed on web1")


def test_a_storm_of_failures_is_one_message_and_the_end_of_it_another(desk: Desk) -> None:
    desk.look()
    told = []
    for state in [FAILED] * 20 + [GOOD] * 3:
        desk.end(state)
        desk.start()
        told += desk.look()
    assert told == both("blog failed on web1") + both("blog works again on web1")


def test_each_repo_has_news_of_its_own(desk: Desk) -> None:
    desk.end(FAILED, "blog")
    desk.end(GOOD, "shop")
    assert desk.look("shop") == []
    assert desk.look("blog") == both("blog failed on web1")
    desk.end(FAILED, "shop")
    assert desk.look("shop") == both("shop failed on web1")


def test_what_one_target_does_not_take_is_offered_to_it_again_and_to_no_other(desk: Desk) -> None:
    desk.broken = {"phone"}
    desk.end(FAILED)
    assert desk.look() == [("mail", "blog failed on web1")]
    assert desk.store.read_note(UNTOLD_NOTE) == {"notification by phone": {"at": START, "reason": "it is broken"}}
    desk.broken = set()
    assert desk.look() == []  # not by the same process
    desk.start()
    assert desk.look() == [("phone", "blog failed on web1")]
    assert desk.store.read_note(UNTOLD_NOTE) == {}


def test_a_target_that_is_away_is_offered_it_again_for_days(desk: Desk) -> None:
    desk.broken = {"phone", "mail"}
    desk.end(FAILED)
    for _ in range(30):
        assert desk.look() == []
        desk.start()
    desk.broken = set()
    assert desk.look() == both("blog failed on web1")


def test_a_target_that_does_not_come_back_within_days_is_given_up(desk: Desk) -> None:
    desk.look()
    desk.broken = {"phone", "mail"}
    desk.end(FAILED)
    desk.now += 8 * 86400
    assert desk.look() == []
    desk.start()
    desk.broken = set()
    assert desk.look() == []


def test_newer_news_take_the_place_of_what_could_not_be_told(desk: Desk) -> None:
    desk.broken = {"phone"}
    desk.end(FAILED)
    desk.look()
    desk.end(GOOD)
    desk.broken = set()
    desk.start()
    assert desk.look() == both("blog works again on web1")


def test_who_is_killed_while_it_tells_is_followed_by_one_that_tells(desk: Desk) -> None:
    desk.end(FAILED)
    desk.dies = True
    with pytest.raises(KilledError):
        desk.look()
    desk.dies = False
    desk.start()
    assert desk.look() == both("blog failed on web1")
    desk.start()
    assert desk.look() == []


def test_what_takes_the_notifier_down_each_time_is_not_tried_for_ever(desk: Desk) -> None:
    desk.end(FAILED)
    desk.dies = True
    for _ in range(10):
        desk.start()
        with pytest.raises(KilledError):
            desk.look()
    desk.dies = False
    desk.start()
    assert desk.look() == []


def test_a_target_that_is_not_configured_any_more_is_owed_nothing(desk: Desk) -> None:
    desk.broken = {"phone"}
    desk.end(FAILED)
    desk.look()
    desk.urls, desk.broken = ("mail",), set()
    desk.start()
    assert desk.look() == []


def test_without_anybody_to_tell_nothing_is_noted(desk: Desk) -> None:
    desk.urls = ()
    desk.start()
    desk.end(FAILED)
    assert desk.look() == []
    assert desk.store.read_note(f"{TOLD_NOTE}blog") is None


@pytest.mark.parametrize(
    "note",
    [
        {"job": "one"},
        ["nonsense"],
        {"job": 0, "bad": False, "passed_over": 0, "kind": "nonsense", "about": 1, "owed": {"mail": 0}},
        {"job": 0, "bad": False, "passed_over": 0, "kind": "failure", "about": 99, "owed": {"mail": 0}},
    ],
)
def test_a_note_that_others_have_written_does_no_harm(desk: Desk, note: object) -> None:
    desk.store.write_note(f"{TOLD_NOTE}blog", note)
    assert desk.look() == []
    desk.end(FAILED)
    assert desk.look() == both("blog failed on web1")
