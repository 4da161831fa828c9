"""Harbor.

Source: goharbor.io/docs, "Configure Webhook Notifications", and src/pkg/notifier/formats of its source. Nothing is
signed: "Auth Header" is sent as it was entered. The body is Harbor's own, or CloudEvents with the same in it.
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Event, Image
from gitopsd.payload import Payload, get_id, get_list, get_object, get_text
from gitopsd.providers.images import NO_TAG, image_of
from gitopsd.providers.provider import JSON, Headers, Provider
from gitopsd.references import is_digest
from gitopsd.schemes import TokenScheme

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
# What a push is called, and where the rest stands; the second is what the first once was.
_PUSHES = {"PUSH_ARTIFACT": "event_data", "pushImage": "event_data", "harbor.artifact.pushed": "data"}
_KEYS = ("repo_full_name", "tag", "digest")


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what Harbor sends."""
    if not payload:
        return Event(kind="ping", reason="a test of the endpoint: the webhook works")
    kind = get_text(payload, "type")
    if not _TYPE.fullmatch(kind):
        raise PayloadError("'type' is not the name of an event")
    if kind not in _PUSHES:
        return Event(kind=kind)
    told = get_object(payload, _PUSHES[kind])
    repository = get_text(get_object(told, "repository"), "repo_full_name")
    resources = [resource for resource in get_list(told, "resources") if _tag(resource)]
    images = tuple(dict.fromkeys(_image(repository, resource) for resource in resources))
    return Event(kind="push", images=images, reason="" if images else NO_TAG)


def delivery_id(_headers: Headers, payload: Payload) -> str:
    """That of CloudEvents; the other format has none."""
    return get_id(payload, "id")


def _tag(resource: Payload) -> str:
    """The tag, or "": what was pushed without one has its digest there."""
    tag = get_text(resource, "tag", "")
    return "" if is_digest(tag) else tag


def _image(repository: str, resource: Payload) -> Image:
    """The name of the project and within it is told apart, that of the host only before it in a URL."""
    tag, digest = _tag(resource), get_text(resource, "digest", "")
    url = get_text(resource, "resource_url", "").partition("@")[0].removesuffix(f":{tag}")
    host = url.removesuffix(f"/{repository}")
    return image_of(repository, tag, digest, host=host if host != url else "", keys=_KEYS)


PROVIDER = Provider(
    name="harbor",
    schemes=(TokenScheme(header="AUTHORIZATION"),),
    delivery_id=delivery_id,
    parse=parse,
    media_types=(JSON, "application/cloudevents+json"),
    url_label="Endpoint URL",
    form_at="Harbor: the project, Webhooks, New Webhook",
    form=(
        ("Notify Type", "http"),
        ("Payload Format", "Default, or CloudEvents"),
        ("Event Type", "Artifact pushed"),
    ),
    secret_label="Auth Header",  # noqa: S106 - what the form calls it
)
