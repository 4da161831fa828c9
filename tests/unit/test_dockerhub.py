"""What Docker Hub sends, and what it never sends."""

from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, Image
from gitopsd.providers.dockerhub import PROVIDER, parse

PUSH_DATA = {"pushed_at": 1417566161, "pusher": "trustedbuilder", "tag": "latest"}
REPOSITORY = {
    "comment_count": 0,
    "date_created": 1417494799,
    "description": "",
    "dockerfile": "#\n# BUILD\u0009\u0009docker build -t svendowideit/apt-cacher .\n",
    "full_description": "Docker Hub based automated build from a GitHub repo",
    "is_official": False,
    "is_private": True,
    "is_trusted": True,
    "name": "testhook",
    "namespace": "svendowideit",
    "owner": "svendowideit",
    "repo_name": "svendowideit/testhook",
    "repo_url": "https://registry.hub.docker.com/u/svendowideit/testhook/",
    "star_count": 0,
    "status": "Active",
}
PUSH = {
    "callback_url": "https://registry.hub.docker.com/u/svendowideit/testhook/hook/2141b5bi5i5b02bec211i4eeih0242eg11000a/",
    "push_data": PUSH_DATA,
    "repository": REPOSITORY,
}
IMAGE = Image(name="docker.io/svendowideit/testhook", tag="latest")


@pytest.mark.parametrize(
    ("changes", "image"),
    [
        pytest.param({}, IMAGE, id="tag"),
        pytest.param({"push_data": PUSH_DATA | {"pushed_at": 1.417566161e09}}, IMAGE, id="a time with a fraction"),
        pytest.param(
            {"push_data": PUSH_DATA | {"media_type": "application/vnd.oci.image.index.v1+json", "images": []}},
            IMAGE,
            id="newer and older keys",
        ),
        pytest.param({"push_data": {"tag": "v1.0-rc.1"}}, Image(name=IMAGE.name, tag="v1.0-rc.1"), id="tag alone"),
        pytest.param({"callback_url": None}, IMAGE, id="nobody to call back"),
        pytest.param({"callback_url": "http://169.254.169.254/"}, IMAGE, id="somebody else to call back"),
        pytest.param(
            {"repository": {"repo_name": "library/debian"}},
            Image(name="docker.io/library/debian", tag="latest"),
            id="an official one",
        ),
    ],
)
def test_what_was_pushed(changes: dict[str, Any], image: Image) -> None:
    assert parse({}, PUSH | changes) == Event(kind="push", images=(image,))


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"push_data": None}, "push_data"),
        ({"push_data": []}, "push_data"),
        ({"push_data": {}}, "tag"),
        ({"push_data": PUSH_DATA | {"tag": None}}, "tag"),
        ({"push_data": PUSH_DATA | {"tag": 1.0}}, "tag"),
        ({"push_data": PUSH_DATA | {"tag": ""}}, "tag"),
        ({"push_data": PUSH_DATA | {"tag": "-rm"}}, "tag"),
        ({"push_data": PUSH_DATA | {"tag": "a b"}}, "tag"),
        ({"push_data": PUSH_DATA | {"tag": "latest\n"}}, "tag"),
        ({"push_data": PUSH_DATA | {"tag": "x" * 129}}, "tag"),
        ({"repository": None}, "repository"),
        ({"repository": "svendowideit/testhook"}, "repository"),
        ({"repository": {"name": "testhook", "namespace": "svendowideit"}}, "repo_name"),
        ({"repository": REPOSITORY | {"repo_name": 7}}, "repo_name"),
        ({"repository": REPOSITORY | {"repo_name": ""}}, "repo_name"),
        ({"repository": REPOSITORY | {"repo_name": "a/B"}}, "repo_name"),
        ({"repository": REPOSITORY | {"repo_name": "../b"}}, "repo_name"),
        ({"repository": REPOSITORY | {"repo_name": "evil.example:x/b"}}, "repo_name"),
        ({"repository": REPOSITORY | {"repo_name": "\x1b]0;"}}, "repo_name"),
    ],
)
def test_a_push_that_docker_hub_would_not_send_names_the_attribute(changes: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        parse({}, PUSH | changes)


def test_a_delivery_has_no_id() -> None:
    assert PROVIDER.delivery_id({"X-REQUEST-ID": "one"}, PUSH | {"id": "one"}) == ""
