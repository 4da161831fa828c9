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
from gitopsd.model import Event, Image, PathScheme, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_text
from gitopsd.providers.images import host_in, image_of
from gitopsd.providers.provider import Headers, Provider, id_in, update_of

_LIKE_A_FULL_REF = re.compile(r"\brefs/")

_EVENT = re.compile(r"[a-z][a-z0-9_-]{0,63}")

EVENTS = ("*",)
"""Whoever makes the body up means what it says."""

TRIAL = "no 'repository' and 'ref': a trial"


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of such a body. Raises PayloadError.

    One with none of what is looked for is a trial, or from a sender whose body cannot be chosen: nothing is asked for.
    With one of `repository` and `ref` the other was forgotten.
    """
    if payload.get("image") is not None:
        return Event(kind="image", images=(_image(payload),))
    repository, ref, event = get_text(payload, "repository", ""), get_text(payload, "ref", ""), payload.get("event")
    if not ref and isinstance(event, str) and _EVENT.fullmatch(event):
        return Event(kind=event, remote=remote_of(repository) if repository else None)
    if not repository and not ref:
        return Event(kind="ping", reason=TRIAL)
    if not repository:
        raise PayloadError("'repository' is missing or empty")
    if not ref:
        raise PayloadError("'ref' is missing or empty")
    return Event(kind="push", remote=remote_of(repository), updates=(_update(payload, ref),))


def remote_of(repository: str) -> RemoteName:
    """What a person calls a repository: a full name, or a URL or local path as git takes it."""
    is_url = ":" in repository or repository.startswith("/")
    return RemoteName(full_name="" if is_url else repository, urls=(repository,) if is_url else ())


def _image(payload: Payload) -> Image:
    name, tag, digest = get_text(payload, "image"), get_text(payload, "tag", ""), get_text(payload, "digest", "")
    host = host_in(name)
    repository = name.removeprefix(f"{host}/") if host else name
    return image_of(repository, tag or None, digest, host=host, keys=("image", "tag", "digest"))


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
