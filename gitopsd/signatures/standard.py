"""Standard Webhooks 1.0.0 (standardwebhooks.com), which GitLab's signing tokens are, too."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence

from gitopsd.errors import SignatureError
from gitopsd.model import Request, Secret
from gitopsd.signatures.tokens import SIGNING_KEY, header

ID, TIMESTAMP, SIGNATURE = "WEBHOOK-ID", "WEBHOOK-TIMESTAMP", "WEBHOOK-SIGNATURE"
TOLERANCE_SEC = 300
"""How far the time of signing may be from now, in both directions. Retries are signed anew."""

_SECONDS = re.compile(r"[0-9]{1,12}")
_MAX_SIGNATURES = 20


def verify(request: Request, secrets: Sequence[Secret], now: float) -> Secret:
    """The secret that one of the signatures was made with. Raises SignatureError."""
    given, message_id, timestamp = (header(request, name) for name in (SIGNATURE, ID, TIMESTAMP))
    # As it was sent, and not as a number: that is what was signed.
    signed = b".".join((message_id.encode("latin-1", "replace"), timestamp.encode("latin-1", "replace"), request.body))
    candidates = [
        each.removeprefix("v1,").encode("latin-1", "replace") for each in given.split(" ") if each[:3] == "v1,"
    ]
    keys = [(secret, key) for secret in secrets if (key := _key(secret)) is not None]
    proof = None
    for secret, key in keys:
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
        matching = [hmac.compare_digest(wanted, candidate) for candidate in candidates[:_MAX_SIGNATURES]]
        if any(matching):
            proof = secret
    if not keys:
        raise SignatureError(f"no secret of the receiver is a signing key ({SIGNING_KEY.decode()} and base64)")
    if not _SECONDS.fullmatch(timestamp) or abs(int(timestamp) - now) > TOLERANCE_SEC:
        raise SignatureError(f"header {TIMESTAMP.title()} is not a time within {TOLERANCE_SEC} s of now")
    if proof is None:
        raise SignatureError(f"no signature in header {SIGNATURE.title()} matches a secret")
    return proof


def _key(secret: Secret) -> bytes | None:
    if not secret.value.startswith(SIGNING_KEY):
        return None
    try:
        return base64.b64decode(secret.value.removeprefix(SIGNING_KEY), validate=True) or None
    except binascii.Error:
        return None
