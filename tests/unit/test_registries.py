"""How registries and Cloudflare prove themselves, and what becomes of what they send, all through the application.

What they send in detail is in a file for each. Here is one delivery of each that asks for a sync, and one that does
not.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from falcon import testing

from gitopsd.model import Image
from gitopsd.providers import PROVIDERS
from gitopsd.providers.images import NO_TAG
from gitopsd.schemes import HmacScheme, PathScheme
from tests.endpoint import KEY, Endpoint, Endpoints, proofs_of_others, repo_of
from tests.senders import FORM, JSON, Sender, mangled

DIGEST = f"sha256:{'3da1996a8115d761' * 4}"
ID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
BLOG = repo_of("https://git.example/me/blog.git")
V2, V1 = (f"application/vnd.docker.distribution.events.{version}+json" for version in ("v2", "v1"))
CLOUD_EVENTS = "application/cloudevents+json"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A delivery of a provider, the image that it tells of, and one that leads to nothing, with the reason."""

    payload: dict[str, Any]
    nothing: dict[str, Any]
    reason: str
    image: Image | None = None
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = JSON
    delivery_id: str = ""


def ghcr(tag: str) -> dict[str, Any]:
    version = {"container_metadata": {"tag": {"name": tag, "digest": DIGEST}}}
    package = {"name": "blog", "package_type": "CONTAINER", "owner": {"login": "Me"}, "package_version": version}
    return {"action": "published", "package": package, "repository": None}


def envelope(media_type: str) -> dict[str, Any]:
    target = {"mediaType": media_type, "digest": DIGEST, "repository": "me/blog", "tag": "latest"}
    return {"events": [{"id": ID, "action": "push", "target": target, "request": {"host": "localhost:5000"}}]}


def harbor(tag: str) -> dict[str, Any]:
    resource = {"digest": DIGEST, "tag": tag, "resource_url": "harbor.example/me/blog:latest"}
    return {"resources": [resource], "repository": {"repo_full_name": "me/blog"}}


def nexus(action: str) -> dict[str, Any]:
    return {"action": action, "component": {"format": "docker", "name": "me/blog", "version": "latest"}}


def acr(action: str) -> dict[str, Any]:
    target = {"digest": DIGEST, "repository": "blog", "tag": "latest"}
    return {"id": ID, "action": action, "target": target, "request": {"host": "me.azurecr.io"}}


ALERT = {
    "text": "deployed",
    "alert_type": "pages_event_alert",
    "alert_correlation_id": ID,
    "alert_event": "START",
    "ts": 17,
}
CASES = {
    "ghcr": Case(
        payload=ghcr("latest"),
        image=Image(name="ghcr.io/me/blog", tag="latest", digest=DIGEST),
        headers={"X-GitHub-Event": "package", "X-GitHub-Delivery": ID, "User-Agent": "GitHub-Hookshot/24bccdc"},
        delivery_id=ID,
        nothing=ghcr(""),
        reason=NO_TAG,
    ),
    "registry": Case(
        payload=envelope("application/vnd.oci.image.manifest.v1+json"),
        image=Image(name="localhost:5000/me/blog", tag="latest", digest=DIGEST),
        media_type=V2,
        delivery_id=ID,
        nothing=envelope("application/octet-stream"),
        reason="no image was pushed: blob push",
    ),
    "harbor": Case(
        payload={"type": "PUSH_ARTIFACT", "event_data": harbor("latest")},
        image=Image(name="harbor.example/me/blog", tag="latest", digest=DIGEST),
        nothing={"type": "PUSH_ARTIFACT", "event_data": harbor(DIGEST)},
        reason=NO_TAG,
    ),
    "dockerhub": Case(
        payload={"push_data": {"tag": "latest", "pushed_at": 1417566161}, "repository": {"repo_name": "me/blog"}},
        image=Image(name="docker.io/me/blog", tag="latest"),
        nothing={},
        reason="",  # it sends pushes and nothing else
    ),
    "quay": Case(
        payload={"docker_url": "quay.io/me/blog", "updated_tags": ["latest"]},
        image=Image(name="quay.io/me/blog", tag="latest"),
        nothing={"docker_url": "quay.io/me/blog", "build_id": ID},
        reason="it tells of no updated tags; choose the event Push to Repository",
    ),
    "acr": Case(
        payload=acr("push"),
        image=Image(name="me.azurecr.io/blog", tag="latest", digest=DIGEST),
        delivery_id=ID,
        nothing={"id": ID, "action": "ping"},
        reason="ping: the webhook works",
    ),
    "nexus": Case(
        payload=nexus("UPDATED"),
        image=Image(name="me/blog", tag="latest"),
        headers={"X-Nexus-Webhook-Id": "rm:repository:component", "X-Nexus-Webhook-Delivery": ID},
        delivery_id=ID,
        nothing=nexus("DELETED"),
        reason="it was deleted, not pushed",
    ),
    "cloudflare": Case(
        payload=ALERT,
        delivery_id=f"{ID}/START/17",
        nothing={"text": "Hello World! This is a test message"},
        reason="the message of Save and Test: the webhook works",
    ),
    "cloudflare-worker": Case(
        payload={
            "type": "pages_deploy",
            "action": "deploy",
            "resource": "pages",
            "timestamp": "2026-01-19T10:00:00.123Z",
        },
        nothing={"type": "logpush", "action": "batch"},
        reason="event 'logpush' is not a push",
    ),
}
SILENT = [name for name, case in CASES.items() if case.reason]

