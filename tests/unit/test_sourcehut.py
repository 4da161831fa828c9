"""What sourcehut sends, what it never sends, and how it proves itself."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.providers.sourcehut import PROVIDER, parse
from tests.endpoint import Endpoint, proofs_of_others, reason_for, repo_of

BEFORE, AFTER, ZERO = "95790bf891e76fee5e1747ab589903a6a1f80f22", "da1560886d4f094c3e6c9ef40349f7d38b5d27d7", "0" * 40
MAIN = RefUpdate(ref="refs/heads/main", revision=AFTER)
REMOTE = RemoteName(full_name="~me/blog", urls=())
BLOG = repo_of("git@git.sr.ht:~me/blog")
ANOTHER_REF = "blog: follows refs/heads/main, not "
NOTHING = "the push names no branch and no tag; what was deleted has no name here"
NAMELESS = "a webhook of the old API does not tell which repository it is about"
UUID = "3d1c2b3a-9d5e-4b1f-8a6c-7e0f1d2c3b4a"

# A webhook of the GraphQL API


def moved(name: str = "refs/heads/main", after: Any = AFTER, before: Any = BEFORE) -> dict[str, Any]:
    def commit(revision: Any) -> dict[str, str] | None:
        return None if revision is None else {"id": revision}

    return {"ref": {"name": name}, "old": commit(before), "new": commit(after)}


def native(*updates: dict[str, Any], **changes: Any) -> dict[str, Any]:
    webhook = {
        "uuid": UUID,
        "event": "GIT_POST_RECEIVE",
        "repository": {"name": "blog", "owner": {"canonicalName": "~me"}},
        "updates": list(updates) or [moved()],
    }
    return {"data": {"webhook": webhook | changes}}


HEADERS = {
    "Content-Type": "application/json",
    "X-Webhook-Event": "GIT_POST_RECEIVE",
    "X-Webhook-Delivery": UUID,
}
BODY = json.dumps(native()).encode()


@pytest.mark.parametrize(
    ("payload", "updates", "reason"),
    [
        pytest.param(native(), (MAIN,), "", id="branch"),
        pytest.param(native(moved(before=None)), (MAIN,), "", id="new branch"),
        pytest.param(native(moved(before=ZERO)), (MAIN,), "", id="new branch, with zeros"),
        pytest.param(
            native(moved(before=None, after=None)),
            (RefUpdate(ref="refs/heads/main", revision=""),),
            "",
            id="new branch as git.sr.ht tells it, or a query that does not ask",
        ),
        pytest.param(
            native({"ref": {"name": "refs/heads/main"}}),
            (RefUpdate(ref="refs/heads/main", revision=""),),
            "",
            id="a query for no more than the name",
        ),
        pytest.param(
            native(moved(after="a" * 64)), (RefUpdate(ref="refs/heads/main", revision="a" * 64),), "", id="sha256"
        ),
        pytest.param(
            native(moved("refs/tags/main", before=None)),
            (RefUpdate(ref="refs/tags/main", revision=AFTER),),
            f"{ANOTHER_REF}refs/tags/main",
            id="a tag called like the branch",
        ),
        pytest.param(
            native(moved(after=None)),
            (RefUpdate(ref="refs/heads/main", revision=None),),
            "blog: refs/heads/main was deleted; the checkout stays as it is",
            id="branch deleted",
        ),
        pytest.param(
            native(moved("refs/tags/v1.0", after=ZERO)),
            (RefUpdate(ref="refs/tags/v1.0", revision=None),),
            f"{ANOTHER_REF}refs/tags/v1.0",
            id="tag deleted, with zeros",
        ),
        pytest.param(native({"ref": None, "old": {"id": BEFORE}, "new": None}), (), NOTHING, id="deleted, no name"),
        pytest.param(
            native({"ref": None, "old": {"id": BEFORE}, "new": None}, moved("refs/heads/next"), moved()),
            (RefUpdate(ref="refs/heads/next", revision=AFTER), MAIN),
            "",
            id="several, the followed one among them",
        ),
        pytest.param(native(updates=[]), (), NOTHING, id="a push of nothing"),
        pytest.param(native(uuid=None), (MAIN,), "", id="a query without the uuid"),
    ],
)
def test_what_a_push_moved(payload: dict[str, Any], updates: tuple[RefUpdate, ...], reason: str) -> None:
    event = parse({}, payload)
    assert event == Event(kind="push", remote=REMOTE, updates=updates, reason="" if updates else reason)
    assert reason_for(event, BLOG) == reason


@pytest.mark.parametrize("url", ["https://git.sr.ht/~me/blog", "git@git.sr.ht:~me/blog", "srht:~Me/blog"])
def test_a_repository_is_known_by_owner_and_name(url: str) -> None:
    assert reason_for(parse({}, native()), repo_of(url)) == ""


def test_what_comes_before_a_push_is_no_push() -> None:
    event = parse({}, native(event="GIT_PRE_RECEIVE"))
    assert event.updates == ()
    assert reason_for(event, BLOG) == ("GIT_PRE_RECEIVE comes before anything has moved; choose GIT_POST_RECEIVE")


@pytest.mark.parametrize("webhook", [{"event": "REPO_CREATED"}, {"event": "REPO_DELETED", "uuid": UUID}])
def test_another_event_moves_nothing(webhook: dict[str, Any]) -> None:
    event = parse({}, {"data": {"webhook": webhook}})
    assert event == Event(kind=webhook["event"])
    assert reason_for(event, BLOG) == f"event '{webhook['event']}' is not a push"


@pytest.mark.parametrize("attribute", ["event", "repository", "updates"])
def test_what_the_query_does_not_ask_for_is_told(attribute: str) -> None:
    with pytest.raises(PayloadError) as caught:
        parse({}, native(**{attribute: None}))
    assert str(caught.value) == f"'{attribute}' is missing: the query of the webhook has to ask for it"


@pytest.mark.parametrize(
    ("payload", "attribute"),
    [
        ({"data": None, "errors": [{"message": "Forbidden"}]}, "data"),
        ({"data": []}, "data"),
        ({"data": {}}, "webhook"),
        ({"data": {"webhook": "GIT_POST_RECEIVE"}}, "webhook"),
        (native(event=7), "event"),
        (native(event=""), "event"),
        (native(event="GIT POST"), "event"),
        (native(repository=[]), "repository"),
        (native(repository={"name": "blog"}), "owner"),
        (native(repository={"name": "blog", "owner": {}}), "canonicalName"),
        (native(repository={"owner": {"canonicalName": "~me"}}), "name"),
        (native(updates={}), "updates"),
        (native({"ref": "refs/heads/main"}), "ref"),
        (native({"ref": {}}), "name"),
        (native(moved("main")), "name"),
        (native(moved("main", after=None, before=None)), "name"),
        (native(moved(after="HEAD")), "id"),
        (native(moved() | {"new": AFTER}), "new"),
        (native(moved() | {"new": {"shortId": "da15608"}}), "id"),
    ],
)
def test_a_push_that_sourcehut_would_not_send_names_the_attribute(payload: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        parse({}, payload)


# A webhook of the old API


def commit(revision: str | None) -> dict[str, Any] | None:
    return None if revision is None else {"id": revision, "message": "A page", "author": {"name": "me"}}


def old(name: str = "refs/heads/main", after: str | None = AFTER, before: str | None = BEFORE) -> dict[str, Any]:
    return {"annotated_tag": None, "name": name, "old": commit(before), "new": commit(after)}


def legacy(*refs: Any) -> dict[str, Any]:
    return {
        "push": "0c0a7f6e-4d1b-4a5f-9c1d-8f1e2d3c4b5a",
        "push-options": {},
        "pusher": {"canonical_name": "~me", "name": "me"},
        "refs": list(refs),
    }


OLD_HEADERS = HEADERS | {"X-Webhook-Event": "repo:post-update"}
OLD_BODY = json.dumps(legacy(old())).encode()


@pytest.mark.parametrize(
    ("refs", "updates"),
    [
        pytest.param([old()], (MAIN,), id="branch"),
        pytest.param([old(before=None)], (MAIN,), id="new branch"),
        pytest.param(
            [old("refs/tags/v1.0", before=None) | {"annotated_tag": {"name": "v1.0", "message": "One"}}],
            (RefUpdate(ref="refs/tags/v1.0", revision=AFTER),),
            id="tag",
        ),
        pytest.param([old("", None, None)], (), id="a deletion, which has no name"),
        pytest.param(
            [old("", None, None), old(), old("refs/heads/next", None)],
            (MAIN, RefUpdate(ref="refs/heads/next", revision=None)),
            id="several",
        ),
    ],
)
def test_a_webhook_of_the_old_api_tells_what_moved_and_not_where(
    refs: list[dict[str, Any]], updates: tuple[RefUpdate, ...]
) -> None:
    event = parse({"X-WEBHOOK-EVENT": "repo:post-update"}, legacy(*refs))
    assert (event.kind, event.remote, event.updates) == ("push", None, updates)
    assert reason_for(event, BLOG).startswith(NAMELESS)


@pytest.mark.parametrize("name", ["repo:update", "repo:delete"])
def test_another_event_of_the_old_api_moves_nothing(name: str) -> None:
    event = parse({"X-WEBHOOK-EVENT": name}, {"id": 7})
    assert reason_for(event, BLOG) == f"event '{name}' is not a push"


@pytest.mark.parametrize("name", ["", "repo:", "post update", "repo:post-update\n", "a" * 65])
def test_the_event_of_the_old_api_is_a_plain_name(name: str) -> None:
    with pytest.raises(PayloadError, match="X-Webhook-Event"):
        parse({"X-WEBHOOK-EVENT": name}, legacy(old()))


@pytest.mark.parametrize(
    ("payload", "attribute"),
    [
        (legacy() | {"refs": {}}, "refs"),
        (legacy(None), "refs"),
        (legacy(old() | {"name": 7}), "name"),
        (legacy(old("main")), "name"),
        (legacy(old() | {"new": AFTER}), "new"),
        (legacy(old(after="HEAD")), "id"),
    ],
)
def test_a_push_that_the_old_api_would_not_send_names_the_attribute(payload: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        parse({"X-WEBHOOK-EVENT": "repo:post-update"}, payload)


@pytest.mark.parametrize(
    ("payload", "delivery_id"),
    [
        (native(), UUID),
        (native(uuid=None), "0123456789abcdef"),
        (native(uuid=7), "0123456789abcdef"),
        (legacy(old()), "0123456789abcdef"),
        ({"data": None}, "0123456789abcdef"),
        ({"data": {"webhook": []}}, "0123456789abcdef"),
    ],
)
def test_the_delivery_id_is_one_that_is_signed(payload: dict[str, Any], delivery_id: str) -> None:
    headers = {"X-WEBHOOK-DELIVERY": "made up", "X-PAYLOAD-NONCE": "0123456789abcdef"}
    assert PROVIDER.delivery_id(headers, payload) == delivery_id


# Proof

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"It's a Secret to Everybody (32)."[:32])


def public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


KEY = public(PRIVATE)
ANOTHER = Ed25519PrivateKey.from_private_bytes(b"x" * 32)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(*secrets: str) -> Endpoint:
        made.append(Endpoint(tmp_path / str(len(made)), "sourcehut", BLOG, *secrets))
        return made[-1]

    yield make
    for each in made:
        each.close()


def signed(body: bytes, nonce: str = "0123456789abcdef", key: Ed25519PrivateKey = PRIVATE) -> dict[str, str]:
    signature = base64.b64encode(key.sign(body + nonce.encode())).decode()
    return {"X-Payload-Nonce": nonce, "X-Payload-Signature": signature}


def test_a_delivery_as_it_is_sent_is_accepted_once(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint(KEY)
    first, again = (here.post(BODY, HEADERS | signed(BODY)) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json == {"delivery": UUID, "jobs": [{"id": 1, "repo": "blog"}]}
    assert again.json["reason"] == "accepted before, as job 1"


def test_a_delivery_that_is_replayed_under_another_id_is_known_by_its_nonce(
    endpoint: Callable[..., Endpoint],
) -> None:
    here, body = endpoint(KEY), json.dumps(native(uuid=None)).encode()
    answers = [here.post(body, HEADERS | signed(body) | {"X-Webhook-Delivery": given}) for given in ("one", "two")]
    assert [answer.status_code for answer in answers] == [202, 200]


def test_a_delivery_of_the_old_api_is_answered_and_says_what_it_lacks(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint(KEY)
    answer = here.post(OLD_BODY, OLD_HEADERS | signed(OLD_BODY))
    assert (answer.status_code, answer.json["delivery"]) == (200, "0123456789abcdef")
    assert answer.json["reason"].startswith(NAMELESS)
    assert here.store.jobs(limit=1) == []


@pytest.mark.parametrize(
    "proof",
    [
        pytest.param({}, id="nothing"),
        pytest.param(signed(BODY) | {"X-Payload-Signature": ""}, id="an empty signature"),
        pytest.param(signed(BODY) | {"X-Payload-Nonce": ""}, id="an empty nonce"),
        pytest.param(signed(BODY, ""), id="signed without a nonce"),
        pytest.param(signed(BODY) | {"X-Payload-Nonce": "fedcba9876543210"}, id="another nonce"),
        pytest.param(signed(BODY + b" "), id="another body"),
        pytest.param(signed(BODY, key=ANOTHER), id="another key"),
        pytest.param(signed(BODY) | {"X-Payload-Signature": "AAAA"}, id="cut short"),
        pytest.param(signed(BODY) | {"X-Payload-Signature": "*" * 88}, id="not base64"),
    ],
)
def test_any_other_signature_is_refused(endpoint: Callable[..., Endpoint], proof: dict[str, str]) -> None:
    here = endpoint(KEY)
    assert here.post(BODY, HEADERS | proof).status_code == 401
    assert here.store.jobs(limit=1) == []


def test_a_proof_of_another_sender_is_none(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint(KEY)
    for sender, proof in proofs_of_others(BODY).items():
        assert here.post(BODY, HEADERS | proof).status_code == 401, sender
    for proof in ({"Authorization": f"Bearer {KEY}"}, {"X-Payload-Signature": KEY, "X-Payload-Nonce": "0" * 16}):
        assert here.post(BODY, HEADERS | proof).status_code == 401  # everybody knows the public key
    assert here.store.jobs(limit=1) == []


@pytest.mark.parametrize("secrets", [(), ("",), ("not a key",), ("AAAA",)])
def test_without_a_public_key_the_receiver_is_closed(
    endpoint: Callable[..., Endpoint], secrets: tuple[str, ...]
) -> None:
    assert endpoint(*secrets).post(BODY, HEADERS | signed(BODY)).status_code == 401


def test_two_keys_are_accepted_while_one_takes_over(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint(KEY, public(ANOTHER))
    assert here.post(BODY, HEADERS | signed(BODY)).status_code == 202
    assert here.post(OLD_BODY, OLD_HEADERS | signed(OLD_BODY, key=ANOTHER)).status_code == 200


def test_what_any_user_of_sourcehut_has_it_sign_brings_no_more_than_a_fetch_of_what_we_follow(
    endpoint: Callable[..., Endpoint],
) -> None:
    here, body = endpoint(KEY), json.dumps(native(moved(after="f" * 40))).encode()
    assert here.post(body, HEADERS | signed(body)).status_code == 202
    job = here.store.jobs(limit=1)[0]
    assert (job.repo, job.ref, job.force) == ("blog", "refs/heads/main", False)
