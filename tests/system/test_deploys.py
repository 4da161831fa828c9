"""Deploys on a booted host: releases in the sandbox, units of a repo, the way back, holds, a repo that is gitopsd's."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.host import CONFIG, Host
from tests.system.operator import SYNC_USER, add_repos, drop_in, jobs, switch_on, wait_for_job

of_one_release = pytest.mark.parametrize("release", ["debian13"])

UNIT = "app.service"
LIVE = "/srv/app/current"
RULES = "/etc/polkit-1/rules.d/60-gitopsd-app.rules"
# As docs/engine.md shows it.
LET_RESTART = """
polkit.addRule(function (action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "gitopsd-sync" &&
        action.lookup("verb") == "restart" && action.lookup("unit") == "app.service") {
        return polkit.Result.YES;
    }
});
"""
WORKS = "#!/bin/sh\nexec sleep infinity\n"
CRASHES = "#!/bin/sh\nsleep 0.5\nexit 1\n"


def prepare(host: Host, **settings: Any) -> str:
    """A repo whose service runs a program out of the release that is live; its first revision."""
    url = host.add_remote("app")
    revision = host.push("app", {"run.sh": WORKS})
    host.run("install", "-d", "-o", SYNC_USER, "-g", SYNC_USER, "/srv/app")
    host.write(f"/etc/systemd/system/{UNIT}", f"[Service]\nExecStart={LIVE}/run.sh\nRestart=always\nRestartSec=100ms\n")
    host.write(RULES, LET_RESTART)
    host.run("systemctl", "restart", "polkit")  # it reads rules when it starts, and some time after they are written
    host.run("systemctl", "daemon-reload")
    repo = {"url": url, "path": LIVE, "strategy": "release", "retry": {"tries": 1}, **settings}
    host.configure({"repos": {"app": repo}})
    switch_on(host)
    return revision


@pytest.fixture(autouse=True)
def end_units(host: Host) -> Iterator[None]:
    """What is not gitopsd's, and so is not brought back by the host."""
    yield
    host.run("systemctl", "stop", UNIT, check=False)
    host.run("rm", "-f", RULES, f"/etc/systemd/system/{UNIT}")


def live_revision(host: Host) -> str:
    tree = host.run("readlink", "-e", LIVE).stdout.strip()
    return host.run("git", "-c", f"safe.directory={tree}", "-C", tree, "rev-parse", "HEAD").stdout.strip()


def deliver(host: Host, revision: str) -> None:
    assert host.deliver("app", revision).status == 202


def test_a_unit_that_crashes_after_its_restart_is_a_failed_deploy_and_is_rolled_back(host: Host) -> None:
    good = prepare(host, units=[UNIT], settle="2s", rollback=True)
    deliver(host, good)
    wait_for_job(host, "app", "succeeded")
    assert live_revision(host) == good
    first = host.unit(UNIT, "InvocationID")["InvocationID"]

    bad = host.push("app", {"run.sh": CRASHES})
    deliver(host, bad)
    job = wait_for_job(host, "app", "failed")
    assert f"rolled back to {good[:12]}" in job["reason"]
    assert UNIT in job["reason"]
    assert live_revision(host) == good
    now = host.unit(UNIT, "ActiveState", "InvocationID")
    assert now["ActiveState"] == "active"
    assert now["InvocationID"] != first
    assert host.run("gitopsd", "sync", "app", check=False).returncode == 77


@of_one_release
def test_a_restart_that_polkit_does_not_allow_is_told(host: Host) -> None:
    good = prepare(host, units=[UNIT])
    host.run("rm", RULES)
    host.run("systemctl", "restart", "polkit")
    deliver(host, good)
    reason = wait_for_job(host, "app", "failed")["reason"]
    assert "systemctl restart" in reason


def test_a_release_is_gone_back_to_without_its_remote_and_stays_until_it_is_resumed(host: Host) -> None:
    first = prepare(host)
    deliver(host, first)
    wait_for_job(host, "app", "succeeded")
    deliver(host, host.push("app", {"page": "2"}))
    wait_for_job(host, "app", "succeeded", count=2)
    host.run("mv", "/srv/remotes/app.git", "/srv/remotes/gone.git")
    done = host.run("gitopsd", "rollback", "app")
    assert done.returncode == 0
    assert live_revision(host) == first
    host.run("mv", "/srv/remotes/gone.git", "/srv/remotes/app.git")

    third = host.push("app", {"page": "3"})
    answer = host.deliver("app", third)
    assert answer.status == 202
    assert "held by" in json.dumps(answer.payload)
    assert "held" in host.run("gitopsd", "status").stdout
    assert live_revision(host) == first

    before = len(jobs(host, "app"))
    assert host.run("gitopsd", "resume", "app").returncode == 0
    assert live_revision(host) == third
    after = [job for job in jobs(host, "app") if job["state"] == "succeeded"]
    assert after[-1]["new_revision"] == third
    assert len(jobs(host, "app")) == before  # the push's own job, and no other


@of_one_release
def test_the_daemon_may_not_lift_a_hold(host: Host) -> None:
    prepare(host)
    host.run("gitopsd", "hold", "app", "--reason", "a disk is exchanged")
    as_daemon = ("setpriv", "--reuid=gitopsd", "--regid=gitopsd", "--init-groups", "--")
    assert host.run(*as_daemon, "cat", "/var/lib/gitopsd/holds/app.json").returncode == 0
    assert host.run(*as_daemon, "rm", "-f", "/var/lib/gitopsd/holds/app.json", check=False).returncode != 0
    assert host.run(*as_daemon, "touch", "/var/lib/gitopsd/holds/other.json", check=False).returncode != 0


@of_one_release
def test_a_visitor_of_the_site_can_read_a_release_and_nobody_else_its_mirror(host: Host) -> None:
    good = prepare(host)
    deliver(host, good)
    wait_for_job(host, "app", "succeeded")
    as_nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--")
    assert host.run(*as_nobody, "cat", f"{LIVE}/run.sh").stdout == WORKS
    assert host.run(*as_nobody, "ls", "/var/lib/gitopsd/mirrors/app", check=False).returncode != 0
    as_daemon = ("setpriv", "--reuid=gitopsd", "--regid=gitopsd", "--init-groups", "--")
    assert host.run(*as_daemon, "touch", "/var/lib/gitopsd/mirrors/app/refs/x", check=False).returncode != 0


@of_one_release
def test_a_repo_that_changes_the_configuration_of_gitopsd_ends_its_own_deploy_in_peace(host: Host) -> None:
    deploy = f"cp more.yaml /etc/gitopsd/conf.d/more.yaml && systemctl reload-or-restart gitopsd && touch {CONFIG}.done"
    add_repos(host, "blog", deploy=deploy)
    host.push("blog", {"more.yaml": "max_parallel: 3\n"})
    drop_in(
        host,
        "gitopsd-sync@blog.service",
        "[Service]\nUser=root\nReadWritePaths=/etc/gitopsd\nPrivateUsers=no\n",
    )
    host.run("chown", "-R", "root:root", "/srv/blog")
    switch_on(host)
    revision = host.push("blog", {"page": "1"})
    assert host.deliver("blog", revision).status == 202
    job = wait_for_job(host, "blog", "succeeded", "failed")
    assert (job["state"], job["new_revision"]) == ("succeeded", revision), job["reason"]
    assert host.exists(f"{CONFIG}.done")
    assert len(jobs(host, "blog")) == 1
    next_one = host.push("blog", {"page": "2"})
    assert host.deliver("blog", next_one).status == 202
    wait_for_job(host, "blog", "succeeded", count=2)
