"""What GitHub sends of its container registry, and what it never sends."""

from typing import Any

import pytest

from gitopsd.errors import PayloadError
from gitopsd.model import Event, Image, RemoteName
from gitopsd.providers.ghcr import PROVIDER, parse
from gitopsd.providers.images import NO_TAG

DIGEST = f"sha256:{'3da1996a8115d761' * 4}"
OWNER = {"login": "NoahvdAa", "id": 44026893, "type": "User"}
TAG = {"name": "latest", "digest": DIGEST}
METADATA = {
    "tag": TAG,
    "labels": {"description": "", "source": "", "all_labels": {}},
    "manifest": {"digest": DIGEST, "media_type": "application/vnd.oci.image.index.v1+json", "size": 1782},
}
VERSION = {
    "id": 57755790,
    "version": DIGEST,
    "name": DIGEST,
    "manifest": "",
    "metadata": [],
    "container_metadata": METADATA,
    "package_files": [],
    "installation_command": "docker pull ghcr.io/noahvdaa/site/frontend:latest",
    "package_url": "ghcr.io/noahvdaa/site/frontend:latest",
}
PACKAGE = {
    "id": 2416775,
    "name": "site/frontend",
    "namespace": "noahvdaa",
    "description": "",
    "ecosystem": "CONTAINER",
    "package_type": "CONTAINER",
    "owner": OWNER,
    "package_version": VERSION,
    "registry": {"name": "GitHub CONTAINER registry", "type": "CONTAINER", "vendor": "GitHub Inc"},
}
REPOSITORY = {
    "id": 185882436,
    "name": "site",
    "full_name": "NoahvdAa/site",
    "owner": OWNER,
    "html_url": "https://github.com/NoahvdAa/site",
    "git_url": "git://github.com/NoahvdAa/site.git",
    "ssh_url": "git@github.com:NoahvdAa/site.git",
    "clone_url": "https://github.com/NoahvdAa/site.git",
}
REMOTE = RemoteName(
    full_name="NoahvdAa/site",
    urls=(
        "https://github.com/NoahvdAa/site.git",
        "git@github.com:NoahvdAa/site.git",
        "git://github.com/NoahvdAa/site.git",
        "https://github.com/NoahvdAa/site",
    ),
    id="185882436",
)
IMAGE = Image(name="ghcr.io/noahvdaa/site/frontend", tag="latest", digest=DIGEST)

each_event = pytest.mark.parametrize("name", ["package", "registry_package"])


def delivery(name: str = "package", action: str = "published", /, **changes: Any) -> dict[str, Any]:
    """A delivery of the event `name`; `changes` are to the package."""
    return {"action": action, name: PACKAGE | changes, "repository": REPOSITORY, "sender": OWNER}


def version(**changes: Any) -> dict[str, Any]:
    return {"package_version": VERSION | changes}


def event_of(payload: dict[str, Any], name: str = "package") -> Event:
    return parse({"X-GITHUB-EVENT": name}, payload)


@each_event
@pytest.mark.parametrize("action", ["published", "updated"])
@pytest.mark.parametrize(
    ("changes", "image"),
    [
        pytest.param({}, IMAGE, id="container"),
        pytest.param({"package_type": "container"}, IMAGE, id="spelt small"),
        pytest.param({"package_type": "Docker", "ecosystem": "docker"}, IMAGE, id="as it once was called"),
        pytest.param(
            {"name": "Front.End"}, Image(name="ghcr.io/noahvdaa/front.end", tag="latest", digest=DIGEST), id="capitals"
        ),
        pytest.param(
            version(container_metadata={"tag": {"name": "v1.0-rc.1", "digest": DIGEST}}),
            Image(name="ghcr.io/noahvdaa/site/frontend", tag="v1.0-rc.1", digest=DIGEST),
            id="tag alone",
        ),
        pytest.param(
            version(container_metadata={"tag": {"name": "latest", "digest": None}}),
            Image(name="ghcr.io/noahvdaa/site/frontend", tag="latest"),
            id="null digest",
        ),
        pytest.param(
            version(container_metadata={"tag": {"name": "latest", "digest": ""}, "labels": None, "manifest": None}),
            Image(name="ghcr.io/noahvdaa/site/frontend", tag="latest"),
            id="empty digest and nulls",
        ),
    ],
)
def test_what_was_pushed(name: str, action: str, changes: dict[str, Any], image: Image) -> None:
    event = event_of(delivery(name, action, **changes), name)
    assert event == Event(kind=name, remote=REMOTE, images=(image,))


@each_event
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(version(container_metadata=METADATA | {"tag": TAG | {"name": ""}}), id="empty name"),
        pytest.param(version(container_metadata=METADATA | {"tag": TAG | {"name": None}}), id="null name"),
        pytest.param(version(container_metadata=METADATA | {"tag": None}), id="null tag"),
        pytest.param(version(container_metadata={}), id="no tag"),
        pytest.param(version(container_metadata=None), id="null metadata"),
        pytest.param({"package_version": None}, id="null version"),
    ],
)
def test_a_part_of_an_image_has_no_tag_and_is_no_push(name: str, changes: dict[str, Any]) -> None:
    event = event_of(delivery(name, **changes), name)
    assert event == Event(kind=name, remote=REMOTE, reason=NO_TAG)


