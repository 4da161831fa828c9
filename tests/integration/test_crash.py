"""kill -9 and power cuts: what was accepted is deployed after the next start, and no job stays `running`."""

import contextlib
import http.client
import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gitopsd import lock
from tests.remote import Remote, git
from tests.site import Site, wait_for

FINAL = {"succeeded", "unchanged", "interrupted", "failed", "superseded"}
ENDS = ("the daemon is killed", "the power is cut")


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest, site: Site) -> Callable[[], None]:
    """Ends the daemon alone (its syncs live on), or everything."""
    return site.kill_everything if request.param == ENDS[1] else lambda: _kill_daemon(site)


def test_after_the_commit_and_before_the_start(site: Site, end: Callable[[], None]) -> None:
    remote = site.add_repo("blog", deploy="echo $GITOPSD_NEW_REVISION >> ../deploys")
    site.start()
    with lock.hold(site.state_dir, "blog"):  # so that the dispatcher finds no moment to start it
        revision = remote.push()
        assert site.deliver("blog", revision).status == 202
        end()
    assert [job["state"] for job in site.jobs("blog")] == ["pending"]

    site.start()

    site.wait_for_job("blog", "succeeded")
    assert site.deployed("blog") == revision


def test_during_the_fetch(site: Site, end: Callable[[], None]) -> None:
    remote = site.add_repo("blog", deploy="echo $GITOPSD_NEW_REVISION >> ../deploys")
    revision = remote.push()
    git_config = site.root / "gitconfig"
    site.environment["GIT_CONFIG_GLOBAL"] = str(git_config)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        git_config.write_text(f'[url "git://127.0.0.1:{hung.getsockname()[1]}/"]\n\tinsteadOf = {remote.url}\n')
        site.start()
        assert site.deliver("blog", revision).status == 202
        connection, _ = hung.accept()
        assert site.jobs("blog")[-1]["state"] == "running"
        end()
        git_config.write_text("")
        connection.close()

    site.start()

    site.wait_for_job("blog", "succeeded")
    _assert_whole(site, revision)


def test_during_the_deploy(site: Site, end: Callable[[], None]) -> None:
    gate = site.root / "gate"
    begun = site.checkout("blog").parent / "begun"
    deploy = f'touch ../begun; while [ ! -e "{gate}" ]; do sleep 0.01; done; echo $GITOPSD_NEW_REVISION >> ../deploys'
    remote = site.add_repo("blog", deploy=deploy)
    site.start()
    revision = remote.push()
    assert site.deliver("blog", revision).status == 202
    wait_for(begun.exists, "the deploy command")
    end()
    gate.touch()

    site.start()

    site.wait_for_job("blog", "succeeded")
    _assert_whole(site, revision)
    assert _deploys(site)[-1] == revision


def test_before_the_record(site: Site) -> None:
    """The engine has done everything, and whoever would write that down is killed."""
    engine, once = site.root / "engine", site.root / "once"
    real = Path(__file__).parents[2] / "scripts" / "gitops_sync.sh"
    kill_grandparent = "set -- $(cat /proc/$PPID/stat); kill -9 $4"  # the parent is timeout(1)
    engine.write_text(
        f'#!/bin/sh\n"{real}" "$@" || exit\n[ -e "{once}" ] || {{ touch "{once}"; {kill_grandparent}; }}\n'
    )
    engine.chmod(0o755)
    site.settings["engine"] = str(engine)
    remote = site.add_repo("blog", deploy="echo $GITOPSD_NEW_REVISION >> ../deploys")
    site.start()
    revision = remote.push()
    assert site.deliver("blog", revision).status == 202

    interrupted = site.wait_for_job("blog", "interrupted")
    site.wait_for_job("blog", "unchanged")

    assert "interrupted during deploy" in interrupted["reason"]
    _assert_whole(site, revision)
    assert _deploys(site) == [revision]


def test_a_killed_sync_is_not_overtaken_while_its_engine_still_works(site: Site) -> None:
    gate = site.root / "gate"
    deploy = f'echo $$ >> ../deploys; mkdir ../busy || touch ../overlap; while [ ! -e "{gate}" ]; do sleep 0.01; done'
    remote = site.add_repo("blog", deploy=f"{deploy}; rmdir ../busy")
    site.start()
    revision = remote.push()
    assert site.deliver("blog", revision).status == 202
    wait_for(lambda: _deploys(site), "the deploy command")
    _kill_sync(site)

    assert not lock.is_free(site.state_dir, "blog")
    gate.touch()

    site.wait_for_job("blog", "interrupted")
    site.wait_until_settled("blog")
    _assert_whole(site, revision)
    assert not (site.checkout("blog").parent / "overlap").exists()


