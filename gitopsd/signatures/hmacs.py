"""An HMAC of the body in a header."""

import hmac
import re
import secrets as random_secrets
from collections.abc import Sequence

from gitopsd import payload
from gitopsd.errors import PayloadError, SignatureError
from gitopsd.model import HmacScheme, Request, Secret
from gitopsd.signatures.tokens import AbsentError

_HEX = re.compile(r"[0-9a-f]+")
_NOBODYS_SECRET = Secret("nobody", random_secrets.token_bytes(32))


def verify(scheme: HmacScheme, request: Request, secrets: Sequence[Secret]) -> Secret:
    """The secret that the delivery is signed with. Raises SignatureError."""
    given = request.headers.get(scheme.header, "")
    # The longest first, as an empty prefix is one of every signature.
    digests = sorted(scheme.digests, key=lambda digest: -len(digest[0]))
    prefix, algorithm = next((each for each in digests if given.startswith(each[0])), digests[0])
    digest = given.removeprefix(prefix)
    size = hmac.new(b"", b"", algorithm).digest_size * 2
    well_formed = given.startswith(prefix) and len(digest) == size and _HEX.fullmatch(digest) is not None
    # Bytes, as compare_digest refuses text that is not ASCII; and every secret, so that no order shows in the time.
    candidate = digest.encode("ascii") if well_formed else b"0" * size
    signed = _signed(scheme, request)
    usable = [secret for secret in secrets if secret.value]
    proven = [
        hmac.compare_digest(hmac.new(secret.value, signed, algorithm).hexdigest().encode(), candidate)
        for secret in usable or (_NOBODYS_SECRET,)
    ]
    if not usable:
        raise SignatureError("the receiver has no usable secret")
    if not given:
        raise AbsentError(f"header {scheme.header.title()} is missing or empty")
    if not well_formed:
        wanted = " or ".join(f"'{prefix}'" for prefix, _ in scheme.digests)
        raise SignatureError(f"header {scheme.header.title()} is not {wanted} and {size} hex digits")
    if not any(proven):
        raise SignatureError("the signature does not match any secret")
    return usable[proven.index(True)]


def _signed(scheme: HmacScheme, request: Request) -> bytes:
    if not scheme.of_json:
        return request.body
    try:
        return payload.text_of(request.body, request.media_type).encode()
    except PayloadError:
        return request.body  # whatever it is, it is not what was signed
