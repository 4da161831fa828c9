"""What `gitopsd status` says of units that are not as they should be."""

import pytest

from tests.system.host import Host
from tests.system.operator import add_repos, drop_in, switch_on

SYNC = "gitopsd-sync@blog.service"
TIMERS = ("gitopsd-poll.timer", "gitopsd-catchall.timer")
TUNNEL = "gitopsd-tunnel.service"


def problems(host: Host, *words: str) -> list[str]:
    """The lines of `gitopsd status` that begin with a bang."""
    said = host.run("gitopsd", "status", *words).stdout
    return [line.removeprefix("! ") for line in said.splitlines() if line.startswith("! ")]


def test_a_masked_sync_is_told_while_a_job_waits_for_it(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    host.run("systemctl", "mask", "--runtime", SYNC)
    assert problems(host) == [], "nothing waits"
    assert host.run("gitopsd", "sync", "blog", "--no-wait", check=False).returncode != 0

    assert problems(host) == [f"{SYNC} is masked, and job 1 waits; run: systemctl unmask '{SYNC}'"]

    host.run("systemctl", "unmask", "--runtime", SYNC)
    assert host.run("gitopsd", "sync", "blog").returncode == 0
    assert problems(host) == []


@pytest.mark.parametrize("release", ["debian13"])
def test_a_sync_that_systemd_cannot_load_is_told_while_a_job_waits_for_it(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    drop_in(host, SYNC, "[Service]\nExecStart=\n")
    assert host.run("gitopsd", "sync", "blog", "--no-wait", check=False).returncode != 0

    assert problems(host) == [f"{SYNC} is not loaded, and job 1 waits; see: systemctl status '{SYNC}'"]


def test_a_timer_that_does_not_run_beside_the_socket_is_told(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host, timers=True)
    assert problems(host) == []
    host.run("systemctl", "stop", *TIMERS)

    (problem,) = problems(host)

    assert problem == (
        "gitopsd-poll.timer is inactive: what a webhook misses is not found; run: systemctl start gitopsd-poll.timer"
    )
    assert problem in host.run("gitopsd", "why", "blog").stdout


@pytest.mark.parametrize("release", ["debian13"])
def test_a_timer_that_was_masked_for_good_is_nobodys_problem(host: Host) -> None:
    add_repos(host, "blog")
    host.run("systemctl", "mask", *TIMERS)
    switch_on(host, timers=True)

    assert problems(host) == []


@pytest.mark.parametrize("release", ["debian13"])
def test_a_socket_that_is_off_is_the_only_problem_of_the_units(host: Host) -> None:
    add_repos(host, "blog")

    (problem,) = problems(host)

    assert problem.startswith("gitopsd.socket is inactive")


@pytest.mark.parametrize("command", ["exit 1", ""], ids=["it fails again and again", "cloudflared is not installed"])
def test_a_tunnel_that_failed_is_told(host: Host, command: str) -> None:
    add_repos(host, "blog")
    host.write("/etc/gitopsd/tunnel-token", "token", mode=0o600)
    if command:
        drop_in(host, TUNNEL, f"[Service]\nExecStart=\nExecStart=/bin/sh -c '{command}'\nRestartSec=1h\n")
    switch_on(host)
    host.wait_for(lambda: host.unit(TUNNEL, "Result")["Result"] == "exit-code", "its failure")

    said = host.wait_for(lambda: problems(host), "the problem")

    assert said == [f"{TUNNEL} failed: no delivery comes through it; see: journalctl -u {TUNNEL}"]
