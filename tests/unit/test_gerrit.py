"""What Gerrit's plugin `webhooks` sends, what it never sends, and how it proves itself."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.providers.gerrit import parse
from tests.endpoint import KEY, Endpoint, proofs_of_others, reason_for, repo_of

BEFORE, AFTER, ZERO = "95790bf891e76fee5e1747ab589903a6a1f80f22", "da1560886d4f094c3e6c9ef40349f7d38b5d27d7", "0" * 40
MAIN = RefUpdate(ref="refs/heads/main", revision=AFTER)
REMOTE = RemoteName(full_name="team/blog", urls=())
BLOG = repo_of("ssh://me@gerrit.example.org:29418/team/blog")
ANOTHER_REF = "blog: follows refs/heads/main, not "
OWN = "neither branch nor tag, but Gerrit's own: "


def moved(name: str = "refs/heads/main", after: Any = AFTER, before: str = BEFORE) -> dict[str, Any]:
    return {"oldRev": before, "newRev": after, "refName": name, "project": "team/blog"}


def push(**changes: Any) -> dict[str, Any]:
    return {
        "submitter": {"name": "Me", "email": "me@example.org", "username": "me"},
        "refUpdate": moved() | changes,
        "type": "ref-updated",
        "eventCreatedOn": 1700479996,
    }


def batch(*updates: dict[str, Any]) -> dict[str, Any]:
    return {"refUpdates": list(updates), "type": "batch-ref-updated", "eventCreatedOn": 1700479996}


BODY = json.dumps(push()).encode()


def event_of(payload: dict[str, Any]) -> Event:
    return parse({}, payload)


@pytest.mark.parametrize(
    ("payload", "updates", "reason"),
    [
        pytest.param(push(), (MAIN,), "", id="branch"),
        pytest.param(push(refName="main"), (MAIN,), "", id="a branch by its short name"),
        pytest.param(push(oldRev=ZERO), (MAIN,), "", id="new branch"),
        pytest.param({"type": "ref-updated", "refUpdate": moved()}, (MAIN,), "", id="with nothing that can be missed"),
        pytest.param(push(oldRev=None), (MAIN,), "", id="where it was is not told"),
        pytest.param(
            push(newRev=None), (RefUpdate(ref="refs/heads/main", revision=""),), "", id="where it is is not told"
        ),
        pytest.param(
            push(newRev="a" * 64, oldRev="b" * 64),
            (RefUpdate(ref="refs/heads/main", revision="a" * 64),),
            "",
            id="sha256",
        ),
        pytest.param(
            push(refName="feature/main"),
            (RefUpdate(ref="refs/heads/feature/main", revision=AFTER),),
            f"{ANOTHER_REF}refs/heads/feature/main",
            id="another branch by its short name",
        ),
        pytest.param(
            push(refName="refs/tags/main", oldRev=ZERO),
            (RefUpdate(ref="refs/tags/main", revision=AFTER),),
            f"{ANOTHER_REF}refs/tags/main",
            id="a tag called like the branch",
        ),
        pytest.param(
            push(newRev=ZERO),
            (RefUpdate(ref="refs/heads/main", revision=None),),
            "blog: refs/heads/main was deleted; the checkout stays as it is",
            id="branch deleted",
        ),
        pytest.param(
            push(refName="refs/tags/v1.0", newRev="0" * 64),
            (RefUpdate(ref="refs/tags/v1.0", revision=None),),
            f"{ANOTHER_REF}refs/tags/v1.0",
            id="tag deleted, sha256",
        ),
        pytest.param(
            batch(moved("refs/changes/07/7/1"), moved("refs/tags/v1.0"), moved("refs/changes/07/7/meta"), moved()),
            (RefUpdate(ref="refs/tags/v1.0", revision=AFTER), MAIN),
            "",
            id="several, the followed one among them",
        ),
    ],
)
def test_what_a_push_moved(payload: dict[str, Any], updates: tuple[RefUpdate, ...], reason: str) -> None:
    event = event_of(payload)
    assert event == Event(kind="push", remote=REMOTE, updates=updates)
    assert reason_for(event, BLOG) == reason


@pytest.mark.parametrize("ref", ["refs/changes/07/7/1", "refs/changes/07/7/meta", "refs/meta/config", "refs/users/42"])
def test_what_gerrit_keeps_in_refs_of_its_own_is_no_push(ref: str) -> None:
    event = event_of(push(refName=ref))
    assert event == Event(kind="ref-updated", remote=REMOTE, reason=f"{OWN}{ref}")
    assert reason_for(event, BLOG) == f"{OWN}{ref}"


def test_a_batch_of_nothing_but_refs_of_its_own_names_them() -> None:
    event = event_of(batch(moved("refs/changes/07/7/1"), moved("refs/changes/07/7/meta")))
    assert reason_for(event, BLOG) == f"{OWN}refs/changes/07/7/1, refs/changes/07/7/meta"


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "change-merged", "newRev": AFTER, "change": {"project": "team/blog", "branch": "main"}},
        {"type": "patchset-created", "change": None},
        {"type": "project-created"},
    ],
)
def test_another_event_moves_nothing(payload: dict[str, Any]) -> None:
    event = event_of(payload)
    assert event == Event(kind=payload["type"])
    assert reason_for(event, BLOG) == f"event '{payload['type']}' is not a push"


@pytest.mark.parametrize(
    ("project", "url", "is_ours"),
    [
        pytest.param("blog", "ssh://me@gerrit.example.org:29418/blog", True, id="a project in no folder"),
        pytest.param("blog", "https://gerrit.example.org/a/blog", True, id="and over HTTP, logged in"),
        pytest.param("blog", "ssh://me@gerrit.example.org:29418/team/blog", False, id="not one in a folder"),
        pytest.param("team/blog", "https://gerrit.example.org/r/a/team/blog", True, id="in a folder, anywhere"),
        pytest.param("team/blog", "ssh://me@gerrit.example.org:29418/team/shop", False, id="another project"),
    ],
)
def test_a_project_is_known_by_its_name(project: str, url: str, is_ours: bool) -> None:
    reason = reason_for(event_of(push(project=project)), repo_of(url))
    assert reason == ("" if is_ours else f"no repo is configured for {project}")


@pytest.mark.parametrize(
    ("payload", "attribute"),
    [
        ({}, "type"),
        ({"type": None}, "type"),
        ({"type": "Ref Updated"}, "type"),
        ({"type": "ref-updated\n"}, "type"),
        ({"type": "a" * 65}, "type"),
        ({"type": "ref-updated"}, "refUpdate"),
        (push() | {"refUpdate": []}, "refUpdate"),
        (push(project=None), "project"),
        (push(project=7), "project"),
        (push(refName=None), "refName"),
        (push(refName="refs/heads/a\x1bb"), "refName"),
        (push(newRev=7), "newRev"),
        (push(newRev="HEAD"), "newRev"),
        (push(newRev=AFTER[:12]), "newRev"),
        (push(newRev=""), "newRev"),
        (batch(), "project"),
        (batch(moved(), moved() | {"project": "team/shop"}), "project"),
        (batch() | {"refUpdates": moved()}, "refUpdates"),
        (batch(moved(), {"project": "team/blog"}), "refName"),
    ],
)
def test_a_push_that_gerrit_would_not_send_names_the_attribute(payload: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(payload)


# Proof

TOKEN = "5f2b9c3e7a1d4866b0c1d2e3f4a5968778695a4b3c2d1e0f5f2b9c3e7a1d4866"
HEADERS = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "Apache-HttpClient/4.5.14 (Java/17.0.9)"}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(*secrets: str) -> Endpoint:
        made.append(Endpoint(tmp_path / str(len(made)), "gerrit", BLOG, *secrets))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_delivery_to_the_secret_path_is_accepted_and_one_that_is_repeated_adds_no_job(
    endpoint: Callable[..., Endpoint],
) -> None:
    here = endpoint(TOKEN)
    first, again = (here.post(BODY, HEADERS, f"/hook/here/{TOKEN}") for _ in range(2))
    assert [answer.status_code for answer in (first, again)] == [202, 202]
    assert first.json["jobs"] == again.json["jobs"]


def test_a_review_is_a_success_without_a_job(endpoint: Callable[..., Endpoint]) -> None:
    here, body = endpoint(TOKEN), json.dumps(push(refName="refs/changes/07/7/1")).encode()
    answer = here.post(body, HEADERS, f"/hook/here/{TOKEN}")
    assert (answer.status_code, answer.json["reason"]) == (200, f"{OWN}refs/changes/07/7/1")
    assert here.store.jobs(limit=1) == []


@pytest.mark.parametrize(
    "path",
    [
        "/hook/here",
        "/hook/here/",
        "/hook/here/wrong",
        f"/hook/here/{TOKEN[:-1]}",
        f"/hook/here/{TOKEN}0",
        f"/hook/here/{TOKEN.upper()}",
        f"/hook/here/%20{TOKEN}",
        f"/hook/here/?token={TOKEN}",
        f"/hook/there/{TOKEN}",
    ],
)
def test_any_other_path_is_refused(endpoint: Callable[..., Endpoint], path: str) -> None:
    here = endpoint(TOKEN)
    assert here.post(BODY, HEADERS, path).status_code in (401, 404)
    assert here.store.jobs(limit=1) == []


def test_a_proof_of_another_sender_is_none(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint(KEY)
    for sender, proof in proofs_of_others(BODY).items():
        assert here.post(BODY, HEADERS | proof).status_code == 401, sender
        assert here.post(BODY, HEADERS | proof, "/hook/here/wrong").status_code == 401, sender
    assert here.store.jobs(limit=1) == []


@pytest.mark.parametrize("secrets", [(), ("",)])
@pytest.mark.parametrize("path", ["/hook/here", "/hook/here/", "/hook/here/x"])
def test_without_a_secret_the_receiver_is_closed(
    endpoint: Callable[..., Endpoint], secrets: tuple[str, ...], path: str
) -> None:
    assert endpoint(*secrets).post(BODY, HEADERS, path).status_code in (401, 404)


def test_the_token_is_neither_in_the_log_nor_on_disk_nor_in_an_answer(
    endpoint: Callable[..., Endpoint], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here, near = endpoint(TOKEN), f"{TOKEN[:-1]}x"
    review = json.dumps(push(refName="refs/changes/07/7/1")).encode()
    deliveries = [
        (BODY, HEADERS, TOKEN, 202),
        (BODY, HEADERS, TOKEN, 202),
        (review, HEADERS, TOKEN, 200),
        (b"nonsense", HEADERS, TOKEN, 400),
        (b'{"type": "ref-updated"}', HEADERS, TOKEN, 400),
        (BODY, HEADERS | {"Content-Type": "text/plain"}, TOKEN, 415),
        (BODY, HEADERS | {"Content-Type": "application/x-www-form-urlencoded"}, TOKEN, 415),
        (BODY, HEADERS, near, 401),
    ]
    with caplog.at_level(logging.DEBUG):
        for body, headers, token, status in deliveries:
            answer = here.post(body, headers, f"/hook/here/{token}")
            assert (answer.status_code, TOKEN[:-1] in answer.text) == (status, False)
    told = [f"{record.__dict__} {record.getMessage()}" for record in caplog.records]
    assert told
    assert [each for each in told if TOKEN[:-1] in each] == []
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if TOKEN[:-1].encode() in path.read_bytes()] == []
