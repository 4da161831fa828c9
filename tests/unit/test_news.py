"""Which changes of state are news, in a table; and what people read of them."""

from typing import Any

import pytest

from gitopsd.model import Job, JobState, Trigger
from gitopsd.notify import news
from gitopsd.notify.news import Kind, Told
from gitopsd.settings import Notify

NOW = 1_700_000_000.0
OLD, NEW = "a" * 40, "b" * 40

GOOD, SAME, FAILED, REFUSED = JobState.SUCCEEDED, JobState.UNCHANGED, JobState.FAILED, JobState.REFUSED
NETWORK = "failed for the network's sake"
Verdict = JobState | str
ALL = tuple(Kind)


def verdict(number: int, what: Verdict, **more: Any) -> Job:
    state = JobState.FAILED if what == NETWORK else JobState(what)
    job = Job(
        id=number,
        repo="blog",
        trigger=Trigger.WEBHOOK,
        state=state,
        reason=f"because of {number}",
        attempts=1,
        failures=0,
        interruptions=0,
        due_at=NOW,
        created_at=NOW,
        finished_at=NOW,
        exit_code=75 if what == NETWORK else None,
    )
    return job._replace(**more)


def told_of(*verdicts: Verdict, on: tuple[str, ...] = Notify().on, at_once: bool = False) -> list[tuple[str, int]]:
    """What is told of these verdicts, each with its number from 1: looked at one by one, or all at once."""
    jobs = [verdict(number, what) for number, what in enumerate(verdicts, 1)]
    told, found = Told(), []
    for looked_at in [jobs] if at_once else [[job] for job in jobs]:
        told, item = news.look(told, looked_at, on)
        found += [(str(item[0]), item[1].id)] if item else []
    assert told.job == len(jobs)
    return found


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ([], []),
        ([GOOD], []),
        ([SAME], []),
        ([GOOD, SAME, GOOD], []),
        ([FAILED], [("failure", 1)]),
        ([GOOD, FAILED], [("failure", 2)]),
        ([FAILED] * 20, [("failure", 1)]),
        ([FAILED, GOOD], [("failure", 1), ("recovery", 2)]),
        ([FAILED, SAME], [("failure", 1), ("recovery", 2)]),
        ([FAILED, FAILED, GOOD, GOOD], [("failure", 1), ("recovery", 3)]),
        ([FAILED, GOOD, FAILED], [("failure", 1), ("recovery", 2), ("failure", 3)]),
        ([REFUSED], [("refusal", 1)]),
        ([REFUSED, REFUSED, SAME], [("refusal", 1), ("recovery", 3)]),
        ([FAILED, REFUSED], [("failure", 1)]),
        ([REFUSED, FAILED, GOOD], [("refusal", 1), ("recovery", 3)]),
        ([NETWORK], []),
        ([NETWORK, NETWORK, SAME], []),
        ([NETWORK, NETWORK, NETWORK], [("failure", 3)]),
        ([NETWORK] * 20 + [GOOD], [("failure", 3), ("recovery", 21)]),
        ([NETWORK, NETWORK, GOOD, NETWORK, NETWORK], []),
        ([NETWORK, NETWORK, FAILED], [("failure", 3)]),
        ([FAILED, NETWORK, GOOD], [("failure", 1), ("recovery", 3)]),
        ([FAILED, NETWORK, NETWORK, NETWORK, GOOD], [("failure", 1), ("recovery", 5)]),
        ([GOOD, NETWORK, REFUSED, NETWORK], [("refusal", 3)]),
    ],
)
def test_one_message_tells_of_each_change(verdicts: list[Verdict], told: list[tuple[str, int]]) -> None:
    assert told_of(*verdicts) == told


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ([FAILED] * 20, [("failure", 1)]),
        ([FAILED, GOOD], []),
        ([FAILED, GOOD] * 10, []),
        ([GOOD, FAILED, GOOD, FAILED, FAILED], [("failure", 4)]),
        ([NETWORK, NETWORK, NETWORK], [("failure", 3)]),
        ([REFUSED, GOOD, FAILED], [("failure", 3)]),
    ],
)
def test_only_how_it_stands_in_the_end_is_told(verdicts: list[Verdict], told: list[tuple[str, int]]) -> None:
    assert told_of(*verdicts, at_once=True) == told


