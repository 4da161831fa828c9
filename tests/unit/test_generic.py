"""What senders without a format of their own send: four ways to prove it, one body, and what a person gets wrong."""

import base64
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.providers import PROVIDERS
from gitopsd.remotes import is_remote_of
from tests.endpoint import KEY, NOW, Endpoint, hex_of, reason_for, repo_of
from tests.senders import Sender

GENERIC = ("generic", "generic-hmac", "generic-token", "standard-webhooks")
REVISION, SHA256_REVISION = "1" * 40, "a" * 64
PUSH: dict[str, Any] = {"repository": "me/blog", "ref": "refs/heads/main", "after": REVISION}
UPDATE = RefUpdate(ref="refs/heads/main", revision=REVISION)
REMOTE = RemoteName(full_name="me/blog", urls=())
TRIAL = Event(kind="ping", reason="a trial: the webhook works")
SIGNING_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

every_generic = pytest.mark.parametrize("name", GENERIC)


def event_of(name: str, payload: Mapping[str, Any]) -> Event:
    return PROVIDERS[name].parse({}, payload)


def push_of(*updates: RefUpdate, remote: RemoteName = REMOTE) -> Event:
    return Event(kind="push", remote=remote, updates=updates)


def by_url(url: str) -> RemoteName:
    return RemoteName(full_name="", urls=(url,))


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        pytest.param({}, push_of(UPDATE), id="push"),
        pytest.param(
            {"after": SHA256_REVISION}, push_of(RefUpdate(ref="refs/heads/main", revision=SHA256_REVISION)), id="sha256"
        ),
        pytest.param({"after": None}, push_of(RefUpdate(ref="refs/heads/main", revision="")), id="a tip that is null"),
        pytest.param({"after": "0" * 40}, push_of(RefUpdate(ref="refs/heads/main", revision=None)), id="deletion"),
        pytest.param({"after": "0" * 64}, push_of(RefUpdate(ref="refs/heads/main", revision=None)), id="its sha256"),
        pytest.param({"ref": "main"}, push_of(UPDATE), id="a branch as a person writes it"),
        pytest.param(
            {"ref": "feature/ünï-🌱"},
            push_of(RefUpdate(ref="refs/heads/feature/ünï-🌱", revision=REVISION)),
            id="a branch of any name",
        ),
        pytest.param(
            {"ref": "heads/main"},
            push_of(RefUpdate(ref="refs/heads/heads/main", revision=REVISION)),
            id="a branch that looks nearly like a ref",
        ),
        pytest.param({"ref": "refs"}, push_of(RefUpdate(ref="refs/heads/refs", revision=REVISION)), id="a branch refs"),
        pytest.param({"ref": "refs/tags/v1"}, push_of(RefUpdate(ref="refs/tags/v1", revision=REVISION)), id="a tag"),
        pytest.param({"after": REVISION, "note": {"any": [1]}}, push_of(UPDATE), id="more than is asked for"),
        *(
            pytest.param({"repository": url}, push_of(UPDATE, remote=by_url(url)), id=url)
            for url in (
                "https://github.com/me/blog",
                "https://github.com/me/blog.git",
                "ssh://git@github.com:22/me/blog.git",
                "git@github.com:me/blog.git",
                "github.com:me/blog",
                "git://github.com/me/blog",
                "file:///srv/git/blog.git",
                "/srv/git/blog.git",
            )
        ),
        pytest.param(
            {"repository": "team/sub/blog"},
            push_of(UPDATE, remote=RemoteName(full_name="team/sub/blog", urls=())),
            id="a name of three parts",
        ),
    ],
)
@every_generic
def test_what_a_body_says(name: str, changes: dict[str, Any], event: Event) -> None:
    assert event_of(name, PUSH | changes) == event


@every_generic
def test_a_tip_that_is_left_out_is_not_known_and_no_deletion(name: str) -> None:
    event = event_of(name, {"repository": "me/blog", "ref": "refs/heads/main"})
    assert event == push_of(RefUpdate(ref="refs/heads/main", revision=""))
    assert reason_for(event, repo_of("git@github.com:me/blog.git")) == ""


@pytest.mark.parametrize("payload", [{}, {"event": "ping"}, {"event": "test", "more": 1}])
@every_generic
def test_an_empty_body_is_a_trial_and_so_is_one_that_says_so(name: str, payload: dict[str, Any]) -> None:
    assert event_of(name, payload) == TRIAL
    assert reason_for(TRIAL, repo_of("git@github.com:me/blog.git")) == TRIAL.reason


