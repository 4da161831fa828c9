"""Azure Container Registry.

Source: learn.microsoft.com, "Azure Container Registry webhook reference". Nothing is signed, so the secret is the last
part of the URL. The body is one event as Distribution, Docker's registry, has it.
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Event
from gitopsd.payload import Payload, get_id, get_object, get_text
from gitopsd.providers.images import NO_TAG, get_part, image_of
from gitopsd.providers.provider import JSON, Headers, Provider
from gitopsd.schemes import PathScheme

_ACTION = re.compile(r"[a-z][a-z_]{0,31}")


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what ACR sends."""
    action = get_text(payload, "action")
    if not _ACTION.fullmatch(action):
        raise PayloadError("'action' is not the name of an action")
    if action != "push":  # a ping has nothing more to tell
        return Event(kind=action)
    target = get_object(payload, "target")
    tag = get_text(target, "tag", "")
    if not tag:
        return Event(kind=action, reason=NO_TAG)
    host = get_text(get_part(payload, "request"), "host", "")
    image = image_of(get_text(target, "repository"), tag, get_text(target, "digest", ""), host=host)
    return Event(kind=action, images=(image,))


def delivery_id(_headers: Headers, payload: Payload) -> str:
    """The id of the event."""
    return get_id(payload, "id")


PROVIDER = Provider(
    name="acr",
    schemes=(PathScheme(),),
    delivery_id=delivery_id,
    parse=parse,
    media_types=(JSON,),
    url_label="Service URI",
    form_at="Azure Container Registry: the registry, Services, Webhooks, Add",
    form=(("Webhook name", "gitopsd"), ("Custom headers", "none"), ("Trigger actions", "push")),
)
