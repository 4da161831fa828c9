"""Deploys that fail, and the way back: what is live, what is remembered, and what the next sync does."""

import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine import DEPLOY_FAILED, REFUSED, Run
from tests.remote import Remote, git
from tests.site import wait_for
from tests.strategies import Host, both_strategies, copy_of

# $0 is a place outside of the tree. What goes wrong is written in the tree, or outside for what was well before.
DEPLOY = """
echo "$GITOPSD_NEW_REVISION" >>"$0/deploys"
test ! -e "$0/broken" || exit 9
case $(cat mode) in
    deploy-fails) exit 3 ;;
    deploy-hangs) sleep 600 ;;
    deploy-edits) echo edited >>README; exit 3 ;;
esac
"""
HEALTH = """
test ! -e "$0/ill" || exit 8
case $(cat mode) in health-fails) exit 4 ;; health-hangs) sleep 600 ;; esac
"""


@pytest.fixture(scope="module")
def first_remote(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    remote = Remote.create(tmp_path_factory.mktemp("first"))
    remote.push({"mode": "good\n"})
    return remote


@pytest.fixture
def remote(tmp_path: Path, first_remote: Remote) -> Remote:
    return copy_of(first_remote, tmp_path)


@pytest.fixture
def host(tmp_path: Path, remote: Remote, strategy: str) -> Host:
    """One that goes back, where a good revision is deployed."""
    here = Host(directory=tmp_path, remote=remote, strategy=strategy)
    here.environment |= {
        "GITOPSD_DEPLOY": shlex.join(["sh", "-c", DEPLOY, str(tmp_path)]),
        "GITOPSD_HEALTH": shlex.join(["sh", "-c", HEALTH, str(tmp_path)]),
        "GITOPSD_HEALTH_TRIES": "2",
        "GITOPSD_HEALTH_INTERVAL": "0.01",
        "GITOPSD_HEALTH_TIMEOUT": "1",
        "GITOPSD_ROLLBACK": "yes",
        "GITOPSD_TIMEOUT": "2",
    }
    here.synced()
    return here


@dataclass(frozen=True)
class Failure:
    """What goes wrong with a revision, and what is said of that."""

    mode: str
    reason: str
    health: bool = False


FAILURES = [
    Failure("deploy-fails", "deploy: sh exited with 3"),
    Failure("deploy-hangs", "deploy: sh took longer than 2 s"),
    Failure("deploy-edits", "deploy: sh exited with 3"),
    Failure("health-fails", "health: sh exited with 4, in 2 tries", health=True),
    Failure("health-hangs", "health: sh took longer than 1 s, in 2 tries", health=True),
]
each_failure = pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.mode)


def failed(host: Host, reason: str, **more: str | None) -> Run:
    run = host.sync(**more)
    assert run.code == DEPLOY_FAILED, run.everything
    assert run["reason"] == reason, run.everything
    return run


@both_strategies
@each_failure
def test_a_deploy_that_fails_is_taken_back_and_its_revision_not_tried_again(
    host: Host, remote: Remote, failure: Failure
) -> None:
    good = host.standing
    bad = remote.push({"mode": f"{failure.mode}\n", "new": "x\n"})

    run = failed(host, f"{failure.reason}; rolled back to {good[:12]}")

    assert (run["rolled_back"], run["old_revision"], run["new_revision"]) == (good, good, bad)
    middle = ["health"] if failure.health else []
    deployed = ["activate", "deploy", *middle, "rollback", "deploy", "health"]
    assert [phase for phase in run.phases if phase in deployed] == deployed
    host.is_at(good)
    assert host.deploys[-2:] == [bad, good]
    host.in_vain("bad revision")
    assert failure.reason in host.sync()["reason"]


@both_strategies
def test_a_newer_revision_is_deployed_and_the_bad_one_forgotten(host: Host, remote: Remote) -> None:
    good = host.standing
    remote.push({"mode": "deploy-fails\n"})
    failed(host, f"deploy: sh exited with 3; rolled back to {good[:12]}")
    host.deployed(remote.push({"mode": "good\n"}))
    assert host.synced()["changed"] == "no"


@both_strategies
def test_force_tries_a_bad_revision_again(host: Host, remote: Remote, tmp_path: Path) -> None:
    good = host.standing
    (tmp_path / "ill").touch()
    bad = remote.push()
    assert host.sync().code == DEPLOY_FAILED
    (tmp_path / "ill").unlink()
    host.sync()
    host.is_at(good)
    host.deployed(bad, GITOPSD_FORCE="yes")
    assert host.synced()["changed"] == "no"


