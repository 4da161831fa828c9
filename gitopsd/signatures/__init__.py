"""Is this delivery from who it claims? Request + secrets → the secret that proves it, or SignatureError."""

from collections.abc import Sequence

from gitopsd.errors import SignatureError
from gitopsd.model import Request, Secret
from gitopsd.schemes import BasicScheme, Ed25519Scheme, HmacScheme, PathScheme, Scheme, StandardScheme, TokenScheme
from gitopsd.signatures import ed25519, hmacs, standard, tokens
from gitopsd.signatures.parts import AbsentError

__all__ = ["NO_SECRET", "verify"]

NO_SECRET = "the receiver has no usable secret"  # noqa: S105 - what is said of one that is missing


def verify(schemes: Sequence[Scheme], request: Request, secrets: Sequence[Secret], now: float) -> Secret:
    """The one of `secrets` that proves `request` by one of `schemes`. `now`: epoch seconds. Raises SignatureError.

    The error's text tells apart what went wrong for the journal; a sender must never see it. Where there is no secret
    the work is done all the same, so that the time it takes does not tell either.
    """
    usable = [secret for secret in secrets if secret.value]  # anybody can sign with an empty one
    proof: Secret | None = None
    problems: list[SignatureError] = []
    for scheme in schemes:
        try:
            found = _verify(scheme, request, usable, now)
            proof = proof or found
        except SignatureError as error:
            problems.append(error)
    if not usable:
        raise SignatureError(NO_SECRET)
    if request.token and PathScheme() not in schemes:
        raise SignatureError("the path goes on behind the receiver's name")
    if proof:
        return proof
    # Of several ways the sender has chosen one, and what is wrong with that says more than that another is missing.
    chosen = [error for error in problems if not isinstance(error, AbsentError)]
    raise (chosen or problems or [SignatureError("the provider knows no way to prove a delivery")])[0]


def _verify(scheme: Scheme, request: Request, secrets: Sequence[Secret], now: float) -> Secret:
    match scheme:
        case HmacScheme():
            return hmacs.verify(scheme, request, secrets)
        case TokenScheme():
            return tokens.verify_header(scheme, request, secrets)
        case BasicScheme():
            return tokens.verify_basic(scheme, request, secrets)
        case PathScheme():
            return tokens.verify_path(request, secrets)
        case StandardScheme():
            return standard.verify(request, secrets, now)
        case Ed25519Scheme():
            return ed25519.verify(scheme, request, secrets)