@pytest.mark.parametrize(
    "payload",
    [
        {"repository": None, "ref": None},
        {"repository": "", "ref": ""},
        {"after": REVISION},
        {"text": "Hello World! This is a test message"},
        {"type": "push"},
        {"events": []},
        {"repo": "me/blog"},
        {"evnt": "purge"},
    ],
)
@every_generic
def test_a_body_with_nothing_that_is_looked_for_is_told_what_that_is(name: str, payload: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match="no 'repository' with 'ref', no 'image' and no 'event' in it"):
        event_of(name, payload)


@pytest.mark.parametrize("event", ["Purge it", "", "-x", "a" * 65, "é", 7, ["purge"], {"id": 1}])
@every_generic
def test_an_event_is_a_word(name: str, event: object) -> None:
    with pytest.raises(PayloadError, match="'event' is "):
        event_of(name, {"event": event})


@every_generic
def test_a_push_is_one_whatever_else_its_body_tells(name: str) -> None:
    for more in ({"image": "me/blog"}, {"image": {"url": "x"}}, {"event": "deploy"}):
        assert event_of(name, PUSH | more) == event_of(name, PUSH)


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"repository": None}, "repository"),
        ({"repository": ""}, "repository"),
        ({"repository": 7}, "repository"),
        ({"repository": {"full_name": "me/blog"}}, "repository"),
        ({"repository": ["me/blog"]}, "repository"),
        ({"repository": True}, "repository"),
        ({"repository": "me/blog\n"}, "repository"),
        ({"repository": "\x1b]0;"}, "repository"),
        ({"repository": "x" * 4097}, "repository"),
        ({"ref": None}, "ref"),
        ({"ref": ""}, "ref"),
        ({"ref": 7}, "ref"),
        ({"ref": False}, "ref"),
        ({"ref": ["refs/heads/main"]}, "ref"),
        ({"ref": {"name": "main"}}, "ref"),
        ({"ref": "refs/heads/a\nb"}, "ref"),
        ({"ref": "main\x00"}, "ref"),
        ({"ref": "main\ud800"}, "ref"),
        ({"ref": "origin/refs/heads/main"}, "ref"),
        ({"ref": " refs/heads/main"}, "ref"),
        ({"ref": "/refs/heads/main"}, "ref"),
        ({"after": ""}, "after"),
        ({"after": 7}, "after"),
        ({"after": False}, "after"),
        ({"after": []}, "after"),
        ({"after": {}}, "after"),
        ({"after": "HEAD"}, "after"),
        ({"after": "abc1234"}, "after"),
        ({"after": "A" * 40}, "after"),
        ({"after": f"{REVISION}\n"}, "after"),
        ({"after": f"{REVISION}1"}, "after"),
        ({"after": "--upload-pack=sh"}, "after"),
    ],
)
@every_generic
def test_a_mistake_names_the_attribute(name: str, changes: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(name, PUSH | changes)


# Wrapped, as Standard Webhooks advises


@pytest.mark.parametrize("kind", ["push", "repo.pushed", "", None, 7])
def test_standard_webhooks_may_wrap_the_body(kind: object) -> None:
    wrapped = {"type": kind, "timestamp": "2022-11-03T20:26:10.344522Z", "data": PUSH}
    assert event_of("standard-webhooks", wrapped) == push_of(UPDATE)
    assert event_of("standard-webhooks", wrapped | {"data": {}}) == TRIAL
    assert event_of("standard-webhooks", {"type": kind, "data": {}, "event": "purge"}) == Event(kind="purge")


def test_what_is_not_wrapped_is_read_as_it_stands() -> None:
    beside: list[dict[str, Any]] = [
        {"type": "push"},
        {"data": {}},
        {"type": "push", "data": {"ref": "other"}},
        {"type": 1, "data": 1},
    ]
    for more in beside:
        assert event_of("standard-webhooks", PUSH | more) == push_of(UPDATE)


@pytest.mark.parametrize("name", ["generic", "generic-hmac", "generic-token"])
def test_the_others_do_not_look_into_a_wrapping(name: str) -> None:
    with pytest.raises(PayloadError, match="no 'repository'"):
        event_of(name, {"type": "push", "data": PUSH})


@pytest.mark.parametrize(
    ("data", "attribute"),
    [
        (None, "data"),
        ([PUSH], "data"),
        (json.dumps(PUSH), "data"),
        (PUSH | {"ref": 7}, "ref"),
        (PUSH | {"repository": None}, "repository"),
        (PUSH | {"after": "HEAD"}, "after"),
    ],
)
def test_a_mistake_in_a_wrapping_names_the_attribute(data: object, attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of("standard-webhooks", {"type": "push", "data": data})


# Routing


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        ("me/blog", "git@github.com:me/blog.git"),
        ("Me/Blog", "https://github.com/me/blog"),
        ("https://github.com/me/blog", "git@github.com:me/blog.git"),
        ("https://user:token@github.com/me/blog.git", "git@github.com:me/blog.git"),
        ("git@github.com:me/blog.git", "https://github.com/me/blog"),
        ("ssh://git@github.com/me/blog/", "https://github.com/me/blog"),
        ("/srv/git/blog.git", "/srv/git/blog"),
        ("/srv/git/blog", "file:///srv/git/blog.git"),
    ],
)
def test_it_finds_the_repo_that_is_meant(repository: str, url: str) -> None:
    remote = event_of("generic", PUSH | {"repository": repository}).remote
    assert remote is not None
    assert is_remote_of(repo_of(url), remote)


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        ("/me/blog", "git@github.com:me/blog.git"),
        ("blog", "git@github.com:me/blog.git"),
        ("https://github.example/me/blog", "https://github.com/me/blog"),
        ("git@example.org:me/blog", "git@github.com:me/blog"),
        ("/srv/git/blog", "/srv/other/git/blog"),
        (":", "git@github.com:me/blog.git"),
        ("://", "git@github.com:me/blog.git"),
        ("/", "git@github.com:me/blog.git"),
    ],
)
def test_it_does_not_find_another(repository: str, url: str) -> None:
    remote = event_of("generic", PUSH | {"repository": repository}).remote
    assert remote is not None
    assert not is_remote_of(repo_of(url), remote)


