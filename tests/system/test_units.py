"""The units as files: what systemd itself says of them."""

import re

import pytest

from gitopsd.journal import Kind
from tests.system.host import Host
from tests.system.operator import add_repos, drop_in, jobs, switch_on, wait_for_job

UNITS = "/usr/local/lib/systemd/system"
# What systemd-analyze security counts at the most: 0 is nothing to attack, 10 is root on an open host.
EXPOSURE = {
    "gitopsd.service": 0.5,
    "gitopsd-catchall.service": 0.5,
    "gitopsd-notify.service": 1.2,
    "gitopsd-poll.service": 1.2,
    "gitopsd-tunnel.service": 1.3,
    "gitopsd-sync@blog.service": 1.7,
}


def test_systemd_finds_no_fault_in_any_unit(host: Host) -> None:
    host.write("/usr/local/bin/cloudflared", "#!/bin/sh\n", mode=0o755)  # verify looks whether programs are there
    try:
        done = host.run("sh", "-c", f"systemd-analyze verify --man=no {UNITS}/gitopsd*", check=False)
    finally:
        host.run("rm", "/usr/local/bin/cloudflared")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", EXPOSURE)
def test_little_is_exposed(host: Host, unit: str) -> None:
    said = host.run("systemd-analyze", "security", "--no-pager", unit).stdout
    found = re.search(r"exposure level for \S+ ([0-9.]+)", said)
    assert found, said
    assert float(found[1]) <= EXPOSURE[unit], said


def test_one_command_switches_everything_on_that_does_not_need_the_network_of_others(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host, timers=True)
    for unit in ("gitopsd.socket", "gitopsd-poll.timer", "gitopsd-catchall.timer"):
        assert host.unit(unit, "ActiveState")["ActiveState"] == "active", unit
    assert host.unit("gitopsd-tunnel.service", "ActiveState")["ActiveState"] == "inactive"


def test_without_the_socket_no_timer_goes_on(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host, timers=True)
    host.run("systemctl", "stop", "gitopsd.socket")
    for unit in ("gitopsd-poll.timer", "gitopsd-catchall.timer"):
        assert host.unit(unit, "ActiveState")["ActiveState"] == "inactive", unit


def test_the_journal_explains_what_it_holds(host: Host) -> None:
    add_repos(host, "blog", deploy="exit 3")
    switch_on(host)
    assert host.run("gitopsd", "sync", "blog", check=False).returncode == 1
    said = host.run("journalctl", "--no-pager", "-x", f"MESSAGE_ID={Kind.JOB_FAILED}").stdout
    assert "Subject: The sync of blog failed" in said
    assert "gitopsd logs 1" in said


def test_a_name_with_a_dash_is_escaped_as_systemd_does(host: Host) -> None:
    add_repos(host, "my-blog")
    switch_on(host)
    assert host.run("gitopsd", "sync", "my-blog").returncode == 0
    unit = host.run("systemd-escape", "--template=gitopsd-sync@.service", "my-blog").stdout.strip()
    assert host.journal(f"_SYSTEMD_UNIT={unit}", "GITOPSD_REPO=my-blog")
    assert unit in host.run("gitopsd", "status", "my-blog").stdout


def test_sync_shows_the_output_as_it_comes_and_ends_with_the_outcome(host: Host) -> None:
    gate = "/srv/gate"
    add_repos(host, "blog", deploy=f"echo it has begun; while [ ! -e {gate} ]; do sleep 0.05; done; exit 3")
    switch_on(host)
    sync = host.start_process("gitopsd", "sync", "blog")
    assert sync.stdout is not None
    seen = ""
    while "it has begun" not in seen:
        line = sync.stdout.readline()
        assert line, seen
        seen += line
    assert host.unit("gitopsd-sync@blog.service", "ActiveState")["ActiveState"] == "activating"
    assert "gitopsd-sync@blog.service: activating (start)" in host.run("gitopsd", "status", "blog").stdout
    host.write(gate, "")
    assert sync.wait(30) == 1
    assert "failed" in sync.stdout.read()


