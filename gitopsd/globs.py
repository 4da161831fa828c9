"""Patterns of names with slashes: `*`, `?` and `[0-9]` stay within a part, `**` is any number of parts."""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from gitopsd.references import follows_tags, host_in, pattern_of, takes_prereleases

_ANY = "**"


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` is for the whole of `name`. Upper and lower case differ."""
    parts = name.split("/")
    return any(_matches(parts, pattern.split("/")) for pattern in patterns)


def matches_image(name: str, patterns: Collection[str]) -> bool:
    """Whether one of `patterns` is for the image `name`, with its registry's host or without.

    Who pushes may know the registry by another name than we do.
    """
    host = host_in(name)
    return matches(name, patterns) or (host != "" and matches(name.removeprefix(f"{host}/"), patterns))


def is_followed(name: str, ref: str) -> bool:
    """Whether the full ref `name` is the branch, or one of the tags, that `ref` of a repo stands for."""
    if not follows_tags(ref):
        return name == pattern_of(ref)
    return matches(name, [pattern_of(ref)]) and ("-" not in name or takes_prereleases(ref))


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Follows all the places in the pattern that the parts so far may lead to, so that many `**` take no time."""
    places = _with_skips({0}, patterns)
    for part in parts:
        there = [place for place in places if place < len(patterns) and fnmatchcase(part, patterns[place])]
        places = _with_skips({place + (patterns[place] != _ANY) for place in there}, patterns)
    return len(patterns) in places


def _with_skips(places: set[int], patterns: Sequence[str]) -> set[int]:
    """`places` and those behind a `**`, which may be no part at all."""
    for place, pattern in enumerate(patterns):
        if pattern == _ANY and place in places:
            places.add(place + 1)
    return places
