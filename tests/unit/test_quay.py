"""What Quay sends, and what it never sends."""

from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, Image
from gitopsd.providers.quay import PROVIDER, parse

ABOUT = {
    "name": "repository",
    "repository": "dgangaia/repository",
    "namespace": "dgangaia",
    "docker_url": "quay.io/dgangaia/repository",
    "homepage": "https://quay.io/repository/dgangaia/repository",
}
PUSH = ABOUT | {"updated_tags": ["latest"]}
NAME = "quay.io/dgangaia/repository"
LATEST = Image(name=NAME, tag="latest")
OTHER = "it tells of no updated tags; choose the event Push to Repository"


@pytest.mark.parametrize(
    ("changes", "images"),
    [
        pytest.param({}, [LATEST], id="tag"),
        pytest.param({"updated_tags": ["v1", "latest"]}, [Image(name=NAME, tag="v1"), LATEST], id="two tags"),
        pytest.param({"updated_tags": ["latest", "latest"]}, [LATEST], id="the same twice"),
        pytest.param(
            {
                "updated_tags": {
                    "latest": "b750fe79269d2ec9a3c593ef05b4332b1d1a02a62b4accb2c21d589ff2f5f2dc",
                    "v1": "1",
                },
                "pushed_image_count": 2,
                "pruned_image_count": 0,
                "visibility": "private",
            },
            [LATEST, Image(name=NAME, tag="v1")],
            id="as it was in 2013",
        ),
        pytest.param({"homepage": None, "name": None}, [LATEST], id="nulls"),
        pytest.param(
            {"docker_url": "Quay.Example:8443/team/sub/blog"},
            [Image(name="quay.example:8443/team/sub/blog", tag="latest")],
            id="one's own",
        ),
        pytest.param({"docker_url": "me/blog"}, [Image(name="me/blog", tag="latest")], id="without a host"),
        pytest.param(
            {"updated_tags": ["latest", "foo"]}, [LATEST, Image(name=NAME, tag="foo")], id="a push like the test"
        ),
        pytest.param({"pruned_image_count": 3}, [LATEST], id="another push like the test"),
    ],
)
def test_what_was_pushed(changes: dict[str, Any], images: list[Image]) -> None:
    assert parse({}, PUSH | changes) == Event(kind="push", images=tuple(images))


@pytest.mark.parametrize(
    "tags", [["latest", "foo"], {"latest": "someimageid", "foo": "anotherimage"}], ids=["today", "once"]
)
def test_a_test_notification_is_a_trial(tags: Any) -> None:
    event = parse({}, PUSH | {"updated_tags": tags, "pruned_image_count": 3})
    assert event == Event(kind="ping", reason="a test notification: the webhook works")


def test_a_push_of_no_tag_is_one_of_nothing() -> None:
    assert parse({}, PUSH | {"updated_tags": []}) == Event(kind="push", reason="the push names no tag")


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(
            ABOUT | {"build_id": "296ec063-5f86-4706-a469-f0a400bf9df2", "docker_tags": ["master", "latest"]},
            id="build",
        ),
        pytest.param(ABOUT | {"tags": ["latest"], "vulnerability": {"id": "CVE-1234-5678"}}, id="vulnerability"),
        pytest.param(ABOUT | {"message": "TEST NOTIFICATION"}, id="mirror"),
        pytest.param(PUSH | {"updated_tags": None}, id="null tags"),
    ],
)
def test_another_notification_is_no_push(payload: dict[str, Any]) -> None:
    assert parse({}, payload) == Event(kind="notification", reason=OTHER)


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"updated_tags": "latest"}, "updated_tags"),
        ({"updated_tags": 1}, "updated_tags"),
        ({"updated_tags": False}, "updated_tags"),
        ({"updated_tags": ["latest", 1]}, "updated_tags"),
        ({"updated_tags": [["latest"]]}, "updated_tags"),
        ({"updated_tags": [None]}, "updated_tags"),
        ({"updated_tags": [""]}, "updated_tags"),
        ({"updated_tags": ["latest", "-rm"]}, "updated_tags"),
        ({"updated_tags": ["a b"]}, "updated_tags"),
        ({"updated_tags": ["latest\n"]}, "updated_tags"),
        ({"updated_tags": {"\x1b[0m": "1"}}, "updated_tags"),
        ({"docker_url": None}, "docker_url"),
        ({"docker_url": 7}, "docker_url"),
        ({"docker_url": ""}, "docker_url"),
        ({"docker_url": "quay.io"}, "docker_url"),
        ({"docker_url": "quay.io/"}, "docker_url"),
        ({"docker_url": "quay.io/a/../b"}, "docker_url"),
        ({"docker_url": "https://quay.io/a/b"}, "docker_url"),
        ({"docker_url": "quay.io/a/b:latest"}, "docker_url"),
    ],
)
def test_a_push_that_quay_would_not_send_names_the_attribute(changes: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        parse({}, PUSH | changes)


def test_a_delivery_has_no_id() -> None:
    assert PROVIDER.delivery_id({"X-REQUEST-ID": "one"}, PUSH | {"id": "one"}) == ""


@pytest.mark.parametrize("payload", [{"text": "dgangaia/repository was pushed"}, {}, PUSH | {"docker_url": None}])
def test_what_does_not_name_an_image_is_not_of_quay(payload: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match="'docker_url'"):
        parse({}, payload)
