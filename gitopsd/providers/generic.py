"""Anything that can do no more than call a URL: the secret is the last part of the path.

The body is ours to define, for this provider, generic-hmac, generic-token and standard-webhooks alike:
`{"repository": "me/blog", "ref": "refs/heads/main", "after": "<commit id>"}`. `repository` is a full name, a URL of any
form that git takes, or a local path. `ref` is a full ref; one without `refs/` is a branch, as that is what a person
writes by hand. `after` may be left out: the tip is not known then, which is no deletion; zeros are one.

An image that was pushed is `{"image": "ghcr.io/me/blog", "tag": "v1", "digest": "sha256:…"}`, the last two if they are
known, and anything else `{"event": "purge"}`, which is for the repos that the receiver names.
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Event, Image, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_text
from gitopsd.providers.images import image_of
from gitopsd.providers.provider import Headers, Provider, id_in, update_of
from gitopsd.references import host_in
from gitopsd.schemes import PathScheme

_LIKE_A_FULL_REF = re.compile(r"\brefs/")

_EVENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")

EVENTS = ("*",)
"""Whoever makes the body up means what it says."""

TRIAL = "a trial: the webhook works"

_TRIALS = ("ping", "test")


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of such a body. Raises PayloadError.

    An empty one, or the event "ping" or "test", is a trial. With one of `repository` and `ref` the other was forgotten.
    """
    repository, ref, event = get_text(payload, "repository", ""), get_text(payload, "ref", ""), payload.get("event")
    if repository and ref:
        return Event(kind="push", remote=remote_of(repository), updates=(_update(payload, ref),))
    if ref:
        raise PayloadError("'repository' is missing or empty")
    if payload.get("image") is not None:
        return Event(kind="image", images=(_image(payload),))
    if not payload or event in _TRIALS:
        return Event(kind="ping", reason=TRIAL)
    if event is not None:
        return Event(kind=_word(payload), remote=remote_of(repository) if repository else None)
    if repository:
        raise PayloadError("'ref' is missing or empty")
    raise PayloadError("there is no 'repository' with 'ref', no 'image' and no 'event' in it")


def _word(payload: Payload) -> str:
    event = get_text(payload, "event")
    if not _EVENT.fullmatch(event):
        raise PayloadError("'event' is no word of letters, digits and _ . : - (at most 64 of them)")
    return event


def remote_of(repository: str) -> RemoteName:
    """What a person calls a repository: a full name, or a URL or local path as git takes it."""
    is_url = ":" in repository or repository.startswith("/")
    return RemoteName(full_name="" if is_url else repository, urls=(repository,) if is_url else ())


def _image(payload: Payload) -> Image:
    """Tag and digest may stand in the name, too, as a person writes a reference: `me/blog:v1@sha256:…`."""
    name, at, digest = get_text(payload, "image").partition("@")
    host = host_in(name)
    repository, colon, tag = (name.removeprefix(f"{host}/") if host else name).partition(":")
    tag = tag if colon else get_text(payload, "tag", "")
    digest = digest if at else get_text(payload, "digest", "")
    return image_of(repository, tag if colon else tag or None, digest, host=host, keys=("image", "tag", "digest"))


def _update(payload: Payload, ref: str) -> RefUpdate:
    full_ref = ref if _LIKE_A_FULL_REF.search(ref) else f"refs/heads/{ref}"
    if payload.get("after") is None:
        return RefUpdate(ref=update_of(full_ref, None).ref, revision="")
    return update_of(full_ref, get_text(payload, "after"))


PROVIDER = Provider(
    name="generic",
    schemes=(PathScheme(),),
    delivery_id=id_in("X-DELIVERY-ID"),
    events=EVENTS,
    parse=parse,
    form_at="your sender",
    form=(
        ("Content type", "application/json"),
        ("Body", '{"repository": "me/blog", "ref": "refs/heads/main"}'),
    ),
)
