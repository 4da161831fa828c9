"""Ed25519: the signature of one key over body and nonce, and none that is only nearly that."""

import base64
import sys

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gitopsd.errors import SignatureError
from gitopsd.model import Request, Secret
from gitopsd.schemes import Ed25519Scheme, TokenScheme
from gitopsd.signatures import verify
from tests.senders import NONCE, NOW, Sender, mangled, public_key_of

SCHEME = Ed25519Scheme(header="X-SIGNATURE", nonce_header="X-NONCE")
SENDER = Sender(SCHEME, b"the sender")
BODY = b'{"refs": []}'
RIGHT = SENDER.request(BODY)
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the group that the curve's base point makes (RFC 8032, 5.1)."""


def is_accepted(headers: dict[str, str], *keys: bytes, body: bytes = BODY) -> bool:
    secrets = [Secret("name", key) for key in keys or (SENDER.secret.value,)]
    try:
        verify([SCHEME], Request(headers={**RIGHT.headers, **headers}, body=body), secrets, NOW)
    except SignatureError:
        return False
    return True


def test_what_the_key_has_signed_is_accepted() -> None:
    assert is_accepted({})


@pytest.mark.parametrize("header", ["X-SIGNATURE", "X-NONCE"])
def test_a_mangled_header_is_refused(header: str) -> None:
    variants = mangled(RIGHT.headers[header])
    assert len(variants) > 20
    for name, value in variants.items():
        assert not is_accepted({header: value}), name


def test_base64_that_says_the_same_in_other_letters_is_refused() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    value = RIGHT.headers["X-SIGNATURE"]
    other = letters[letters.index(value[85]) ^ 1]
    same = f"{value[:85]}{other}=="
    assert base64.b64decode(same) == base64.b64decode(value)
    assert not is_accepted({"X-SIGNATURE": same})
    assert not is_accepted({"X-SIGNATURE": value.rstrip("=")})
    assert not is_accepted({"X-SIGNATURE": f"{value[:40]}\n{value[40:]}"})


def test_a_signature_that_was_bent_without_the_key_is_refused() -> None:
    signature = base64.b64decode(RIGHT.headers["X-SIGNATURE"])
    scalar = int.from_bytes(signature[32:], "little")
    for forged in (
        signature[:32] + (scalar + ORDER).to_bytes(32, "little"),
        signature[:32] + bytes(32),
        bytes(32) + signature[32:],
        bytes(64),
        signature[:63],
        signature + b"\0",
        signature[32:] + signature[:32],
        b"",
    ):
        assert not is_accepted({"X-SIGNATURE": base64.b64encode(forged).decode()})


def test_nothing_moves_between_body_and_nonce() -> None:
    whole = BODY + NONCE.encode()
    for cut in range(1, len(whole)):
        if cut != len(BODY):
            assert not is_accepted({"X-NONCE": whole[cut:].decode()}, body=whole[:cut])


@pytest.mark.parametrize("length", [0, 1, 8, 15, 17, 32, 64])
def test_a_nonce_is_16_hex_digits_however_well_it_is_signed(length: int) -> None:
    key = Ed25519PrivateKey.generate()
    nonce = "0" * length
    headers = {"X-NONCE": nonce, "X-SIGNATURE": base64.b64encode(key.sign(BODY + nonce.encode())).decode()}
    assert not is_accepted(headers, public_key_of(key))


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"nonsense",
        b"====",
        b"\xff\xfe",
        SENDER.secret.value[:-1],
        SENDER.secret.value.rstrip(b"="),
        SENDER.secret.value + b"=",
        SENDER.secret.value + b"\n",
        b" " + SENDER.secret.value,
        base64.b64encode(base64.b64decode(SENDER.secret.value) + b"\0"),
        base64.b64encode(base64.b64decode(SENDER.secret.value)[:31]),
        base64.b64decode(SENDER.secret.value),
        base64.b64decode(SENDER.secret.value).hex().encode(),
        base64.b64encode(b"\xff" * 32),
        b"whsec_" + SENDER.secret.value,
        Sender(SCHEME, b"another").secret.value,
    ],
)
def test_another_key_or_what_is_none_proves_nothing(key: bytes) -> None:
    assert not is_accepted({}, key)
    assert is_accepted({}, key, SENDER.secret.value)
    assert is_accepted({}, SENDER.secret.value, key)


def test_the_error_tells_an_operator_what_went_wrong() -> None:
    signature = RIGHT.headers["X-SIGNATURE"]
    for headers, said in (
        ({}, "X-Signature is missing or empty"),
        ({"X-SIGNATURE": signature}, "X-Nonce is missing or empty"),
        ({"X-SIGNATURE": "%", "X-NONCE": NONCE}, "X-Signature is not base64"),
        ({"X-SIGNATURE": signature, "X-NONCE": "1"}, "X-Nonce is not 16 hex digits"),
        ({"X-SIGNATURE": signature, "X-NONCE": "0" * 16}, "does not match any key"),
    ):
        with pytest.raises(SignatureError, match=said):
            verify([SCHEME], Request(headers=headers, body=BODY), [SENDER.secret], NOW)


def test_without_cryptography_it_is_closed_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SignatureError, match=r"cryptography is not installed.*python3-cryptography"):
        verify([SCHEME], RIGHT, [SENDER.secret], NOW)
    token = Sender(TokenScheme(header="X-TOKEN"), b"token")
    both = Request(headers={**RIGHT.headers, "X-TOKEN": "token"}, body=BODY)
    assert verify([SCHEME, token.scheme], both, [SENDER.secret, token.secret], NOW) is token.secret


def test_where_openssl_has_no_ed25519_it_is_closed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_data: bytes) -> Ed25519PublicKey:
        raise UnsupportedAlgorithm("ed25519 is not supported by this version of OpenSSL.")

    monkeypatch.setattr(Ed25519PublicKey, "from_public_bytes", refuse)
    with pytest.raises(SignatureError, match="OpenSSL has no Ed25519"):
        verify([SCHEME], RIGHT, [SENDER.secret], NOW)
