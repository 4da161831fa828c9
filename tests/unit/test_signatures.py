"""Proof of origin: the providers' own examples are accepted, and nothing else is.

HMACs here, and what holds for every scheme; the others have files of their own.
"""

import hashlib
import hmac
import itertools
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from gitopsd.errors import SignatureError
from gitopsd.model import Request, Secret
from gitopsd.schemes import HmacScheme, PathScheme, Scheme, StandardScheme, TokenScheme
from gitopsd.signatures import verify
from tests.senders import ALL_SCHEMES, FORM, JSON, NOW, SIGNING, Sender, mangled

SCHEME = HmacScheme(header="X-HUB-SIGNATURE-256")
HEADER = "X-HUB-SIGNATURE-256"
KEY = b"It's a Secret to Everybody"
BODY = b"Hello, World!"
DIGEST = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
JSON_BODY = b'{"ref": "refs/heads/main", "note": "100% & more + \xc3\xa9"}'
OTHERS = {
    "hmac": HmacScheme(header="X-SIGN"),
    "bare hmac": HmacScheme(header="X-SIGN", digests=(("", "sha256"),)),
    "hmac of json": HmacScheme(header="X-SIGN", digests=(("", "sha256"),), of_json=True),
}

every_scheme = pytest.mark.parametrize("scheme", ALL_SCHEMES.values(), ids=ALL_SCHEMES)


def is_accepted(headers: dict[str, str], body: bytes, *keys: bytes, scheme: HmacScheme = SCHEME) -> bool:
    secrets = [Secret(f"secret-{number}", key) for number, key in enumerate(keys)]
    return proof(scheme, Request(headers=headers, body=body), *secrets) is not None


def proof(scheme: Scheme, request: Request, *secrets: Secret) -> Secret | None:
    try:
        return verify([scheme], request, secrets, NOW)
    except SignatureError:
        return None


# HMAC


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
    for scheme in OTHERS.values():
        sent = signature if scheme.digests[0][0] else signature.removeprefix("sha256=")
        assert is_accepted({"X-SIGN": sent}, body, key, scheme=scheme)


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
        pytest.param({HEADER: f"sha256={hmac.new(KEY, BODY, 'sha3_256').hexdigest()}"}, id="of another sha"),
        pytest.param({HEADER: f"SHA256={DIGEST}"}, id="upper-case prefix"),
        pytest.param({HEADER: f"sha256={DIGEST.upper()}"}, id="upper-case digits"),
        pytest.param({HEADER: f"sha256={DIGEST[:8]}"}, id="cut short"),
        pytest.param({HEADER: f"sha256=sha256={DIGEST}"}, id="prefix twice"),
        pytest.param({HEADER: f"sha256={'0' * 64}, sha256={DIGEST}"}, id="header twice, the second right"),
        pytest.param({HEADER: f"sha256= {DIGEST}"}, id="space after the prefix"),
        pytest.param({HEADER: f"sha256 ={DIGEST}"}, id="space before the sign"),
        pytest.param({HEADER: f"sha256:{DIGEST}"}, id="another sign"),
        pytest.param({HEADER: f"sha256={'٣' * 64}"}, id="other digits"),
        pytest.param({HEADER: f"sha256={'0' * 64}"}, id="zeros"),
        pytest.param({HEADER: f"sha256={hashlib.sha256(BODY).hexdigest()}"}, id="plain digest"),
        pytest.param({HEADER: f"sha256={hashlib.sha256(KEY + BODY).hexdigest()}"}, id="plain digest with the secret"),
        pytest.param({HEADER: f"sha256={hmac.new(b'', BODY, 'sha256').hexdigest()}"}, id="signed with nothing"),
        pytest.param({HEADER: f"sha256={hmac.new(BODY, KEY, 'sha256').hexdigest()}"}, id="the wrong way round"),
        pytest.param({HEADER: KEY.decode()}, id="the secret"),
    ],
)
def test_anything_but_the_exact_signature_is_refused(headers: dict[str, str]) -> None:
    assert not is_accepted(headers, BODY, KEY)


@pytest.mark.parametrize("media_type", [JSON, FORM])
@pytest.mark.parametrize("scheme", OTHERS.values(), ids=OTHERS)
def test_a_mangled_signature_is_refused(scheme: HmacScheme, media_type: str) -> None:
    sender = Sender(scheme, KEY)
    right = sender.request(JSON_BODY, media_type)
    assert proof(scheme, right, sender.secret) is sender.secret
    variants = mangled(right.headers["X-SIGN"])
    assert len(variants) > 20
    for name, value in variants.items():
        wrong = Request(headers={"X-SIGN": value}, body=right.body, media_type=media_type)
        assert proof(scheme, wrong, sender.secret) is None, name


