"""Rows ↔ values. Another user may have written the file, so what is no such value raises StoreError."""

import json
from collections.abc import Iterable
from typing import Any

from gitopsd.errors import StoreError
from gitopsd.model import Decision, Delivery, Image, Job, JobState, Phase, Trigger
from gitopsd.store.database import Row

_MAX_IMAGES = 100
_JOB_FIELDS = Job._fields

JOBS = f"(SELECT {', '.join(_JOB_FIELDS)} FROM jobs LEFT JOIN wishes ON wishes.job = jobs.id)"
"""What a job is read from: the columns of a row are the fields of a Job."""

_WHOLE = ("id", "attempts", "failures", "interruptions", "force")
_TEXTS = ("repo", "reason", "delivery", "ref", "revision", "event", "old_revision", "new_revision")
_NOTHING = "[]"


def job_of(row: Row) -> Job:
    """The job in a row of JOBS. Raises StoreError."""
    values: dict[str, Any] = dict(zip(_JOB_FIELDS, row, strict=True))  # to ask a Row for a name takes longer
    try:
        is_whole = all(isinstance(values[name], int) for name in _WHOLE)
        if not is_whole or not all(isinstance(values[name] or "", str) for name in _TEXTS) or not values["repo"]:
            raise TypeError
        values["due_at"], values["created_at"] = float(values["due_at"]), float(values["created_at"])
        values["trigger"], values["state"] = Trigger(values["trigger"]), JobState(values["state"])
        values["force"] = bool(values["force"])
        values["phases"] = _phases_in(values["phases"])
        values["images"] = _images_in(values["images"] or _NOTHING)
        return Job(**values)
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError("the store holds a job that is none; see who else writes it, and move it away") from error


def _phases_in(text: str) -> tuple[Phase, ...]:
    told = [] if text == _NOTHING else json.loads(text)
    return tuple(Phase(name=str(name), at=float(at)) for name, at in told)


def _images_in(text: str) -> tuple[Image, ...]:
    if text == _NOTHING:
        return ()
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