every_case = pytest.mark.parametrize("name", CASES)


class Here:
    """An endpoint of one provider, for the only repo that there is, and its sender."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self.endpoint, self.name, self.case = endpoint, name, CASES[name]
        self.sender = Sender(PROVIDERS[name].schemes[0], KEY.encode())
        self.body = json.dumps(self.case.payload).encode()

    def proof(self, body: bytes) -> tuple[dict[str, str], str]:
        return self.sender.proof(body)

    def status(self, body: bytes, headers: dict[str, str], token: str = "", media_type: str = "") -> int:
        return self.post(body, headers, token, media_type).status_code

    def post(self, body: bytes, headers: dict[str, str], token: str = "", media_type: str = "") -> testing.Result:
        sent = self.case.headers | {"Content-Type": media_type or self.case.media_type} | headers
        return self.endpoint.post(body, sent, f"/hook/here/{quote(token, safe='')}" if token else "/hook/here")

    def jobs(self) -> list[Any]:
        return list(self.endpoint.store.jobs("blog", limit=5))


@pytest.fixture
def endpoints(tmp_path: Path) -> Iterator[Endpoints]:
    made = Endpoints(tmp_path)
    yield made
    made.close()


@pytest.fixture
def here(endpoints: Endpoints, name: str) -> Here:
    return Here(endpoints(name, BLOG, KEY, repos=("blog",)), name)


@every_case
def test_with_the_right_secret_it_leads_to_a_job_that_knows_the_image(here: Here) -> None:
    case = here.case
    answer = here.post(here.body, *here.proof(here.body))
    assert (answer.status_code, answer.json["jobs"]) == (202, [{"id": 1, "repo": "blog"}])
    assert answer.json["delivery"] == case.delivery_id or not case.delivery_id
    (job,) = here.jobs()
    assert job.images == ((case.image,) if case.image else ())
    assert job.force


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.delivery_id])
def test_a_delivery_that_is_sent_again_is_known_by_its_id(here: Here) -> None:
    first, again = (here.post(here.body, *here.proof(here.body)) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json["reason"] == "accepted before, as job 1"


@pytest.mark.parametrize("name", SILENT)
def test_what_asks_for_nothing_is_answered_as_a_success(here: Here) -> None:
    body = json.dumps(here.case.nothing).encode()
    answer = here.post(body, *here.proof(body))
    assert (answer.status_code, answer.json["reason"]) == (200, here.case.reason)
    assert here.jobs() == []


@every_case
def test_a_repo_that_the_receiver_does_not_name_is_left_alone(endpoints: Endpoints, name: str) -> None:
    there = Here(endpoints(name, BLOG, KEY), name)
    answer = there.post(there.body, *there.proof(there.body))
    assert answer.status_code == 200
    assert there.jobs() == []


@every_case
def test_without_a_proof_or_with_that_of_another_secret_nothing_is_accepted(here: Here) -> None:
    stranger = Sender(here.sender.scheme, b"another")
    assert here.status(here.body, {}) == 401
    assert here.status(here.body, *stranger.proof(here.body)) == 401
    assert here.jobs() == []


@every_case
@pytest.mark.parametrize("secrets", [(), ("",)])
def test_without_a_secret_the_receiver_is_closed(endpoints: Endpoints, name: str, secrets: tuple[str, ...]) -> None:
    there = Here(endpoints(name, BLOG, *secrets, repos=("blog",)), name)
    nobody = Sender(there.sender.scheme, b"")
    assert there.status(there.body, *there.proof(there.body)) == 401
    assert there.status(there.body, *nobody.proof(there.body)) == 401
    assert there.status(there.body, {}) == 401


# Whose proof another's is, too, where the event is one that it sends.
OWN_PROOFS = {"registry": ["a bearer"], "cloudflare-worker": ["a bearer"]}


@every_case
def test_a_proof_of_another_sender_is_none(here: Here) -> None:
    for sender, proof in proofs_of_others(here.body).items():
        if sender in OWN_PROOFS.get(here.name, []):
            continue
        assert here.status(here.body, proof) in (400, 401), sender
    assert here.jobs() == []


@every_case
def test_a_proof_that_has_been_mangled_is_none(here: Here) -> None:
    headers, token = here.proof(here.body)
    (header, right), *_ = [*headers.items(), ("", token)]
    variants = [each for each in mangled(right).values() if is_sendable(each, in_path=not header)]
    assert len(variants) > 20
    for each in variants:
        status = here.status(here.body, {header: each}) if header else here.status(here.body, {}, each)
        assert status == 401, ascii(each)
    assert here.jobs() == []
    assert here.status(here.body, headers, token) == 202


def is_sendable(text: str, *, in_path: bool) -> bool:
    """Whether it comes as it is: a header is Latin-1 in one line, without what is around it, a path is UTF-8."""
    try:
        text.encode("utf-8" if in_path else "latin-1")
    except UnicodeEncodeError:
        return False
    return bool(text) if in_path else text == text.strip() and "\0" not in text


@pytest.mark.parametrize("name", [name for name in CASES if isinstance(PROVIDERS[name].schemes[0], HmacScheme)])
def test_a_signature_is_that_of_the_body(here: Here) -> None:
    assert here.status(here.body, here.proof(here.body + b" ")[0]) == 401
    assert here.status(here.body + b" ", here.proof(here.body)[0]) == 401
    assert here.jobs() == []


@every_case
def test_a_token_belongs_into_the_path_or_into_a_header_as_its_sender_can(here: Here) -> None:
    is_in_path = isinstance(here.sender.scheme, PathScheme)
    headers = {"Authorization": KEY} if is_in_path else here.proof(here.body)[0]
    assert here.status(here.body, headers if is_in_path else {}, "" if is_in_path else KEY) == 401
    if not is_in_path:
        assert here.status(here.body, headers, KEY) == 401
    assert here.jobs() == []


@every_case
def test_a_body_is_of_a_kind_that_its_sender_sends(here: Here) -> None:
    form = f"payload={quote(here.body)}".encode()
    assert here.status(form, *here.proof(form), media_type=FORM) == (202 if here.name == "ghcr" else 415)
    assert here.status(here.body, *here.proof(here.body), media_type="text/plain") == 415


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("registry", V2), ("registry", f"{V1}; charset=utf-8"), ("registry", JSON), ("harbor", JSON), ("acr", JSON)],
)
def test_a_body_may_be_of_several_kinds(here: Here, media_type: str) -> None:
    assert here.status(here.body, *here.proof(here.body), media_type=media_type) == 202


@pytest.mark.parametrize("name", [name for name in CASES if name not in {"registry", "harbor"}])
def test_a_kind_of_another_sender_is_none(here: Here) -> None:
    for media_type in (V1, V2, CLOUD_EVENTS):
        assert here.status(here.body, *here.proof(here.body), media_type=media_type) == 415


@pytest.mark.parametrize("name", ["harbor"])
def test_harbor_may_send_cloudevents(here: Here) -> None:
    event = {"specversion": "1.0", "id": ID, "type": "harbor.artifact.pushed", "data": harbor("latest")}
    answer = here.post(json.dumps(event).encode(), *here.proof(b""), media_type=CLOUD_EVENTS)
    assert (answer.status_code, answer.json["delivery"]) == (202, ID)


# What only some have


@pytest.mark.parametrize("name", ["registry"])
def test_the_header_of_a_registry_is_a_bearers_or_holds_the_token_alone(here: Here) -> None:
    right = [{"Authorization": f"Bearer {KEY}"}, {"Authorization": KEY}]
    wrong = [{"Authorization": f"bearer {KEY}"}, {"Authorization": f"Basic {KEY}"}, {"X-Token": KEY}]
    assert [here.status(here.body, each) for each in [*right, *wrong]] == [202, 200, 401, 401, 401]


def test_the_header_of_a_registry_may_be_another(endpoints: Endpoints) -> None:
    there = Here(endpoints("registry", BLOG, KEY, header="X-Registry-Token", repos=("blog",)), "registry")
    assert there.status(there.body, {"X-Registry-Token": KEY}) == 202
    assert there.status(there.body, {"Authorization": f"Bearer {KEY}"}) == 401


@pytest.mark.parametrize("name", ["harbor", "cloudflare"])
def test_a_token_that_is_sent_as_it_is_has_no_prefix(here: Here) -> None:
    (header,) = here.proof(here.body)[0]
    assert here.status(here.body, {header: f"Bearer {KEY}"}) == 401


@pytest.mark.parametrize("name", ["cloudflare-worker"])
def test_that_of_the_worker_is_a_bearers(here: Here) -> None:
    assert here.status(here.body, {"Authorization": KEY}) == 401


@pytest.mark.parametrize("name", ["nexus"])
def test_nexus_signs_with_sha1_under_its_own_header_alone(here: Here) -> None:
    signature = here.proof(here.body)[0]["X-NEXUS-WEBHOOK-SIGNATURE"]
    assert len(signature) == 40
    for headers in ({"X-Hub-Signature": f"sha1={signature}"}, {"X-Nexus-Webhook-Signature": f"sha1={signature}"}):
        assert here.status(here.body, headers) == 401


@pytest.mark.parametrize("name", ["registry"])
@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"events": None},
        {"events": "x"},
        {"events": [None, 7, [], {}]},
        {"events": [{"action": "push"}]},
        {"events": [{"action": "\x1b[31m", "target": []}]},
        {"events": [{"action": "push", "target": {"mediaType": "application/vnd.oci.image.index.v1+json", "tag": -1}}]},
        {"errors": [{"code": "UNAUTHORIZED"}]},
    ],
)
def test_nothing_authentic_of_a_registry_is_refused(here: Here, payload: dict[str, Any]) -> None:
    body = json.dumps(payload).encode()
    answer = here.post(body, *here.proof(body))
    assert answer.status_code == 200
    assert answer.json["reason"].startswith("no image was pushed: ")


@pytest.mark.parametrize("name", ["dockerhub", "quay", "acr"])
def test_what_its_sender_would_not_send_is_refused(here: Here) -> None:
    for body in (b"[]", b"{", b'{"action": 7, "updated_tags": 7}'):
        assert here.status(body, *here.proof(body)) == 400
    assert here.jobs() == []


# Which repo an image is for


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.image])
@pytest.mark.parametrize("glob", ["{name}", "**", "*/**", "{rest}"])
def test_an_image_is_for_the_repo_that_names_it(endpoints: Endpoints, name: str, glob: str) -> None:
    image = CASES[name].image
    assert image is not None
    host, _, rest = image.name.partition("/")
    pattern = glob.format(name=image.name, rest=rest if "." in host or ":" in host else image.name)
    there = Here(endpoints(name, BLOG._replace(images=(pattern,)), KEY), name)
    assert there.status(there.body, *there.proof(there.body)) == 202
    elsewhere = Here(endpoints(name, BLOG._replace(images=("ghcr.io/me/wiki", "me/blog/*")), KEY), name)
    assert elsewhere.status(elsewhere.body, *elsewhere.proof(elsewhere.body)) == 200
    assert elsewhere.jobs() == []
