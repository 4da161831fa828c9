"""Which repository a delivery speaks of: its URLs and names, in any of the forms that they come in."""

import re
from urllib.parse import unquote

from gitopsd.model import RemoteName, Repo

_SCP_FORM = re.compile(r"(?:[^/@:]+@)?(\[[^]/]*\]|[^/:]+):(?!//)(.*)")
_URL_FORM = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/@]*@)?(\[[^]/]*\]|[^/:]*)(?::\d*)?(/.*|)")


def is_remote_of(repo: Repo, remote: RemoteName | None) -> bool:
    """Whether `remote` is what `repo` is fetched from, by URL or by full name (so that ssh host aliases work)."""
    if not repo.url or remote is None:
        return False
    ours = normalise_url(repo.url)
    if any(normalise_url(url) == ours for url in remote.urls):
        return True
    # Some quote in a URL what others do not.
    place = unquote(ours).casefold()
    return any(_is_name_of(place, unquote(name).casefold().strip("/")) for name in (remote.full_name, remote.alias))


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


def normalise_url(url: str) -> str:
    """`host/path` of a URL; scheme, user, port, `.git`, the host's case and a trailing `/` do not count."""
    found = _URL_FORM.fullmatch(url) or _SCP_FORM.fullmatch(url)
    host, path = found.groups() if found else ("", url)
    return f"{host.lower()}/{path.strip('/').removesuffix('.git').rstrip('/')}"
