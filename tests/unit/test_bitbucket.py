"""What Bitbucket Cloud and Data Center send, what they never send, and how they prove themselves."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.providers import bitbucket, bitbucket_server
from gitopsd.store.notes import REFUSED_NOTE
from tests.endpoint import KEY, Endpoint, hex_of, proofs_of_others, reason_for, repo_of

BEFORE, AFTER, ZERO = "95790bf891e76fee5e1747ab589903a6a1f80f22", "da1560886d4f094c3e6c9ef40349f7d38b5d27d7", "0" * 40
MAIN = RefUpdate(ref="refs/heads/main", revision=AFTER)
ANOTHER_REF = "blog: follows refs/heads/main, not "
DELETED = "blog: refs/heads/main was deleted; the checkout stays as it is"
LOGIN = "gitopsd:It's a Secret"
BASIC = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"

# Cloud


def state(name: str = "main", kind: str = "branch", revision: str = AFTER) -> dict[str, Any]:
    return {"type": kind, "name": name, "target": {"type": "commit", "hash": revision, "message": "A page\n"}}


def change(new: Any, old: Any, **more: Any) -> dict[str, Any]:
    told = {"created": old is None, "closed": new is None, "forced": False, "truncated": False, "commits": []}
    return {"new": new, "old": old} | told | more


def cloud_push(*changes: dict[str, Any]) -> dict[str, Any]:
    return CLOUD | {"push": {"changes": list(changes)}}


BY = {"display_name": "Me", "uuid": "{a54f16da-24e9-4d7f-a3a7-b1ba2cd98aa3}", "account_id": "557058:c0"}
CLOUD_REPOSITORY = {
    "type": "repository",
    "full_name": "me/blog",
    "name": "blog",
    "uuid": "{7b2f6c4a-7b4e-4f55-9f4e-3f7f0a2c8d11}",
    "links": {
        "self": {"href": "https://api.bitbucket.org/2.0/repositories/me/blog"},
        "html": {"href": "https://bitbucket.org/me/blog"},
    },
    "is_private": True,
}
CLOUD = {"actor": BY, "repository": CLOUD_REPOSITORY}
CLOUD_REMOTE = RemoteName(
    full_name="me/blog", urls=("https://bitbucket.org/me/blog",), id="{7b2f6c4a-7b4e-4f55-9f4e-3f7f0a2c8d11}"
)
CLOUD_BLOG = repo_of("git@bitbucket.org:me/blog.git")
MOVED = change(state(), state(revision=BEFORE))
CLOUD_BODY = json.dumps(cloud_push(MOVED)).encode()


def cloud_event(payload: dict[str, Any], key: str = "repo:push") -> Event:
    return bitbucket.parse({"X-EVENT-KEY": key}, payload)


@pytest.mark.parametrize(
    ("changes", "updates", "reason"),
    [
        pytest.param([MOVED], (MAIN,), "", id="branch"),
        pytest.param([change(state(), None)], (MAIN,), "", id="new branch"),
        pytest.param([MOVED | {"truncated": True, "commits": [{"hash": AFTER}] * 5}], (MAIN,), "", id="commits cut"),
        pytest.param([MOVED | {"commits": None, "closed": None, "forced": None}], (MAIN,), "", id="nulls"),
        pytest.param(
            [MOVED | {"forced": True}],
            (RefUpdate(ref="refs/heads/main", revision=AFTER, forced=True),),
            "",
            id="forced",
        ),
        pytest.param(
            [change(state(revision="a" * 64), None)],
            (RefUpdate(ref="refs/heads/main", revision="a" * 64),),
            "",
            id="sha256",
        ),
        pytest.param(
            [change(state("v1.0", "tag"), None)],
            (RefUpdate(ref="refs/tags/v1.0", revision=AFTER),),
            f"{ANOTHER_REF}refs/tags/v1.0",
            id="tag",
        ),
        pytest.param(
            [change(state("main", "annotated_tag"), None)],
            (RefUpdate(ref="refs/tags/main", revision=AFTER),),
            f"{ANOTHER_REF}refs/tags/main",
            id="a tag with a message, called like the branch",
        ),
        pytest.param(
            [change(state("feature/main"), None)],
            (RefUpdate(ref="refs/heads/feature/main", revision=AFTER),),
            f"{ANOTHER_REF}refs/heads/feature/main",
            id="a branch with a slash",
        ),
        pytest.param(
            [change(None, state())], (RefUpdate(ref="refs/heads/main", revision=None),), DELETED, id="branch deleted"
        ),
        pytest.param(
            [change(None, state("v1.0", "tag"))],
            (RefUpdate(ref="refs/tags/v1.0", revision=None),),
            f"{ANOTHER_REF}refs/tags/v1.0",
            id="tag deleted",
        ),
        pytest.param(
            [change(state(), None, closed=True)],
            (RefUpdate(ref="refs/heads/main", revision=None),),
            DELETED,
            id="deleted by the flag alone",
        ),
        pytest.param(
            [change(state("v1.0", "tag"), None), change(None, state("old")), MOVED],
            (
                RefUpdate(ref="refs/tags/v1.0", revision=AFTER),
                RefUpdate(ref="refs/heads/old", revision=None),
                MAIN,
            ),
            "",
            id="several, the followed one among them",
        ),
        pytest.param([], (), "the push names no branch and no tag", id="a push of nothing"),
    ],
)
def test_what_a_push_to_cloud_moved(changes: list[dict[str, Any]], updates: tuple[RefUpdate, ...], reason: str) -> None:
    event = cloud_event(cloud_push(*changes))
    assert event == Event(
        kind="push", remote=CLOUD_REMOTE, updates=updates, reason="" if updates else bitbucket.NAMES_NOTHING
    )
    assert reason_for(event, CLOUD_BLOG) == reason


def test_a_null_list_of_changes_is_an_empty_one() -> None:
    assert cloud_event(CLOUD | {"push": {"changes": None}}).reason == bitbucket.NAMES_NOTHING


@pytest.mark.parametrize(
    ("given", "known"),
    [(CLOUD_REPOSITORY["uuid"], CLOUD_REMOTE.id), (None, ""), ("", ""), ([], ""), (True, ""), ("{ }", ""), ("{é}", "")],
)
def test_a_repository_of_cloud_has_the_id_that_bitbucket_gave_it(given: object, known: str) -> None:
    event = cloud_event(cloud_push(MOVED) | {"repository": CLOUD_REPOSITORY | {"uuid": given}})
    assert event.remote == CLOUD_REMOTE._replace(id=known)


@pytest.mark.parametrize("links", [None, {}, {"html": None}, {"html": {}}, {"html": {"href": None}}])
def test_a_repository_of_cloud_without_its_page_goes_by_its_name(links: Any) -> None:
    event = cloud_event(cloud_push(MOVED) | {"repository": {"full_name": "me/blog", "links": links}})
    assert event.remote == RemoteName(full_name="me/blog", urls=())
    assert reason_for(event, CLOUD_BLOG) == ""


@pytest.mark.parametrize(
    ("key", "payload", "remote"),
    [
        ("repo:updated", CLOUD | {"changes": {"name": {"new": "blog", "old": "site"}}}, CLOUD_REMOTE),
        ("repo:transfer", CLOUD, CLOUD_REMOTE),
        ("repo:commit_status_created", CLOUD | {"commit_status": {}}, CLOUD_REMOTE),
        ("pullrequest:comment_created", {"repository": None}, None),
        ("issue:created", {}, None),
    ],
)
def test_another_event_of_cloud_moves_nothing(key: str, payload: dict[str, Any], remote: RemoteName | None) -> None:
    event = cloud_event(payload, key)
    assert event == Event(kind=key, remote=remote)
    assert reason_for(event, CLOUD_BLOG) == f"event '{key}' is not a push"


@pytest.mark.parametrize(
    ("payload", "attribute"),
    [
        ({"repository": CLOUD_REPOSITORY}, "push"),
        (CLOUD | {"push": []}, "push"),
        (CLOUD | {"push": {"changes": {}}}, "changes"),
        (CLOUD | {"push": {"changes": [None]}}, "changes"),
        (cloud_push(change(None, None)), "old"),
        (cloud_push(change("main", None)), "new"),
        (cloud_push(change(state(kind="bookmark"), None)), "type"),
        (cloud_push(change(state(kind=None), None)), "type"),  # type: ignore[arg-type] # which it is to refuse
        (cloud_push(change(state(name=7), None)), "name"),  # type: ignore[arg-type]
        (cloud_push(change(state(name="a\nb"), None)), "name"),
        (cloud_push(change(state() | {"target": None}, None)), "target"),
        (cloud_push(change(state() | {"target": {}}, None)), "hash"),
        (cloud_push(change(state(revision="HEAD"), None)), "hash"),
        (cloud_push(change(state(revision=AFTER[:12]), None)), "hash"),
        (cloud_push(MOVED | {"forced": "no"}), "forced"),
        (cloud_push(MOVED | {"closed": 0}), "closed"),
        ({"push": {"changes": [MOVED]}}, "repository"),
        (cloud_push(MOVED) | {"repository": {"name": "blog"}}, "full_name"),
        (cloud_push(MOVED) | {"repository": {"full_name": "me/blog", "links": [1]}}, "links"),
        (cloud_push(MOVED) | {"repository": {"full_name": "me/blog", "links": {"html": {"href": 1}}}}, "href"),
    ],
)
def test_a_push_that_cloud_would_not_send_names_the_attribute(payload: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        cloud_event(payload)


@pytest.mark.parametrize("key", ["", "push", "repo:", "Repo:push", "repo:push\n", "repo push", "a:" * 5 + "a", "é:é"])
@pytest.mark.parametrize("parse", [bitbucket.parse, bitbucket_server.parse])
def test_an_event_key_is_plain_words_with_colons(parse: Callable[..., Event], key: str) -> None:
    with pytest.raises(PayloadError, match="X-Event-Key"):
        parse({"X-EVENT-KEY": key}, cloud_push(MOVED))


# Data Center


def moved(ref: str = "refs/heads/main", after: str = AFTER, kind: str = "UPDATE", before: str = BEFORE) -> Any:
    name = ref.split("/", 2)[-1]
    told = {"id": ref, "displayId": name, "type": "TAG" if ref.startswith("refs/tags/") else "BRANCH"}
    return {"ref": told, "refId": ref, "fromHash": before, "toHash": after, "type": kind}


def server_push(*changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return SERVER | {"changes": list(changes)} | more


SERVER_REPOSITORY = {
    "slug": "blog",
    "id": 84,
    "name": "Blog",
    "scmId": "git",
    "state": "AVAILABLE",
    "project": {"key": "WEB", "id": 21, "name": "Web", "type": "NORMAL"},
    "links": {
        "clone": [
            {"href": "ssh://git@git.example.org:7999/web/blog.git", "name": "ssh"},
            {"href": "https://git.example.org/scm/web/blog.git", "name": "http"},
        ],
        "self": [{"href": "https://git.example.org/projects/WEB/repos/blog/browse"}],
    },
}
SERVER = {
    "eventKey": "repo:refs_changed",
    "date": "2019-03-01T10:37:14+0100",
    "actor": {"name": "me", "emailAddress": "me@example.org"},
    "repository": SERVER_REPOSITORY,
}
SERVER_REMOTE = RemoteName(
    full_name="WEB/blog",
    urls=("ssh://git@git.example.org:7999/web/blog.git", "https://git.example.org/scm/web/blog.git"),
    id="84",
)
SERVER_BLOG = repo_of("ssh://git@git.example.org:7999/web/blog.git")
SERVER_BODY = json.dumps(server_push(moved())).encode()


def server_event(payload: dict[str, Any], key: str = "repo:refs_changed") -> Event:
    return bitbucket_server.parse({"X-EVENT-KEY": key}, payload)


@pytest.mark.parametrize(
    ("changes", "updates", "reason"),
    [
        pytest.param([moved()], (MAIN,), "", id="branch"),
        pytest.param([moved(before=ZERO, kind="ADD")], (MAIN,), "", id="new branch"),
        pytest.param([{**moved(), "ref": None}], (MAIN,), "", id="a null ref, and its id beside it"),
        pytest.param([{**moved(), "refId": None}], (MAIN,), "", id="the id in the ref alone"),
        pytest.param([{**moved(), "type": None}], (MAIN,), "", id="a null type"),
        pytest.param(
            [moved(after="a" * 64, before="b" * 64)],
            (RefUpdate(ref="refs/heads/main", revision="a" * 64),),
            "",
            id="sha256",
        ),
        pytest.param(
            [moved("refs/tags/main", kind="ADD", before=ZERO)],
            (RefUpdate(ref="refs/tags/main", revision=AFTER),),
            f"{ANOTHER_REF}refs/tags/main",
            id="a tag called like the branch",
        ),
        pytest.param(
            [moved(after=ZERO, kind="DELETE")],
            (RefUpdate(ref="refs/heads/main", revision=None),),
            DELETED,
            id="branch deleted",
        ),
        pytest.param(
            [moved(kind="DELETE")], (RefUpdate(ref="refs/heads/main", revision=None),), DELETED, id="by the type alone"
        ),
        pytest.param(
            [moved(after="0" * 64)],
            (RefUpdate(ref="refs/heads/main", revision=None),),
            DELETED,
            id="by sha256 zeros alone",
        ),
        pytest.param(
            [moved("refs/tags/v1.0", ZERO, "DELETE")],
            (RefUpdate(ref="refs/tags/v1.0", revision=None),),
            f"{ANOTHER_REF}refs/tags/v1.0",
            id="tag deleted",
        ),
        pytest.param(
            [moved("refs/heads/feature/main"), moved("refs/tags/v1.0", ZERO, "DELETE"), moved()],
            (
                RefUpdate(ref="refs/heads/feature/main", revision=AFTER),
                RefUpdate(ref="refs/tags/v1.0", revision=None),
                MAIN,
            ),
            "",
            id="several, the followed one among them",
        ),
        pytest.param([], (), "the push names no branch and no tag", id="a push of nothing"),
    ],
)
@pytest.mark.parametrize("key", ["repo:refs_changed", "mirror:repo_synchronized"])
def test_what_a_push_to_data_center_or_a_mirror_of_it_moved(
    key: str, changes: list[dict[str, Any]], updates: tuple[RefUpdate, ...], reason: str
) -> None:
    event = server_event(server_push(*changes, eventKey=key, refLimitExceeded=False), key)
    assert event == Event(
        kind="push", remote=SERVER_REMOTE, updates=updates, reason="" if updates else bitbucket.NAMES_NOTHING
    )
    assert reason_for(event, SERVER_BLOG) == reason


def test_a_mirror_that_moved_too_many_refs_to_name_says_so() -> None:
    event = server_event(server_push(refLimitExceeded=True, syncType="SNAPSHOT"), "mirror:repo_synchronized")
    assert reason_for(event, SERVER_BLOG) == (
        "the mirror moved more refs than it names; the next poll finds what it brought"
    )


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        pytest.param({"links": None}, "https://git.example.org/scm/web/blog.git", id="null links"),
        pytest.param({"links": {"clone": None}}, "https://git.example.org/scm/WEB/blog", id="null links to clone"),
        pytest.param(
            {"project": {"key": "~me"}, "links": {}}, "ssh://git@git.example.org:7999/~me/blog.git", id="personal"
        ),
        pytest.param({"slug": "renamed"}, "ssh://git@git.example.org:7999/web/blog.git", id="by its URL"),
    ],
)
def test_a_repository_of_data_center_is_known_by_key_and_slug_or_by_url(repository: dict[str, Any], url: str) -> None:
    event = server_event(server_push(moved()) | {"repository": SERVER_REPOSITORY | repository})
    assert reason_for(event, repo_of(url)) == ""


@pytest.mark.parametrize(("given", "known"), [(84, "84"), ("84", "84"), (None, ""), ({}, ""), (False, ""), (8.4, "")])
def test_a_repository_of_data_center_has_the_id_that_its_server_gave_it(given: object, known: str) -> None:
    event = server_event(server_push(moved()) | {"repository": SERVER_REPOSITORY | {"id": given}})
    assert event.remote == SERVER_REMOTE._replace(id=known)


@pytest.mark.parametrize(
    ("key", "payload", "remote"),
    [
        ("repo:modified", SERVER | {"old": {}, "new": {}}, SERVER_REMOTE),
        ("pr:from_ref_updated", {"pullRequest": {}}, None),
        ("pr:comment:added", {"repository": None}, None),
        ("project:modified", {}, None),
    ],
)
def test_another_event_of_data_center_moves_nothing(
    key: str, payload: dict[str, Any], remote: RemoteName | None
) -> None:
    event = server_event(payload, key)
    assert event == Event(kind=key, remote=remote)
    assert reason_for(event, SERVER_BLOG) == f"event '{key}' is not a push"


@pytest.mark.parametrize("payload", [{"test": True}, {}])
def test_a_ping_of_data_center_is_one(payload: dict[str, Any]) -> None:
    event = server_event(payload, "diagnostics:ping")
    assert event == Event(kind="ping")
    assert reason_for(event, SERVER_BLOG) == "ping: the webhook works"


@pytest.mark.parametrize(
    ("payload", "attribute"),
    [
        (server_push(changes={}), "changes"),
        (server_push(changes=["main"]), "changes"),
        (server_push({"type": "UPDATE"}), "ref"),
        (server_push({**moved(), "refId": None, "ref": {}}), "id"),
        (server_push({**moved(), "refId": 7}), "refId"),
        (server_push({**moved(), "refId": "main"}), "refId"),
        (server_push({**moved(), "toHash": None}), "toHash"),
        (server_push(moved(after="HEAD")), "toHash"),
        (server_push(moved(after=AFTER.upper())), "toHash"),
        (server_push({**moved(), "type": True}), "type"),
        (server_push(refLimitExceeded="yes"), "refLimitExceeded"),
        ({"changes": [moved()]}, "repository"),
        (server_push(moved(), repository={"slug": "blog"}), "project"),
        (server_push(moved(), repository={"slug": "blog", "project": {"id": 1}}), "key"),
        (server_push(moved(), repository={"project": {"key": "WEB"}}), "slug"),
        (server_push(moved(), repository=SERVER_REPOSITORY | {"links": 1}), "links"),
        (server_push(moved(), repository=SERVER_REPOSITORY | {"links": {"clone": {}}}), "clone"),
        (server_push(moved(), repository=SERVER_REPOSITORY | {"links": {"clone": [{"href": 1}]}}), "href"),
    ],
)
def test_a_push_that_data_center_would_not_send_names_the_attribute(payload: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        server_event(payload)


# Proof

HEADERS = {
    "bitbucket": {
        "Content-Type": "application/json",
        "User-Agent": "Bitbucket-Webhooks/2.0",
        "X-Event-Key": "repo:push",
        "X-Hook-UUID": "{ab0a1b2c-0000-4000-8000-000000000001}",
        "X-Request-UUID": "ab0a1b2c-0000-4000-8000-000000000002",
        "X-Attempt-Number": "1",
    },
    "bitbucket-server": {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Atlassian HttpClient 2.1.5 / Bitbucket-7.21.0",
        "X-Event-Key": "repo:refs_changed",
        "X-Request-Id": "2f4a3f3e-6a0c-4f9a-8f2e-0d3c5d1b7e60",
    },
}
BODIES = {"bitbucket": CLOUD_BODY, "bitbucket-server": SERVER_BODY}
BLOGS = {"bitbucket": CLOUD_BLOG, "bitbucket-server": SERVER_BLOG}
IDS = {
    "bitbucket": "ab0a1b2c-0000-4000-8000-000000000002",
    "bitbucket-server": "2f4a3f3e-6a0c-4f9a-8f2e-0d3c5d1b7e60",
}
BOTH = pytest.mark.parametrize("provider", sorted(BODIES))
PING = {"Content-Type": "application/json; charset=utf-8", "X-Event-Key": "diagnostics:ping"}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(provider: str, *secrets: str) -> Endpoint:
        made.append(Endpoint(tmp_path / str(len(made)), provider, BLOGS[provider], *secrets))
        return made[-1]

    yield make
    for each in made:
        each.close()


def signed(body: bytes, key: str = KEY) -> dict[str, str]:
    return {"X-Hub-Signature": f"sha256={hex_of(body, key=key)}"}


@BOTH
def test_a_delivery_as_it_is_sent_is_accepted_once(endpoint: Callable[..., Endpoint], provider: str) -> None:
    here, body = endpoint(provider, KEY), BODIES[provider]
    first, again = (here.post(body, HEADERS[provider] | signed(body)) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json == {"delivery": IDS[provider], "jobs": [{"id": 1, "repo": "blog"}]}
    assert again.json["reason"] == "accepted before, as job 1"


@BOTH
def test_an_event_of_no_interest_is_a_success(endpoint: Callable[..., Endpoint], provider: str) -> None:
    answer = endpoint(provider, KEY).post(b"{}", HEADERS[provider] | signed(b"{}") | {"X-Event-Key": "repo:forked"})
    assert (answer.status_code, answer.json["reason"]) == (200, "event 'repo:forked' is not a push")


@BOTH
@pytest.mark.parametrize(
    "proof",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"X-Hub-Signature": ""}, id="an empty signature"),
        pytest.param({"X-Hub-Signature": "sha256="}, id="a prefix"),
        pytest.param({"X-Hub-Signature": f"sha1={hex_of(CLOUD_BODY, 'sha1')}"}, id="sha1, as GitHub did"),
        pytest.param({"X-Hub-Signature": hex_of(CLOUD_BODY)}, id="no prefix"),
        pytest.param({"X-Hub-Signature-256": f"sha256={hex_of(CLOUD_BODY)}"}, id="in the header of GitHub"),
        pytest.param(signed(CLOUD_BODY, "wrong"), id="another key"),
        pytest.param(signed(CLOUD_BODY + b" "), id="another body"),
    ],
)
def test_any_other_signature_is_refused(
    endpoint: Callable[..., Endpoint], provider: str, proof: dict[str, str]
) -> None:
    here = endpoint(provider, KEY)
    assert here.post(CLOUD_BODY, HEADERS[provider] | proof).status_code == 401
    assert here.store.deliveries(None, limit=1) == []


@BOTH
def test_a_proof_of_another_sender_is_none(endpoint: Callable[..., Endpoint], provider: str) -> None:
    here, body = endpoint(provider, KEY), BODIES[provider]
    for sender, proof in proofs_of_others(body).items():
        if sender != "bitbucket":
            assert here.post(body, HEADERS[provider] | proof).status_code == 401, sender
    assert here.store.jobs(limit=1) == []


@BOTH
def test_what_github_sends_is_no_delivery_even_with_a_signature_in_the_right_header(
    endpoint: Callable[..., Endpoint], provider: str
) -> None:
    here = endpoint(provider, KEY)
    github = {"Content-Type": "application/json", "X-GitHub-Event": "push"}
    assert here.post(CLOUD_BODY, github | {"X-Hub-Signature-256": f"sha256={hex_of(CLOUD_BODY)}"}).status_code == 401
    assert here.post(CLOUD_BODY, github | signed(CLOUD_BODY)).status_code == 400
    assert here.store.jobs(limit=1) == []


@BOTH
@pytest.mark.parametrize("secrets", [(), ("",)])
def test_without_a_secret_the_receiver_is_closed(
    endpoint: Callable[..., Endpoint], provider: str, secrets: tuple[str, ...]
) -> None:
    here, body = endpoint(provider, *secrets), BODIES[provider]
    for proof in ({}, signed(body, ""), signed(body), {"Authorization": "Basic "}, {"Authorization": "Basic Og=="}):
        assert here.post(body, HEADERS[provider] | proof).status_code == 401


def test_without_a_secret_not_even_a_ping_is_answered(endpoint: Callable[..., Endpoint]) -> None:
    assert endpoint("bitbucket-server").post(b'{"test": true}', PING).status_code == 401


@BOTH
def test_a_form_body_is_nothing_that_bitbucket_sends(endpoint: Callable[..., Endpoint], provider: str) -> None:
    body = b"payload=%7B%7D"
    form = HEADERS[provider] | {"Content-Type": "application/x-www-form-urlencoded"}
    assert endpoint(provider, KEY).post(body, form | signed(body)).status_code == 415


def test_data_center_may_log_in_instead(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint("bitbucket-server", LOGIN)
    assert here.post(SERVER_BODY, HEADERS["bitbucket-server"] | {"Authorization": BASIC}).status_code == 202
    for wrong in ("Basic", "Basic Og==", f"Basic {LOGIN}", f"Bearer {LOGIN}", LOGIN, BASIC[:-4]):
        assert here.post(SERVER_BODY, HEADERS["bitbucket-server"] | {"Authorization": wrong}).status_code == 401, wrong


def test_cloud_does_not_log_in(endpoint: Callable[..., Endpoint]) -> None:
    answer = endpoint("bitbucket", LOGIN).post(CLOUD_BODY, HEADERS["bitbucket"] | {"Authorization": BASIC})
    assert answer.status_code == 401


@pytest.mark.parametrize("body", [b'{"test": true}', b"{}", b"", SERVER_BODY])
def test_an_unsigned_ping_of_data_center_is_answered_and_nothing_is_written(
    endpoint: Callable[..., Endpoint], tmp_path: Path, body: bytes
) -> None:
    here = endpoint("bitbucket-server", KEY)
    assert here.post(SERVER_BODY, HEADERS["bitbucket-server"] | signed(SERVER_BODY)).status_code == 202
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    answer = here.post(body, PING)
    assert (answer.status_code, answer.json) == (200, {"reason": "ping: the webhook reaches this receiver"})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert before


def test_an_unsigned_ping_does_not_mend_what_was_refused_before(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint("bitbucket-server", KEY)
    assert here.post(SERVER_BODY, HEADERS["bitbucket-server"]).status_code == 401
    refused = here.store.read_note(f"{REFUSED_NOTE}here")
    assert here.post(b'{"test": true}', PING).status_code == 200
    assert refused is not None
    assert here.store.read_note(f"{REFUSED_NOTE}here") == refused


@pytest.mark.parametrize(
    "proof",
    [
        pytest.param(signed(b'{"test": true}', "wrong"), id="a wrong signature"),
        pytest.param({"Authorization": BASIC}, id="a wrong password"),
    ],
)
def test_a_ping_that_is_signed_wrongly_is_refused_so_that_it_shows(
    endpoint: Callable[..., Endpoint], proof: dict[str, str]
) -> None:
    assert endpoint("bitbucket-server", KEY).post(b'{"test": true}', PING | proof).status_code == 401


def test_a_ping_that_is_signed_is_taken_like_any_delivery(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint("bitbucket-server", KEY)
    answer = here.post(b'{"test": true}', PING | signed(b'{"test": true}'))
    assert (answer.status_code, answer.json["reason"]) == (200, "ping: the webhook works")
    assert answer.json["delivery"].startswith("sha256:")


@pytest.mark.parametrize("key", ["repo:refs_changed", "mirror:repo_synchronized", "diagnostics:pong", "", "PING"])
def test_no_other_delivery_of_data_center_may_be_unsigned(endpoint: Callable[..., Endpoint], key: str) -> None:
    assert endpoint("bitbucket-server", KEY).post(SERVER_BODY, PING | {"X-Event-Key": key}).status_code == 401


def test_an_unsigned_ping_is_no_delivery_of_cloud(endpoint: Callable[..., Endpoint]) -> None:
    assert endpoint("bitbucket", KEY).post(b'{"test": true}', PING).status_code == 401
