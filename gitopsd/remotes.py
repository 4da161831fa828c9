"""Which repository a delivery speaks of: its URLs and names, in any of the forms that they come in."""

import functools
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from gitopsd.model import RemoteName, Repo

_REMEMBERED = 1024  # URLs, each of which is looked at with each delivery
_SCP_FORM = re.compile(r"(?:[^/@:]+@)?(\[[^]/]*\]|[^/:]+):(?!//)(.*)")
_URL_FORM = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/@]*@)?(\[[^]/]*\]|[^/:]*)(?::\d*)?(/.*|)")


def is_remote_of(repo: Repo, remote: RemoteName | None) -> bool:
    """Whether `remote` is what `repo` is fetched from, by URL or by full name (so that ssh host aliases work)."""
    return any(repos_of([repo], remote))


def repos_of(repos: Iterable[Repo], remote: RemoteName | None) -> Iterator[Repo]:
    """Those of `repos` of which `is_remote_of` is true."""
    if remote is None:
        return
    places = {normalise_url(url) for url in remote.urls}
    names = [unquote(name).casefold().strip("/") for name in (remote.full_name, remote.alias) if name]
    for repo in repos:
        if repo.url and (
            normalise_url(repo.url) in places or any(_is_name_of(_place_of(repo.url), name) for name in names)
        ):
            yield repo


@functools.lru_cache(_REMEMBERED)
def _place_of(url: str) -> str:
    """Some quote in a URL what others do not."""
    return unquote(normalise_url(url)).casefold()


def _is_name_of(place: str, name: str) -> bool:
    if "/" in name:
        return f"/{place}".endswith(f"/{name}")
    # Without an owner it has to be the whole path: Gerrit has such names, and /a/ before them where one logs in.
    return name != "" and place.partition("/")[2] in (name, f"a/{name}")


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
