"""sourcehut: git.sr.ht, or an instance of one's own.

Source: man.sr.ht, "git.sr.ht API reference" and "Webhooks", and the source of git.sr.ht. The secret is the public key
with which the instance signs; that of sr.ht is uX7KWyyDNMaBma4aVbJ/cbUQpdjqczuCyK/HxzV/u+4=. It proves that sourcehut
has sent a delivery, and not for whom: each of its users can have one sent to any URL, with what they like in it. So the
name of the receiver had better be one that nobody guesses; at worst a repo of ours is fetched once more.
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_list, get_object, get_text
from gitopsd.providers.provider import JSON, Headers, Provider, update_of
from gitopsd.schemes import Ed25519Scheme

_EVENT = re.compile(r"[A-Za-z_]{1,64}(:[a-z_-]{1,64})?")
_QUERY = (
    "query { webhook { uuid event ... on GitEvent { repository { name owner { canonicalName } } "
    "updates { ref { name } old { id } new { id } } } } }"
)
_NAMES_NOTHING = "the push names no branch and no tag; what was deleted has no name here"
_NAMELESS = (
    "a webhook of the old API does not tell which repository it is about; make one with the GraphQL API "
    "(gitopsd init shows the query)"
)


def parse(headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what sourcehut sends, or lacks what tells a push."""
    if "data" in payload:
        return _native(get_object(get_object(payload, "data"), "webhook"))
    return _legacy(_event(headers.get("X-WEBHOOK-EVENT", ""), "header X-Webhook-Event"), payload)


def delivery_id(headers: Headers, payload: Payload) -> str:
    """The id in the body, else the nonce: both are signed, and X-Webhook-Delivery is not."""
    data = payload.get("data")
    webhook = data.get("webhook") if isinstance(data, dict) else None
    given = webhook.get("uuid") if isinstance(webhook, dict) else None
    return given if isinstance(given, str) else headers.get("X-PAYLOAD-NONCE", "")


def _native(webhook: Payload) -> Event:
    """A webhook of the GraphQL API: its body is what the query of who made it asks for."""
    _require(webhook, "event")
    kind = _event(get_text(webhook, "event"), "'event'")
    if kind == "GIT_PRE_RECEIVE":
        return Event(kind=kind, reason="GIT_PRE_RECEIVE comes before anything has moved; choose GIT_POST_RECEIVE")
    if kind != "GIT_POST_RECEIVE":
        return Event(kind=kind)
    _require(webhook, "repository")
    _require(webhook, "updates")
    repository = get_object(webhook, "repository")
    owner = get_text(get_object(repository, "owner"), "canonicalName")
    remote = RemoteName(full_name=f"{owner}/{get_text(repository, 'name')}", urls=())
    # A ref that was deleted may be null: it cannot be looked up any more.
    told = [update for update in get_list(webhook, "updates") if update.get("ref") is not None]
    updates = tuple(_update(get_object(update, "ref"), update) for update in told)
    return Event(kind="push", remote=remote, updates=updates, reason="" if updates else _NAMES_NOTHING)


def _legacy(kind: str, payload: Payload) -> Event:
    if kind != "repo:post-update":
        return Event(kind=kind)
    # A ref that was deleted stands there without its name.
    told = [update for update in get_list(payload, "refs") if get_text(update, "name", "")]
    return Event(kind="push", updates=tuple(_update(update, update) for update in told), reason=_NAMELESS)


def _update(named: Payload, update: Payload) -> RefUpdate:
    ref, before, after = get_text(named, "name"), update.get("old"), update.get("new")
    if before is None and after is None:  # so it stands there for a new branch, or where the query asks for neither
        return update_of(ref, None, keys=("name", "new"))._replace(revision="")
    revision = get_text(get_object(update, "new"), "id") if after is not None else None
    return update_of(ref, revision, keys=("name", "id"))


def _require(webhook: Payload, key: str) -> None:
    if webhook.get(key) is None:
        raise PayloadError(f"'{key}' is missing: the query of the webhook has to ask for it")


def _event(name: str, where: str) -> str:
    if not _EVENT.fullmatch(name):
        raise PayloadError(f"{where} is missing or not the name of an event")
    return name


PROVIDER = Provider(
    name="sourcehut",
    schemes=(Ed25519Scheme(header="X-PAYLOAD-SIGNATURE", nonce_header="X-PAYLOAD-NONCE"),),
    delivery_id=delivery_id,
    event_header="X-WEBHOOK-EVENT",
    parse=parse,
    media_types=(JSON,),
    form_at="sourcehut: git.sr.ht/graphql, the mutation createGitWebhook (there is no form)",
    form=(("events", "[GIT_POST_RECEIVE]"), ("query", _QUERY)),
    make_secret=None,
)