def test_an_image_for_several_machines_is_one_push_among_several_deliveries() -> None:
    children = [version(container_metadata={"tag": {"name": "", "digest": f"sha256:{n * 64}"}}) for n in "ab"]
    events = [event_of(delivery(**changes)) for changes in [*children, {}]]
    assert [event.images for event in events] == [(), (), (IMAGE,)]
    assert [event.reason for event in events] == [NO_TAG, NO_TAG, ""]


@pytest.mark.parametrize("repository", [{}, {"repository": None}])
def test_a_package_that_is_linked_to_no_repository_has_no_remote(repository: dict[str, Any]) -> None:
    payload = {key: value for key, value in delivery().items() if key != "repository"} | repository
    assert event_of(payload) == Event(kind="package", images=(IMAGE,))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (delivery(package_type="npm"), "a package of type 'npm' is no image"),
        (delivery(package_type="RubyGems"), "a package of type 'RubyGems' is no image"),
        (delivery(package_type="con tainer"), "a package of another type is no image"),
        (delivery(package_type="x" * 99), "a package of another type is no image"),
        (delivery("package", "deleted"), "action 'deleted' is no push of an image"),
        (delivery("package", "Published"), "action 'Published' is no push of an image"),
        (delivery("package", ""), "another action is no push of an image"),
    ],
)
def test_what_is_no_push_of_an_image_says_why(payload: dict[str, Any], reason: str) -> None:
    assert event_of(payload) == Event(kind="package", remote=REMOTE, reason=reason)


@pytest.mark.parametrize("name", ["create", "release", "workflow_run", "packages"])
def test_another_event_is_no_image(name: str) -> None:
    reason = f"event '{name}' is no push of an image: choose Packages alone"
    assert event_of(delivery(), name) == Event(kind=name, remote=REMOTE, reason=reason)
    assert event_of({}, name) == Event(kind=name, reason=reason)


def test_a_push_to_git_is_for_another_receiver() -> None:
    push = {"ref": "refs/heads/main", "after": "1" * 40, "repository": REPOSITORY}
    reason = "event 'push' is no push of an image: choose Packages alone"
    assert event_of(push, "push") == Event(kind="push", remote=REMOTE, reason=reason)


@pytest.mark.parametrize(
    ("payload", "remote"), [({"zen": "Design for failure.", "repository": REPOSITORY}, REMOTE), ({}, None)]
)
def test_a_ping_is_one(payload: dict[str, Any], remote: RemoteName | None) -> None:
    assert event_of(payload, "ping") == Event(kind="ping", remote=remote)


@each_event
@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"package_type": None}, "package_type"),
        ({"package_type": 1}, "package_type"),
        ({"owner": None}, "owner"),
        ({"owner": "me"}, "owner"),
        ({"owner": {"id": 1}}, "login"),
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "../me/blog"}, "name"),
        ({"name": "blog:latest"}, "name"),
        ({"name": "x" * 300}, "name"),
        ({"owner": {"login": "-me"}}, "name"),
        ({"package_version": []}, "package_version"),
        (version(container_metadata=[]), "container_metadata"),
        (version(container_metadata={"tag": "latest"}), "tag"),
        (version(container_metadata={"tag": {"name": 1}}), "name"),
        (version(container_metadata={"tag": {"name": "-rm"}}), "tag"),
        (version(container_metadata={"tag": {"name": "a b"}}), "tag"),
        (version(container_metadata={"tag": {"name": "é"}}), "tag"),
        (version(container_metadata={"tag": {"name": "x" * 129}}), "tag"),
        (version(container_metadata={"tag": {"name": DIGEST}}), "tag"),
        (version(container_metadata={"tag": {"name": "latest\n"}}), "name"),
        (version(container_metadata={"tag": {"name": "latest", "digest": 7}}), "digest"),
        (version(container_metadata={"tag": {"name": "latest", "digest": "latest"}}), "digest"),
        (version(container_metadata={"tag": {"name": "latest", "digest": "sha256:../.."}}), "digest"),
    ],
)
def test_a_push_that_github_would_not_send_names_the_attribute(
    name: str, changes: dict[str, Any], attribute: str
) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(delivery(name, **changes), name)


@pytest.mark.parametrize(
    ("payload", "attribute"),
    [
        ({"action": "published"}, "package"),
        (delivery("registry_package"), "package"),
        (delivery() | {"package": None}, "package"),
        (delivery() | {"action": None}, "action"),
        (delivery() | {"repository": [1]}, "repository"),
        (delivery() | {"repository": {"id": 1}}, "full_name"),
    ],
)
def test_a_delivery_that_lacks_a_part_names_it(payload: dict[str, Any], attribute: str) -> None:
    with pytest.raises(PayloadError, match=f"'{attribute}'"):
        event_of(payload)


@pytest.mark.parametrize("name", ["", "Package", "package\n", "package, package", "é", "a" * 65])
def test_an_event_name_is_a_plain_word(name: str) -> None:
    with pytest.raises(PayloadError, match="X-GitHub-Event"):
        event_of(delivery(), name)


def test_a_delivery_has_the_id_that_github_gave_it() -> None:
    assert PROVIDER.delivery_id({"X-GITHUB-DELIVERY": "72d3162e"}, delivery()) == "72d3162e"
    assert PROVIDER.delivery_id({}, delivery()) == ""
