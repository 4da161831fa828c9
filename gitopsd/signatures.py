"""Is this body from who it claims? Bytes + headers → the secret that proves it, or SignatureError."""

import hmac
import re
import secrets as random_secrets
from collections.abc import Mapping, Sequence

from gitopsd.errors import SignatureError
from gitopsd.model import HmacScheme, Secret

_HEX = re.compile(r"[0-9a-f]+")
_NOBODYS_SECRET = Secret("nobody", random_secrets.token_bytes(32))


def verify(scheme: HmacScheme, headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret]) -> Secret:
    """The one of `secrets` that `body` is signed with. `headers`: names in upper case. Raises SignatureError.

    The error's text tells apart what went wrong for the journal; a sender must never see it. Where there is no secret
    the work is done all the same, so that the time it takes does not tell either.
    """
    given = headers.get(scheme.header, "")
    digest = given.removeprefix(scheme.prefix)
    size = hmac.new(b"", b"", scheme.algorithm).digest_size * 2
    well_formed = given.startswith(scheme.prefix) and len(digest) == size and _HEX.fullmatch(digest) is not None
    # Bytes, as compare_digest refuses text that is not ASCII; and every secret, so that no order shows in the time.
    candidate = digest.encode("ascii") if well_formed else b"0" * size
    proven = [
        hmac.compare_digest(hmac.new(secret.value, body, scheme.algorithm).hexdigest().encode(), candidate)
        for secret in secrets or (_NOBODYS_SECRET,)
    ]
    if not secrets:
        raise SignatureError("the receiver has no usable secret")
    if not given:
        raise SignatureError(f"header {scheme.header.title()} is missing or empty")
    if not well_formed:
        raise SignatureError(f"header {scheme.header.title()} is not '{scheme.prefix}' and {size} hex digits")
    if not any(proven):
        raise SignatureError("the signature does not match any secret")
    return secrets[proven.index(True)]
