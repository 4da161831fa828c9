"""Messages to real servers by the real Apprise: who takes them, who does not, and what is said of that."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopsd.notify import sender, targets
from gitopsd.notify.news import Kind, Message
from gitopsd.notify.targets import Target
from tests.listener import Listener

MESSAGE = Message(kind=Kind.FAILURE, title="blog failed on web1", body="deploy failed with 3\nand <that> is all")
TOKEN = "s3cret-t0ken"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as here:
        yield here


def target(listener: Listener, name: str = "ours") -> Target:
    return Target(name, f"json://{listener.place}/{TOKEN}")


def problem_of(target: Target) -> str:
    """What is known to be wrong before anything is sent."""
    return targets.send([target], None)[target.name]


def test_a_message_arrives_as_it_was_written(listener: Listener) -> None:
    assert targets.send([target(listener)], MESSAGE) == {"ours": ""}
    (heard,) = listener.heard
    assert heard.path.strip("/") == TOKEN
    assert heard.body["title"] == MESSAGE.title
    assert heard.body["message"] == MESSAGE.body
    assert heard.body["type"] == "failure"


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        (Kind.FAILURE, "failure"),
        (Kind.REFUSAL, "warning"),
        (Kind.RECOVERY, "success"),
        (Kind.SUCCESS, "success"),
        (Kind.TRIAL, "info"),
    ],
)
def test_each_kind_has_its_colour(listener: Listener, kind: Kind, type_: str) -> None:
    targets.send([target(listener)], Message(kind=kind, title="a title", body="a body"))
    assert listener.heard[0].body["type"] == type_


def test_one_that_refuses_says_so_and_the_others_get_theirs(listener: Listener) -> None:
    with Listener(lambda _heard: (500, {}, b"")) as broken:
        answers = targets.send([target(broken, "broken"), target(listener, "well")], MESSAGE)
    assert answers["well"] == ""
    assert "500" in answers["broken"]
    assert len(listener.heard) == 1


def test_one_that_hangs_is_given_up_in_time_and_the_others_get_theirs(listener: Listener) -> None:
    with Listener() as hanging:
        hanging.hang()
        answers = targets.send([target(hanging, "hanging"), target(listener, "well")], MESSAGE)
    assert answers["well"] == ""
    assert answers["hanging"] != ""


def test_what_goes_on_and_on_is_ended(tmp_path: Path) -> None:
    url = f"json://{TOKEN}.example.org"  # whatever it is: nothing gets that far
    (problem,) = targets.send([Target("ours", url)], MESSAGE, limit_sec=0.0).values()
    assert problem == "no end within 0 s"


def test_one_that_nobody_listens_at_is_said_to_be_out_of_reach_without_its_url(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Listener() as gone:
        url = f"json://user:{TOKEN}@{gone.place}/{TOKEN}"
    (problem,) = targets.send([Target("ours", url)], MESSAGE).values()
    assert "error" in problem
    assert TOKEN not in problem
    assert TOKEN not in caplog.text


def test_a_complaint_is_shown_without_any_part_of_the_url(listener: Listener) -> None:
    url = f"ntfy://me:{TOKEN}@example.org/topic?tags=x%20yzzy"
    shown = sender.without(f"cannot post to topic of me at example.org with {TOKEN}: error=401, x yzzy", url)
    assert shown == "cannot post to *** of me at *** with ***: error=401, x ***"


def test_a_target_shows_its_url_to_nobody(listener: Listener) -> None:
    assert TOKEN not in repr(target(listener))


def test_each_line_of_a_credential_is_a_target(tmp_path: Path) -> None:
    (tmp_path / "notify_phones").write_text("# of those who are on call\nntfy://one\n\n  ntfy://two\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path), "MAIL_URL": "mailto://x"}
    found = targets.load(["phones", "mail-url"], environment)
    assert [(each.name, each.url) for each in found] == [
        ("phones", "ntfy://one"),
        ("phones (2)", "ntfy://two"),
        ("mail-url", "mailto://x"),
    ]


def test_a_credential_that_is_not_there_is_a_target_that_takes_nothing(tmp_path: Path, listener: Listener) -> None:
    (tmp_path / "empty").write_text("# nobody\n")
    found = targets.load(["empty", "gone"], {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    answers = targets.send([*found, target(listener)], MESSAGE)
    assert answers["empty"] == "credential 'empty' holds no URL"
    assert "secret 'gone' is missing" in answers["gone"]
    assert "put it into /etc/gitopsd/notify/gone, or export GONE=…" in answers["gone"]
    assert answers["ours"] == ""


@pytest.mark.parametrize("url", [f"{TOKEN}", f"nosuchthing://{TOKEN}", "json://", f"http://example.org/{TOKEN}"])
def test_what_is_no_url_of_apprise_is_found_before_anything_is_sent(url: str) -> None:
    problem = problem_of(Target("ours", url))
    assert problem
    assert targets.send([Target("ours", url)], MESSAGE)["ours"]
    assert TOKEN not in problem


def test_a_url_of_apprise_is_fine(listener: Listener) -> None:
    assert problem_of(target(listener)) == ""
    assert problem_of(Target("ours", "ntfys://ntfy.sh/topic")) == ""
    assert listener.heard == []


def test_without_apprise_every_target_says_how_to_get_it(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "is_installed", lambda: False)
    assert targets.send([target(listener)], MESSAGE) == {"ours": targets.MISSING}
    assert problem_of(target(listener)) == targets.MISSING
