"""Anything that signs as Standard Webhooks 1.0 says (standardwebhooks.com), with a library for it or without.

The body is ours to define, see `generic`. It may be wrapped as the specification advises:
`{"type": "push", "timestamp": "…", "data": {"repository": …, "ref": …}}`; what the type is called does not matter.
"""

from gitopsd.model import Event
from gitopsd.payload import Payload, get_object
from gitopsd.providers import generic
from gitopsd.providers.provider import Headers, Provider, id_in, signing_key
from gitopsd.schemes import StandardScheme


def parse(headers: Headers, payload: Payload) -> Event:
    """The Event of a body as `generic` has it, wrapped or not. Raises PayloadError."""
    is_wrapped = {"type", "data"} <= payload.keys() and not payload.keys() & {"repository", "ref", "image", "event"}
    return generic.parse(headers, get_object(payload, "data") if is_wrapped else payload)


PROVIDER = Provider(
    name="standard-webhooks",
    schemes=(StandardScheme(),),
    make_secret=signing_key,
    delivery_id=id_in("WEBHOOK-ID"),
    events=generic.EVENTS,
    parse=parse,
    form_at="your sender",
    form=(
        ("Content type", "application/json"),
        ("Body", '{"repository": "me/blog", "ref": "refs/heads/main"}'),
    ),
)
