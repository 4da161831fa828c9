"""Releases that stay: which are gone back to, which are pruned, and what counts as somebody's."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.engine import DEPLOY_FAILED, SCRIPT
from tests.remote import Remote, git
from tests.site import wait_for
from tests.strategies import Host

_AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(directory=tmp_path, remote=Remote.create(tmp_path), strategy="release")


def live_tree(host: Host) -> Path:
    return host.path.resolve()


@pytest.mark.parametrize("how", ["commit", "move"])
def test_a_tree_whose_head_was_moved_is_not_gone_back_to(host: Host, how: str) -> None:
    first = host.remote.push({"page": "1\n"})
    host.synced()
    if how == "move":
        git(live_tree(host), "checkout", "--quiet", "--detach", "HEAD~1")
    else:
        (live_tree(host) / "page").write_text("evil\n")
        git(live_tree(host), "commit", "--quiet", "-am", "evil")
    host.remote.push({"page": "2\n"})
    run = host.sync(GITOPSD_DEPLOY="grep -q 1 page", GITOPSD_ROLLBACK="yes")
    assert (run.code, run["rolled_back"]) == (DEPLOY_FAILED, first)
    assert (host.path / "page").read_text() == "1\n"
    assert host.standing == first


def test_a_moved_head_is_drift(host: Host) -> None:
    host.remote.push({"page": "1\n"})
    host.synced()
    git(live_tree(host), "checkout", "--quiet", "--detach", "HEAD~1")
    host.in_vain("drift", GITOPSD_DRIFT="report")
    host.synced(GITOPSD_DRIFT="repair")
    assert (host.path / "page").read_text() == "1\n"


def test_a_release_is_no_checkout_for_another_strategy(host: Host) -> None:
    host.synced()
    host.in_vain("leads to a release", GITOPSD_STRATEGY="in-place")


def test_another_branch_in_the_configuration_is_no_rewound_history(host: Host) -> None:
    stable = host.remote.tip()
    git(host.remote.work, "push", "--quiet", "origin", "HEAD:refs/heads/stable")
    host.remote.push()
    host.synced()
    host.synced(GITOPSD_REF="stable")
    assert host.standing == stable


def test_what_was_live_before_stays_whatever_came_after_it(host: Host) -> None:
    first = host.remote.tip()
    host.synced(GITOPSD_KEEP="2")
    for _ in range(2):
        host.remote.push()
        host.synced(GITOPSD_KEEP="3")
    host.synced(GITOPSD_REVISION=first, GITOPSD_KEEP="3")
    host.deployed(host.remote.push(), GITOPSD_KEEP="3")
    assert any(git(tree, "rev-parse", "HEAD") == first for tree in host.releases)


def test_an_upload_during_the_health_checks_is_saved(host: Host) -> None:
    go = host.directory / "go"
    health = ["sh", "-c", f"until [ -e {go} ]; do sleep 0.01; done"]
    with subprocess.Popen(
        [str(SCRIPT), "blog"],
        env=host.command_environment(GITOPSD_HEALTH=shlex.join(health), GITOPSD_HEALTH_TIMEOUT="60"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as engine:
        output = host.directory / "output"
        wait_for(lambda: output.exists() and "phase=health" in output.read_text(), "the health check")
        (host.path / "upload").write_text("of a visitor\n")
        go.touch()
        assert engine.wait(60) == 0
    for _ in range(2):
        host.remote.push()
        host.synced(GITOPSD_KEEP="2")
    assert not (host.path / "upload").exists()
    assert [git(host.git_dir, "show", f"{ref}:upload") for ref in host.rescues] == ["of a visitor"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_directories_that_nobody_may_write_in_are_removed_with_their_release(host: Host) -> None:
    (trusting := host.directory / "gitconfig").write_text("[safe]\n\tdirectory = *\n")
    makes = "mkdir -p go/mod && echo x >go/mod/file && chmod -R a-w go"
    host.directory.chmod(0o777)
    parent = host.directory
    while parent != parent.parent:
        parent.chmod(parent.stat().st_mode | 0o055)
        parent = parent.parent
    for _ in range(4):
        host.remote.push()
        done = subprocess.run(
            [*_AS_NOBODY, str(SCRIPT), "blog"],
            env=host.command_environment(
                GITOPSD_DEPLOY=shlex.join(["sh", "-c", makes]),
                GITOPSD_KEEP="2",
                GITOPSD_OUTPUT=None,
                GIT_CONFIG_GLOBAL=str(trusting),
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert len(host.releases) == 2
    assert not list(host.path.parent.glob(".blog.releases/.trash*"))
