"""Every provider that there is, those that are added later too: whatever comes is an event or an error in one line."""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from gitopsd.config import schema
from gitopsd.errors import PayloadError
from gitopsd.model import Event, Image, RefUpdate, Request
from gitopsd.providers import PROVIDERS, Provider
from tests.endpoint import Endpoint, repo_of
from tests.senders import FORM, JSON, Sender

REVISION, ZEROS, DIGEST = "1" * 40, "0" * 40, f"sha256:{'1' * 64}"
REPOSITORY: dict[str, Any] = {
    "id": 1,
    "name": "blog",
    "slug": "blog",
    "full_name": "me/blog",
    "default_branch": "main",
    "clone_url": "https://example.org/me/blog.git",
    "ssh_url": "git@example.org:me/blog.git",
    "git_url": "git://example.org/me/blog.git",
    "http_url": "https://example.org/me/blog.git",
    "html_url": "https://example.org/me/blog",
    "remoteUrl": "https://example.org/me/_git/blog",
    "owner": {"login": "me", "canonicalName": "~me"},
    "project": {"key": "ME", "name": "me"},
    "links": {"html": {"href": "https://example.org/me/blog"}, "clone": [{"name": "http", "href": "https://a/b"}]},
}
PROJECT = {
    "id": 1,
    "path_with_namespace": "me/blog",
    "git_http_url": "https://example.org/me/blog.git",
    "git_ssh_url": "git@example.org:me/blog.git",
    "web_url": "https://example.org/me/blog",
}
PUSHES: dict[str, dict[str, Any]] = {
    "a push as GitHub began it": {
        "ref": "refs/heads/main",
        "before": ZEROS,
        "after": REVISION,
        "created": False,
        "deleted": False,
        "forced": True,
        "event": "push",
        "repository": REPOSITORY,
    },
    "GitLab's": {
        "object_kind": "push",
        "event_name": "push",
        "ref": "refs/heads/main",
        "before": ZEROS,
        "after": REVISION,
        "checkout_sha": REVISION,
        "project": PROJECT,
    },
    "Bitbucket's": {
        "repository": REPOSITORY,
        "push": {
            "changes": [
                {
                    "new": {"type": "branch", "name": "main", "target": {"hash": REVISION}},
                    "old": {"type": "branch", "name": "main", "target": {"hash": "2" * 40}},
                    "created": False,
                    "closed": False,
                    "forced": False,
                }
            ]
        },
    },
    "that of Bitbucket on one's own": {
        "eventKey": "repo:refs_changed",
        "repository": REPOSITORY,
        "changes": [
            {
                "ref": {"id": "refs/heads/main", "displayId": "main", "type": "BRANCH"},
                "refId": "refs/heads/main",
                "fromHash": ZEROS,
                "toHash": REVISION,
                "type": "UPDATE",
            }
        ],
    },
    "Azure's": {
        "id": "one",
        "subscriptionId": "one",
        "notificationId": 1,
        "eventType": "git.push",
        "resource": {
            "repository": REPOSITORY,
            "refUpdates": [{"name": "refs/heads/main", "oldObjectId": ZEROS, "newObjectId": REVISION}],
        },
    },
    "Gerrit's": {
        "type": "ref-updated",
        "refUpdate": {"project": "blog", "refName": "refs/heads/main", "oldRev": ZEROS, "newRev": REVISION},
        "eventCreatedOn": 1,
    },
    "sourcehut's": {
        "data": {
            "webhook": {
                "uuid": "one",
                "event": "GIT_POST_RECEIVE",
                "repository": REPOSITORY,
                "updates": [{"ref": {"name": "refs/heads/main"}, "old": {"id": ZEROS}, "new": {"id": REVISION}}],
            }
        }
    },
    "one as a person writes it": {"repository": "me/blog", "ref": "refs/heads/main", "after": REVISION},
    "the same, wrapped": {"type": "push", "data": {"repository": "me/blog", "ref": "main", "after": REVISION}},
    "an image as a person writes it": {"image": "ghcr.io/me/blog", "tag": "v1", "digest": DIGEST},
    "something else that a person names": {"event": "purge", "repository": "me/blog"},
    "an image, as GitHub tells it": {
        "action": "published",
        "package": {
            "name": "blog",
            "package_type": "CONTAINER",
            "owner": {"login": "me"},
            "package_version": {"container_metadata": {"tag": {"name": "latest", "digest": DIGEST}}},
        },
        "repository": REPOSITORY,
    },
    "an image in a registry": {
        "events": [
            {
                "id": "one",
                "action": "push",
                "target": {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": DIGEST,
                    "repository": "me/blog",
                    "tag": "latest",
                },
                "request": {"host": "localhost:5000"},
            },
            {"id": "two", "action": "pull", "target": {"repository": "me/blog"}},
        ]
    },
    "one in Harbor": {
        "type": "PUSH_ARTIFACT",
        "event_data": {
            "resources": [{"digest": DIGEST, "tag": "latest", "resource_url": "example.org/me/blog:latest"}],
            "repository": {"repo_full_name": "me/blog"},
        },
    },
    "one in Harbor, as CloudEvents": {
        "specversion": "1.0",
        "id": "one",
        "type": "harbor.artifact.pushed",
        "data": {"resources": [{"tag": "latest"}], "repository": {"repo_full_name": "me/blog"}},
    },
    "one in Docker Hub": {"push_data": {"tag": "latest"}, "repository": {"repo_name": "me/blog"}},
    "one in Quay": {"docker_url": "quay.io/me/blog", "updated_tags": ["latest"], "pruned_image_count": 0},
    "one in Azure's registry": {
        "id": "one",
        "action": "push",
        "target": {"digest": DIGEST, "repository": "blog", "tag": "latest"},
        "request": {"host": "me.azurecr.io"},
    },
    "one in Nexus": {
        "action": "CREATED",
        "component": {"format": "docker", "name": "me/blog", "version": "latest"},
    },
    "a deployment by Cloudflare": {
        "text": "deployed",
        "data": {},
        "ts": 1,
        "alert_type": "pages_event_alert",
        "alert_correlation_id": "one",
        "alert_event": "ALERT_STATE_EVENT_START",
    },
    "one that a worker passes on": {"type": "pages_deploy", "action": "deploy", "metadata": {}, "raw": {}},
}
EVENTS = {
    "X-GITHUB-EVENT": "push",
    "X-GITLAB-EVENT": "Push Hook",
    "X-EVENT-KEY": "repo:push",
    "X-GITEA-EVENT": "push",
    "X-FORGEJO-EVENT": "push",
    "X-GOGS-EVENT": "push",
    "X-SOFTSERVE-EVENT": "push",
    "X-WEBHOOK-EVENT": "repo:post-update",
    "X-NEXUS-WEBHOOK-ID": "rm:repository:component",
}
# Of those that share a header with another.
EVENTS_OF = {"bitbucket-server": {"X-EVENT-KEY": "repo:refs_changed"}, "ghcr": {"X-GITHUB-EVENT": "package"}}
OTHER_EVENTS = (
    "repo:refs_changed",
    "package",
    "registry_package",
    "rm:repository:asset",
    "Tag Push Hook",
    "System Hook",
    "ping",
    "create",
    "delete",
    "",
    "é",
    "a b",
    "\x9b0m",
)
IDS = (
    "X-GITHUB-DELIVERY",
    "X-REQUEST-UUID",
    "X-REQUEST-ID",
    "IDEMPOTENCY-KEY",
    "X-GITEA-DELIVERY",
    "X-DELIVERY-ID",
    "X-NEXUS-WEBHOOK-DELIVERY",
)

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    10**400,
    1.5e308,
    "",
    "\x00",
    "\n",
    "\ud800",
    "é\u202e\u2028",
    "x" * 5000,
    "refs/",
    "refs/heads/",
    "refs/tags/v1",
    "main",
    "tag",
    "branch",
    "BRANCH",
    "DELETE",
    "--upload-pack=touch /tmp/x",
    "://[",
    "a" * 64,
    ZEROS,
    "HEAD",
    [],
    [[]],
    [None],
    ["refs/heads/main"],
    {"latest": 1},
    "me/blog:latest",
    DIGEST,
    [{}],
    [{}, {}, None],
    {},
    {"ref": {}},
    {"name": None},
)


