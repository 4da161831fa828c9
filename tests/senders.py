"""Senders that prove themselves in each of the ways that there are, written apart from what verifies them."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote_from_bytes

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gitopsd.model import Request, Secret
from gitopsd.schemes import BasicScheme, Ed25519Scheme, HmacScheme, PathScheme, Scheme, StandardScheme, TokenScheme

NOW = 1_700_000_000.0
NONCE = "0123456789abcdef"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
ALL_SCHEMES: dict[str, Scheme] = {
    "hmac": HmacScheme(header="X-SIGN", digests=(("sha256=", "sha256"), ("sha512=", "sha512"))),
    "bare hmac": HmacScheme(header="X-BARE", digests=(("", "sha256"),)),
    "hmac of json": HmacScheme(header="X-JSON", digests=(("", "sha256"),), of_json=True),
    "token": TokenScheme(header="X-TOKEN"),
    "bearer": TokenScheme(header="AUTHORIZATION", prefix="Bearer "),
    "basic": BasicScheme(),
    "path": PathScheme(),
    "standard": StandardScheme(),
    "ed25519": Ed25519Scheme(header="X-PAYLOAD-SIGNATURE", nonce_header="X-PAYLOAD-NONCE"),
}
SIGNING = tuple(name for name in ALL_SCHEMES if name not in ("token", "bearer", "basic", "path"))


@dataclass(frozen=True)
class Sender:
    """One that knows a secret. Where the secret has a form of its own, it is made from `seed`."""

    scheme: Scheme
    seed: bytes
    now: float = NOW
    message_id: str = "msg_1"
    secret: Secret = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secret", Secret(f"secret-{self.seed.hex()}", self._value()))

    def request(self, body: bytes, media_type: str = JSON, headers: Mapping[str, str] | None = None) -> Request:
        """A delivery of `body`, which is JSON, or of a form with it in the field `payload`."""
        sent = body if media_type == JSON else f"payload={quote_from_bytes(body)}".encode()
        proof, token = self.proof(body if getattr(self.scheme, "of_json", False) else sent)
        return Request(headers={**(headers or {}), **proof}, body=sent, media_type=media_type, token=token)

    def proof(self, signed: bytes) -> tuple[dict[str, str], str]:
        """Headers and what goes behind the receiver's name in the path."""
        match self.scheme:
            case HmacScheme(header=header, digests=((prefix, algorithm), *_)):
                return {header: f"{prefix}{hmac.new(self.seed, signed, algorithm).hexdigest()}"}, ""
            case TokenScheme(header=header, prefix=prefix):
                return {header: f"{prefix}{self.seed.decode('latin-1')}"}, ""
            case BasicScheme(header=header):
                return {header: f"Basic {base64.b64encode(self.seed).decode()}"}, ""
            case PathScheme():
                return {}, self.seed.decode()
            case StandardScheme():
                return self._standard(signed, str(int(self.now))), ""
            case Ed25519Scheme(header=header, nonce_header=nonce_header):
                signature = base64.b64encode(self._private_key().sign(signed + NONCE.encode())).decode()
                return {header: signature, nonce_header: NONCE}, ""
        raise AssertionError(self.scheme)

    def _value(self) -> bytes:
        if isinstance(self.scheme, StandardScheme):
            return b"whsec_" + base64.b64encode(self.seed)
        if isinstance(self.scheme, Ed25519Scheme):
            return public_key_of(self._private_key())
        return self.seed

    def _private_key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(self.seed).digest())

    def _standard(self, signed: bytes, timestamp: str) -> dict[str, str]:
        content = f"{self.message_id}.{timestamp}.".encode("latin-1") + signed
        signature = base64.b64encode(hmac.new(self.seed, content, "sha256").digest()).decode()
        return {
            "WEBHOOK-ID": self.message_id,
            "WEBHOOK-TIMESTAMP": timestamp,
            "WEBHOOK-SIGNATURE": f"v1,{signature}",
        }


def public_key_of(key: Ed25519PrivateKey) -> bytes:
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def mangled(value: str) -> dict[str, str]:
    """What `value` may have become on the way or in the hands of a forger, none of which is right any more."""
    found = {
        "empty": "",
        "first character missing": value[1:],
        "last character missing": value[:-1],
        "half of it": value[: len(value) // 2],
        "one character more": f"{value}0",
        "one character before": f"0{value}",
        "another last character": value[:-1] + ("0" if value[-1] != "0" else "1"),
        "another first character": ("x" if value[0] != "x" else "y") + value[1:],
        "twice": value + value,
        "header twice": f"{value}, {value}",
        "header twice, the first empty": f", {value}",
        "header twice, the first wrong": f"0, {value}",
        "list": f"{value},{value}",
        "space before": f" {value}",
        "space after": f"{value} ",
        "tab before": f"\t{value}",
        "tab after": f"{value}\t",
        "line end after": f"{value}\n",
        "carriage return after": f"{value}\r\n",
        "space within": f"{value[:12]} {value[12:]}",
        "no-break space after": f"{value}\xa0",
        "nul after": f"{value}\x00",
        "nul before": f"\x00{value}",
        "nul within": f"{value[:12]}\x00{value[12:]}",
        "Latin-1 after": f"{value}é",
        "Latin-1 for the last": f"{value[:-1]}é",
        "beyond Latin-1 after": f"{value}€",
        "beyond Latin-1 for the last": f"{value[:-1]}€",
        "lone surrogate": f"{value}\udc80",
        "other digits": "".join(chr(0xFF10 + int(each)) if each in "0123456789" else each for each in f"{value}0"),
        "upper case": value.upper(),
        "case swapped": value.swapcase(),
        "quoted": f'"{value}"',
        "backwards": value[::-1],
        "percent-encoded": "".join(f"%{ord(each):02X}" for each in value),
        "very long": value * 2000,
        "zeros": "0" * len(value),
        "nothing but spaces": " " * len(value),
        "null": "null",
        "wildcard": "*",
    }
    return {name: text for name, text in found.items() if text != value}
