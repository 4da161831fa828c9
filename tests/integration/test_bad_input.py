"""Nonsense, signed and unsigned, on every level: it is refused in order, and the daemon goes on."""

import copy
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitopsd.errors import PayloadError
from gitopsd.model import Event
from gitopsd.payload import decode
from gitopsd.providers import github
from tests.site import WAIT_SEC, Site, signed_headers

HOOK = "/api/webhook/gitops"
REVISION = "1" * 40
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
NOT_IMPLEMENTED = 501  # RFC 9112, 6.1: the answer to a transfer coding that the server does not know

PUSH: dict[str, Any] = {
    "ref": "refs/heads/main",
    "before": "0" * 40,
    "after": REVISION,
    "created": False,
    "deleted": False,
    "forced": False,
    "base_ref": None,
    "head_commit": {"id": REVISION, "message": "change"},
    "commits": [{"id": REVISION, "added": [], "modified": ["README.md"]}],
    "repository": {
        "id": 1,
        "full_name": "demo/blog",
        "clone_url": "https://github.com/demo/blog.git",
        "ssh_url": "git@github.com:demo/blog.git",
        "git_url": "git://github.com/demo/blog.git",
        "html_url": "https://github.com/demo/blog",
        "owner": {"login": "demo"},
    },
    "pusher": {"name": "demo"},
}

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1.5e308,
    10**4000,
    "",
    "\x00",
    "\ud800",
    "é\u202e\u2028",
    "x" * 5000,
    "--upload-pack=touch /tmp/x",
    "refs/heads/../../etc/passwd",
    "file:///etc/passwd",
    "://[",
    [],
    [[[["refs/heads/main"]]]],
    {},
    {"ref": "refs/heads/main"},
)

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def paths_of(value: Any, here: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON value."""
    yield here
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, inner in items:
        yield from paths_of(inner, (*here, key))


PATHS = [path for path in paths_of(PUSH) if path]


def changed(path: tuple[str | int, ...], value: Any, *, remove: bool = False) -> dict[str, Any]:
    """The push with another value, or none, in one place."""
    payload = copy.deepcopy(PUSH)
    inner: Any = payload
    for step in path[:-1]:
        inner = inner[step]
    if remove:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return payload


@st.composite
def pushes(draw: st.DrawFn) -> dict[str, Any]:
    """The push with up to three of its places changed."""
    payload = PUSH
    for _ in range(draw(st.integers(1, 3))):
        payload = payload | changed(draw(st.sampled_from(PATHS)), draw(TREES | st.sampled_from(ODD_VALUES)))
    return payload


# The parser


def parsed(body: bytes, media_type: str, event: str) -> Event | PayloadError:
    try:
        return github.parse({"X-GITHUB-EVENT": event}, decode(body, media_type))
    except PayloadError as error:
        return error


@settings(max_examples=300, deadline=None)
@given(
    body=st.binary(max_size=200) | TREES.map(lambda tree: json.dumps(tree).encode()),
    media_type=st.sampled_from([JSON, FORM]),
    event=st.sampled_from(["push", "ping", "star"]) | st.text(max_size=10),
)
@example(body=b"[" * 100_000, media_type=JSON, event="push")
@example(body=b"payload=" + b"%5b" * 100_000, media_type=FORM, event="push")
@example(body=b"9" * 10_000, media_type=JSON, event="push")
@example(body=b"&" * 10_000, media_type=FORM, event="push")
@example(body=b'"\\ud800"', media_type=JSON, event="push")
def test_whatever_arrives_is_an_event_or_an_error_in_one_line(body: bytes, media_type: str, event: str) -> None:
    assert "\n" not in str(parsed(body, media_type, event))


@settings(max_examples=300, deadline=None)
@given(payload=pushes())
def test_a_push_that_is_parsed_has_nothing_in_it_that_a_log_or_a_store_could_not_take(payload: dict[str, Any]) -> None:
    event = parsed(json.dumps(payload).encode(), JSON, "push")
    if isinstance(event, PayloadError):
        return
    assert event.remote is not None
    texts = (event.remote.full_name, *event.remote.urls, *(update.ref for update in event.updates))
    for text in texts:
        text.encode()
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text)
        assert len(text) <= 4096
    for update in event.updates:
        assert update.ref.startswith("refs/")
        assert update.revision is None or re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", update.revision)


# The daemon


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daemon whose one repo is locked: nothing is synced."""
    host = Site(tmp_path_factory.mktemp("bad-input"))
    host.settings["max_body"] = "1M"
    host.add_repo("blog")
    with host.serving_but_not_syncing("blog"):
        yield host


@contextmanager
def unharmed(host: Site) -> Iterator[None]:
    """Within the block the daemon meets no fault, and afterwards it takes a real delivery."""
    before = len(host.log())
    yield
    assert host.deliver("blog", REVISION).status == 202
    said = host.log()[before:]
    for word in ("Traceback", "exception", " fault", ".py", "error: "):
        assert word not in said


def post_signed(host: Site, body: bytes, media_type: str = JSON, **more: str) -> int:
    """The status of an authentic delivery; whatever the answer says, it says nothing of the inside."""
    answer = host.request("POST", HOOK, body, signed_headers(body) | {"Content-Type": media_type} | more)
    assert b".py" not in answer.body
    assert b"Traceback" not in answer.body
    return answer.status


def test_a_push_with_anything_in_any_place_is_accepted_ignored_or_400(host: Site) -> None:
    with unharmed(host):
        for path in PATHS:
            bodies = [changed(path, None, remove=True), *(changed(path, value) for value in ODD_VALUES)]
            seen = {post_signed(host, json.dumps(payload).encode()) for payload in bodies}
            assert seen <= {200, 202, 400}, path


def test_signed_nonsense_is_400(host: Site) -> None:
    bodies = {
        b"": JSON,
        b"\x00\xff\xfe": JSON,
        b"null": JSON,
        b"[" * 200_000: JSON,
        b'{"a":' * 200_000: JSON,
        b"9" * 500_000: JSON,
        b'{"ref": "\\ud800"}': JSON,
        b'{"ref": "\xed\xa0\x80"}': JSON,
        b"\xef\xbb\xbf{}": JSON,
        json.dumps(PUSH).encode("utf-16"): JSON,
        json.dumps(PUSH).encode(): FORM,
        urlencode({"payload": "[" * 100_000}).encode(): FORM,
        b"payload=%ff%fe": FORM,
        b"a=1&" * 100_000: FORM,
        b"%" * 1000: FORM,
    }
    with unharmed(host):
        for body, media_type in bodies.items():
            assert post_signed(host, body, media_type) == 400, body[:20]


@settings(max_examples=60, deadline=None)
@given(payload=pushes() | TREES, form=st.booleans(), event=st.sampled_from(["push", "ping", "x" * 64, "", "é", "a b"]))
def test_authentic_deliveries_of_any_shape_are_never_a_fault_of_ours(
    host: Site, payload: Any, form: bool, event: str
) -> None:
    text = json.dumps(payload)
    body = urlencode({"payload": text}).encode() if form else text.encode()
    with unharmed(host):
        status = post_signed(host, body, FORM if form else JSON, **{"X-GitHub-Event": event})
    assert status in (200, 202, 400)


def exchange(host: Site, request: bytes, *, hang_up: bool) -> bytes:
    """What the daemon says until it closes the connection, or cuts it off."""
    assert host._listener is not None
    said = b""
    with socket.create_connection(host._listener.getsockname(), WAIT_SEC) as client, suppress(ConnectionError):
        client.sendall(request)
        if hang_up:
            client.shutdown(socket.SHUT_WR)
        while chunk := client.recv(65536):
            said += chunk
    return said


def statuses(said: bytes) -> list[int]:
    assert b"Traceback" not in said
    assert b".py" not in said
    return [int(status) for status in re.findall(rb"(?:^|[^\r\n])HTTP/1\.[01] (\d{3}) ", said)]


@settings(max_examples=80, deadline=None)
@given(
    start=st.sampled_from(
        [b"", b"POST ", b"POST /hook/default HTTP/1.1\r\n", b"POST /hook/default HTTP/1.1\r\nA: b\r\n"]
    ),
    middle=st.binary(max_size=60) | st.text("\r\n: \t,;=\x00aA1_-é", max_size=60).map(str.encode),
    end=st.sampled_from(
        [b"", b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc", b"\r\nTransfer-Encoding: chunked\r\n\r\n"]
    ),
)
def test_random_bytes_on_the_socket_are_never_a_fault_of_ours(
    host: Site, start: bytes, middle: bytes, end: bytes
) -> None:
    with unharmed(host):
        seen = statuses(exchange(host, start + middle + end, hang_up=True))
    assert all(status < 500 or status == NOT_IMPLEMENTED for status in seen)


def head(*lines: bytes, start: bytes = b"POST /api/webhook/gitops HTTP/1.1") -> bytes:
    return b"\r\n".join((start, b"Connection: close", b"Content-Type: application/json", *lines, b"", b""))


BODY = json.dumps(PUSH).encode()
SIGNATURE = signed_headers(BODY)["X-Hub-Signature-256"].encode()
SIGNED = b"X-GitHub-Event: push\r\nX-Hub-Signature-256: " + SIGNATURE
LENGTH = f"Content-Length: {len(BODY)}".encode()
CHUNKS = f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        pytest.param(head(b"Content-Length: 2") + b"{}", [401], id="no host"),
        pytest.param(head(b"Host: a", b"Host: b", b"Content-Length: 2") + b"{}", [401], id="two hosts"),
        pytest.param(head(*[b"A: b"] * 100_000), [431], id="100,000 headers"),
        pytest.param(head(b"A: " + b"b" * 300_000), [431], id="a long header"),
        pytest.param(
            head(b"X-Hub-Signature-256: \xff\xfe", b"Content-Length: 2") + b"{}", [401], id="signature not ASCII"
        ),
        pytest.param(head(SIGNED, LENGTH, b"X-GitHub-Delivery: \xe9") + BODY, [200], id="delivery id not ASCII"),
        pytest.param(head(SIGNED, LENGTH, b"X-GitHub-Event: \xe9") + BODY, [400], id="event not ASCII"),
        pytest.param(head(b"\xe9: 1"), [400], id="header name not ASCII"),
        pytest.param(head(b"no colon"), [400], id="no colon"),
        pytest.param(head(b"A: b\x00c"), [400], id="nul in a header"),
        pytest.param(head(b"A: b\nContent-Length: 5"), [400], id="bare line feed"),
        pytest.param(head(b"A : b"), [400], id="space before the colon"),
        pytest.param(head(SIGNED.replace(b"-", b"_"), LENGTH) + BODY, [401], id="underscores"),
        pytest.param(head(SIGNED, LENGTH, b"X-Hub-Signature-256: " + SIGNATURE) + BODY, [401], id="doubled signature"),
        pytest.param(head(SIGNED + b"\r\n  ", LENGTH) + BODY, [200, 401], id="folded header"),
        pytest.param(head(b"Content-Length: -1"), [400], id="negative length"),
        pytest.param(head(b"Content-Length: +2") + b"{}", [400], id="signed length"),
        pytest.param(head(b"Content-Length: 0x2") + b"{}", [400], id="hexadecimal length"),
        pytest.param(head(b"Content-Length: 2, 2") + b"{}", [400], id="list of lengths"),
        pytest.param(head(b"Content-Length: 2", b"Content-Length: 3") + b"{}", [400], id="two lengths"),
        pytest.param(head(SIGNED, b"Content-Length: 2") + BODY, [401], id="length too short"),
        pytest.param(head(SIGNED, b"Transfer-Encoding: chunked") + CHUNKS, [200], id="chunked"),
        pytest.param(head(SIGNED, b"Transfer-Encoding: chunked") + b"zz\r\n{}", [400], id="chunk size is no number"),
        pytest.param(head(SIGNED, b"Transfer-Encoding: chunked") + b"-2\r\n{}", [400], id="negative chunk"),
        pytest.param(head(SIGNED, b"Transfer-Encoding: chunked") + b"2\r\n{}}}}", [400], id="chunk too long"),
        pytest.param(head(SIGNED, b"Transfer-Encoding: chunked") + b"f" * 5000 + b"\r\n", None, id="huge chunk"),
        pytest.param(head(SIGNED, b"Transfer-Encoding: gzip, chunked") + CHUNKS, [501], id="another coding"),
        pytest.param(head(SIGNED, b"Transfer-Encoding: xchunked") + CHUNKS, [501], id="almost chunked"),
        pytest.param(head(SIGNED, b"Transfer-Encoding:\x0bchunked") + CHUNKS, [400, 501], id="a tab that is none"),
        pytest.param(head(b"Content-Encoding: gzip", SIGNED, LENGTH) + BODY, [200], id="an encoding that is not so"),
        pytest.param(head(start=b"POST /\xff HTTP/1.1"), [400], id="path not ASCII"),
        pytest.param(head(start=b"POST /hook/%ff%00%0d%0a HTTP/1.1"), [401], id="odd receiver"),
        pytest.param(head(start=b"POST http://example.org/hook/default HTTP/1.1"), [401], id="absolute target"),
        pytest.param(head(start=b"POST * HTTP/1.1"), [404], id="star"),
        pytest.param(head(start=b"CONNECT example.org:443 HTTP/1.1"), [400, 404, 405], id="connect"),
        pytest.param(head(start=b"post /hook/default HTTP/1.1"), [400], id="lower-case method"),
        pytest.param(head(start=b"BREW /hook/default HTTP/1.1"), [400], id="unknown method"),
        pytest.param(head(start=b"POST /hook/default HTTP/9.9"), [401], id="unknown version"),
        pytest.param(head(start=b"PRI * HTTP/2.0") + b"SM\r\n\r\n", [400, 404], id="HTTP 2"),
        pytest.param(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500 + b"\r\n\r\n", [400, 404], id="TLS"
        ),
        pytest.param(b"GET /healthz\r\n\r\n", [200, 400], id="HTTP 0.9"),
    ],
)
def test_malformed_requests_are_refused_in_order(host: Site, request_bytes: bytes, expected: list[int] | None) -> None:
    # Delivered before, so that a variant that is authentic counts as a duplicate.
    assert host.request("POST", HOOK, BODY, signed_headers(BODY) | {"X-GitHub-Delivery": ""}).status in (200, 202)
    with unharmed(host):
        said = exchange(host, request_bytes, hang_up=expected is None)
    seen = statuses(said)
    assert seen == [] if expected is None else (len(seen) == 1 and seen[0] in expected)