def paths_of(value: Any, here: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON value."""
    yield here
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, inner in items:
        yield from paths_of(inner, (*here, key))


KEYS = sorted({step for push in PUSHES.values() for path in paths_of(push) for step in path if isinstance(step, str)})
LEAVES = (
    some.sampled_from(ODD_VALUES).map(copy.deepcopy)
    | some.integers()
    | some.floats(allow_nan=False)
    | some.text(max_size=20)
)
TREES = some.recursive(
    LEAVES,
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(some.sampled_from(KEYS) | some.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=15,
)
OBJECTS = some.dictionaries(some.sampled_from(KEYS) | some.text(max_size=8), TREES, max_size=8)


@some.composite
def pushes(draw: some.DrawFn) -> dict[str, Any]:
    """One of the pushes with up to three of its places changed or taken out."""
    payload: dict[str, Any] = copy.deepcopy(draw(some.sampled_from(list(PUSHES.values()))))
    for _ in range(draw(some.integers(0, 3))):
        path = draw(some.sampled_from([path for path in paths_of(payload) if path] or [("ref",)]))
        inner: Any = payload
        for step in path[:-1]:
            inner = inner[step]
        if draw(some.booleans()) and path[-1] in (inner if isinstance(inner, dict) else range(len(inner))):
            del inner[path[-1]]
        else:
            inner[path[-1]] = draw(TREES)
    return payload


def headers_of(values: some.SearchStrategy[str]) -> some.SearchStrategy[dict[str, str]]:
    events = some.dictionaries(some.sampled_from(list(EVENTS)), some.sampled_from(OTHER_EVENTS) | values, max_size=8)
    ids = some.dictionaries(some.sampled_from(IDS), some.just("one") | values, max_size=3)
    return some.tuples(events, ids).map(lambda drawn: EVENTS | drawn[0] | drawn[1])


WILD_HEADERS = headers_of(some.text(some.characters(), max_size=20))
# What waitress lets through: Latin-1, and of the control characters those that end nothing.
SENT_HEADERS = headers_of(some.text(some.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=20))

every_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


def parsed(provider: Provider, headers: Mapping[str, str], payload: Mapping[str, Any]) -> Event | PayloadError:
    try:
        return provider.parse(headers, payload)
    except PayloadError as error:
        return error


def events_for(provider: Provider) -> dict[str, str]:
    """The headers of all senders, each with an event that is a push."""
    return EVENTS | EVENTS_OF.get(provider.name, {})


def texts_of(event: Event) -> Iterator[str]:
    yield event.kind
    yield event.reason
    for update in event.updates:
        yield update.ref
    for image in event.images:
        yield from (image.name, image.tag, image.digest)
    if event.remote:
        yield from (event.remote.full_name, event.remote.alias, event.remote.id)
        yield from event.remote.urls


def assert_usable(found: Event | PayloadError) -> None:
    """Nothing in it that a log, a terminal, the store or a command could not take."""
    for text in texts_of(found) if isinstance(found, Event) else [str(found)]:
        text.encode()
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text)
    if isinstance(found, Event):
        assert found.kind
        for update in found.updates:
            assert_update(update)
        for image in found.images:
            assert_image(image)
        assert len(set(found.images)) == len(found.images)
        assert found.remote is None or re.fullmatch("[!-~]{0,100}", found.remote.id)


def assert_update(update: RefUpdate) -> None:
    assert update.ref.startswith("refs/")
    for revision in (update.revision or "", update.before):
        assert not revision or re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", revision)
        assert (revision or "1").strip("0")
    # Their names may be anything that a file can be called; they are compared, and shown nowhere.
    assert update.files is None or (update.files and all(isinstance(name, str) for name in update.files))
    assert len(set(update.files or ())) == len(update.files or ())


def assert_image(image: Image) -> None:
    """Its parts are words of a command, and none can be taken for an option."""
    assert re.fullmatch(r"[a-z0-9\[][a-z0-9._:/\[\]-]*[a-z0-9]", image.name) or len(image.name) == 1
    assert not {"", ".", ".."} & set(image.name.split("/"))
    assert re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9._-]{0,127})?", image.tag)
    assert re.fullmatch(r"([a-z0-9][a-z0-9+._-]{0,31}:[A-Za-z0-9=_-]{32,128})?", image.digest)


# What a provider is


@every_provider
def test_a_provider_tells_a_person_what_to_fill_in_where(provider: Provider) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]*", provider.name)
    assert provider.schemes
    assert provider.form
    for text in (provider.form_at, *(cell for row in provider.form for cell in row)):
        assert text
        assert text.strip() == text
        assert text.isprintable()
    assert provider.secret_label.strip() == provider.secret_label
    assert provider.media_types
    assert set(provider.media_types) <= {JSON, FORM} or all("/" in each for each in provider.media_types)


def test_the_names_are_those_of_the_schema() -> None:
    receiver = schema()["$defs"]["receiver"]
    assert receiver["properties"]["provider"]["enum"] == list(PROVIDERS)
    with_header = [name for name, provider in PROVIDERS.items() if provider.own_header]
    assert receiver["then"]["properties"]["provider"]["enum"] == with_header
    assert all(name == provider.name for name, provider in PROVIDERS.items())


@every_provider
def test_one_of_the_pushes_here_is_one_for_it(provider: Provider) -> None:
    found = [parsed(provider, events_for(provider), push) for push in PUSHES.values()]
    events = [each for each in found if isinstance(each, Event) and not each.reason]
    wanted = [each for each in events if each.updates or each.images or each.kind in provider.events]
    assert wanted, "PUSHES lacks one of this provider"


# What it makes of what comes


@every_provider
@settings(max_examples=50, deadline=None)
@given(payload=pushes() | OBJECTS, headers=WILD_HEADERS | some.just({}))
def test_whatever_comes_is_an_event_or_an_error_in_one_line(
    provider: Provider, payload: dict[str, Any], headers: dict[str, str]
) -> None:
    before = copy.deepcopy(payload)
    assert_usable(parsed(provider, headers, payload))
    assert isinstance(provider.delivery_id(headers, payload), str)
    assert payload == before


@every_provider
@settings(max_examples=15, deadline=None)
@given(body=some.binary(max_size=60) | pushes().map(json.dumps).map(str.encode), headers=WILD_HEADERS | some.just({}))
def test_whether_it_is_a_trial_can_be_said_of_anything(
    provider: Provider, body: bytes, headers: dict[str, str]
) -> None:
    assert provider.is_unsigned_ping(headers, body) in (True, False)


@every_provider
@pytest.mark.parametrize("push", PUSHES.values(), ids=PUSHES)
def test_a_push_with_anything_in_any_place_is_an_event_or_an_error(provider: Provider, push: dict[str, Any]) -> None:
    headers = events_for(provider)
    for path in [path for path in paths_of(push) if path]:
        payload = copy.deepcopy(push)
        inner: Any = payload
        for step in path[:-1]:
            inner = inner[step]
        for value in ODD_VALUES:
            inner[path[-1]] = copy.deepcopy(value)
            assert_usable(parsed(provider, headers, payload))
            assert isinstance(provider.delivery_id(headers, payload), str)
        del inner[path[-1]]
        assert_usable(parsed(provider, headers, payload))


@every_provider
@settings(max_examples=50, deadline=None)
@given(payload=pushes() | OBJECTS, headers=WILD_HEADERS | some.just({}))
def test_no_header_counts_but_the_one_that_names_the_event(
    provider: Provider, payload: dict[str, Any], headers: dict[str, str]
) -> None:
    """It is all that is kept of them, to look at a delivery again."""
    alone = {provider.event_header: headers.get(provider.event_header, "")}
    found, again = parsed(provider, headers, payload), parsed(provider, alone, payload)
    assert again == found if isinstance(found, Event) else str(again) == str(found)


@settings(max_examples=200, deadline=None)
@given(payload=pushes() | OBJECTS | TREES.map(lambda tree: {"events": tree}), headers=WILD_HEADERS)
def test_no_envelope_of_a_registry_is_refused(payload: dict[str, Any], headers: dict[str, str]) -> None:
    """What is refused is sent again, for ever, before anything else is."""
    assert isinstance(parsed(PROVIDERS["registry"], headers, payload), Event)


# What the application answers


class Door:
    """A receiver of a provider, and senders that know its secrets: one for each way in."""

    def __init__(self, provider: Provider, endpoint: Endpoint, senders: list[Sender]) -> None:
        self.provider, self.endpoint, self.senders = provider, endpoint, senders

    def answer(self, request: Request) -> int:
        headers = {name: value for name, value in request.headers.items() if value}
        path = f"/hook/here/{request.token}" if request.token else "/hook/here"
        answer = self.endpoint.post(request.body, headers | {"Content-Type": request.media_type}, path)
        assert ".py" not in answer.text
        return answer.status_code


@pytest.fixture(scope="module", params=PROVIDERS)
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    provider = PROVIDERS[request.param]
    senders = [Sender(scheme, f"secret-{number}".encode()) for number, scheme in enumerate(provider.schemes)]
    secrets = [sender.secret.value.decode() for sender in senders]
    endpoint = Endpoint(
        tmp_path_factory.mktemp(provider.name), provider.name, repo_of("https://example.org/me/blog"), *secrets
    )
    endpoint.store.probe()  # opens it here, and not in a test that would leave it open
    endpoint.store.running()
    yield Door(provider, endpoint, senders)
    endpoint.close()


@settings(max_examples=20, deadline=None)
@given(payload=pushes() | OBJECTS, headers=SENT_HEADERS, choice=some.integers(0, 7))
def test_an_authentic_delivery_of_any_shape_is_never_a_fault_of_ours(
    door: Door, payload: dict[str, Any], headers: dict[str, str], choice: int
) -> None:
    sender = door.senders[choice % len(door.senders)]
    media_type = door.provider.media_types[choice // 2 % len(door.provider.media_types)]
    body = json.dumps(payload).encode()
    request = sender.request(body, media_type if media_type == FORM else JSON, headers)
    request = Request(headers=request.headers, body=request.body, media_type=media_type, token=request.token)
    assert door.answer(request) in (200, 202, 400)


@settings(max_examples=10, deadline=None)
@given(
    body=some.binary(max_size=60).filter(lambda body: b"{" not in body),
    headers=SENT_HEADERS,
    choice=some.integers(0, 7),
)
def test_authentic_bytes_that_are_no_object_are_400(
    door: Door, body: bytes, headers: dict[str, str], choice: int
) -> None:
    assert door.answer(door.senders[choice % len(door.senders)].request(body, JSON, headers)) == 400


@settings(max_examples=10, deadline=None)
@given(payload=pushes() | OBJECTS, headers=SENT_HEADERS, media_type=some.sampled_from([JSON, FORM]))
def test_a_delivery_without_proof_is_401_or_at_most_a_trial(
    door: Door, payload: dict[str, Any], headers: dict[str, str], media_type: str
) -> None:
    stranger, before = Sender(door.provider.schemes[0], b"stranger"), door.endpoint.store.jobs(limit=1)
    body = json.dumps(payload).encode()
    signed = stranger.request(body, media_type, headers)
    for request in (signed, Request(headers=headers, body=signed.body, media_type=media_type)):
        is_trial = door.provider.is_unsigned_ping(
            {name: value for name, value in request.headers.items() if value}, request.body
        )
        assert door.answer(request) == (200 if is_trial else 401)
    assert door.endpoint.store.jobs(limit=1) == before
