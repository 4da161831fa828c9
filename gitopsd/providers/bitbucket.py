"""Bitbucket Cloud.

Source: support.atlassian.com, "Event payloads" and "Manage webhooks". Beware of the header: it has no -256 in its name,
and the digest is SHA-256 all the same.
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_flag, get_id, get_list, get_object, get_text
from gitopsd.providers.provider import JSON, Headers, Provider, id_in, update_of
from gitopsd.schemes import HmacScheme

_EVENT_KEY = re.compile(r"[a-z_]{1,32}(:[a-z_]{1,32}){1,3}")
_NAMESPACES = {"branch": "refs/heads/", "tag": "refs/tags/", "annotated_tag": "refs/tags/"}


def parse(headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what Bitbucket sends."""
    key = event_key(headers)
    if key != "repo:push":
        return Event(kind=key, remote=_remote(payload) if payload.get("repository") else None)
    updates = tuple(_update(change) for change in get_list(get_object(payload, "push"), "changes"))
    return Event(kind="push", remote=_remote(payload), updates=updates, reason="" if updates else NAMES_NOTHING)


NAMES_NOTHING = "the push names no branch and no tag"
"""The list of what has changed may be empty; a poll finds what it was."""


def event_key(headers: Headers) -> str:
    """What the delivery is about; Cloud and Data Center tell it in the same way. Raises PayloadError."""
    key = headers.get("X-EVENT-KEY", "")
    if not _EVENT_KEY.fullmatch(key):
        raise PayloadError("header X-Event-Key is missing or not an event key")
    return key


def _remote(payload: Payload) -> RemoteName:
    """There is no URL to clone from; the page of the repository has the same path."""
    repository = get_object(payload, "repository")
    links = get_object(repository, "links") if repository.get("links") else {}
    page = get_text(get_object(links, "html"), "href", "") if links.get("html") else ""
    urls = (page,) if page else ()
    return RemoteName(full_name=get_text(repository, "full_name"), urls=urls, id=get_id(repository, "uuid"))


def _update(change: Payload) -> RefUpdate:
    """A deletion has no state afterwards, so the one before says what it was."""
    is_gone = change.get("new") is None
    state = get_object(change, "old" if is_gone else "new")
    ref = f"{_namespace(state)}{get_text(state, 'name')}"
    revision = None if is_gone else get_text(get_object(state, "target"), "hash")
    deleted, forced = get_flag(change, "closed"), get_flag(change, "forced")
    return update_of(ref, revision, deleted=deleted, forced=forced, keys=("name", "hash"))


def _namespace(state: Payload) -> str:
    found = _NAMESPACES.get(get_text(state, "type"))
    if found is None:
        raise PayloadError("'type' is neither branch nor tag")
    return found


PROVIDER = Provider(
    name="bitbucket",
    schemes=(HmacScheme(header="X-HUB-SIGNATURE"),),
    delivery_id=id_in("X-REQUEST-UUID"),
    event_header="X-EVENT-KEY",
    hook_header="X-HOOK-UUID",
    parse=parse,
    media_types=(JSON,),
    form_at="Bitbucket: the repository, Repository settings, Webhooks, Add webhook",
    form=(("Title", "gitopsd"), ("Status", "Active"), ("Triggers", "Repository push")),
)
