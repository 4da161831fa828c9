"""Deliveries and what each of them was about, within a transaction."""

from collections.abc import Sequence

from gitopsd.model import Delivery, Match
from gitopsd.store.database import Connection


def seen(connection: Connection, delivery: Delivery, since: float) -> list[tuple[Match, int | None]]:
    """What the first delivery of this id led to, and as which job; empty if none was accepted after `since`."""
    rows = connection.execute(
        """SELECT m.repo, m.job, m.reason FROM matches m WHERE m.delivery = (
        SELECT max(id) FROM deliveries WHERE receiver = ? AND delivery_id = ? AND decision = 'accepted'
        AND received_at > ?)""",
        (delivery.receiver, delivery.delivery_id, since),
    ).fetchall()
    return [(Match(repo=row["repo"], ref="", revision=None, reason=row["reason"]), row["job"]) for row in rows]


def insert(connection: Connection, delivery: Delivery, matches: Sequence[tuple[Match, int | None]]) -> None:
    """Record a delivery, and for each repo that it was about the job that it led to."""
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
            delivery.reason,
            delivery.received_at,
        ),
    )
    connection.executemany(
        "INSERT INTO matches (delivery, repo, job, reason) VALUES (?, ?, ?, ?)",
        [(cursor.lastrowid, match.repo, job, match.reason) for match, job in matches],
    )
