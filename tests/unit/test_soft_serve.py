"""What soft-serve sends, what it never sends, and how it proves itself."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.providers.soft_serve import PROVIDER, parse
from tests.endpoint import KEY, Endpoint, hex_of, proofs_of_others, reason_for, repo_of

BEFORE, AFTER, ZERO = "95790bf891e76fee5e1747ab589903a6a1f80f22", "da1560886d4f094c3e6c9ef40349f7d38b5d27d7", "0" * 40
REPOSITORY = {
    "id": 3,
    "name": "blog",
    "project_name": "",
    "description": "",
    "private": True,
    "http_url": "https://soft.example:23232/blog.git",
    "ssh_url": "ssh://soft.example:23231/blog.git",
    "git_url": "git://soft.example:9418/blog.git",
    "default_branch": "main",
    "owner": {"id": 1, "username": "me"},
    "created_at": "2024-01-02T03:04:05Z",
}
PUSH = {
    "event": "push",
    "repository": REPOSITORY,
    "sender": {"id": 1, "username": "me"},
    "ref": "refs/heads/main",
    "before": BEFORE,
    "after": AFTER,
    "commits": [{"id": AFTER, "message": "A page", "title": "A page"}],
}
CREATE = {key: value for key, value in PUSH.items() if key != "commits"} | {
    "event": "branch_tag_create",
    "before": ZERO,
    "created": True,
    "deleted": False,
}
DELETE = CREATE | {"event": "branch_tag_delete", "before": AFTER, "after": ZERO, "created": False, "deleted": True}
REMOTE = RemoteName(
    full_name="blog",
    urls=(
        "https://soft.example:23232/blog.git",
        "ssh://soft.example:23231/blog.git",
        "git://soft.example:9418/blog.git",
    ),
    id="3",
)
BLOG = repo_of("ssh://git@soft.example:23231/blog")
BODY = json.dumps(PUSH, separators=(",", ":")).encode() + b"\n"
MAIN = RefUpdate(ref="refs/heads/main", revision=AFTER)


def event_of(payload: dict[str, Any], name: str = "push") -> Event:
    return parse({"X-SOFTSERVE-EVENT": name}, payload)


@pytest.mark.parametrize(
    ("name", "payload", "update", "reason"),
    [
        pytest.param("push", PUSH, MAIN, "", id="branch"),
        pytest.param("push", PUSH | {"before": ZERO}, MAIN, "", id="new branch"),
        pytest.param("push", PUSH | {"commits": [{"id": AFTER}] * 20}, MAIN, "", id="commits cut"),
        pytest.param("push", PUSH | {"commits": None}, MAIN, "", id="no commits"),
        pytest.param(
            "push",
            PUSH | {"ref": "refs/tags/v1.0", "before": ZERO},
            RefUpdate(ref="refs/tags/v1.0", revision=AFTER),
            "blog: follows refs/heads/main, not refs/tags/v1.0",
            id="tag",
        ),
        pytest.param(
            "push",
            PUSH | {"before": "b" * 64, "after": "a" * 64},
            RefUpdate(ref="refs/heads/main", revision="a" * 64),
            "",
            id="sha256",
        ),
        pytest.param("branch_tag_create", CREATE, MAIN, "", id="branch created"),
        pytest.param(
            "branch_tag_create",
            CREATE | {"ref": "refs/tags/v1.0"},
            RefUpdate(ref="refs/tags/v1.0", revision=AFTER),
            "blog: follows refs/heads/main, not refs/tags/v1.0",
            id="tag created",
        ),
        pytest.param(
            "branch_tag_delete",
            DELETE,
            RefUpdate(ref="refs/heads/main", revision=None),
            "blog: refs/heads/main was deleted; the checkout stays as it is",
            id="branch deleted",
        ),
        pytest.param(
            "branch_tag_delete",
            DELETE | {"deleted": False},
            RefUpdate(ref="refs/heads/main", revision=None),
            "blog: refs/heads/main was deleted; the checkout stays as it is",
            id="branch deleted, by zeros only",
        ),
        pytest.param(
            "branch_tag_delete",
            DELETE | {"ref": "refs/tags/v1.0"},
            RefUpdate(ref="refs/tags/v1.0", revision=None),
            "blog: follows refs/heads/main, not refs/tags/v1.0",
            id="tag deleted",
        ),
    ],
)
def test_what_a_push_moved(name: str, payload: dict[str, Any], update: RefUpdate, reason: str) -> None:
    event = event_of(payload, name)
    assert event == Event(kind=name, remote=REMOTE, updates=(update,))
    assert reason_for(event, BLOG) == reason


@pytest.mark.parametrize("name", ["repository", "repository_visibility_change", "collaborator", "unheard_of"])
def test_another_event_moves_nothing(name: str) -> None:
    event = event_of({"event": name, "action": "rename", "repository": REPOSITORY}, name)
    assert event == Event(kind=name, remote=REMOTE)
    assert reason_for(event, BLOG) == f"event '{name}' is not a push"


@pytest.mark.parametrize(("given", "known"), [(3, "3"), ("3", "3"), (None, ""), ([3], ""), (3.0, ""), (True, "")])
def test_a_repository_has_the_id_that_its_server_gave_it(given: object, known: str) -> None:
    event = event_of(PUSH | {"repository": REPOSITORY | {"id": given}})
    assert event.remote == REMOTE._replace(id=known)


def test_a_repository_in_a_folder_is_known_by_its_name_too() -> None:
    event = event_of(PUSH | {"repository": {"name": "sites/blog", "http_url": "http://localhost:23232/sites/blog.git"}})
    assert reason_for(event, repo_of("ssh://soft/sites/blog")) == ""


def test_a_repository_of_another_name_is_nobodys() -> None:
    assert reason_for(event_of(PUSH), repo_of("ssh://soft.example:23231/shop")) == "no repo is configured for blog"


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"ref": None}, "ref"),
        ({"ref": "main"}, "ref"),
        ({"ref": "refs/heads/a\nb"}, "ref"),
        ({"after": None}, "after"),
        ({"after": "HEAD"}, "after"),
        ({"after": AFTER[:-1]}, "after"),
        ({"deleted": "true"}, "deleted"),
        ({"repository": None}, "repository"),
        ({"repository": "blog"}, "repository"),
        ({"repository": {"id": 3}}, "name"),
        ({"repository": REPOSITORY | {"name": 3}}, "name"),
        ({"repository": REPOSITORY | {"ssh_url": []}}, "ssh_url"),
    ],
)
@pytest.mark.parametrize(("name", "payload"), [("push", PUSH), ("branch_tag_create", CREATE)])
def test_a_push_that_soft_serve_would_not_send_names_the_attribute(
    name: str, payload: dict[str, Any], changes: dict[str, Any], attribute: str
) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(payload | changes, name)


@pytest.mark.parametrize("name", ["", "Push", "push\n", "push, push", "é", "a" * 65])
def test_an_event_name_is_a_plain_word(name: str) -> None:
    with pytest.raises(PayloadError, match="X-SoftServe-Event"):
        event_of(PUSH, name)


# How it proves itself

HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "SoftServe/v0.8.3",
    "X-SoftServe-Event": "push",
    "X-SoftServe-Delivery": "6c84fb90-12c4-11e1-840d-7b25c5ee775a",
}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(*secrets: str) -> Endpoint:
        made.append(Endpoint(tmp_path, "soft-serve", BLOG, *secrets))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_signed_delivery_is_accepted_once(endpoint: Callable[..., Endpoint]) -> None:
    here, proof = endpoint(KEY), {"X-SoftServe-Signature": f"sha256={hex_of(BODY)}"}
    answer = here.post(BODY, HEADERS | proof)
    assert answer.status_code == 202
    assert answer.json == {"delivery": HEADERS["X-SoftServe-Delivery"], "jobs": [{"id": 1, "repo": "blog"}]}
    assert here.post(BODY, HEADERS | proof).status_code == 200


def test_the_line_end_of_the_body_is_signed_too(endpoint: Callable[..., Endpoint]) -> None:
    proof = {"X-SoftServe-Signature": f"sha256={hex_of(BODY.rstrip())}"}
    assert endpoint(KEY).post(BODY, HEADERS | proof).status_code == 401


@pytest.mark.parametrize("signature", ["", "sha256=", hex_of(BODY), f"sha256={hex_of(BODY, key='')}"])
@pytest.mark.parametrize("secrets", [[KEY], [], [""]])
def test_without_signature_or_secret_nothing_is_accepted(
    endpoint: Callable[..., Endpoint], signature: str, secrets: list[str]
) -> None:
    assert endpoint(*secrets).post(BODY, HEADERS | {"X-SoftServe-Signature": signature}).status_code == 401


def test_without_a_secret_the_right_signature_is_none(endpoint: Callable[..., Endpoint]) -> None:
    proof = {"X-SoftServe-Signature": f"sha256={hex_of(BODY)}"}
    assert endpoint().post(BODY, HEADERS | proof).status_code == 401


def test_a_proof_of_another_sender_is_none(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint(KEY)
    for sender, proof in proofs_of_others(BODY).items():
        assert here.post(BODY, HEADERS | proof).status_code == (202 if sender == "soft-serve" else 401), sender


def test_a_form_has_no_payload_and_is_turned_away_only_when_it_is_signed(endpoint: Callable[..., Endpoint]) -> None:
    body, here = b"after=1&ref=refs%2Fheads%2Fmain", endpoint(KEY)
    form = HEADERS | {"Content-Type": "application/x-www-form-urlencoded"}
    assert here.post(body, form).status_code == 401
    assert here.post(body, form | {"X-SoftServe-Signature": f"sha256={hex_of(body)}"}).status_code == 415


def test_the_form_asks_for_what_can_be_read() -> None:
    assert dict(PROVIDER.form)["-c"] == "json"
