"""Rows ↔ values. Another user may have written the file, so what is no such value raises StoreError."""

import json
from collections.abc import Iterable
from dataclasses import fields

from gitopsd.errors import StoreError
from gitopsd.model import Decision, Delivery, Image, Job, JobState, Phase, Trigger
from gitopsd.store.database import Row

JOBS = "(SELECT jobs.*, wishes.event, wishes.images FROM jobs LEFT JOIN wishes ON wishes.job = jobs.id)"
"""What a job is read from."""

_MAX_IMAGES = 100
_JOB_FIELDS = tuple(field.name for field in fields(Job))
_WHOLE = ("id", "attempts", "failures", "interruptions", "force")
_TEXTS = ("repo", "reason", "delivery", "ref", "revision", "event", "old_revision", "new_revision")
_NUMBERS = ("due_at", "created_at")


def job_of(row: Row) -> Job:
    """The job in a row of JOBS. Raises StoreError."""
    values = {name: row[name] for name in _JOB_FIELDS}
    try:
        is_whole = all(isinstance(row[name], int) for name in _WHOLE)
        if not is_whole or not all(isinstance(row[name] or "", str) for name in _TEXTS) or not row["repo"]:
            raise TypeError
        values |= {name: float(row[name]) for name in _NUMBERS}
        values["trigger"], values["state"] = Trigger(row["trigger"]), JobState(row["state"])
        values["force"] = bool(row["force"])
        values["phases"] = tuple(Phase(name=str(name), at=float(at)) for name, at in json.loads(row["phases"]))
        values["images"] = _images_in(row["images"] or "[]")
        return Job(**values)
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError("the store holds a job that is none; see who else writes it, and move it away") from error


def _images_in(text: str) -> tuple[Image, ...]:
    told = [[str(part) for part in parts] for parts in json.loads(text)]
    return tuple(Image(name=name, tag=tag, digest=digest) for name, tag, digest in told)


def images_text(images: Iterable[Image]) -> str:
    """The column `images`: each once, in the order of their last push, and the last hundred of them."""
    newest_first = dict.fromkeys(reversed([(image.name, image.tag, image.digest) for image in images]))
    return json.dumps(list(newest_first)[:_MAX_IMAGES][::-1])


def delivery_of(row: Row) -> Delivery:
    """The delivery in a row of `deliveries` with the `job` and the reason (`miss`) of one match. Raises StoreError."""
    try:
        return Delivery(
            receiver=row["receiver"],
            delivery_id=row["delivery_id"],
            event=row["event"],
            remote=row["remote"],
            ref=row["ref"],
            revision=row["revision"],
            decision=Decision.IGNORED if row["miss"] else Decision(row["decision"]),
            reason=row["miss"] or row["reason"],
            received_at=float(row["received_at"]),
            jobs=() if row["job"] is None else (row["job"],),
            number=row["id"],
        )
    except (ValueError, TypeError) as error:
        raise StoreError("the store holds a delivery that is none; see who else writes it, and move it away") from error
