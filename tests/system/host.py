"""A throw-away Debian host with a systemd of its own, booted from a root tree of the cache."""

import base64
import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.remote import git_environment
from tests.site import SECRET, WAIT_SEC, signed_headers
from tests.site import wait_for as _wait_for

BOOT_SEC = 60.0
WEBHOOK = "/api/webhook/gitops"
CONFIG = "/etc/gitopsd/gitopsd.yaml"
SECRET_FILE = "/etc/gitopsd/secrets/github-webhook-secret"

_TOOLS = ("systemd-nspawn", "mmdebstrap", "nsenter", "unshare", "setpriv")
_PAUSE_SEC = 0.1  # to look is a command in the host, and takes its time from what is waited for
_CHECKOUT = Path(__file__).parents[2]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Whatever happens to this process, what it started ends, and its mounts with it: they are in a namespace of its own.
_ALONE = [
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
]

# $1 the tree, $2 the host's place, $3 its control group, then the command.
#
# What nspawn leaves below /run vanishes with it. The control group: every mount of cgroup2 shows the same hierarchy,
# and two systemds must not meet there. nspawn makes it the root of all that the host sees.
_SET_UP = """
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/merged"
mount -t tmpfs -o mode=755 tmpfs /run
umount --recursive /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$3"
echo $$ >"/sys/fs/cgroup/$3/cgroup.procs"
shift 3
exec "$@"
"""

# $1 the control group. Whoever is still in it dies, which may take a moment: until then this fails.
_REMOVE_GROUP = """
umount --recursive /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cd "/sys/fs/cgroup/$1" 2>/dev/null || exit 0
echo 1 >cgroup.kill
cd /
find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +
"""

# What scripts/install.sh left where tests change things.
_INSTALLED = ["etc/gitopsd", "etc/systemd/system"]
_SNAPSHOT = "/root/as-installed.tar"

# Kills first: nobody is to wait for the end of a sync that a test has left hanging.
_RESET = f"""
units() {{ systemctl "$@" 'gitopsd*.socket' 'gitopsd*.timer' 'gitopsd*.path' 'gitopsd*.service' 'gitopsd*.slice'; }}
systemctl stop 'gitopsd*.socket' 'gitopsd*.timer' 'gitopsd*.path'
systemctl kill --signal=KILL 'gitopsd*.service' 2>/dev/null || true
units stop
findmnt --raw --noheadings --output TARGET | grep -E '^/(srv|var/lib/gitopsd|var/lib/private/gitopsd|etc/gitopsd)' |
    sort --reverse | xargs --no-run-if-empty umount --lazy
rm -rf /etc/gitopsd/* /srv/* /var/lib/gitopsd* /var/lib/private/gitopsd* /run/gitopsd* /etc/gitconfig
rm -rf /run/systemd/system/gitopsd* /run/systemd/system.control/gitopsd* /etc/systemd/system.control/gitopsd*
if [ -e {_SNAPSHOT} ]; then
    rm -rf /etc/systemd/system/*
    tar -C / -xf {_SNAPSHOT}
else
    rm -rf /etc/systemd/system/gitopsd*
fi
systemctl daemon-reload
units reset-failed 2>/dev/null || true
systemctl reset-failed
systemd-tmpfiles --create 2>/dev/null || true
journalctl --sync
date +@%s.%6N
"""

# $1 the name. By path, and of another owner than who fetches: git wants to be told that this is meant.
_ADD_REMOTE = """
mkdir -p /srv/remotes
cd /srv/remotes
git init --quiet --bare --template= --initial-branch=main "$1.git"
git init --quiet --template= --initial-branch=main "$1.work"
git config --file /etc/gitconfig --add safe.directory "/srv/remotes/$1.git"
"""
_PUSH = """
cd "/srv/remotes/$1.work"
git add --force --all
git commit --quiet --message change
git push --quiet --force "/srv/remotes/$1.git" HEAD:refs/heads/main
git rev-parse HEAD
"""


@dataclass(frozen=True)
class Request:
    """What the client inside the host is to send; `delay` and `timeout` are in seconds."""

    method: str
    path: str
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    timeout: float = WAIT_SEC


@dataclass(frozen=True)
class Answer:
    """What the daemon answered; status 0 and the error if it did not."""

    status: int
    headers: Mapping[str, str]
    body: str
    seconds: float
    error: str

    @property
    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = json.loads(self.body)
        return payload


