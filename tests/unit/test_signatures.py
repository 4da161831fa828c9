"""Proof of origin: the providers' own examples are accepted, and nothing else is."""

import hashlib
import hmac

import pytest

from gitopsd.errors import SignatureError
from gitopsd.model import HmacScheme, Request, Secret
from gitopsd.signatures import verify

SCHEME = HmacScheme(header="X-HUB-SIGNATURE-256")
NOW = 1_700_000_000.0
HEADER = "X-HUB-SIGNATURE-256"
KEY = b"It's a Secret to Everybody"
BODY = b"Hello, World!"
DIGEST = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def is_accepted(headers: dict[str, str], body: bytes, *keys: bytes, scheme: HmacScheme = SCHEME) -> bool:
    try:
        secrets = [Secret(f"secret-{number}", key) for number, key in enumerate(keys)]
        verify([scheme], Request(headers=headers, body=body), secrets, NOW)
    except SignatureError:
        return False
    return True


@pytest.mark.parametrize(
    ("key", "body", "signature"),
    [
        pytest.param(KEY, BODY, f"sha256={DIGEST}", id="github"),
        pytest.param(
            b"mysecret",
            b'{"foo":"bar"}',
            "sha256=4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3",
            id="octokit",
        ),
        pytest.param(
            KEY,
            b"Hello World!",
            "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
            id="atlassian",
        ),
    ],
)
def test_the_published_examples_are_accepted(key: bytes, body: bytes, signature: str) -> None:
    assert is_accepted({HEADER: signature}, body, key)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="missing"),
        pytest.param({HEADER: ""}, id="empty"),
        pytest.param({HEADER: "sha256="}, id="no digits"),
        pytest.param({HEADER: DIGEST}, id="no prefix"),
        pytest.param({"X-HUB-SIGNATURE": f"sha256={DIGEST}"}, id="in the header of sha1"),
        pytest.param(
            {"X-HUB-SIGNATURE": f"sha1={hmac.new(KEY, BODY, 'sha1').hexdigest()}"}, id="right sha1 and no sha256"
        ),
        pytest.param({HEADER: f"sha1={hmac.new(KEY, BODY, 'sha1').hexdigest()}"}, id="sha1"),
        pytest.param({HEADER: f"sha512={hmac.new(KEY, BODY, 'sha512').hexdigest()}"}, id="sha512"),
        pytest.param({HEADER: f"SHA256={DIGEST}"}, id="upper-case prefix"),
        pytest.param({HEADER: f"sha256={DIGEST.upper()}"}, id="upper-case digits"),
        pytest.param({HEADER: f"sha256={DIGEST[:-1]}"}, id="cut off"),
        pytest.param({HEADER: f"sha256={DIGEST[:8]}"}, id="cut short"),
        pytest.param({HEADER: f"sha256={DIGEST}0"}, id="too long"),
        pytest.param({HEADER: f"sha256=sha256={DIGEST}"}, id="prefix twice"),
        pytest.param({HEADER: f"sha256={DIGEST}, sha256={DIGEST}"}, id="header twice"),
        pytest.param({HEADER: f"sha256={'0' * 64}, sha256={DIGEST}"}, id="header twice, the second right"),
        pytest.param({HEADER: f" sha256={DIGEST}"}, id="space before"),
        pytest.param({HEADER: f"sha256={DIGEST} "}, id="space after"),
        pytest.param({HEADER: f"sha256={DIGEST}\n"}, id="line end after"),
        pytest.param({HEADER: f"sha256= {DIGEST}"}, id="space within"),
        pytest.param({HEADER: f"sha256={DIGEST[:-1]}é"}, id="not ASCII"),
        pytest.param({HEADER: f"sha256={'٣' * 64}"}, id="other digits"),
        pytest.param({HEADER: f"sha256={'0' * 64}"}, id="zeros"),
        pytest.param({HEADER: f"sha256={hashlib.sha256(BODY).hexdigest()}"}, id="plain digest"),
        pytest.param({HEADER: f"sha256={hmac.new(b'', BODY, 'sha256').hexdigest()}"}, id="signed with nothing"),
    ],
)
def test_anything_but_the_exact_signature_is_refused(headers: dict[str, str]) -> None:
    assert not is_accepted(headers, BODY, KEY)


@pytest.mark.parametrize("position", [0, len(BODY) // 2, len(BODY) - 1])
@pytest.mark.parametrize("bit", [0, 7])
def test_one_bit_of_the_body_matters(position: int, bit: int) -> None:
    body = bytearray(BODY)
    body[position] ^= 1 << bit
    assert not is_accepted({HEADER: f"sha256={DIGEST}"}, bytes(body), KEY)


def test_every_one_of_several_secrets_is_accepted_during_a_rotation() -> None:
    for keys in ((KEY, b"new"), (b"new", KEY)):
        assert is_accepted({HEADER: f"sha256={DIGEST}"}, BODY, *keys)
    assert not is_accepted({HEADER: f"sha256={DIGEST}"}, BODY, b"new", b"newer")


@pytest.mark.parametrize("signature", ["", "sha256=", f"sha256={'0' * 64}", f"sha256={DIGEST}"])
def test_without_a_secret_nothing_is_accepted(signature: str) -> None:
    assert not is_accepted({HEADER: signature}, BODY)


def test_the_scheme_says_header_prefix_and_algorithm() -> None:
    plain = HmacScheme(header="X-GITEA-SIGNATURE", digests=(("", "sha256"),))
    assert is_accepted({"X-GITEA-SIGNATURE": DIGEST}, BODY, KEY, scheme=plain)
    assert not is_accepted({"X-GITEA-SIGNATURE": f"sha256={DIGEST}"}, BODY, KEY, scheme=plain)


def test_the_error_tells_an_operator_what_went_wrong() -> None:
    for headers, said in (
        ({}, "X-Hub-Signature-256 is missing or empty"),
        ({HEADER: "md5=1"}, "not 'sha256=' and 64 hex digits"),
        ({HEADER: f"sha256={'0' * 64}"}, "does not match"),
    ):
        with pytest.raises(SignatureError, match=said) as caught:
            verify([SCHEME], Request(headers=headers, body=BODY), [Secret("name", KEY)], NOW)
        assert KEY.decode() not in str(caught.value)


def test_a_secret_does_not_show_its_value() -> None:
    assert KEY.decode() not in repr(Secret("name", KEY))
    assert KEY.decode() not in f"{[Secret('name', KEY)]}"


def test_it_tells_which_secret_has_proved_it() -> None:
    secrets = [Secret("other", b"other"), Secret("right", KEY), Secret("third", b"third")]
    assert verify([SCHEME], Request(headers={HEADER: f"sha256={DIGEST}"}, body=BODY), secrets, NOW).name == "right"
