"""An Ed25519 signature of body and nonce, as sourcehut makes it."""

import base64
import binascii
from collections.abc import Sequence

from gitopsd.errors import SignatureError
from gitopsd.model import Ed25519Scheme, Request, Secret
from gitopsd.signatures.tokens import header


def verify(scheme: Ed25519Scheme, request: Request, secrets: Sequence[Secret]) -> Secret:
    """The secret (a public key) that proves the signature. Raises SignatureError, also for a lack of cryptography."""
    given, nonce = header(request, scheme.header), header(request, scheme.nonce_header)
    try:
        signature = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"header {scheme.header.title()} is not base64") from error
    signed = request.body + nonce.encode("latin-1", "replace")
    for secret in secrets:
        if _proves(secret, signature, signed):
            return secret
    raise SignatureError("the signature does not match any key")


def _proves(secret: Secret, signature: bytes, signed: bytes) -> bool:
    try:
        # Not in the standard library, and needed for one provider.
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError as error:
        raise SignatureError("cryptography is not installed (python3-cryptography), and Ed25519 needs it") from error
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(secret.value, validate=True)).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True
