"""What Azure Container Registry sends, and what it never sends."""

from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, Image
from gitopsd.providers.acr import PROVIDER, parse
from gitopsd.providers.images import NO_TAG

DIGEST = f"sha256:{'80f0d5c8786bb9e6' * 4}"
ID = "cb8c3971-9adc-488b-9bdd-43cbb4974ff5"
TARGET = {
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "size": 524,
    "digest": DIGEST,
    "length": 524,
    "repository": "hello-world",
    "tag": "v1",
}
REQUEST = {
    "id": "3cbb6949-7549-4fa1-86cd-a6d5451dffc7",
    "host": "myregistry.azurecr.io",
    "method": "PUT",
    "useragent": "docker/17.09.0-ce go/go1.8.3 git-commit/afdb6d4 kernel/4.10.0-27-generic os/linux arch/amd64",
}
PUSH = {
    "id": ID,
    "timestamp": "2017-11-17T16:52:01.343145347Z",
    "action": "push",
    "target": TARGET,
    "request": REQUEST,
}
IMAGE = Image(name="myregistry.azurecr.io/hello-world", tag="v1", digest=DIGEST)


@pytest.mark.parametrize(
    ("changes", "image"),
    [
        pytest.param({}, IMAGE, id="tag"),
        pytest.param(
            {"target": TARGET | {"repository": "team/blog", "mediaType": "application/vnd.oci.image.index.v1+json"}},
            Image(name="myregistry.azurecr.io/team/blog", tag="v1", digest=DIGEST),
            id="for several machines",
        ),
        pytest.param({"target": TARGET | {"digest": None}}, Image(name=IMAGE.name, tag="v1"), id="null digest"),
        pytest.param({"request": None}, Image(name="hello-world", tag="v1", digest=DIGEST), id="null request"),
        pytest.param({"request": {"host": "a b"}}, Image(name="hello-world", tag="v1", digest=DIGEST), id="no host"),
        pytest.param({"id": None, "timestamp": 7}, IMAGE, id="nothing else counts"),
    ],
)
def test_what_was_pushed(changes: dict[str, Any], image: Image) -> None:
    assert parse({}, PUSH | changes) == Event(kind="push", images=(image,))


@pytest.mark.parametrize("tag", [None, ""])
def test_what_has_no_tag_is_no_push_of_an_image(tag: str | None) -> None:
    assert parse({}, PUSH | {"target": TARGET | {"tag": tag}}) == Event(kind="push", reason=NO_TAG)


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        pytest.param({"id": ID, "timestamp": "2017-11-17T16:52:01Z", "action": "ping"}, "ping", id="ping"),
        pytest.param(
            PUSH | {"action": "delete", "target": {"digest": DIGEST, "repository": "hello-world"}},
            "delete",
            id="delete",
        ),
        pytest.param(PUSH | {"action": "chart_push", "target": {"name": "wordpress"}}, "chart_push", id="chart"),
        pytest.param(PUSH | {"action": "quarantine"}, "quarantine", id="quarantine"),
        pytest.param({"action": "unheard_of"}, "unheard_of", id="unheard of"),
    ],
)
def test_another_action_pushes_nothing(payload: dict[str, Any], kind: str) -> None:
    assert parse({}, payload) == Event(kind=kind)


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"action": None}, "action"),
        ({"action": 7}, "action"),
        ({"action": ""}, "action"),
        ({"action": "Push"}, "action"),
        ({"action": "push\n"}, "action"),
        ({"action": "push it"}, "action"),
        ({"action": "x" * 33}, "action"),
        ({"target": None}, "target"),
        ({"target": "hello-world:v1"}, "target"),
        ({"target": {"tag": "v1"}}, "repository"),
        ({"target": TARGET | {"repository": ""}}, "repository"),
        ({"target": TARGET | {"repository": "a/../b"}}, "repository"),
        ({"target": TARGET | {"repository": "Hello"}}, "repository"),
        ({"target": TARGET | {"tag": 7}}, "tag"),
        ({"target": TARGET | {"tag": "-rm"}}, "tag"),
        ({"target": TARGET | {"tag": DIGEST}}, "tag"),
        ({"target": TARGET | {"digest": 7}}, "digest"),
        ({"target": TARGET | {"digest": "sha256:"}}, "digest"),
        ({"request": []}, "request"),
        ({"request": {"host": 7}}, "host"),
    ],
)
def test_a_push_that_acr_would_not_send_names_the_attribute(changes: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        parse({}, PUSH | changes)


@pytest.mark.parametrize(("given", "known"), [(ID, ID), (None, ""), ("", ""), ({}, ""), (True, ""), ("a b", "")])
def test_a_delivery_has_the_id_of_its_event(given: object, known: str) -> None:
    assert PROVIDER.delivery_id({}, PUSH | {"id": given}) == known
