"""Who takes pushes: gitopsd, and Debian's webhook (adnanh/webhook) as a peer, each with the same command to run."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.pushes import SECRET

WAIT_SEC = 120.0
_QUIET_LOOKS = 300  # a millisecond or more apart
_SETTINGS = {
    "runner": "local",
    "receivers": {"github": {"provider": "github", "secrets": ["github-webhook-secret"]}},
}
_HAND_OVER = 'exec 3<&"$1"; shift; export LISTEN_PID=$$; exec "$@"'


def wait_for(condition: Callable[[], Any], what: str, limit_sec: float = WAIT_SEC) -> float:
    """The seconds until it is true; ends the program if that never comes."""
    begin = time.perf_counter()
    while not condition():
        if time.perf_counter() - begin > limit_sec:
            sys.exit(f"bench: waited {limit_sec:g} s in vain for {what}")
        time.sleep(0.001)
    return time.perf_counter() - begin


def listener() -> socket.socket:
    """A listening socket on a free port of loopback."""
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


@dataclass
class Server:
    """A process that listens."""

    directory: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def status(self, name: str) -> int:
        """A value of /proc/PID/status in kB: VmRSS is what it takes now, VmHWM the most since `forget_peak`."""
        assert self.process
        lines = (Path("/proc") / str(self.process.pid) / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    def forget_peak(self) -> None:
        """Let VmHWM begin anew."""
        assert self.process
        (Path("/proc") / str(self.process.pid) / "clear_refs").write_text("5")

    def come_to_rest(self) -> None:
        """Wait until it has done what it was asked for, so that it takes no time from who is measured next."""
        quiet = 0

        def is_quiet() -> bool:
            nonlocal quiet
            quiet = 0 if self.is_at_work() else quiet + 1
            return quiet > _QUIET_LOOKS

        wait_for(is_quiet, f"{type(self).__name__} to come to rest")

    def is_at_work(self) -> bool:
        """Whether a program runs that it has started."""
        assert self.process
        tasks = (Path("/proc") / str(self.process.pid) / "task").glob("*/children")
        return any(children.read_text().strip() for children in tasks)

    def stop(self) -> None:
        """End it, and wait for that."""
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


@dataclass
class Gitopsd(Server):
    """Our daemon, on a socket that it inherits."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    sock: socket.socket | None = None

    @property
    def config(self) -> Path:
        return self.directory / "gitopsd.yaml"

    @property
    def store(self) -> Path:
        return self.directory / "state" / "store" / "gitopsd.sqlite3"

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "gitopsd", "--config", str(self.config), *words]

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "GITHUB_WEBHOOK_SECRET": SECRET,
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }

    def prepare(self) -> None:
        """Write its configuration, and listen."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(json.dumps({**_SETTINGS, "state_dir": str(self.directory / "state"), **self.settings}))
        self.sock = self.sock or listener()
        self.port = self.sock.getsockname()[1]

    def launch(self) -> None:
        """Start it, as a socket unit would."""
        assert self.sock
        fd = self.sock.fileno()
        self.process = subprocess.Popen(
            ["bash", "-c", _HAND_OVER, "bash", str(fd), *self.argv("serve")],
            env=self.environment() | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "webhook"},
            stdout=subprocess.DEVNULL,
            stderr=(self.directory / "log").open("ab"),
            pass_fds=[fd],
        )

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.prepare()
        self.launch()
        log = self.directory / "log"
        wait_for(lambda: b"listening on" in log.read_bytes(), f"gitopsd; see {log}")


@dataclass
class Webhook(Server):
    """adnanh/webhook: verifies the same signature, and runs `command` for each push."""

    command: str = "/bin/true"

    @staticmethod
    def is_installed() -> bool:
        return shutil.which("webhook") is not None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.directory.mkdir(parents=True, exist_ok=True)
        source = {"source": "header", "name": "X-Hub-Signature-256"}
        rule = {"match": {"type": "payload-hmac-sha256", "secret": SECRET, "parameter": source}}
        hook = {"id": "github", "execute-command": self.command, "trigger-rule": rule}
        hooks = self.directory / "hooks.json"
        hooks.write_text(json.dumps([hook]))
        with listener() as sock:
            self.port = sock.getsockname()[1]
        argv = ["webhook", "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(self.port), "-urlprefix", "hook"]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._listens, "webhook")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
