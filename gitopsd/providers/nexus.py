"""Sonatype Nexus Repository 3.

Source: help.sonatype.com, "Webhooks": "Enabling A Repository Webhook Capability", "Working With HMAC Payloads" and
"Example Headers And Payloads". Its signature is HMAC-SHA1, the bare hex digits: it can do no other.
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Event
from gitopsd.payload import Payload, get_object, get_text
from gitopsd.providers.images import NO_TAG, image_of
from gitopsd.providers.provider import JSON, Headers, Provider, id_in
from gitopsd.references import is_digest
from gitopsd.schemes import HmacScheme

_KIND = re.compile(r"[a-z]{1,32}(:[a-z]{1,32}){0,3}")
_REPOSITORY = "rm:repository:"
_ACTIONS = {
    "CREATED": "",
    "UPDATED": "",
    "DELETED": "it was deleted, not pushed",
    "PURGED": "it was purged, not pushed",
}


def parse(headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what Nexus sends."""
    kind = headers.get("X-NEXUS-WEBHOOK-ID", "")
    if not _KIND.fullmatch(kind):
        raise PayloadError("header X-Nexus-Webhook-Id is missing or not an event name")
    if not kind.startswith(_REPOSITORY):
        return Event(kind=kind)
    if reason := _why_not(payload):
        return Event(kind=kind, reason=reason)
    return _component(kind, get_object(payload, "component")) if kind == f"{_REPOSITORY}component" else Event(kind=kind)


def _why_not(payload: Payload) -> str:
    reason = _ACTIONS.get(get_text(payload, "action"))
    if reason is None:
        raise PayloadError("'action' is not what can become of a component")
    return reason


def _component(kind: str, component: Payload) -> Event:
    """What was put into a repository. Of other formats a receiver may still want to know (`events:`)."""
    if get_text(component, "format") != "docker":
        return Event(kind=kind)
    name, tag = get_text(component, "name"), get_text(component, "version", "")
    if not tag or is_digest(tag):
        return Event(kind=kind, reason=NO_TAG)
    return Event(kind=kind, images=(image_of(name, tag, keys=("name", "version", "")),))


PROVIDER = Provider(
    name="nexus",
    schemes=(HmacScheme(header="X-NEXUS-WEBHOOK-SIGNATURE", digests=(("", "sha1"),)),),
    delivery_id=id_in("X-NEXUS-WEBHOOK-DELIVERY"),
    event_header="X-NEXUS-WEBHOOK-ID",
    parse=parse,
    media_types=(JSON,),
    form_at="Nexus Repository: Settings, System, Capabilities, Create capability, Webhook: Repository",
    form=(("Repository", "the one for Docker"), ("Event Types", "component")),
    secret_label="Secret Key",  # noqa: S106 - what the form calls it
)
