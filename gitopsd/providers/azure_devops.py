"""Azure DevOps, Services and Server.

Source: learn.microsoft.com, "Service hooks events" and "Webhooks". Nothing is signed: a delivery brings the user and
password of Basic authentication, or, where `header` is configured, the secret in that header.
"""

import re
from urllib.parse import quote

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_id, get_list, get_object, get_text
from gitopsd.providers.provider import JSON, Headers, Provider, login, update_of
from gitopsd.schemes import BasicScheme, TokenScheme

_EVENT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
_TEST_ID = "03c164c2-8912-4d5e-8009-3707d5f83734"
"""The button "Test" always sends the push of a made-up company, and this is its id."""


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what Azure DevOps sends."""
    kind = get_text(payload, "eventType")
    if not _EVENT_TYPE.fullmatch(kind):
        raise PayloadError("'eventType' is not the name of an event")
    if kind != "git.push":
        return Event(kind=kind)
    if payload.get("id") == _TEST_ID:
        return Event(kind="ping")
    resource = _resource(payload)
    updates = tuple(_update(update) for update in get_list(resource, "refUpdates"))
    reason = "" if updates else "the push names no branch and no tag"
    return Event(kind="push", remote=_remote(get_object(resource, "repository")), updates=updates, reason=reason)


def delivery_id(_headers: Headers, payload: Payload) -> str:
    """Three ids: none of them alone is one of its own for each delivery. "" if one is missing."""
    ids = [payload.get(key) for key in ("subscriptionId", "notificationId", "id")]
    return "/".join(map(str, ids)) if all(isinstance(each, str | int) for each in ids) else ""


def _resource(payload: Payload) -> Payload:
    """What the delivery tells of the push, which its settings may have cut down to a link, or to nothing."""
    resource = get_object(payload, "resource") if payload.get("resource") is not None else {}
    if missing := [key for key in ("repository", "refUpdates") if resource.get(key) is None]:
        raise PayloadError(f"'{missing[0]}' is missing: set \"Resource details to send\" to All in the service hook")
    return resource


def _remote(repository: Payload) -> RemoteName:
    # In every URL both names are quoted; by the full name those of ssh are found, which the payload does not have, and
    # by the other those of an older host name.
    names = get_text(get_object(repository, "project"), "name"), get_text(repository, "name")
    project, name = (quote(each, safe="") for each in names)
    url = get_text(repository, "remoteUrl", "")
    return RemoteName(
        full_name=f"{project}/{name}",
        alias=f"{project}/_git/{name}",
        urls=(url,) if url else (),
        id=get_id(repository, "id"),
    )


def _update(update: Payload) -> RefUpdate:
    return update_of(get_text(update, "name"), get_text(update, "newObjectId"), keys=("name", "newObjectId"))


PROVIDER = Provider(
    name="azure-devops",
    schemes=(TokenScheme(header="AUTHORIZATION"), BasicScheme()),
    delivery_id=delivery_id,
    parse=parse,
    media_types=(JSON,),
    own_header=True,
    form_at="Azure DevOps: Project settings, Service hooks, Create subscription, Web Hooks",
    form=(
        ("Trigger on this type of event", "Code pushed"),
        ("Resource details to send", "All"),
    ),
    secret_label="Basic authentication username:password",  # noqa: S106 - two fields of the form
    make_secret=login,
)
