"""How long a notifier stays, and that the trouble of one repo is not that of another."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from gitopsd import lock
from gitopsd.model import JobState, Outcome, Trigger
from gitopsd.notify.messages import Messenger
from gitopsd.notify.news import Message
from gitopsd.notify.notifier import Notifier
from gitopsd.notify.statuses import Reporter
from gitopsd.notify.targets import Target
from gitopsd.notify.troubles import Troubles
from gitopsd.settings import Config, Notify, Retry
from gitopsd.store import Store, path_in

NOW = 1_700_000_000.0
RETRY = Retry(tries=1)


class Office:
    """Records, and notifiers for them."""

    def __init__(self, root: Path) -> None:
        self.config = Config(
            source=root / "x", state_dir=root / "state", engine=root / "engine", notify=Notify(urls=("phone",))
        )
        self.store = Store(path_in(self.config.state_dir), lambda: NOW)
        self.sent: list[str] = []

    def end(self, repo: str, state: JobState) -> None:
        self.store.enqueue(repo, Trigger.MANUAL)
        job = self.store.claim(repo, lambda _: Outcome(state=state, reason="", exit_code=None), RETRY)
        assert job
        self.store.finish(job, Outcome(state=state, reason="as such", exit_code=1), RETRY)

    def run(self, wait: Callable[[float], object], limit_sec: float = 60.0) -> bool:
        troubles = Troubles(self.store, lambda: NOW)
        environment = {"PHONE": "json://phone"}

        def send(targets: Sequence[Target], message: Message) -> Mapping[str, str]:
            self.sent.append(message.title)
            return {target.name: "" for target in targets}

        messenger = Messenger(
            self.config, self.store, troubles, environment=environment, clock=lambda: NOW, host="web1", send=send
        )
        reporter = Reporter(self.store, troubles, environment=environment, clock=lambda: NOW, fetched=lambda _job: "")
        return Notifier(self.config, self.store, messenger, reporter, wait=wait).run(limit_sec)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    here = Office(tmp_path)
    yield here
    here.store.close()


def never(_sec: float) -> None:
    pytest.fail("it waits although nothing is under way")


def test_with_nothing_under_way_it_tells_what_is_new_and_ends(office: Office) -> None:
    office.end("blog", JobState.FAILED)
    office.end("shop", JobState.FAILED)
    assert office.run(never)
    assert office.sent == ["blog failed on web1", "shop failed on web1"]
    assert office.run(never)
    assert len(office.sent) == 2


def test_it_stays_while_a_sync_is_under_way_and_tells_of_its_end(office: Office) -> None:
    office.end("blog", JobState.SUCCEEDED)
    with ExitStack() as sync:
        sync.enter_context(lock.hold(office.config.state_dir, "blog"))
        waits: list[float] = []

        def wait(sec: float) -> None:
            waits.append(sec)
            if len(waits) == 3:
                office.end("blog", JobState.FAILED)
                sync.close()

        assert office.run(wait)
    assert len(waits) == 3
    assert office.sent == ["blog failed on web1"]


def test_it_does_not_stay_for_ever(office: Office) -> None:
    office.end("blog", JobState.SUCCEEDED)
    with lock.hold(office.config.state_dir, "blog"):
        waits: list[float] = []
        assert office.run(waits.append, limit_sec=0.2)
    assert waits


def test_what_is_wrong_with_the_records_of_one_repo_is_no_trouble_of_another(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.end("blog", JobState.FAILED)
    office.end("shop", JobState.FAILED)
    connection = sqlite3.connect(path_in(office.config.state_dir))
    connection.execute("UPDATE jobs SET trigger = 'nonsense' WHERE repo = 'blog'")
    connection.commit()
    connection.close()
    assert not office.run(never)
    assert office.sent == ["shop failed on web1"]
    assert "blog: nothing can be told of it: the store holds a job that is none" in caplog.text
