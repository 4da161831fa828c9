"""Standard Webhooks 1.0: the specification's libraries agree on one example, and on five minutes."""

import base64
import hashlib
import hmac

import pytest

from gitopsd.errors import SignatureError
from gitopsd.model import Request, Secret
from gitopsd.schemes import StandardScheme
from gitopsd.signatures import verify
from tests.senders import mangled

KEY = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNED_AT = 1_614_265_330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
WRONG = "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="
EXAMPLE = {
    "WEBHOOK-ID": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "WEBHOOK-TIMESTAMP": str(SIGNED_AT),
    "WEBHOOK-SIGNATURE": SIGNATURE,
}


def is_accepted(
    headers: dict[str, str], *keys: bytes, body: bytes = BODY, now: float = SIGNED_AT, **changes: str
) -> bool:
    secrets = [Secret(f"secret-{number}", key) for number, key in enumerate(keys or (KEY,))]
    try:
        verify([StandardScheme()], Request(headers=headers | changes, body=body), secrets, now)
    except SignatureError:
        return False
    return True


def signed(message_id: str, timestamp: str, body: bytes = BODY, key: bytes = KEY) -> dict[str, str]:
    content = f"{message_id}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    digest = hmac.new(base64.b64decode(key.removeprefix(b"whsec_")), content, hashlib.sha256).digest()
    return {
        "WEBHOOK-ID": message_id,
        "WEBHOOK-TIMESTAMP": timestamp,
        "WEBHOOK-SIGNATURE": f"v1,{base64.b64encode(digest).decode()}",
    }


def test_the_published_example_is_accepted() -> None:
    assert is_accepted(EXAMPLE)
    assert signed(EXAMPLE["WEBHOOK-ID"], EXAMPLE["WEBHOOK-TIMESTAMP"]) == EXAMPLE


@pytest.mark.parametrize("header", EXAMPLE)
def test_a_header_that_is_missing_or_mangled_is_refused(header: str) -> None:
    assert not is_accepted({name: value for name, value in EXAMPLE.items() if name != header})
    variants = mangled(EXAMPLE[header])
    if header == "WEBHOOK-SIGNATURE":  # a list, and the right one is still in it
        for name in ("space before", "space after", "header twice", "header twice, the first empty"):
            assert is_accepted(EXAMPLE | {header: variants.pop(name)}), name
        assert is_accepted(EXAMPLE | {header: variants.pop("header twice, the first wrong")})
    assert len(variants) > 20
    for name, value in variants.items():
        assert not is_accepted(EXAMPLE | {header: value}), name


@pytest.mark.parametrize(
    "signature",
    [
        SIGNATURE.removeprefix("v1,"),
        SIGNATURE.replace("v1,", "V1,"),
        SIGNATURE.replace("v1,", "v1"),
        SIGNATURE.replace("v1,", "v1:"),
        SIGNATURE.replace("v1,", "v1="),
        SIGNATURE.replace("v1,", "v1a,"),
        SIGNATURE.replace("v1,", "v2,"),
        SIGNATURE.replace("v1,", "v0,"),
        SIGNATURE.replace("v1,", "v1, "),
        SIGNATURE.replace("v1,", "v1,,"),
        SIGNATURE.replace("v1,", "v1,v1,"),
        SIGNATURE.replace("v1,", ","),
        SIGNATURE.rstrip("="),
        SIGNATURE.replace("OE=", "OF="),  # the same but for bits that do not count
        SIGNATURE.replace("+", "-").replace("/", "_"),
        f"{SIGNATURE},{SIGNATURE}",
        f"{WRONG};{SIGNATURE}",
        f"{WRONG}\t{SIGNATURE}",
        f"{WRONG}\n{SIGNATURE}",
        f"{WRONG}\xa0{SIGNATURE}",
        WRONG,
        "v1,",
        "v1",
        "v1,=",
        "v1,\x00",
        ",",
        " ",
        " ".join([WRONG] * 5000),
        f"v1,{hmac.new(KEY, BODY, 'sha256').hexdigest()}",
    ],
)
def test_anything_but_the_exact_signature_is_refused(signature: str) -> None:
    assert not is_accepted(EXAMPLE | {"WEBHOOK-SIGNATURE": signature})


@pytest.mark.parametrize(
    "other",
    [
        WRONG,
        "v1,",
        "v1",
        "v1,,,",
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "nonsense",
        ",",
        "",
        "v1,é",
        "v1,\x00",
        "v1,====",
        "v1," + "A" * 10_000,
        "v1,%",
    ],
)
def test_a_right_signature_counts_in_a_list_with_anything_and_anything_alone_does_not(other: str) -> None:
    for signatures in ([other, SIGNATURE], [SIGNATURE, other], [other, SIGNATURE, other]):
        assert is_accepted(EXAMPLE | {"WEBHOOK-SIGNATURE": " ".join(signatures)})
    assert not is_accepted(EXAMPLE | {"WEBHOOK-SIGNATURE": other})
    assert not is_accepted(EXAMPLE | {"WEBHOOK-SIGNATURE": f"{other} {other} {WRONG}"})


def test_a_list_is_read_up_to_a_length_that_no_rotation_has() -> None:
    assert is_accepted(EXAMPLE | {"WEBHOOK-SIGNATURE": " ".join([WRONG] * 19 + [SIGNATURE])})
    assert not is_accepted(EXAMPLE | {"WEBHOOK-SIGNATURE": " ".join([WRONG] * 20 + [SIGNATURE])})


@pytest.mark.parametrize("seconds", [0, 1, -1, 299, -299, 300, -300])
def test_within_five_minutes_either_way_a_signature_counts(seconds: int) -> None:
    assert is_accepted(EXAMPLE, now=SIGNED_AT + seconds)