def test_a_unit_that_cannot_start_is_told_and_its_job_stays(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    drop_in(host, "gitopsd-sync@blog.service", "[Service]\nUser=nobody-of-that-name\n")
    done = host.run("gitopsd", "sync", "blog", check=False)
    assert done.returncode == 75, done.stdout
    assert "its sync fails before it comes to the job" in done.stdout
    status = host.run("gitopsd", "status").stdout
    assert "gitopsd-sync@blog.service failed" in status
    assert [job["state"] for job in jobs(host, "blog")] == ["pending"]

    host.run("rm", "-r", "/etc/systemd/system/gitopsd-sync@blog.service.d")
    host.run("systemctl", "daemon-reload")
    assert host.run("gitopsd", "sync", "blog").returncode == 0


def test_a_sync_that_the_daemon_may_not_start_stands_in_status(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    host.run("systemctl", "mask", "--runtime", "gitopsd-sync@blog.service")
    assert host.deliver("blog", host.push("blog")).status == 202
    host.wait_for(lambda: "nobody has started it" in host.run("gitopsd", "status").stdout, "the trouble", 60)
    assert "masked" in host.unit("gitopsd.service", "StatusText")["StatusText"]
    assert "is due" in host.run("gitopsd", "why", "blog").stdout


def test_nothing_switches_a_socket_on_that_somebody_switched_off(host: Host) -> None:
    names = [f"repo{number}" for number in range(3)]
    add_repos(host, *names, settings={"max_parallel": 1})
    done = host.run("gitopsd", "sync", "--all", "--no-wait", check=False)
    assert "gitopsd.socket is switched off" in done.stderr
    host.run("systemctl", "start", "gitopsd-catchall.service", check=False)
    for unit in ("gitopsd.socket", "gitopsd.service", "gitopsd-poll.timer"):
        assert host.unit(unit, "ActiveState")["ActiveState"] == "inactive", unit


def test_one_unit_that_cannot_start_does_not_keep_sync_all_from_the_others(host: Host) -> None:
    add_repos(host, "blog", "shop")
    switch_on(host)
    host.run("systemctl", "mask", "--runtime", "gitopsd-sync@blog.service")
    done = host.run("gitopsd", "sync", "--all", check=False)
    assert done.returncode == 75
    assert "masked" in done.stdout
    assert "shop: succeeded" in done.stdout


def test_the_log_from_the_journal_shows_nothing_that_others_have_forged(host: Host) -> None:
    add_repos(host, "blog", deploy="echo from the deploy")
    switch_on(host)
    host.run("gitopsd", "sync", "blog")
    forge = "printf 'MESSAGE=forged\nGITOPSD_JOB=1\nGITOPSD_REPO=blog\n' | logger --journald"
    host.run("sh", "-c", forge, user="nobody")
    host.run("sh", "-c", "rm /var/lib/gitopsd/logs/blog/1.log; journalctl --sync")
    said = host.run("gitopsd", "logs", "blog").stdout
    assert "from the deploy" in said
    assert "forged" not in said


def test_status_says_that_the_socket_is_off_and_how_to_switch_it_on(host: Host) -> None:
    add_repos(host, "blog")
    assert "systemctl enable --now gitopsd.socket" in host.run("gitopsd", "status").stdout
    switch_on(host)
    assert "!" not in host.run("gitopsd", "status").stdout


def test_more_repos_than_may_run_at_once_are_all_synced_without_waiting(host: Host) -> None:
    names = [f"repo{number}" for number in range(4)]
    add_repos(host, *names, settings={"max_parallel": 1})
    switch_on(host)
    host.run("gitopsd", "sync", "--all", "--no-wait")
    for name in names:
        wait_for_job(host, name, "succeeded")
