"""Quay: quay.io, or one of one's own.

Source: docs.redhat.com, "Repository notifications" of Red Hat Quay, and notifications/notificationevent.py of its
source. It signs nothing, and a body does not name its event: the secret is the last part of the URL, and what tells of
no updated tags is no push. Its digests it keeps to itself.
"""

from gitopsd.errors import PayloadError
from gitopsd.model import Event
from gitopsd.payload import Payload, get_text
from gitopsd.providers.images import image_of
from gitopsd.providers.provider import JSON, Headers, Provider
from gitopsd.schemes import PathScheme

_TEST_TAGS, _TEST_COUNT = {"latest", "foo"}, 3
"""The button "Test Notification" always sends these, and the count of something that no push has any more."""


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what Quay sends."""
    host, _, name = get_text(payload, "docker_url").partition("/")
    if payload.get("updated_tags") is None:
        return Event(kind="notification", reason="it tells of no updated tags; choose the event Push to Repository")
    tags = _tags(payload)
    if set(tags) == _TEST_TAGS and payload.get("pruned_image_count") == _TEST_COUNT:
        return Event(kind="ping", reason="a test notification: the webhook works")
    images = tuple(image_of(name, tag, host=host, keys=("docker_url", "updated_tags", "")) for tag in tags)
    return Event(kind="push", images=images, reason="" if images else "the push names no tag")


def _tags(payload: Payload) -> list[str]:
    """Each tag once. In the oldest payloads they are keys, and what they stood for is behind them."""
    tags = payload.get("updated_tags")
    if not isinstance(tags, list | dict) or not all(isinstance(tag, str) for tag in tags):
        raise PayloadError("'updated_tags' is not a list of tags")
    return list(dict.fromkeys(tags))


PROVIDER = Provider(
    name="quay",
    schemes=(PathScheme(),),
    parse=parse,
    media_types=(JSON,),
    url_label="Webhook URL",
    form_at="Quay: the repository, Settings, Events and notifications, Create notification",
    form=(
        ("When this event occurs", "Push to Repository"),
        ("Then issue a notification", "Webhook POST"),
        ("POST JSON body template", "none"),
    ),
)
