"""What Gitea, Forgejo and Gogs send, what they never send, and how they prove themselves."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.providers import PROVIDERS
from tests.endpoint import KEY, Endpoint, hex_of, indented, proofs_of_others, reason_for, repo_of

BEFORE, AFTER, ZERO = "95790bf891e76fee5e1747ab589903a6a1f80f22", "da1560886d4f094c3e6c9ef40349f7d38b5d27d7", "0" * 40
BRANDS = {"gitea": "Gitea", "forgejo": "Forgejo", "gogs": "Gogs"}
REPOSITORY = {
    "id": 140,
    "owner": {"id": 1, "login": "me", "username": "me"},
    "name": "blog",
    "full_name": "me/blog",
    "private": True,
    "html_url": "https://git.example/me/blog",
    "ssh_url": "git@git.example:me/blog.git",
    "clone_url": "https://git.example/me/blog.git",
    "website": "",
    "default_branch": "main",
    "permissions": None,
}
COMMIT = {"id": AFTER, "message": "A page\n", "added": [], "removed": [], "modified": ["index.html"]}
PUSH = {
    "ref": "refs/heads/main",
    "before": BEFORE,
    "after": AFTER,
    "compare_url": f"https://git.example/me/blog/compare/{BEFORE}...{AFTER}",
    "commits": [COMMIT],
    "total_commits": 1,
    "head_commit": COMMIT,
    "repository": REPOSITORY,
    "pusher": {"id": 1, "login": "me", "username": "me", "email": "me@noreply.git.example"},
    "sender": {"id": 1, "login": "me"},
}
# What Gogs leaves out.
GOGS_PUSH = {key: value for key, value in PUSH.items() if key not in {"total_commits", "head_commit"}}
TEST_COMMIT = COMMIT | {"message": "This is a fake commit", "added": None, "removed": None, "modified": None}
CREATE = {"sha": AFTER, "ref": "v1.0", "ref_type": "tag", "repository": REPOSITORY, "sender": {"login": "me"}}
DELETE = {
    "ref": "main",
    "ref_type": "branch",
    "pusher_type": "user",
    "repository": REPOSITORY,
    "sender": {"login": "me"},
}
REMOTE = RemoteName(
    full_name="me/blog",
    urls=("https://git.example/me/blog.git", "git@git.example:me/blog.git", "https://git.example/me/blog"),
    id="140",
)
BLOG = repo_of("git@git.example:me/blog.git")
MAIN = RefUpdate(ref="refs/heads/main", revision=AFTER)
GONE = "blog: refs/heads/main was deleted; the checkout stays as it is"
TAGGED = "blog: follows refs/heads/main, not refs/tags/v1.0"

each_brand = pytest.mark.parametrize("provider", list(BRANDS))


def event_of(provider: str, payload: dict[str, Any], name: str = "push") -> Event:
    return PROVIDERS[provider].parse({f"X-{BRANDS[provider].upper()}-EVENT": name}, payload)


@each_brand
@pytest.mark.parametrize(
    ("name", "payload", "update", "reason"),
    [
        pytest.param("push", PUSH, MAIN, "", id="branch"),
        pytest.param("push", GOGS_PUSH, MAIN, "", id="branch, as Gogs tells it"),
        pytest.param("push", PUSH | {"before": ZERO, "compare_url": ""}, MAIN, "", id="new branch"),
        pytest.param("push", PUSH | {"commits": [COMMIT] * 5, "total_commits": 900}, MAIN, "", id="commits cut"),
        pytest.param("push", PUSH | {"commits": None, "head_commit": None}, MAIN, "", id="nulls"),
        pytest.param("push", PUSH | {"commits": [], "total_commits": 0}, MAIN, "", id="rewound"),
        pytest.param(
            "push",
            PUSH | {"ref": "refs/heads/feature/ünï-🌱"},
            RefUpdate(ref="refs/heads/feature/ünï-🌱", revision=AFTER),
            "blog: follows refs/heads/main, not refs/heads/feature/ünï-🌱",
            id="another branch",
        ),
        pytest.param(
            "push",
            PUSH | {"ref": "refs/tags/v1.0", "before": ZERO, "commits": []},
            RefUpdate(ref="refs/tags/v1.0", revision=AFTER),
            TAGGED,
            id="tag",
        ),
        pytest.param(
            "push",
            PUSH | {"ref": "refs/tags/v1.0", "after": ZERO, "commits": [], "head_commit": None},
            RefUpdate(ref="refs/tags/v1.0", revision=None),
            TAGGED,
            id="tag deleted, as a push",
        ),
        pytest.param(
            "push",
            PUSH | {"before": "b" * 64, "after": "a" * 64},
            RefUpdate(ref="refs/heads/main", revision="a" * 64),
            "",
            id="sha256",
        ),
        pytest.param(
            "push", PUSH | {"after": "0" * 64}, RefUpdate(ref="refs/heads/main", revision=None), GONE, id="sha256 zeros"
        ),
        pytest.param("delete", DELETE, RefUpdate(ref="refs/heads/main", revision=None), GONE, id="branch deleted"),
        pytest.param(
            "delete",
            DELETE | {"ref": "v1.0", "ref_type": "tag"},
            RefUpdate(ref="refs/tags/v1.0", revision=None),
            TAGGED,
            id="tag deleted",
        ),
        pytest.param(
            "delete",
            DELETE | {"ref": "main", "ref_type": "tag"},
            RefUpdate(ref="refs/tags/main", revision=None),
            "blog: follows refs/heads/main, not refs/tags/main",
            id="tag deleted that is named like the branch",
        ),
        pytest.param(
            "delete",
            DELETE | {"ref": "refs/heads/main"},
            RefUpdate(ref="refs/heads/refs/heads/main", revision=None),
            "blog: follows refs/heads/main, not refs/heads/refs/heads/main",
            id="branch deleted that is named like a full ref",
        ),
    ],
)
def test_what_a_push_moved(provider: str, name: str, payload: dict[str, Any], update: RefUpdate, reason: str) -> None:
    event = event_of(provider, payload, name)
    assert event == Event(kind=name, remote=REMOTE, updates=(update,))
    assert reason_for(event, BLOG) == reason


@each_brand
@pytest.mark.parametrize(
    ("given", "known"),
    [(140, "140"), (0, "0"), ("140", "140"), (None, ""), ([], ""), (1.0, ""), ("1 4", ""), (True, "")],
)
def test_a_repository_has_the_id_that_its_server_gave_it(provider: str, given: object, known: str) -> None:
    event = event_of(provider, PUSH | {"repository": REPOSITORY | {"id": given}})
    assert event.remote == REMOTE._replace(id=known)


@each_brand
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(PUSH | {"before": AFTER, "commits": [TEST_COMMIT], "head_commit": TEST_COMMIT}, id="at the tip"),
        pytest.param(PUSH | {"before": ZERO, "after": ZERO, "commits": [TEST_COMMIT]}, id="of an empty repository"),
        pytest.param(PUSH | {"before": "0" * 64, "after": "0" * 64}, id="of an empty one with sha256"),
        pytest.param(GOGS_PUSH | {"before": AFTER}, id="as Gogs sends it"),
    ],
)
def test_a_test_delivery_is_no_deletion_and_asks_for_nothing(provider: str, payload: dict[str, Any]) -> None:
    event = event_of(provider, payload)
    assert event == Event(kind="push", remote=REMOTE, reason="a test delivery: the webhook works")
    assert reason_for(event, BLOG) == "a test delivery: the webhook works"


@each_brand
@pytest.mark.parametrize(
    ("name", "payload", "remote"),
    [
        pytest.param("create", CREATE | {"ref": "main", "ref_type": "branch"}, REMOTE, id="branch created"),
        pytest.param(
            "create", {"ref": "main", "ref_type": "branch", "repository": REPOSITORY}, REMOTE, id="without commit"
        ),
        pytest.param("repository", {"action": "deleted", "repository": REPOSITORY}, REMOTE, id="repository"),
        pytest.param("package", {"action": "created", "repository": None}, None, id="null repository"),
        pytest.param("workflow_job", {}, None, id="no repository"),
    ],
)
def test_another_event_moves_nothing(
    provider: str, name: str, payload: dict[str, Any], remote: RemoteName | None
) -> None:
    event = event_of(provider, payload, name)
    assert event == Event(kind=name, remote=remote)
    assert reason_for(event, BLOG) == f"event '{name}' is not a push"


@pytest.mark.parametrize("provider", ["gitea", "forgejo"])
def test_a_new_tag_is_a_push_already_and_its_creation_nothing_more(provider: str) -> None:
    assert event_of(provider, CREATE, "create") == Event(kind="create", remote=REMOTE)


def test_a_new_tag_of_gogs_is_a_creation_only() -> None:
    event = event_of("gogs", CREATE, "create")
    update = RefUpdate(ref="refs/tags/v1.0", revision=AFTER)
    assert event == Event(kind="create", remote=REMOTE, updates=(update,))
    assert reason_for(event, BLOG) == TAGGED


@each_brand
@pytest.mark.parametrize(
    ("name", "payload", "attribute"),
    [
        ("push", PUSH | {"ref": None}, "ref"),
        ("push", PUSH | {"ref": "main"}, "ref"),
        ("push", PUSH | {"ref": "refs/heads/a\nb"}, "ref"),
        ("push", PUSH | {"before": 1}, "before"),
        ("push", PUSH | {"after": None}, "after"),
        ("push", PUSH | {"after": AFTER.upper()}, "after"),
        ("push", PUSH | {"before": "x", "after": "x"}, "after"),
        ("push", PUSH | {"after": "--upload-pack=sh"}, "after"),
        ("push", PUSH | {"repository": None}, "repository"),
        ("push", PUSH | {"repository": []}, "repository"),
        ("push", PUSH | {"repository": {"id": 140}}, "full_name"),
        ("push", PUSH | {"repository": REPOSITORY | {"clone_url": 1}}, "clone_url"),
        ("push", PUSH | {"before": AFTER, "repository": REPOSITORY | {"ssh_url": "\x1b]0;"}}, "ssh_url"),
        ("delete", DELETE | {"ref": ""}, "ref"),
        ("delete", DELETE | {"ref": None}, "ref"),
        ("delete", DELETE | {"ref_type": None}, "ref_type"),
        ("delete", DELETE | {"ref_type": "repository"}, "ref_type"),
        ("delete", DELETE | {"repository": None}, "repository"),
        ("create", CREATE | {"repository": "me/blog"}, "repository"),
    ],
)
def test_a_delivery_that_none_would_send_names_the_attribute(
    provider: str, name: str, payload: dict[str, Any], attribute: str
) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(provider, payload, name)


@pytest.mark.parametrize("sha", [None, "v1.0", AFTER[:-1]])
def test_a_new_tag_of_gogs_has_its_commit(sha: str | None) -> None:
    with pytest.raises(PayloadError, match="'sha'"):
        event_of("gogs", CREATE | {"sha": sha}, "create")


@each_brand
@pytest.mark.parametrize("name", ["", "Push", "push\n", "push, push", "é", "a" * 65])
def test_an_event_name_is_a_plain_word(provider: str, name: str) -> None:
    with pytest.raises(PayloadError, match=f"X-{BRANDS[provider]}-Event"):
        event_of(provider, PUSH, name)


@each_brand
def test_the_event_is_what_its_own_header_says(provider: str) -> None:
    others = {f"X-{brand.upper()}-EVENT": "star" for brand in (*BRANDS.values(), "GitHub") if brand.lower() != provider}
    own = {f"X-{BRANDS[provider].upper()}-EVENT": "push"}
    assert PROVIDERS[provider].parse({**others, **own}, PUSH).updates == (MAIN,)
    with pytest.raises(PayloadError, match=f"X-{BRANDS[provider]}-Event"):
        PROVIDERS[provider].parse(dict.fromkeys(others, "push"), PUSH)


# How they prove themselves

ID = "7bda8e7e-7c38-4ba8-9fbb-3bd2fa1f3ca3"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BODY = indented(PUSH)
FORM_BODY = urlencode({"payload": BODY}).encode()


def headers_of(sender: str, text: bytes, key: str = KEY, event: str = "push") -> dict[str, str]:
    """All that `sender` sends with `text`, which is what it signs; without a key the signatures have no digits."""
    sha256, sha1 = (hex_of(text, "sha256", key), hex_of(text, "sha1", key)) if key else ("", "")
    brands = {"gitea": ("Gitea", "Gogs"), "forgejo": ("Forgejo", "Gitea", "Gogs"), "gogs": ("Gogs",)}[sender]
    headers = {"Content-Type": "application/json", "X-GitHub-Event": event, "X-GitHub-Delivery": ID}
    for brand in brands:
        headers |= {f"X-{brand}-Event": event, f"X-{brand}-Delivery": ID, f"X-{brand}-Signature": sha256}
    if sender != "gogs":
        headers |= {"X-Hub-Signature": f"sha1={sha1}", "X-Hub-Signature-256": f"sha256={sha256}"}
    return headers


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(provider: str, *secrets: str) -> Endpoint:
        made.append(Endpoint(tmp_path, provider, BLOG, *secrets))
        return made[-1]

    yield make
    for each in made:
        each.close()


@each_brand
def test_a_signed_delivery_is_accepted_once(endpoint: Callable[..., Endpoint], provider: str) -> None:
    here = endpoint(provider, KEY)
    answer = here.post(BODY, headers_of(provider, BODY))
    assert answer.status_code == 202
    assert answer.json == {"delivery": ID, "jobs": [{"id": 1, "repo": "blog"}]}
    assert here.post(BODY, headers_of(provider, BODY)).status_code == 200


@each_brand
def test_a_form_is_signed_by_the_text_within(endpoint: Callable[..., Endpoint], provider: str) -> None:
    assert endpoint(provider, KEY).post(FORM_BODY, headers_of(provider, BODY) | FORM).status_code == 202


@each_brand
def test_a_form_that_is_signed_as_a_whole_is_refused(endpoint: Callable[..., Endpoint], provider: str) -> None:
    assert endpoint(provider, KEY).post(FORM_BODY, headers_of(provider, FORM_BODY) | FORM).status_code == 401


@each_brand
def test_a_test_delivery_is_answered_as_a_success(endpoint: Callable[..., Endpoint], provider: str) -> None:
    body = indented(PUSH | {"before": AFTER, "commits": [TEST_COMMIT]})
    answer = endpoint(provider, KEY).post(body, headers_of(provider, body))
    assert (answer.status_code, answer.json["reason"]) == (200, "a test delivery: the webhook works")


@each_brand
def test_a_deleted_branch_is_answered_as_a_success(endpoint: Callable[..., Endpoint], provider: str) -> None:
    body = indented(DELETE)
    answer = endpoint(provider, KEY).post(body, headers_of(provider, body, event="delete"))
    assert (answer.status_code, answer.json["reason"]) == (200, GONE)


@each_brand
@pytest.mark.parametrize(
    ("secrets", "key"),
    [
        pytest.param([KEY], "", id="signatures without digits"),
        pytest.param([KEY], "another", id="another secret"),
        pytest.param([], "", id="no secret, signatures without digits"),
        pytest.param([], KEY, id="no secret, a signature"),
        pytest.param([""], "", id="empty secret"),
    ],
)
def test_without_the_right_secret_nothing_is_accepted(
    endpoint: Callable[..., Endpoint], provider: str, secrets: list[str], key: str
) -> None:
    here = endpoint(provider, *secrets)
    assert here.post(BODY, headers_of(provider, BODY, key)).status_code == 401
    assert here.post(FORM_BODY, headers_of(provider, BODY, key) | FORM).status_code == 401


@each_brand
def test_a_signature_has_no_prefix(endpoint: Callable[..., Endpoint], provider: str) -> None:
    prefixed = {f"X-{BRANDS[provider]}-Signature": f"sha256={hex_of(BODY)}"}
    assert endpoint(provider, KEY).post(BODY, headers_of(provider, BODY) | prefixed).status_code == 401


@each_brand
def test_a_proof_of_another_sender_is_none(endpoint: Callable[..., Endpoint], provider: str) -> None:
    here = endpoint(provider, KEY)
    for sender, proof in proofs_of_others(BODY).items():
        headers = {"Content-Type": "application/json", f"X-{BRANDS[provider]}-Event": "push", **proof}
        assert here.post(BODY, headers).status_code == (202 if sender == provider else 401), sender


@pytest.mark.parametrize(
    ("sender", "accepted"),
    [("forgejo", ["gitea", "forgejo", "gogs"]), ("gitea", ["gitea", "gogs"]), ("gogs", ["gogs"])],
)
@each_brand
def test_the_younger_prove_themselves_as_the_older_too(
    endpoint: Callable[..., Endpoint], provider: str, sender: str, accepted: list[str]
) -> None:
    answer = endpoint(provider, KEY).post(BODY, headers_of(sender, BODY))
    assert answer.status_code == (202 if provider in accepted else 401)
