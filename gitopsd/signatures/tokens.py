"""A shared secret that is sent as it is: compared in constant time, with every secret that there is."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence

from gitopsd.errors import SignatureError
from gitopsd.model import Request, Secret
from gitopsd.schemes import BasicScheme, TokenScheme
from gitopsd.signatures.parts import AbsentError, header, proven
from gitopsd.signatures.standard import KEY_PREFIX

_NO_TOKEN = b""  # that of no secret, as an empty one is none


def verify_header(scheme: TokenScheme, request: Request, secrets: Sequence[Secret]) -> Secret:
    """The secret that stands in the header. Raises SignatureError."""
    given, prefix = header(request, scheme.header), scheme.prefix.encode("latin-1")
    if not given.startswith(prefix):
        problem = f"header {scheme.header.title()} does not begin with '{scheme.prefix.strip()}'"
        return _compare(_NO_TOKEN, secrets, problem=problem)
    return _compare(given.removeprefix(prefix), secrets)


def verify_basic(scheme: BasicScheme, request: Request, secrets: Sequence[Secret]) -> Secret:
    """The secret (`user:password`) that stands in the header. Raises SignatureError."""
    kind, _, credentials = header(request, scheme.header).partition(b" ")
    if kind.lower() != b"basic":
        problem = f"header {scheme.header.title()} is not Basic authentication"
        return _compare(_NO_TOKEN, secrets, base64.b64encode, problem=problem)
    return _compare(credentials, secrets, base64.b64encode)


def verify_path(request: Request, secrets: Sequence[Secret]) -> Secret:
    """The secret that stands in the path. Raises SignatureError."""
    if not request.token:
        raise AbsentError("the path ends without the token")
    # A header is Latin-1 here, but falcon decodes a path as UTF-8. A lone surrogate cannot come that way.
    return _compare(request.token.encode("utf-8", "surrogatepass"), secrets)


def _compare(
    given: bytes,
    secrets: Sequence[Secret],
    as_sent: Callable[[bytes], bytes] = bytes,
    problem: str = "the token is none of the secrets",
) -> Secret:
    """The one of `secrets` that was given; `as_sent` is how it is written. Raises SignatureError with `problem`."""
    sendable = [secret for secret in secrets if not secret.value.startswith(KEY_PREFIX)]
    if secrets and not sendable:
        problem = f"every secret of the receiver is a signing key ('{KEY_PREFIX.decode()}…'), which is never a token"
    # Digests, as their length tells nothing.
    digest = hashlib.sha256(given).digest()
    return proven(
        sendable,
        lambda secret: hmac.compare_digest(hashlib.sha256(as_sent(secret.value)).digest(), digest),
        SignatureError(problem),
    )
