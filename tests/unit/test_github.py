"""What GitHub sends, and what it never sends."""

from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate
from gitopsd.providers.github import parse

BEFORE, AFTER = "95790bf891e76fee5e1747ab589903a6a1f80f22", "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
REPOSITORY = {
    "id": 35129377,
    "name": "public-repo",
    "full_name": "baxterthehacker/public-repo",
    "owner": {"name": "baxterthehacker", "login": "baxterthehacker"},
    "html_url": "https://github.com/baxterthehacker/public-repo",
    "git_url": "git://github.com/baxterthehacker/public-repo.git",
    "ssh_url": "git@github.com:baxterthehacker/public-repo.git",
    "clone_url": "https://github.com/baxterthehacker/public-repo.git",
    "created_at": 1430869212,
    "default_branch": "main",
}
PUSH = {
    "ref": "refs/heads/changes",
    "before": BEFORE,
    "after": AFTER,
    "created": False,
    "deleted": False,
    "forced": False,
    "base_ref": None,
    "head_commit": {"id": AFTER},
    "commits": [{"id": AFTER, "added": [], "modified": ["README.md"], "removed": []}],
    "repository": REPOSITORY,
    "pusher": {"name": "baxterthehacker", "email": "baxterthehacker@users.noreply.github.com"},
}


def event_of(payload: dict[str, Any], name: str = "push") -> Event:
    return parse({"X-GITHUB-EVENT": name}, payload)


def test_a_push_names_its_repository_and_what_it_moved() -> None:
    event = event_of(PUSH)
    assert event.kind == "push"
    assert event.updates == (RefUpdate(ref="refs/heads/changes", revision=AFTER),)
    assert event.remote is not None
    assert event.remote.full_name == "baxterthehacker/public-repo"
    assert event.remote.urls == (
        "https://github.com/baxterthehacker/public-repo.git",
        "git@github.com:baxterthehacker/public-repo.git",
        "git://github.com/baxterthehacker/public-repo.git",
        "https://github.com/baxterthehacker/public-repo",
    )


@pytest.mark.parametrize(
    ("changes", "update"),
    [
        pytest.param(
            {"ref": "refs/tags/v1.0", "created": True, "before": "0" * 40},
            RefUpdate(ref="refs/tags/v1.0", revision=AFTER),
            id="tag",
        ),
        pytest.param({"forced": True}, RefUpdate(ref="refs/heads/changes", revision=AFTER, forced=True), id="forced"),
        pytest.param(
            {"deleted": True, "after": "0" * 40, "head_commit": None},
            RefUpdate(ref="refs/heads/changes", revision=None),
            id="deleted",
        ),
        pytest.param({"after": "0" * 40}, RefUpdate(ref="refs/heads/changes", revision=None), id="zeros only"),
        pytest.param({"after": "0" * 64}, RefUpdate(ref="refs/heads/changes", revision=None), id="sha256 zeros"),
        pytest.param({"deleted": True}, RefUpdate(ref="refs/heads/changes", revision=None), id="flag only"),
        pytest.param({"after": "a" * 64}, RefUpdate(ref="refs/heads/changes", revision="a" * 64), id="sha256"),
        pytest.param(
            {"ref": "refs/heads/feature/ünï-🌱"},
            RefUpdate(ref="refs/heads/feature/ünï-🌱", revision=AFTER),
            id="a branch of any name",
        ),
    ],
)
def test_what_a_push_moved(changes: dict[str, Any], update: RefUpdate) -> None:
    assert event_of(PUSH | changes).updates == (update,)


def test_a_push_without_some_of_the_urls_is_one_all_the_same() -> None:
    event = event_of(PUSH | {"repository": {"full_name": "a/b", "clone_url": None}})
    assert event.remote is not None
    assert event.remote.urls == ()


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        pytest.param(
            "ping", {"zen": "Keep it logically awesome.", "hook_id": 1, "organization": {}}, id="organisation"
        ),
        pytest.param("ping", {"zen": "Design for failure.", "hook_id": 1, "repository": REPOSITORY}, id="repository"),
        pytest.param("ping", {}, id="empty"),
        pytest.param("create", {"ref": "v1", "ref_type": "tag", "repository": REPOSITORY}, id="a short ref"),
        pytest.param("installation", {"repository": None}, id="null repository"),
    ],
)
def test_another_event_moves_nothing(name: str, payload: dict[str, Any]) -> None:
    event = event_of(payload, name)
    assert event.kind == name
    assert event.updates == ()
    assert (event.remote is not None) == bool(payload.get("repository"))


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"ref": None}, "ref"),
        ({"ref": 7}, "ref"),
        ({"ref": "main"}, "ref"),
        ({"ref": "refs/heads/a\nb"}, "ref"),
        ({"after": None}, "after"),
        ({"after": "HEAD"}, "after"),
        ({"after": AFTER.upper()}, "after"),
        ({"after": AFTER[:-1]}, "after"),
        ({"after": f"{AFTER}\n"}, "after"),
        ({"after": "--upload-pack=sh"}, "after"),
        ({"deleted": "false"}, "deleted"),
        ({"forced": 1}, "forced"),
        ({"repository": None}, "repository"),
        ({"repository": [REPOSITORY]}, "repository"),
        ({"repository": {"id": 1}}, "full_name"),
        ({"repository": REPOSITORY | {"full_name": {}}}, "full_name"),
        ({"repository": REPOSITORY | {"clone_url": 1}}, "clone_url"),
        ({"repository": REPOSITORY | {"ssh_url": "\x1b]0;"}}, "ssh_url"),
    ],
)
def test_a_push_that_github_would_not_send_names_the_attribute(changes: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(PUSH | changes)


@pytest.mark.parametrize("name", ["", "Push", "push ", "push, ping", "push\n", "pu-sh", "é", "a" * 65])
def test_an_event_name_is_a_plain_word(name: str) -> None:
    with pytest.raises(PayloadError, match="X-GitHub-Event"):
        event_of(PUSH, name)


def test_a_body_without_the_header_of_the_event_is_not_guessed_at() -> None:
    with pytest.raises(PayloadError, match="X-GitHub-Event"):
        parse({"X-GITEA-EVENT": "push"}, PUSH)
