"""Deliveries, what each of them was about, and the bodies of the last ones: SQL within a transaction or for a read."""

from collections.abc import Sequence

from gitopsd.model import Body, Delivery, Match
from gitopsd.store.database import Connection

# Of a repo (or, without one, of none: but those are pushes only), with what it had to do with that repo.
OF_REPO = """SELECT d.*, m.job AS job, m.reason AS miss FROM deliveries d JOIN matches m ON m.delivery = d.id
    WHERE m.repo = ? ORDER BY d.id DESC LIMIT ?"""
OF_NOBODY = """SELECT d.*, NULL AS job, NULL AS miss FROM deliveries d LEFT JOIN matches m ON m.delivery = d.id
    WHERE m.delivery IS NULL AND d.ref != '' AND d.event != 'ping' ORDER BY d.id DESC LIMIT ?"""
# Each as a whole, with all its jobs.
NEWEST = """SELECT d.*, NULL AS job, NULL AS miss,
    (SELECT group_concat(job) FROM matches WHERE delivery = d.id AND job IS NOT NULL) AS jobs
    FROM deliveries d WHERE (?1 IS NULL OR d.receiver = ?1) ORDER BY d.id DESC LIMIT ?2"""
ONE = """SELECT d.*, NULL AS job, NULL AS miss,
    (SELECT group_concat(job) FROM matches WHERE delivery = d.id AND job IS NOT NULL) AS jobs
    FROM deliveries d WHERE d.id = ?1 OR d.delivery_id = ?2
    ORDER BY d.id = ?1 DESC, d.decision = 'duplicate', d.id DESC LIMIT 1"""
# Where a push came from that led to this revision, if everybody left it out who ever told of a push of this repo.
SKIPPED_FROM = """SELECT s.skipped_from FROM skips s WHERE s.repo = ?1 AND s.revision = ?2 AND NOT EXISTS (
    SELECT 1 FROM matches m JOIN deliveries d ON d.id = m.delivery
    WHERE m.repo = ?1 AND d.ref != '' AND d.receiver NOT IN (
        SELECT t.receiver FROM skips o JOIN deliveries t ON t.id = o.delivery WHERE o.repo = ?1 AND o.revision = ?2
    )) LIMIT 1"""
_MAX_REASON = 1000


def seen(connection: Connection, delivery: Delivery, since: float) -> list[tuple[Match, int | None]]:
    """What the first delivery of this id led to, and as which job; empty if none was accepted after `since`."""
    rows = connection.execute(
        """SELECT m.repo, m.job, m.reason FROM matches m WHERE m.delivery = (
        SELECT max(id) FROM deliveries WHERE receiver = ? AND delivery_id = ? AND decision = 'accepted'
        AND received_at > ?)""",
        (delivery.receiver, delivery.delivery_id, since),
    ).fetchall()
    return [(Match(repo=row["repo"], ref="", revision=None, reason=row["reason"]), row["job"]) for row in rows]


def insert(connection: Connection, delivery: Delivery, matches: Sequence[tuple[Match, int | None]]) -> int:
    """Record a delivery, and for each repo that it was about the job that it led to. Its number."""
    cursor = connection.execute(
        """INSERT INTO deliveries
        (receiver, delivery_id, event, remote, ref, revision, decision, reason, received_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            delivery.receiver,
            delivery.delivery_id,
            delivery.event,
            delivery.remote,
            delivery.ref,
            delivery.revision,
            delivery.decision,
            delivery.reason[:_MAX_REASON],
            delivery.received_at,
        ),
    )
    number = int(cursor.lastrowid or 0)
    for match, job in matches:
        connection.execute(
            "INSERT INTO matches (delivery, repo, job, reason) VALUES (?, ?, ?, ?)",
            (number, match.repo, job, match.reason and match.reason[:_MAX_REASON]),
        )
        if match.skipped_from:
            connection.execute(
                "INSERT INTO skips (delivery, repo, revision, skipped_from) VALUES (?, ?, ?, ?)",
                (number, match.repo, match.revision, match.skipped_from),
            )
    return number


def insert_body(connection: Connection, number: int, body: Body, keep: int) -> None:
    """Keep the body of a delivery, and of all the last `keep` ones."""
    connection.execute(
        "INSERT INTO bodies (delivery, event_header, text) VALUES (?, ?, ?)", (number, body.event_header, body.text)
    )
    prune_bodies(connection, keep)


def prune_bodies(connection: Connection, keep: int) -> None:
    """Forget all bodies but the last `keep` ones."""
    connection.execute("DELETE FROM bodies WHERE id <= (SELECT max(id) FROM bodies) - ?", (keep,))