def test_a_signature_is_for_the_algorithm_that_it_names() -> None:
    scheme = HmacScheme(header="X-SIGN", digests=(("sha256=", "sha256"), ("sha512=", "sha512")))
    for algorithm in ("sha256", "sha512"):
        digest = hmac.new(KEY, BODY, algorithm).hexdigest()
        assert is_accepted({"X-SIGN": f"{algorithm}={digest}"}, BODY, KEY, scheme=scheme)
        for wrong in ("sha256", "sha512", "sha384", "sha1", "md5", ""):
            if wrong != algorithm:
                assert not is_accepted({"X-SIGN": f"{wrong}={digest}"}, BODY, KEY, scheme=scheme)
    half = hmac.new(KEY, BODY, "sha512").hexdigest()[:64]
    assert not is_accepted({"X-SIGN": f"sha256={half}"}, BODY, KEY, scheme=scheme)


def test_a_form_is_signed_as_it_came_or_for_the_json_in_it_and_never_either_way() -> None:
    form = f"payload={quote_from_bytes(JSON_BODY)}".encode()
    for scheme, wanted in ((OTHERS["bare hmac"], form), (OTHERS["hmac of json"], JSON_BODY)):
        for signed in (form, JSON_BODY):
            headers = {"X-SIGN": hmac.new(KEY, signed, "sha256").hexdigest()}
            request = Request(headers=headers, body=form, media_type=FORM)
            assert (proof(scheme, request, Secret("name", KEY)) is not None) is (signed == wanted)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"payload",
        b"payload=",
        b"payload=1&payload=1",
        b"payload=%ff",
        b"payload=%ed%a0%80",
        b"other=1",
        b"\xff\xfe",
        b"&" * 1000,
        b"a=1&" * 1000,
        b"%" * 1000,
    ],
)
def test_a_form_without_json_in_it_is_not_signed_by_accident(body: bytes) -> None:
    for signed in (b"", b"1", b"null"):
        headers = {"X-SIGN": hmac.new(KEY, signed, "sha256").hexdigest()}
        request = Request(headers=headers, body=body, media_type=FORM)
        is_signed = signed == b"" and body in (b"", b"payload=")  # which are nothing, and signed as that
        assert (proof(OTHERS["hmac of json"], request, Secret("name", KEY)) is not None) is is_signed


def test_the_scheme_says_header_prefix_and_algorithm() -> None:
    plain = HmacScheme(header="X-GITEA-SIGNATURE", digests=(("", "sha256"),))
    assert is_accepted({"X-GITEA-SIGNATURE": DIGEST}, BODY, KEY, scheme=plain)
    assert not is_accepted({"X-GITEA-SIGNATURE": f"sha256={DIGEST}"}, BODY, KEY, scheme=plain)


def test_of_several_prefixes_the_longest_that_is_there_counts() -> None:
    for digests in ((("", "sha256"), ("sha512=", "sha512")), (("sha512=", "sha512"), ("", "sha256"))):
        scheme = HmacScheme(header="X-SIGN", digests=digests)
        assert is_accepted({"X-SIGN": DIGEST}, BODY, KEY, scheme=scheme)
        assert is_accepted({"X-SIGN": f"sha512={hmac.new(KEY, BODY, 'sha512').hexdigest()}"}, BODY, KEY, scheme=scheme)
        assert not is_accepted({"X-SIGN": f"sha512={DIGEST}"}, BODY, KEY, scheme=scheme)


def test_the_error_tells_an_operator_what_went_wrong() -> None:
    for headers, said in (
        ({}, "X-Hub-Signature-256 is missing or empty"),
        ({HEADER: "md5=1"}, "not 'sha256=' and 64 hex digits"),
        ({HEADER: f"sha256={'0' * 64}"}, "does not match"),
    ):
        with pytest.raises(SignatureError, match=said) as caught:
            verify([SCHEME], Request(headers=headers, body=BODY), [Secret("name", KEY)], NOW)
        assert KEY.decode() not in str(caught.value)
    with pytest.raises(SignatureError, match="X-Sign is not 64 hex digits"):
        verify([OTHERS["bare hmac"]], Request(headers={"X-SIGN": "1"}, body=BODY), [Secret("name", KEY)], NOW)


def test_a_secret_does_not_show_its_value() -> None:
    assert KEY.decode() not in repr(Secret("name", KEY))
    assert KEY.decode() not in f"{[Secret('name', KEY)]}"


# Every scheme