def test_a_repo_that_is_not_ours_is_named_without_what_stands_before_the_host() -> None:
    event = event_of("generic", PUSH | {"repository": "https://me:hush@example.org/me/other.git"})
    assert reason_for(event, repo_of("git@github.com:me/blog.git")) == "no repo is configured for example.org/me/other"


# Through the application

BODY = json.dumps(PUSH).encode()
JSON_TYPE = {"Content-Type": "application/json"}


class Endpoints:
    """Makes endpoints that are closed again in the end."""

    def __init__(self, root: Path) -> None:
        self.root, self.made = root, list[Endpoint]()

    def __call__(self, provider: str, *secrets: str, header: str = "") -> Endpoint:
        repo = repo_of("git@github.com:me/blog.git")
        self.made.append(Endpoint(self.root / str(len(self.made)), provider, repo, *secrets, header=header))
        return self.made[-1]


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoints]:
    endpoints = Endpoints(tmp_path)
    yield endpoints
    for each in endpoints.made:
        each.close()


def statuses(endpoint: Endpoint, *headers: Mapping[str, str]) -> list[int]:
    """What each of the deliveries is answered; all of the same body, but with ids of their own."""
    return [
        endpoint.post(BODY, {**JSON_TYPE, "X-Delivery-Id": str(number), **each}).status_code
        for number, each in enumerate(headers)
    ]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_signed_body_is_accepted_and_another_is_not(endpoint: Endpoints, algorithm: str) -> None:
    right = {"X-Signature": f"{algorithm}={hex_of(BODY, algorithm)}"}
    wrong = [
        {"X-Signature": f"{algorithm}={hex_of(BODY + b' ', algorithm)}"},
        {"X-Signature": f"{algorithm}={hex_of(BODY, algorithm, 'other')}"},
        {"X-Signature": hex_of(BODY, algorithm)},
        {"X-Signature": f"sha1={hex_of(BODY, 'sha1')}"},
        {"X-Hub-Signature-256": f"sha256={hex_of(BODY)}"},
        {"Authorization": f"Bearer {KEY}"},
        {},
    ]
    assert statuses(endpoint("generic-hmac", KEY), right, *wrong) == [202] + [401] * len(wrong)


def test_a_signature_is_read_from_the_header_that_is_configured_and_from_no_other(endpoint: Endpoints) -> None:
    here = endpoint("generic-hmac", KEY, header="x-My-Signature")
    signature = f"sha256={hex_of(BODY)}"
    assert statuses(here, {"X-My-Signature": signature}, {"x-mY-sIGNATURE": signature}) == [202, 202]
    assert statuses(here, {"X-Signature": signature}, {"X-My-Signature-2": signature}) == [401, 401]


