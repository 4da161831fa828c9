"""Typed reading of JSON that a stranger wrote; every error names the attribute."""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qs

from gitopsd.errors import PayloadError

Payload = Mapping[str, Any]

_MAX_PARTS = 1_000_000
_MAX_TEXT = 4096
_MAX_ID = 10**100
_ID = re.compile(r"[!-~]{1,100}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def decode(body: bytes, content_type: str) -> Payload:
    """The JSON object in `body`, or in the form field `payload` of a form body.

    Raises PayloadError for anything that is not one JSON object in UTF-8.
    """
    text = text_of(body, content_type)
    if sum(map(text.count, "[{,")) > _MAX_PARTS:  # each of which takes up to thirty times its own length in memory
        raise PayloadError(f"body has more than {_MAX_PARTS} parts")
    try:
        payload = json.loads(text, parse_constant=_reject_constant)
    except RecursionError as error:
        raise PayloadError("body is nested too deeply") from error
    except ValueError as error:  # not JSON, a number of more digits than Python reads
        raise PayloadError("body is not JSON in UTF-8") from error
    if not isinstance(payload, dict):
        raise PayloadError("body is not a JSON object")
    return payload


def text_of(body: bytes, content_type: str) -> str:
    """The JSON text in `body`, or in the form field `payload` of a form body. Raises PayloadError."""
    try:
        text = body.decode("utf-8")
        return _form_field(text) if content_type == "application/x-www-form-urlencoded" else text
    except ValueError as error:  # not UTF-8, too many fields
        raise PayloadError("body is not JSON in UTF-8") from error


def get_object(payload: Payload, key: str) -> Payload:
    """The object under `key`. Raises PayloadError if there is none."""
    value = payload.get(key)
    return value if isinstance(value, dict) else _wrong(key, "an object")


def get_text(payload: Payload, key: str, default: str | None = None) -> str:
    """The text under `key`; `default` if it is absent or null. Raises PayloadError if it is anything else.

    Text has no control character and no lone surrogate, and is at most 4,096 characters: it goes into the store, the
    journal and onto terminals.
    """
    value = payload.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        _wrong(key, "a text")
    if len(value) > _MAX_TEXT or _CONTROL.search(value):
        _wrong(key, "a text of at most 4096 characters without control characters")
    return value


def get_id(payload: Payload, key: str) -> str:
    """The number or short text under `key`, as a text; "" for anything else: an id is never needed."""
    value = payload.get(key)
    is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_ID
    text = str(value) if is_number else value
    return text if isinstance(text, str) and _ID.fullmatch(text) else ""


def get_list(payload: Payload, key: str) -> list[Payload]:
    """The list of objects under `key`; an empty one if it is absent or null. Raises PayloadError for anything else."""
    value = payload.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        _wrong(key, "a list of objects")
    return value


def get_flag(payload: Payload, key: str) -> bool:
    """The boolean under `key`; False if it is absent or null. Raises PayloadError if it is anything else."""
    value = payload.get(key)
    if value is None:
        return False
    return value if isinstance(value, bool) else _wrong(key, "true or false")


def _form_field(text: str) -> str:
    fields = parse_qs(text, keep_blank_values=True, strict_parsing=True, max_num_fields=100, errors="strict")
    found = fields.get("payload", [])
    if len(found) != 1:
        raise PayloadError("form body does not have exactly one field 'payload'")
    return found[0]


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _wrong(key: str, wanted: str) -> NoReturn:
    raise PayloadError(f"'{key}' is not {wanted}")
