"""What one process has to say to another: the keys of the notes, and what is looked for under each."""

import json
from types import EllipsisType
from typing import Any

STATUS_NOTE = "daemon"
"""The note of the daemon for `gitopsd status`: a list of lines on what it found closed or broken."""

CONFIG_NOTE = "configuration"
"""What the daemon goes by: {digest, at}, as `config.digest` has it, and since when."""

POLL_NOTE = "poll"
"""What the last poll could not ask: {at, problems: {repo: why}}."""

REFUSED_NOTE = "refused by "
"""Followed by a receiver's name: when and why it refused deliveries, as {webhook: {at, reason}}.

`webhook` is what its sender calls it, or "". It is taken out once a delivery of that webhook was in order.
"""

UNKNOWN_RECEIVER = "(unknown)"
"""What the receiver of a delivery is called where there is none of that name."""

REJECTED_NOTE = "rejected by "
"""Followed by a receiver's name: the last attempt that was refused, as {at, reason}, whatever came after it."""

REMOTES_NOTE = "remotes of "
"""Followed by a receiver's name: what its provider calls the remotes, as {repo: {url, id, name, urls, renamed}}.

`url` is what the configuration called it then, as `remotes.normalise_url` has it; `renamed`: it was known by its id.
"""

PROOF_NOTE = "proven by "
"""Followed by a receiver's name: when each repo last signed with each secret, as {secret: {repo: at}}."""

TOLD_NOTE = "told of "
"""Followed by a repo's name: what people were told of it.

{job, bad, passed_over} is `notify.news.Told`. The message of a `kind` `about` a job is on its way to the targets in
`owed`: {target: how often it was tried}.
"""

STATUSES_NOTE = "statuses of "
"""Followed by a repo's name: what its forge was told, as {job, passed_over, told, owed}.

`told` is {revision: state}, the last one at the end; `owed` what it has not taken, {revision: {state, text, tries}}.
"""

UNTOLD_NOTE = "untold"
"""What of that failed the last time that it was tried: {what: {at, reason}}, as `notification by ntfy-url`."""

_Shape = type | tuple[type, ...] | list["_Shape"] | dict[str | EllipsisType, "_Shape"]
_TIME = (int, float)
_REFUSAL: _Shape = {"at": _TIME, "reason": str}
_SHAPES: dict[str, _Shape] = {
    STATUS_NOTE: [str],
    CONFIG_NOTE: {"digest": str, "at": _TIME},
    POLL_NOTE: {"at": _TIME, "problems": {...: str}},
    REFUSED_NOTE: {...: _REFUSAL},
    REJECTED_NOTE: _REFUSAL,
    REMOTES_NOTE: {...: {"url": str, "id": str, "name": str, "urls": [str], "renamed": bool}},
    PROOF_NOTE: {...: {...: _TIME}},
    TOLD_NOTE: {
        "job": int,
        "bad": bool,
        "passed_over": int,
        "kind": str,
        "about": int,
        "owed": {...: int},
    },
    STATUSES_NOTE: {
        "job": int,
        "passed_over": int,
        "told": {...: str},
        "owed": {...: {"state": str, "text": str, "tries": int}},
    },
    UNTOLD_NOTE: {...: _REFUSAL},
}


def value_of(key: str, text: str) -> Any:
    """What a note says; None if that is not what is written under its key: another user may have written it."""
    try:
        value, shapes = json.loads(text), [shape for start, shape in _SHAPES.items() if key.startswith(start)]
        return value if all(_fits(value, shape) for shape in shapes) else None
    except (ValueError, RecursionError):
        return None


def _fits(value: Any, shape: _Shape) -> bool:
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(each, shape[0]) for each in value)
    if isinstance(shape, dict) and ... in shape:
        return isinstance(value, dict) and all(_fits(each, shape[...]) for each in value.values())
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(_fits(value.get(str(key)), each) for key, each in shape.items())
    return isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
