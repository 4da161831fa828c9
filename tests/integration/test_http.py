"""The HTTP contract, row by row, against the real daemon."""

import hashlib
import hmac
import http.client
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.site import SECRET, WAIT_SEC, Answer, Site, signed_headers, wait_for

HOOK = "/api/webhook/gitops"
LIMIT = 64 * 1024
REVISION = "1" * 40
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daemon with four receivers, two of them without a usable secret. Its one repo is locked: nothing is synced."""
    host = Site(tmp_path_factory.mktemp("http"))
    receivers = {
        "default": ["github-webhook-secret", "next-secret"],
        "missing": ["missing-secret"],
        "empty": ["empty-secret"],
    }
    host.settings["max_body"] = "64K"
    host.settings["receivers"] = {
        name: {"provider": "github", "secrets": secrets} for name, secrets in receivers.items()
    }
    host.environment |= {"EMPTY_SECRET": "", "NEXT_SECRET": "next"}
    host.add_repo("blog")
    with host.serving_but_not_syncing("blog"):
        yield host


def push(site: Site, **changes: Any) -> dict[str, Any]:
    repository = {"full_name": "demo/blog", "clone_url": site.remotes["blog"].url}
    return {"ref": "refs/heads/main", "after": REVISION, "repository": repository} | changes


def sign(body: bytes, key: str = SECRET, algorithm: str = "sha256") -> str:
    return f"{algorithm}={hmac.new(key.encode(), body, algorithm).hexdigest()}"


def exchange(site: Site, request: bytes) -> bytes:
    """Everything that the daemon says to these bytes until it closes the connection."""
    assert site._listener is not None
    return talk(socket.AF_INET, site._listener.getsockname(), request)


def talk(family: int, address: Any, request: bytes) -> bytes:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(WAIT_SEC)
        client.connect(address)
        client.sendall(request)
        chunks = []
        while chunk := client.recv(65536):
            chunks.append(chunk)
        return b"".join(chunks)


def post(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: example.org", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


# 202 and 200


@pytest.mark.parametrize(("key", "delivery"), [(SECRET, "by-the-first"), ("next", "by-the-second")])
def test_a_push_is_accepted_by_either_of_two_secrets(host: Site, key: str, delivery: str) -> None:
    answer = host.deliver("blog", REVISION, delivery=delivery, secret=key)
    (job,) = host.jobs("blog")
    assert answer.status == 202
    assert answer.payload == {"delivery": delivery, "jobs": [{"id": job["id"], "repo": "blog"}]}
    assert job["state"] == "pending"


def test_the_signature_of_a_form_is_that_of_the_raw_form(host: Site) -> None:
    text = json.dumps(push(host))
    form = urlencode({"payload": text}).encode()
    headers = signed_headers(form) | {"Content-Type": "application/x-www-form-urlencoded"}
    assert host.request("POST", HOOK, form, headers).status == 202
    of_the_inner = headers | {"X-Hub-Signature-256": sign(text.encode())}
    assert host.request("POST", HOOK, form, of_the_inner).status == 401


@pytest.mark.parametrize(
    ("event", "changes", "reason"),
    [
        pytest.param("ping", {}, "ping: the webhook works", id="ping"),
        pytest.param("ping", {"repository": None, "ref": None}, "ping: the webhook works", id="organisation's ping"),
        pytest.param("star", {}, "event 'star' is not a push", id="other event"),
        pytest.param("create", {"ref": "v1", "ref_type": "tag"}, "event 'create' is not a push", id="short ref"),
        pytest.param(
            "push", {"ref": "refs/heads/next"}, "blog: follows refs/heads/main, not refs/heads/next", id="other ref"
        ),
        pytest.param(
            "push", {"ref": "refs/heads/x/main"}, "blog: follows refs/heads/main, not refs/heads/x/main", id="same end"
        ),
        pytest.param("push", {"ref": "refs/tags/main"}, "blog: follows refs/heads/main, not refs/tags/main", id="tag"),
        pytest.param(
            "push",
            {"after": "0" * 40, "deleted": True},
            "blog: refs/heads/main was deleted; the checkout stays as it is",
            id="deleted branch",
        ),
        pytest.param(
            "push", {"repository": {"full_name": "demo/x"}}, "no repo is configured for demo/x", id="unknown repo"
        ),
    ],
)
def test_an_authentic_delivery_with_nothing_to_do_is_told_why(
    host: Site, event: str, changes: dict[str, Any], reason: str
) -> None:
    before = host.jobs("blog")
    body = json.dumps(push(host, **changes)).encode()
    answer = host.request("POST", HOOK, body, signed_headers(body, event=event, delivery=f"nothing-{reason[:5]}"))
    assert (answer.status, answer.payload["reason"]) == (200, reason)
    assert host.jobs("blog") == before


def test_a_delivery_that_comes_twice_is_accepted_once(host: Site) -> None:
    assert host.deliver("blog", REVISION, delivery="twice").status == 202
    again = host.deliver("blog", REVISION, delivery="twice")
    (job,) = host.jobs("blog")
    assert (again.status, again.payload["reason"]) == (200, f"accepted before, as job {job['id']}")


# 401


def test_every_refusal_looks_the_same_byte_for_byte(host: Site) -> None:
    body = json.dumps(push(host)).encode()
    good = sign(body)
    signatures: list[dict[str, str]] = [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature-256": sign(body, "wrong")},
        {"X-Hub-Signature-256": sign(body + b" ")},
        {"X-Hub-Signature-256": f"{good}, {good}"},
        {"X-Hub-Signature-256": good.upper()},
        {"X-Hub-Signature-256": good[:-1]},
        {"X-Hub-Signature": sign(body, algorithm="sha1")},
    ]
    requests = [post(HOOK, body, JSON | headers) for headers in signatures]
    for path in ("/hook/unheard-of", "/hook/missing", "/hook/empty", "/hook/", "/hook/%00", "/hook/(unknown)"):
        signed = [{"X-Hub-Signature-256": sign(body, key)} for key in (SECRET, "", "next")]
        requests += [post(path, body, JSON | headers) for headers in ({}, *signed)]
    requests.append(post(HOOK, body, JSON | {"X-Hub-Signature-256": sign(body, "")}))
    requests.append(post("/hook/default", b"", JSON))

    answers = {re.sub(rb"\r\nDate: [^\r]*", b"", exchange(host, request)) for request in requests}

    (answer,) = answers
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.endswith(b'\r\n\r\n{"error": "unauthorized"}')


def test_a_refused_delivery_may_come_again_with_the_right_signature(host: Site) -> None:
    assert host.deliver("blog", REVISION, delivery="again", secret="wrong").status == 401
    assert host.deliver("blog", REVISION, delivery="again").status == 202


def test_why_a_delivery_was_refused_is_in_the_log_only(host: Site) -> None:
    host.request("POST", HOOK, b"{}", JSON | {"X-Hub-Signature-256": "md5=1"})
    assert "receiver 'default': refused a delivery: header X-Hub-Signature-256 is not 'sha256='" in host.log()


# 400, 404, 405, 413, 415


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"nonsense", "body is not JSON in UTF-8"),
        (b"[1]", "body is not a JSON object"),
        (b"[" * 50_000, "body is nested too deeply"),
        (b'{"ref": "refs/heads/main"}', "'repository' is not an object"),
        (b'{"ref": 1, "repository": {"full_name": "a/b"}}', "'ref' is not a text"),
    ],
)
def test_an_authentic_body_that_github_does_not_send_is_told_what_is_wrong(host: Site, body: bytes, said: str) -> None:
    answer = host.request("POST", HOOK, body, signed_headers(body))
    assert (answer.status, answer.payload) == (400, {"error": said})


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", HOOK, 405, "POST"),
        ("PUT", "/hook/default", 405, "POST"),
        ("DELETE", "/hook/unheard-of", 405, "POST"),
        ("POST", "/healthz", 405, "GET"),
        ("POST", "/readyz", 405, "GET"),
        ("POST", "/", 404, None),
        ("POST", "/hook/default/more/more", 404, None),
        ("GET", "/etc/passwd", 404, None),
    ],
)
def test_a_wrong_method_or_path_is_told_so(
    host: Site, method: str, path: str, status: int, allowed: str | None
) -> None:
    answer = host.request(method, path, b"", JSON)
    assert answer.status == status
    assert answer.headers.get("Allow", "").split(", ")[0] == (allowed or "")


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/xml", "multipart/form-data; boundary=x"])
def test_another_media_type_is_turned_away(host: Site, media_type: str | None) -> None:
    headers = {name: value for name, value in signed_headers(b"{}").items() if name != "Content-Type"}
    answer = host.request("POST", HOOK, b"{}", headers | ({"Content-Type": media_type} if media_type else {}))
    assert answer.status == 415


def test_a_body_over_the_cap_is_refused_before_it_is_sent(host: Site) -> None:
    head = post(HOOK, b"", JSON)
    answer = exchange(host, head.replace(b"Content-Length: 0", f"Content-Length: {LIMIT + 1}".encode()))
    assert answer.startswith(b"HTTP/1.1 413 ")
    huge = exchange(host, head.replace(b"Content-Length: 0", b"Content-Length: 9999999999999999999"))
    assert huge.startswith(b"HTTP/1.1 413 ")


def test_a_body_as_large_as_the_cap_is_read(host: Site) -> None:
    body = json.dumps(push(host)).encode().ljust(LIMIT)
    assert host.request("POST", HOOK, body, signed_headers(body)).status == 202
    assert host.request("POST", HOOK, body + b" ", signed_headers(body + b" ")).status == 413


def test_a_chunked_body_is_read_up_to_the_cap(host: Site) -> None:
    def chunked(body: bytes, *, last: bytes = b"0\r\n\r\n") -> bytes:
        head = post(HOOK, b"", signed_headers(body)).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        pieces = [body[start : start + 4096] for start in range(0, len(body), 4096)]
        return head + b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + last

    body = json.dumps(push(host)).encode()
    assert exchange(host, chunked(body.ljust(LIMIT // 2))).startswith(b"HTTP/1.1 202 ")
    assert exchange(host, chunked(body.ljust(LIMIT + 4096), last=b"")).startswith(b"HTTP/1.1 413 ")


def test_no_answer_sends_the_provider_elsewhere_or_away(host: Site) -> None:
    for path in ("", "/", "/hook", "/hook/", "/api/webhook/gitops/", "//hook/default", "/hook/..", "/HOOK/default"):
        answer = exchange(host, post(path or "/", b"{}", signed_headers(b"{}")))
        status = int(answer.split(b" ", 2)[1])
        assert status in (400, 401, 404)


# Health, and what is closed


def test_a_ready_daemon_says_so(site: Site) -> None:
    site.start()
    assert (site.get("/healthz").status, site.get("/healthz").payload) == (200, {"status": "ok"})
    assert (site.get("/readyz").status, site.get("/readyz").payload) == (200, {"status": "ready"})


def test_receivers_without_a_usable_secret_are_named_wherever_a_person_looks(host: Site) -> None:
    ready = host.get("/readyz")
    assert ready.status == 503
    assert int(ready.headers["Retry-After"]) > 0
    for seen in (ready.payload["error"], host.log(), host.run("status").stdout, host.run("check", "--offline").stdout):
        assert "secret 'missing-secret' is missing" in seen
        assert "secret 'empty-secret' is empty" in seen
    assert host.get("/healthz").status == 200


def test_a_broken_configuration_is_503_for_everybody_and_a_redelivery_works_once_it_is_mended(site: Site) -> None:
    site.add_repo("blog")
    good = site.config_path.read_text()
    site.config_path.write_text("repos: [")
    site.start()

    turned_away = site.deliver("blog", REVISION, delivery="one")
    unsigned = site.request("POST", HOOK, b"{}", JSON)
    assert turned_away.status == unsigned.status == 503
    assert int(turned_away.headers["Retry-After"]) > 0
    assert turned_away.body == unsigned.body
    assert site.get("/readyz").status == 503

    site.config_path.write_text(good)
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.get("/readyz").status == 200, "the new configuration")
    assert site.deliver("blog", REVISION, delivery="one").status == 202


# Sockets


@contextmanager
def listening(site: Site, address: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that opens its socket itself; ends by SIGTERM."""
    with (site.root / "daemon.log").open("ab") as log:
        daemon = subprocess.Popen(
            site.command("serve", "--listen", address),
            env=site.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: "listening on" in site.log() or daemon.poll() is not None, "the daemon")
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait(WAIT_SEC)


