"""What GitLab sends, what it never sends, and how it proves itself."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.providers.gitlab import PROVIDER, parse
from tests.endpoint import KEY, NOW, Endpoint, proofs_of_others, reason_for, repo_of

BEFORE, AFTER, ZERO = "95790bf891e76fee5e1747ab589903a6a1f80f22", "da1560886d4f094c3e6c9ef40349f7d38b5d27d7", "0" * 40
PROJECT = {
    "id": 15,
    "name": "Blog",
    "web_url": "https://gitlab.example/me/sites/blog",
    "avatar_url": None,
    "git_ssh_url": "git@gitlab.example:me/sites/blog.git",
    "git_http_url": "https://gitlab.example/me/sites/blog.git",
    "path_with_namespace": "me/sites/blog",
    "default_branch": "main",
    "ci_config_path": None,
    "url": "git@gitlab.example:me/sites/blog.git",
    "ssh_url": "git@gitlab.example:me/sites/blog.git",
    "http_url": "https://gitlab.example/me/sites/blog.git",
}
PUSH = {
    "object_kind": "push",
    "event_name": "push",
    "before": BEFORE,
    "after": AFTER,
    "ref": "refs/heads/main",
    "ref_protected": True,
    "checkout_sha": AFTER,
    "message": None,
    "user_username": "me",
    "user_email": "",
    "project_id": 15,
    "project": PROJECT,
    "commits": [{"id": AFTER, "added": [], "modified": ["index.html"], "removed": []}],
    "total_commits_count": 1,
    "push_options": {},
    "repository": {"name": "Blog", "url": "git@gitlab.example:me/sites/blog.git"},
}
TAG = PUSH | {
    "object_kind": "tag_push",
    "event_name": "tag_push",
    "before": ZERO,
    "after": "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7",
    "ref": "refs/tags/v1.0",
    "commits": [],
}
SYSTEM_UPDATE = {
    "event_name": "repository_update",
    "project_id": 15,
    "project": PROJECT,
    "changes": [
        {"before": BEFORE, "after": AFTER, "ref": "refs/heads/main"},
        {"before": BEFORE, "after": ZERO, "ref": "refs/heads/old"},
        {"before": ZERO, "after": BEFORE, "ref": "refs/tags/v1.0"},
    ],
    "refs": ["refs/heads/main", "refs/heads/old", "refs/tags/v1.0"],
}
REMOTE = RemoteName(
    full_name="me/sites/blog",
    urls=(
        "https://gitlab.example/me/sites/blog.git",
        "git@gitlab.example:me/sites/blog.git",
        "https://gitlab.example/me/sites/blog",
    ),
    id="15",
)
BLOG = repo_of("git@gitlab.example:me/sites/blog.git")
BODY = json.dumps(PUSH, separators=(",", ":")).encode()
SIGNING_KEY = b"0123456789abcdef0123456789abcdef"
SIGNING_TOKEN = f"whsec_{base64.b64encode(SIGNING_KEY).decode()}"


def event_of(payload: dict[str, Any], hook: str = "Push Hook") -> Event:
    return parse({"X-GITLAB-EVENT": hook}, payload)


def moved(*updates: RefUpdate, kind: str = "push") -> Event:
    return Event(kind=kind, remote=REMOTE, updates=updates)


MAIN = RefUpdate(ref="refs/heads/main", revision=AFTER)


@pytest.mark.parametrize(
    ("hook", "payload", "event", "reason"),
    [
        pytest.param("Push Hook", PUSH, moved(MAIN), "", id="branch"),
        pytest.param("Push Hook", PUSH | {"before": ZERO, "commits": []}, moved(MAIN), "", id="new branch"),
        pytest.param("Push Hook", PUSH | {"before": AFTER}, moved(MAIN), "", id="a test of the oldest kind"),
        pytest.param(
            "Push Hook",
            PUSH | {"total_commits_count": 900, "commits": [{"id": AFTER}] * 20},
            moved(MAIN),
            "",
            id="commits cut, without files",
        ),
        pytest.param(
            "Push Hook", PUSH | {"commits": None, "user_email": "[REDACTED]"}, moved(MAIN), "", id="no commits"
        ),
        pytest.param(
            "Push Hook",
            PUSH | {"after": ZERO, "checkout_sha": None, "commits": []},
            moved(RefUpdate(ref="refs/heads/main", revision=None)),
            "blog: refs/heads/main was deleted; the checkout stays as it is",
            id="branch deleted",
        ),
        pytest.param(
            "Push Hook",
            PUSH | {"ref": "refs/heads/feature/ünï-🌱"},
            moved(RefUpdate(ref="refs/heads/feature/ünï-🌱", revision=AFTER)),
            "blog: follows refs/heads/main, not refs/heads/feature/ünï-🌱",
            id="another branch",
        ),
        pytest.param(
            "Push Hook",
            PUSH | {"before": "b" * 64, "after": "a" * 64},
            moved(RefUpdate(ref="refs/heads/main", revision="a" * 64)),
            "",
            id="sha256",
        ),
        pytest.param(
            "Push Hook",
            PUSH | {"before": "b" * 64, "after": "0" * 64},
            moved(RefUpdate(ref="refs/heads/main", revision=None)),
            "blog: refs/heads/main was deleted; the checkout stays as it is",
            id="sha256 deleted",
        ),
        pytest.param(
            "Tag Push Hook",
            TAG,
            moved(RefUpdate(ref="refs/tags/v1.0", revision=str(TAG["after"])), kind="tag_push"),
            "blog: follows refs/heads/main, not refs/tags/v1.0",
            id="tag",
        ),
        pytest.param(
            "Tag Push Hook",
            TAG | {"before": TAG["after"], "after": ZERO, "checkout_sha": None},
            moved(RefUpdate(ref="refs/tags/v1.0", revision=None), kind="tag_push"),
            "blog: follows refs/heads/main, not refs/tags/v1.0",
            id="tag deleted",
        ),
        pytest.param("System Hook", PUSH, moved(MAIN), "", id="system, branch"),
        pytest.param(
            "System Hook",
            {key: value for key, value in PUSH.items() if key != "object_kind"},
            moved(MAIN),
            "",
            id="system, branch, older",
        ),
        pytest.param(
            "System Hook",
            TAG,
            moved(RefUpdate(ref="refs/tags/v1.0", revision=str(TAG["after"])), kind="tag_push"),
            "blog: follows refs/heads/main, not refs/tags/v1.0",
            id="system, tag",
        ),
        pytest.param(
            "System Hook",
            SYSTEM_UPDATE,
            moved(
                MAIN,
                RefUpdate(ref="refs/heads/old", revision=None),
                RefUpdate(ref="refs/tags/v1.0", revision=BEFORE),
                kind="repository_update",
            ),
            "",
            id="system, a push of several refs",
        ),
        pytest.param(
            "System Hook",
            SYSTEM_UPDATE | {"changes": []},
            moved(kind="repository_update"),
            "event 'repository_update' is not a push",
            id="system, a push of none",
        ),
    ],
)
def test_what_a_push_moved(hook: str, payload: dict[str, Any], event: Event, reason: str) -> None:
    assert event_of(payload, hook) == event
    assert reason_for(event, BLOG) == reason


@pytest.mark.parametrize(
    ("hook", "payload", "kind", "remote"),
    [
        ("Merge Request Hook", {"object_kind": "merge_request", "project": PROJECT}, "Merge Request Hook", REMOTE),
        ("Work Item Hook", {"object_kind": "work_item", "project": None}, "Work Item Hook", None),
        ("Member Hook", {"event_name": "user_add_to_group"}, "Member Hook", None),
        ("Job Hook", {"object_kind": "build", "project": {"id": 15}}, "Job Hook", None),
        ("System Hook", {"event_name": "project_create", "path_with_namespace": "me/blog"}, "project_create", None),
        ("System Hook", {"object_kind": "merge_request", "project": PROJECT}, "merge_request", REMOTE),
        ("System Hook", {}, "System Hook", None),
    ],
)
def test_another_event_moves_nothing(hook: str, payload: dict[str, Any], kind: str, remote: RemoteName | None) -> None:
    event = event_of(payload, hook)
    assert event == Event(kind=kind, remote=remote)
    assert reason_for(event, BLOG) == f"event '{kind}' is not a push"


# What GitLab has for a test where there are no commits: a project of no server, under a number that may be another's.
SAMPLE = {
    "id": 15,
    "name": "gitlab",
    "web_url": "http://test.example.com/gitlab/gitlab",
    "git_ssh_url": "git@test.example.com:gitlab/gitlab.git",
    "git_http_url": "http://test.example.com/gitlab/gitlab.git",
    "path_with_namespace": "gitlab/gitlab",
    "default_branch": "master",
}


def test_a_test_of_an_empty_project_is_a_push_of_a_repo_that_nobody_has() -> None:
    event = event_of(PUSH | {"ref": "refs/heads/master", "project": SAMPLE})
    assert event.remote == RemoteName(
        full_name="gitlab/gitlab",
        urls=(
            "http://test.example.com/gitlab/gitlab.git",
            "git@test.example.com:gitlab/gitlab.git",
            "http://test.example.com/gitlab/gitlab",
        ),
    )
    assert reason_for(event, BLOG) == "no repo is configured for gitlab/gitlab"


@pytest.mark.parametrize(
    ("project", "known"),
    [
        ({"id": 15}, "15"),
        ({"id": "15"}, "15"),
        ({"id": None}, ""),
        ({"id": {}}, ""),
        ({"id": -1.5}, ""),
        ({"id": False}, ""),
        ({"git_http_url": "https://test.example.com/me/sites/blog.git"}, ""),
        ({"web_url": "https://test.example.com/me/sites/blog"}, ""),
    ],
)
def test_a_project_has_the_id_that_its_server_gave_it(project: dict[str, Any], known: str) -> None:
    remote = event_of(PUSH | {"project": PROJECT | project}).remote
    assert remote is not None
    assert remote.id == known


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"ref": None}, "ref"),
        ({"ref": "main"}, "ref"),
        ({"ref": "refs/heads/a\nb"}, "ref"),
        ({"after": None}, "after"),
        ({"after": AFTER.upper()}, "after"),
        ({"after": "--upload-pack=sh"}, "after"),
        ({"project": None}, "project"),
        ({"project": "me/blog"}, "project"),
        ({"project": {"id": 15}}, "path_with_namespace"),
        ({"project": PROJECT | {"git_http_url": 7}}, "git_http_url"),
        ({"project": PROJECT | {"git_ssh_url": "\x1b]0;"}}, "git_ssh_url"),
    ],
)
@pytest.mark.parametrize("hook", ["Push Hook", "Tag Push Hook", "System Hook"])
def test_a_push_that_gitlab_would_not_send_names_the_attribute(
    hook: str, changes: dict[str, Any], attribute: str
) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(PUSH | changes, hook)


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"changes": {"ref": "refs/heads/main"}}, "changes"),
        ({"changes": ["refs/heads/main"]}, "changes"),
        ({"changes": [{"ref": "main", "after": AFTER}]}, "ref"),
        ({"changes": [{"ref": "refs/heads/main"}]}, "after"),
        ({"event_name": "push; reboot"}, "event_name"),
        ({"event_name": 1}, "event_name"),
        ({"event_name": None, "object_kind": []}, "object_kind"),
    ],
)
def test_a_system_hook_that_gitlab_would_not_send_names_the_attribute(changes: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(SYSTEM_UPDATE | changes, "System Hook")


@pytest.mark.parametrize("hook", ["", "Push Hook\n", "push_hook", "Push Hook, Push Hook", "é", "a" * 65])
def test_the_name_of_a_hook_is_plain_words(hook: str) -> None:
    with pytest.raises(PayloadError, match="X-Gitlab-Event"):
        event_of(PUSH, hook)


def test_the_delivery_id_is_what_stays_the_same_when_a_delivery_is_sent_again() -> None:
    assert PROVIDER.delivery_id({"IDEMPOTENCY-KEY": "f5e5", "X-GITLAB-EVENT-UUID": "shared"}, {}) == "f5e5"
    assert PROVIDER.delivery_id({"X-GITLAB-EVENT-UUID": "shared", "X-GITLAB-WEBHOOK-UUID": "hook"}, {}) == ""


# How it proves itself

HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "GitLab/18.2.0",
    "Idempotency-Key": "f5e57ab5-8a70-4e2f-9d21-5a4b3b9c1f10",
    "X-Gitlab-Event": "Push Hook",
    "X-Gitlab-Webhook-UUID": "6fd5ee5a-6b9c-4d4b-8a54-54b0e6a7c2f0",
    "X-Gitlab-Instance": "https://gitlab.example",
    "X-Gitlab-Event-UUID": "13792a34-cac6-4fda-95a8-c58e00a3954e",
}


def signed(body: bytes, key: bytes = SIGNING_KEY, at: float = NOW) -> dict[str, str]:
    text = f"{HEADERS['Idempotency-Key']}.{at:.0f}.".encode() + body
    signature = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": HEADERS["Idempotency-Key"],
        "webhook-timestamp": f"{at:.0f}",
        "webhook-signature": f"v1,{signature}",
    }


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(*secrets: str) -> Endpoint:
        made.append(Endpoint(tmp_path, "gitlab", BLOG, *secrets))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("secrets", "proof"),
    [
        pytest.param([KEY], {"X-Gitlab-Token": KEY}, id="secret token"),
        pytest.param(["new", KEY], {"X-Gitlab-Token": KEY}, id="secret token, while it is rotated"),
        pytest.param([SIGNING_TOKEN], signed(BODY), id="signing token"),
        pytest.param([SIGNING_TOKEN], signed(BODY) | {"X-Gitlab-Token": "unknown"}, id="both, the signature known"),
        pytest.param([KEY], signed(BODY, b"unknown") | {"X-Gitlab-Token": KEY}, id="both, the secret token known"),
        pytest.param([KEY, SIGNING_TOKEN], signed(BODY) | {"X-Gitlab-Token": KEY}, id="both, both known"),
    ],
)
def test_a_delivery_with_either_token_is_accepted(
    endpoint: Callable[..., Endpoint], secrets: list[str], proof: dict[str, str]
) -> None:
    answer = endpoint(*secrets).post(BODY, HEADERS | proof)
    assert answer.status_code == 202
    assert answer.json == {"delivery": HEADERS["Idempotency-Key"], "jobs": [{"id": 1, "repo": "blog"}]}


@pytest.mark.parametrize(
    ("secrets", "proof"),
    [
        pytest.param([KEY], {"X-Gitlab-Token": ""}, id="empty"),
        pytest.param([KEY], {"X-Gitlab-Token": KEY[:-1]}, id="another"),
        pytest.param([KEY], {"X-Gitlab-Token": "é"}, id="not ASCII"),
        pytest.param([KEY], signed(BODY, KEY.encode()), id="signed with the secret token"),
        pytest.param([SIGNING_TOKEN], {"X-Gitlab-Token": SIGNING_TOKEN}, id="the signing token itself"),
        pytest.param([SIGNING_TOKEN], signed(BODY + b" "), id="another body"),
        pytest.param([SIGNING_TOKEN], signed(BODY, at=NOW - 301), id="signed long ago"),
        pytest.param([SIGNING_TOKEN], signed(BODY) | {"webhook-id": "another"}, id="another id"),
        pytest.param([], {"X-Gitlab-Token": ""}, id="no secret, empty"),
        pytest.param([], {"X-Gitlab-Token": KEY}, id="no secret, a token"),
        pytest.param([], signed(BODY, b""), id="no secret, signed with nothing"),
        pytest.param([""], {"X-Gitlab-Token": ""}, id="empty secret"),
    ],
)
def test_any_other_delivery_is_refused(
    endpoint: Callable[..., Endpoint], secrets: list[str], proof: dict[str, str]
) -> None:
    assert endpoint(*secrets).post(BODY, HEADERS | proof).status_code == 401


def test_a_proof_of_another_sender_is_none(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint(KEY, SIGNING_TOKEN)
    for sender, proof in proofs_of_others(BODY).items():
        assert here.post(BODY, HEADERS | proof).status_code == (202 if sender == "gitlab" else 401), sender


def test_an_event_of_no_interest_is_answered_as_a_success(endpoint: Callable[..., Endpoint]) -> None:
    answer = endpoint(KEY).post(b"{}", HEADERS | {"X-Gitlab-Event": "Note Hook", "X-Gitlab-Token": KEY})
    assert (answer.status_code, answer.json["reason"]) == (200, "event 'Note Hook' is not a push")


def test_a_form_body_is_nothing_that_gitlab_sends(endpoint: Callable[..., Endpoint]) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert endpoint(KEY).post(b"payload=%7B%7D", HEADERS | form | {"X-Gitlab-Token": KEY}).status_code == 415
