"""What registries tell of images, held to what a name, a tag and a digest can be: they become words of a command.

Source: github.com/opencontainers, distribution-spec, "Pulling manifests", and image-spec, "Digests".
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Image
from gitopsd.payload import Payload, get_object

NO_TAG = "it has no tag: it is part of an image, or goes by its digest alone"
"""An image for several machines is pushed as an image for each of them and, at last, the list of these with the tag."""

_MAX_NAME = 255
_HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+([+._-][a-z0-9]+)*:[0-9a-f]{32,128}")


def image_of(
    repository: str,
    tag: str | None,
    digest: str = "",
    *,
    host: str = "",
    keys: tuple[str, str, str] = ("repository", "tag", "digest"),
) -> Image:
    """One image; a `host` that is none is left out. `keys` are what the payload calls the other three.

    Raises PayloadError if one of these is malformed. A digest that is not told is "", and a tag None.
    """
    name = f"{host.lower()}/{repository}" if _HOST.fullmatch(host) else repository
    if len(name) > _MAX_NAME or not _REPOSITORY.fullmatch(repository):
        raise PayloadError(f"'{keys[0]}' is not the name of an image")
    if tag is not None and not _TAG.fullmatch(tag):
        raise PayloadError(f"'{keys[1]}' is not a tag")
    if digest and not is_digest(digest):
        raise PayloadError(f"'{keys[2]}' is not a digest")
    return Image(name=name, tag=tag or "", digest=digest)


def host_in(name: str) -> str:
    """The host that a name begins with, or "": it has a dot or a colon in it, or is localhost."""
    host, slash, _ = name.partition("/")
    is_host = slash and _HOST.fullmatch(host) and ({".", ":"} & set(host) or host == "localhost")
    return host if is_host else ""


def is_digest(text: str) -> bool:
    """Whether it names an image by its content; no tag can look like that."""
    return _DIGEST.fullmatch(text) is not None


def get_part(payload: Payload, key: str) -> Payload:
    """The object under `key`; an empty one if it is absent or null. Raises PayloadError for anything else."""
    return get_object(payload, key) if payload.get(key) is not None else {}
