"""Cloudflare's notifications, such as that Pages has deployed a project.

Source: developers.cloudflare.com, Notifications, "Configure webhooks" and "Webhook payload schema". Nothing is signed:
the secret is sent as it is. Of the fields several may be missing, and `ts` is a number here and a text there.
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Event
from gitopsd.payload import Payload, get_id, get_text
from gitopsd.providers.provider import JSON, Headers, Provider
from gitopsd.schemes import TokenScheme

_FIELDS = {"text", "alert_type", "alert_event", "policy_id", "policy_name"}
_ALERT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what Cloudflare sends."""
    if payload.keys() == {"text"}:
        return Event(kind="ping", reason="the message of Save and Test: the webhook works")
    if not payload.keys() & _FIELDS:
        raise PayloadError("it has none of the fields of a notification")
    kind = get_text(payload, "alert_type", "")
    if not kind:
        return Event(kind="notification", reason="the notification does not tell of what ('alert_type')")
    if not _ALERT.fullmatch(kind):
        raise PayloadError("'alert_type' is not the name of an alert")
    return Event(kind=kind)


def delivery_id(_headers: Headers, payload: Payload) -> str:
    """Which alert it is, what has become of that, and when; alone none of them would do. "" if one is missing."""
    ids = [get_id(payload, key) for key in ("alert_correlation_id", "alert_event", "ts")]
    return "/".join(ids) if all(ids) else ""


PROVIDER = Provider(
    name="cloudflare",
    schemes=(TokenScheme(header="CF-WEBHOOK-AUTH"),),
    delivery_id=delivery_id,
    parse=parse,
    media_types=(JSON,),
    events=("pages_event_alert",),
    form_at="Cloudflare: Notifications, Destinations, Webhooks, Create",
    form=(
        ("Name", "gitopsd"),
        ("Notification", "All Notifications, Add, Pages: Project updates, Deployment success, the webhook gitopsd"),
    ),
)
