"""A Cloudflare worker that passes on what it is told of, each event in the same form.

Source: ADR-005, "Cloudflare Sync Architecture", and workers/sync-cf of github.com/joeblew999/xplat. An event has
`type`, `timestamp`, `action`, `resource` and `source`, and may have `account_id`, `zone_id`, `metadata` and `raw`. It
has no id, and its time is that of the arrival at the worker. The token is a bearer's (RFC 6750).
"""

import re

from gitopsd.errors import PayloadError
from gitopsd.model import Event
from gitopsd.payload import Payload, get_text
from gitopsd.providers.provider import JSON, Headers, Provider
from gitopsd.schemes import TokenScheme

_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")


def parse(_headers: Headers, payload: Payload) -> Event:
    """The Event of a delivery. Raises PayloadError if it is not what the worker sends."""
    kind = get_text(payload, "type")
    if not _TYPE.fullmatch(kind):
        raise PayloadError("'type' is not the name of an event")
    return Event(kind=kind)


PROVIDER = Provider(
    name="cloudflare-worker",
    schemes=(TokenScheme(header="AUTHORIZATION", prefix="Bearer "),),
    parse=parse,
    media_types=(JSON,),
    events=("pages_deploy",),
    url_label="SYNC_ENDPOINT",
    form_at="the Cloudflare worker: its variables (npx wrangler secret put NAME)",
    form=(("WORKER_NAME", "gitopsd"),),
    secret_label="SYNC_TOKEN",  # noqa: S106 - the name of the variable
)
