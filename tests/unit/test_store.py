"""The records: no wish is lost or done twice, whoever asks, whatever breaks."""

import contextlib
import itertools
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gitopsd.errors import StoreError
from gitopsd.model import Body, Decision, Delivery, Image, Job, JobState, Match, Outcome, Phase, Trigger
from gitopsd.settings import Keep, Retry
from gitopsd.store import SEEN_SEC, Store, database, path_in, tables
from tests import records
from tests.site import wait_for

START = 1_700_000_000.0
QUIET_SEC = 1.0
"""After so long nobody waits any more for more pushes of a storm."""
RETRY = Retry(tries=3, delay_sec=30.0, max_delay_sec=100.0)
FOREVER = Retry(tries=1, delay_sec=30.0, max_delay_sec=100.0)
FINAL = tuple(state for state in JobState if state not in (JobState.PENDING, JobState.RUNNING))


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return path_in(tmp_path / "state")


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[Store]:
    opened = Store(path, clock)
    yield opened
    opened.close()


def outcome(state: JobState = JobState.SUCCEEDED, *, retry: bool = False, keep_trying: bool = False) -> Outcome:
    return Outcome(state=state, reason=f"it {state}", exit_code=0, retry=retry, keep_trying=keep_trying)


FAILED = outcome(JobState.FAILED, retry=True)
UNREACHABLE = outcome(JobState.FAILED, retry=True, keep_trying=True)


def interrupted(job: Job) -> Outcome:
    return Outcome(
        state=JobState.INTERRUPTED, reason=f"job {job.id} was interrupted", exit_code=None, old_revision="1" * 40
    )


def claim(store: Store, repo: str = "blog") -> Job:
    job = store.claim(repo, interrupted, RETRY)
    assert job is not None
    return job


def delivery(
    delivery_id: str = "one", *, receiver: str = "default", at: float = START, event: str = "push"
) -> Delivery:
    """What the receiver gives to the store; the decision is the store's."""
    return records.push(delivery_id, at=at, receiver=receiver, event=event)


def match(repo: str = "blog", *, revision: str | None = "2" * 40, reason: str | None = None, event: str = "") -> Match:
    return Match(repo=repo, ref="refs/heads/main", revision=revision, reason=reason, event=event)


def image(tag: str, name: str = "me/blog") -> Image:
    return Image(name=name, tag=tag, digest=f"sha256:{tag}")


def pushed(*tags: str, repo: str = "blog", event: str = "package") -> Match:
    """What a push of images asks for."""
    return Match(repo=repo, ref="", revision=None, event=event, images=tuple(map(image, tags)), force=True)


def tags_of(job: Job | None) -> str:
    assert job is not None
    assert job.images == tuple(map(image, (each.tag for each in job.images)))
    return " ".join(each.tag for each in job.images)


def states(store: Store, repo: str = "blog") -> list[str]:
    return [job.state for job in reversed(store.jobs(repo, limit=100))]


# Wishes


def test_a_wish_is_a_pending_job_that_is_due_now(store: Store) -> None:
    job = store.enqueue("blog", Trigger.MANUAL, force=True)

    assert job == Job(
        id=job.id,
        repo="blog",
        trigger=Trigger.MANUAL,
        state=JobState.PENDING,
        reason="",
        attempts=1,
        failures=0,
        interruptions=0,
        due_at=START,
        created_at=START,
        force=True,
    )
    assert store.job(job.id) == store.unfinished("blog", JobState.PENDING) == job
    assert store.due() == ["blog"]


def test_wishes_that_wait_together_are_one_job_and_the_newest_revision_is_its_hint(store: Store, clock: Clock) -> None:
    first = store.enqueue("blog", Trigger.MANUAL)
    clock.now += 5
    store.accept(delivery("one"), [match(revision="3" * 40)])
    store.accept(delivery("two"), [match(revision="4" * 40)])
    last = store.enqueue("blog", Trigger.MANUAL)

    assert store.jobs(limit=10) == [last]
    assert last == first._replace(delivery="two", ref="refs/heads/main", revision="4" * 40)


def test_a_revision_that_somebody_asks_for_is_the_hint_of_the_job(store: Store) -> None:
    job = store.enqueue("blog", Trigger.POLL, revision="3" * 40)

    assert (job.trigger, job.state, job.revision, job.delivery) == (Trigger.POLL, JobState.PENDING, "3" * 40, None)
    assert store.enqueue("blog", Trigger.POLL, revision="4" * 40) == job._replace(revision="4" * 40)
    assert store.enqueue("blog", Trigger.MANUAL) == job._replace(revision="4" * 40)
    assert store.enqueue("shop", Trigger.POLL).revision is None


def test_a_retry_gives_way_to_a_revision_that_somebody_asks_for(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.POLL, revision="3" * 40)
    store.finish(claim(store), FAILED, RETRY)

    job = store.enqueue("blog", Trigger.POLL, revision="4" * 40)

    assert states(store) == ["failed", "superseded", "pending"]
    assert (job.attempts, job.revision, job.due_at) == (1, "4" * 40, clock.now)


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_one_forced_wish_is_enough_to_force_the_job(store: Store, order: tuple[bool, bool]) -> None:
    for force in order:
        store.enqueue("blog", Trigger.MANUAL, force=force)

    assert claim(store).force


def test_a_wish_during_a_run_is_a_job_of_its_own_that_runs_once_afterwards(store: Store) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    first = claim(store)
    for _ in range(3):
        store.enqueue("blog", Trigger.MANUAL)

    store.finish(first, outcome(), RETRY)
    second = claim(store)
    store.finish(second, outcome(JobState.UNCHANGED), RETRY)

    assert store.claim("blog", interrupted, RETRY) is None
    assert states(store) == ["succeeded", "unchanged"]


def test_repos_are_due_in_the_order_of_their_waiting(store: Store, clock: Clock) -> None:
    for repo in ("shop", "blog", "docs"):
        store.enqueue(repo, Trigger.MANUAL)
        clock.now += 1
    store.enqueue("shop", Trigger.MANUAL)

    assert store.due() == ["shop", "blog", "docs"]
    assert store.next_due_at(clock.now) is None


