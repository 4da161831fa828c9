"""How a job comes to be and ends, within a transaction."""

import json
from collections.abc import Iterable

from gitopsd.model import Image, Job, JobState, Match, Outcome, Trigger
from gitopsd.store.database import Connection
from gitopsd.store.rows import JOBS, images_text, job_of


def enqueue(
    connection: Connection, match: Match, trigger: Trigger, delivery: str | None, now: float, *, force: bool = False
) -> int:
    """The id of the pending job that now stands for this wish, due at once."""
    waiting, force = pending(connection, match.repo), force or match.force
    images = (*(waiting.images if waiting else ()), *match.images)
    event = match.event or (waiting.event if waiting else None)
    if waiting and waiting.attempts == 1:
        connection.execute(
            """UPDATE jobs SET due_at = min(due_at, ?), force = max(force, ?), delivery = coalesce(?, delivery),
            ref = coalesce(?, ref), revision = coalesce(?, revision) WHERE id = ?""",
            (now, force, delivery, match.ref or None, match.revision, waiting.id),
        )
        _wish(connection, waiting.id, event, images)
        return waiting.id
    if waiting:
        # A retry of something older gives way, and with it its count of attempts and its delay.
        connection.execute(
            "UPDATE jobs SET state = 'superseded', reason = 'a newer wish came', finished_at = ? WHERE id = ?",
            (now, waiting.id),
        )
        force = force or waiting.force
    cursor = connection.execute(
        """INSERT INTO jobs (repo, trigger, state, reason, attempts, failures, interruptions, due_at, created_at,
        delivery, ref, revision, force, retry_of) VALUES (?, ?, 'pending', '', 1, 0, 0, ?, ?, ?, ?, ?, ?, ?)""",
        (
            match.repo,
            trigger,
            now,
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


def pending(connection: Connection, repo: str) -> Job | None:
    """The pending job of `repo`."""
    row = connection.execute(f"SELECT * FROM {JOBS} WHERE repo = ? AND state = 'pending'", (repo,)).fetchone()
    return job_of(row) if row else None


def take_over(connection: Connection, job: Job, before: Job | None) -> None:
    """Let `job` do what the last one with a verdict has not done: an event was its cause, and it was refused or failed.

    The revision, which that one has fetched, would not tell that anything is left to do.
    """
    if before is None or not before.force or before.state not in (JobState.FAILED, JobState.REFUSED):
        return
    connection.execute("UPDATE jobs SET force = TRUE WHERE id = ?", (job.id,))
    _wish(connection, job.id, job.event or before.event, (*before.images, *job.images))


def try_again(connection: Connection, job: Job, due_at: float, now: float) -> bool:
    """Queue the wish of `job` again. False if a newer one waits: that one fetches the newest revision anyway."""
    waiting = pending(connection, job.repo)
    if waiting:
        connection.execute(
            "UPDATE jobs SET force = max(force, ?), retry_of = coalesce(retry_of, ?) WHERE id = ?",
            (job.force, job.id, waiting.id),
        )
        _wish(connection, waiting.id, waiting.event or job.event, (*job.images, *waiting.images))
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
