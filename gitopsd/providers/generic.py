"""A push as a person writes one: what senders without a format of their own send."""

from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_text
from gitopsd.providers.provider import Headers, update_of


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of `{"repository": …, "ref": …, "after": …}`. Raises PayloadError.

    Without a `ref` it is a trial: nothing is asked for. Without `after` the tip is not known, which is no deletion.
    """
    repository, ref = get_text(payload, "repository", ""), get_text(payload, "ref", "")
    is_url = "://" in repository or ":" in repository
    remote = RemoteName(full_name="" if is_url else repository, urls=(repository,) if is_url else ())
    if not ref or not repository:
        return Event(kind="ping", remote=remote if repository else None, reason="no 'repository' and 'ref': a trial")
    return Event(kind="push", remote=remote, updates=(_update(payload, ref),))


def _update(payload: Payload, ref: str) -> RefUpdate:
    if payload.get("after") is None:
        return RefUpdate(ref=update_of(ref, None).ref, revision="")
    return update_of(ref, get_text(payload, "after"))