def test_a_token_is_a_bearer_or_stands_there_as_it_is(endpoint: Endpoints) -> None:
    right = [{"Authorization": f"Bearer {KEY}"}, {"Authorization": KEY}]
    wrong = [
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"bearer {KEY}"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}, Bearer {KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer é"},
        {"Authorization": ""},
        {"X-Token": KEY},
        {"X-Signature": f"sha256={hex_of(BODY)}"},
        {},
    ]
    assert statuses(endpoint("generic-token", KEY), *right, *wrong) == [202, 202] + [401] * len(wrong)


def test_a_token_is_read_from_the_header_that_is_configured_and_from_no_other(endpoint: Endpoints) -> None:
    here = endpoint("generic-token", KEY, header="CF-Webhook-Auth")
    assert statuses(here, {"cf-webhook-auth": KEY}, {"CF-Webhook-Auth": f"Bearer {KEY}"}) == [202, 202]
    assert statuses(here, {"Authorization": f"Bearer {KEY}"}, {"Authorization": KEY}, {}) == [401, 401, 401]


def test_a_token_that_is_a_key_to_sign_with_opens_nothing(endpoint: Endpoints) -> None:
    here = endpoint("generic-token", SIGNING_KEY)
    assert statuses(here, {"Authorization": f"Bearer {SIGNING_KEY}"}, {"Authorization": SIGNING_KEY}) == [401, 401]


def standard_headers(body: bytes, *, message_id: str = "msg_1", at: float = NOW) -> dict[str, str]:
    (scheme,) = PROVIDERS["standard-webhooks"].schemes
    seed = base64.b64decode(SIGNING_KEY.removeprefix("whsec_"))
    sender = Sender(scheme, seed, now=at, message_id=message_id)
    return {**JSON_TYPE, **sender.request(body).headers}


def test_a_standard_webhook_is_known_by_its_id_and_counts_for_five_minutes(endpoint: Endpoints) -> None:
    here = endpoint("standard-webhooks", SIGNING_KEY)
    first = here.post(BODY, standard_headers(BODY))
    assert (first.status_code, first.json["delivery"]) == (202, "msg_1")
    again = here.post(BODY, standard_headers(BODY, at=NOW + 60))
    assert (again.status_code, again.json["reason"]) == (200, "accepted before, as job 1")
    assert here.post(BODY, standard_headers(BODY, message_id="msg_2", at=NOW - 299)).status_code == 202
    assert here.post(BODY, standard_headers(BODY, message_id="msg_3", at=NOW - 301)).status_code == 401
    assert here.post(BODY, standard_headers(BODY, message_id="msg_4", at=NOW + 301)).status_code == 401
    assert here.post(BODY, standard_headers(BODY) | {"Webhook-Id": "msg_5"}).status_code == 401
    assert here.post(BODY, {**JSON_TYPE, "Authorization": SIGNING_KEY}).status_code == 401


def test_a_token_in_the_path_opens_and_nothing_else_does(endpoint: Endpoints) -> None:
    token = "kq2J-7Zr_x0P.tok3n~A"
    here = endpoint("generic", token)
    assert here.post(BODY, JSON_TYPE, f"/hook/here/{token}").status_code == 202
    for path in (
        "/hook/here",
        "/hook/here/",
        f"/hook/here/{token[:-1]}",
        f"/hook/here/{token}x",
        f"/hook/here/{token.upper()}",
        f"/hook/here/%20{token}",
        f"/hook/here/{token}%0a",
        f"/hook/here/{token}%00",
        f"/hook/here/{token}%ff",
        "/hook/here/%ff%fe",
        "/hook/here/wrong",
        f"/hook/elsewhere/{token}",
        f"/hook/{token}",
        f"/hook/here?token={token}",
    ):
        answer = here.post(BODY, JSON_TYPE, path)
        assert (answer.status_code, answer.json) == (401, {"error": "unauthorized"}), path
    for path in (f"/hook/here/{token}/", f"/hook/here/{token}/more", f"/api/webhook/gitops/{token}"):
        assert here.post(BODY, JSON_TYPE, path).status_code == 404, path
    for headers in ({"Authorization": f"Bearer {token}"}, {"X-Signature": f"sha256={hex_of(BODY, key=token)}"}):
        assert here.post(BODY, JSON_TYPE | headers, "/hook/here").status_code == 401


