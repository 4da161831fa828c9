"""Which repository a delivery speaks of: its URLs and names, in any of the forms that they come in."""

import functools
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from gitopsd.model import RemoteName
from gitopsd.settings import Repo

_REMEMBERED = 1024  # URLs, each of which is looked at with each delivery, and sets of them
_SCP_FORM = re.compile(r"(?:[^/@:]+@)?(\[[^]/]*\]|[^/:]+):(?!//)(.*)")
_URL_FORM = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/@]*@)?(\[[^]/]*\]|[^/:]*)(?::\d*)?(/.*|)")


def is_remote_of(repo: Repo, remote: RemoteName | None) -> bool:
    """Whether `remote` is what `repo` is fetched from, by URL or by full name (so that ssh host aliases work)."""
    return any(repos_of([repo], remote))


def repos_of(repos: Iterable[Repo], remote: RemoteName | None) -> Iterator[Repo]:
    """Those of `repos` of which `is_remote_of` is true."""
    if remote is None:
        return
    known = tuple(repos)
    by_place, by_name = _index(tuple(repo.url for repo in known))
    found: set[int] = set()
    for url in remote.urls:
        found.update(by_place.get(normalise_url(url), ()))
    for name in (remote.full_name, remote.alias):
        found.update(by_name.get(unquote(name).casefold().strip("/"), ()))
    yield from (known[number] for number in sorted(found))


_Index = dict[str, list[int]]


@functools.lru_cache(_REMEMBERED)
def _index(urls: tuple[str, ...]) -> tuple[_Index, _Index]:
    """Which of `urls` are at a normalised URL, and which may be called by a name."""
    by_place: _Index = {}
    by_name: _Index = {}
    for number, url in enumerate(urls):
        if not url:
            continue
        place = normalise_url(url)
        by_place.setdefault(place, []).append(number)
        for name in _names_of(unquote(place).casefold()):  # some quote in a URL what others do not
            by_name.setdefault(name, []).append(number)
    return by_place, by_name


def _names_of(place: str) -> Iterator[str]:
    path = place.partition("/")[2]
    # Without an owner it has to be the whole path: Gerrit has such names, and /a/ before them where one logs in.
    yield from (name for name in {path, path.removeprefix("a/")} if name and "/" not in name)
    while "/" in place:
        yield place
        place = place.partition("/")[2]


def name_of(remote: RemoteName) -> str:
    """What to call it: its full name, else `host/path` of a URL, which shows no credentials."""
    if remote.full_name or not remote.urls:
        return remote.full_name or "a repository without a name"
    place = normalise_url(remote.urls[0])
    # Nothing is left of credentials, unless the URL is none.
    return "a repository whose URL is malformed" if set("@?#:") & set(place) else place


@functools.lru_cache(_REMEMBERED)
def normalise_url(url: str) -> str:
    """`host/path` of a URL; scheme, user, port, `.git`, the host's case and a trailing `/` do not count."""
    found = _URL_FORM.fullmatch(url) or _SCP_FORM.fullmatch(url)
    host, path = found.groups() if found else ("", url)
    return f"{host.lower()}/{path.strip('/').removesuffix('.git').rstrip('/')}"
