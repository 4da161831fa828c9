"""Standard Webhooks 1.0.0 (standardwebhooks.com), which GitLab's signing tokens are, too."""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

from gitopsd.errors import SignatureError
from gitopsd.model import Request, Secret
from gitopsd.signatures.parts import NOBODY, AbsentError, from_base64, header, proven

KEY_PREFIX = b"whsec_"
"""What a secret begins with that signs, and is never sent."""

ID, TIMESTAMP, SIGNATURE = "WEBHOOK-ID", "WEBHOOK-TIMESTAMP", "WEBHOOK-SIGNATURE"
TOLERANCE_SEC = 300
"""How far the time of signing may be from now, in both directions. Retries are signed anew."""

_SECONDS = re.compile(rb"[0-9]{1,12}")
_MAX_SIGNATURES = 20


def verify(request: Request, secrets: Sequence[Secret], now: float) -> Secret:
    """The secret that one of the signatures was made with. Raises SignatureError."""
    given = header(request, SIGNATURE)
    message_id, timestamp = _signed_header(request, ID), _signed_header(request, TIMESTAMP)
    # As it was sent, and not as a number: that is what was signed.
    signed = b".".join((message_id, timestamp, request.body))
    # What is no signature of version 1 may stand beside one: another version, or what another sender has put there.
    signatures = [each.removeprefix(b"v1,") for each in given.split(b" ") if each.startswith(b"v1,")]
    problem = SignatureError(f"no signature in header {SIGNATURE.title()} matches a secret")
    if not _SECONDS.fullmatch(timestamp) or abs(int(timestamp) - now) > TOLERANCE_SEC:
        signatures = []
        problem = SignatureError(f"header {TIMESTAMP.title()} is not a time within {TOLERANCE_SEC} s of now")
    if not any(map(_key, secrets)):
        problem = SignatureError(f"no secret of the receiver is a signing key ('{KEY_PREFIX.decode()}' and base64)")
    return proven(secrets, lambda secret: _proves(secret, signed, signatures[:_MAX_SIGNATURES]), problem)


def _signed_header(request: Request, name: str) -> bytes:
    try:
        return header(request, name)
    except AbsentError as error:  # but there is a signature: the sender has tried
        raise SignatureError(str(error)) from error


def _proves(secret: Secret, signed: bytes, signatures: Sequence[bytes]) -> bool:
    key = _key(secret)
    wanted = base64.b64encode(hmac.new(key or NOBODY.value, signed, hashlib.sha256).digest())
    matching = [hmac.compare_digest(wanted, signature) for signature in signatures]
    return key is not None and any(matching)


def _key(secret: Secret) -> bytes | None:
    if not secret.value.startswith(KEY_PREFIX):
        return None
    return from_base64(secret.value.removeprefix(KEY_PREFIX)) or None
