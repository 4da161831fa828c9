"""GitLab, gitlab.com and self-managed: webhooks of a project or group, and system hooks.

Source: docs.gitlab.com, "Webhooks", "Webhook events" and "System hooks"; its signing tokens are Standard Webhooks.
There is no ping: a test is a push, and where the repository is empty a push of some other repository.
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_list, get_object, get_text
from gitopsd.providers.provider import JSON, Headers, Provider, id_in, remote_in, update_of
from gitopsd.remotes import normalise_url
from gitopsd.schemes import StandardScheme, TokenScheme

_HOOK_NAME = re.compile(r"[A-Za-z ]{1,64}")
_EVENT_NAME = re.compile(r"[a-z_]{1,64}")
_SYSTEM_HOOK = "System Hook"
_KINDS = {"Push Hook": "push", "Tag Push Hook": "tag_push"}
_SAMPLE_HOSTS = {"example.com", "test.example.com"}
# The last three are deprecated.
_URL_KEYS = ("git_http_url", "git_ssh_url", "web_url", "http_url", "ssh_url", "url")


def parse(headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what GitLab sends."""
    kind = _kind(headers, payload)
    if kind in _KINDS.values():
        return Event(kind=kind, remote=_remote(payload), updates=(_update(payload),))
    if kind == "repository_update":
        # What a system hook has of a push as a whole: the one delivery of GitLab that has several refs.
        updates = tuple(_update(change) for change in get_list(payload, "changes"))
        return Event(kind=kind, remote=_remote(payload), updates=updates)
    return Event(kind=kind, remote=_remote(payload) if _has_project(payload) else None)


def _kind(headers: Headers, payload: Payload) -> str:
    hook = headers.get("X-GITLAB-EVENT", "")
    if not _HOOK_NAME.fullmatch(hook):
        raise PayloadError("header X-Gitlab-Event is missing or not an event name")
    if hook != _SYSTEM_HOOK:
        return _KINDS.get(hook, hook)
    # All system hooks have the same header; which one it is stands in the body, under one name or the other.
    name = get_text(payload, "event_name", "") or get_text(payload, "object_kind", "")
    if name and not _EVENT_NAME.fullmatch(name):
        raise PayloadError("'event_name' is not an event name")
    return name or hook


def _has_project(payload: Payload) -> bool:
    """Some events have no project, or one without a path; none is needed to ignore them."""
    project = payload.get("project")
    return isinstance(project, dict) and "path_with_namespace" in project


def _remote(payload: Payload) -> RemoteName:
    remote = remote_in(get_object(payload, "project"), "path_with_namespace", _URL_KEYS)
    # What a test of an empty repository sends is of no project here, and its number may be that of one that is.
    hosts = {normalise_url(url).partition("/")[0] for url in remote.urls}
    return remote._replace(id="") if hosts & _SAMPLE_HOSTS else remote


def _update(change: Payload) -> RefUpdate:
    return update_of(get_text(change, "ref"), get_text(change, "after"))


PROVIDER = Provider(
    name="gitlab",
    schemes=(TokenScheme(header="X-GITLAB-TOKEN"), StandardScheme()),
    delivery_id=id_in("IDEMPOTENCY-KEY"),
    event_header="X-GITLAB-EVENT",
    hook_header="X-GITLAB-WEBHOOK-UUID",
    parse=parse,
    media_types=(JSON,),
    form_at="GitLab: the project (or group), Settings, Webhooks, Add new webhook",
    form=(("Trigger", "Push events, all branches; to follow tags, Tag push events too"),),
    secret_label="Secret token",  # noqa: S106 - what the form calls it
)
