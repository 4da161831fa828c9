"""What Distribution, Docker's registry, notifies of; and that nothing of it, however odd, is refused."""

import hashlib
from typing import Any

import pytest

from gitopsd.model import Event, Image
from gitopsd.providers.registry import PROVIDER, parse

DIGEST = f"sha256:{'fea8895f450959fa' * 4}"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/octet-stream"
IMAGE = Image(name="registry.example:5000/me/blog", tag="latest", digest=DIGEST)


def target(**changes: Any) -> dict[str, Any]:
    told = {
        "mediaType": MANIFEST,
        "size": 708,
        "digest": DIGEST,
        "length": 708,
        "repository": "me/blog",
        "url": f"http://registry.example:5000/v2/me/blog/manifests/{DIGEST}",
        "tag": "latest",
    }
    return {key: value for key, value in (told | changes).items() if value is not ...}


def occurrence(action: Any = "push", number: int = 1, **changes: Any) -> dict[str, Any]:
    """One event of an envelope; a change to `...` leaves the key out."""
    told = {
        "id": f"asdf-asdf-asdf-asdf-{number}",
        "timestamp": "2006-01-02T15:04:05Z",
        "action": action,
        "target": target(),
        "request": {
            "id": "6df24a34-0959-4923-81ca-14f09767db19",
            "addr": "192.168.64.11:42961",
            "host": "registry.example:5000",
            "method": "PUT",
            "useragent": "docker/24.0.5",
        },
        "actor": {"name": "test-actor"},
        "source": {"addr": "xtal.local:5000", "instanceID": "a53db899-3b4b-4a62-a067-8dd013beaca4"},
    }
    return {key: value for key, value in (told | changes).items() if value is not ...}


LAYER_PUSH = occurrence(target=target(mediaType=LAYER, tag=...))
PULL = occurrence("pull")
MOUNT = occurrence("mount", target=target(mediaType=LAYER, tag=..., fromRepository="me/base"))
DELETE = occurrence("delete", target={"digest": DIGEST, "repository": "me/blog"})
UNTAGGED = occurrence(target=target(tag=...))


def event_of(*events: Any) -> Event:
    return parse({}, {"events": list(events)})


def nothing(kind: str, what: str) -> Event:
    return Event(kind=kind, reason=f"no image was pushed: {what}")


@pytest.mark.parametrize(
    ("events", "images"),
    [
        pytest.param([occurrence()], [IMAGE], id="tag"),
        *(
            pytest.param([occurrence(target=target(mediaType=each))], [IMAGE], id=each)
            for each in (LIST, OCI_MANIFEST, OCI_INDEX)
        ),
        pytest.param(
            [
                occurrence(target=target(mediaType=OCI_MANIFEST, tag=..., digest=f"sha256:{'a' * 64}")),
                occurrence(target=target(mediaType=OCI_MANIFEST, tag=..., digest=f"sha256:{'b' * 64}")),
                occurrence(target=target(mediaType=OCI_INDEX)),
            ],
            [IMAGE],
            id="for several machines, with its parts",
        ),
        pytest.param(
            [LAYER_PUSH, PULL, MOUNT, DELETE, UNTAGGED, None, occurrence(), {}],
            [IMAGE],
            id="among others that have nothing to do with it",
        ),
        pytest.param([occurrence(), occurrence(number=2)], [IMAGE], id="twice"),
        pytest.param(
            [occurrence(target=target(tag="v1")), occurrence(target=target(repository="wiki")), occurrence()],
            [
                Image(name="registry.example:5000/me/blog", tag="v1", digest=DIGEST),
                Image(name="registry.example:5000/wiki", tag="latest", digest=DIGEST),
                IMAGE,
            ],
            id="several",
        ),
        pytest.param(
            [occurrence(target=target(digest=...))],
            [Image(name="registry.example:5000/me/blog", tag="latest")],
            id="without its digest",
        ),
        pytest.param(
            [occurrence(target=target(digest=None), actor=None, source=None)],
            [Image(name="registry.example:5000/me/blog", tag="latest")],
            id="nulls",
        ),
    ],
)
def test_what_was_pushed(events: list[Any], images: list[Image]) -> None:
    assert event_of(*events) == Event(kind="push", images=tuple(images))


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("registry.example", "registry.example/me/blog"),
        ("Registry.Example:5000", "registry.example:5000/me/blog"),
        ("localhost:5000", "localhost:5000/me/blog"),
        ("192.0.2.7:80", "192.0.2.7:80/me/blog"),
        ("[::1]:5000", "[::1]:5000/me/blog"),
        ("[2001:DB8::1]", "[2001:db8::1]/me/blog"),
        ("", "me/blog"),
        (None, "me/blog"),
        (7, "me/blog"),
        (["registry.example"], "me/blog"),
        ("registry.example/v2", "me/blog"),
        ("registry.example:port", "me/blog"),
        ("registry.example\n", "me/blog"),
        ("-registry", "me/blog"),
        ("a b", "me/blog"),
        ("\x1b[31m", "me/blog"),
        ("é.example", "me/blog"),
        ("a" * 256, "me/blog"),
    ],
)
def test_the_name_begins_with_the_host_where_that_is_one(host: Any, name: str) -> None:
    event = event_of(occurrence(request={"host": host}))
    assert event == Event(kind="push", images=(Image(name=name, tag="latest", digest=DIGEST),))


