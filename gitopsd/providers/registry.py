"""Distribution, which is Docker's registry, and what is built on it: its notifications.

Source: distribution.github.io/distribution, "Work with notifications" and "Configuring a registry". Nothing is signed;
the headers that are configured there are sent along. Its queue is serial, and what is not taken is sent again until it
is: so an authentic envelope is never refused here, and what is odd in it is left out.
"""

import hashlib
import re
from typing import Any

from gitopsd.errors import PayloadError
from gitopsd.model import Event, Image
from gitopsd.payload import Payload, get_id, get_object, get_text
from gitopsd.providers.images import image_of
from gitopsd.providers.provider import JSON, Headers, Provider
from gitopsd.schemes import TokenScheme

# Layers and settings are pushed too, one by one, as what they are.
_MANIFESTS = frozenset(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    )
)
_ACTION = re.compile(r"[a-z]{1,32}")
_MAX_TOLD = 5


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of an envelope, whose events need not have to do with each other. Never raises."""
    events = _events(payload)
    found = list(dict.fromkeys(map(_image_or_else, events)))
    if images := tuple(each for each in found if isinstance(each, Image)):
        return Event(kind="push", images=images)
    told = ", ".join(str(each) for each in found[:_MAX_TOLD]) or "the envelope has no events"
    return Event(kind=(events and _action(events[0])) or "events", reason=f"no image was pushed: {told}")


def delivery_id(_headers: Headers, payload: Payload) -> str:
    """What tells an envelope that is sent again: the ids of its events. "" if one has none."""
    ids = [get_id(event, "id") if isinstance(event, dict) else "" for event in _events(payload)]
    if not all(ids):
        return ""
    return ids[0] if len(ids) == 1 else f"events:{hashlib.sha256(' '.join(ids).encode()).hexdigest()}" if ids else ""


def _events(payload: Payload) -> list[Any]:
    events = payload.get("events")
    return events if isinstance(events, list) else []


def _action(event: Any) -> str:
    action = event.get("action") if isinstance(event, dict) else None
    return action if isinstance(action, str) and _ACTION.fullmatch(action) else ""


def _image_or_else(event: Any) -> Image | str:
    """The image that an event tells of, or what it tells of instead."""
    try:
        return _image(event)
    except PayloadError as error:
        return str(error)


def _image(event: Any) -> Image:
    """Raises PayloadError, which says what it is, for an event that is no push of an image."""
    action = _action(event)
    if action != "push":
        raise PayloadError(action or "an event without an action")
    target = get_object(event, "target")
    if get_text(target, "mediaType", "") not in _MANIFESTS:
        raise PayloadError("blob push")
    if not get_text(target, "tag", ""):
        raise PayloadError("a push without a tag")
    image = get_text(target, "repository"), get_text(target, "tag"), get_text(target, "digest", "")
    return image_of(*image, host=_host(event))


def _host(event: Payload) -> str:
    """What the client calls the registry, "" where that is not told; a registry does not know its own name."""
    request = event.get("request")
    host = request.get("host") if isinstance(request, dict) else None
    return host if isinstance(host, str) else ""


PROVIDER = Provider(
    name="registry",
    schemes=(TokenScheme(header="AUTHORIZATION", prefix="Bearer "), TokenScheme(header="AUTHORIZATION")),
    delivery_id=delivery_id,
    parse=parse,
    media_types=(
        "application/vnd.docker.distribution.events.v2+json",
        "application/vnd.docker.distribution.events.v1+json",
        JSON,
    ),
    own_header=True,
    url_label="url",
    form_at="the registry: its config.yml, notifications, endpoints, a new one (and restart it)",
    form=(
        ("name", "gitopsd"),
        ("Header", "headers: {Authorization: [Bearer <the secret>]}"),
        ("ignore", "{mediatypes: [application/octet-stream], actions: [pull, mount, delete]}"),
    ),
)
