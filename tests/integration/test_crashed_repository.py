"""What a crash leaves of git's own files: mended where that can be, else said, and never tried for ever."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.engine import REFUSED
from tests.remote import Remote, git
from tests.strategies import Host, both_strategies


@pytest.fixture
def host(tmp_path: Path, strategy: str) -> Host:
    """One with a revision deployed."""
    here = Host(directory=tmp_path, remote=Remote.create(tmp_path), strategy=strategy)
    here.synced()
    return here


@both_strategies
@pytest.mark.parametrize("name", ["tip", "deployed"])
def test_an_empty_ref_of_ours_is_made_anew(host: Host, name: str) -> None:
    (host.git_dir / "refs" / "gitopsd" / name).write_text("")
    host.deployed(host.remote.push())


@both_strategies
def test_an_object_that_is_damaged_is_said_once_and_for_all(host: Host) -> None:
    tip = host.remote.push()
    host.synced()
    for pack in (host.git_dir / "objects" / "pack").glob("*.pack"):
        pack.with_suffix(".idx").unlink()
        content = pack.read_bytes()
        pack.unlink()
        subprocess.run(["git", "unpack-objects", "-q"], cwd=host.git_dir, input=content, check=True)
    loose = host.git_dir / "objects" / tip[:2] / tip[2:]
    loose.chmod(0o644)
    os.truncate(loose, 0)
    host.remote.push()
    run = host.sync()
    assert run.code == REFUSED, run.everything
    assert run["reason"].startswith("damaged: ")
    assert str(host.git_dir) in run["reason"]


@both_strategies
def test_a_remote_that_was_made_anew_in_another_format_is_said_once_and_for_all(host: Host) -> None:
    other = Remote.create(host.directory / "other", object_format="sha256")
    host.remote.bare.rename(host.directory / "before.git")
    other.bare.rename(host.remote.bare)
    host.in_vain("another object format")


@both_strategies
def test_a_tag_that_cannot_be_beside_another_does_not_keep_the_branch_away(host: Host) -> None:
    git(host.remote.work, "tag", "a")
    git(host.remote.work, "push", "--quiet", "origin", "a")
    host.remote.push()
    host.synced()
    git(host.remote.work, "push", "--quiet", "origin", ":refs/tags/a")
    git(host.remote.work, "tag", "-d", "a")
    newer = host.remote.push()
    git(host.remote.work, "tag", "a/b")
    git(host.remote.work, "push", "--quiet", "origin", "a/b")
    host.deployed(newer)
