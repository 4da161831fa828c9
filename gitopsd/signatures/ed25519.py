"""An Ed25519 signature of body and nonce, as sourcehut makes it."""

import re
from collections.abc import Sequence

from gitopsd.errors import SignatureError
from gitopsd.model import Request, Secret
from gitopsd.schemes import Ed25519Scheme
from gitopsd.signatures.parts import AbsentError, from_base64, header, proven

# Of one length, because body and nonce are signed as one text: nothing may move from one to the other.
_NONCE = re.compile(rb"[0-9a-f]{16}")


def verify(scheme: Ed25519Scheme, request: Request, secrets: Sequence[Secret]) -> Secret:
    """The secret (a public key) that proves the signature. Raises SignatureError, also for a lack of cryptography."""
    signature = from_base64(header(request, scheme.header))
    if signature is None:
        raise SignatureError(f"header {scheme.header.title()} is not base64")
    nonce = _nonce(scheme, request)
    problem = SignatureError("the signature does not match any key")
    return proven(secrets, lambda secret: _proves(secret, signature, request.body + nonce), problem)


def _nonce(scheme: Ed25519Scheme, request: Request) -> bytes:
    try:
        nonce = header(request, scheme.nonce_header)
    except AbsentError as error:  # but there is a signature: the sender has tried
        raise SignatureError(str(error)) from error
    if not _NONCE.fullmatch(nonce):
        raise SignatureError(f"header {scheme.nonce_header.title()} is not 16 hex digits")
    return nonce


def _proves(secret: Secret, signature: bytes, signed: bytes) -> bool:
    try:
        # Not in the standard library, and needed for one provider.
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError as error:
        raise SignatureError("cryptography is not installed (python3-cryptography), and Ed25519 needs it") from error
    try:
        Ed25519PublicKey.from_public_bytes(from_base64(secret.value) or b"").verify(signature, signed)
    except (InvalidSignature, ValueError):  # the latter for a key that is none
        return False
    except UnsupportedAlgorithm as error:
        raise SignatureError("this system's OpenSSL has no Ed25519") from error
    return True
