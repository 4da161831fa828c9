"""What Harbor sends in either of its formats, and what it never sends."""

from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, Image
from gitopsd.providers.harbor import PROVIDER, parse
from gitopsd.providers.images import NO_TAG

DIGEST = f"sha256:{'8a9e9863dbb6e10e' * 4}"
REPOSITORY = {
    "date_created": 1586922308,
    "name": "debian",
    "namespace": "test-webhook",
    "repo_full_name": "test-webhook/debian",
    "repo_type": "private",
}
RESOURCE = {"digest": DIGEST, "tag": "latest", "resource_url": "hub.harbor.com/test-webhook/debian:latest"}
# What is pushed by its digest has that in the place of a tag.
UNTAGGED = {"digest": DIGEST, "tag": DIGEST, "resource_url": f"hub.harbor.com/test-webhook/debian@{DIGEST}"}
IMAGE = Image(name="hub.harbor.com/test-webhook/debian", tag="latest", digest=DIGEST)
ID = "4b2f89a6-548d-4c12-9993-a1f5790b97d2"


def told(*resources: Any, **more: Any) -> dict[str, Any]:
    return {"resources": list(resources), "repository": REPOSITORY} | more


def default(data: Any = None, kind: Any = "PUSH_ARTIFACT") -> dict[str, Any]:
    return {
        "type": kind,
        "occur_at": 1586922308,
        "operator": "admin",
        "event_data": told(RESOURCE) if data is None else data,
    }


def old(data: Any = None) -> dict[str, Any]:
    return default(data, "pushImage") | {"media_type": "application/vnd.docker.distribution.manifest.v2+json"}


def cloud(data: Any = None, kind: Any = "harbor.artifact.pushed") -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "requestid": "2eedfab8-61d3-4f3c-8ec3-8f82d1ec4c84",
        "id": ID,
        "source": "/projects/1/webhook/policies/3",
        "type": kind,
        "datacontenttype": "application/json",
        "time": "2023-03-06T06:08:43Z",
        "data": told(RESOURCE) if data is None else data,
        "operator": "admin",
    }


each_format = pytest.mark.parametrize("as_sent", [default, old, cloud])


@each_format
@pytest.mark.parametrize(
    ("data", "images"),
    [
        pytest.param(told(RESOURCE), [IMAGE], id="tag"),
        pytest.param(told(RESOURCE, UNTAGGED, RESOURCE), [IMAGE], id="with its digest, and twice"),
        pytest.param(
            told(RESOURCE, RESOURCE | {"tag": "13", "resource_url": "hub.harbor.com/test-webhook/debian:13"}),
            [IMAGE, Image(name="hub.harbor.com/test-webhook/debian", tag="13", digest=DIGEST)],
            id="two tags",
        ),
        pytest.param(
            told(RESOURCE | {"resource_url": f"hub.harbor.com/test-webhook/debian@{DIGEST}"}),
            [IMAGE],
            id="a URL with the digest",
        ),
        pytest.param(
            told(RESOURCE | {"resource_url": "Harbor.Example:8443/test-webhook/debian:latest"}),
            [Image(name="harbor.example:8443/test-webhook/debian", tag="latest", digest=DIGEST)],
            id="a host with a port",
        ),
        *(
            pytest.param(
                told(RESOURCE | {"resource_url": url}),
                [Image(name="test-webhook/debian", tag="latest", digest=DIGEST)],
                id=f"no host in {url}",
            )
            for url in (
                None,
                "",
                "hub.harbor.com",
                "test-webhook/debian:latest",
                "/test-webhook/debian:latest",
                "hub.harbor.com/other/debian:latest",
                "https://hub.harbor.com/test-webhook/debian:latest",
                "hub.harbor.com:x/test-webhook/debian:latest",
            )
        ),
        pytest.param(
            told({"tag": "latest"}), [Image(name="test-webhook/debian", tag="latest")], id="nothing but the tag"
        ),
        pytest.param(
            told(RESOURCE | {"digest": None}, custom_attributes=None),
            [Image(name=IMAGE.name, tag="latest")],
            id="nulls",
        ),
    ],
)
def test_what_was_pushed(as_sent: Any, data: dict[str, Any], images: list[Image]) -> None:
    assert parse({}, as_sent(data)) == Event(kind="push", images=tuple(images))


