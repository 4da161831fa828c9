"""How a job comes to be and ends, within a transaction."""

import json
from collections.abc import Iterable

from gitopsd.model import Image, Job, JobState, Match, Outcome, Trigger
from gitopsd.store.database import Connection
from gitopsd.store.rows import JOBS, images_text, job_of

DRIFT = "drift: "
"""How the reason of a job begins that was refused because of drift: docs/engine.md."""

# A push that follows others waits until none has come for a moment, but never for long.
_QUIET_SEC, _LONGEST_STORM_SEC = 0.1, 5.0

# Nothing new, that is: drift that was found before, too.
_FOUND_NOTHING = f"""CASE WHEN trigger = 'poll' AND delivery IS NULL
    AND (state = 'unchanged' OR (state = 'refused' AND reason LIKE '{DRIFT}%')) THEN state || reason END"""


def enqueue(
    connection: Connection, match: Match, trigger: Trigger, delivery: str | None, now: float, *, force: bool = False
) -> int:
    """The id of the pending job that now stands for this wish.

    It is due at once: but with a rollback when that is, and in a storm of pushes when that is over.
    """
    waiting, force = pending(connection, match.repo), force or match.force
    # Whoever rolls back wants nothing of what was asked for before.
    before = None if trigger is Trigger.ROLLBACK else waiting
    images = (*(before.images if before else ()), *match.images)
    event = match.event or (before.event if before else None)
    if waiting and not _gives_way(waiting, trigger):
        connection.execute(
            """UPDATE jobs SET due_at = ?, force = max(force, ?), delivery = coalesce(?, delivery),
            ref = coalesce(?, ref), revision = coalesce(?, revision) WHERE id = ?""",
            (_due_with(waiting, trigger, now), force, delivery, match.ref or None, match.revision, waiting.id),
        )
        if (event, images) != (waiting.event, waiting.images):
            _wish(connection, waiting.id, event, images)
        return waiting.id
    if waiting:
        reason = "a newer wish came" if before else "a rollback came"
        connection.execute(
            "UPDATE jobs SET state = 'superseded', reason = ?, finished_at = ? WHERE id = ?", (reason, now, waiting.id)
        )
        force = force or (before is not None and before.force)
    cursor = connection.execute(
        """INSERT INTO jobs (repo, trigger, state, reason, attempts, failures, interruptions, due_at, created_at,
        delivery, ref, revision, force, retry_of) VALUES (?, ?, 'pending', '', 1, 0, 0, ?, ?, ?, ?, ?, ?, ?)""",
        (
            match.repo,
            trigger,
            now + (_QUIET_SEC if trigger is Trigger.WEBHOOK and _is_running(connection, match.repo) else 0),
            now,
            delivery,
            match.ref or None,
            match.revision,
            force,
            waiting and waiting.id,
        ),
    )
    job_id = int(cursor.lastrowid or 0)
    _wish(connection, job_id, event, images)
    return job_id


def _due_with(waiting: Job, trigger: Trigger, now: float) -> float:
    """When a pending job is due that takes a wish in."""
    if waiting.trigger is Trigger.ROLLBACK or waiting.due_at <= now:
        return waiting.due_at
    if trigger is not Trigger.WEBHOOK:
        return now
    return min(waiting.created_at + _LONGEST_STORM_SEC, now + _QUIET_SEC)


def _is_running(connection: Connection, repo: str) -> bool:
    query = "SELECT 1 FROM jobs WHERE repo = ? AND state = 'running'"
    return connection.execute(query, (repo,)).fetchone() is not None


def _gives_way(waiting: Job, trigger: Trigger) -> bool:
    """Whether what waits makes room for a wish of this trigger, and with it its count of attempts and its delay.

    Else it takes the wish in. A retry does, as it is of something older. A rollback does for a person alone: the pushes
    that come meanwhile are not to undo it.
    """
    if trigger is Trigger.ROLLBACK:
        return True
    if waiting.trigger is Trigger.ROLLBACK:
        return trigger is Trigger.MANUAL
    return waiting.attempts > 1


def pending(connection: Connection, repo: str) -> Job | None:
    """The pending job of `repo`."""
    row = connection.execute(f"SELECT * FROM {JOBS} WHERE repo = ? AND state = 'pending'", (repo,)).fetchone()
    return job_of(row) if row else None


