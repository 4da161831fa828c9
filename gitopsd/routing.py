"""Event → the repos that want it, or the reason why none does."""

import re
from collections.abc import Collection, Iterable
from urllib.parse import unquote

from gitopsd.model import Event, Match, RefUpdate, RemoteName, Repo

_SCP_FORM = re.compile(r"(?:[^/@:]+@)?(\[[^]/]*\]|[^/:]+):(?!//)(.*)")
_URL_FORM = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/@]*@)?(\[[^]/]*\]|[^/:]*)(?::\d*)?(/.*|)")


def route(event: Event, repos: Iterable[Repo], allowed: Collection[str] | None = None) -> tuple[tuple[Match, ...], str]:
    """Which of `repos` the event is about, and why it leads to no job as a whole ("" where it does).

    `allowed` names those that the receiver may trigger; None is all of them. A Match without a reason asks for a sync;
    one with a reason says why that repo does not want this event.
    """
    if event.reason:
        return (), event.reason
    if event.kind == "ping":
        return (), "ping: the webhook works"
    if event.remote is None or not event.updates:
        return (), f"event '{event.kind}' is not a push"
    followers = [repo for repo in repos if is_remote_of(repo, event.remote)]
    if not followers:
        return (), f"no repo is configured for {name_of(event.remote)}"
    matches = tuple(
        _match(repo, event.updates) if allowed is None or repo.name in allowed else _not_allowed(repo, event.updates)
        for repo in followers
    )
    if all(match.reason for match in matches):
        return matches, "; ".join(dict.fromkeys(f"{match.repo}: {match.reason}" for match in matches))
    return matches, ""


def is_remote_of(repo: Repo, remote: RemoteName) -> bool:
    """Whether `remote` is what `repo` is fetched from, by URL or by full name (so that ssh host aliases work)."""
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


def _not_allowed(repo: Repo, updates: tuple[RefUpdate, ...]) -> Match:
    reason = "is none of the repos that this receiver may trigger"
    return Match(repo=repo.name, ref=updates[0].ref, revision=updates[0].revision or None, reason=reason)


def _match(repo: Repo, updates: tuple[RefUpdate, ...]) -> Match:
    wanted = f"refs/heads/{repo.ref}"
    update = next((update for update in updates if update.ref == wanted), None)
    if update is None:
        pushed = ", ".join(update.ref for update in updates)
        return Match(
            repo=repo.name, ref=updates[0].ref, revision=updates[0].revision, reason=f"follows {wanted}, not {pushed}"
        )
    if update.revision is None:
        return Match(
            repo=repo.name, ref=wanted, revision=None, reason=f"{wanted} was deleted; the checkout stays as it is"
        )
    return Match(repo=repo.name, ref=wanted, revision=update.revision or None)
