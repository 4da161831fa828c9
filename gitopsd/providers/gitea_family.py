"""What Gitea, Forgejo and Gogs have in common, as the younger two come from the older.

Each signs the JSON text, in a form body too, and sends the headers of those it descends from beside its own. A branch
that is deleted is no push here, but an event of its own with a short name.
"""

from collections.abc import Callable

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.payload import Payload, get_object, get_text
from gitopsd.providers.provider import Headers, Provider, event_in, id_in, remote_in, update_of
from gitopsd.schemes import HmacScheme

TEST = "a test delivery: the webhook works"

_URL_KEYS = ("clone_url", "ssh_url", "html_url")
_FOLDERS = {"branch": "heads", "tag": "tags"}


def provider(
    brand: str,
    *,
    form_at: str,
    form: tuple[tuple[str, str], ...],
    url_label: str = "Target URL",
    tags_are_created: bool = False,
) -> Provider:
    """The one that is called `brand`. With `tags_are_created` a new tag is no push, but a `create` event."""
    name = brand.upper()
    return Provider(
        name=brand.lower(),
        schemes=(HmacScheme(header=f"X-{name}-SIGNATURE", digests=(("", "sha256"),), of_json=True),),
        delivery_id=id_in(f"X-{name}-DELIVERY"),
        event_header=f"X-{name}-EVENT",
        parse=_parser(brand, tags_are_created=tags_are_created),
        url_label=url_label,
        form_at=form_at,
        form=form,
    )


def _parser(brand: str, *, tags_are_created: bool) -> Callable[[Headers, Payload], Event]:
    """How a delivery of `brand` is read: raises PayloadError if it is not what that one sends."""

    def parse(headers: Headers, payload: Payload) -> Event:
        kind = event_in(headers, f"X-{brand}-Event")
        if kind == "push":
            return _push(payload)
        if kind == "delete":
            return Event(kind=kind, remote=_remote(payload), updates=(_named(payload, None),))
        if kind == "create" and tags_are_created and payload.get("ref_type") == "tag":
            return Event(kind=kind, remote=_remote(payload), updates=(_named(payload, get_text(payload, "sha")),))
        # Not all events have a repository, and none is needed to ignore them.
        return Event(kind=kind, remote=_remote(payload) if payload.get("repository") else None)

    return parse


def _push(payload: Payload) -> Event:
    before, after = get_text(payload, "before", ""), get_text(payload, "after")
    update = update_of(get_text(payload, "ref"), after)
    if before == after:
        # What the button "Test delivery" sends, with zeros for an empty repository: nothing has moved.
        return Event(kind="push", remote=_remote(payload), reason=TEST)
    return Event(kind="push", remote=_remote(payload), updates=(update,))


def _named(payload: Payload, revision: str | None) -> RefUpdate:
    """`delete` and `create` name a ref without what tells branches and tags apart; a name may have slashes itself."""
    name, folder = get_text(payload, "ref"), _FOLDERS.get(get_text(payload, "ref_type"))
    if not name:
        raise PayloadError("'ref' is not the name of a ref")
    if not folder:
        raise PayloadError("'ref_type' is not 'branch' or 'tag'")
    return update_of(f"refs/{folder}/{name}", revision, keys=("ref", "sha"))


def _remote(payload: Payload) -> RemoteName:
    return remote_in(get_object(payload, "repository"), "full_name", _URL_KEYS)