@pytest.mark.parametrize(
    ("on", "verdicts", "told"),
    [
        (("failure",), [REFUSED, FAILED, GOOD, FAILED], [("failure", 2), ("failure", 4)]),
        (("recovery",), [FAILED, GOOD], []),
        (("refusal", "recovery"), [FAILED, GOOD, REFUSED, GOOD], [("refusal", 3), ("recovery", 4)]),
        (("success",), [GOOD, SAME, FAILED, GOOD], [("success", 1), ("success", 4)]),
        (ALL, [GOOD, FAILED, GOOD, GOOD], [("success", 1), ("failure", 2), ("recovery", 3), ("success", 4)]),
        (ALL, [FAILED, SAME, SAME], [("failure", 1), ("recovery", 2)]),
    ],
)
def test_only_what_is_wanted_is_told(on: tuple[str, ...], verdicts: list[Verdict], told: list[tuple[str, int]]) -> None:
    assert told_of(*verdicts, on=on) == told


def test_of_several_successes_at_once_the_recovery_is_told_else_the_last() -> None:
    jobs = [verdict(1, GOOD), verdict(2, GOOD)]
    assert news.look(Told(is_bad=True), jobs, ALL)[1] == (Kind.RECOVERY, jobs[0])
    assert news.look(Told(), jobs, ALL)[1] == (Kind.SUCCESS, jobs[1])
    assert news.look(Told(), [verdict(1, FAILED), verdict(2, GOOD)], ALL)[1] == (Kind.SUCCESS, verdict(2, GOOD))
    assert news.look(Told(is_bad=True), [verdict(1, GOOD), verdict(2, FAILED)], ALL)[1] is None


def test_a_job_that_tries_for_the_third_time_counts_whatever_was_seen_before() -> None:
    assert not news.is_worth_telling(verdict(1, NETWORK, attempts=2), passed_over=0)
    assert news.is_worth_telling(verdict(1, NETWORK, attempts=3), passed_over=0)


def test_at_first_sight_all_is_past_but_what_has_just_ended() -> None:
    old, new = verdict(3, FAILED, finished_at=NOW - 3600), verdict(4, FAILED, finished_at=NOW - 5)
    assert news.first_sight([], NOW) == 0
    assert news.first_sight([new], NOW) == 0
    assert news.first_sight([old], NOW) == 3
    assert news.first_sight([old, new], NOW) == 3


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        (Kind.FAILURE, "blog failed on web1"),
        (Kind.RECOVERY, "blog works again on web1"),
        (Kind.REFUSAL, "blog was refused on web1"),
        (Kind.SUCCESS, "blog was deployed on web1"),
    ],
)
def test_the_title_says_all_that_a_telephone_shows(kind: Kind, title: str) -> None:
    assert news.message_of(kind, verdict(1, FAILED), "web1").title == title


def test_a_message_says_why_what_and_where_to_look() -> None:
    job = verdict(12, FAILED, reason="deploy failed with 3", old_revision=OLD, new_revision=NEW)
    assert news.message_of(Kind.FAILURE, job, "web1").body.splitlines() == [
        "deploy failed with 3",
        f"from {'a' * 10} to {'b' * 10}",
        "job 12 on web1",
        "",
        "gitopsd logs 12",
        "gitopsd why blog",
    ]


def test_of_a_first_deploy_and_of_none_the_message_says_so() -> None:
    first = verdict(1, FAILED, new_revision=NEW)
    assert f"from nothing to {'b' * 10}" in news.message_of(Kind.FAILURE, first, "web1").body
    assert "from" not in news.message_of(Kind.FAILURE, verdict(1, FAILED), "web1").body


def test_a_message_steers_no_screen_and_shows_no_credentials() -> None:
    reason = "fetch https://me:hunter2@git.example.org/x failed\n\x1b[2Jgitopsd: all is well\u202e"
    body = news.message_of(Kind.FAILURE, verdict(1, FAILED, reason=reason), "web1").body
    assert body.splitlines()[0] == (
        "fetch https://***@git.example.org/x failed\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2Jgitopsd: all is"
        " well\N{REPLACEMENT CHARACTER}"
    )
