"""A shared secret that is sent as it is: compared in constant time, with every secret that there is."""

import base64
import hashlib
import hmac
import secrets as random_secrets
from collections.abc import Callable, Sequence

from gitopsd.errors import SignatureError
from gitopsd.model import BasicScheme, Request, Secret, TokenScheme

SIGNING_KEY = b"whsec_"
"""What a secret begins with that signs, and is never sent."""

_NOBODYS_SECRET = Secret("nobody", random_secrets.token_bytes(32))


class AbsentError(SignatureError):
    """The delivery does not even try to prove itself in this way."""


def verify_header(scheme: TokenScheme, request: Request, secrets: Sequence[Secret]) -> Secret:
    """The secret that stands in the header. Raises SignatureError."""
    given = header(request, scheme.header)
    if not given.startswith(scheme.prefix):
        compare(b"", secrets)
        raise SignatureError(f"header {scheme.header.title()} does not begin with '{scheme.prefix.strip()}'")
    return compare(_bytes(given.removeprefix(scheme.prefix)), secrets)


def verify_basic(scheme: BasicScheme, request: Request, secrets: Sequence[Secret]) -> Secret:
    """The secret (`user:password`) that stands in the header. Raises SignatureError."""
    given = header(request, scheme.header)
    kind, _, credentials = given.partition(" ")
    if kind.lower() != "basic":
        compare(b"", secrets)
        raise SignatureError(f"header {scheme.header.title()} is not Basic authentication")
    return compare(_bytes(credentials), secrets, base64.b64encode)


def verify_path(request: Request, secrets: Sequence[Secret]) -> Secret:
    """The secret that stands in the path. Raises SignatureError."""
    if not request.token:
        compare(b"", secrets)
        raise AbsentError("the path ends without the token")
    return compare(_bytes(request.token), secrets)


def header(request: Request, name: str) -> str:
    """The value of a header. Raises AbsentError if there is none, or an empty one."""
    if given := request.headers.get(name, ""):
        return given
    raise AbsentError(f"header {name.title()} is missing or empty")


def compare(given: bytes, secrets: Sequence[Secret], as_sent: Callable[[bytes], bytes] = lambda value: value) -> Secret:
    """The one of `secrets` that was given; `as_sent` is how it is written. Raises SignatureError."""
    # Digests, as their length tells nothing; and every secret, so that no order shows in the time.
    digest = hashlib.sha256(given).digest()
    usable = [secret for secret in secrets if secret.value and not secret.value.startswith(SIGNING_KEY)]
    proven = [
        hmac.compare_digest(hashlib.sha256(as_sent(secret.value)).digest(), digest)
        for secret in usable or (_NOBODYS_SECRET,)
    ]
    if not usable or not any(proven):
        raise SignatureError("the token is none of the secrets")
    return usable[proven.index(True)]


def _bytes(text: str) -> bytes:
    """Header and path as they came: WSGI decodes both as Latin-1."""
    return text.encode("latin-1", "replace")