def take_over(connection: Connection, job: Job, before: Job | None) -> None:
    """Let `job` do what the last one with a verdict has not done: an event was its cause, and it was refused or failed.

    The revision, which that one has fetched, would not tell that anything is left to do. A rollback does no such thing.
    """
    if before is None or not before.force or job.trigger is Trigger.ROLLBACK:
        return
    if before.state not in (JobState.FAILED, JobState.REFUSED):
        return
    connection.execute("UPDATE jobs SET force = TRUE WHERE id = ?", (job.id,))
    _wish(connection, job.id, job.event or before.event, (*before.images, *job.images))


def try_again(connection: Connection, job: Job, due_at: float, now: float) -> bool:
    """Queue the wish of `job` again. False if a newer one waits: that one fetches the newest revision anyway.

    What has come while a rollback ran is no newer one: it is taken in by that rollback, which waits for its next try.
    """
    waiting = pending(connection, job.repo)
    if waiting and job.trigger is Trigger.ROLLBACK and not _gives_way(job, waiting.trigger):
        connection.execute(
            """UPDATE jobs SET trigger = ?, attempts = ?, failures = ?, interruptions = ?, due_at = ? WHERE id = ?""",
            (job.trigger, job.attempts, job.failures, job.interruptions, due_at, waiting.id),
        )
        _take_in(connection, waiting, job)
        return True
    if waiting:
        _take_in(connection, waiting, job)
        return False
    cursor = connection.execute(
        """INSERT INTO jobs (repo, trigger, state, reason, attempts, failures, interruptions, due_at, created_at,
        delivery, ref, revision, force, retry_of) VALUES (?, ?, 'pending', '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            job.repo,
            job.trigger,
            job.attempts,
            job.failures,
            job.interruptions,
            due_at,
            now,
            job.delivery,
            job.ref,
            job.revision,
            job.force,
            job.id,
        ),
    )
    _wish(connection, int(cursor.lastrowid or 0), job.event, job.images)
    return True


def _take_in(connection: Connection, waiting: Job, job: Job) -> None:
    """Let `waiting` do what `job` has not come to; but a rollback does nothing of what was asked for before it."""
    is_newer_rollback = waiting.trigger is Trigger.ROLLBACK
    connection.execute(
        "UPDATE jobs SET force = max(force, ?), retry_of = coalesce(retry_of, ?) WHERE id = ?",
        (job.force and not is_newer_rollback, job.id, waiting.id),
    )
    if not is_newer_rollback:
        _wish(connection, waiting.id, waiting.event or job.event, (*job.images, *waiting.images))


def _wish(connection: Connection, job_id: int, event: str | None, images: Iterable[Image]) -> None:
    """Record what the last event was that asked for a job, and the images that it is for."""
    text = images_text(images)
    if event or text != "[]":
        connection.execute("INSERT OR REPLACE INTO wishes VALUES (?, ?, ?)", (job_id, event, text))


def end(connection: Connection, job: Job, outcome: Outcome, now: float) -> None:
    """Record how a running job ended."""
    connection.execute(
        """UPDATE jobs SET state = ?, reason = ?, finished_at = ?, old_revision = ?, new_revision = ?,
        exit_code = ?, phases = ? WHERE id = ? AND state = 'running'""",
        (
            outcome.state,
            outcome.reason,
            now,
            outcome.old_revision,
            outcome.new_revision,
            outcome.exit_code,
            json.dumps([[phase.name, phase.at] for phase in outcome.phases]),
            job.id,
        ),
    )


def forget_look_before(connection: Connection, job: Job) -> None:
    """If `job` and the one before it are polls' looks that found the same nothing, delete the record of that one.

    Else they alone would be the history of a repo whose files each poll compares.
    """
    rows = connection.execute(
        f"""SELECT id, retry_of, {_FOUND_NOTHING} AS found_nothing FROM jobs WHERE repo = ? AND id <= ?
        ORDER BY id DESC LIMIT 2""",
        (job.repo, job.id),
    ).fetchall()
    is_same = len(rows) > 1 and rows[0]["found_nothing"] == rows[1]["found_nothing"] is not None
    if is_same and rows[1]["retry_of"] is None:
        connection.execute("DELETE FROM jobs WHERE id = ?", (rows[1]["id"],))