@pytest.mark.parametrize("media_type", [JSON, FORM])
@pytest.mark.parametrize("name", SIGNING)
def test_every_bit_of_the_body_matters_to_a_signature(name: str, media_type: str) -> None:
    sender = Sender(ALL_SCHEMES[name], KEY)
    headers = sender.request(JSON_BODY, media_type).headers
    assert proof(sender.scheme, sender.request(JSON_BODY, media_type), sender.secret)
    for position, bit in itertools.product(range(len(JSON_BODY)), range(8)):
        body = bytearray(JSON_BODY)
        body[position] ^= 1 << bit
        other = Sender(sender.scheme, b"other").request(bytes(body), media_type)
        assert (
            proof(sender.scheme, Request(headers=headers, body=other.body, media_type=media_type), sender.secret)
            is None
        )


@every_scheme
def test_a_body_that_goes_on_or_ends_early_is_another_one(scheme: Scheme) -> None:
    sender = Sender(scheme, KEY)
    right = sender.request(JSON_BODY)
    for body in (b"", JSON_BODY[:-1], JSON_BODY + b"\n", JSON_BODY + b" ", b" " + JSON_BODY, JSON_BODY * 2):
        request = Request(headers=right.headers, body=body, token=right.token)
        is_signed = scheme in [ALL_SCHEMES[name] for name in SIGNING]
        assert (proof(scheme, request, sender.secret) is None) is is_signed


@every_scheme
def test_each_of_several_secrets_is_accepted_and_named_during_a_rotation(scheme: Scheme) -> None:
    senders = [Sender(scheme, seed) for seed in (b"first", b"second", b"third")]
    stranger = Sender(scheme, b"stranger").request(JSON_BODY)
    for order in itertools.permutations(senders):
        secrets = [sender.secret for sender in order]
        for sender in senders:
            assert proof(scheme, sender.request(JSON_BODY), *secrets) is sender.secret
        assert proof(scheme, stranger, *secrets) is None


@every_scheme
def test_without_a_secret_nothing_is_accepted(scheme: Scheme) -> None:
    empty = Secret("empty", b"")
    requests = [Sender(scheme, seed).request(JSON_BODY) for seed in (b"", b"other", b"nobody")]
    requests += [Request(headers={}, body=JSON_BODY), Request(headers={}, body=b"")]
    for request in requests:
        for secrets in ([], [empty], [empty, empty]):
            with pytest.raises(SignatureError, match="no usable secret"):
                verify([scheme], request, secrets, NOW)


@every_scheme
def test_an_empty_secret_beside_a_right_one_neither_proves_nor_harms(scheme: Scheme) -> None:
    sender, empty = Sender(scheme, KEY), Secret("empty", b"")
    for secrets in ([empty, sender.secret], [sender.secret, empty]):
        assert proof(scheme, sender.request(JSON_BODY), *secrets) is sender.secret
        assert proof(scheme, Sender(scheme, b"").request(JSON_BODY), *secrets) is None


@every_scheme
def test_a_proof_of_one_scheme_is_none_of_another(scheme: Scheme) -> None:
    sender = Sender(scheme, KEY)
    request = sender.request(JSON_BODY)
    for other in ALL_SCHEMES.values():
        if other != scheme:
            assert proof(other, request, sender.secret, Sender(other, KEY).secret) is None


@every_scheme
def test_no_error_shows_a_secret_or_what_was_sent_for_one(scheme: Scheme) -> None:
    sender, stranger = Sender(scheme, b"hush-hush-1"), Sender(scheme, b"hush-hush-2")
    right, wrong = sender.request(JSON_BODY), stranger.request(JSON_BODY)
    cut = {name: value[:-1] for name, value in right.headers.items()}
    for request in (wrong, Request(headers=cut, body=JSON_BODY, token=right.token[:-1])):
        with pytest.raises(SignatureError) as caught:
            verify([scheme], request, [sender.secret], NOW)
        said = str(caught.value)
        assert "hush" not in said
        assert sender.secret.value.decode() not in said
        assert not any(value[-12:] in said for value in request.headers.values() if len(value) > 16)


@every_scheme
def test_one_of_several_schemes_is_enough_and_it_names_the_secret(scheme: Scheme) -> None:
    sender, other = Sender(scheme, KEY), Sender(scheme, b"other")
    schemes = list(ALL_SCHEMES.values())
    assert verify(schemes, sender.request(JSON_BODY), [other.secret, sender.secret], NOW) is sender.secret
    assert verify(schemes[::-1], sender.request(JSON_BODY), [other.secret, sender.secret], NOW) is sender.secret
    with pytest.raises(SignatureError):
        verify(schemes, sender.request(JSON_BODY), [other.secret], NOW)


@every_scheme
def test_a_path_that_goes_on_is_refused_where_no_token_belongs_there(scheme: Scheme) -> None:
    sender = Sender(scheme, KEY)
    right = sender.request(JSON_BODY)
    assert proof(scheme, right, sender.secret) is sender.secret
    longer = Request(headers=right.headers, body=right.body, token="anything")
    with pytest.raises(SignatureError, match="goes on" if scheme != PathScheme() else "none of the secrets"):
        verify([scheme], longer, [sender.secret], NOW)


