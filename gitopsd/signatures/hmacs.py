"""An HMAC of the body in a header."""

import hashlib
import hmac
import re
from collections.abc import Sequence

from gitopsd import payload
from gitopsd.errors import PayloadError, SignatureError
from gitopsd.model import Request, Secret
from gitopsd.schemes import HmacScheme
from gitopsd.signatures.parts import AbsentError, proven

_HEX = re.compile(r"[0-9a-f]+")


def verify(scheme: HmacScheme, request: Request, secrets: Sequence[Secret]) -> Secret:
    """The secret that the delivery is signed with. Raises SignatureError."""
    given = request.headers.get(scheme.header, "")
    # The longest first, as an empty prefix is one of every signature.
    digests = sorted(scheme.digests, key=lambda digest: -len(digest[0]))
    prefix, algorithm = next((each for each in digests if given.startswith(each[0])), digests[0])
    digest = given.removeprefix(prefix)
    size = hashlib.new(algorithm).digest_size * 2
    candidate, problem = digest, SignatureError("the signature does not match any secret")
    if not given.startswith(prefix) or len(digest) != size or not _HEX.fullmatch(digest):
        candidate, problem = "", _malformed(scheme, given, size)  # the empty text is no secret's signature
    signed, candidate_bytes = _signed(scheme, request), candidate.encode("ascii")

    def proves(secret: Secret) -> bool:
        # Bytes, as compare_digest refuses text that is not ASCII.
        wanted = hmac.digest(secret.value, signed, algorithm).hex().encode("ascii")
        return hmac.compare_digest(wanted, candidate_bytes)

    return proven(secrets, proves, problem)


def _malformed(scheme: HmacScheme, given: str, size: int) -> SignatureError:
    if not given:
        return AbsentError(f"header {scheme.header.title()} is missing or empty")
    wanted = " or ".join(f"'{prefix}'" for prefix, _ in scheme.digests if prefix)
    return SignatureError(f"header {scheme.header.title()} is not {wanted}{' and ' if wanted else ''}{size} hex digits")


def _signed(scheme: HmacScheme, request: Request) -> bytes:
    if not scheme.of_json:
        return request.body
    try:
        return payload.text_of(request.body, request.media_type).encode()
    except PayloadError:
        return request.body  # whatever it is, it is not what was signed
