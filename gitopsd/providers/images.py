"""What registries tell of images, held to what a name, a tag and a digest can be: they become words of a command."""

from gitopsd.errors import PayloadError
from gitopsd.model import Image
from gitopsd.payload import Payload, get_object
from gitopsd.references import is_digest, is_host, is_name, is_repository, is_tag

NO_TAG = "it has no tag: it is part of an image, or goes by its digest alone"
"""An image for several machines is pushed as an image for each of them and, at last, the list of these with the tag."""


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
    name = f"{host.lower()}/{repository}" if is_host(host) else repository
    if not is_name(name) or not is_repository(repository):
        raise PayloadError(f"'{keys[0]}' is not the name of an image")
    if tag is not None and not is_tag(tag):
        raise PayloadError(f"'{keys[1]}' is not a tag")
    if digest and not is_digest(digest):
        raise PayloadError(f"'{keys[2]}' is not a digest")
    return Image(name=name, tag=tag or "", digest=digest)


def get_part(payload: Payload, key: str) -> Payload:
    """The object under `key`; an empty one if it is absent or null. Raises PayloadError for anything else."""
    return get_object(payload, key) if payload.get(key) is not None else {}
