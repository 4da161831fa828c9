"""Bitbucket Data Center, once called Server.

Source: confluence.atlassian.com, "Event payload" and "Manage webhooks" of Bitbucket Data Center. "Test connection"
sends a ping that is commonly not signed, even where a secret is set.
"""

from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_flag, get_id, get_list, get_object, get_text
from gitopsd.providers.bitbucket import NAMES_NOTHING, event_key
from gitopsd.providers.provider import JSON, Headers, Provider, id_in, update_of
from gitopsd.schemes import BasicScheme, HmacScheme

_PING = "diagnostics:ping"
_PUSHES = ("repo:refs_changed", "mirror:repo_synchronized")
_PROOFS = ("X-HUB-SIGNATURE", "AUTHORIZATION")


def parse(headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what Bitbucket sends."""
    key = event_key(headers)
    if key == _PING:
        return Event(kind="ping")
    if key not in _PUSHES:
        return Event(kind=key, remote=_remote(payload) if payload.get("repository") else None)
    updates = tuple(_update(change) for change in get_list(payload, "changes"))
    return Event(kind="push", remote=_remote(payload), updates=updates, reason="" if updates else _why_empty(payload))


def is_unsigned_ping(headers: Headers, _body: bytes) -> bool:
    """Whether it is a ping without any proof. One with a wrong proof is to be refused: it is there to be tried out."""
    return headers.get("X-EVENT-KEY") == _PING and not any(headers.get(name) for name in _PROOFS)


def _why_empty(payload: Payload) -> str:
    if get_flag(payload, "refLimitExceeded"):
        return "the mirror moved more refs than it names; the next poll finds what it brought"
    return NAMES_NOTHING


def _remote(payload: Payload) -> RemoteName:
    repository = get_object(payload, "repository")
    full_name = f"{get_text(get_object(repository, 'project'), 'key')}/{get_text(repository, 'slug')}"
    links = get_object(repository, "links") if repository.get("links") else {}
    urls = (get_text(link, "href", "") for link in get_list(links, "clone"))
    return RemoteName(full_name=full_name, urls=tuple(url for url in urls if url), id=get_id(repository, "id"))


def _update(change: Payload) -> RefUpdate:
    ref = get_text(change, "refId", "") or get_text(get_object(change, "ref"), "id")
    deleted = get_text(change, "type", "") == "DELETE"
    return update_of(ref, get_text(change, "toHash"), deleted=deleted, keys=("refId", "toHash"))


PROVIDER = Provider(
    name="bitbucket-server",
    schemes=(HmacScheme(header="X-HUB-SIGNATURE"), BasicScheme()),
    delivery_id=id_in("X-REQUEST-ID"),
    event_header="X-EVENT-KEY",
    parse=parse,
    media_types=(JSON,),
    is_unsigned_ping=is_unsigned_ping,
    form_at="Bitbucket Data Center: the repository, Repository settings, Webhooks, Create webhook",
    form=(("Name", "gitopsd"), ("Authentication", "None; the secret is enough"), ("Events", "Repository: Push")),
)
