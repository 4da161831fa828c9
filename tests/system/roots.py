"""Root trees for throw-away hosts: one plain Debian a release, made once and kept in a cache.

`python -m tests.system.roots` makes those that are missing. It needs no more than the standard library.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SUITES = {"debian12": "bookworm", "debian13": "trixie"}
RELEASES = tuple(SUITES)

_PACKAGES = [
    *("systemd", "systemd-sysv", "dbus", "polkitd", "procps", "iproute2"),
    *("git", "openssh-client", "openssh-server"),
    *("python3", "python3-falcon", "python3-filelock", "python3-greenlet", "python3-jsonschema", "python3-pystemd"),
    *("python3-rich", "python3-sdnotify", "python3-waitress", "python3-yaml"),
    "apprise",
]
# What would start on its own while a test looks, or has no disk to work on.
_MASKED = [
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "systemd-tmpfiles-clean.timer"),
    *("fstrim.timer", "e2scrub_all.timer", "e2scrub_reap.service"),
]
_HOSTS = "127.0.0.1 localhost\n::1 localhost\n"
_FORMAT = 1  # raise it when the code below makes another tree from the same lists

_DEFAULT_MIRROR = "http://deb.debian.org/debian"
_KEPT_SEC = 30 * 24 * 3600

# Whatever happens to this process, what it started ends, and its mounts with it: they are in a namespace of its own.
_ALONE = [
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
    *("sh", "-c", '"$@"; exit $?', "sh"),  # process 1 is deaf to an interrupt at the terminal; that is not the command
]


class RootError(Exception):
    """A root tree could not be made; says why."""


def trees(releases: Sequence[str]) -> dict[str, Path]:
    """The root trees of the releases; makes what is missing, side by side. They are to be read only."""
    with ThreadPoolExecutor(max_workers=len(RELEASES)) as pool:
        made = dict(zip(releases, pool.map(_tree, releases), strict=True))
    _remove_old(keep={_key(release) for release in RELEASES})
    return made


def _tree(release: str) -> Path:
    place = _cache() / _key(release)
    with _locked(place):
        if not place.exists():
            _make(release, place)
    return place


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    cache = Path(home).expanduser() / "gitopsd-tests"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _key(release: str) -> str:
    """Other contents, another name: a tree never changes once it is there."""
    contents = [SUITES[release], platform.machine(), *_PACKAGES, *_MASKED, _HOSTS, str(_FORMAT)]
    return f"{release}-{hashlib.sha256(' '.join(contents).encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def _locked(place: Path, *, wait: bool = True) -> Iterator[None]:
    """Nobody else makes or removes the tree within the block. The lock's time is when the tree was last asked for."""
    with place.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if wait:
            os.utime(lock.fileno())
        yield


def _make(release: str, place: Path) -> None:
    part = place.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # of somebody who was interrupted: we hold the lock
    (part / "tmp").mkdir(parents=True)
    options = ["--variant=minbase", f"--include={','.join(_PACKAGES)}", "--skip=check/empty"]
    done = subprocess.run(
        [*_ALONE, "mmdebstrap", *options, SUITES[release], str(part / "tree"), _mirror()],
        env=os.environ | {"TMPDIR": str(part / "tmp")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()[-3:]
        raise RootError(f"mmdebstrap cannot make a {SUITES[release]}: {' '.join(said)}")
    _finish(part / "tree")
    (part / "tree").rename(place)
    shutil.rmtree(part)


def _mirror() -> str:
    """Where this machine gets its own Debian packages from: that is reachable from here."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(COMPONENT) $(CREATED_BY) $(SITE)"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in asked.stdout.splitlines():
        what, _, site = line.rpartition(" ")
        if what == "Debian main Packages":
            return site
    return _DEFAULT_MIRROR


def _finish(tree: Path) -> None:
    """What an installer would have left: names, an identity, no first boot to come."""
    (tree / "etc/hosts").write_text(_HOSTS)
    (tree / "etc/hostname").unlink(missing_ok=True)  # of the machine that made the tree
    (tree / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    for unit in _MASKED:
        (tree / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for stamp in ("etc/.updated", "var/.updated"):
        (tree / stamp).touch()  # newer than /usr: nothing to bring up to date at the first boot


def _remove_old(keep: set[str]) -> None:
    """Remove what belongs to other lists of packages and was not asked for in a month."""
    for lock in _cache().glob("*.lock"):
        # Another run may be at the same tree, or done with it.
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            if lock.stem in keep or time.time() - lock.stat().st_mtime < _KEPT_SEC:
                continue
            with _locked(lock, wait=False):
                for left in (lock.with_suffix(""), lock.with_suffix(".part")):
                    shutil.rmtree(left, ignore_errors=True)
                lock.unlink()


def main() -> int:
    try:
        trees(RELEASES)
    except RootError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
