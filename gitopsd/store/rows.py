"""Rows → values."""

import json

from gitopsd.model import Decision, Delivery, Job, JobState, Phase, Trigger
from gitopsd.store.database import Row


def job_of(row: Row) -> Job:
    """The job in a row of `jobs`."""
    fields = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row iterates over its values
    fields["trigger"], fields["state"] = Trigger(row["trigger"]), JobState(row["state"])
    fields["force"] = bool(row["force"])
    fields["phases"] = tuple(Phase(name=name, at=at) for name, at in json.loads(row["phases"]))
    return Job(**fields)


def delivery_of(row: Row) -> Delivery:
    """The delivery in a row of `deliveries` with the `job` and the reason (`miss`) of one match."""
    return Delivery(
        receiver=row["receiver"],
        delivery_id=row["delivery_id"],
        event=row["event"],
        remote=row["remote"],
        ref=row["ref"],
        revision=row["revision"],
        decision=Decision.IGNORED if row["miss"] else Decision(row["decision"]),
        reason=row["miss"] or row["reason"],
        received_at=row["received_at"],
        jobs=() if row["job"] is None else (row["job"],),
    )