@pytest.mark.parametrize(
    "seconds", [300.5, -300.5, 301, -301, 3600, -3600, 86400 * 365, -SIGNED_AT, 1e30, float("inf")]
)
def test_before_and_after_that_it_does_not(seconds: float) -> None:
    assert not is_accepted(EXAMPLE, now=SIGNED_AT + seconds)


@pytest.mark.parametrize(
    "timestamp",
    [
        f"{SIGNED_AT}.0",
        f"{SIGNED_AT}.",
        f"+{SIGNED_AT}",
        f"-{SIGNED_AT}",
        f" {SIGNED_AT}",
        f"{SIGNED_AT} ",
        f"{SIGNED_AT}\n",
        f"{SIGNED_AT}\x00",
        f"{SIGNED_AT}s",
        f"{SIGNED_AT}000",
        f"0x{SIGNED_AT:x}",
        f"{SIGNED_AT:_}",
        f"{SIGNED_AT:,}",
        f"{SIGNED_AT:e}",
        f"{SIGNED_AT}, {SIGNED_AT}",
        str(SIGNED_AT).translate({48 + digit: 0x660 + digit for digit in range(10)}),
        str(SIGNED_AT).translate({48 + digit: 0xFF10 + digit for digit in range(10)}),
        "2021-02-25T15:02:10Z",
        "now",
        "nan",
        "inf",
        "",
        "\u00b9",
        "9" * 5000,
    ],
)
def test_a_time_that_is_no_whole_number_of_seconds_is_refused_however_well_it_is_signed(timestamp: str) -> None:
    assert is_accepted(signed("msg_1", str(SIGNED_AT)))
    assert not is_accepted(signed("msg_1", timestamp))


def test_the_time_counts_as_it_was_sent() -> None:
    padded = f"00{SIGNED_AT}"
    assert is_accepted(signed("msg_1", padded))
    assert not is_accepted(signed("msg_1", padded) | {"WEBHOOK-TIMESTAMP": str(SIGNED_AT)})


def test_id_time_and_body_are_signed_together() -> None:
    for body in (b"", BODY[:-1], BODY + b"\n", BODY * 2):
        assert not is_accepted(EXAMPLE, body=body)
    other = signed("msg_2", str(SIGNED_AT + 1), b"{}")
    for header in ("WEBHOOK-ID", "WEBHOOK-TIMESTAMP", "WEBHOOK-SIGNATURE"):
        assert not is_accepted(EXAMPLE | {header: other[header]})


@pytest.mark.parametrize(
    "key",
    [
        b"",
        KEY.removeprefix(b"whsec_"),
        b"WHSEC_" + KEY[6:],
        b"whsec-" + KEY[6:],
        b"whsec_",
        b"whsec_=",
        b"whsec_====",
        b"whsec_" + KEY,
        KEY[:-1],
        KEY + b"=",
        KEY + b"A",
        KEY + b"\n",
        b" " + KEY,
        b"whsec_ " + KEY[6:],
        b"whsec_\xff\xfe",
        b"whsec_" + "é".encode(),
        b"whsec_!!!!",
        b"whpk_" + KEY[6:],
        b"whsk_" + KEY[6:],
    ],
)
def test_a_secret_that_is_no_signing_key_proves_nothing(key: bytes) -> None:
    assert not is_accepted(EXAMPLE, key)
    assert is_accepted(EXAMPLE, key, KEY)
    for guess in (b"", key, key.removeprefix(b"whsec_")):
        digest = hmac.new(guess, f"msg.{SIGNED_AT}.".encode() + BODY, "sha256").digest()
        headers = {
            "WEBHOOK-ID": "msg",
            "WEBHOOK-TIMESTAMP": str(SIGNED_AT),
            "WEBHOOK-SIGNATURE": f"v1,{base64.b64encode(digest).decode()}",
        }
        assert not is_accepted(headers, key)


def test_the_error_tells_an_operator_what_went_wrong() -> None:
    for headers, key, now, said in (
        ({}, KEY, SIGNED_AT, "Webhook-Signature is missing or empty"),
        ({"WEBHOOK-SIGNATURE": SIGNATURE}, KEY, SIGNED_AT, "Webhook-Id is missing or empty"),
        (EXAMPLE, b"plain", SIGNED_AT, r"no secret of the receiver is a signing key \('whsec_' and base64\)"),
        (EXAMPLE, b"whsec_%", SIGNED_AT, "no secret of the receiver is a signing key"),
        (EXAMPLE, KEY, SIGNED_AT + 301, "Webhook-Timestamp is not a time within 300 s of now"),
        (EXAMPLE | {"WEBHOOK-SIGNATURE": WRONG}, KEY, SIGNED_AT, "no signature in header Webhook-Signature matches"),
        (EXAMPLE | {"WEBHOOK-ID": "€"}, KEY, SIGNED_AT, "Webhook-Id has characters"),
    ):
        with pytest.raises(SignatureError, match=said):
            verify([StandardScheme()], Request(headers=headers, body=BODY), [Secret("name", key)], now)


def test_an_id_in_latin_1_is_signed_as_it_was_sent() -> None:
    content = "é".encode() + f".{SIGNED_AT}.".encode() + BODY
    digest = hmac.new(base64.b64decode(KEY[6:]), content, "sha256").digest()
    headers = {
        "WEBHOOK-ID": "é".encode().decode("latin-1"),
        "WEBHOOK-TIMESTAMP": str(SIGNED_AT),
        "WEBHOOK-SIGNATURE": f"v1,{base64.b64encode(digest).decode()}",
    }
    assert is_accepted(headers)