def test_a_token_that_has_to_be_escaped_in_a_path_opens_too(endpoint: Endpoints) -> None:
    here = endpoint("generic", "pässwörd %?#")
    assert here.post(BODY, JSON_TYPE, "/hook/here/p%C3%A4ssw%C3%B6rd%20%25%3F%23").status_code == 202
    assert here.post(BODY, JSON_TYPE, "/hook/here/p%E4ssw%F6rd%20%25%3F%23").status_code == 401


@pytest.mark.parametrize("name", [name for name in GENERIC if name != "generic"])
def test_a_path_goes_on_only_where_a_token_belongs(endpoint: Endpoints, name: str) -> None:
    secret = SIGNING_KEY if name == "standard-webhooks" else KEY
    proofs = {
        "generic-hmac": {"X-Signature": f"sha256={hex_of(BODY)}"},
        "generic-token": {"Authorization": f"Bearer {KEY}"},
        "standard-webhooks": standard_headers(BODY),
    }
    here = endpoint(name, secret)
    for path, status in ((f"/hook/here/{secret}", 401), ("/hook/here/x", 401), ("/hook/here", 202)):
        assert here.post(BODY, JSON_TYPE | proofs[name], path).status_code == status


def test_a_token_in_the_path_shows_neither_in_a_log_nor_in_the_store(
    endpoint: Endpoints, caplog: pytest.LogCaptureFixture
) -> None:
    token = "kq2J-7Zr-x0P-tok3n"
    here = endpoint("generic", token, "another-0ne")
    with caplog.at_level(logging.DEBUG):
        answers = [
            here.post(BODY, JSON_TYPE, f"/hook/here/{token}"),
            here.post(BODY, JSON_TYPE, f"/hook/here/{token}"),
            here.post(b"{}", JSON_TYPE, f"/hook/here/{token}"),
            here.post(b"[]", JSON_TYPE, f"/hook/here/{token}"),
            here.post(BODY, {"Content-Type": "text/plain"}, f"/hook/here/{token}"),
            here.post(BODY, JSON_TYPE, f"/hook/here/{token}-wrong"),
            here.post(BODY, JSON_TYPE, f"/hook/elsewhere/{token}"),
            here.post(BODY, JSON_TYPE, f"/hook/here/{token}/more"),
        ]
    here.close()
    kept = b"".join(path.read_bytes() for path in endpoint.root.rglob("*") if path.is_file())

    assert [answer.status_code for answer in answers] == [202, 202, 200, 400, 415, 401, 401, 404]
    assert caplog.records
    assert b"me/blog" in kept
    assert token not in "".join(str(record.__dict__) for record in caplog.records)
    assert token.encode() not in kept
    assert not any(token in answer.text or token in str(answer.headers) for answer in answers)


def test_a_body_that_somebody_else_chose_is_400(endpoint: Endpoints) -> None:
    here = endpoint("generic", "token")
    answer = here.post(b'{"callback_url": "https://example.org/"}', JSON_TYPE, "/hook/here/token")
    assert answer.status_code == 400
    assert here.store.jobs("blog", limit=1) == []


def test_a_push_to_another_branch_leads_to_nothing_and_says_why(endpoint: Endpoints) -> None:
    here = endpoint("generic", "token")
    body = json.dumps(PUSH | {"ref": "draft"}).encode()
    answer = here.post(body, JSON_TYPE, "/hook/here/token")
    assert answer.json["reason"] == "blog: follows refs/heads/main, not refs/heads/draft"


def test_a_mistake_is_400_and_says_which(endpoint: Endpoints) -> None:
    here = endpoint("generic", "token")
    for body, said in (
        (b'{"ref": "main"}', "'repository' is missing"),
        (b'{"repository": "me/blog"}', "'ref' is miss"),
    ):
        answer = here.post(body, JSON_TYPE, "/hook/here/token")
        assert answer.status_code == 400
        assert said in answer.json["error"]


def test_a_repository_that_goes_by_its_url_is_remembered_without_credentials(endpoint: Endpoints) -> None:
    here = endpoint("generic", "token")
    body = json.dumps(PUSH | {"repository": "https://me:hush@github.com/me/blog.git"}).encode()
    assert here.post(body, JSON_TYPE, "/hook/here/token").status_code == 202
    (delivery,) = here.store.deliveries("blog", limit=5)
    assert delivery.remote == "github.com/me/blog"
