"""Signed pushes as GitHub sends them, of about 6 kB, and who sends them: wrk for load, a client of our own for time."""

import hashlib
import hmac
import itertools
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECRET = "bench-0f4d2c7e5a"  # noqa: S105 - of a daemon that lives for seconds, on loopback
HOOK = "/hook/github"
_LINKS = (
    "forks",
    "keys",
    "collaborators",
    "teams",
    "hooks",
    "issue_events",
    "events",
    "assignees",
    "branches",
    "tags",
    "blobs",
    "git_tags",
    "git_refs",
    "trees",
    "statuses",
    "languages",
    "stargazers",
    "contributors",
    "subscribers",
    "subscription",
    "commits",
    "git_commits",
    "comments",
    "issue_comment",
    "contents",
    "compare",
    "merges",
    "archive",
    "downloads",
    "issues",
    "pulls",
    "milestones",
    "notifications",
    "labels",
    "releases",
    "deployments",
)
_RESULT = re.compile(r"RESULT (\d+) (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)")
_LOAD = r"""
tag = "?" -- of the thread, which is told it
local pushes, sent = {}, 0
local threads = 0
function setup(thread) threads = threads + 1; thread:set("tag", os.time() .. "-" .. threads) end
function init()
    for line in io.lines(os.getenv("BENCH_PUSHES")) do
        local signature, body = line:match("^(%S+)\t(.*)$")
        local head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n" ..
            "X-GitHub-Event: push\r\nX-Hub-Signature-256: " .. signature .. "\r\nContent-Length: " .. #body ..
            "\r\nX-GitHub-Delivery: "
        pushes[#pushes + 1] = {head, "\r\n\r\n" .. body}
    end
end
function request()
    sent = sent + 1
    local push = pushes[sent % #pushes + 1]
    return push[1] .. tag .. "-" .. sent .. push[2]
end
function done(all, latency)
    local lost = all.errors.connect + all.errors.read + all.errors.write + all.errors.timeout
    io.write(string.format("RESULT %d %d %d %d %f %f\n", all.requests, all.duration, all.errors.status, lost,
        latency:percentile(50), latency:percentile(99)))
end
"""


def body_of(repo: str, revision: str, url: str = "") -> bytes:
    """A push of `revision` to the branch main of demo/`repo`."""
    api = f"https://api.github.com/repos/demo/{repo}"
    user = {"name": "ada", "email": "ada@example.org", "username": "ada"}
    commit = {
        "id": revision,
        "message": "Say what is new\n\nAnd why, in a few words.",
        "timestamp": "2026-11-22T10:00:00+01:00",
        "url": f"https://github.com/demo/{repo}/commit/{revision}",
        "author": user,
        "committer": user,
        "added": [f"pages/{number:03}.md" for number in range(12)],
        "removed": [],
        "modified": ["README.md", "index.md"],
    }
    repository = {
        "id": int(hashlib.sha256(repo.encode()).hexdigest()[:7], 16),
        "name": repo,
        "full_name": f"demo/{repo}",
        "private": False,
        "owner": {"login": "demo", "id": 1, "type": "Organization", "url": "https://api.github.com/users/demo"},
        "html_url": f"https://github.com/demo/{repo}",
        "clone_url": url or f"https://github.com/demo/{repo}.git",
        "ssh_url": f"git@github.com:demo/{repo}.git",
        "default_branch": "main",
        **{f"{link}_url": f"{api}/{link}{{/id}}" for link in _LINKS},
    }
    push = {
        "ref": "refs/heads/main",
        "before": "0" * 40,
        "after": revision,
        "repository": repository,
        "pusher": user,
        "sender": {"login": "ada", "id": 2, "type": "User", "url": "https://api.github.com/users/ada"},
        "forced": False,
        "compare": f"https://github.com/demo/{repo}/compare/{'0' * 12}...{revision[:12]}",
        "commits": [commit],
        "head_commit": commit,
    }
    return json.dumps(push, separators=(",", ":")).encode()


def signature_of(body: bytes, secret: str = SECRET) -> str:
    """The value of X-Hub-Signature-256."""
    return f"sha256={hmac.digest(secret.encode(), body, 'sha256').hex()}"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What wrk has seen: requests a second, answers of 400 and more, requests without one, milliseconds."""

    answered: int
    rate: float
    refused: int
    lost: int
    median_ms: float
    p99_ms: float


def load(directory: Path, port: int, bodies: Sequence[bytes], seconds: float, *, forged: bool = False) -> Load:
    """Send the bodies in turn as fast as 16 connections of wrk can."""
    script, pushes = directory / "load.lua", directory / "pushes"
    script.write_text(_LOAD)
    secret = "another" if forged else SECRET
    pushes.write_bytes(b"".join(signature_of(body, secret).encode() + b"\t" + body + b"\n" for body in bodies))
    argv = ["wrk", "-t1", "-c16", f"-d{seconds:g}s", "-s", str(script), f"http://127.0.0.1:{port}{HOOK}"]
    environment = {"PATH": os.environ["PATH"], "BENCH_PUSHES": str(pushes)}
    said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout
    found = _RESULT.search(said)
    assert found, said
    answered, micros, refused, lost = map(int, found.groups()[:4])
    return Load(
        answered=answered,
        rate=answered / (micros / 1e6),
        refused=refused,
        lost=lost,
        median_ms=float(found[5]) / 1000,
        p99_ms=float(found[6]) / 1000,
    )


_ids = itertools.count(1)
_PATIENCE_SEC = 30.0


def post(port: int, body: bytes) -> int:
    """Send a signed push on a connection of its own, as a forge does; the status of the answer."""
    return answer_to(port, request_of(body))


def request_of(body: bytes) -> bytes:
    """A signed push with an id of its own."""
    head = (
        f"POST {HOOK} HTTP/1.1",
        "Host: bench",
        "Content-Type: application/json",
        "X-GitHub-Event: push",
        f"X-GitHub-Delivery: {os.getpid()}-{time.time_ns()}-{next(_ids)}",
        f"X-Hub-Signature-256: {signature_of(body)}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def answer_to(port: int, request: bytes) -> int:
    """The status of the answer, whose first line comes as a whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_SEC) as connection:
        connection.sendall(request)
        answer = connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 "):
        raise ConnectionError(f"no answer: {answer!r}")
    return int(answer[9:12])


@dataclass(kw_only=True)
class Steady:
    """Sends so many pushes a second, each at its time and on a thread of its own whatever became of the one before."""

    port: int
    bodies: Sequence[bytes]
    rate: float
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def run(self, duration_sec: float) -> None:
        """Send for so long, and wait for all answers."""
        threads = []
        begin = time.monotonic()
        for number in range(int(duration_sec * self.rate)):
            time.sleep(max(0.0, begin + number / self.rate - time.monotonic()))
            threads.append(threading.Thread(target=self._send, args=(self.bodies[number % len(self.bodies)],)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _send(self, body: bytes) -> None:
        request = request_of(body)
        begin = time.perf_counter()
        try:
            status = answer_to(self.port, request)
        except OSError as error:
            self.faults.append(repr(error))
            return
        self.seconds.append(time.perf_counter() - begin)
        if status >= 300:
            self.faults.append(f"status {status}")


def revisions(count: int) -> Iterator[str]:
    """Made-up ones."""
    for number in range(count):
        yield hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
