"""What a provider is: data and two pure functions."""

import base64
import re
import secrets
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_id, get_text
from gitopsd.schemes import Scheme

Headers = Mapping[str, str]
"""Header names in upper case, as the receiver gets them."""

JSON, FORM = "application/json", "application/x-www-form-urlencoded"

_SECRET_BYTES = 32
_EVENT_NAME = re.compile(r"[a-z_]{1,64}")
_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def random_secret() -> str:
    """A secret of 256 bits, in hex."""
    return secrets.token_hex(_SECRET_BYTES)


def login() -> str:
    """A user and a password of 256 bits, as Basic authentication wants them."""
    return f"gitopsd:{random_secret()}"


def signing_key() -> str:
    """A secret of 256 bits in the form of Standard Webhooks."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def no_id(_headers: Headers, _payload: Payload) -> str:
    """For a sender that gives its deliveries no id of their own."""
    return ""


def never(_headers: Headers, _body: bytes) -> bool:
    """For a sender that signs everything."""
    return False


def id_in(header: str) -> Callable[[Headers, Payload], str]:
    """For a sender that names its deliveries in a header."""
    return lambda headers, _payload: headers.get(header, "")


def event_in(headers: Headers, header: str) -> str:
    """The name of the event in `header`, as its sender spells that. Raises PayloadError."""
    kind = headers.get(header.upper(), "")
    if not _EVENT_NAME.fullmatch(kind):
        raise PayloadError(f"header {header} is missing or not an event name")
    return kind


def remote_in(repository: Payload, name_key: str, url_keys: tuple[str, ...]) -> RemoteName:
    """What a payload's `repository` calls itself. Raises PayloadError if its name is missing; URLs and id may be."""
    urls = (get_text(repository, key, "") for key in url_keys)
    return RemoteName(
        full_name=get_text(repository, name_key),
        urls=tuple(dict.fromkeys(url for url in urls if url)),
        id=get_id(repository, "id"),
    )


def update_of(
    ref: str,
    revision: str | None,
    *,
    forced: bool = False,
    deleted: bool = False,
    before: str = "",
    files: tuple[str, ...] | None = None,
    keys: tuple[str, str] = ("ref", "after"),
) -> RefUpdate:
    """What became of a full ref: None as well as zeros for a revision is a deletion.

    `before`, where it stood, is "" if it is no revision or zeros. `keys` are what the payload calls the other two.
    Raises PayloadError if one of these is malformed.
    """
    if not ref.startswith("refs/"):
        raise PayloadError(f"'{keys[0]}' is not a full ref")
    if revision is not None and not _REVISION.fullmatch(revision):
        raise PayloadError(f"'{keys[1]}' is not a revision")
    gone = deleted or not (revision or "").strip("0")
    was = before if _REVISION.fullmatch(before) and before.strip("0") else ""
    return RefUpdate(ref=ref, revision=None if gone else revision, forced=forced, before=was, files=files)


class Provider(NamedTuple):
    """Who sends, and how. Header names are in upper case.

    `schemes`: the ways in which a delivery may prove itself, one of which is enough. `parse` raises PayloadError for
    what this provider never sends. `delivery_id` is "" where there is none;
    `hook_header` is where the sender names its webhook. With `own_header` the sender can be told
    which header to use, and `header` in the configuration names it. `is_unsigned_ping` knows a trial that cannot be
    signed: it is answered, and nothing else.

    `form_at` and `form` are what a person finds there to set a webhook up: where it is, and its fields but for the URL
    and the secret, which are called `url_label` and `secret_label` there. `make_secret` makes one that fits; None where
    the sender does.
    """

    name: str
    schemes: tuple[Scheme, ...]
    parse: Callable[[Headers, Payload], Event]
    form_at: str
    form: tuple[tuple[str, str], ...]
    url_label: str = "URL"
    secret_label: str = "Secret"  # noqa: S105 - what a form calls it
    make_secret: Callable[[], str] | None = random_secret
    delivery_id: Callable[[Headers, Payload], str] = no_id
    event_header: str = ""
    events: tuple[str, ...] = ()
    hook_header: str = ""
    media_types: tuple[str, ...] = (JSON, FORM)
    own_header: bool = False
    is_unsigned_ping: Callable[[Headers, bytes], bool] = never