def test_sigterm_ends_what_takes_too_long_and_leaves_it_for_the_next_start(site: Site) -> None:
    gate = site.root / "gate"
    site.settings["stop_timeout"] = "100ms"
    remote = site.add_repo("blog", deploy=f'touch ../begun; while [ ! -e "{gate}" ]; do sleep 0.01; done')
    site.start()
    revision = remote.push()
    site.deliver("blog", revision)
    wait_for((site.checkout("blog").parent / "begun").exists, "the deploy command")

    assert site.stop() == 0

    assert [job["state"] for job in site.jobs("blog")] == ["interrupted", "pending"]
    assert site.processes() == []
    gate.touch()
    site.start()
    site.wait_for_job("blog", "succeeded")


def test_sigterm_lets_a_sync_end_that_needs_less_than_stop_timeout(site: Site) -> None:
    gate = site.root / "gate"
    site.settings["stop_timeout"] = "30s"
    remote = site.add_repo("blog", deploy=f'touch ../begun; while [ ! -e "{gate}" ]; do sleep 0.01; done')
    site.start()
    site.deliver("blog", remote.push())
    wait_for((site.checkout("blog").parent / "begun").exists, "the deploy command")

    site.signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in site.log(), "the daemon to stop")
    gate.touch()

    assert site.wait_for_end() == 0
    assert [job["state"] for job in site.jobs("blog")] == ["succeeded"]


@pytest.mark.timeout(900)
def test_no_accepted_delivery_is_lost_at_any_moment(site: Site, crash_runs: int, tell: Callable[[str], None]) -> None:
    remote = site.add_repo("blog", deploy="sleep 0.05; echo $GITOPSD_NEW_REVISION >> ../deploys")
    accepted: list[str] = []
    lost = runs = 0
    while runs < crash_runs or not accepted:  # a few runs may all have ended before the first push
        runs += 1
        site.start()
        pusher = threading.Thread(target=_push_and_deliver, args=(site, remote, accepted))
        pusher.start()
        # The one wait for time alone: the moment of the crash is what is tried.
        threading.Event().wait(random.uniform(0.0, 0.8))
        (_kill_daemon if runs % 2 else Site.kill_everything)(site)
        pusher.join()

        site.start()
        site.wait_until_settled("blog")
        lost += len(_lost(site, remote, accepted))
        _kill_daemon(site)
    tell(f"{runs} crashes, {len(accepted)} accepted deliveries, {lost} lost")
    assert lost == 0
    # With the daemon alive: a delivery that lay in the socket's queue when its sender gave up is a wish as well.
    site.start()
    wait_for(lambda: {job["state"] for job in site.jobs("blog")} <= FINAL, "every job to have ended")
    assert git(site.checkout("blog"), "status", "--porcelain") == ""


def _push_and_deliver(site: Site, remote: Remote, accepted: list[str]) -> None:
    """Push three commits, each with its delivery; notes what the daemon took before it was killed."""
    for _ in range(3):
        revision = remote.push()
        try:
            if site.deliver("blog", revision).status == 202:
                accepted.append(revision)
        except (OSError, http.client.HTTPException):
            return


def _lost(site: Site, remote: Remote, accepted: list[str]) -> list[str]:
    """The accepted revisions that are in no deployed one. The history is a line: later holds earlier."""
    order = {revision: n for n, revision in enumerate(git(remote.bare, "rev-list", "--reverse", "main").splitlines())}
    newest = max((order[revision] for revision in _deploys(site)), default=-1)
    return [revision for revision in accepted if order[revision] > newest]


def _deploys(site: Site) -> list[str]:
    path = site.checkout("blog").parent / "deploys"
    return path.read_text().split() if path.exists() else []


def _assert_whole(site: Site, revision: str) -> None:
    assert site.deployed("blog") == revision
    assert git(site.checkout("blog"), "status", "--porcelain") == ""
    assert [job for job in site.jobs("blog") if job["state"] == "running"] == []


def _kill_daemon(site: Site) -> None:
    site.stop(signal.SIGKILL)


def _kill_sync(site: Site) -> None:
    """SIGKILL to `gitopsd run`, and to nothing else."""
    for pid in site.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the deploy's `sleep` comes and goes
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"run" in words and any(b"from gitopsd" in word for word in words):
                os.kill(pid, signal.SIGKILL)
