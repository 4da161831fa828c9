"""soft-serve.

Source: pkg/webhook of github.com/charmbracelet/soft-serve. It sends from git's update hook, which is before the ref
moves: a fetch right after it may still find the old commit. Its form bodies have no JSON text in them, so JSON only.
"""

from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_flag, get_object, get_text
from gitopsd.providers.provider import JSON, Headers, Provider, event_in, id_in, remote_in, update_of
from gitopsd.schemes import HmacScheme

# A new branch is a creation and a push, a branch that is deleted is a deletion only.
_PUSHES = frozenset(("push", "branch_tag_create", "branch_tag_delete"))
_URL_KEYS = ("http_url", "ssh_url", "git_url", "html_url")


def parse(headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what soft-serve sends."""
    kind = event_in(headers, "X-SoftServe-Event")
    updates = (_update(payload),) if kind in _PUSHES else ()
    return Event(kind=kind, remote=_remote(payload), updates=updates)


def _remote(payload: Payload) -> RemoteName:
    """Repositories need no folder, so a name may have no `/`; the URLs are made of where the server believes to be."""
    return remote_in(get_object(payload, "repository"), "name", _URL_KEYS)


def _update(payload: Payload) -> RefUpdate:
    return update_of(get_text(payload, "ref"), get_text(payload, "after"), deleted=get_flag(payload, "deleted"))


PROVIDER = Provider(
    name="soft-serve",
    schemes=(HmacScheme(header="X-SOFTSERVE-SIGNATURE"),),
    delivery_id=id_in("X-SOFTSERVE-DELIVERY"),
    event_header="X-SOFTSERVE-EVENT",
    parse=parse,
    media_types=(JSON,),
    form_at="soft-serve: ssh -p 23231 HOST repo webhook create REPOSITORY URL, with these options",
    form=(("-c", "json"), ("-e", "push,branch_tag_create,branch_tag_delete")),
    secret_label="-s",  # noqa: S106 - an option
)
