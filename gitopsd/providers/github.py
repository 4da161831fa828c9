"""GitHub and GitHub Enterprise Server.

Source: docs.github.com, "Webhook events and payloads" and "Validating webhook deliveries".
"""

from gitopsd.model import Event, HmacScheme, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_flag, get_object, get_text
from gitopsd.providers.provider import Headers, Provider, event_in, id_in, remote_in, update_of

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
    ref, after = get_text(payload, "ref"), get_text(payload, "after")
    return update_of(ref, after, forced=get_flag(payload, "forced"), deleted=get_flag(payload, "deleted"))


PROVIDER = Provider(
    name="github",
    schemes=(HmacScheme(header="X-HUB-SIGNATURE-256"),),
    delivery_id=id_in("X-GITHUB-DELIVERY"),
    hook_header="X-GITHUB-HOOK-ID",
    parse=parse,
    form_at="GitHub: the repository (or organisation), Settings, Webhooks, Add webhook",
    form=(("Content type", "application/json"), ("Events", "Just the push event")),
)