def test_it_listens_where_it_is_told_to(site: Site) -> None:
    with listening(site, "127.0.0.1:0") as daemon:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", site.log())
        assert found
        connection = http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=WAIT_SEC)
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        assert (response.status, response.getheader("Location")) == (200, None)
        connection.close()
        daemon.terminate()
        assert daemon.wait(WAIT_SEC) == 0


def test_it_listens_on_a_unix_socket_and_takes_it_away_at_its_end(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "hook.sock"
    site.add_repo("blog")
    body = json.dumps(push(site)).encode()
    with listening(site, f"unix:{path}") as daemon:
        answer = talk(socket.AF_UNIX, str(path), post(HOOK, body, signed_headers(body)))
        assert answer.startswith(b"HTTP/1.1 202 ")
        daemon.terminate()
        assert daemon.wait(WAIT_SEC) == 0
    assert not path.exists()


def test_a_unix_socket_that_a_killed_daemon_left_is_taken_over_and_a_living_one_is_not(
    site: Site, tmp_path: Path
) -> None:
    path = tmp_path / "hook.sock"
    with listening(site, f"unix:{path}") as daemon:
        daemon.kill()
        daemon.wait(WAIT_SEC)
    assert path.exists()
    (site.root / "daemon.log").unlink()
    with listening(site, f"unix:{path}"):
        second = site.run("serve", "--listen", f"unix:{path}")
        assert (second.returncode, second.stderr.count("\n")) == (2, 1)
        assert "Address already in use" in second.stderr
        assert talk(socket.AF_UNIX, str(path), b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")


def test_without_a_socket_it_says_so_in_one_line(site: Site) -> None:
    done = site.run("serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: no socket was handed over; give --listen HOST:PORT, or start this by a systemd socket unit\n"
    )


@pytest.mark.parametrize(
    "address",
    [
        "nonsense",
        ":8085",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:-1",
        "203.0.113.1:99999",
        "127.0.0.1:²",
        "203.0.113.1:8085",
        "unix:",
        "unix:/nonexistent/socket",
        f"unix:/tmp/{'a' * 200}",
    ],
)
def test_an_address_that_cannot_be_listened_on_is_named_in_one_line(site: Site, address: str) -> None:
    done = site.run("serve", "--listen", address)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: --listen {address}: ")
    assert "requested address" not in done.stderr or "99999" not in address


def test_a_socket_that_was_handed_over_goes_before_and_nothing_else_is_touched(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("not ours")
    inherited = socket.create_server(("127.0.0.1", 0))
    with inherited, (site.root / "daemon.log").open("ab") as log:
        fd = inherited.fileno()
        hand_over = f'eval "exec 3<&{fd}"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        daemon = subprocess.Popen(
            ["bash", "-c", hand_over, "bash", *site.command("serve", "--listen", f"unix:{path}")],
            env=site.environment,
            stdout=log,
            stderr=log,
            pass_fds=[fd],
        )
        try:
            answer = talk(socket.AF_INET, inherited.getsockname(), b"GET /healthz HTTP/1.0\r\n\r\n")
        finally:
            daemon.terminate()
            daemon.wait(WAIT_SEC)
    assert answer.startswith(b"HTTP/1.0 200 ")
    assert path.read_text() == "not ours"


# Signals


def test_a_reload_takes_the_new_configuration_or_keeps_the_old(site: Site) -> None:
    site.add_repo("blog")
    site.settings["max_body"] = "1K"
    site.write_config()
    site.start()
    body = json.dumps(push(site)).encode().ljust(2048)

    def answer() -> Answer:
        return site.request("POST", HOOK, body, signed_headers(body))

    assert answer().status == 413
    site.settings["max_body"] = "2K"
    site.write_config()
    site.signal(signal.SIGHUP)
    wait_for(lambda: answer().status != 413, "the larger cap")

    site.config_path.write_text("max_body: lots\nretries: 3\n")
    site.signal(signal.SIGHUP)
    wait_for(lambda: "stays in force" in site.log(), "the complaint")
    assert f"{site.config_path}:1: max_body: " in site.log()
    assert f"{site.config_path}:2: retries: unknown key" in site.log()
    assert answer().status in (200, 202)


def test_a_secret_that_is_changed_on_disk_counts_after_a_reload(site: Site, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "github-webhook-secret").write_text("old\n")
    site.environment |= {"CREDENTIALS_DIRECTORY": str(credentials)}
    site.add_repo("blog")
    site.start()
    # The file comes before the environment, and its line end does not count.
    assert [site.deliver("blog", REVISION, secret=key).status for key in ("old", SECRET, "new")] == [202, 401, 401]

    (credentials / "github-webhook-secret").write_text("new")
    site.signal(signal.SIGHUP)

    wait_for(lambda: site.deliver("blog", REVISION, secret="new").status == 202, "the new secret")
    assert site.deliver("blog", REVISION, secret="old").status == 401


def test_a_daemon_that_is_told_to_end_finishes_the_delivery_in_flight(site: Site) -> None:
    site.add_repo("blog")
    site.start()
    assert site._listener is not None
    body = json.dumps(push(site)).encode()
    head, _, _ = post(HOOK, body, signed_headers(body, delivery="last") | {"Expect": "100-continue"}).partition(body)
    with socket.create_connection(site._listener.getsockname(), WAIT_SEC) as client:
        client.sendall(head)
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")  # so it waits for the body
        site.signal(signal.SIGTERM)
        wait_for(lambda: "info: stopping" in site.log(), "the daemon to stop")
        client.sendall(body)
        answer = client.makefile("rb").read()
    assert site.wait_for_end() == 0
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert [job["delivery"] for job in site.jobs("blog")] == ["last"]
    assert hashlib.sha256(body).hexdigest() not in answer.decode()
