"""What ssh needs before git can use it: a deploy key for one repo, and the host key of its remote."""

import os
import re
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from gitopsd import process, systemd
from gitopsd.cli import terminal
from gitopsd.errors import GitopsdError
from gitopsd.remotes import normalise_url

_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
_KNOWN_HOSTS_OF_SYNCS = Path("/var/lib/gitopsd-sync/.ssh/known_hosts")
_SSH_SEC = 15.0
_DEFAULT_PORT = 22
_KEY_FIELDS = 3  # host, kind of key, key
# Where a forge lists deploy keys, below the page of the repository; and where it takes one, if that is another page.
_KEY_PAGES = {
    "github.com": "settings/keys",
    "gitlab.com": "-/settings/repository#js-deploy-keys-settings",
    "codeberg.org": "settings/keys",
    "bitbucket.org": "admin/access-keys/",
}
_KEY_FORMS = {**_KEY_PAGES, "github.com": "settings/keys/new"}


class SshHost(NamedTuple):
    """Who is asked for a repo over ssh."""

    name: str
    port: int = _DEFAULT_PORT

    @property
    def as_known(self) -> str:
        """How known_hosts names it."""
        return self.name if self.port == _DEFAULT_PORT else f"[{self.name}]:{self.port}"


def host_of(url: str) -> SshHost | None:
    """The ssh host that `url` names; None if git does not use ssh for it. Raises GitopsdError."""
    if "://" in url:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise GitopsdError(f"{url}: {error}") from error
        if parts.scheme not in ("ssh", "git+ssh", "ssh+git") or not parts.hostname:
            return None
        return SshHost(parts.hostname, port or _DEFAULT_PORT)
    name = normalise_url(url).partition("/")[0].strip("[]")
    if with_port := re.fullmatch(r"([^:]+):([0-9]{1,5})", name):
        return SshHost(with_port[1], int(with_port[2]))
    return SshHost(name) if name else None


def path_of(repo: str) -> Path:
    """Where the deploy key of `repo` is."""
    return systemd.KEYS_DIRECTORY / repo


def make(repo: str) -> bool:
    """Make a deploy key; False if there is one. Raises GitopsdError."""
    path = path_of(repo)
    if path.exists():
        return False
    path.parent.mkdir(mode=0o700, exist_ok=True)
    public = path.with_name(f"{path.name}.pub")
    if public.exists():  # of a repo that is called so, perhaps
        raise GitopsdError(f"{public} is in the way of a key for {repo}; move it away")
    comment = f"gitopsd-{repo}@{socket.gethostname()}"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))
    # Told from the private one at any time, and what lies in this directory is taken for a private one.
    public.unlink()
    return True


def public_half(repo: str) -> str:
    """The line to paste at the provider. Raises GitopsdError."""
    return _run("ssh-keygen", "-y", "-f", str(path_of(repo)))


def where_to_paste(url: str) -> str:
    """The page that takes a deploy key for the repository at `url`, as well as it is known."""
    return _page_of(url, _KEY_FORMS)


def where_listed(url: str) -> str:
    """The page that lists the deploy keys of the repository at `url`, as well as it is known."""
    return _page_of(url, _KEY_PAGES)


def _page_of(url: str, pages: Mapping[str, str]) -> str:
    host, _, name = normalise_url(url).partition("/")
    page = pages.get(host)
    return f"https://{host}/{name}/{page}" if page else f"{host}, as a deploy key of {name}"


def is_known(host: SshHost) -> bool:
    """Whether syncs know the host key of `host`. Raises GitopsdError."""
    files = [path for path in (_KNOWN_HOSTS, _KNOWN_HOSTS_OF_SYNCS) if path.exists()]
    return any(_ended_well("ssh-keygen", "-F", host.as_known, "-f", str(path)) for path in files)


def how_to_know(host: SshHost) -> str:
    """What to run for syncs to know the host key of `host`."""
    return (
        f"ssh-keyscan {f'-p {host.port} ' if host.port != _DEFAULT_PORT else ''}{host.name} >> {_KNOWN_HOSTS}"
        "; then compare what `ssh-keygen -lf` says of it with what the provider publishes"
    )


def get_to_know(host: SshHost) -> str:
    """Show the host key, and note it down if the person at the terminal says it is right. What is left to do, or ""."""
    remedy = how_to_know(host)
    if not sys.stdin.isatty():
        return f"the host key of {host.as_known} is not known; run: {remedy}"
    keys = _scan(host)
    if not keys:
        return f"{host.as_known} shows no host key; once it can be reached: {remedy}"
    print(f"{host.as_known} shows these host keys:")
    for line in _fingerprints(keys).splitlines():
        print(f"  {line}")
    if not terminal.ask("Are they what the provider publishes?"):
        return f"the host key of {host.as_known} is not trusted"
    with _KNOWN_HOSTS.open("a+", encoding="utf-8") as file:
        file.seek(0)
        file.write(keys if file.read()[-1:] in ("", "\n") else f"\n{keys}")
    return ""


def _scan(host: SshHost) -> str:
    """What `host` shows, as lines of known_hosts; "" if nothing."""
    # Without what is said on stderr, which the other side has a say in: it could be a line about another host.
    quietly = ("sh", "-c", 'exec "$@" 2>/dev/null', "sh")
    argv = (*quietly, "ssh-keyscan", "-T", "10", "-p", str(host.port), host.name)
    _, found = process.output_of(argv, environment=os.environ, timeout_sec=_SSH_SEC)
    rows = [line.split() for line in found.splitlines()]
    return "".join(f"{' '.join(row)}\n" for row in rows if len(row) == _KEY_FIELDS and row[0] == host.as_known)


def _fingerprints(keys: str) -> str:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(keys)
        file.flush()
        return _run("ssh-keygen", "-l", "-f", file.name)


def _ended_well(*argv: str) -> bool:
    return process.output_of(argv, environment=os.environ, timeout_sec=_SSH_SEC)[0].exit_code == 0


def _run(*argv: str) -> str:
    """The output of a tool of ssh. Raises GitopsdError."""
    ended, text = process.output_of(argv, environment=os.environ, timeout_sec=_SSH_SEC)
    if ended.exit_code != 0:
        why = text.strip().splitlines()[-1] if text.strip() else "failed" if not ended.timed_out else "hangs"
        raise GitopsdError(f"{argv[0]}: {why}")
    return text.strip()
