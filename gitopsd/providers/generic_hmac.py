"""Anything that can sign a body with a secret: n8n, CI jobs, scripts.

The body is ours to define: `{"repository": "me/blog", "ref": "refs/heads/main", "after": "<commit id>"}`. `repository`
is a full name or a URL; `after` may be left out. The header is X-Signature unless the configuration names another.
"""

from gitopsd.model import HmacScheme
from gitopsd.providers.generic import parse
from gitopsd.providers.provider import Provider, id_in

PROVIDER = Provider(
    name="generic-hmac",
    schemes=(HmacScheme(header="X-SIGNATURE", digests=(("sha256=", "sha256"), ("sha512=", "sha512"))),),
    delivery_id=id_in("X-DELIVERY-ID"),
    parse=parse,
    own_header=True,
    form_at="your sender",
    form=(
        ("Header", "X-Signature: sha256=<HMAC-SHA256 of the body, in hex>"),
        ("Content type", "application/json"),
        ("Body", '{"repository": "me/blog", "ref": "refs/heads/main"}'),
    ),
)
