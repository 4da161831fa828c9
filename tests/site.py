"""One throw-away installation: configuration, remotes, checkouts, and the real daemon and commands on it."""

import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from gitopsd import lock
from gitopsd.store import path_in
from tests.remote import Remote

SECRET = "It's a Secret to Everybody"
WAIT_SEC = 30.0

# What systemd does between fork and exec: descriptor 3, and the number of the process that it is meant for.
_HAND_OVER = 'fd=$1; shift; [ "$fd" = 3 ] || eval "exec 3<&$fd"; LISTEN_PID=$$ exec "$@"'


def wait_for(condition: Callable[[], Any], what: str, limit_sec: float = WAIT_SEC, pause_sec: float = 0.01) -> Any:
    """What `condition` gives as soon as it is true; fails the test if that takes longer than `limit_sec`."""
    deadline = time.monotonic() + limit_sec
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {limit_sec:g} s in vain for {what}"
        time.sleep(pause_sec)
    return value


@dataclass(frozen=True)
class Answer:
    """What the daemon answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = json.loads(self.body)
        return payload


class Site:
    """All of it lies below `root`; `close` ends every process that belongs to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config_path = root / "gitopsd.yaml"
        self.state_dir = root / "state"
        self.settings: dict[str, Any] = {
            "state_dir": str(self.state_dir),
            "stop_timeout": "5s",
            "retry": {"delay": "100ms", "max_delay": "1s"},
            "repos": {},
        }
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "LANG": "C.UTF-8",
            "GITHUB_WEBHOOK_SECRET": SECRET,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self.remotes: dict[str, Remote] = {}
        self._listener: socket.socket | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self.write_config()

    # Configuration

    def write_config(self) -> None:
        self.config_path.write_text(yaml.safe_dump(self.settings))

    def add_repo(self, name: str, deploy: str | None = None, **settings: Any) -> Remote:
        """A repo with a remote of its own; `deploy` is a shell script that the remote's first commit holds."""
        remote = Remote.create(self.root / "remotes" / name)
        if deploy is not None:
            remote.push({"deploy.sh": f"#!/bin/sh\n{deploy}\n"})
            settings["deploy"] = ["./deploy.sh"]
        self.remotes[name] = remote
        self.settings["repos"][name] = {"url": remote.url, "path": str(self.checkout(name)), **settings}
        self.write_config()
        return remote

    def checkout(self, name: str) -> Path:
        return self.root / "checkouts" / name

    # The daemon

    def start(self, *, wait: bool = True) -> int:
        """Start the daemon on the inherited socket of this site; its process id."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        inherited = self._listener.fileno()
        with (self.root / "daemon.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                ["bash", "-c", _HAND_OVER, "bash", str(inherited), *self.command("serve")],
                env=self.environment | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "webhook"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[inherited],
            )
        if wait:
            wait_for(self._answers, "the daemon's first answer")
        return self._daemon.pid

    def _answers(self) -> bool:
        """The socket takes connections whether or not a daemon is there: one that died must not be waited for."""
        assert self._daemon is not None
        assert self._daemon.poll() is None, self.log()
        try:
            return self.request("GET", "/healthz", timeout_sec=1.0).status == 200
        except TimeoutError:
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the daemon and wait for its end; its exit code."""
        assert self._daemon is not None
        self._daemon.send_signal(number)
        code = self._daemon.wait(WAIT_SEC)
        self._daemon = None
        return code

    def has_ended(self) -> bool:
        """Whether the daemon, which nobody told to end, has ended."""
        assert self._daemon is not None
        return self._daemon.poll() is not None

    def wait_for_end(self) -> int:
        """Wait until the daemon ends by itself; its exit code."""
        assert self._daemon is not None
        code = self._daemon.wait(WAIT_SEC)
        self._daemon = None
        return code

    def signal(self, number: signal.Signals) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(number)

    def log(self) -> str:
        """What the daemon and its syncs have logged."""
        return (self.root / "daemon.log").read_text()

    # Requests

    def connect(self) -> socket.socket:
        """A connection to the socket, whether or not a daemon is there."""
        assert self._listener is not None
        return socket.create_connection(self._listener.getsockname(), timeout=WAIT_SEC)

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_sec: float = WAIT_SEC,
    ) -> Answer:
        assert self._listener is not None
        host, port = self._listener.getsockname()
        connection = http.client.HTTPConnection(host, port, timeout=timeout_sec)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def deliver(
        self,
        name: str,
        revision: str,
        *,
        ref: str = "refs/heads/main",
        event: str = "push",
        delivery: str | None = None,
        secret: str = SECRET,
        path: str = "/api/webhook/gitops",
        **more: Any,
    ) -> Answer:
        """A signed delivery for the remote of the repo `name`, as GitHub sends it."""
        url = self.remotes[name].url if name in self.remotes else f"https://github.com/demo/{name}.git"
        payload = {
            "ref": ref,
            "before": "0" * 40,
            "after": revision,
            "repository": {"id": zlib.crc32(name.encode()), "full_name": f"demo/{name}", "clone_url": url},
            **more,
        }
        body = json.dumps(payload).encode()
        return self.request("POST", path, body, signed_headers(body, secret=secret, event=event, delivery=delivery))

    # Commands and records

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "gitopsd", "--config", str(self.config_path), *words]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `gitopsd WORDS` to its end."""
        return subprocess.run(
            self.command(*words),
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * WAIT_SEC,
            check=False,
        )

    def json(self, *words: str) -> dict[str, Any]:
        """What `gitopsd WORDS --json` prints."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def jobs(self, name: str) -> list[dict[str, Any]]:
        """The jobs of a repo as they stand in the store, oldest first. Read directly: a loop asks often."""
        path = path_in(self.state_dir)
        if not path.exists():
            return []
        connection = sqlite3.connect(path, timeout=WAIT_SEC)
        try:
            connection.row_factory = sqlite3.Row
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs'").fetchone():
                return []  # somebody is just making it
            rows = connection.execute("SELECT * FROM jobs WHERE repo = ? ORDER BY id", (name,)).fetchall()
        finally:
            connection.close()
        return [dict(row) for row in rows]

    def wait_for_job(self, name: str, *states: str, count: int = 1) -> dict[str, Any]:
        """The last of `count` or more jobs of the repo that are in one of `states`."""

        def found() -> list[dict[str, Any]]:
            jobs = [job for job in self.jobs(name) if job["state"] in states]
            return jobs if len(jobs) >= count else []

        jobs: list[dict[str, Any]] = wait_for(found, f"{count} job(s) of {name} in {states}: {self.jobs(name)}")
        return jobs[-1]

    def wait_until_settled(self, name: str) -> None:
        """Until no job of the repo is pending or running."""
        settled = ("pending", "running")
        wait_for(lambda: not [job for job in self.jobs(name) if job["state"] in settled], f"{name} to settle")

    def deployed(self, name: str) -> str:
        """The revision that the checkout is at; "" if there is none yet."""
        head = subprocess.run(
            ["git", "-C", str(self.checkout(name)), "rev-parse", "--verify", "--quiet", "HEAD"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return head.stdout.strip()

    def processes(self) -> list[int]:
        """The processes of the daemon and of its syncs: those with this site's HOME. A test's own git is none."""
        mark, found = b"HOME=" + os.fsencode(self.root) + b"\0", []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if mark in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def kill_everything(self) -> None:
        """What a power cut does: SIGKILL to every process of this site, at once.

        They are stopped first: who is killed last must not see how the others end.
        """
        stopped: set[int] = set()
        while found := set(self.processes()) - stopped:
            _signal(found, signal.SIGSTOP)
            stopped |= found
        _signal(stopped, signal.SIGKILL)
        if self._daemon is not None:
            self._daemon.wait(WAIT_SEC)
            self._daemon = None
        wait_for(lambda: not self.processes(), "the end of all processes")

    @contextmanager
    def serving_but_not_syncing(self, name: str) -> Iterator[Self]:
        """The daemon, while somebody holds the lock of the repo; ends everything."""
        try:
            with lock.hold(self.state_dir, name):
                self.start()
                yield self
        finally:
            self.close()

    def close(self) -> None:
        self.kill_everything()
        if self._daemon is not None:
            self._daemon.wait(WAIT_SEC)
        if self._listener is not None:
            self._listener.close()


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def signed_headers(
    body: bytes, *, secret: str = SECRET, event: str = "push", delivery: str | None = None
) -> dict[str, str]:
    """The headers of a GitHub delivery of `body`."""
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
    }
