"""From what has come to what is kept of it: the body without secrets, the jobs, and what repositories are called."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gitopsd import intake
from gitopsd.errors import PayloadError, StoreError
from gitopsd.intake import MAX_KEPT, Content
from gitopsd.model import Body, Decision, Delivery, Event, Image, Match, RefUpdate, RemoteName, Request, Secret
from gitopsd.providers import PROVIDERS
from gitopsd.settings import Config, Keep, Receiver, Repo
from gitopsd.store import Store, path_in
from gitopsd.store.notes import REMOTES_NOTE
from tests import records

NOW = 1_700_000_000.0
BEFORE, REVISION = "2" * 40, "1" * 40
MAIN = "refs/heads/main"
URL = "https://github.com/me/blog.git"
SECRET = "s3cret/of the ête"
FORM = "application/x-www-form-urlencoded"
GITHUB = Receiver(name="hub", provider="github", secrets=("one",))
PUSH = {"ref": MAIN, "before": BEFORE, "after": REVISION, "repository": {"full_name": "me/blog", "id": 17}}


def request(body: bytes, media_type: str = "application/json", **headers: str) -> Request:
    named = {name.upper().replace("_", "-"): value for name, value in headers.items()}
    return Request(headers={"X-GITHUB-EVENT": "push", **named}, body=body, media_type=media_type)


def read(body: bytes, *secrets: str, media_type: str = "application/json", **headers: str) -> Content:
    known = [Secret(f"secret-{number}", value.encode()) for number, value in enumerate(secrets)]
    return intake.read(GITHUB, request(body, media_type, **headers), known)


def kept_of(body: bytes, *secrets: str, media_type: str = "application/json") -> bytes:
    kept = read(body, *secrets, media_type=media_type).body
    assert kept is not None
    return kept.text


def with_more(**more: Any) -> dict[str, Any]:
    return {**PUSH, **more}


# What a delivery says


@pytest.mark.parametrize("given_id", ["a", "x" * 200, "72d3162e-cc78-11e3-81ab-4c9367dc0958", "{1}:/~!", "sha256:1"])
def test_a_delivery_goes_by_the_id_that_its_sender_gave_it(given_id: str) -> None:
    content = read(json.dumps(PUSH).encode(), x_github_delivery=given_id)
    assert (content.delivery_id, content.is_named) == (given_id, True)


@pytest.mark.parametrize("given_id", ["", " ", "a b", "a\n", "a\0", "\x7f", "é", "x" * 201])
def test_a_delivery_with_an_odd_id_goes_by_its_content(given_id: str) -> None:
    body = json.dumps(PUSH).encode()
    content = read(body, x_github_delivery=given_id)
    assert (content.delivery_id, content.is_named) == (f"sha256:{hashlib.sha256(body).hexdigest()}", False)


def test_a_delivery_without_an_id_goes_by_its_content() -> None:
    first, second = read(json.dumps(PUSH).encode()), read(json.dumps(with_more(x=1)).encode())
    assert first.delivery_id != second.delivery_id
    assert not first.is_named


def test_what_is_not_what_its_provider_sends_is_an_error() -> None:
    for body in (b"", b"[]", b"{}", b"nonsense", b"\xff", json.dumps(with_more(ref=7)).encode()):
        with pytest.raises(PayloadError):
            read(body, SECRET)
    with pytest.raises(PayloadError):
        read(json.dumps(PUSH).encode(), x_github_event="no name; of an event")


# What is kept of it


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps(PUSH), id="as Python writes it"),
        pytest.param(json.dumps(PUSH, indent=3) + "\n\n", id="with room in it"),
        pytest.param(json.dumps(PUSH, separators=(",", ":")), id="without"),
        pytest.param(json.dumps(PUSH)[:-1] + r', "a": "\u00e9\/\ud800", "b": 1.50, "c": 1e3, "c": 2}', id="odd in it"),
        pytest.param(json.dumps(with_more(é="ü\u2028"), ensure_ascii=False), id="not ASCII"),
    ],
)
@pytest.mark.parametrize("secrets", [(), (SECRET,), (SECRET, "gitopsd:another one")], ids=len)
def test_without_a_secret_in_it_a_body_is_kept_as_it_came(text: str, secrets: tuple[str, ...]) -> None:
    assert kept_of(text.encode(), *secrets) == text.encode()


def test_what_the_header_calls_the_event_is_kept_beside_the_body() -> None:
    text = json.dumps(PUSH).encode()
    assert read(text, x_github_event="push").body == Body(text=text, event_header="push")
    assert read(text, x_github_event="star").body == Body(text=text, event_header="star")
    assert read(json.dumps(with_more(x=SECRET)).encode(), SECRET, x_github_event="star").body == Body(
        text=json.dumps(with_more(x="***")).encode(), event_header="star"
    )


def test_of_a_form_body_the_json_text_in_it_is_kept() -> None:
    text = json.dumps(with_more(x="ü&=+ %"), ensure_ascii=False, indent=1)
    sent = urlencode({"other": SECRET, "payload": text}).encode()
    assert kept_of(sent, SECRET, media_type=FORM) == text.encode()
    masked = urlencode({"payload": json.dumps(with_more(x=[SECRET]))}).encode()
    assert json.loads(kept_of(masked, SECRET, media_type=FORM)) == with_more(x=["***"])


SECRETS = ("gitopsd:p@ss/word", SECRET, "4711-0815")
# What stands in the payload, and what is left of that.
HIDING_PLACES: dict[str, tuple[Any, Any]] = {
    "a text": (SECRET, "***"),
    "within a text": (f"Bearer {SECRET}, {SECRET}", "Bearer ***, ***"),
    "a list in a list": ([1, [None, [SECRET, "x"]]], [1, [None, ["***", "x"]]]),
    "deep in an object": ({"a": [{"b": {"c": SECRET}}]}, {"a": [{"b": {"c": "***"}}]}),
    "a key": ({"x": 1, f"a {SECRET}": [2], "y": 3}, {"x": 1, "a ***": [2], "y": 3}),
    "a key and its value": ({SECRET: {SECRET: SECRET}}, {"***": {"***": "***"}}),
    "a key with something below it": ({SECRET: [{"a": SECRET}]}, {"***": [{"a": "***"}]}),
    "user and password": ("http://gitopsd:p@ss/word@host/", "http://***@host/"),
    "the password": ("p@ss/word", "***"),
    "the user": ("gitopsd:", "gitopsd:"),
    "another secret": ("4711-0815 0815", "*** 0815"),
    "all of them": (["4711-0815", SECRET, "gitopsd:p@ss/word"], ["***", "***", "***"]),
}


@pytest.mark.parametrize("spelt", ["plain", "escaped", "escaped slashes", "not ASCII"])
@pytest.mark.parametrize(("told", "left"), HIDING_PLACES.values(), ids=HIDING_PLACES)
def test_no_secret_is_in_what_is_kept_and_everything_else_is(told: Any, left: Any, spelt: str) -> None:
    payload = with_more(told=told, commits=[{"message": "a page", "n": 1.5, "is": True}], nothing=None)
    text = json.dumps(payload, ensure_ascii=spelt != "not ASCII")
    if spelt == "escaped":
        text = text.replace("s3", r"\u00733").replace("p@", r"p\u0040").replace("4711", r"471\u0031")
    elif spelt == "escaped slashes":
        text = text.replace("/", r"\/")

    kept = kept_of(text.encode(), *SECRETS)

    assert json.loads(kept) == payload | {"told": left}
    if left == told:
        assert kept == text.encode()


def test_the_event_is_what_it_was_before_the_secrets_were_taken_out() -> None:
    remote = {"full_name": f"me/{SECRETS[2]}"}
    content = read(json.dumps(with_more(repository=remote)).encode(), *SECRETS)
    assert content.event.remote == RemoteName(full_name="me/4711-0815", urls=())


def test_a_secret_under_a_key_that_stands_there_twice_is_not_kept() -> None:
    text = json.dumps(PUSH)[:-1] + f', "a": {json.dumps(SECRET, ensure_ascii=False)}, "a": 1}}'
    assert json.loads(kept_of(text.encode(), SECRET)) == with_more(a=1)


@pytest.mark.parametrize("secrets", [("abcd", "abcdefgh"), ("abcdefgh", "abcd"), ("x:abcd", "abcdefgh")])
def test_of_a_secret_that_begins_like_another_nothing_is_left(secrets: tuple[str, ...]) -> None:
    payload = with_more(a="abcdefgh", b="abcd", c="efgh")
    assert json.loads(kept_of(json.dumps(payload).encode(), *secrets)) == payload | {"a": "***", "b": "***"}


@pytest.mark.parametrize("secret", ["", "a", "ref", "me:", ":", ":ref", "me:ref"])
def test_what_is_too_short_for_a_secret_garbles_nothing(secret: str) -> None:
    text = json.dumps(PUSH).encode()
    assert kept_of(text, secret) == text


def test_a_word_of_the_payload_as_a_secret_leaves_it_readable() -> None:
    text = json.dumps(with_more(main="main")).encode()
    left = with_more(ref="refs/heads/***") | {"***": "***"}
    assert json.loads(kept_of(text, "main")) == left


@pytest.mark.parametrize(
    ("body", "secret"),
    [
        pytest.param(json.dumps(with_more(pin=12345678)), "12345678", id="a number"),
        pytest.param(json.dumps(PUSH)[:-1] + r', "a": "\u0073ecret", "a": 1}', "secret", id="escaped, doubled"),
        pytest.param(json.dumps(with_more(url="/hook/a/my%20token")), "my token", id="percent-encoded"),
        pytest.param(json.dumps(with_more(created=True)), "true", id="a word of JSON itself"),
    ],
)
def test_where_a_secret_may_be_left_in_another_form_nothing_is_kept(body: str, secret: str) -> None:
    assert intake.read(GITHUB, request(body.encode()), [Secret("one", secret.encode())]).body is None


def test_a_secret_that_is_no_text_is_in_nobodys_way() -> None:
    text = json.dumps(PUSH).encode()
    content = intake.read(GITHUB, request(text), [Secret("one", b"\xff\xfe\x00\x80")])
    assert content.body == Body(text=text, event_header="push")


def test_a_body_is_kept_up_to_its_limit_and_read_beyond_it() -> None:
    text = json.dumps(with_more(x=SECRET)).encode()
    text += b" " * (MAX_KEPT - len(text))
    assert MAX_KEPT == 256 * 1024
    assert json.loads(kept_of(text, SECRET)) == with_more(x="***")
    assert kept_of(text) == text

    content = read(text + b" ", SECRET)

    assert content.body is None
    assert content.event.updates[0].revision == REVISION


@pytest.mark.parametrize("secrets", [(), (SECRET,)], ids=["without a secret", "with a secret"])
@pytest.mark.parametrize(("opened", "closed"), [('{"a":', "}"), ("[", "]")], ids=["objects", "lists"])
def test_a_body_that_is_nested_deeply_is_read_or_refused(opened: str, closed: str, secrets: tuple[str, ...]) -> None:
    inside = json.dumps(SECRET, ensure_ascii=False)
    for levels in (100, 800, *range(900, 1000, 3), 5000, 50_000):
        nested = f"{opened * levels}{inside}{closed * levels}"
        text = f'{json.dumps(PUSH)[:-1]}, "nested": {nested}}}'.encode()
        try:
            content = read(text, *secrets)
        except PayloadError:
            assert levels > 800
            continue
        assert content.event.updates[0].revision == REVISION
        assert content.body or levels > 800
        assert content.body is None or (SECRET.encode() in content.body.text) is (secrets == ())


_TEXTS = some.text(max_size=6) | some.text('ab/"\\é', max_size=6)
_LEAVES = some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | _TEXTS


def json_with(texts: some.SearchStrategy[str]) -> some.SearchStrategy[dict[str, Any]]:
    """Any JSON object, in which `texts` are keys and values too."""
    anything = some.recursive(
        _LEAVES | texts,
        lambda inner: some.lists(inner, max_size=3) | some.dictionaries(_TEXTS | texts, inner, max_size=3),
        max_leaves=8,
    )
    return some.dictionaries(_TEXTS | texts, anything, max_size=4)


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value:
            yield from texts_in(each)
        for each in value.values() if isinstance(value, dict) else ():
            yield from texts_in(each)


@given(data=some.data(), secret=some.text(some.characters(exclude_characters="*", codec="utf-8"), min_size=4))
def test_wherever_a_secret_stands_it_is_not_in_what_is_kept(data: some.DataObject, secret: str) -> None:
    payload = data.draw(json_with(some.sampled_from([secret, f"a{secret}/", f" {secret * 2}"])))
    text = json.dumps(with_more(more=payload), ensure_ascii=data.draw(some.booleans()))

    kept = read(text.encode("utf-8", "replace"), secret).body

    # None of it is kept where the secret is also what is no text, such as `null`.
    assert kept is None or not [each for each in texts_in(json.loads(kept.text)) if secret in each]


# Once more

DIGEST = f"sha256:{'a' * 64}"
_IMAGE = {"repository": "me/blog", "tag": "v1", "digest": DIGEST}
_GITEA = PUSH | {"repository": {"full_name": "me/blog", "id": 17, "clone_url": URL}}
_OURS = {"repository": "me/blog", "ref": MAIN, "after": REVISION}
_MANIFEST = {"mediaType": "application/vnd.oci.image.manifest.v1+json", **_IMAGE}
_REGISTRY = {"id": "one", "action": "push", "target": _MANIFEST, "request": {"host": "registry.example"}}
_SOURCEHUT = {"name": "blog", "owner": {"canonicalName": "~me"}}
_PACKAGE = {
    "name": "blog",
    "package_type": "CONTAINER",
    "owner": {"login": "me"},
    "package_version": {"container_metadata": {"tag": {"name": "v1", "digest": DIGEST}}},
}
# provider → what its header calls a push, and the push.
PUSHES: dict[str, tuple[str, dict[str, Any]]] = {
    "github": ("push", PUSH),
    "gitlab": ("Push Hook", PUSH | {"project": {"path_with_namespace": "me/blog", "id": 17}}),
    "gitea": ("push", _GITEA),
    "forgejo": ("push", _GITEA),
    "gogs": ("push", _GITEA),
    "soft-serve": ("push", PUSH | {"repository": {"name": "blog", "id": 17}}),
    "bitbucket": (
        "repo:push",
        {
            "repository": {"full_name": "me/blog", "uuid": "{17}"},
            "push": {"changes": [{"new": {"type": "branch", "name": "main", "target": {"hash": REVISION}}}]},
        },
    ),
    "bitbucket-server": (
        "repo:refs_changed",
        {
            "repository": {"slug": "blog", "id": 17, "project": {"key": "ME"}},
            "changes": [{"refId": MAIN, "fromHash": BEFORE, "toHash": REVISION, "type": "UPDATE"}],
        },
    ),
    "azure-devops": (
        "",
        {
            "eventType": "git.push",
            "resource": {
                "refUpdates": [{"name": MAIN, "oldObjectId": BEFORE, "newObjectId": REVISION}],
                "repository": {"id": "17", "name": "blog", "project": {"name": "web"}, "remoteUrl": URL},
            },
        },
    ),
    "gerrit": (
        "",
        {
            "type": "ref-updated",
            "refUpdate": {"oldRev": BEFORE, "newRev": REVISION, "refName": MAIN, "project": "me/blog"},
        },
    ),
    "sourcehut": (
        "GIT_POST_RECEIVE",
        {
            "data": {
                "webhook": {
                    "uuid": "one",
                    "event": "GIT_POST_RECEIVE",
                    "repository": _SOURCEHUT,
                    "updates": [{"ref": {"name": MAIN}, "old": {"id": BEFORE}, "new": {"id": REVISION}}],
                }
            }
        },
    ),
    "generic": ("", _OURS),
    "generic-hmac": ("", {"image": "me/blog", "tag": "v1"}),
    "generic-token": ("", {"event": "purge"}),
    "standard-webhooks": ("", {"type": "push", "data": _OURS}),
    "ghcr": ("package", {"action": "published", "package": _PACKAGE, "repository": {"full_name": "me/blog"}}),
    "registry": ("", {"events": [_REGISTRY]}),
    "harbor": (
        "",
        {
            "type": "PUSH_ARTIFACT",
            "event_data": {
                "resources": [{"digest": DIGEST, "tag": "v1", "resource_url": "hub.example/me/blog:v1"}],
                "repository": {"repo_full_name": "me/blog", "name": "blog", "namespace": "me"},
            },
        },
    ),
    "dockerhub": ("", {"push_data": {"tag": "v1"}, "repository": {"repo_name": "me/blog"}}),
    "quay": ("", {"repository": "me/blog", "docker_url": "quay.io/me/blog", "updated_tags": ["v1"]}),
    "acr": ("", _REGISTRY),
    "nexus": (
        "rm:repository:component",
        {"action": "CREATED", "component": {"format": "docker", "name": "me/blog", "version": "v1"}},
    ),
    "cloudflare": ("", {"alert_type": "pages_event_alert", "ts": 1710444000, "policy_id": "one"}),
    "cloudflare-worker": ("", {"type": "pages_deploy"}),
}


def read_of(provider: str, *secrets: str, media_type: str = "application/json", **more: Any) -> Content:
    header, payload = PUSHES[provider]
    text = json.dumps(payload | more)
    sent = text if media_type != FORM else urlencode({"payload": text})
    asked = Request(headers={PROVIDERS[provider].event_header: header}, body=sent.encode(), media_type=media_type)
    receiver = GITHUB._replace(provider=provider)
    return intake.read(receiver, asked, [Secret("one", secret.encode()) for secret in secrets])


def reread_of(provider: str, content: Content, number: int = 7) -> Content:
    assert content.body is not None
    kept = delivery("one", number=number)
    return intake.reread(GITHUB._replace(provider=provider), kept, content.body)


def delivery(delivery_id: str, number: int = 0) -> Delivery:
    return records.push(
        delivery_id, at=NOW, receiver="hub", revision=REVISION, decision=Decision.ACCEPTED, number=number
    )


def test_there_is_a_push_for_every_provider() -> None:
    assert set(PUSHES) == set(PROVIDERS)


@pytest.mark.parametrize("provider", PUSHES)
def test_what_was_kept_says_the_same_once_more(provider: str) -> None:
    first = read_of(provider, SECRET)
    again = reread_of(provider, first)

    assert again == Content(event=first.event, delivery_id="one", is_named=False, body=first.body, replay_of=7)
    assert not first.event.reason
    assert first.event.updates or first.event.images or provider in ("generic-token", "cloudflare", "cloudflare-worker")


@pytest.mark.parametrize("provider", PUSHES)
def test_it_says_the_same_without_the_secrets_and_from_a_form_too(provider: str) -> None:
    masked = read_of(provider, SECRET, more={SECRET: [SECRET]})
    assert reread_of(provider, masked).event == masked.event == read_of(provider).event
    if FORM in PROVIDERS[provider].media_types:
        sent_as_form = read_of(provider, SECRET, media_type=FORM)
        assert reread_of(provider, sent_as_form).event == sent_as_form.event == masked.event


def test_what_its_provider_would_not_send_today_is_an_error_once_more() -> None:
    kept = read_of("github")
    with pytest.raises(PayloadError):
        reread_of("gitlab", kept)


# Who wants it


class DeafStore(Store):
    """Keeps everything but notes."""

    def write_note(self, key: str, value: Any) -> None:
        raise StoreError("the store is full")


class DazedStore(Store):
    """Keeps everything, and once it has taken a delivery nobody can read a note."""

    has_accepted = False

    def accept(self, *args: Any, **more: Any) -> Delivery:
        recorded = super().accept(*args, **more)
        self.has_accepted = True
        return recorded

    def peek_note(self, key: str) -> Any:
        if self.has_accepted:
            raise StoreError("the store is damaged")
        return super().peek_note(key)


class Desk:
    """What comes in, and the records of it."""

    def __init__(self, root: Path) -> None:
        self.config = Config(source=root / "x", state_dir=root, engine=root / "engine", keep=Keep(bodies=2))
        self.store = Store(path_in(root), lambda: NOW)
        self.repos: Mapping[str, Repo] = {"blog": repo("blog")}
        self.found_on_disk: dict[str, Repo] = {}
        self.rescans = 0
        self.matches: tuple[Match, ...] = ()

    def record(self, event: Event, receiver: Receiver = GITHUB, **changes: Any) -> Delivery:
        content = Content(**{"event": event, "delivery_id": "one", "is_named": False, "body": None, **changes})
        recorded, self.matches = intake.record(
            self.config, self.store, receiver, content, self.repos, rescan=self.rescan, now=NOW
        )
        return recorded

    def rescan(self) -> Mapping[str, Repo]:
        self.rescans += 1
        self.repos = {**self.repos, **self.found_on_disk}
        return self.repos

    def wanted_by(self, event: Event, receiver: Receiver = GITHUB) -> list[str]:
        """The repos that get a job."""
        jobs = self.record(event, receiver).jobs
        return [job.repo for job in map(self.store.job, jobs) if job]

    def remotes(self, receiver: Receiver = GITHUB) -> Any:
        return self.store.read_note(f"{REMOTES_NOTE}{receiver.name}")

    def names(self) -> dict[str, tuple[str, str]]:
        """repo → what is known of its remote: id and name."""
        return {name: (told["id"], told["name"]) for name, told in (self.remotes() or {}).items()}


def repo(name: str, url: str | None = None, **more: Any) -> Repo:
    given_url = f"https://github.com/me/{name}.git" if url is None else url
    return Repo(name=name, url=given_url, ref="main" if given_url else "", path=Path("/srv") / name, **more)


def remote(name: str = "blog", remote_id: str = "17") -> RemoteName:
    return RemoteName(full_name=f"me/{name}", urls=(f"https://github.com/me/{name}.git",), id=remote_id)


def push(name: str = "blog", remote_id: str = "17", ref: str = MAIN) -> Event:
    update = RefUpdate(ref=ref, revision=REVISION, before=BEFORE, files=("a",))
    return Event(kind="push", remote=remote(name, remote_id), updates=(update,))


def images(*tags: str, of: RemoteName | None = None) -> Event:
    return Event(kind="package", remote=of, images=tuple(Image(name="ghcr.io/me/blog", tag=tag) for tag in tags))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def test_a_push_is_recorded_with_its_job_and_its_body(desk: Desk) -> None:
    kept = Body(text=b"{}", event_header="push")
    recorded = desk.record(push(), delivery_id="x", is_named=True, body=kept)

    assert recorded == delivery("x", number=1)._replace(jobs=(1,))
    assert desk.matches == (Match(repo="blog", ref=MAIN, revision=REVISION, event="push"),)
    assert desk.store.delivery("x") == recorded
    assert desk.store.body(1) == kept
    job = desk.store.job(1)
    assert job is not None
    assert (job.repo, job.event, job.delivery, job.ref, job.revision) == ("blog", "push", "x", MAIN, REVISION)
    assert desk.record(push(), delivery_id="x", is_named=True, body=kept).decision is Decision.DUPLICATE


def test_as_many_bodies_are_kept_as_the_configuration_says(desk: Desk) -> None:
    for number in range(1, 5):
        desk.record(push("nobody's"), delivery_id=str(number), body=Body(text=b"%d" % number))
    assert [desk.store.body(number) for number in range(1, 5)] == [None, None, Body(text=b"3"), Body(text=b"4")]

    desk.config = desk.config._replace(keep=Keep(bodies=0))
    assert desk.store.body(desk.record(push(), body=Body(text=b"5")).number) is None


def test_a_push_that_paths_leave_out_is_recorded_with_where_it_came_from(desk: Desk) -> None:
    recorded = desk.record(push(), GITHUB._replace(paths=("site/**",)))
    assert (recorded.decision, recorded.jobs) == (Decision.IGNORED, ())
    assert recorded.reason.endswith("is one of the receiver's paths")
    assert desk.store.skipped_from("blog", REVISION) == BEFORE


@pytest.mark.parametrize(
    ("event", "subject", "ref", "revision"),
    [
        pytest.param(push(), "me/blog", MAIN, REVISION, id="a push"),
        pytest.param(push("nobody's"), "me/nobody's", MAIN, REVISION, id="a push for nobody"),
        pytest.param(Event(kind="star", remote=remote()), "me/blog", "", "", id="a star"),
        pytest.param(Event(kind="ping"), "", "", "", id="nothing"),
        pytest.param(images("v1"), "ghcr.io/me/blog:v1", "", "", id="an image"),
        pytest.param(images(""), "ghcr.io/me/blog", "", "", id="an image without a tag"),
        pytest.param(
            images("1", "2", "3"), "ghcr.io/me/blog:1, ghcr.io/me/blog:2, ghcr.io/me/blog:3", "", "", id="three images"
        ),
        pytest.param(
            images("1", "2", "3", "4", "5", "6"),
            ", ".join([*(f"ghcr.io/me/blog:{tag}" for tag in range(1, 6)), "…"]),
            "",
            "",
            id="six images",
        ),
        pytest.param(images("v1", of=remote("site")), "ghcr.io/me/blog:v1", "", "", id="an image and its repository"),
    ],
)
def test_a_delivery_is_recorded_with_what_it_was_about(
    desk: Desk, event: Event, subject: str, ref: str, revision: str
) -> None:
    recorded = desk.record(event)
    assert (recorded.event, recorded.remote, recorded.ref, recorded.revision) == (event.kind, subject, ref, revision)


def test_a_push_of_several_refs_is_recorded_with_the_one_that_is_wanted(desk: Desk) -> None:
    other = RefUpdate(ref="refs/heads/other", revision=BEFORE)
    desk.repos = {"old": repo("old", URL)._replace(ref="v0"), "blog": repo("blog")}
    recorded = desk.record(push()._replace(updates=(other, *push().updates)))
    assert (recorded.ref, recorded.revision) == (MAIN, REVISION)


# Replays


def test_a_replay_is_no_duplicate_and_says_what_it_repeats(desk: Desk) -> None:
    desk.record(push(), delivery_id="x", is_named=True)
    again = desk.record(push(), delivery_id="x", replay_of=1)
    assert (again.decision, again.reason, again.number, again.delivery_id) == (
        Decision.ACCEPTED,
        "replay of 1",
        2,
        "x",
    )
    stored = desk.store.delivery("2")
    assert stored is not None
    assert stored.reason == "replay of 1"


def test_a_replay_that_nobody_wants_says_why_too(desk: Desk) -> None:
    again = desk.record(push(ref="refs/heads/next"), replay_of=4711)
    assert again.decision is Decision.IGNORED
    assert again.reason == "replay of 4711; blog: follows refs/heads/main, not refs/heads/next"
    assert desk.record(push(ref="refs/heads/next")).reason == "blog: follows refs/heads/main, not refs/heads/next"


def test_a_replay_goes_by_the_rules_of_today(desk: Desk) -> None:
    first = desk.record(push(), GITHUB._replace(suspended=""))
    assert first.jobs == ()
    assert len(desk.record(push(), replay_of=first.number).jobs) == 1


# Names and ids


def test_what_the_provider_calls_the_remote_of_a_repo_is_remembered(desk: Desk) -> None:
    desk.record(push())
    assert desk.remotes() == {
        "blog": {
            "url": "github.com/me/blog",
            "id": "17",
            "name": "me/blog",
            "urls": ["https://github.com/me/blog.git"],
            "renamed": False,
        }
    }


def test_a_repository_that_is_renamed_is_known_by_its_id(desk: Desk) -> None:
    assert desk.wanted_by(push("journal", "17")) == []
    desk.record(push())

    assert desk.wanted_by(push("journal", "17")) == ["blog"]
    assert desk.names() == {"blog": ("17", "me/journal")}
    assert desk.wanted_by(push("diary", "17")) == ["blog"]
    assert desk.wanted_by(push("journal", "18")) == []
    assert desk.wanted_by(push("journal", "")) == []


def test_a_repository_that_takes_the_name_of_another_is_known_by_its_own_id(desk: Desk) -> None:
    desk.record(push())
    assert desk.wanted_by(push("blog", "18")) == ["blog"]
    assert desk.names() == {"blog": ("18", "me/blog")}
    assert desk.wanted_by(push("journal", "17")) == []


@pytest.mark.parametrize("of", ["full name", "URL"])
def test_an_id_is_remembered_by_name_and_by_url(desk: Desk, of: str) -> None:
    told = RemoteName(
        full_name="me/blog" if of == "full name" else "another/name",
        urls=() if of == "full name" else ("git@github.com:me/blog.git",),
        id="17",
    )
    desk.record(push()._replace(remote=told))
    assert desk.wanted_by(push("journal", "17")) == ["blog"]


def test_all_repos_of_a_remote_learn_its_id_whatever_they_follow(desk: Desk) -> None:
    desk.repos = {"blog": repo("blog"), "old": repo("old", URL)._replace(ref="v0"), "shop": repo("shop")}
    desk.record(push())
    assert desk.names() == {"blog": ("17", "me/blog"), "old": ("17", "me/blog")}
    desk.record(push("shop", "18"))
    assert desk.names() == {"blog": ("17", "me/blog"), "old": ("17", "me/blog"), "shop": ("18", "me/shop")}


def test_what_one_receiver_has_learned_is_no_others(desk: Desk) -> None:
    desk.record(push())
    other = GITHUB._replace(name="other")
    assert desk.wanted_by(push("journal", "17"), other) == []
    assert desk.remotes(other) is None


def test_no_id_is_learned_for_a_repo_that_the_receiver_may_not_trigger(desk: Desk) -> None:
    limited = GITHUB._replace(repos=("shop",))
    for event in (push(), Event(kind="star", remote=remote())):
        desk.record(event, limited)
    assert desk.remotes() is None

    desk.repos = {**desk.repos, "shop": repo("shop", URL)}
    desk.record(push(), limited)
    assert desk.names() == {"shop": ("17", "me/blog")}


def test_no_id_is_learned_for_a_repo_that_goes_by_its_images_and_has_another_remote(desk: Desk) -> None:
    desk.repos = {"blog": repo("blog", images=("me/blog",))}
    assert desk.wanted_by(images("v1", of=remote("site", "18"))) == ["blog"]
    assert desk.remotes() is None

    assert desk.wanted_by(images("v1", of=remote("blog", "17"))) == ["blog"]
    assert desk.names() == {"blog": ("17", "me/blog")}


def test_no_id_is_learned_for_a_repo_without_a_remote(desk: Desk) -> None:
    desk.repos = {"purge": repo("purge", "", strategy="none", deploy=("true",))}
    assert desk.wanted_by(push(), GITHUB._replace(repos=("purge",))) == ["purge"]
    assert desk.remotes() is None


def test_an_id_is_forgotten_with_the_url_that_the_repo_had(desk: Desk) -> None:
    desk.record(push())
    desk.repos = {"blog": repo("blog", "https://git.example/me/other.git")}
    assert desk.wanted_by(push("journal", "17")) == []
    desk.repos = {"blog": repo("blog", "git@github.com:me/blog")}  # the same place
    assert desk.wanted_by(push("journal", "17")) == ["blog"]
    desk.repos = {}
    assert desk.wanted_by(push("journal", "17")) == []


@pytest.mark.parametrize("event", [push("journal", "17"), Event(kind="star", remote=remote("journal", "17"))])
def test_a_name_comes_before_an_id(desk: Desk, event: Event) -> None:
    desk.record(push())
    desk.repos = {**desk.repos, "journal": repo("journal")}

    assert desk.wanted_by(event) == (["journal"] if event.updates else [])

    assert desk.names() == {"blog": ("17", "me/blog"), "journal": ("17", "me/journal")}


def test_nothing_is_learned_from_a_replay(desk: Desk) -> None:
    desk.record(push(), replay_of=1)
    assert desk.remotes() is None
    desk.record(push())
    desk.record(push("journal", "17"))
    desk.record(push(), replay_of=1)
    assert desk.names() == {"blog": ("17", "me/journal")}


@pytest.mark.parametrize("kind", ["repository", "star"])
def test_a_new_name_is_learned_from_any_event(desk: Desk, kind: str) -> None:
    renamed = Event(kind=kind, remote=remote("journal", "17"))
    desk.record(renamed)
    assert desk.remotes() is None  # nobody knows yet whose id that is
    desk.record(push())

    recorded = desk.record(renamed)

    assert (recorded.decision, recorded.reason) == (Decision.IGNORED, f"event '{kind}' is not a push")
    assert desk.names() == {"blog": ("17", "me/journal")}
    assert desk.remotes()["blog"]["urls"] == ["https://github.com/me/journal.git"]
    assert desk.remotes()["blog"]["url"] == "github.com/me/blog"


def test_the_event_that_github_sends_of_a_new_name_teaches_it(desk: Desk) -> None:
    desk.record(push())
    renamed = {"action": "renamed", "repository": {"full_name": "me/journal", "id": 17}}
    content = intake.read(GITHUB, request(json.dumps(renamed).encode(), x_github_event="repository"), [])
    desk.record(content.event)
    assert desk.names() == {"blog": ("17", "me/journal")}


def test_what_is_known_already_is_not_written_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.record(push())
    monkeypatch.setattr(desk.store, "write_note", lambda *_: pytest.fail("a note was written"))
    assert desk.wanted_by(push()) == ["blog"]
    assert desk.wanted_by(push(ref="refs/heads/next")) == []
    assert desk.wanted_by(push("blog", "")) == ["blog"]


@pytest.mark.parametrize("store", [DeafStore, DazedStore])
def test_a_store_whose_notes_cannot_be_written_or_read_loses_no_delivery(
    desk: Desk, tmp_path: Path, store: type[Store]
) -> None:
    desk.store = store(path_in(tmp_path), lambda: NOW)
    recorded = desk.record(push())
    assert (recorded.decision, recorded.jobs) == (Decision.ACCEPTED, (1,))
    assert desk.store.due() == ["blog"]
    assert desk.remotes() is None


# Checkouts that were opted in since


def test_a_checkout_that_was_opted_in_since_is_looked_for_by_a_push_that_is_for_nobody(desk: Desk) -> None:
    desk.config = desk.config._replace(roots=(Path("/srv"),))
    desk.found_on_disk = {"shop": repo("shop")}
    assert desk.wanted_by(push("shop", "18")) == ["shop"]
    assert desk.rescans == 1
    assert desk.names() == {"shop": ("18", "me/shop")}
    assert desk.wanted_by(push("shop", "18")) == ["shop"]
    assert desk.rescans == 1


def test_a_checkout_that_was_opted_in_since_may_go_by_its_id(desk: Desk) -> None:
    desk.config = desk.config._replace(roots=(Path("/srv"),))
    desk.repos = desk.found_on_disk = {"shop": repo("shop")}
    desk.record(push("shop", "18"))
    desk.repos = {}
    assert desk.wanted_by(push("store", "18")) == ["shop"]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(push(), id="a push for a repo"),
        pytest.param(push(ref="refs/heads/next"), id="a push that its repo does not want"),
        pytest.param(Event(kind="star", remote=remote("shop")), id="a star"),
        pytest.param(Event(kind="ping"), id="a ping"),
        pytest.param(images("v1"), id="an image"),
        pytest.param(push("shop")._replace(reason="a test"), id="a push that leads to nothing"),
    ],
)
def test_nothing_is_looked_for_where_that_cannot_matter(desk: Desk, event: Event) -> None:
    desk.config = desk.config._replace(roots=(Path("/srv"),))
    desk.record(event)
    assert desk.rescans == 0


def test_nothing_is_looked_for_where_there_are_no_roots(desk: Desk) -> None:
    desk.found_on_disk = {"shop": repo("shop")}
    assert desk.wanted_by(push("shop")) == []
    assert desk.rescans == 0
