"""A secret that is sent as it is: in a header, as a password, in the path."""

import base64

import pytest

from gitopsd.errors import SignatureError
from gitopsd.model import Request, Secret
from gitopsd.schemes import BasicScheme, PathScheme, Scheme, TokenScheme
from gitopsd.signatures import verify
from tests.senders import NOW, Sender, mangled

KEY = b"kq2J-7Zr_x0P.tok3n~A"
PLAIN, BEARER = TokenScheme(header="X-TOKEN"), TokenScheme(header="X-TOKEN", prefix="Bearer ")
BASIC = BasicScheme(header="X-TOKEN")


def is_accepted(scheme: Scheme, *secrets: bytes, header: str | None = None, token: str = "") -> bool:
    headers = {} if header is None else {"X-TOKEN": header}
    try:
        verify(
            [scheme], Request(headers=headers, body=b"{}", token=token), [Secret("name", each) for each in secrets], NOW
        )
    except SignatureError:
        return False
    return True


@pytest.mark.parametrize("scheme", [PLAIN, BEARER, BASIC], ids=["plain", "bearer", "basic"])
def test_a_mangled_token_is_refused(scheme: Scheme) -> None:
    right = Sender(scheme, KEY).request(b"{}").headers["X-TOKEN"]
    assert is_accepted(scheme, KEY, header=right)
    variants = mangled(right)
    assert len(variants) > 20
    for name, value in variants.items():
        assert not is_accepted(scheme, KEY, header=value), name


def test_a_mangled_token_in_the_path_is_refused() -> None:
    assert is_accepted(PathScheme(), KEY, token=KEY.decode())
    variants = mangled(KEY.decode())
    assert len(variants) > 20
    for name, value in variants.items():
        assert not is_accepted(PathScheme(), KEY, token=value), name


@pytest.mark.parametrize(
    "header",
    [
        KEY.decode(),
        f"bearer {KEY.decode()}",
        f"BEARER {KEY.decode()}",
        f"Bearer{KEY.decode()}",
        f"Bearer  {KEY.decode()}",
        f"Bearer\t{KEY.decode()}",
        f"Bearer: {KEY.decode()}",
        f"Token {KEY.decode()}",
        f"Bearer Bearer {KEY.decode()}",
        "Bearer",
        "Bearer ",
        "Bearer  ",
    ],
)
def test_a_prefix_is_that_of_the_scheme_to_the_letter(header: str) -> None:
    assert not is_accepted(BEARER, KEY, header=header)


def test_a_prefix_where_there_is_none_is_part_of_the_token() -> None:
    assert not is_accepted(PLAIN, KEY, header=f"Bearer {KEY.decode()}")


@pytest.mark.parametrize("kind", ["Basic", "basic", "BASIC", "bAsIc"])
@pytest.mark.parametrize("credentials", [b"user:password", b":password", b"user:", b"user:pass:word", b"u:p\xc3\xa4ss"])
def test_basic_authentication_is_user_and_password_in_base64(kind: str, credentials: bytes) -> None:
    assert is_accepted(BASIC, credentials, header=f"{kind} {base64.b64encode(credentials).decode()}")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic user:password",
        "Basic dXNlcjpwYXNzd29yZB==",  # the same but for bits that do not count
        "Basic dXNlcjpwYXNzd29yZA",
        "Basic dXNlcjpwYXNzd29yZA=",
        "Basic dXNlcjpwYXNzd29yZA===",
        "Basic dXNlcjpwYXNzd29yZA== dXNlcjpwYXNzd29yZA==",
        "Basic dXNl\ncjpwYXNzd29yZA==",
        "Basic dXNlcjpwYXNz",
        "Basic dXNlcg==",
        "Basic cGFzc3dvcmQ=",
        "Basic OnBhc3N3b3Jk",
        "Basic VXNlcjpwYXNzd29yZA==",
        "Basic Og==",
        "Basic €",
        "Bearer dXNlcjpwYXNzd29yZA==",
        "Digest dXNlcjpwYXNzd29yZA==",
        "dXNlcjpwYXNzd29yZA==",
        "Ba\u017fic dXNlcjpwYXNzd29yZA==",
        "Basic\xa0dXNlcjpwYXNzd29yZA==",
    ],
)
def test_other_credentials_are_refused(header: str) -> None:
    assert is_accepted(BASIC, b"user:password", header="Basic dXNlcjpwYXNzd29yZA==")
    assert not is_accepted(BASIC, b"user:password", header=header)


@pytest.mark.parametrize("scheme", [PLAIN, BEARER, BASIC, PathScheme()], ids=["plain", "bearer", "basic", "path"])
def test_a_key_to_sign_with_is_never_a_token(scheme: Scheme) -> None:
    sender = Sender(scheme, b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    with pytest.raises(SignatureError, match=r"signing key \('whsec_…'\), which is never a token"):
        verify([scheme], sender.request(b"{}"), [sender.secret], NOW)
    with pytest.raises(SignatureError, match="none of the secrets"):
        verify([scheme], sender.request(b"{}"), [sender.secret, Secret("plain", KEY)], NOW)


def test_a_secret_that_is_not_ascii_is_compared_as_the_bytes_that_are_sent() -> None:
    secret = "pässwörd-€".encode()
    as_wsgi_decodes_a_header, as_falcon_decodes_a_path = secret.decode("latin-1"), secret.decode()
    assert is_accepted(PLAIN, secret, header=as_wsgi_decodes_a_header)
    assert is_accepted(PathScheme(), secret, token=as_falcon_decodes_a_path)
    assert not is_accepted(PLAIN, secret, header=as_falcon_decodes_a_path)
    assert not is_accepted(PathScheme(), secret, token=as_wsgi_decodes_a_header)


@pytest.mark.parametrize("odd", ["€", "\udc80"])
def test_what_cannot_be_sent_is_not_taken_for_a_question_mark(odd: str) -> None:
    for scheme in (PLAIN, BEARER):
        assert not is_accepted(scheme, b"a?b", header=f"{scheme.prefix}a{odd}b")
    assert not is_accepted(PathScheme(), b"a?b", token=f"a{odd}b")


def test_the_error_tells_an_operator_what_went_wrong() -> None:
    for scheme, headers, said in (
        (PLAIN, {}, "X-Token is missing or empty"),
        (BEARER, {"X-TOKEN": "a"}, "X-Token does not begin with 'Bearer'"),
        (BASIC, {"X-TOKEN": "a"}, "X-Token is not Basic authentication"),
        (PLAIN, {"X-TOKEN": "€"}, "X-Token has characters"),
        (PathScheme(), {}, "path ends without the token"),
        (PLAIN, {"X-TOKEN": "hush"}, "the token is none of the secrets"),
    ):
        with pytest.raises(SignatureError, match=said) as caught:
            verify([scheme], Request(headers=headers, body=b""), [Secret("name", KEY)], NOW)
        assert "hush" not in str(caught.value)
