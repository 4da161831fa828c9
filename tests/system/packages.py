"""The packages of this tree, built as a user builds them, and what an operator does with the one for Debian."""

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.system.host import Host

TOP = Path(__file__).parents[2]
OLDER_VERSION = "0.0.9"

_BUILD_SEC = 300
_NOT_SOURCES = (".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "dist", "build")


def build(tree: Path, out: Path, *kinds: str, environment: Mapping[str, str] | None = None) -> list[Path]:
    """Run the tree's packaging/build.sh; the files that it says it has made."""
    done = subprocess.run(
        [tree / "packaging" / "build.sh", "--out", out, *kinds],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_BUILD_SEC,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


def copy_of_tree(target: Path) -> Path:
    """The tree as out of a source archive: no repository, and no file as old as here."""
    shutil.copytree(TOP, target, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_SOURCES), copy_function=shutil.copy)
    return target


def older_tree(target: Path) -> Path:
    """A version before this one: its configuration file has another text, and a module of it another name.

    So old and new files do not work together, and nobody can overlook that there was a mixture of them.
    """
    copy_of_tree(target)
    init = target / "gitopsd" / "__init__.py"
    init.write_text(re.sub('__version__ = ".*"', f'__version__ = "{OLDER_VERSION}"', init.read_text()))
    (target / "gitopsd" / "web").rename(target / "gitopsd" / "pages")
    for module in (target / "gitopsd").rglob("*.py"):
        module.write_text(module.read_text().replace("gitopsd.web", "gitopsd.pages"))
    with (target / "docs" / "gitopsd.example.yaml").open("a") as example:
        example.write("# A line of the version before.\n")
    return target


def give(host: Host, package: Path) -> str:
    """Put a package into the host; its path there."""
    path = f"/var/tmp/{package.name}"
    decode = ["sh", "-euc", 'base64 -d >"$1"', "sh", path]
    host.run(*decode, input=base64.b64encode(package.read_bytes()).decode())
    return path


def apt(host: Host, *arguments: str) -> str:
    """As an unattended upgrade runs it; what it says."""
    keep = ("-o", "Dpkg::Options::=--force-confold")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    done = host.run("apt-get", "--yes", "--quiet", *keep, *arguments, environment=quiet)
    return done.stdout + done.stderr


def install(host: Host, package: Path) -> str:
    return apt(host, "install", give(host, package))


def installed_version(host: Host) -> str:
    """ "" if the package is not installed."""
    shown = host.run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", "gitopsd", check=False)
    status, _, version = shown.stdout.partition(" ")
    return version if status == "installed" else ""


def small_package(host: Host, name: str, files: Mapping[str, str]) -> str:
    """Build a package of these files (path: content) in the host; its path there."""
    place = f"/var/tmp/{name}"
    control = (
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: x\n"
    )
    host.write(f"{place}/DEBIAN/control", control)
    for path, content in files.items():
        host.write(f"{place}{path}", content)
    host.run("chmod", "-R", "u=rwX,go=rX", place)
    host.run("dpkg-deb", "--build", "--root-owner-group", place)
    return f"{place}.deb"