def test_where_there_are_several_ways_the_error_is_about_the_one_that_was_taken() -> None:
    schemes: list[Scheme] = [TokenScheme(header="X-TOKEN"), StandardScheme(), SCHEME]
    secrets = [Secret("plain", KEY), Sender(StandardScheme(), KEY).secret]
    for headers, said in (
        ({}, "X-Token is missing"),
        ({"X-TOKEN": "wrong"}, "none of the secrets"),
        ({"WEBHOOK-SIGNATURE": "v1,AAAA"}, "Webhook-Id is missing"),
        ({HEADER: "sha256="}, "not 'sha256='"),
    ):
        with pytest.raises(SignatureError, match=said):
            verify(schemes, Request(headers=headers, body=BODY), secrets, NOW)


def test_a_provider_without_any_scheme_takes_nothing() -> None:
    with pytest.raises(SignatureError, match="no way"):
        verify([], Request(headers={}, body=b""), [Secret("name", KEY)], NOW)


@every_scheme
def test_as_much_is_compared_whichever_secret_is_right_or_none(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    compare = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append(len(a))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    senders = [Sender(scheme, seed) for seed in (b"first", b"second", b"third")]
    counts = set()
    for sender in (*senders, Sender(scheme, b"stranger")):
        compared.clear()
        proof(scheme, sender.request(JSON_BODY), *[each.secret for each in senders])
        counts.add(tuple(compared))
    assert len(counts) == 1
    assert counts != {()} or scheme == ALL_SCHEMES["ed25519"]  # whose keys are public
    compared.clear()
    proof(scheme, senders[0].request(JSON_BODY))
    assert compared or scheme == ALL_SCHEMES["ed25519"]


WILD = some.text(some.characters(), max_size=40)
HEADERS = (
    *("X-SIGN", "X-BARE", "X-JSON", "X-TOKEN", "AUTHORIZATION", "X-PAYLOAD-SIGNATURE", "X-PAYLOAD-NONCE"),
    *("WEBHOOK-ID", "WEBHOOK-TIMESTAMP", "WEBHOOK-SIGNATURE"),
)
STARTS = ("", "sha256=", "sha512=", "Basic ", "Bearer ", "v1,", "v1, v1,", "1700000000", "whsec_", "A" * 86 + "==")
SECRETS = some.lists(
    some.builds(
        Secret,
        some.just("name"),
        some.binary(max_size=40)
        | some.binary(max_size=40).map(lambda rest: b"whsec_" + rest)
        | some.just(Sender(ALL_SCHEMES["standard"], b"key").secret.value)
        | some.just(Sender(ALL_SCHEMES["ed25519"], b"key").secret.value),
    ),
    max_size=3,
)


@settings(max_examples=500, deadline=None)
@given(
    schemes=some.lists(some.sampled_from(list(ALL_SCHEMES.values())), max_size=3),
    headers=some.dictionaries(
        some.sampled_from(HEADERS), some.tuples(some.sampled_from(STARTS), WILD).map("".join), max_size=6
    ),
    body=some.binary(max_size=60),
    media_type=some.sampled_from([JSON, FORM]),
    token=some.just("") | WILD,
    secrets=SECRETS,
    now=some.floats(allow_nan=False),
)
def test_whatever_comes_is_proved_by_a_secret_or_is_a_signature_error(
    schemes: list[Scheme],
    headers: dict[str, str],
    body: bytes,
    media_type: str,
    token: str,
    secrets: list[Secret],
    now: float,
) -> None:
    request = Request(headers=headers, body=body, media_type=media_type, token=token)
    try:
        found = verify(schemes, request, secrets, now)
    except SignatureError as error:
        found = Secret("none", str(error).encode())
        secrets = [found] if str(error).isprintable() else []
    assert found in secrets
    assert found.value


@settings(max_examples=200, deadline=None)
@given(
    scheme=some.sampled_from(list(ALL_SCHEMES.values())),
    seed=some.text(min_size=1).map(str.encode).filter(lambda seed: not seed.startswith(b"whsec_")),
    body=some.binary(max_size=100),
    as_form=some.booleans(),
)
def test_whatever_was_signed_with_a_secret_is_proved_by_it_and_by_no_other(
    scheme: Scheme, seed: bytes, body: bytes, as_form: bool
) -> None:
    if as_form and getattr(scheme, "of_json", False):
        body = body.decode("utf-8", "ignore").encode()  # in a form it has to be text
    sender, other = Sender(scheme, seed), Sender(scheme, seed + b"0")
    request = sender.request(body, FORM if as_form else JSON)
    assert proof(scheme, request, other.secret, sender.secret) is sender.secret
    assert proof(scheme, request, other.secret) is None
