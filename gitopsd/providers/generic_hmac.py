"""Anything that can sign a body with a secret: n8n, CI jobs, scripts.

The body is ours to define, see `generic`. The signature is `sha256=` or `sha512=` and the HMAC of the raw body in hex,
as GitHub began it (docs.github.com, "Validating webhook deliveries") and Flux's generic-hmac receivers take it
(fluxcd.io). The header is X-Signature unless the configuration names another.
"""

from gitopsd.providers.generic import EVENTS, parse
from gitopsd.providers.provider import Provider, id_in
from gitopsd.schemes import HmacScheme

PROVIDER = Provider(
    name="generic-hmac",
    schemes=(HmacScheme(header="X-SIGNATURE", digests=(("sha256=", "sha256"), ("sha512=", "sha512"))),),
    delivery_id=id_in("X-DELIVERY-ID"),
    events=EVENTS,
    parse=parse,
    own_header=True,
    form_at="your sender",
    form=(
        ("Header", "X-Signature: sha256=<HMAC-SHA256 of the body, in hex>"),
        ("Content type", "application/json"),
        ("Body", '{"repository": "me/blog", "ref": "refs/heads/main"}'),
    ),
)