@both_strategies
@pytest.mark.parametrize(
    ("what", "reason"), [("broken", "deploy: sh exited with 9"), ("ill", "health: sh exited with 8")]
)
def test_a_way_back_that_fails_is_told_and_gone_to_its_end_by_the_next_sync(
    host: Host, remote: Remote, tmp_path: Path, what: str, reason: str
) -> None:
    good = host.standing
    bad = remote.push({"mode": "deploy-fails\n"})
    (tmp_path / what).touch()

    run = host.sync()

    assert run.code == DEPLOY_FAILED
    assert "rolling back to" in run["reason"]
    assert reason in run["reason"]
    assert "rolled_back" not in run.output
    assert host.standing == good
    assert host.ask("rev-parse", "refs/gitopsd/rollback") == good
    again = host.sync()
    assert (again.code, "failed too" in again["reason"]) == (DEPLOY_FAILED, True)

    (tmp_path / what).unlink()
    remote.bare.rename(tmp_path / "gone.git")
    away = host.sync()
    assert away["rolled_back"] == good
    assert away["reason"].startswith(f"rolled back to {good[:12]}; then: fetch")
    host.is_at(good)
    (tmp_path / "gone.git").rename(remote.bare)
    host.in_vain("bad revision")
    assert bad not in host.deploys[-1:]


@both_strategies
def test_a_newer_revision_comes_before_a_way_back_that_failed(host: Host, remote: Remote, tmp_path: Path) -> None:
    remote.push({"mode": "deploy-fails\n"})
    (tmp_path / "broken").touch()
    assert host.sync().code == DEPLOY_FAILED
    newer = remote.push({"mode": "good\n"})
    (tmp_path / "broken").unlink()
    host.deployed(newer)


@both_strategies
@pytest.mark.parametrize("failure", [FAILURES[0], *FAILURES[3:]], ids=lambda failure: failure.mode)
def test_without_a_way_back_the_revision_stays_and_is_tried_again(host: Host, remote: Remote, failure: Failure) -> None:
    good = host.standing
    bad = remote.push({"mode": f"{failure.mode}\n"})
    for _ in range(2):
        failed(host, failure.reason, GITOPSD_ROLLBACK=None)
        assert host.standing == bad
        assert host.ask("rev-parse", "refs/gitopsd/deployed") == good
    host.deployed(remote.push({"mode": "good\n"}), GITOPSD_ROLLBACK=None)


@both_strategies
def test_before_a_first_deploy_there_is_nothing_to_go_back_to(
    tmp_path: Path, first_remote: Remote, strategy: str
) -> None:
    here = Host(directory=tmp_path, remote=copy_of(first_remote, tmp_path), strategy=strategy)
    run = here.sync(GITOPSD_DEPLOY="false", GITOPSD_ROLLBACK="yes")
    assert run.code == DEPLOY_FAILED
    assert run["reason"] == "deploy: false exited with 1; there is no revision before it to go back to"


@both_strategies
def test_a_revision_that_was_well_before_is_no_bad_one(host: Host, tmp_path: Path) -> None:
    good = host.standing
    (tmp_path / "ill").touch()
    run = host.sync(GITOPSD_FORCE="yes")
    assert run.code == DEPLOY_FAILED
    assert "nothing to go back to" in run["reason"]
    assert host.standing == good
    (tmp_path / "ill").unlink()
    host.deployed(good, GITOPSD_FORCE="yes")


@both_strategies
def test_what_a_bad_deploy_changed_in_the_tree_is_saved(host: Host, remote: Remote) -> None:
    remote.push({"mode": "deploy-edits\n"})
    assert host.sync().code == DEPLOY_FAILED
    assert "edited" not in (host.path / "README").read_text()
    (saved,) = host.rescues
    assert git(host.path, "show", f"{saved}:README").endswith("edited")


@both_strategies
def test_a_file_that_the_bad_revision_generates_is_no_obstacle(host: Host, remote: Remote) -> None:
    good = remote.push({"page": "by hand\n"})
    host.deployed(good)
    generates = {"mode": "deploy-fails\n", ".gitignore": "page\n", "README": "generated\n"}
    remote.remove("page", files=generates)
    deploy = shlex.join(["sh", "-c", f"test -e page || {{ echo made >page; {DEPLOY} }}", str(host.directory)])
    run = host.sync(GITOPSD_DEPLOY=deploy)
    assert run.code == DEPLOY_FAILED
    assert run["rolled_back"] == good
    assert (host.path / "page").read_text() == "by hand\n"