@pytest.mark.parametrize("request_of_it", [..., None, [], "registry.example", {}])
def test_an_event_without_a_request_is_one_all_the_same(request_of_it: Any) -> None:
    event = event_of(occurrence(request=request_of_it))
    assert event == Event(kind="push", images=(Image(name="me/blog", tag="latest", digest=DIGEST),))


@pytest.mark.parametrize(
    ("events", "event"),
    [
        pytest.param([LAYER_PUSH], nothing("push", "blob push"), id="layer"),
        pytest.param([PULL], nothing("pull", "pull"), id="pull"),
        pytest.param([MOUNT], nothing("mount", "mount"), id="mount"),
        pytest.param([DELETE], nothing("delete", "delete"), id="delete"),
        pytest.param([UNTAGGED], nothing("push", "a push without a tag"), id="by digest"),
        pytest.param([occurrence(target=target(tag=""))], nothing("push", "a push without a tag"), id="empty tag"),
        pytest.param([occurrence(target=target(tag=None))], nothing("push", "a push without a tag"), id="null tag"),
        pytest.param(
            [PULL, LAYER_PUSH, LAYER_PUSH, MOUNT, PULL, UNTAGGED],
            nothing("pull", "pull, blob push, mount, a push without a tag"),
            id="several, each said once",
        ),
        pytest.param(
            [occurrence(each) for each in ("a", "b", "c", "d", "e", "f", "g")],
            nothing("a", "a, b, c, d, e"),
            id="more than are told",
        ),
        pytest.param([], nothing("events", "the envelope has no events"), id="none"),
    ],
)
def test_what_is_no_push_of_an_image_says_what_it_is(events: list[Any], event: Event) -> None:
    assert event_of(*events) == event


