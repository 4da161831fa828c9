"""Gerrit with its plugin `webhooks`, which sends the events of `gerrit stream-events`.

Source: gerrit-review.googlesource.com, Documentation of the plugin and "gerrit stream-events". Nothing is signed and no
header can be set, so the secret is the last part of the URL. Whatever an event has, it may lack too.
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_list, get_object, get_text
from gitopsd.providers.provider import JSON, Headers, Provider, update_of
from gitopsd.schemes import PathScheme

_TYPE = re.compile(r"[a-z][a-z0-9-]{0,63}")
_OURS = ("refs/heads/", "refs/tags/")


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what Gerrit sends, or lacks what tells a push."""
    kind = get_text(payload, "type")
    if not _TYPE.fullmatch(kind):
        raise PayloadError("'type' is not the name of an event")
    if kind == "ref-updated":
        return _push(kind, [get_object(payload, "refUpdate")])
    if kind == "batch-ref-updated":
        return _push(kind, get_list(payload, "refUpdates"))
    return Event(kind=kind)


def _push(kind: str, told: list[Payload]) -> Event:
    projects = {get_text(each, "project") for each in told}
    if len(projects) != 1:
        raise PayloadError("'project' is not one and the same for all that was updated")
    remote = RemoteName(full_name=projects.pop(), urls=())
    updates = [_update(each) for each in told]
    # Reviews and settings are refs too, and there are more updates of those than pushes.
    if ours := tuple(update for update in updates if update.ref.startswith(_OURS)):
        return Event(kind="push", remote=remote, updates=ours)
    refs = ", ".join(update.ref for update in updates)
    return Event(kind=kind, remote=remote, reason=f"neither branch nor tag, but Gerrit's own: {refs}")


def _update(told: Payload) -> RefUpdate:
    name = get_text(told, "refName")
    ref = name if name.startswith("refs/") else f"refs/heads/{name}"
    if told.get("newRev") is None:
        return update_of(ref, None)._replace(revision="")
    return update_of(ref, get_text(told, "newRev"), keys=("refName", "newRev"))


PROVIDER = Provider(
    name="gerrit",
    schemes=(PathScheme(),),
    parse=parse,
    media_types=(JSON,),
    url_label="url",
    form_at='Gerrit: [remote "gitopsd"] in webhooks.config on the branch refs/meta/config (plugin webhooks)',
    form=(("event", "ref-updated"), ("sslVerify", "true")),
)