@both_strategies
def test_a_command_that_took_too_long_does_not_go_on_beside_the_way_back(
    host: Host, remote: Remote, tmp_path: Path
) -> None:
    remote.push({"mode": "deploy-fails\n"})
    nap = f"sleep {700 + time.monotonic_ns() % 1_000_000}"
    script = f"test $(cat mode) = good || {{ sh -c '{nap}; :'; :; }}"
    run = host.sync(GITOPSD_DEPLOY=shlex.join(["sh", "-c", script]), GITOPSD_TIMEOUT="1")
    assert "took longer than 1 s; rolled back" in run["reason"]
    wait_for(lambda: subprocess.run(["pgrep", "-f", nap], check=False, capture_output=True).returncode, "its end")


@both_strategies
@pytest.mark.parametrize(
    ("script", "reason"), [("exit 124", "exited with 124"), ("kill -9 $$", "was ended by SIGKILL")]
)
def test_an_early_end_is_not_taken_for_the_time_limits(host: Host, remote: Remote, script: str, reason: str) -> None:
    remote.push({"mode": "deploy-fails\n"})
    deploy = shlex.join(["sh", "-c", f"test $(cat mode) = good || {script}"])
    assert reason in host.sync(GITOPSD_DEPLOY=deploy, GITOPSD_TIMEOUT="600")["reason"]


def test_an_operator_who_works_on_another_branch_is_not_disturbed_by_a_way_back(
    tmp_path: Path, first_remote: Remote
) -> None:
    remote = copy_of(first_remote, tmp_path)
    here = Host(directory=tmp_path, remote=remote, strategy="in-place")
    here.environment |= {"GITOPSD_DEPLOY": "test -e well", "GITOPSD_ROLLBACK": "yes"}
    remote.push({"well": "\n"})
    here.synced()
    remote.remove("well")
    assert here.sync(GITOPSD_DEPLOY="false").code == DEPLOY_FAILED
    here.git("checkout", "--quiet", "-b", "fix")
    here.write("README", "a repair\n")
    run = here.sync()
    assert run.code == REFUSED
    assert (here.path / "README").read_text() == "a repair\n"
    assert here.git("symbolic-ref", "--short", "HEAD") == "fix"


@both_strategies
def test_a_bad_revision_that_is_taken_back_on_the_remote_leaves_nothing_to_do(host: Host, remote: Remote) -> None:
    good = host.standing
    remote.push({"mode": "deploy-fails\n"})
    failed(host, f"deploy: sh exited with 3; rolled back to {good[:12]}")
    remote.rewind()
    assert host.synced()["changed"] == "no"
    host.deployed(remote.push({"mode": "good\n", "page": "2\n"}))


@both_strategies
def test_one_bad_revision_after_the_other_goes_back_to_the_same_good_one(host: Host, remote: Remote) -> None:
    good = host.standing
    for number in range(4):
        remote.push({"mode": "deploy-fails\n", "page": f"{number}\n"})
        failed(host, f"deploy: sh exited with 3; rolled back to {good[:12]}", GITOPSD_KEEP="2")
        host.is_at(good)
        assert len(host.releases) <= 2
    host.in_vain("bad revision")


@both_strategies
def test_force_comes_before_a_way_back_that_waits(host: Host, remote: Remote, tmp_path: Path) -> None:
    bad = remote.push({"mode": "deploy-fails\n"})
    (tmp_path / "broken").touch()
    assert host.sync().code == DEPLOY_FAILED
    (tmp_path / "broken").unlink()
    run = failed(host, f"deploy: sh exited with 3; rolled back to {host.standing[:12]}", GITOPSD_FORCE="yes")
    assert run["new_revision"] == bad
    assert "rollback" in run.phases


@both_strategies
def test_a_first_deploy_that_failed_is_tried_again_by_the_next_sync(
    tmp_path: Path, first_remote: Remote, strategy: str
) -> None:
    here = Host(directory=tmp_path, remote=copy_of(first_remote, tmp_path), strategy=strategy)
    assert here.sync(GITOPSD_DEPLOY="false", GITOPSD_ROLLBACK="yes").code == DEPLOY_FAILED
    here.deployed(here.remote.tip(), GITOPSD_ROLLBACK="yes")


def test_a_release_to_go_back_to_that_somebody_removed_is_staged_again_without_the_gate(
    tmp_path: Path, first_remote: Remote
) -> None:
    here = Host(directory=tmp_path, remote=copy_of(first_remote, tmp_path), strategy="release")
    here.synced()
    good = here.remote.tip()
    here.remote.push({"bad": "\n"})
    gate = shlex.join(["sh", "-c", 'rm -rf "$0"; test -e bad', str(here.path.resolve())])
    run = here.sync(GITOPSD_DEPLOY="test ! -e bad", GITOPSD_GATE=gate, GITOPSD_ROLLBACK="yes")
    assert run.code == DEPLOY_FAILED
    assert run["rolled_back"] == good
    here.in_vain("bad revision")
    assert here.standing == good
    here.is_in_order()