@each_format
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(told(UNTAGGED), id="by its digest"),
        pytest.param(told(UNTAGGED | {"tag": ""}), id="empty"),
        pytest.param(told(UNTAGGED | {"tag": None}), id="null"),
        pytest.param(told(UNTAGGED, UNTAGGED), id="several"),
        pytest.param(told(), id="none"),
        pytest.param({"resources": None, "repository": REPOSITORY}, id="null resources"),
    ],
)
def test_what_has_no_tag_is_no_push_of_an_image(as_sent: Any, data: dict[str, Any]) -> None:
    assert parse({}, as_sent(data)) == Event(kind="push", reason=NO_TAG)


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (default(kind="PULL_ARTIFACT"), "PULL_ARTIFACT"),
        (default(kind="DELETE_ARTIFACT"), "DELETE_ARTIFACT"),
        (default({"replication": {}}, "REPLICATION"), "REPLICATION"),
        (default({}, "SCANNING_COMPLETED"), "SCANNING_COMPLETED"),
        (default({}, "testEndpoint"), "testEndpoint"),
        ({"type": "QUOTA_EXCEED"}, "QUOTA_EXCEED"),
        (cloud(kind="harbor.artifact.pulled"), "harbor.artifact.pulled"),
        (cloud(kind="harbor.artifact.deleted"), "harbor.artifact.deleted"),
        (cloud(kind="harbor.tag_retention.finished"), "harbor.tag_retention.finished"),
    ],
)
def test_another_event_pushes_nothing(payload: dict[str, Any], kind: str) -> None:
    assert parse({}, payload) == Event(kind=kind)


def test_what_tests_the_endpoint_is_no_push() -> None:
    assert parse({}, {}) == Event(kind="ping", reason="a test of the endpoint: the webhook works")


@pytest.mark.parametrize(
    ("payload", "attribute"),
    [
        ({"type": None}, "type"),
        ({"type": 7}, "type"),
        ({"type": ""}, "type"),
        ({"type": "PUSH ARTIFACT"}, "type"),
        ({"type": "PUSH_ARTIFACT\n"}, "type"),
        ({"type": "é"}, "type"),
        ({"type": "x" * 65}, "type"),
        ({"event_data": told(RESOURCE)}, "type"),
        ({"type": "PUSH_ARTIFACT"}, "event_data"),
        ({"type": "PUSH_ARTIFACT", "data": told(RESOURCE)}, "event_data"),
        ({"type": "harbor.artifact.pushed", "event_data": told(RESOURCE)}, "data"),
        (default([]), "event_data"),
        (cloud("text"), "data"),
        (default({"resources": [RESOURCE]}), "repository"),
        (default(told(RESOURCE, repository={})), "repo_full_name"),
        (default(told(RESOURCE, repository={"repo_full_name": ""})), "repo_full_name"),
        (default(told(RESOURCE, repository={"repo_full_name": "a/B"})), "repo_full_name"),
        (default(told(RESOURCE, repository={"repo_full_name": "../a"})), "repo_full_name"),
        (default(told(RESOURCE) | {"resources": {}}), "resources"),
        (default(told(None)), "resources"),
        (default(told(RESOURCE | {"tag": 7})), "tag"),
        (default(told(RESOURCE | {"tag": "-rm"})), "tag"),
        (default(told(RESOURCE | {"tag": "sha256:12"})), "tag"),
        (default(told(RESOURCE | {"digest": "12"})), "digest"),
        (default(told(RESOURCE | {"resource_url": 7})), "resource_url"),
        (cloud(told(RESOURCE | {"resource_url": "a\nb"})), "resource_url"),
    ],
)
def test_a_delivery_that_harbor_would_not_send_names_the_attribute(payload: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        parse({}, payload)


def test_a_delivery_of_cloudevents_has_an_id_and_others_have_none() -> None:
    assert PROVIDER.delivery_id({}, cloud()) == ID
    assert PROVIDER.delivery_id({}, cloud() | {"id": ["a"]}) == ""
    assert PROVIDER.delivery_id({"X-REQUEST-ID": "one"}, default()) == ""
