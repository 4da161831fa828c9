"""The wheel in an environment of its own, with nothing but what it asks for: gitopsd without systemd."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gitopsd import __version__
from tests.site import WAIT_SEC, Site, wait_for

TOP = Path(__file__).parents[2]
NEEDS = "please run first, as root: "

pytestmark = pytest.mark.timeout(400)  # it is built, and its libraries come over the network


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    command = [str(TOP / "packaging" / "build.sh"), "--out", str(tmp_path), "wheel"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if NEEDS in built.stderr:
        pytest.skip(f"the wheel cannot be built here: {built.stderr.strip()}")
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())


@pytest.fixture
def environment(tmp_path: Path, wheel: Path) -> Path:
    """Where the commands of an environment are that holds the wheel and what it needs."""
    place = tmp_path / "environment"
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", str(place)],
        [*pip, "install", "--quiet", "--no-compile", str(wheel)],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return place / "bin"


@contextmanager
def serving(site: Site, program: Path) -> Iterator[str]:
    """The address at which `gitopsd serve --listen` answers, from somewhere else than this tree."""
    with (site.root / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            [program, "--config", site.config_path, "serve", "--listen", "127.0.0.1:0"],
            cwd=site.root,
            env=site.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: "listening on" in site.log() or daemon.poll() is not None, "the daemon")
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", site.log())
        assert found, site.log()
        yield found[1]
        daemon.terminate()
        assert daemon.wait(WAIT_SEC) == 0, site.log()
    finally:
        daemon.kill()
        daemon.wait()


def test_a_signed_delivery_is_deployed_by_the_wheel_alone(site: Site, environment: Path) -> None:
    remote = site.add_repo("blog", deploy="echo deployed >../deployed")
    revision = remote.push({"index.html": "new"})
    pushed = ["--url", remote.url, "--name", "demo/blog", "--revision", revision]
    program = environment / "gitopsd"
    with serving(site, program) as address:
        delivered = subprocess.run(
            [str(TOP / "scripts" / "deliver.py"), f"http://{address}/api/webhook/gitops", *pushed],
            env=site.environment | {"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert delivered.stdout.startswith("202 "), delivered.stdout + delivered.stderr
        site.wait_for_job("blog", "succeeded")
    assert site.deployed("blog") == revision
    assert (site.root / "checkouts" / "deployed").exists()
    version = subprocess.run([program, "version"], cwd=site.root, capture_output=True, text=True, check=True)
    assert version.stdout == f"gitopsd {__version__}\n"
