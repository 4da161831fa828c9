"""What GitHub sends, and what it never sends."""

from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
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
REMOTE = RemoteName(
    full_name="baxterthehacker/public-repo",
    urls=(
        "https://github.com/baxterthehacker/public-repo.git",
        "git@github.com:baxterthehacker/public-repo.git",
        "git://github.com/baxterthehacker/public-repo.git",
        "https://github.com/baxterthehacker/public-repo",
    ),
    id="35129377",
)
UNCHANGED: dict[str, list[str]] = {"added": [], "modified": [], "removed": []}


def event_of(payload: dict[str, Any], name: str = "push") -> Event:
    return parse({"X-GITHUB-EVENT": name}, payload)


def moved(**more: Any) -> RefUpdate:
    """What `PUSH` has moved, but for `more`."""
    told = {"ref": "refs/heads/changes", "revision": AFTER, "before": BEFORE, "files": ("README.md",)}
    return RefUpdate(**told | more)


def commit(**files: Any) -> dict[str, Any]:
    return {"id": AFTER, **UNCHANGED, **files}


def test_a_push_names_its_repository_and_what_it_moved() -> None:
    assert event_of(PUSH) == Event(kind="push", remote=REMOTE, updates=(moved(),))


@pytest.mark.parametrize(
    ("changes", "update"),
    [
        pytest.param(
            {"ref": "refs/tags/v1.0", "created": True, "before": "0" * 40},
            moved(ref="refs/tags/v1.0", before="", files=None),
            id="tag",
        ),
        pytest.param({"created": True, "before": "0" * 40}, moved(before="", files=None), id="new branch"),
        pytest.param({"before": "0" * 64}, moved(before=""), id="sha256 zeros before"),
        pytest.param({"before": None}, moved(before=""), id="null before"),
        pytest.param({"before": "HEAD^"}, moved(before=""), id="no revision before"),
        pytest.param({"forced": True}, moved(forced=True, files=None), id="forced"),
        pytest.param(
            {"deleted": True, "after": "0" * 40, "head_commit": None}, moved(revision=None, files=None), id="deleted"
        ),
        pytest.param({"deleted": True}, moved(revision=None, files=None), id="flag only"),
        pytest.param({"after": "0" * 40, "commits": []}, moved(revision=None, files=None), id="zeros only"),
        pytest.param({"after": "0" * 64, "commits": []}, moved(revision=None, files=None), id="sha256 zeros"),
        pytest.param({"before": "b" * 64, "after": "a" * 64}, moved(before="b" * 64, revision="a" * 64), id="sha256"),
        pytest.param(
            {"ref": "refs/heads/feature/ünï-🌱"}, moved(ref="refs/heads/feature/ünï-🌱"), id="a branch of any name"
        ),
    ],
)
def test_what_a_push_moved(changes: dict[str, Any], update: RefUpdate) -> None:
    assert event_of(PUSH | changes).updates == (update,)


@pytest.mark.parametrize(
    ("commits", "files"),
    [
        pytest.param(
            [commit(added=["b", "a"], removed=["old"]), commit(modified=["a", "c/d é"], removed=["b"])],
            ("b", "a", "old", "c/d é"),
            id="each once, in the order in which they came",
        ),
        pytest.param([commit(), commit(modified=["a"])], None, id="of a huge commit all lists are empty"),
        pytest.param([commit(modified=["a" * 4097])], None, id="a very long path"),
        pytest.param([commit(modified=["a"])] * 2047, ("a",), id="as many commits as are told"),
        pytest.param([commit(added=[f"{n}" for n in range(299)])], tuple(map(str, range(299))), id="many files"),
        pytest.param([commit(modified=["a"])] * 2048, None, id="commits cut"),
        pytest.param([commit(added=[f"{n}" for n in range(300)])], None, id="files cut"),
        pytest.param([commit(modified=["a"]), commit(removed=[f"{n}" for n in range(300)])], None, id="cut in a later"),
        pytest.param([], None, id="no commits: moved back, or to what is there already"),
        pytest.param([commit()], None, id="nothing changed"),
        pytest.param(None, None, id="null commits"),
        pytest.param({"added": ["a"]}, None, id="no list of commits"),
        pytest.param([commit(modified=["a"]), None], None, id="a null commit"),
        pytest.param([commit(modified=["a"]), {"id": AFTER}], None, id="missing lists"),
        pytest.param([{"added": ["a"], "modified": []}], None, id="a missing list"),
        pytest.param([commit(added=["a"], removed=None)], None, id="a null list"),
        pytest.param([commit(added="a")], None, id="a text in place of a list"),
        pytest.param([commit(added=["a", 1])], None, id="a number among the names"),
        pytest.param([commit(added=["a", None])], None, id="a null among the names"),
        pytest.param([commit(added=[["a"]])], None, id="a list among the names"),
    ],
)
def test_the_files_of_a_push_are_known_to_the_last_one_or_not_at_all(
    commits: Any, files: tuple[str, ...] | None
) -> None:
    assert event_of(PUSH | {"commits": commits}).updates == (moved(files=files),)


@pytest.mark.parametrize(
    "flags",
    [
        {"created": True},
        {"forced": True},
        {"deleted": True},
        {"created": None},
        {"forced": None},
        {"deleted": None},
    ],
)
def test_the_files_of_a_push_that_does_more_than_add_commits_are_not_known(flags: dict[str, Any]) -> None:
    (update,) = event_of(PUSH | flags).updates
    assert update.files is None


@pytest.mark.parametrize("flag", ["created", "forced", "deleted"])
def test_the_files_are_not_known_where_a_flag_is_missing(flag: str) -> None:
    (update,) = event_of({key: value for key, value in PUSH.items() if key != flag}).updates
    assert update.files is None


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (35129377, "35129377"),
        ("35129377", "35129377"),
        (2**63, "9223372036854775808"),
        (None, ""),
        ("", ""),
        (1.5, ""),
        (True, ""),
        ([35129377], ""),
        ({"id": 1}, ""),
        ("3512 9377", ""),
        ("35129377\n", ""),
        ("é", ""),
        ("7" * 101, ""),
        (10**400, ""),
    ],
)
def test_a_repository_has_the_id_that_github_gave_it(given: object, known: str) -> None:
    event = event_of(PUSH | {"repository": REPOSITORY | {"id": given}})
    assert event.remote == REMOTE._replace(id=known)


def test_a_repository_without_an_id_is_one_all_the_same() -> None:
    event = event_of(PUSH | {"repository": {key: value for key, value in REPOSITORY.items() if key != "id"}})
    assert event.remote == REMOTE._replace(id="")


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