def test_a_wish_is_due_at_once_even_if_the_clock_was_set_back(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    clock.now -= 3600
    assert store.due() == ["blog"]

    again = store.enqueue("blog", Trigger.MANUAL)

    assert store.due() == ["blog"]
    assert claim(store).id == again.id


def test_a_retry_does_not_wait_for_a_clock_that_was_set_back(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    again = store.successor(store.finish(claim(store), FAILED, RETRY))
    assert again is not None
    assert store.due() == []
    clock.now -= 3600

    assert store.due() == ["blog"]
    assert claim(store).id == again.id


# Runs


def test_a_claimed_job_runs_and_is_no_longer_due(store: Store, clock: Clock) -> None:
    wished = store.enqueue("blog", Trigger.MANUAL)
    clock.now += 2

    job = claim(store)

    assert job == wished._replace(state=JobState.RUNNING, started_at=START + 2)
    assert store.running() == [job]
    assert store.due() == []
    assert store.unfinished("blog", JobState.PENDING) is None


def test_what_waits_is_pending_for_now_or_for_later_and_nothing_else_is(store: Store, clock: Clock) -> None:
    assert store.waiting() == []
    shop, blog = store.enqueue("shop", Trigger.MANUAL), store.enqueue("blog", Trigger.MANUAL)
    assert store.waiting() == [shop, blog]
    job = claim(store)
    assert store.waiting() == [shop]
    store.finish(job, FAILED, RETRY)
    assert store.due() == ["shop"]
    assert [waiting.repo for waiting in store.waiting()] == ["shop", "blog"]  # for later
    clock.now += 30
    store.finish(claim(store), outcome(JobState.REFUSED), RETRY)
    assert store.waiting() == [shop]


def test_there_is_nothing_to_claim_without_a_wish_for_that_repo(store: Store) -> None:
    store.enqueue("blog", Trigger.MANUAL)

    assert store.claim("shop", interrupted, RETRY) is None


@pytest.mark.parametrize("state", ["succeeded", "unchanged", "refused", "failed"])
def test_an_outcome_is_kept_as_it_was_told(store: Store, clock: Clock, state: str) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    job = claim(store)
    clock.now += 9
    told = Outcome(
        state=JobState(state),
        reason="what a person can act on: déjà vu",
        exit_code=77,
        old_revision="1" * 40,
        new_revision="2" * 40,
        phases=(Phase(name="fetch", at=START + 1.25), Phase(name="deploy", at=START + 2)),
    )

    done = store.finish(job, told, RETRY)

    assert done == job._replace(
        state=JobState(state),
        reason=told.reason,
        exit_code=77,
        old_revision="1" * 40,
        new_revision="2" * 40,
        phases=told.phases,
        finished_at=START + 9,
    )
    assert store.job(job.id) == done
    assert store.running() == []
    assert store.due() == []


def test_the_last_verdict_is_not_that_of_a_job_that_had_none(store: Store) -> None:
    ids = {}
    for state in ("succeeded", "unchanged", "failed", "refused", "interrupted"):
        store.enqueue("blog", Trigger.MANUAL)
        ids[state] = store.finish(claim(store), outcome(JobState(state)), RETRY).id
    store.enqueue("shop", Trigger.MANUAL)

    verdict, done = store.last_job("blog"), store.last_job("blog", done=True)
    assert verdict is not None
    assert done is not None
    assert (verdict.id, done.id) == (ids["refused"], ids["unchanged"])
    assert store.last_job("shop") is None


def test_what_was_never_there_is_not_found(store: Store) -> None:
    assert store.job(1) is None
    assert store.job(2**63) is None
    assert store.jobs(limit=10) == []
    assert store.unfinished("blog", JobState.RUNNING) is None


# Retries


def test_a_failed_job_is_tried_again_after_growing_delays_and_then_given_up(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL, force=True)
    told = []
    for delay_sec in (30, 60, None):
        done = store.finish(claim(store), FAILED, RETRY)
        told.append(done.reason)
        again = store.successor(done)
        if delay_sec is None:
            assert again is None
            break
        assert again is not None
        assert (again.state, again.due_at, again.attempts) == ("pending", clock.now + delay_sec, done.attempts + 1)
        assert (again.retry_of, again.force, again.trigger) == (done.id, True, "manual")
        assert store.next_due_at(clock.now) == clock.now + delay_sec
        clock.now += delay_sec - 0.5
        assert store.due() == []
        assert store.claim("blog", interrupted, RETRY) is None
        clock.now += 0.5
        assert store.due() == ["blog"]

    assert told == [
        "it failed; attempt 1 of 3, the next in 30 s",
        "it failed; attempt 2 of 3, the next in 60 s",
        "it failed; given up after 3 attempts",
    ]
    assert states(store) == ["failed", "failed", "failed"]


def test_a_delay_grows_to_its_limit_and_no_further(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    delays = []
    for _ in range(6):
        done = store.finish(claim(store), FAILED, RETRY._replace(tries=100))
        delays.append(clock.now)
        again = store.successor(done)
        assert again is not None
        delays[-1] = again.due_at - clock.now
        clock.now = again.due_at

    assert delays == [30, 60, 100, 100, 100, 100]


def test_what_will_pass_by_itself_is_tried_until_it_has_passed(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    for attempt in range(1, 1100):  # a power of two of this size is no float
        done = store.finish(claim(store), UNREACHABLE, FOREVER)
        assert done.reason.startswith(f"it failed; attempt {attempt}, the next in ")
        clock.now += FOREVER.max_delay_sec
    store.finish(claim(store), outcome(), FOREVER)

    assert store.claim("blog", interrupted, RETRY) is None


def test_what_passes_by_itself_uses_up_no_try_and_each_hint_counts_its_own(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    told, counted = [], []
    for each in (UNREACHABLE, FAILED, UNREACHABLE, UNREACHABLE, FAILED, UNREACHABLE, FAILED):
        job = claim(store)
        counted.append((job.attempts, job.failures))
        told.append(store.finish(job, each, RETRY).reason)
        clock.now = store.next_due_at(clock.now) or clock.now

    assert told == [
        "it failed; attempt 1, the next in 30 s",
        "it failed; attempt 1 of 3, the next in 30 s",
        "it failed; attempt 3, the next in 100 s",
        "it failed; attempt 4, the next in 100 s",
        "it failed; attempt 2 of 3, the next in 60 s",
        "it failed; attempt 6, the next in 100 s",
        "it failed; given up after 3 attempts",
    ]
    assert counted == [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2)]
    assert store.unfinished("blog", JobState.PENDING) is None


def test_retries_keep_what_was_asked_for(store: Store, clock: Clock) -> None:
    store.accept(delivery("one"), [match(revision="3" * 40)])
    store.finish(claim(store), FAILED, RETRY)
    clock.now += 30

    again = claim(store)

    assert (again.trigger, again.delivery, again.ref, again.revision) == (
        "webhook",
        "one",
        "refs/heads/main",
        "3" * 40,
    )


@pytest.mark.parametrize("failure", [FAILED, UNREACHABLE])
def test_a_failed_job_gives_way_to_a_wish_that_came_while_it_ran(store: Store, failure: Outcome) -> None:
    store.enqueue("blog", Trigger.MANUAL, force=True)
    job = claim(store)
    newer = store.enqueue("blog", Trigger.MANUAL)

    done = store.finish(job, failure, RETRY)

    assert done.reason == "it failed"
    assert store.jobs(limit=10) == [newer._replace(force=True, retry_of=job.id), done]
    assert store.successor(done) == store.unfinished("blog", JobState.PENDING)
    assert store.due() == ["blog"]


def test_a_retry_gives_way_to_a_newer_push(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL, force=True)
    failed = store.finish(claim(store), FAILED, RETRY)
    retry = store.successor(failed)
    assert retry is not None
    clock.now += 5

    accepted = store.accept(delivery("one"), [match(revision="3" * 40)])

    superseded = store.job(retry.id)
    assert superseded == retry._replace(state=JobState.SUPERSEDED, reason="a newer wish came", finished_at=clock.now)
    newer = store.unfinished("blog", JobState.PENDING)
    assert newer is not None
    assert accepted.jobs == (newer.id,)
    assert (newer.attempts, newer.due_at, newer.revision, newer.force) == (1, clock.now, "3" * 40, True)
    assert store.successor(superseded) == newer


def test_a_retry_survives_a_restart_and_is_due_when_it_was_to_be(store: Store, path: Path, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    store.finish(claim(store), FAILED, RETRY)
    store.close()
    clock.now += 29
    reopened = Store(path, clock)
    try:
        assert reopened.due() == []
        assert reopened.next_due_at(START) == START + 30
        clock.now += 1
        assert reopened.due() == ["blog"]
        assert claim(reopened).attempts == 2
    finally:
        reopened.close()


# Interruptions


def test_a_job_whose_runner_is_gone_is_recorded_as_interrupted_and_done_again(store: Store, clock: Clock) -> None:
    store.accept(delivery("one"), [match()])
    orphan = claim(store)
    clock.now += 60

    again = claim(store)

    ended = store.job(orphan.id)
    assert ended is not None
    assert (ended.state, ended.reason, ended.finished_at) == (
        "interrupted",
        f"job {orphan.id} was interrupted",
        clock.now,
    )
    assert ended.old_revision == "1" * 40
    assert (again.state, again.retry_of, again.attempts) == ("running", orphan.id, 1)
    assert (again.delivery, again.revision, again.trigger) == ("one", "2" * 40, "webhook")
    assert store.successor(ended) == again


def test_an_interruption_does_not_count_as_an_attempt(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    store.finish(claim(store), FAILED, RETRY)
    clock.now += 30
    claim(store)

    assert claim(store).attempts == 2


def test_interruptions_in_a_row_are_done_again_later_and_later(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL, force=True)
    claim(store)
    delays = []
    for number in range(1, 6):
        begun = clock.now
        job = store.claim("blog", interrupted, RETRY)
        if job is None:
            assert store.due() == []
            assert store.next_due_at(clock.now) is not None
            clock.now = store.next_due_at(clock.now) or 0.0
            job = claim(store)
        delays.append(clock.now - begun)
        assert (job.interruptions, job.attempts, job.failures, job.force) == (number, 1, 0, True)

    assert delays == [0, 30, 60, 100, 100]
    assert states(store) == ["interrupted"] * 5 + ["running"]


def test_an_end_with_a_record_ends_the_row_of_interruptions(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    claim(store)
    assert claim(store).interruptions == 1
    (running,) = store.running()
    store.finish(running, FAILED, RETRY)
    clock.now += 30

    assert claim(store).interruptions == 0
    assert claim(store).interruptions == 1  # at once again, as it is the first of a new row


def test_a_wish_that_came_meanwhile_does_not_wait_for_the_delay_of_interruptions(store: Store) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    claim(store)
    claim(store)
    newer = store.enqueue("blog", Trigger.MANUAL)

    assert claim(store).id == newer.id


def test_an_orphan_gives_way_to_a_wish_that_came_while_it_ran(store: Store) -> None:
    store.enqueue("blog", Trigger.MANUAL, force=True)
    orphan = claim(store)
    newer = store.enqueue("blog", Trigger.MANUAL)

    job = claim(store)

    assert (job.id, job.force, job.retry_of) == (newer.id, True, orphan.id)
    assert states(store) == ["interrupted", "running"]


def test_a_run_that_was_told_to_stop_is_queued_again_at_once(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL, force=True)
    job = claim(store)
    clock.now += 3

    done = store.finish(job, interrupted(job), RETRY)

    assert (done.state, done.reason) == ("interrupted", f"job {job.id} was interrupted")
    again = store.unfinished("blog", JobState.PENDING)
    assert again is not None
    assert (again.due_at, again.attempts, again.retry_of, again.force) == (clock.now, 1, job.id, True)


def test_a_claim_that_fails_changes_nothing(store: Store) -> None:
    def fail(job: Job) -> Outcome:
        raise KeyError(job.id)

    store.enqueue("blog", Trigger.MANUAL)
    claim(store)
    store.enqueue("blog", Trigger.MANUAL)
    before = store.jobs(limit=10)

    with pytest.raises(KeyError):
        store.claim("blog", fail, RETRY)

    assert store.jobs(limit=10) == before
    assert claim(store).id == before[0].id


# Images and events


def test_a_job_knows_the_images_that_were_pushed_and_the_event_that_told_of_them(store: Store) -> None:
    store.accept(delivery("one"), [pushed("v1", "v2"), pushed("v3", repo="shop", event="push")])

    job = store.unfinished("blog", JobState.PENDING)
    assert job is not None
    assert job.images == (
        Image(name="me/blog", tag="v1", digest="sha256:v1"),
        Image(name="me/blog", tag="v2", digest="sha256:v2"),
    )
    assert (job.event, job.force, job.delivery, job.ref, job.revision) == ("package", True, "one", None, None)
    other = store.unfinished("shop", JobState.PENDING)
    assert other is not None
    assert (tags_of(other), other.event) == ("v3", "push")
    assert claim(store) == job._replace(state=JobState.RUNNING, started_at=START)


def test_images_of_pushes_that_wait_together_are_kept_once_in_the_order_of_their_last_push(store: Store) -> None:
    store.accept(delivery("one"), [pushed("v1", "v2", "v1")])
    store.accept(delivery("two"), [pushed("v3")])
    store.accept(delivery("three"), [pushed("v2", "v4")])
    store.enqueue("blog", Trigger.MANUAL)

    assert tags_of(claim(store)) == "v1 v3 v2 v4"


def test_an_image_with_the_same_tag_is_another_if_its_content_is(store: Store) -> None:
    pushes = [Image(name="me/blog", tag="latest", digest=f"sha256:{digit}") for digit in "121"]
    for number, each in enumerate(pushes):
        store.accept(delivery(str(number)), [Match(repo="blog", ref="", revision=None, images=(each,))])

    assert claim(store).images == (pushes[1], pushes[2])


def test_of_more_than_a_hundred_images_the_last_hundred_are_kept(store: Store) -> None:
    store.accept(delivery("one"), [pushed(*map(str, range(150)))])
    assert tags_of(store.unfinished("blog", JobState.PENDING)) == " ".join(map(str, range(50, 150)))

    store.accept(delivery("two"), [pushed("50", "150")])

    assert tags_of(claim(store)) == " ".join(map(str, (*range(52, 150), 50, 150)))


def test_a_push_of_commits_takes_no_images_from_a_job_and_its_event_is_the_newer_one(store: Store) -> None:
    store.accept(delivery("one"), [pushed("v1")])
    store.accept(delivery("two"), [match(revision="3" * 40, event="push")])

    job = claim(store)
    assert (tags_of(job), job.event, job.force) == ("v1", "push", True)
    assert (job.ref, job.revision, job.delivery) == ("refs/heads/main", "3" * 40, "two")


def test_an_image_takes_no_revision_from_a_job(store: Store) -> None:
    store.accept(delivery("one"), [match(revision="3" * 40, event="push")])
    store.accept(delivery("two"), [pushed("v1")])

    job = claim(store)
    assert (tags_of(job), job.event, job.force) == ("v1", "package", True)
    assert (job.ref, job.revision, job.delivery) == ("refs/heads/main", "3" * 40, "two")


def test_a_wish_without_an_event_leaves_the_one_that_there_is(store: Store) -> None:
    assert store.enqueue("blog", Trigger.MANUAL).event is None
    store.accept(delivery("one"), [match(event="push")])
    store.accept(delivery("two"), [match()])

    assert store.enqueue("blog", Trigger.POLL, revision="4" * 40).event == "push"
    assert claim(store).event == "push"


def test_a_match_that_forces_is_enough_to_force_the_job(store: Store) -> None:
    store.accept(delivery("one"), [match()])
    assert not store.jobs("blog", limit=1)[0].force
    store.accept(delivery("two"), [pushed()])
    store.accept(delivery("three"), [match()])

    assert claim(store).force


def test_a_retry_is_of_the_same_images_and_the_same_event(store: Store, clock: Clock) -> None:
    store.accept(delivery("one"), [pushed("v1", "v2")])
    store.finish(claim(store), FAILED, RETRY)
    clock.now += 30

    again = claim(store)

    assert (tags_of(again), again.event, again.attempts) == ("v1 v2", "package", 2)


@pytest.mark.parametrize("newer", ["a push", "an image", "a wish"])
def test_a_retry_that_gives_way_leaves_its_images_to_the_newer_wish(store: Store, newer: str) -> None:
    store.accept(delivery("one"), [pushed("v1", "v2")])
    store.finish(claim(store), FAILED, RETRY)

    if newer == "a wish":
        store.enqueue("blog", Trigger.MANUAL)
    else:
        store.accept(delivery("two"), [match(event="push") if newer == "a push" else pushed("v1", "v3", event="tag")])

    job = claim(store)
    assert states(store) == ["failed", "superseded", "running"]
    assert tags_of(job) == ("v2 v1 v3" if newer == "an image" else "v1 v2")
    assert job.event == {"a push": "push", "an image": "tag", "a wish": "package"}[newer]
    assert job.force


@pytest.mark.parametrize("end", [FAILED, UNREACHABLE, None])
def test_images_of_a_run_that_ends_without_success_come_before_those_that_came_meanwhile(
    store: Store, clock: Clock, end: Outcome | None
) -> None:
    store.accept(delivery("one"), [pushed("v1", "v2")])
    job = claim(store)
    store.accept(delivery("two"), [pushed("v1", event="tag")])

    store.finish(job, end or interrupted(job), RETRY)

    clock.now += QUIET_SEC
    newer = claim(store)
    assert (tags_of(newer), newer.event, newer.retry_of) == ("v2 v1", "tag", job.id)


def test_the_event_of_a_failed_run_is_that_of_a_wish_that_came_meanwhile_without_one(store: Store) -> None:
    store.accept(delivery("one"), [pushed("v1")])
    job = claim(store)
    store.enqueue("blog", Trigger.MANUAL)

    store.finish(job, FAILED, RETRY)

    newer = claim(store)
    assert (tags_of(newer), newer.event, newer.force) == ("v1", "package", True)


def test_images_of_a_run_that_nobody_finished_are_those_of_the_next(store: Store, clock: Clock) -> None:
    store.accept(delivery("one"), [pushed("v1")])
    claim(store)
    again = claim(store)
    assert (tags_of(again), again.event) == ("v1", "package")
    store.accept(delivery("two"), [pushed("v2", event="tag")])

    clock.now += QUIET_SEC
    last = claim(store)

    assert (tags_of(last), last.event, last.retry_of) == ("v1 v2", "tag", again.id)


def test_a_push_to_a_repo_at_rest_is_due_at_once(store: Store) -> None:
    store.accept(delivery("one"), [pushed("v1")])
    assert store.due() == ["blog"]
    store.finish(claim(store), outcome(), RETRY)

    store.accept(delivery("two"), [pushed("v2")])

    assert store.due() == ["blog"]


def test_pushes_that_come_during_a_run_are_due_when_none_has_come_for_a_moment(store: Store, clock: Clock) -> None:
    store.accept(delivery("one"), [pushed("v1")])
    job = claim(store)
    for number in range(10):
        clock.now += 0.05
        store.accept(delivery(f"more {number}"), [pushed("v2")])
        assert store.due() == []
    store.finish(job, outcome(), RETRY)
    assert store.claim("blog", interrupted, RETRY) is None

    assert store.next_due_at(clock.now) == pytest.approx(clock.now + 0.1)
    clock.now += 0.11

    assert store.due() == ["blog"]
    assert tags_of(claim(store)) == "v2"


def test_pushes_without_an_end_put_a_run_off_for_seconds_and_no_longer(store: Store, clock: Clock) -> None:
    store.accept(delivery("one"), [pushed("v1")])
    claim(store)
    began_at, number = clock.now, 0
    while store.due() == [] and number < 1000:
        number += 1
        clock.now += 0.05
        store.accept(delivery(f"more {number}"), [pushed("v2")])

    assert clock.now - began_at == pytest.approx(5.05, abs=0.1)


def test_who_asks_by_hand_does_not_wait_for_the_end_of_a_storm(store: Store) -> None:
    store.accept(delivery("one"), [pushed("v1")])
    claim(store)
    store.accept(delivery("two"), [pushed("v2")])
    assert store.due() == []

    store.enqueue("blog", Trigger.MANUAL)

    assert store.due() == ["blog"]


def test_what_is_due_already_is_not_put_off_by_another_push(store: Store, clock: Clock) -> None:
    store.accept(delivery("one"), [pushed("v1")])
    clock.now += 0.01
    store.accept(delivery("two"), [pushed("v2")])

    assert store.due() == ["blog"]


@pytest.mark.parametrize("end", ["succeeded", "unchanged"])
def test_images_of_a_run_that_has_ended_are_not_those_of_the_next(store: Store, clock: Clock, end: str) -> None:
    store.accept(delivery("one"), [pushed("v1")])
    job = claim(store)
    store.accept(delivery("two"), [pushed("v2")])

    done = store.finish(job, outcome(JobState(end)), RETRY)

    assert tags_of(done) == "v1"
    clock.now += QUIET_SEC
    assert tags_of(claim(store)) == "v2"


@pytest.mark.parametrize("end", ["refused", "failed"])
@pytest.mark.parametrize("meanwhile", [True, False], ids=["and another waits", "and nothing waits"])
def test_what_an_event_asked_for_and_was_not_done_is_done_by_the_next_run(
    store: Store, end: str, meanwhile: bool
) -> None:
    store.accept(delivery("one"), [pushed("v1", event="package")])
    job = claim(store)
    if meanwhile:
        store.enqueue("blog", Trigger.TIMER)
    store.finish(job, outcome(JobState(end)), RETRY)
    if not meanwhile:
        store.enqueue("blog", Trigger.MANUAL)

    later = claim(store)

    assert (tags_of(later), later.event, later.force) == ("v1", "package", True)
    store.finish(later, outcome(JobState.SUCCEEDED), RETRY)
    store.enqueue("blog", Trigger.TIMER)
    assert (tags_of(last := claim(store)), last.force) == ("", False)


# Rollbacks, and what is held

ROLLBACK_ONLY = (Trigger.ROLLBACK,)


def enqueue_push(store: Store, delivery_id: str, *tags: str) -> int:
    return store.accept(delivery(delivery_id), [pushed(*tags)]).jobs[0]


@pytest.mark.parametrize("waits", ["a push", "a retry", "a rollback"])
def test_a_rollback_takes_the_place_of_what_waits_and_nothing_of_what_that_was_to_do(
    store: Store, clock: Clock, waits: str
) -> None:
    enqueue_push(store, "one", "a")
    if waits == "a retry":
        store.finish(claim(store), FAILED, RETRY)
    if waits == "a rollback":
        store.enqueue("blog", Trigger.ROLLBACK, force=True)
    (waiting,) = store.waiting()

    job = store.enqueue("blog", Trigger.ROLLBACK)

    assert store.waiting() == [job]
    assert (job.trigger, job.retry_of, job.due_at) == (Trigger.ROLLBACK, waiting.id, clock.now)
    assert (job.force, job.images, job.event, job.revision, job.attempts) == (False, (), None, None, 1)
    gone = store.job(waiting.id)
    assert gone
    assert (gone.state, gone.reason, gone.finished_at) == (JobState.SUPERSEDED, "a rollback came", clock.now)


@pytest.mark.parametrize("end", [outcome(JobState.FAILED), outcome(JobState.REFUSED)])
def test_a_rollback_does_not_do_what_an_event_asked_for_and_was_not_done(store: Store, end: Outcome) -> None:
    enqueue_push(store, "one", "a")
    store.finish(claim(store), end, RETRY)
    store.enqueue("blog", Trigger.ROLLBACK)

    job = claim(store)

    assert (job.force, job.images, job.event) == (False, (), None)


@pytest.mark.parametrize("end", [FAILED, UNREACHABLE, None])
def test_a_rollback_that_came_during_a_run_takes_nothing_of_it_if_that_has_no_success(
    store: Store, end: Outcome | None
) -> None:
    enqueue_push(store, "one", "a")
    running = claim(store)
    rollback = store.enqueue("blog", Trigger.ROLLBACK)

    done = store.finish(running, end or interrupted(running), RETRY)

    assert store.waiting() == [rollback._replace(retry_of=running.id)]
    assert store.successor(done) == store.waiting()[0]


def test_a_push_is_taken_in_by_a_rollback_that_waits(store: Store) -> None:
    rollback = store.enqueue("blog", Trigger.ROLLBACK)

    assert enqueue_push(store, "one", "a") == rollback.id

    (job,) = store.waiting()
    assert (job.trigger, job.delivery, tags_of(job)) == (Trigger.ROLLBACK, "one", "a")


@pytest.mark.parametrize("trigger", [Trigger.POLL, Trigger.TIMER, Trigger.WEBHOOK])
def test_a_rollback_that_is_to_be_tried_again_gives_way_to_no_push_and_keeps_its_time(
    store: Store, clock: Clock, trigger: Trigger
) -> None:
    store.enqueue("blog", Trigger.ROLLBACK)
    store.finish(claim(store), FAILED, RETRY)
    (waiting,) = store.waiting()
    clock.now += 10

    job = store.enqueue("blog", trigger, revision="3" * 40)

    assert job == waiting._replace(revision="3" * 40)
    assert (job.attempts, job.due_at) == (2, START + 30)


@pytest.mark.parametrize("attempt", ["first", "second"])
def test_a_rollback_that_waits_gives_way_to_what_a_person_wants(store: Store, clock: Clock, attempt: str) -> None:
    store.enqueue("blog", Trigger.ROLLBACK)
    if attempt == "second":
        store.finish(claim(store), FAILED, RETRY)
    enqueue_push(store, "one", "a")
    (waiting,) = store.waiting()

    job = store.enqueue("blog", Trigger.MANUAL)

    assert (job.trigger, job.retry_of, job.due_at, job.attempts) == (Trigger.MANUAL, waiting.id, clock.now, 1)
    assert (job.force, tags_of(job)) == (True, "a"), "what a push asked for meanwhile is not forgotten"
    assert store.waiting() == [job]


def test_a_push_during_a_rollback_that_fails_waits_with_it_for_its_next_try(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.ROLLBACK)
    rollback = claim(store)
    number = enqueue_push(store, "one", "a")

    done = store.finish(rollback, FAILED, RETRY)

    assert done.reason.endswith("; attempt 1 of 3, the next in 30 s")
    (job,) = store.waiting()
    assert (job.id, job.trigger, job.retry_of, tags_of(job)) == (number, Trigger.ROLLBACK, rollback.id, "a")
    assert (job.attempts, job.failures, job.due_at) == (2, 1, clock.now + 30)


def test_a_push_during_a_rollback_that_is_killed_does_not_keep_it_from_being_done(store: Store) -> None:
    store.enqueue("blog", Trigger.ROLLBACK)
    rollback = claim(store)
    enqueue_push(store, "one", "a")

    again = store.claim("blog", interrupted, RETRY, ROLLBACK_ONLY)

    assert again
    assert (again.trigger, again.retry_of, again.interruptions) == (Trigger.ROLLBACK, rollback.id, 1)


def test_a_person_s_wish_during_a_rollback_that_fails_takes_its_place(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.ROLLBACK)
    rollback = claim(store)
    wish = store.enqueue("blog", Trigger.MANUAL)

    store.finish(rollback, FAILED, RETRY)

    assert store.waiting() == [wish._replace(retry_of=rollback.id)]


@pytest.mark.parametrize("trigger", list(Trigger))
@pytest.mark.parametrize("triggers", [ROLLBACK_ONLY, ()], ids=["a rollback", "nothing"])
def test_a_job_is_claimed_only_where_its_trigger_may(
    store: Store, trigger: Trigger, triggers: tuple[Trigger, ...]
) -> None:
    job = store.enqueue("blog", trigger)

    claimed = store.claim("blog", interrupted, RETRY, triggers)

    assert (claimed is not None) == (trigger in triggers)
    if claimed is None:
        assert store.waiting() == [job]


def test_a_job_whose_runner_is_gone_is_recorded_as_interrupted_also_where_it_may_not_be_done_again(
    store: Store,
) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    claim(store)

    assert store.claim("blog", interrupted, RETRY, ROLLBACK_ONLY) is None

    assert states(store) == ["interrupted", "pending"]


# Polls that look at the files


def look(store: Store, state: JobState = JobState.UNCHANGED, trigger: Trigger = Trigger.POLL) -> int:
    job_id = store.enqueue("blog", trigger).id
    store.finish(claim(store), outcome(state), RETRY)
    return job_id


def numbers(store: Store) -> list[int]:
    return [job.id for job in reversed(store.jobs("blog", limit=100))]


def test_of_looks_in_a_row_that_found_nothing_the_last_is_kept(store: Store) -> None:
    first = look(store, JobState.SUCCEEDED)
    store.enqueue("shop", Trigger.POLL)
    store.finish(claim(store, "shop"), outcome(JobState.UNCHANGED), RETRY)
    looks = [look(store) for _ in range(3)]

    assert numbers(store) == [first, looks[-1]]
    assert store.last_job("blog", done=True) == store.job(looks[-1])
    assert len(store.jobs("shop", limit=10)) == 1


@pytest.mark.parametrize(
    ("state", "trigger"),
    [
        (JobState.SUCCEEDED, Trigger.POLL),
        (JobState.REFUSED, Trigger.POLL),
        (JobState.FAILED, Trigger.POLL),
        (JobState.UNCHANGED, Trigger.MANUAL),
        (JobState.UNCHANGED, Trigger.TIMER),
    ],
)
def test_what_found_something_or_was_no_poll_s_look_is_kept(store: Store, state: JobState, trigger: Trigger) -> None:
    kept = [look(store), look(store, state, trigger), look(store)]

    assert numbers(store) == kept


def test_a_look_that_a_delivery_has_joined_is_kept(store: Store) -> None:
    kept = [look(store)]
    for delivery_id in ("one", "two"):
        kept.append(store.enqueue("blog", Trigger.POLL).id)
        store.accept(delivery(delivery_id), [match()])
        store.finish(claim(store), outcome(JobState.UNCHANGED), RETRY)
    kept.append(look(store))

    assert numbers(store) == kept


def test_a_look_that_took_over_from_another_job_is_kept(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.POLL)
    failed = store.finish(claim(store), FAILED, RETRY)
    clock.now += 30
    store.finish(claim(store), outcome(JobState.UNCHANGED), RETRY)
    successor = store.successor(failed)
    look(store)

    assert successor
    assert store.successor(failed) == successor


# Deliveries


def test_a_delivery_makes_one_job_for_each_repo_that_wants_it(store: Store) -> None:
    accepted = store.accept(delivery(), [match("blog"), match("shop", reason="follows next"), match("docs")])

    assert accepted.decision is Decision.ACCEPTED
    jobs = [store.job(job_id) for job_id in accepted.jobs]
    assert [(job.repo, job.trigger, job.delivery) for job in jobs if job] == [
        ("blog", "webhook", "one"),
        ("docs", "webhook", "one"),
    ]
    assert store.due() == ["blog", "docs"]


def test_every_repo_is_told_its_own_part_of_a_delivery(store: Store) -> None:
    accepted = store.accept(delivery(), [match("blog"), match("shop", reason="follows next")])
    later = store.accept(delivery("two")._replace(reason="shop: follows next"), [match("shop", reason="follows next")])

    assert store.deliveries("blog", limit=10) == [accepted]
    assert store.deliveries("shop", limit=10) == [
        later._replace(reason="follows next"),
        accepted._replace(decision=Decision.IGNORED, reason="follows next", jobs=()),
    ]
    assert store.deliveries("shop", limit=1) == [later._replace(reason="follows next")]
    assert store.deliveries("docs", limit=10) == []


def test_a_push_that_is_about_no_repo_is_kept_among_those(store: Store) -> None:
    unknown = store.accept(delivery()._replace(reason="no repo is configured for me/x"), [])
    created = store.accept(delivery("created", event="branch_tag_create")._replace(reason="no repo is configured"), [])
    store.accept(delivery("ping", event="ping"), [])
    store.accept(delivery("trial")._replace(ref="", reason="a test delivery"), [])
    store.accept(delivery("two"), [match()])

    assert unknown.decision is Decision.IGNORED
    assert store.deliveries(None, limit=10) == [created, unknown]
    assert store.due() == ["blog"]


def test_a_delivery_that_comes_twice_makes_no_second_job_and_names_the_first(store: Store, clock: Clock) -> None:
    first = store.accept(delivery(), [match("blog"), match("shop", reason="follows next"), match("docs")])
    for job_id in first.jobs:
        found = store.job(job_id)
        assert found is not None
        store.finish(claim(store, found.repo), outcome(), RETRY)
    clock.now += 60

    for _ in range(2):
        second = store.accept(delivery(at=clock.now), [match("blog"), match("new")])

        assert second.decision is Decision.DUPLICATE
        assert second.jobs == first.jobs
        assert second.reason == f"accepted before, as job {first.jobs[0]}, {first.jobs[1]}"
    assert store.due() == []
    assert [each.decision for each in store.deliveries("blog", limit=10)] == ["duplicate", "duplicate", "accepted"]
    assert [each.decision for each in store.deliveries("shop", limit=10)] == ["ignored"] * 3
    assert store.deliveries("new", limit=10) == []


def test_a_delivery_that_was_ignored_is_taken_when_it_comes_again(store: Store) -> None:
    store.accept(delivery(), [match(reason="follows next")])
    store.accept(delivery(), [])

    assert store.accept(delivery(), [match()]).decision is Decision.ACCEPTED
    assert store.accept(delivery(), [match()]).decision is Decision.DUPLICATE


def test_the_same_delivery_id_at_another_receiver_is_another_delivery(store: Store) -> None:
    store.accept(delivery(), [match()])

    assert store.accept(delivery(receiver="gitlab"), [match()]).decision is Decision.ACCEPTED


def test_a_delivery_id_is_forgotten_after_seven_days(store: Store, clock: Clock) -> None:
    store.accept(delivery(), [match()])
    clock.now += SEEN_SEC - 1
    assert store.accept(delivery(at=clock.now), [match()]).decision is Decision.DUPLICATE
    clock.now += 1

    again = store.accept(delivery(at=clock.now), [match()])

    assert SEEN_SEC == 7 * 24 * 3600
    assert again.decision is Decision.ACCEPTED
    assert store.accept(delivery(at=clock.now), [match()]).decision is Decision.DUPLICATE


def test_a_delivery_is_recorded_with_all_its_jobs_or_not_at_all(store: Store, path: Path) -> None:
    store.probe()
    with_another_connection(
        path, "CREATE TRIGGER no BEFORE INSERT ON matches WHEN NEW.repo = 'shop' BEGIN SELECT RAISE(ABORT, 'no'); END"
    )

    with pytest.raises(StoreError):
        store.accept(delivery(), [match("blog"), match("shop")])

    with_another_connection(path, "DROP TRIGGER no")
    assert store.jobs(limit=10) == []
    assert store.deliveries("blog", limit=10) == []
    assert store.accept(delivery(), [match("blog"), match("shop")]).decision is Decision.ACCEPTED


def body_of(number: int) -> Body:
    return Body(text=f'{{"number": {number}, "ä": "\\u0000"}}'.encode(), event_header=f"event-{number}")


def kept(store: Store) -> list[int]:
    """The numbers of the deliveries whose bodies are there, each of which is the right one."""
    numbers = [each.number for each in store.newest_deliveries(limit=1000) if store.body(each.number)]
    assert [store.body(number) for number in numbers] == [body_of(number) for number in numbers]
    return numbers[::-1]


def test_a_delivery_is_numbered_and_found_again_with_its_body(store: Store) -> None:
    first = store.accept(delivery("one"), [match()], body_of(1), keep_bodies=2)
    second = store.accept(delivery("two"), [], body_of(2), keep_bodies=2)

    assert (first.number, second.number) == (1, 2)
    assert (store.body(1), store.body(2), store.body(3)) == (body_of(1), body_of(2), None)
    assert store.delivery("1") == first
    assert store.newest_deliveries(limit=9) == [second, first]


@pytest.mark.parametrize("keep", [1, 3, 5])
def test_exactly_the_last_bodies_are_kept(store: Store, keep: int) -> None:
    for number in range(1, 8):
        store.accept(delivery(str(number)), [match()] if number % 2 else [], body_of(number), keep_bodies=keep)
        assert kept(store) == list(range(1, number + 1))[-keep:]


def test_deliveries_without_a_body_take_no_room_from_those_that_have_one(store: Store) -> None:
    for number in range(1, 9):
        body = body_of(number) if number % 2 else None
        store.accept(delivery(str(number)), [match()], body, keep_bodies=3)

    assert kept(store) == [3, 5, 7]


def test_none_are_kept_where_none_are_to_be(store: Store) -> None:
    store.accept(delivery("one"), [match()], body_of(1))
    store.accept(delivery("two"), [match()], body_of(2), keep_bodies=0)

    assert kept(store) == []


def test_a_duplicate_keeps_no_body_and_takes_none_away(store: Store) -> None:
    store.accept(delivery("one"), [match()], body_of(1), keep_bodies=1)
    again = store.accept(delivery("one"), [match()], body_of(2), keep_bodies=1)

    assert (again.decision, again.number) == (Decision.DUPLICATE, 2)
    assert kept(store) == [1]


def test_a_body_is_forgotten_with_its_delivery(store: Store, path: Path) -> None:
    for number in range(1, 6):
        store.accept(delivery(str(number)), [match()], body_of(number), keep_bodies=100)

    store.prune(Keep(deliveries=2))

    assert kept(store) == [4, 5]
    assert with_another_connection(path, "SELECT delivery FROM bodies") == [(4,), (5,)]


@pytest.mark.parametrize(("keep", "left"), [(0, []), (2, [4, 5]), (9, [1, 2, 3, 4, 5])])
def test_bodies_that_are_no_longer_to_be_kept_go_without_a_further_delivery(
    store: Store, keep: int, left: list[int]
) -> None:
    for number in range(1, 6):
        store.accept(delivery(str(number)), [match()], body_of(number), keep_bodies=100)

    store.prune(Keep(bodies=keep))

    assert kept(store) == left
    assert len(store.newest_deliveries(limit=9)) == 5


def test_the_newest_deliveries_are_told_as_wholes_whoever_they_were_about(store: Store) -> None:
    both = store.accept(delivery("one"), [match("blog"), match("shop"), match("docs", reason="follows next")])
    ping = store.accept(delivery("two", event="ping")._replace(ref="", reason="a ping"), [])
    elsewhere = store.accept(delivery("three", receiver="gitlab"), [match("shop", reason="follows next")])
    again = store.accept(delivery("one"), [match("blog")])

    assert both.jobs == (1, 2)
    assert store.newest_deliveries(limit=9) == [again, elsewhere, ping, both]
    assert store.newest_deliveries(limit=2) == [again, elsewhere]
    assert store.newest_deliveries("default", limit=9) == [again, ping, both]
    assert store.newest_deliveries("default", limit=1) == [again]
    assert store.newest_deliveries("gitlab", limit=9) == [elsewhere]
    assert store.newest_deliveries("unheard of", limit=9) == []
    assert (again.decision, again.jobs) == (Decision.DUPLICATE, both.jobs)


def test_a_delivery_is_found_by_its_number_before_its_id_and_the_newest_of_an_id(store: Store) -> None:
    first = store.accept(delivery("3"), [match()])
    second = store.accept(delivery("x", receiver="gitlab"), [match()])
    third = store.accept(delivery("x"), [match("blog"), match("shop")])

    assert store.delivery("1") == store.delivery("001") == first
    assert store.delivery("2") == second
    assert store.delivery("3") == third
    assert store.delivery("x") == third
    store.prune(Keep(deliveries=2))
    assert store.delivery("1") is None


def test_of_the_deliveries_of_an_id_the_one_is_found_that_is_no_duplicate(store: Store) -> None:
    ignored = store.accept(delivery("x"), [])
    accepted = store.accept(delivery("x"), [match()], body_of(2), keep_bodies=9)
    store.accept(delivery("4"), [match()])
    duplicate = store.accept(delivery("x"), [match()])

    assert (ignored.decision, duplicate.decision) == (Decision.IGNORED, Decision.DUPLICATE)
    assert store.delivery("x") == accepted
    assert store.delivery("4") == duplicate
    store.prune(Keep(deliveries=1))
    assert store.delivery("x") == duplicate


@pytest.mark.parametrize(
    "name", ["", "0", "4", "-1", "1 ", " 1", "1.0", "one", "9" * 18, "9" * 19, "9" * 400, "\u0661", "%"]
)
def test_what_names_no_delivery_finds_none(store: Store, name: str) -> None:
    store.accept(delivery("x"), [match()])

    assert store.delivery(name) is None


def test_a_delivery_is_found_by_an_id_of_digits_that_is_no_number_of_one(store: Store) -> None:
    for delivery_id in ("4711", "9" * 30):
        accepted = store.accept(delivery(delivery_id), [match()])
        assert store.delivery(delivery_id) == accepted


def skipped(revision: str, origin: str, repo: str = "blog") -> Match:
    return match(repo, revision=revision, reason="none of its files")._replace(skipped_from=origin)


def test_a_push_is_not_left_out_while_another_receiver_of_that_repo_has_not_left_it_out(
    store: Store,
) -> None:
    other = delivery("other")._replace(receiver="second")
    store.accept(other, [match("blog", revision="1" * 40)])
    one = delivery("one")
    store.accept(one, [skipped("3" * 40, "2" * 40)])
    assert store.skipped_from("blog", "3" * 40) == ""

    store.accept(one._replace(receiver="second", delivery_id="two"), [skipped("3" * 40, "2" * 40)])
    assert store.skipped_from("blog", "3" * 40) == "2" * 40


def test_it_is_known_where_a_push_came_from_that_was_left_out(store: Store) -> None:
    store.accept(delivery("one"), [skipped("3" * 40, "2" * 40), match("shop", revision="3" * 40)])
    store.accept(delivery("two"), [match(revision="4" * 40)])
    store.accept(delivery("three"), [match(revision="5" * 40, reason="follows next")])

    assert store.skipped_from("blog", "3" * 40) == "2" * 40
    assert store.skipped_from("shop", "3" * 40) == ""
    assert store.skipped_from("blog", "4" * 40) == ""
    assert store.skipped_from("blog", "5" * 40) == ""
    assert store.skipped_from("blog", "") == ""
    store.prune(Keep(deliveries=2))
    assert store.skipped_from("blog", "3" * 40) == ""


@pytest.mark.parametrize(
    "foreign",
    [
        "CREATE TRIGGER ours AFTER UPDATE ON jobs BEGIN SELECT RAISE(ABORT, 'gotcha'); END",
        "CREATE VIEW ours AS SELECT * FROM jobs",
        "CREATE TABLE ours (a)",
        "CREATE INDEX ours ON jobs (reason)",
        "ALTER TABLE jobs ADD COLUMN mood TEXT",
        "ALTER TABLE jobs RENAME TO jobs_of_theirs",
        "DROP INDEX one_pending_job",
        "DROP TABLE wishes; CREATE TABLE wishes (job, event, images)",
    ],
)
def test_a_file_that_would_do_what_somebody_else_has_written_into_it_is_not_used(
    store: Store, path: Path, foreign: str
) -> None:
    store.probe()
    store.close()
    with_another_connection(path, *foreign.split("; ") if foreign.startswith("DROP TABLE") else [foreign])
    with pytest.raises(StoreError, match="its tables are not those that gitopsd makes; find out who did that"):
        store.jobs(limit=10)


# History and notes


def test_of_the_history_only_as_much_stays_as_is_to_be_kept(store: Store, path: Path) -> None:
    for number in range(8):
        store.accept(delivery(str(number)), [match("blog")])
        store.finish(claim(store), outcome(), RETRY)
    store.enqueue("shop", Trigger.MANUAL)
    newest = store.jobs("blog", limit=3)

    store.prune(Keep(deliveries=5, jobs=3))

    assert store.jobs("blog", limit=100) == newest
    assert [each.delivery_id for each in store.deliveries("blog", limit=100)] == ["7", "6", "5", "4", "3"]
    assert with_another_connection(path, "SELECT count(*) FROM matches") == [(5,)]
    assert len(store.jobs("shop", limit=100)) == 1
    assert store.accept(delivery("7"), [match()]).decision is Decision.DUPLICATE
    assert store.enqueue("blog", Trigger.MANUAL).id > newest[0].id


def test_a_job_that_is_not_finished_is_never_forgotten(store: Store, clock: Clock) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    running = claim(store)
    for _ in range(3):
        store.enqueue("shop", Trigger.MANUAL)
        store.finish(claim(store, "shop"), outcome(), RETRY)
    store.enqueue("blog", Trigger.MANUAL)

    store.prune(Keep(jobs=0, deliveries=0))

    assert states(store, "blog") == ["running", "pending"]
    assert states(store, "shop") == []
    store.finish(running, outcome(), RETRY)


def test_a_note_is_what_was_written_last(store: Store) -> None:
    assert store.read_note("daemon") is None
    store.write_note("daemon", ["a line"])
    store.write_note("daemon", ["déjà", "vu"])

    assert store.read_note("daemon") == ["déjà", "vu"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("daemon", {"lines": []}),
        ("daemon", [1]),
        ("poll", {"at": "now", "problems": {}}),
        ("poll", {"problems": {}}),
        ("remotes of default", {"blog": {}}),
        ("remotes of default", 5),
        ("remotes of default", [1]),
        ("rejected by default", {"at": True, "reason": ""}),
        ("refused by default", {"": {"at": 1}}),
        ("proven by default", {"one": {"blog": None}}),
        ("configuration", {"digest": 1, "at": 1}),
    ],
)
def test_a_note_of_another_form_is_none(store: Store, key: str, value: object) -> None:
    store.write_note(key, value)
    assert store.read_note(key) is None


@pytest.mark.parametrize("text", ["[" * 3000, "", "{"], ids=["deep", "empty", "cut"])
def test_a_note_that_is_no_json_is_none(store: Store, path: Path, text: str) -> None:
    store.write_note("daemon", [])
    with_another_connection(path, f"UPDATE notes SET value = '{text}'")
    assert store.read_note("daemon") is None


@pytest.mark.parametrize("images", ["null", '{"a": 1}', '[["a"]]', "[[", "[" * 3000], ids=["null", "a", "b", "c", "d"])
def test_a_job_of_another_form_is_an_error_of_the_store(store: Store, path: Path, images: str) -> None:
    store.accept(delivery("one"), [pushed("v1")])
    with_another_connection(path, f"UPDATE wishes SET images = '{images}'")
    for look in (lambda: store.jobs(limit=1), lambda: store.accept(delivery("two"), [pushed("v2")])):
        with pytest.raises(StoreError, match="a job that is none"):
            look()


# The file


def with_another_connection(path: Path, *statements: str) -> list[sqlite3.Row]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return [row for statement in statements for row in connection.execute(statement).fetchall()]
    finally:
        connection.close()


def write_first_version(path: Path) -> None:
    """What the first gitopsd has left: a job that waits, one that has ended, and what had asked for them."""
    path.parent.mkdir(parents=True)
    jobs = "INSERT INTO jobs (repo, trigger, state, reason, attempts, failures, interruptions, due_at, created_at, "
    more = "force, delivery, ref, revision, started_at, finished_at, old_revision, new_revision, exit_code, phases"
    deliveries = "INSERT INTO deliveries VALUES "
    with_another_connection(
        path,
        *tables.MIGRATIONS[0].split(";\n"),
        "PRAGMA user_version = 1",
        f"""{jobs} {more}) VALUES ('blog', 'webhook', 'succeeded', 'deployed', 1, 0, 0, 5, 5,
        0, 'one', 'refs/heads/main', 'b', 6, 7, 'a', 'b', 0, '[["fetch", 6.5]]')""",
        f"{jobs} force, delivery) VALUES ('shop', 'manual', 'pending', '', 2, 1, 0, 8, 5, 1, NULL)",
        f"{deliveries} (7, 'default', 'one', 'push', 'me/blog', 'refs/heads/main', 'b', 'accepted', '', {START - 5})",
        f"{deliveries} (8, 'default', 'two', 'star', 'me/blog', '', '', 'ignored', 'no push', {START - 4})",
        "INSERT INTO matches VALUES (7, 'blog', 1, NULL), (7, 'docs', NULL, 'follows next')",
        "INSERT INTO notes VALUES ('daemon', '[\"a line\"]')",
    )


def test_what_the_first_version_has_written_is_read_as_it_was(store: Store, path: Path) -> None:
    write_first_version(path)

    done, waiting = store.job(1), store.unfinished("shop", JobState.PENDING)

    assert done == Job(
        id=1,
        repo="blog",
        trigger=Trigger.WEBHOOK,
        state=JobState.SUCCEEDED,
        reason="deployed",
        attempts=1,
        failures=0,
        interruptions=0,
        due_at=5.0,
        created_at=5.0,
        delivery="one",
        ref="refs/heads/main",
        revision="b",
        event=None,
        images=(),
        started_at=6.0,
        finished_at=7.0,
        old_revision="a",
        new_revision="b",
        exit_code=0,
        phases=(Phase(name="fetch", at=6.5),),
    )
    assert waiting is not None
    assert (waiting.attempts, waiting.force, waiting.event, waiting.images) == (2, True, None, ())
    assert [(each.number, each.delivery_id, each.jobs) for each in store.newest_deliveries(limit=9)] == [
        (8, "two", ()),
        (7, "one", (1,)),
    ]
    assert [each.reason for each in store.deliveries("docs", limit=9)] == ["follows next"]
    assert (store.body(7), store.skipped_from("docs", "b"), store.skipped_from("docs", "")) == (None, "", "")
    assert store.read_note("daemon") == ["a line"]
    assert with_another_connection(path, "PRAGMA user_version") == [(2,)]


def test_what_the_first_version_has_written_is_gone_on_with(store: Store, path: Path, clock: Clock) -> None:
    write_first_version(path)

    assert store.accept(delivery("one"), [match()]).decision is Decision.DUPLICATE
    accepted = store.accept(delivery("three"), [pushed("v1", repo="shop")], body_of(10), keep_bodies=5)
    assert kept(store) == [accepted.number] == [10]

    job = claim(store, "shop")
    assert (tags_of(job), job.event, job.retry_of, job.id) == ("v1", "package", 2, 3)
    assert store.finish(job, FAILED, RETRY).state is JobState.FAILED
    clock.now += 30
    assert tags_of(claim(store, "shop")) == "v1"


def test_a_file_of_the_first_version_that_many_open_at_once_is_converted_once(path: Path, clock: Clock) -> None:
    write_first_version(path)
    problems: list[Any] = []

    def read(store: Store) -> None:
        try:
            assert store.unfinished("shop", JobState.PENDING)
        except (StoreError, AssertionError) as error:
            problems.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=read, args=(Store(path, clock),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []


def test_a_sync_of_the_version_before_still_reads_whole_rows_of_its_tables(store: Store, path: Path) -> None:
    def columns(connection: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
        tables = ("jobs", "deliveries", "matches", "notes")
        return [[tuple(row) for row in connection.execute(f"PRAGMA table_info({table})")] for table in tables]

    store.probe()
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as before,
        contextlib.closing(sqlite3.connect(path)) as now,
    ):
        before.executescript(tables.MIGRATIONS[0])
        assert columns(now) == columns(before)
        assert all(columns(before))


@pytest.mark.parametrize("state", ["pending", "running"])
def test_the_file_itself_forbids_a_second_pending_or_running_job(store: Store, path: Path, state: str) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    if state == "running":
        claim(store)
    store.close()
    columns = "repo, trigger, state, reason, attempts, failures, interruptions, due_at, created_at, force"
    insert = f"INSERT INTO jobs ({columns}) VALUES "

    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE constraint failed"):
        with_another_connection(path, f"{insert} ('blog', 'manual', '{state}', '', 1, 0, 0, 0, 0, 0)")
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
        with_another_connection(path, f"{insert} ('blog', 'manual', 'paused', '', 1, 0, 0, 0, 0, 0)")
    for final in FINAL:
        with_another_connection(path, f"{insert} ('blog', 'manual', '{final}', '', 1, 0, 0, 0, 0, 0)")


def test_what_was_written_is_on_disk(store: Store, path: Path) -> None:
    store.enqueue("blog", Trigger.MANUAL)

    assert with_another_connection(path, "PRAGMA journal_mode", "SELECT repo FROM jobs") == [("wal",), ("blog",)]
    assert store._read("PRAGMA synchronous", ())[0][0] == 2  # FULL: a commit waits for the disk


def test_a_closed_store_opens_again_by_itself(store: Store) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    store.close()
    store.close()

    assert store.due() == ["blog"]


@dataclass(frozen=True)
class Trouble:
    """Something wrong with the file, and what the error is to tell."""

    says: str
    hint: str
    hides: str = "!"


TROUBLES = {
    "noise": Trouble("file is not a database", "move the file away and a new one is made"),
    "damaged pages": Trouble("database disk image is malformed", "move the file away and a new one is made"),
    "a directory": Trouble("unable to open database file", "writable"),
    "a newer gitopsd's": Trouble("written by a newer gitopsd (version 999)", "gitopsd", hides="writable"),
    "no directory to be in": Trouble("", "see that its directory is there and writable"),
}


def damage(path: Path, trouble: str) -> None:
    if trouble == "noise":
        path.write_bytes(b"no database at all, but noise\n" * 1000)
    elif trouble == "damaged pages":
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
    elif trouble == "a newer gitopsd's":
        with_another_connection(path, "PRAGMA user_version = 999")
    elif trouble == "a directory":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()
        path.parent.rmdir()
        path.parent.write_text("")


def mend(path: Path, trouble: str) -> None:
    if trouble == "no directory to be in":
        path.parent.unlink()
    else:
        path.rename(path.with_name("moved away"))


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_file_in_trouble_is_an_error_to_act_on_and_is_used_again_once_mended(
    store: Store, path: Path, trouble: str
) -> None:
    for number in range(20):
        store.enqueue(f"repo-{number}", Trigger.MANUAL)
    store.close()
    damage(path, trouble)

    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            store.accept(delivery(), [match()])
        told = str(caught.value)
        assert told.startswith(f"store {path}: {TROUBLES[trouble].says}")
        assert TROUBLES[trouble].hint in told
        assert TROUBLES[trouble].hides not in told
        assert "\n" not in told
        with pytest.raises(StoreError):
            store.jobs(limit=5)

    mend(path, trouble)
    assert store.accept(delivery(), [match()]).decision is Decision.ACCEPTED
    assert store.due() == ["blog"]


def test_an_open_file_that_is_damaged_under_us_is_an_error_and_then_mended(store: Store, path: Path) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    for each in path.parent.iterdir():
        each.write_bytes(b"noise" * 10_000)

    with pytest.raises(StoreError, match="move the file away"):
        store.enqueue("shop", Trigger.MANUAL)

    path.rename(path.with_name("moved away"))
    store.enqueue("shop", Trigger.MANUAL)
    assert store.due() == ["shop"]


@pytest.mark.parametrize("at_last", ["a read", "a write"])
def test_a_file_that_is_moved_away_under_us_is_made_anew_and_not_written_to(
    store: Store, path: Path, at_last: str
) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    aside = path.parent.with_name("aside")
    path.parent.rename(aside)

    if at_last == "a read":
        assert store.due() == []
    store.enqueue("shop", Trigger.MANUAL)

    assert store.due() == ["shop"]
    assert with_another_connection(path, "SELECT repo FROM jobs") == [("shop",)]
    assert with_another_connection(aside / path.name, "SELECT repo FROM jobs") == [("blog",)]


@pytest.mark.parametrize("at_last", ["a read", "a write", "the end"])
def test_a_file_that_is_moved_away_without_its_log_is_given_what_is_in_there(
    store: Store, path: Path, at_last: str
) -> None:
    store.accept(delivery(), [match()])
    assert store.due() == ["blog"]
    aside = path.with_name("aside")
    path.rename(aside)

    if at_last == "a read":
        assert store.due() == []
    elif at_last == "a write":
        store.enqueue("shop", Trigger.MANUAL)
    store.close()

    assert with_another_connection(aside, "SELECT repo FROM jobs", "SELECT delivery_id FROM deliveries") == [
        ("blog",),
        (delivery().delivery_id,),
    ]


def test_a_copy_that_is_put_in_place_of_a_file_that_was_moved_away_goes_on_with_its_log(
    store: Store, path: Path
) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    assert store.due() == ["blog"]
    path.rename(path.with_name("aside"))
    shutil.copy(path.with_name("aside"), path)

    store.enqueue("shop", Trigger.MANUAL)

    assert store.due() == ["blog", "shop"]
    store.close()
    assert store.due() == ["blog", "shop"]


_WISH = """
import sys, time
from pathlib import Path
from gitopsd.model import Trigger
from gitopsd.store import Store
Store(Path(sys.argv[1]), time.time).enqueue("shop", Trigger.MANUAL)
"""


def test_a_file_that_is_moved_away_under_us_is_made_anew_by_several_others(store: Store, path: Path) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    path.rename(path.with_name("aside"))  # without its -wal and -shm, which we use

    others = [subprocess.Popen([sys.executable, "-c", _WISH, str(path)]) for _ in range(3)]

    assert [other.wait(60) for other in others] == [0, 0, 0]
    assert store.due() == ["shop"]
    store.close()  # they have taken its log away, but we still had that open
    assert with_another_connection(path.with_name("aside"), "SELECT repo FROM jobs") == [("blog",)]


def test_another_file_that_is_put_in_its_place_is_the_one_that_counts(
    store: Store, path: Path, clock: Clock, tmp_path: Path
) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    other = Store(tmp_path / "other" / path.name, clock)
    other.enqueue("shop", Trigger.MANUAL)
    other.close()
    path.parent.rename(tmp_path / "aside")
    (tmp_path / "other").rename(path.parent)

    assert store.due() == ["shop"]


def test_the_end_of_a_job_whose_file_was_moved_away_is_not_that_of_another(store: Store, path: Path) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    job = claim(store)
    path.parent.rename(path.parent.with_name("aside"))
    other = store.enqueue("shop", Trigger.MANUAL)
    assert other.id == job.id

    with pytest.raises(StoreError, match="is not in the store any more"):
        store.finish(job, outcome(), RETRY)

    assert store.jobs(limit=10) == [other]


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4096)


def accept_many(store: Store) -> None:
    for number in range(1000):
        store.accept(delivery(f"during {number}"), [match("shop"), match("docs")])


def test_a_full_disk_leaves_nothing_of_a_delivery_and_goes_on_when_there_is_room(
    small_disk: Path, clock: Clock
) -> None:
    path = path_in(small_disk)
    store = Store(path, clock)
    try:
        store.accept(delivery("before"), [match()])
        fill(small_disk / "filler")

        with pytest.raises(StoreError) as caught:
            accept_many(store)
        with pytest.raises(StoreError):
            store.probe()

        assert str(caught.value).startswith(f"store {path}: ")
        assert "room" in str(caught.value)
        (small_disk / "filler").unlink()
        assert store.due() == ["blog"]
        assert [each.delivery_id for each in store.deliveries("blog", limit=9)] == ["before"]
        assert store.deliveries("shop", limit=9) == []
        assert store.accept(delivery("during 0"), [match("shop")]).decision is Decision.ACCEPTED
    finally:
        store.close()


def test_a_disk_that_became_read_only_is_an_error_until_it_can_be_written_again(small_disk: Path, clock: Clock) -> None:
    store = Store(path_in(small_disk), clock)
    try:
        store.enqueue("blog", Trigger.MANUAL)
        store.close()
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

        with pytest.raises(StoreError, match="writable"):
            store.probe()

        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        store.probe()
        assert store.due() == ["blog"]
    finally:
        store.close()


@pytest.mark.parametrize("target", ["a store", "an empty file", "nothing"])
def test_a_link_in_the_place_of_the_file_is_refused_and_not_followed(store: Store, path: Path, target: str) -> None:
    store.enqueue("blog", Trigger.MANUAL)
    store.close()
    elsewhere = path.parent.with_name("elsewhere")
    path.rename(elsewhere)
    if target == "an empty file":
        elsewhere.write_bytes(b"")
    elif target == "nothing":
        elsewhere.unlink()
    before = elsewhere.read_bytes() if elsewhere.exists() else None
    path.symlink_to(elsewhere)

    for attempt in (store.probe, store.due, lambda: store.enqueue("blog", Trigger.MANUAL)):
        with pytest.raises(StoreError) as caught:
            attempt()
        assert str(caught.value) == f"store {path}: it is a link; remove it"

    assert (elsewhere.read_bytes() if elsewhere.exists() else None) == before
    path.unlink()
    assert store.due() == []


@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_a_link_in_the_place_of_what_lies_beside_the_file_is_not_followed(store: Store, path: Path, end: str) -> None:
    store.probe()
    store.close()
    precious = path.parent.with_name("precious")
    precious.write_text("content")
    Path(f"{path}{end}").symlink_to(precious)

    with pytest.raises(StoreError):
        store.probe()

    assert precious.read_text() == "content"
    Path(f"{path}{end}").unlink()
    store.probe()


def test_a_new_file_waits_for_the_process_that_makes_it_too(store: Store, path: Path) -> None:
    path.parent.mkdir(parents=True)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.2, lambda: other.execute("COMMIT"))
    done.start()
    try:
        store.probe()
    finally:
        done.join()
        other.close()


def test_a_file_that_another_process_does_not_let_go_of_is_an_error_to_try_again(store: Store, path: Path) -> None:
    store.probe()
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreError, match="another process holds it; try again"):
            store.probe()

        assert store.due() == []  # whoever only reads need not wait
    finally:
        other.close()
    store.probe()


# Many at once

_WORK = """
import sys, threading, time
from pathlib import Path
from gitopsd import lock
from gitopsd.errors import BusyError
from gitopsd.model import Decision, Delivery, JobState, Match, Outcome
from gitopsd.settings import Retry
from gitopsd.store import Store

root, process = Path(sys.argv[1]), sys.argv[2]
store = Store(root / "state" / "db", time.monotonic)  # one clock for all processes, which nobody sets
done = Outcome(state=JobState.SUCCEEDED, reason="done", exit_code=0)
again = Outcome(state=JobState.FAILED, reason="failed", exit_code=1, retry=True, keep_trying=True)
retry = Retry(tries=1, delay_sec=0.0, max_delay_sec=0.0)
claimed = []

def sync(repo):
    with lock.hold(root / "state", repo, patience_sec=60):
        while job := store.claim(repo, lambda job: exit(f"job {job.id} was nobody's"), retry):
            claimed.append(job.id)
            store.finish(job, again if job.id % 5 == 0 else done, retry)

def work(thread):
    for number in range(12):
        delivery_id = f"{process}-{thread}-{number}"
        store.accept(
            Delivery(receiver="default", delivery_id=delivery_id, event="push", remote="", ref="", revision="",
                     decision=Decision.IGNORED, reason="", received_at=time.monotonic()),
            [Match(repo=repo, ref="refs/heads/main", revision=delivery_id) for repo in ("blog", "shop")],
        )
        if number % 3 == 2:
            sync("blog")
            sync("shop")

threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
while store.waiting():  # until the last storm is over
    for repo in store.due():  # who claims writes, and others would starve behind one who does nothing else
        sync(repo)
store.close()
print(*claimed)
"""


def test_processes_and_threads_that_wish_and_claim_at_once_lose_and_double_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    several = [
        subprocess.Popen(
            [sys.executable, "-c", _WORK, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(3)
    ]
    try:
        outputs = [process.communicate(timeout=60)[0] for process in several]
    finally:
        for process in several:
            process.kill()
            process.wait()
    assert [process.returncode for process in several] == [0, 0, 0], outputs
    assert "Exception" not in "".join(outputs), outputs

    store = Store(tmp_path / "state" / "db", clock)
    try:
        jobs = {job.id: job for job in store.jobs(limit=10_000)}
        claims = [int(word) for output in outputs for word in output.split()]
        assert sorted(claims) == sorted(job.id for job in jobs.values() if job.state in ("succeeded", "failed"))
        for job in jobs.values():
            assert job.state in ("succeeded", "failed", "superseded")
            assert job.state != "superseded" or job.attempts > 1  # only a retry gives way
        for repo in ("blog", "shop"):
            deliveries = store.deliveries(repo, limit=10_000)
            assert len({each.delivery_id for each in deliveries}) == len(deliveries) == 3 * 3 * 12
            for each in deliveries:
                started_at = jobs[each.jobs[0]].started_at
                assert started_at is not None
                assert started_at >= each.received_at  # a run that began before does not count for it
    finally:
        store.close()


def test_a_new_file_can_be_opened_by_many_at_once(tmp_path: Path, clock: Clock) -> None:
    problems: list[str] = []

    def open_and_write(path: Path, start: threading.Barrier, repo: str) -> None:
        store = Store(path, clock)
        start.wait()
        try:
            store.enqueue(repo, Trigger.MANUAL)
        except StoreError as error:
            problems.append(str(error))
        finally:
            store.close()

    for number in range(20):
        path, start = tmp_path / str(number) / "db", threading.Barrier(8)
        threads = [threading.Thread(target=open_and_write, args=(path, start, f"repo-{repo}")) for repo in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert problems == []


# Every order of events


@dataclass(frozen=True)
class Told:
    """What a job is told of what asked for it: the tags that were pushed, the kind of the last event, the force."""

    tags: str = ""
    event: str | None = None
    forced: bool = False

    def then(self, newer: "Told") -> "Told":
        """Both: each tag where it came last."""
        tags = self.tags + newer.tags
        last = "".join(tag for place, tag in enumerate(tags) if tag not in tags[place + 1 :])
        return Told(last, newer.event or self.event, self.forced or newer.forced)


@dataclass
class Wishes:
    """What was asked of one repo, and what the last run has covered of it."""

    made: int = 0
    covered: int = 0
    running: Job | None = None
    waits: Told = Told()
    runs: Told = Told()


def is_look_that_found_nothing(job: Job) -> bool:
    return job.trigger is Trigger.POLL and job.state is JobState.UNCHANGED and job.delivery is None


class Life(RuleBasedStateMachine):
    """Any order of wishes, claims, ends, crashes and waiting, against a count of the wishes."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.clock = Clock()
        self.store = Store(Path(self.directory) / "db", self.clock)
        self.repos = {"blog": Wishes(), "shop": Wishes()}
        self.deliveries = 0

    @rule(repo=some.sampled_from(["blog", "shop"]), force=some.booleans())
    def enqueue(self, repo: str, force: bool) -> None:
        job = self.store.enqueue(repo, Trigger.MANUAL, force=force)
        assert job.state is JobState.PENDING
        assert job.due_at <= self.clock.now
        assert job.trigger is not Trigger.ROLLBACK  # what a person wants now comes before what one wanted then
        wishes = self.repos[repo]
        wishes.made += 1
        wishes.waits = wishes.waits.then(Told(forced=force))

    @rule(repo=some.sampled_from(["blog", "shop"]))
    def look(self, repo: str) -> None:
        """A poll compares the files."""
        before = self.store.unfinished(repo, JobState.PENDING)
        job = self.store.enqueue(repo, Trigger.POLL)
        if before and before.trigger is Trigger.ROLLBACK:
            assert job == before
        self.repos[repo].made += 1

    @rule(repo=some.sampled_from(["blog", "shop"]))
    def roll_back(self, repo: str) -> None:
        before = self.store.unfinished(repo, JobState.PENDING)
        job = self.store.enqueue(repo, Trigger.ROLLBACK)
        assert (job.trigger, job.due_at) == (Trigger.ROLLBACK, self.clock.now)
        assert job.retry_of == (before and before.id)
        if before:
            after = self.store.job(before.id)
            assert after
            assert (after.state, after.reason) == (JobState.SUPERSEDED, "a rollback came")
        wishes = self.repos[repo]
        wishes.made += 1
        wishes.waits = Told()

    @rule(
        wanted=some.sets(some.sampled_from(["blog", "shop"])),
        tags=some.text("abc", max_size=3),
        event=some.sampled_from(["push", "package", ""]),
    )
    def accept(self, wanted: set[str], tags: str, event: str) -> None:
        self.deliveries += 1
        rollbacks = [job for job in self.store.waiting() if job.trigger is Trigger.ROLLBACK and job.repo in wanted]
        matches = [
            pushed(*tags, repo=repo, event=event)._replace(force=bool(tags), reason=None if repo in wanted else "no")
            for repo in self.repos
        ]
        accepted = self.store.accept(delivery(str(self.deliveries), at=self.clock.now), matches)
        assert len(accepted.jobs) == len(wanted)
        for job in rollbacks:  # no push keeps one from being done, or changes when
            after = self.pending(job.repo)
            assert (after.id, after.trigger, after.due_at) == (job.id, job.trigger, job.due_at)
        for repo in wanted:
            wishes = self.repos[repo]
            wishes.made += 1
            wishes.waits = wishes.waits.then(Told(tags, event or None, bool(tags)))

    @precondition(lambda self: self.deliveries)
    @rule(data=some.data())
    def accept_again(self, data: some.DataObject) -> None:
        before = self.store.jobs(limit=1000)
        number = data.draw(some.integers(1, self.deliveries))
        repeated = self.store.accept(delivery(str(number), at=self.clock.now), [])
        assert repeated.decision is not Decision.ACCEPTED
        assert self.store.jobs(limit=1000) == before

    @rule(
        repo=some.sampled_from(["blog", "shop"]),
        triggers=some.sampled_from([tuple(Trigger), tuple(Trigger), (Trigger.ROLLBACK,), ()]),
    )
    def claim(self, repo: str, triggers: tuple[Trigger, ...]) -> None:
        """Under no hold, one of a rollback, or another."""
        wishes = self.repos[repo]
        if wishes.running is not None:
            return  # its lock is held
        self.clock.now += QUIET_SEC
        is_due = repo in self.store.due()
        waited = self.store.unfinished(repo, JobState.PENDING)
        orphan = next((job for job in self.store.running() if job.repo == repo), None)
        before = self.store.last_job(repo)
        job = self.store.claim(repo, interrupted, RETRY, triggers)
        trigger = waited.trigger if waited else None
        if orphan:
            ended = self.store.job(orphan.id)
            assert ended is None or ended.state is JobState.INTERRUPTED
            trigger = self.queue_again(wishes, orphan, waited)
            if waited is None or trigger is not waited.trigger:  # it waits in its own right
                is_due = orphan.interruptions == 0
        assert (job is not None) == (is_due and trigger in triggers)
        if job is None and orphan and not is_due:
            later = self.pending(repo)
            assert later.interruptions == orphan.interruptions + 1
            assert later.due_at - self.clock.now == min(
                RETRY.delay_sec * 2 ** (orphan.interruptions - 1), RETRY.max_delay_sec
            )
        if job is not None:
            assert job.trigger is trigger
            is_undone = before and before.force and before.state in (JobState.FAILED, JobState.REFUSED)
            if before and is_undone and trigger is not Trigger.ROLLBACK:  # what is left to do
                wishes.waits = Told(tags_of(before).replace(" ", ""), before.event, True).then(wishes.waits)
            assert Told(tags_of(job).replace(" ", ""), job.event, job.force) == wishes.waits
            wishes.covered, wishes.running = wishes.made, job
            wishes.runs, wishes.waits = wishes.waits, Told()

    @rule(
        repo=some.sampled_from(["blog", "shop"]),
        told=some.sampled_from(
            [outcome(), outcome(JobState.UNCHANGED), outcome(JobState.REFUSED), FAILED, UNREACHABLE, None]
        ),
    )
    def finish(self, repo: str, told: Outcome | None) -> None:
        wishes = self.repos[repo]
        if wishes.running is None:
            return
        job, wishes.running = wishes.running, None
        waited = self.store.unfinished(repo, JobState.PENDING)
        done = self.store.finish(job, told or interrupted(job), RETRY)
        if told is None or (told.retry and (told.keep_trying or job.failures + 1 < RETRY.tries)):
            trigger = self.queue_again(wishes, job, waited)
            assert (self.pending(repo).trigger, self.pending(repo).force) == (trigger, wishes.waits.forced)
            if waited is None or waited.retry_of is None:  # else it has taken over from another already
                assert self.store.successor(done) is not None

    def queue_again(self, wishes: Wishes, job: Job, waited: Job | None) -> Trigger:
        """The running job ends without a success, while `waited` is pending; the trigger of what is pending then."""
        if waited is None:
            wishes.waits = wishes.runs
            return job.trigger
        if waited.trigger is Trigger.ROLLBACK:  # it is to do nothing of what was asked for before
            return waited.trigger
        wishes.waits = wishes.runs.then(wishes.waits)
        is_lasting = job.trigger is Trigger.ROLLBACK and waited.trigger is not Trigger.MANUAL
        return job.trigger if is_lasting else waited.trigger

    @rule(repo=some.sampled_from(["blog", "shop"]))
    def crash(self, repo: str) -> None:
        """The process that ran it is gone; its record is not."""
        self.repos[repo].running = None

    @rule()
    def restart(self) -> None:
        self.store.close()

    @rule(seconds=some.sampled_from([1, 30, 100]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule(keep=some.integers(0, 5))
    def prune(self, keep: int) -> None:
        self.store.prune(Keep(jobs=keep))

    def pending(self, repo: str) -> Job:
        job = self.store.unfinished(repo, JobState.PENDING)
        assert job is not None
        return job

    @invariant()
    def one_pending_and_one_running_at_most(self) -> None:
        unfinished = [
            (job.repo, job.state)
            for job in self.store.jobs(limit=1000)
            if job.state in (JobState.PENDING, JobState.RUNNING)
        ]
        assert len(unfinished) == len(set(unfinished))

    @invariant()
    def a_wish_that_no_run_has_covered_waits(self) -> None:
        for repo, wishes in self.repos.items():
            if wishes.made > wishes.covered:
                self.pending(repo)

    @invariant()
    def what_ended_says_why(self) -> None:
        for job in self.store.jobs(limit=1000):
            if job.state in FINAL:
                assert job.reason
                assert job.finished_at is not None

    @invariant()
    def of_looks_that_found_nothing_the_last_is_kept(self) -> None:
        for repo in self.repos:
            jobs = self.store.jobs(repo, limit=1000)
            for newer, older in itertools.pairwise(jobs):
                looks = [is_look_that_found_nothing(newer), is_look_that_found_nothing(older)]
                assert not all(looks) or older.retry_of is not None

    def teardown(self) -> None:
        """Whatever happened: if syncs only run, everything comes to rest."""
        try:
            for _ in range(2):  # what was interrupted again and again waits once more
                self.clock.now += RETRY.max_delay_sec
                for repo, wishes in self.repos.items():
                    while job := self.store.claim(repo, interrupted, RETRY):
                        wishes.covered = wishes.made
                        self.store.finish(job, outcome(), RETRY)
            for wishes in self.repos.values():
                assert wishes.covered == wishes.made
            assert self.store.running() == []
            assert self.store.due() == []
            assert self.store.next_due_at(self.clock.now) is None
        finally:
            self.store.close()
            shutil.rmtree(self.directory)


def test_no_order_of_events_loses_a_wish_or_leaves_an_end_without_a_reason() -> None:
    run_state_machine_as_test(Life, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


# Work that shares a transaction


def test_whoever_comes_while_another_is_at_work_shares_the_next_transaction(path: Path, store: Store) -> None:
    base = database.Database(path)
    at_work, gate = threading.Event(), threading.Event()
    seen: list[int] = []

    def first(connection: database.Connection) -> str:
        at_work.set()
        assert gate.wait(30)
        return transaction_of(connection, "first")

    def transaction_of(connection: database.Connection, name: str) -> str:
        connection.execute("INSERT INTO notes VALUES (?, '1')", (name,))
        seen.append(connection.total_changes)
        return name

    results: list[str] = []
    leader = threading.Thread(target=lambda: results.append(base.together(first)))
    leader.start()
    assert at_work.wait(30)
    followers = [
        threading.Thread(target=lambda name=name: results.append(base.together(lambda c: transaction_of(c, name))))
        for name in ("second", "third", "fourth")
    ]
    for follower in followers:
        follower.start()
    wait_for(lambda: len(base._queue) == len(followers), "all others to wait for the one at work")
    gate.set()
    for thread in (leader, *followers):
        thread.join()

    assert sorted(results) == ["first", "fourth", "second", "third"]
    assert {row["key"] for row in base.read("SELECT key FROM notes", ())} >= {"first", "second", "third", "fourth"}
    base.close()


def test_work_that_fails_takes_no_other_work_with_it(path: Path) -> None:
    base = database.Database(path)

    def bad(connection: database.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('bad', '1')")
        raise RuntimeError("of its own")

    turns: list[database._Turn[Any]] = [
        database._Turn(bad),
        database._Turn(lambda c: c.execute("INSERT INTO notes VALUES ('good', '1')")),
    ]
    base._queue.extend(turns)
    base.together(lambda c: c.execute("INSERT INTO notes VALUES ('last', '1')"))

    with pytest.raises(RuntimeError, match="of its own"):
        turns[0].outcome()
    assert [row["key"] for row in base.read("SELECT key FROM notes ORDER BY key", ())] == ["good", "last"]
    base.close()


def test_an_error_of_the_disk_is_everybodys_and_nothing_of_it_is_there(path: Path) -> None:
    base = database.Database(path)
    turns = [
        database._Turn(lambda c: c.execute("INSERT INTO notes VALUES ('mine', '1')")),
        database._Turn(lambda c: c.execute("INSERT INTO nothing VALUES (1)")),
    ]
    base._queue.extend(turns)

    with pytest.raises(StoreError, match="nothing"):
        base.together(lambda c: c.execute("INSERT INTO notes VALUES ('last', '1')"))
    for turn in turns:
        with pytest.raises(StoreError, match="nothing"):
            turn.outcome()
    assert base.read("SELECT key FROM notes", ()) == []
    base.together(lambda c: c.execute("INSERT INTO notes VALUES ('later', '1')"))
    base.close()


def test_a_leader_that_is_ended_in_the_middle_leaves_nobody_with_nothing(path: Path) -> None:
    base = database.Database(path)
    mine: database._Turn[Any] = database._Turn(lambda c: c.execute("INSERT INTO notes VALUES ('mine', '1')"))
    base._queue.append(mine)

    def ends(_connection: database.Connection) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base.together(ends)
    with pytest.raises(StoreError, match="KeyboardInterrupt"):
        mine.outcome()
    assert base.read("SELECT key FROM notes", ()) == []
    base.close()


# What it takes


def test_a_store_that_was_flooded_gives_the_disk_back_what_it_took(path: Path, store: Store) -> None:
    base = database.Database(path)
    with base.transaction() as connection:
        connection.executemany(
            "INSERT INTO deliveries VALUES (NULL, 'default', ?, 'push', '', '', '', 'ignored', ?, 1.0)",
            ((f"{number}", "x" * 900) for number in range(40_000)),
        )
    keep = Keep(deliveries=100)
    assert store.is_overfull(keep)
    store.prune(keep)
    base.close()
    store.close()

    assert sum(each.stat().st_size for each in path.parent.iterdir()) < 1_000_000
    assert len(store.newest_deliveries(limit=1000)) == 100
    assert not store.is_overfull(keep)


def test_an_empty_store_is_not_overfull(store: Store) -> None:
    assert not store.is_overfull(Keep())
