"""Rows ↔ values."""

import json
from collections.abc import Iterable
from dataclasses import fields

from gitopsd.model import Decision, Delivery, Image, Job, JobState, Phase, Trigger
from gitopsd.store.database import Row

_MAX_IMAGES = 100
_JOB_FIELDS = tuple(field.name for field in fields(Job))


def job_of(row: Row) -> Job:
    """The job in a row of `jobs`, which may have columns that a newer gitopsd has made."""
    values = {name: row[name] for name in _JOB_FIELDS}
    values["trigger"], values["state"] = Trigger(row["trigger"]), JobState(row["state"])
    values["force"] = bool(row["force"])
    values["phases"] = tuple(Phase(name=name, at=at) for name, at in json.loads(row["phases"]))
    images = json.loads(row["images"])
    values["images"] = tuple(Image(name=name, tag=tag, digest=digest) for name, tag, digest in images)
    return Job(**values)


def images_text(images: Iterable[Image]) -> str:
    """The column `images`: each once, in the order of their last push, and the last hundred of them."""
    newest_first = dict.fromkeys(reversed([(image.name, image.tag, image.digest) for image in images]))
    return json.dumps(list(newest_first)[:_MAX_IMAGES][::-1])


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
        number=row["id"],
    )
