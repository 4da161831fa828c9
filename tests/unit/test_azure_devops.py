"""What Azure DevOps sends, what it never sends, and how it proves itself."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, RefUpdate, RemoteName
from gitopsd.providers.azure_devops import PROVIDER, parse
from tests.endpoint import KEY, Endpoint, proofs_of_others, reason_for, repo_of

BEFORE, AFTER, ZERO = "95790bf891e76fee5e1747ab589903a6a1f80f22", "da1560886d4f094c3e6c9ef40349f7d38b5d27d7", "0" * 40
MAIN = RefUpdate(ref="refs/heads/main", revision=AFTER)
ANOTHER_REF = "blog: follows refs/heads/main, not "
TEST_ID = "03c164c2-8912-4d5e-8009-3707d5f83734"
SUBSCRIPTION, ID = "8fd1e2a3-5b8c-4a57-9ff0-1d5e8b1a2c3d", "5d3b6a1e-0f63-4c2b-8f7a-2f5ad7b0c9e1"
REPOSITORY = {
    "id": "278d5cd2-584d-4b63-824a-2ba458937249",
    "name": "blog",
    "url": "https://dev.azure.com/me/_apis/git/repositories/278d5cd2-584d-4b63-824a-2ba458937249",
    "project": {"id": "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c", "name": "web", "state": "wellFormed"},
    "defaultBranch": "refs/heads/main",
    "remoteUrl": "https://me@dev.azure.com/me/web/_git/blog",
}
REMOTE = RemoteName(
    full_name="web/blog",
    alias="web/_git/blog",
    urls=("https://me@dev.azure.com/me/web/_git/blog",),
    id="278d5cd2-584d-4b63-824a-2ba458937249",
)
BLOG = repo_of("git@ssh.dev.azure.com:v3/me/web/blog")


def moved(name: str = "refs/heads/main", after: str = AFTER, before: str = BEFORE) -> dict[str, Any]:
    return {"name": name, "oldObjectId": before, "newObjectId": after}


def resource(*updates: dict[str, Any], **more: Any) -> dict[str, Any]:
    told = {
        "commits": [{"commitId": AFTER, "comment": "A page", "url": "https://dev.azure.com/me/_apis/git/commits/da"}],
        "refUpdates": list(updates) or [moved()],
        "repository": REPOSITORY,
        "pushedBy": {"displayName": "Me", "uniqueName": "me@example.org"},
        "pushId": 14,
        "date": "2024-05-02T19:17:13.3309587Z",
    }
    return {"resource": told | more}


PUSH = {
    "subscriptionId": SUBSCRIPTION,
    "notificationId": 17,
    "id": ID,
    "eventType": "git.push",
    "publisherId": "tfs",
    "message": {"text": "Me pushed updates to blog:main."},
    "resourceVersion": "1.0",
    "createdDate": "2024-05-02T19:17:14.0001234Z",
} | resource()
TEST = PUSH | {"id": TEST_ID, "notificationId": 1, "subscriptionId": "00000000-0000-0000-0000-000000000000"}
BODY = json.dumps(PUSH).encode()


def event_of(payload: dict[str, Any]) -> Event:
    return parse({}, payload)


@pytest.mark.parametrize(
    ("told", "updates", "reason"),
    [
        pytest.param(resource(), (MAIN,), "", id="branch"),
        pytest.param(resource(moved(before=ZERO)), (MAIN,), "", id="new branch"),
        pytest.param(resource(commits=None, pushedBy=None), (MAIN,), "", id="nulls"),
        pytest.param(resource(commits=[]), (MAIN,), "", id="no commits"),
        pytest.param(
            resource(moved(after="a" * 64, before="b" * 64)),
            (RefUpdate(ref="refs/heads/main", revision="a" * 64),),
            "",
            id="sha256",
        ),
        pytest.param(
            resource(moved("refs/tags/main", before=ZERO)),
            (RefUpdate(ref="refs/tags/main", revision=AFTER),),
            f"{ANOTHER_REF}refs/tags/main",
            id="a tag called like the branch",
        ),
        pytest.param(
            resource(moved("refs/pull/7/merge")),
            (RefUpdate(ref="refs/pull/7/merge", revision=AFTER),),
            f"{ANOTHER_REF}refs/pull/7/merge",
            id="a pull request",
        ),
        pytest.param(
            resource(moved(after=ZERO)),
            (RefUpdate(ref="refs/heads/main", revision=None),),
            "blog: refs/heads/main was deleted; the checkout stays as it is",
            id="branch deleted",
        ),
        pytest.param(
            resource(moved("refs/tags/v1.0", "0" * 64)),
            (RefUpdate(ref="refs/tags/v1.0", revision=None),),
            f"{ANOTHER_REF}refs/tags/v1.0",
            id="tag deleted, sha256",
        ),
        pytest.param(
            resource(moved("refs/heads/main-2"), moved("refs/tags/v1.0", ZERO), moved()),
            (
                RefUpdate(ref="refs/heads/main-2", revision=AFTER),
                RefUpdate(ref="refs/tags/v1.0", revision=None),
                MAIN,
            ),
            "",
            id="several, the followed one among them",
        ),
        pytest.param(resource(refUpdates=[]), (), "the push names no branch and no tag", id="a push of nothing"),
    ],
)
def test_what_a_push_moved(told: dict[str, Any], updates: tuple[RefUpdate, ...], reason: str) -> None:
    event = event_of(PUSH | told)
    assert event == Event(kind="push", remote=REMOTE, updates=updates, reason="" if updates else reason)
    assert reason_for(event, BLOG) == reason


@pytest.mark.parametrize(
    ("changes", "url", "is_ours"),
    [
        pytest.param({}, "https://dev.azure.com/me/web/_git/blog", True, id="https"),
        pytest.param({}, "https://me@dev.azure.com/me/web/_git/blog", True, id="https with a user"),
        pytest.param({"remoteUrl": None}, "git@ssh.dev.azure.com:v3/me/web/blog", True, id="ssh, by name alone"),
        pytest.param({}, "git@ssh.dev.azure.com:v3/me/web/shop", False, id="another repository"),
        pytest.param({}, "https://dev.azure.com/me/app/_git/blog", False, id="another project"),
        pytest.param(
            {
                "name": "my blog",
                "project": {"name": "Wéb"},
                "remoteUrl": "https://dev.azure.com/me/W%C3%A9b/_git/my%20blog",
            },
            "git@ssh.dev.azure.com:v3/me/W%c3%a9b/my%20blog",
            True,
            id="names that are quoted in URLs",
        ),
        pytest.param(
            {"remoteUrl": "https://tfs.example.org/tfs/DefaultCollection/web/_git/blog"},
            "ssh://tfs.example.org:22/tfs/DefaultCollection/web/_git/blog",
            True,
            id="a server of one's own",
        ),
    ],
)
def test_a_repository_is_known_by_url_or_by_project_and_name(changes: dict[str, Any], url: str, is_ours: bool) -> None:
    event = event_of(PUSH | resource(repository=REPOSITORY | changes))
    assert (reason_for(event, repo_of(url)) == "") is is_ours


@pytest.mark.parametrize(
    ("given", "known"),
    [(REPOSITORY["id"], REMOTE.id), (None, ""), ("", ""), ({}, ""), (True, ""), ("two words", ""), ("\x1b", "")],
)
def test_a_repository_has_the_id_that_azure_gave_it(given: object, known: str) -> None:
    event = event_of(PUSH | resource(repository=REPOSITORY | {"id": given}))
    assert event.remote == REMOTE._replace(id=known)


@pytest.mark.parametrize("told", [resource(), {"resource": None}, {"resource": {"pushId": 14}}, {}])
def test_the_button_test_is_a_test_whatever_details_it_sends(told: dict[str, Any]) -> None:
    payload = {key: value for key, value in TEST.items() if key != "resource"} | told
    assert event_of(payload) == Event(kind="ping")


@pytest.mark.parametrize("kind", ["git.pullrequest.created", "ms.vss-release.release-created-event", "build.complete"])
def test_another_event_moves_nothing(kind: str) -> None:
    event = event_of({"eventType": kind, "resource": None})
    assert event == Event(kind=kind)
    assert reason_for(event, BLOG) == f"event '{kind}' is not a push"


@pytest.mark.parametrize(
    ("told", "attribute"),
    [
        pytest.param({"resource": None}, "repository", id="none"),
        pytest.param({"resource": {"pushId": 14, "url": "https://dev.azure.com/x"}}, "repository", id="minimal"),
        pytest.param(resource(repository=None), "repository", id="no repository"),
        pytest.param(resource(refUpdates=None), "refUpdates", id="no updates"),
    ],
)
def test_details_that_are_not_sent_are_told_with_the_setting_that_brings_them(
    told: dict[str, Any], attribute: str
) -> None:
    with pytest.raises(PayloadError) as caught:
        event_of(PUSH | told)
    wanted = f"'{attribute}' is missing: set \"Resource details to send\" to All in the service hook"
    assert str(caught.value) == wanted


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"eventType": None}, "eventType"),
        ({"eventType": ""}, "eventType"),
        ({"eventType": "git push"}, "eventType"),
        ({"eventType": "é"}, "eventType"),
        ({"eventType": "a" * 101}, "eventType"),
        ({"eventType": ["git.push"]}, "eventType"),
        ({"resource": []}, "resource"),
        (resource(refUpdates={}), "refUpdates"),
        (resource(refUpdates=[None]), "refUpdates"),
        (resource({"newObjectId": AFTER}), "name"),
        (resource(moved("main")), "name"),
        (resource({"name": "refs/heads/main"}), "newObjectId"),
        (resource(moved(after="HEAD")), "newObjectId"),
        (resource(moved(after=AFTER[:12])), "newObjectId"),
        (resource(repository=[]), "repository"),
        (resource(repository={"name": "blog"}), "project"),
        (resource(repository={"project": {"name": "web"}}), "name"),
        (resource(repository=REPOSITORY | {"project": {}}), "name"),
        (resource(repository=REPOSITORY | {"remoteUrl": 1}), "remoteUrl"),
        (resource(repository=REPOSITORY | {"name": "\x1b]0;"}), "name"),
    ],
)
def test_a_push_that_azure_would_not_send_names_the_attribute(changes: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(PUSH | changes)


@pytest.mark.parametrize(
    ("changes", "delivery_id"),
    [
        ({}, f"{SUBSCRIPTION}/17/{ID}"),
        ({"notificationId": 18}, f"{SUBSCRIPTION}/18/{ID}"),
        ({"subscriptionId": None}, ""),
        ({"notificationId": None}, ""),
        ({"id": {}}, ""),
    ],
)
def test_the_delivery_id_is_made_of_three(changes: dict[str, Any], delivery_id: str) -> None:
    assert PROVIDER.delivery_id({}, PUSH | changes) == delivery_id


# Proof

LOGIN = "gitopsd:It's a Secret: to Everybody"
HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "User-Agent": "VSServices/19.245.35501.2 (Service=hookshost)",
    "X-VSS-ActivityId": "5d3b6a1e-0f63-4c2b-8f7a-2f5ad7b0c9e2",
    "X-VSS-SubscriptionId": SUBSCRIPTION,
    "Request-Id": "|5d3b6a1e.1.",
}


def basic(login: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(*secrets: str, header: str = "") -> Endpoint:
        made.append(Endpoint(tmp_path / str(len(made)), "azure-devops", BLOG, *secrets, header=header))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("secret", "header", "proof"),
    [
        pytest.param(LOGIN, "", basic(LOGIN), id="user and password"),
        pytest.param(KEY, "X-Deploy-Token", {"X-Deploy-Token": KEY}, id="a header of one's own"),
        pytest.param(KEY, "Authorization", {"Authorization": KEY}, id="the token in the usual header"),
        pytest.param(LOGIN, "X-Login", {"X-Login": basic(LOGIN)["Authorization"]}, id="a login in another header"),
    ],
)
def test_a_delivery_as_it_is_sent_is_accepted_once(
    endpoint: Callable[..., Endpoint], secret: str, header: str, proof: dict[str, str]
) -> None:
    here = endpoint(secret, header=header)
    first, again = (here.post(BODY, HEADERS | proof) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json == {"delivery": f"{SUBSCRIPTION}/17/{ID}", "jobs": [{"id": 1, "repo": "blog"}]}
    assert again.json["reason"] == "accepted before, as job 1"


def test_the_button_test_is_answered_every_time_and_brings_no_job(endpoint: Callable[..., Endpoint]) -> None:
    here = endpoint(LOGIN)
    for _ in range(2):
        answer = here.post(json.dumps(TEST).encode(), HEADERS | basic(LOGIN))
        assert (answer.status_code, answer.json["reason"]) == (200, "ping: the webhook works")
    assert here.store.jobs(limit=1) == []


def test_missing_details_are_a_bad_request_and_never_gone(endpoint: Callable[..., Endpoint]) -> None:
    body = json.dumps(PUSH | {"resource": {"pushId": 14}}).encode()
    answer = endpoint(LOGIN).post(body, HEADERS | basic(LOGIN))
    assert (answer.status_code, "Resource details to send" in answer.json["error"]) == (400, True)


@pytest.mark.parametrize(
    ("secret", "header", "proof"),
    [
        pytest.param(LOGIN, "", {}, id="nothing"),
        pytest.param(LOGIN, "", {"Authorization": ""}, id="empty"),
        pytest.param(LOGIN, "", {"Authorization": "Basic "}, id="a login of nothing"),
        pytest.param(LOGIN, "", basic("gitopsd:wrong"), id="another password"),
        pytest.param(LOGIN, "", basic(LOGIN.upper()), id="another case"),
        pytest.param(LOGIN, "", basic(f"{LOGIN}\n"), id="a line end"),
        pytest.param(LOGIN, "", {"Authorization": f"Basic {LOGIN}"}, id="not encoded"),
        pytest.param(LOGIN, "", {"Authorization": f"Bearer {LOGIN}"}, id="a bearer"),
        pytest.param(KEY, "X-Deploy-Token", {"X-Deploy-Token": "wrong"}, id="another token"),
        pytest.param(KEY, "X-Deploy-Token", {"X-Other-Token": KEY}, id="another header"),
        pytest.param(KEY, "X-Deploy-Token", {"Authorization": KEY}, id="the usual header instead"),
        pytest.param(LOGIN, "X-Deploy-Token", basic(LOGIN), id="a login in the usual header instead"),
    ],
)
def test_any_other_delivery_is_refused(
    endpoint: Callable[..., Endpoint], secret: str, header: str, proof: dict[str, str]
) -> None:
    here = endpoint(secret, header=header)
    assert here.post(BODY, HEADERS | proof).status_code == 401
    assert here.store.jobs(limit=1) == []


@pytest.mark.parametrize("header", ["", "X-Deploy-Token"])
def test_a_proof_of_another_sender_is_none(endpoint: Callable[..., Endpoint], header: str) -> None:
    here = endpoint(KEY, header=header)
    for sender, proof in proofs_of_others(BODY).items():
        assert here.post(BODY, HEADERS | proof).status_code == 401, sender
    assert here.store.jobs(limit=1) == []


@pytest.mark.parametrize("secrets", [(), ("",)])
@pytest.mark.parametrize("header", ["", "X-Deploy-Token"])
def test_without_a_secret_the_receiver_is_closed(
    endpoint: Callable[..., Endpoint], secrets: tuple[str, ...], header: str
) -> None:
    here = endpoint(*secrets, header=header)
    for proof in ({}, basic(""), basic(":"), {"X-Deploy-Token": ""}, basic(LOGIN)):
        assert here.post(BODY, HEADERS | proof).status_code == 401
        assert here.post(json.dumps(TEST).encode(), HEADERS | proof).status_code == 401
