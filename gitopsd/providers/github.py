"""GitHub and GitHub Enterprise Server.

Source: docs.github.com, "Webhook events and payloads" and "Validating webhook deliveries".
"""

from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_flag, get_object, get_text
from gitopsd.providers.provider import Headers, Provider, event_in, id_in, remote_in, update_of
from gitopsd.schemes import HmacScheme

_FILE_KEYS = ("added", "modified", "removed")
_MAX_COMMITS = 2048
_MAX_FILES = 300
_MAX_PATH = 4096
_URL_KEYS = ("clone_url", "ssh_url", "git_url", "html_url")


def parse(headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what GitHub sends."""
    kind = event_in(headers, "X-GitHub-Event")
    if kind != "push":
        # A ping of an organisation's hook and many other events have no repository, and none is needed to ignore them.
        return Event(kind=kind, remote=_remote(payload) if payload.get("repository") else None)
    return Event(kind=kind, remote=_remote(payload), updates=(_update(payload),))


def _remote(payload: Payload) -> RemoteName:
    return remote_in(get_object(payload, "repository"), "full_name", _URL_KEYS)


def _update(payload: Payload) -> RefUpdate:
    return update_of(
        get_text(payload, "ref"),
        get_text(payload, "after"),
        forced=get_flag(payload, "forced"),
        deleted=get_flag(payload, "deleted"),
        before=get_text(payload, "before", ""),
        files=_files(payload),
    )


def _files(payload: Payload) -> tuple[str, ...] | None:
    """The files that a push has changed, where they are told to the last one.

    They are not for a new ref, whose commits another may have had before; nor for a forced push, whose list lacks what
    was taken back; nor where a list may have been cut.
    """
    commits = payload.get("commits")
    if [payload.get(key) for key in ("created", "forced", "deleted")] != [False, False, False]:
        return None
    if not isinstance(commits, list) or len(commits) >= _MAX_COMMITS:
        return None
    found: dict[str, None] = {}
    for commit in commits:
        lists = [commit.get(key) if isinstance(commit, dict) else None for key in _FILE_KEYS]
        names = [name for each in lists if isinstance(each, list) for name in each]
        is_told = all(isinstance(each, list) for each in lists) and all(map(_is_path, names))
        # Of a very large commit all lists are empty.
        if not is_told or not 0 < len(names) < _MAX_FILES:
            return None
        found |= dict.fromkeys(names)
    return tuple(found) or None


def _is_path(name: object) -> bool:
    return isinstance(name, str) and len(name) <= _MAX_PATH


PROVIDER = Provider(
    name="github",
    schemes=(HmacScheme(header="X-HUB-SIGNATURE-256"),),
    delivery_id=id_in("X-GITHUB-DELIVERY"),
    event_header="X-GITHUB-EVENT",
    hook_header="X-GITHUB-HOOK-ID",
    parse=parse,
    url_label="Payload URL",
    form_at="GitHub: the repository (or organisation), Settings, Webhooks, Add webhook",
    form=(("Content type", "application/json"), ("Events", "Just the push event")),
)