class Inside(subprocess.Popen[str]):
    """A process in a host, with pipes. Signals reach the command itself, not the nsenter that waits for it."""

    def __init__(self, argv: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        super().__init__(argv, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace")

    def send_signal(self, sig: int) -> None:
        _wait_for(lambda: self.poll() is not None or _children(self.pid), "a command to begin")
        for pid in [] if self.returncode is not None else _children(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)

    def end(self) -> None:
        """Kill it, if it still runs, and give back its pipes. What it has started itself is left alone."""
        self.kill()
        self.wait()
        for pipe in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


class Host:
    """A booted root tree with a disk of its own on top; `close` ends every process of it and removes the disk."""

    def __init__(self, root: Path, place: Path, name: str) -> None:
        self.root = root
        self.place = place
        self.name = name
        self._group = f"gitopsd-test-{uuid.uuid4().hex}"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._processes: list[Inside] = []
        self._since = "@0"
        for part in ("upper", "work", "merged"):
            (place / part).mkdir(parents=True)
            (place / part).chmod(0o755)  # the upper one's mode is that of the host's /

    # Power

    def boot(self) -> None:
        """Switch it on and wait until it is up."""
        self.power_on()
        self.wait_until_up()

    def power_on(self) -> None:
        """Begin to boot. A thread that calls this has to live as long as the host: the host ends with it."""
        assert self._nspawn is None, f"{self.name} runs already"
        nspawn = [
            *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--private-network"),
            *("--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off"),
            *(f"--machine={self.name}", f"--directory={self.place / 'merged'}"),
        ]
        with self._console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                [*_ALONE, *self._set_up(*nspawn)],
                env={"PATH": _PATH},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # an interrupt at the terminal is ours to handle
            )

    def wait_until_up(self) -> None:
        self._init = self.wait_for(self._find_init, "process 1", BOOT_SEC)
        self.wait_for(self._is_up, "the end of the boot", BOOT_SEC)

    def power_cut(self) -> None:
        """Everything in it is dead at once, and its disk is as it was at that moment. `boot` boots it again."""
        assert self._nspawn is not None, f"{self.name} is off"
        if self._nspawn.poll() is None and (init := self._find_init()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)  # the kernel lets nobody in its namespace outlive it
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(5.0)
        self._remove_rest()

    def shut_down(self) -> None:
        """Switch it off in an orderly way. `boot` boots it again."""
        assert self._nspawn is not None
        self.run("systemctl", "poweroff", check=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._nspawn.wait(BOOT_SEC)
        assert self._nspawn.poll() is not None, f"{self.name} does not shut down:\n{self.console()}"
        self._remove_rest()

    def _remove_rest(self) -> None:
        """After the end of process 1: nothing of this host is left but its disk."""
        assert self._nspawn is not None
        self._nspawn.kill()
        self._nspawn.wait()
        self._nspawn, self._init = None, 0
        self.end_processes()
        _wait_for(self._remove_group, f"the end of the processes of {self.name}")

    def close(self) -> None:
        if not self.place.exists():
            return
        if self._nspawn is not None:
            self.power_cut()
        self._remove_group()  # also of a host that somebody else has booted, in a fork of this process
        shutil.rmtree(self.place, ignore_errors=True)

    def why_not(self) -> str:
        """Why no host can be booted here; "" if nothing speaks against it."""
        try:
            done = subprocess.run(
                [*_ALONE, *self._set_up("true")], capture_output=True, text=True, timeout=WAIT_SEC, check=False
            )
        finally:
            self._remove_group()
        return "" if done.returncode == 0 else f"no overlay or control group of its own: {done.stderr.strip()}"

    def _set_up(self, *argv: str) -> list[str]:
        return ["sh", "-euc", _SET_UP, "sh", str(self.root), str(self.place), self._group, *argv]

    def _remove_group(self) -> bool:
        remove = ["sh", "-euc", _REMOVE_GROUP, "sh", self._group]
        return subprocess.run([*_ALONE, *remove], stderr=subprocess.DEVNULL, check=False).returncode == 0

    def _find_init(self) -> int:
        """The child of nspawn, itself one of unshare's, that is process 1 in a namespace of its own."""
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, f"{self.name} does not boot:\n{self.console()}"
        for pid in [pid for nspawn in _children(self._nspawn.pid) for pid in _children(nspawn)]:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = Path(f"/proc/{pid}/status").read_text()
                namespaces = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
                if namespaces[-1] == "1":
                    return pid
        return 0

    def _is_up(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, f"{self.name} does not boot:\n{self.console()}"
        state = self.run("systemctl", "is-system-running", "--wait", check=False, timeout=BOOT_SEC).stdout.strip()
        return state in {"running", "degraded"}

    @property
    def _console(self) -> Path:
        return self.place / "console.log"

    def console(self) -> str:
        """What was to be read on the host's screen so far."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    # Commands and files

    def run(
        self,
        *argv: str,
        user: str | None = None,
        check: bool = True,
        timeout: float = 60.0,
        input: str | None = None,  # noqa: A002 - as subprocess calls it
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host to its end, as root unless another user is named."""
        process = Inside(self._enter(argv, user, environment))
        try:
            stdout, stderr = process.communicate(input, timeout)
        except subprocess.TimeoutExpired as error:
            said = b"".join(part for part in (error.stdout, error.stderr) if isinstance(part, bytes))
            raise AssertionError(
                f"{self.name}: {shlex.join(argv)} took more than {timeout:g} s:\n{said.decode(errors='replace')}"
            ) from None
        finally:
            process.end()
        code = process.returncode
        if check and code != 0:
            raise AssertionError(f"{self.name}: {shlex.join(argv)} exited with {code}:\n{stdout}{stderr}")
        return subprocess.CompletedProcess(argv, code, stdout, stderr)

    def start_process(
        self, *argv: str, user: str | None = None, environment: Mapping[str, str] | None = None
    ) -> Inside:
        """Start a command in the host, with pipes to it; ended at the end of the test at the latest."""
        process = Inside(self._enter(argv, user, environment))
        self._processes.append(process)
        return process

    def end_processes(self) -> None:
        """End what `start_process` has started."""
        for process in self._processes:
            process.end()
        self._processes.clear()

    def _enter(self, argv: Sequence[str], user: str | None, environment: Mapping[str, str] | None) -> list[str]:
        assert self._init, f"{self.name} is off"
        rights, home = ["setpriv", "--pdeathsig", "KILL"], "/root"
        if user is not None:
            _, _, uid, gid, _, home, _ = self.run("getent", "passwd", user).stdout.strip().split(":")
            rights += ["--reuid", uid, "--regid", gid, "--init-groups"]
        variables = {"PATH": _PATH, "HOME": home, "USER": user or "root", "LANG": "C.UTF-8", **(environment or {})}
        clean = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        return ["nsenter", "--all", "--root", "--target", str(self._init), *rights, *clean, *argv]

    def read(self, path: str) -> str:
        return self.run("cat", "--", path).stdout

    def write(self, path: str, text: str, mode: int = 0o644, owner: str | None = None) -> None:
        """Write a file, and the folders that it lies in; `owner` is USER or USER:GROUP."""
        script = 'mkdir -p -- "$(dirname -- "$1")"; rm -f -- "$1"; umask 077; cat >"$1"; chmod "$2" -- "$1"'
        if owner is not None:
            script += '; chown -- "$3" "$1"'
        self.run("sh", "-euc", script, "sh", path, f"{mode:o}", owner or "", input=text)

    def exists(self, path: str) -> bool:
        return self.run("test", "-e", path, check=False).returncode == 0

    def wait_for(self, condition: Callable[[], Any], what: str, limit_sec: float = WAIT_SEC) -> Any:
        """What `condition` gives as soon as it is true; what the host has said belongs to the failure."""
        try:
            return _wait_for(condition, f"{what} of {self.name}", limit_sec, _PAUSE_SEC)
        except AssertionError as error:
            error.add_note(self._last_words())
            raise

    def _last_words(self) -> str:
        """Of its journal, if it is well enough to be asked."""
        with contextlib.suppress(AssertionError):
            return self.run("journalctl", "--no-pager", "--lines", "50", timeout=10.0).stdout
        return self.console()

    # systemd

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """The entries since the last reset, oldest first: journal("_SYSTEMD_UNIT=gitopsd.service", "-p", "err")."""
        self.run("journalctl", "--sync")
        found = self.run("journalctl", "--no-pager", "--all", "--output=json", f"--since={self._since}", *matches)
        return [json.loads(line) for line in found.stdout.splitlines()]

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """What `systemctl show` says about a unit: unit("gitopsd.service", "ActiveState", "NRestarts")."""
        wanted = [f"--property={','.join(properties)}"] if properties else []
        lines = self.run("systemctl", "show", *wanted, "--", name).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    # gitopsd

    def install(self) -> None:
        """Put the checkout into the host and install it from there, as a user does."""
        self.run("rm", "-rf", "/root/gitopsd")
        unpack = "mkdir /root/gitopsd; base64 -d | tar -C /root/gitopsd -x --no-same-owner"
        self.run("sh", "-euc", unpack, input=base64.b64encode(_packed_checkout()).decode())
        self.run("/root/gitopsd/scripts/install.sh")
        self.run("tar", "-C", "/", "--ignore-failed-read", "-cf", _SNAPSHOT, *_INSTALLED)

    def configure(self, settings: Mapping[str, Any], secret: str = SECRET) -> None:
        """Write the configuration and the secret of the webhook."""
        self.write(CONFIG, yaml.safe_dump(dict(settings)))
        self.run("install", "-d", "-m", "0700", str(Path(SECRET_FILE).parent))
        self.write(SECRET_FILE, secret, mode=0o600)

    def reset(self) -> None:
        """As after its installation: nothing runs, nothing is configured, nothing is recorded."""
        self.end_processes()
        self._since = self.run("sh", "-uc", _RESET).stdout.strip()

    # Remotes

    def add_remote(self, name: str) -> str:
        """Make /srv/remotes/NAME.git with a first commit; its URL."""
        self.run("sh", "-euc", _ADD_REMOTE, "sh", name)
        self.push(name, {"README": "A remote for tests.\n"})
        return remote_url(name)

    def push(self, name: str, files: Mapping[str, str] | None = None) -> str:
        """Commit the files (path: content), or one of its own kind, and push them; the full revision."""
        for path, content in (files or {f"file-{uuid.uuid4().hex}": "unique\n"}).items():
            mode = 0o755 if content.startswith("#!") else 0o644
            self.write(f"/srv/remotes/{name}.work/{path}", content, mode)
        pushed = self.run("sh", "-euc", _PUSH, "sh", name, environment=git_environment(PATH=_PATH))
        return pushed.stdout.strip()

    # Requests

    def delivery(
        self,
        repo: str,
        revision: str,
        *,
        ref: str = "refs/heads/main",
        event: str = "push",
        delivery: str | None = None,
        secret: str = SECRET,
        path: str = WEBHOOK,
        delay: float = 0.0,
        **more: Any,
    ) -> Request:
        """A signed delivery for the remote `repo`, as GitHub sends it."""
        payload = {
            "ref": ref,
            "before": "0" * 40,
            "after": revision,
            "repository": {"id": 1, "full_name": f"demo/{repo}", "clone_url": remote_url(repo)},
            **more,
        }
        body = json.dumps(payload)
        headers = signed_headers(body.encode(), secret=secret, event=event, delivery=delivery)
        return Request("POST", path, body, headers, delay)

    def deliver(self, repo: str, revision: str, **more: Any) -> Answer:
        """Send such a delivery from within the host."""
        return self.send([self.delivery(repo, revision, **more)])[0]

    def deliver_at_once(self, deliveries: Sequence[Request]) -> list[Answer]:
        """Send them all at the same moment, each on a connection of its own."""
        return self.send(deliveries, at_once=True)

    def get(self, path: str) -> Answer:
        return self.send([Request("GET", path)])[0]

    def send(self, requests: Sequence[Request], *, at_once: bool = False) -> list[Answer]:
        """Send the requests from within the host, one after another or at once; the answers in the same order."""
        limit = sum(request.delay + request.timeout for request in requests) + WAIT_SEC
        sent = self.run(*self.client(), input=self.task(requests, at_once=at_once) + "\n", timeout=limit)
        return [Answer(**answer) for answer in json.loads(sent.stdout)]

    @contextlib.contextmanager
    def held_connections(self, count: int, text: str = "") -> Iterator[None]:
        """Within the block so many connections are open, and `text` was sent on each."""
        process = self.start_process(*self.client())
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"hold": count, "send": text}) + "\n")
        process.stdin.flush()
        held = process.stdout.readline()
        assert held, process.stderr and process.stderr.read()
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(WAIT_SEC)

    def task(self, requests: Sequence[Request], *, at_once: bool = False) -> str:
        """What `client` is to be told in order to send these requests."""
        return json.dumps({"requests": [asdict(request) for request in requests], "at_once": at_once})

    def client(self) -> list[str]:
        """The command that sends requests from within the host."""
        if not self.exists("/root/client.py"):
            self.write("/root/client.py", Path(__file__).with_name("client.py").read_text())
        return ["python3", "/root/client.py"]


def remote_url(name: str) -> str:
    return f"/srv/remotes/{name}.git"


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _packed_checkout() -> bytes:
    """The files of this checkout as a tar archive, also those that are not committed yet."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=_CHECKOUT, capture_output=True, check=True).stdout.split(b"\0")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in map(os.fsdecode, filter(None, names)):
            if os.path.lexists(_CHECKOUT / name):  # deleted, and that is not committed yet
                archive.add(_CHECKOUT / name, name, recursive=False)
    return packed.getvalue()


def what_is_missing() -> str:
    """Why no host can be booted here; "" if nothing speaks against it so far."""
    if sys.platform != "linux":
        return "hosts can be booted on Linux only"
    if os.geteuid() != 0:
        return "only root can boot a host"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"not installed here: {', '.join(missing)}" if missing else ""
