"""What an operator does on a host: name repos, switch gitopsd on, look at what became of it."""

import json
from pathlib import Path
from typing import Any

from gitopsd.store import path_in
from tests.system.host import Host

SOCKET = "gitopsd.socket"
DAEMON = "gitopsd.service"
SYNC_USER = "gitopsd-sync"

_STATES = """
import sqlite3, sys
try:
    store = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
    print(*(state for (state,) in store.execute("SELECT state FROM jobs WHERE repo = ? ORDER BY id", (sys.argv[2],))))
except sqlite3.OperationalError:
    pass  # it is not there yet, or somebody is just making it
"""


def add_repos(
    host: Host, *names: str, deploy: str = "true", settings: dict[str, Any] | None = None, release: bool = False
) -> None:
    """Repos that follow remotes of their own, with a shell script to deploy; nothing is switched on yet.

    With `release` they have the strategy of that name, and their symlink is /srv/NAME/current.
    """
    repos = {}
    for name in names:
        url = host.add_remote(name)
        host.push(name, {"deploy.sh": f"#!/bin/sh\n{deploy}\n"})
        host.run("install", "-d", "-o", SYNC_USER, "-g", SYNC_USER, f"/srv/{name}")
        place = {"path": f"/srv/{name}/current", "strategy": "release"} if release else {"path": f"/srv/{name}"}
        repos[name] = {"url": url, "deploy": ["./deploy.sh"], **place}
    host.configure({"retry": {"delay": "1s"}, **(settings or {}), "repos": repos})


def switch_on(host: Host, *, timers: bool = False) -> None:
    """As `systemctl enable --now gitopsd.socket` does. Its timers would find every push by themselves."""
    if not timers:
        host.run("systemctl", "mask", "--runtime", "gitopsd-poll.timer", "gitopsd-catchall.timer")
    host.run("systemctl", "enable", "--now", SOCKET)


def drop_in(host: Host, unit: str, text: str) -> None:
    """As `systemctl edit UNIT` does."""
    host.write(f"/etc/systemd/system/{unit}.d/override.conf", text)
    host.run("systemctl", "daemon-reload")


def jobs(host: Host, name: str) -> list[dict[str, Any]]:
    """The jobs of a repo, oldest first."""
    found: dict[str, list[dict[str, Any]]] = json.loads(
        host.run("gitopsd", "history", name, "--limit", "1000", "--json").stdout
    )
    return found["jobs"][::-1]


def wait_for_job(host: Host, name: str, *states: str, count: int = 1) -> dict[str, Any]:
    """The last of `count` or more jobs of the repo that are in one of `states`."""

    def are_there() -> bool:
        return sum(state in states for state in _states(host, name)) >= count

    host.wait_for(are_there, f"{count} job(s) of {name} in {states}")
    return [job for job in jobs(host, name) if job["state"] in states][-1]


def _states(host: Host, name: str) -> list[str]:
    """Those of the jobs of a repo, oldest first; none while there is no store. Read directly: a loop asks often."""
    return host.run("python3", "-c", _STATES, str(path_in(Path("/var/lib/gitopsd"))), name).stdout.split()


def deployed(host: Host, name: str) -> str:
    """The revision that the checkout is at."""
    argv = ("git", "-c", f"safe.directory=/srv/{name}", "-C", f"/srv/{name}", "rev-parse", "--verify", "HEAD")
    return host.run(*argv, check=False).stdout.strip()


def wait_until_deployed(host: Host, name: str, revision: str) -> None:
    host.wait_for(lambda: deployed(host, name) == revision and not _unfinished(host, name), f"{revision} of {name}")


def _unfinished(host: Host, name: str) -> bool:
    return not {"pending", "running"}.isdisjoint(_states(host, name))


def is_active(host: Host, unit: str) -> bool:
    return host.unit(unit, "ActiveState")["ActiveState"] == "active"


def daemon_pid(host: Host) -> int:
    """The process of the daemon in the host; 0 while there is none."""
    return int(host.unit(DAEMON, "MainPID")["MainPID"])


def has_logged(host: Host, unit: str, text: str) -> bool:
    """Whether systemd or the unit itself has said this."""
    return any(text in str(entry.get("MESSAGE")) for entry in host.journal("-u", unit))


def let_in_by_key(host: Host, *, key: str) -> None:
    """Let who has a key at `key` (root's, private) in by ssh, and let every sync know this host."""
    script = """
    rm -f "$1"; ssh-keygen -q -t ed25519 -N '' -f "$1"
    install -D -m 0600 "$1.pub" /root/.ssh/authorized_keys; rm "$1.pub"
    # A server from 9.8 on shuts out for a while who was refused, and here everybody has one address.
    patience=/etc/ssh/sshd_config.d/patience.conf
    mkdir -p /run/sshd
    if [ ! -e $patience ] && sshd -t -o PerSourcePenalties=no 2>/dev/null; then
        echo 'PerSourcePenalties no' >$patience
        systemctl stop ssh
    fi
    systemctl is-active --quiet ssh || systemctl start ssh
    ssh-keyscan 127.0.0.1 >/etc/ssh/ssh_known_hosts 2>/dev/null
    """
    host.run("sh", "-euc", script, "sh", key)
