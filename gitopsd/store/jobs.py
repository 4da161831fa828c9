"""How a job comes to be and ends, within a transaction."""

import json

from gitopsd.model import Job, Match, Outcome, Trigger
from gitopsd.store.database import Connection, Row
from gitopsd.store.rows import images_text, job_of


def enqueue(
    connection: Connection, match: Match, trigger: Trigger, delivery: str | None, now: float, *, force: bool = False
) -> int:
    """The id of the pending job that now stands for this wish, due at once."""
    waiting = connection.execute("SELECT * FROM jobs WHERE repo = ? AND state = 'pending'", (match.repo,)).fetchone()
    force = force or match.force
    if waiting is not None and waiting["attempts"] == 1:
        connection.execute(
            """UPDATE jobs SET due_at = min(due_at, ?), force = max(force, ?), delivery = coalesce(?, delivery),
            ref = coalesce(?, ref), revision = coalesce(?, revision), event = coalesce(?, event), images = ?
            WHERE id = ?""",
            (
                now,
                force,
                delivery,
                match.ref or None,
                match.revision,
                match.event or None,
                _images(waiting, match),
                waiting["id"],
            ),
        )
        return int(waiting["id"])
    if waiting is not None:
        # A retry of something older gives way, and with it its count of attempts and its delay.
        connection.execute(
            "UPDATE jobs SET state = 'superseded', reason = 'a newer wish came', finished_at = ? WHERE id = ?",
            (now, waiting["id"]),
        )
        force = force or bool(waiting["force"])
    cursor = connection.execute(
        """INSERT INTO jobs (repo, trigger, state, reason, attempts, failures, interruptions, due_at, created_at,
        delivery, ref, revision, event, images, force, retry_of)
        VALUES (?, ?, 'pending', '', 1, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            match.repo,
            trigger,
            now,
            now,
            delivery,
            match.ref or None,
            match.revision,
            match.event or (waiting and waiting["event"]),
            _images(waiting, match),
            force,
            waiting and waiting["id"],
        ),
    )
    return int(cursor.lastrowid or 0)


def try_again(connection: Connection, job: Job, due_at: float, now: float) -> bool:
    """Queue the wish of `job` again. False if a newer one waits: that one fetches the newest revision anyway."""
    waiting = connection.execute("SELECT * FROM jobs WHERE repo = ? AND state = 'pending'", (job.repo,)).fetchone()
    if waiting is not None:
        images = images_text((*job.images, *job_of(waiting).images))
        connection.execute(
            """UPDATE jobs SET force = max(force, ?), retry_of = coalesce(retry_of, ?), event = coalesce(event, ?),
            images = ? WHERE id = ?""",
            (job.force, job.id, job.event, images, waiting["id"]),
        )
        return False
    connection.execute(
        """INSERT INTO jobs (repo, trigger, state, reason, attempts, failures, interruptions, due_at, created_at,
        delivery, ref, revision, event, images, force, retry_of)
        VALUES (?, ?, 'pending', '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
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
            job.event,
            images_text(job.images),
            job.force,
            job.id,
        ),
    )
    return True


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


def _images(waiting: Row | None, match: Match) -> str:
    """Those of the job that waits, which nobody has deployed yet, and the new ones."""
    return images_text((*(job_of(waiting).images if waiting is not None else ()), *match.images))