SMUGGLED = (
    b"POST /api/webhook/gitops HTTP/1.1\r\n" + SIGNED + b"\r\nX-GitHub-Delivery: smuggled\r\nContent-Length: 0\r\n\r\n"
)


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(
            head(b"Content-Length: 4", b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED, id="length and chunks"
        ),
        pytest.param(
            head(b"Transfer-Encoding: chunked", start=b"POST /hook/default HTTP/1.0") + b"0\r\n\r\n" + SMUGGLED,
            id="chunks before they were known",
        ),
        pytest.param(head(b"Content-Length: 0") + SMUGGLED, id="two requests"),
        pytest.param(head(b"Content-Length: 2") + b"{}" + SMUGGLED * 50, id="many requests"),
        pytest.param(head(b"Transfer-Encoding: chunked") + b"0;a=\r\nb\r\n\r\n" + SMUGGLED, id="chunk extension"),
        pytest.param(head(b"Transfer-Encoding: chunked") + b"0\r\nX-Hub-Signature-256: a\r\n\r\n", id="trailer"),
    ],
)
def test_a_request_hidden_in_another_needs_a_signature_of_its_own(host: Site, request_bytes: bytes) -> None:
    with unharmed(host):
        seen = statuses(exchange(host, request_bytes, hang_up=False))
    assert set(seen) <= {400, 401}
    assert "smuggled" not in host.log()


def test_a_sender_that_stops_half_way_keeps_nobody_waiting(host: Site) -> None:
    with unharmed(host):
        for part in (b"", b"PO", head(SIGNED, LENGTH)[:-2], head(SIGNED, LENGTH), head(SIGNED, LENGTH) + BODY[:-1]):
            assert exchange(host, part, hang_up=True) == b""
    assert not [job for job in host.jobs("blog") if job["state"] != "pending"]