ODD: list[tuple[Any, str, str]] = [
    (None, "events", "an event without an action"),
    (7, "events", "an event without an action"),
    ("push", "events", "an event without an action"),
    ([], "events", "an event without an action"),
    ({}, "events", "an event without an action"),
    (occurrence(None), "events", "an event without an action"),
    (occurrence(7), "events", "an event without an action"),
    (occurrence(["push"]), "events", "an event without an action"),
    (occurrence("Push"), "events", "an event without an action"),
    (occurrence("push\n"), "events", "an event without an action"),
    (occurrence("\x1b[31mpush"), "events", "an event without an action"),
    (occurrence("x" * 33), "events", "an event without an action"),
    (occurrence("unheardof"), "unheardof", "unheardof"),
    (occurrence(target=...), "push", "'target' is not an object"),
    (occurrence(target=None), "push", "'target' is not an object"),
    (occurrence(target=[target()]), "push", "'target' is not an object"),
    (occurrence(target={}), "push", "blob push"),
    (occurrence(target=target(mediaType=None)), "push", "blob push"),
    (occurrence(target=target(mediaType=MANIFEST.upper())), "push", "blob push"),
    (occurrence(target=target(mediaType="application/vnd.docker.plugin.v1+json")), "push", "blob push"),
    (occurrence(target=target(mediaType=7)), "push", "'mediaType' is not a text"),
    (occurrence(target=target(tag=7)), "push", "'tag' is not a text"),
    (occurrence(target=target(tag=["latest"])), "push", "'tag' is not a text"),
    (occurrence(target=target(tag="-rm")), "push", "'tag' is not a tag"),
    (occurrence(target=target(tag="a b")), "push", "'tag' is not a tag"),
    (occurrence(target=target(tag="é")), "push", "'tag' is not a tag"),
    (occurrence(target=target(tag="x" * 129)), "push", "'tag' is not a tag"),
    (occurrence(target=target(tag=DIGEST)), "push", "'tag' is not a tag"),
    (occurrence(target=target(repository=...)), "push", "'repository' is not a text"),
    (occurrence(target=target(repository="")), "push", "'repository' is not the name of an image"),
    (occurrence(target=target(repository="Me/blog")), "push", "'repository' is not the name of an image"),
    (occurrence(target=target(repository="../blog")), "push", "'repository' is not the name of an image"),
    (occurrence(target=target(repository="/blog")), "push", "'repository' is not the name of an image"),
    (occurrence(target=target(repository="me//blog")), "push", "'repository' is not the name of an image"),
    (occurrence(target=target(repository="$(reboot)")), "push", "'repository' is not the name of an image"),
    (occurrence(target=target(repository="a" * 256)), "push", "'repository' is not the name of an image"),
    (occurrence(target=target(digest=7)), "push", "'digest' is not a text"),
    (occurrence(target=target(digest="latest")), "push", "'digest' is not a digest"),
    (occurrence(target=target(digest="sha256:12")), "push", "'digest' is not a digest"),
]


@pytest.mark.parametrize(("odd", "kind", "what"), ODD)
def test_what_is_odd_is_left_out_and_said(odd: Any, kind: str, what: str) -> None:
    (told,) = (event_of(odd),)
    assert told.kind == kind
    assert told.images == ()
    assert told.reason.startswith(f"no image was pushed: {what}")
    assert len(told.reason) < 120
    assert event_of(odd, occurrence(), odd) == Event(kind="push", images=(IMAGE,))


@pytest.mark.parametrize(
    "payload",
    [{}, {"events": None}, {"events": {}}, {"events": "push"}, {"events": 1}, {"Events": [occurrence()]}, occurrence()],
)
def test_an_envelope_that_is_none_is_one_of_nothing(payload: dict[str, Any]) -> None:
    assert parse({}, payload) == nothing("events", "the envelope has no events")


# Its id


def test_an_envelope_is_known_by_its_event() -> None:
    assert PROVIDER.delivery_id({}, {"events": [occurrence()]}) == "asdf-asdf-asdf-asdf-1"


def test_an_envelope_of_several_is_known_by_all_of_them() -> None:
    first, second = occurrence(number=1), occurrence(number=2)
    digest = hashlib.sha256(b"asdf-asdf-asdf-asdf-1 asdf-asdf-asdf-asdf-2").hexdigest()
    assert PROVIDER.delivery_id({}, {"events": [first, second]}) == f"events:{digest}"
    assert PROVIDER.delivery_id({}, {"events": [second, first]}) != f"events:{digest}"


@pytest.mark.parametrize(
    "events",
    [
        None,
        {},
        [],
        [None],
        [occurrence(id=...)],
        [occurrence(id=None)],
        [occurrence(id="")],
        [occurrence(id=["a"])],
        [occurrence(id="a b")],
        [occurrence(id="x" * 101)],
        [occurrence(), occurrence(id=...)],
        [occurrence(), 7],
    ],
)
def test_an_envelope_with_an_event_that_has_none_has_no_id(events: Any) -> None:
    assert PROVIDER.delivery_id({}, {"events": events}) == ""
