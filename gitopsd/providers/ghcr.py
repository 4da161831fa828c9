"""GitHub's container registry, ghcr.io, by the webhook of the repository that a package is linked to.

Source: docs.github.com, "Webhook events and payloads" (package and registry_package) and "Connecting a repository to a
package". There is no webhook of the package itself. A push of an image for several machines is a delivery for each.
"""

import re

from gitopsd.model import Event
from gitopsd.payload import Payload, get_object, get_text
from gitopsd.providers import github
from gitopsd.providers.images import NO_TAG, get_part, image_of
from gitopsd.providers.provider import Headers

_PACKAGES = ("package", "registry_package")
_PUSHES = ("published", "updated")
_IMAGES = ("container", "docker")
_WORD = re.compile(r"[A-Za-z_]{1,32}")


def parse(headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what GitHub sends."""
    event = github.parse(headers, payload)
    if event.kind == "ping":
        return event
    if event.kind not in _PACKAGES:
        return event._replace(updates=(), reason=f"event '{event.kind}' is no push of an image: choose Packages alone")
    return _package(event, payload)


def _package(event: Event, payload: Payload) -> Event:
    package, action = get_object(payload, event.kind), get_text(payload, "action")
    kind = get_text(package, "package_type")
    if kind.lower() not in _IMAGES:
        return event._replace(reason=f"a package of {_quoted('type', kind)} is no image")
    if action not in _PUSHES:
        return event._replace(reason=f"{_quoted('action', action)} is no push of an image")
    version = get_part(package, "package_version")
    tag = get_part(get_part(version, "container_metadata"), "tag")
    if not get_text(tag, "name", ""):
        return event._replace(reason=NO_TAG)
    # Which is how the registry spells both, whatever the names of the account and of the repository are.
    name = f"{get_text(get_object(package, 'owner'), 'login')}/{get_text(package, 'name')}".lower()
    image = image_of(
        name, get_text(tag, "name"), get_text(tag, "digest", ""), host="ghcr.io", keys=("name", "tag", "digest")
    )
    return event._replace(images=(image,))


def _quoted(what: str, word: str) -> str:
    return f"{what} '{word}'" if _WORD.fullmatch(word) else f"another {what}"


PROVIDER = github.PROVIDER._replace(
    name="ghcr",
    parse=parse,
    form_at="GitHub: the repository that the package is linked to, Settings, Webhooks, Add webhook",
    form=(("Content type", "application/json"), ("Events", "Let me select individual events: Packages, not Pushes")),
)
