"""What the schemes share: a header as it came, and the right secret found without telling how near a wrong one was."""

import base64
import binascii
import secrets as random_secrets
from collections.abc import Callable, Sequence

from gitopsd.errors import SignatureError
from gitopsd.model import Request, Secret

NOBODY = Secret("nobody", random_secrets.token_bytes(32))
"""What the work is done with where there is no secret, so that it takes its time."""


class AbsentError(SignatureError):
    """The delivery does not even try to prove itself in this way."""


def header(request: Request, name: str) -> bytes:
    """The bytes of a header. Raises AbsentError if there is none, or an empty one."""
    given = request.headers.get(name, "")
    if not given:
        raise AbsentError(f"header {name.title()} is missing or empty")
    try:
        return given.encode("latin-1")  # which is what WSGI has decoded it as
    except UnicodeEncodeError as error:
        raise SignatureError(f"header {name.title()} has characters that no header can have") from error


def from_base64(text: bytes) -> bytes | None:
    """What `text` is the one base64 of, or None: its end can have bits and signs that do not count."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return decoded if base64.b64encode(decoded) == text else None


def proven(secrets: Sequence[Secret], proves: Callable[[Secret], bool], problem: SignatureError) -> Secret:
    """The first of `secrets` that `proves` it. Raises `problem` if none does.

    Every one of them is tried, so that the time tells neither which one it was nor how many there are before it.
    """
    proofs = [proves(secret) for secret in secrets or (NOBODY,)]
    if not secrets or not any(proofs):
        raise problem
    return secrets[proofs.index(True)]
