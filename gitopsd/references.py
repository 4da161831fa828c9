"""How refs and images are spelt: what a repo's `ref` stands for, and the words of `host/repository:tag@digest`.

Source of the latter: github.com/opencontainers, distribution-spec, "Pulling manifests", and image-spec, "Digests".
"""

import re

from gitopsd.model import Image

_MAX_NAME = 255
_HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(
    r"sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})|"
    r"(?!sha(256|512):)(?=[^:]{1,32}:)[a-z0-9]+([+._-][a-z0-9]+)*:[A-Za-z0-9=_-]{32,128}"
)

_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HEADS, _TAGS = "refs/heads/", "refs/tags/"
_WILDCARDS = frozenset("*?")


def is_revision(text: str) -> bool:
    """Whether it is a whole commit id."""
    return _REVISION.fullmatch(text) is not None


def follows_tags(ref: str) -> bool:
    """Whether `ref` of a repo is a tag or a pattern of tags, and no branch."""
    return ref.startswith(_TAGS) or not _WILDCARDS.isdisjoint(ref)


def pattern_of(ref: str) -> str:
    """`ref` of a repo as a full ref, or as a pattern of full refs: refs/heads/main, refs/tags/v*."""
    folder = _TAGS if follows_tags(ref) else _HEADS
    return f"{folder}{ref.removeprefix(folder)}"


def takes_prereleases(ref: str) -> bool:
    """Whether the pattern has a hyphen: else tags that have one are none that are followed."""
    return "-" in pattern_of(ref)


def called(ref: str) -> str:
    """What `ref` of a repo stands for, in a message: `refs/heads/main`, `the tags v*`, `the tag v1.2`."""
    if not follows_tags(ref):
        return pattern_of(ref)
    name = ref.removeprefix(_TAGS)
    return f"the tag {name}" if _WILDCARDS.isdisjoint(name) else f"the tags {name}"


def is_host(text: str) -> bool:
    """Whether it can be the host of a registry."""
    return _HOST.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Whether it can be the name of an image on its registry."""
    return len(text) <= _MAX_NAME and _REPOSITORY.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether it is a repository, or a host and one."""
    host, slash, rest = text.partition("/")
    return len(text) <= _MAX_NAME and (is_repository(text) or (slash != "" and is_host(host) and is_repository(rest)))


def is_tag(text: str) -> bool:
    """Whether it can be a tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether it names an image by its content; no tag can look like that."""
    return _DIGEST.fullmatch(text) is not None


def is_image(image: Image) -> bool:
    """Whether all of it is spelt as it has to be, where it is told."""
    has_tag, has_digest = is_tag(image.tag) or not image.tag, is_digest(image.digest) or not image.digest
    return is_name(image.name) and has_tag and has_digest


def host_in(name: str) -> str:
    """The host that a name begins with, or "": it has a dot or a colon in it, or is localhost."""
    host, slash, _ = name.partition("/")
    is_one = slash and is_host(host) and ({".", ":"} & set(host) or host == "localhost")
    return host if is_one else ""
