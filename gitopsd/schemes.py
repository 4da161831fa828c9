"""The ways in which a delivery may prove itself: values without behaviour.

No tuples as the others: two kinds without a field would be the same empty one.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HmacScheme:
    """A signature in `header`: the prefix of one of `digests` (prefix → algorithm), then the HMAC in lower-case hex.

    It covers the raw body, or with `of_json` the JSON text within: the same, but for a form body.
    """

    header: str
    digests: tuple[tuple[str, str], ...] = (("sha256=", "sha256"),)
    of_json: bool = False


@dataclass(frozen=True, kw_only=True)
class TokenScheme:
    """The secret itself in `header`, after `prefix`. Secrets that are keys to sign with (`whsec_`) are none here."""

    header: str
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class BasicScheme:
    """HTTP's Basic authentication; the secret is `user:password`."""

    header: str = "AUTHORIZATION"


@dataclass(frozen=True, kw_only=True)
class StandardScheme:
    """Standard Webhooks 1.0: HMAC-SHA256 over id, time and raw body; the secret is `whsec_` and base64."""


@dataclass(frozen=True, kw_only=True)
class Ed25519Scheme:
    """An Ed25519 signature (base64 in `header`) of the raw body and the nonce in `nonce_header`.

    The secret is the public key in base64, which is no secret: whose repository it is, the signature does not tell.
    """

    header: str
    nonce_header: str


@dataclass(frozen=True, kw_only=True)
class PathScheme:
    """The secret as the last part of the path, where the sender can do no better."""


Scheme = HmacScheme | TokenScheme | BasicScheme | StandardScheme | Ed25519Scheme | PathScheme
