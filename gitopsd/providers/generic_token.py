"""Anything that can send a secret in a header, and not sign: low-code tools, cron jobs, `curl`.

The body is ours to define, see `generic`. The secret is a bearer token (RFC 6750) in Authorization, or stands there, or
in the header that the configuration names, as it is.
"""

from gitopsd.providers.generic import EVENTS, parse
from gitopsd.providers.provider import Provider, id_in
from gitopsd.schemes import TokenScheme

PROVIDER = Provider(
    name="generic-token",
    schemes=(TokenScheme(header="AUTHORIZATION", prefix="Bearer "), TokenScheme(header="AUTHORIZATION")),
    delivery_id=id_in("X-DELIVERY-ID"),
    events=EVENTS,
    parse=parse,
    own_header=True,
    form_at="your sender",
    form=(
        ("Header", "Authorization: Bearer <the secret>"),
        ("Content type", "application/json"),
        ("Body", '{"repository": "me/blog", "ref": "refs/heads/main"}'),
    ),
)
