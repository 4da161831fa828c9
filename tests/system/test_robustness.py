"""What hangs is restarted, what is restarted leaves syncs alone, and what the power takes is done again."""

import pytest

from gitopsd.journal import Kind
from tests.system.host import Host
from tests.system.operator import (
    DAEMON,
    add_repos,
    daemon_pid,
    deployed,
    drop_in,
    has_logged,
    jobs,
    switch_on,
    wait_for_job,
    wait_until_deployed,
)

GATE = "/srv/gate"
HELD = f"touch begun; while [ ! -e {GATE} ]; do sleep 0.05; done"
SHORT_WATCHDOG = "[Service]\nWatchdogSec=7s\nEnvironment=SYSTEMD_BUS_TIMEOUT=60s\n"


def test_a_daemon_that_stands_still_is_started_again_and_loses_nothing(host: Host) -> None:
    add_repos(host, "blog", "shop")
    drop_in(host, DAEMON, SHORT_WATCHDOG)
    switch_on(host)
    assert host.deliver("blog", host.push("blog")).status == 202
    wait_for_job(host, "blog", "succeeded")
    pid = daemon_pid(host)
    host.run("kill", "-STOP", str(pid))
    revision = host.push("shop")

    # Its answer comes from the daemon after this one.
    assert host.deliver("shop", revision).status == 202

    assert daemon_pid(host) != pid
    assert host.unit(DAEMON, "NRestarts")["NRestarts"] == "1"
    assert has_logged(host, DAEMON, "Watchdog timeout")
    wait_until_deployed(host, "shop", revision)


def test_a_dispatcher_that_hangs_is_a_daemon_that_is_started_again(host: Host) -> None:
    add_repos(host, "blog")
    drop_in(host, DAEMON, SHORT_WATCHDOG)
    switch_on(host)
    assert host.deliver("blog", "", event="ping").status == 200
    pid = daemon_pid(host)
    bus = host.run("pgrep", "-x", "dbus-daemon").stdout.split()
    revision = host.push("blog")
    host.run("kill", "-STOP", *bus)  # whoever asks it for a start waits
    try:
        # pystemd keeps the interpreter to itself while it waits, so the answer may stay behind. The job may not.
        assert host.deliver("blog", revision).status in (202, 0)
        host.wait_for(lambda: has_logged(host, DAEMON, "Watchdog timeout"), "the watchdog", 60)
    finally:
        host.run("kill", "-CONT", *bus)

    wait_until_deployed(host, "blog", revision)
    assert daemon_pid(host) != pid


def test_while_it_works_and_while_it_idles_the_watchdog_is_content(host: Host) -> None:
    add_repos(host, "blog", deploy=HELD)
    drop_in(host, DAEMON, SHORT_WATCHDOG)
    switch_on(host)
    assert host.deliver("blog", host.push("blog")).status == 202
    pid = daemon_pid(host)
    fed = "WatchdogTimestampMonotonic"
    first = int(host.unit(DAEMON, fed)[fed])
    host.wait_for(lambda: int(host.unit(DAEMON, fed)[fed]) > first + 15_000_000, "two of its times", 60)
    assert daemon_pid(host) == pid
    assert host.unit(DAEMON, "StatusText")["StatusText"] == "syncing blog"
    host.write(GATE, "")
    wait_for_job(host, "blog", "succeeded")
    host.wait_for(
        lambda: host.unit(DAEMON, "StatusText")["StatusText"] == "waiting for deliveries",
        "the status of one that waits",
    )


@pytest.mark.parametrize("end", ["systemctl restart gitopsd.service", "systemctl kill -s KILL gitopsd.service"])
def test_a_running_sync_goes_on_when_the_daemon_does_not(host: Host, end: str) -> None:
    add_repos(host, "blog", deploy=HELD)
    switch_on(host)
    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202
    host.wait_for(lambda: host.exists("/srv/blog/begun"), "the deploy command")
    pid = daemon_pid(host)

    host.run("sh", "-c", end)

    host.wait_for(lambda: daemon_pid(host) not in (0, pid), "another daemon")
    host.write(GATE, "")
    wait_for_job(host, "blog", "succeeded")
    assert [job["state"] for job in jobs(host, "blog")] == ["succeeded"]
    assert deployed(host, "blog") == revision


def test_a_sync_that_is_stopped_is_recorded_and_done_again(host: Host) -> None:
    add_repos(host, "blog", deploy=HELD)
    switch_on(host)
    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202
    host.wait_for(lambda: host.exists("/srv/blog/begun"), "the deploy command")
    host.write(GATE, "")
    host.run("systemctl", "stop", "gitopsd-sync@blog.service")
    wait_until_deployed(host, "blog", revision)
    assert jobs(host, "blog")[-1]["state"] in ("succeeded", "unchanged")


def test_a_power_cut_loses_neither_what_waits_nor_what_runs(own_host: Host) -> None:
    add_repos(own_host, "blog", "shop", deploy=HELD, settings={"max_parallel": 1})
    own_host.run("systemctl", "enable", "--now", "gitopsd.socket")
    drop_in(own_host, "gitopsd-poll.timer", "[Timer]\nOnBootSec=\nOnBootSec=1s\n")  # and not half a minute
    drop_in(own_host, "gitopsd-catchall.timer", "[Timer]\nOnBootSec=\nOnBootSec=1h\nPersistent=no\n")
    revisions = {name: own_host.push(name) for name in ("blog", "shop")}
    for name, revision in revisions.items():
        assert own_host.deliver(name, revision).status == 202
    own_host.wait_for(lambda: own_host.exists("/srv/blog/begun"), "the deploy command")

    own_host.power_cut()
    own_host.boot()
    own_host.write(GATE, "")

    for name, revision in revisions.items():
        wait_until_deployed(own_host, name, revision)
    states = {name: [job["state"] for job in jobs(own_host, name)] for name in revisions}
    assert "interrupted" in states["blog"] + states["shop"]
    assert all(of_repo[-1] in ("succeeded", "unchanged") for of_repo in states.values()), states


def test_the_poll_finds_a_push_whose_webhook_never_came(host: Host) -> None:
    add_repos(host, "blog", settings={"idle_exit": "200ms"})
    assert host.run("gitopsd", "sync", "blog").returncode == 0
    timer = host.run("systemctl", "cat", "gitopsd-poll.timer").stdout
    assert "OnUnitActiveSec=3min" in timer
    drop_in(host, "gitopsd-poll.timer", "[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnActiveSec=1s\nOnUnitActiveSec=2s\n")
    host.run("systemctl", "mask", "--runtime", "gitopsd-catchall.timer")
    switch_on(host, timers=True)
    revision = host.push("blog")

    wait_until_deployed(host, "blog", revision)

    assert jobs(host, "blog")[-1]["trigger"] == "poll"
    assert host.journal(f"MESSAGE_ID={Kind.TIP_MOVED}", "GITOPSD_REPO=blog", f"GITOPSD_REVISION={revision}")


def test_a_retry_comes_in_its_time_though_the_daemon_was_idle(host: Host) -> None:
    add_repos(host, "blog", deploy="exit $(cat /srv/code)")
    host.write("/srv/code", "3")
    switch_on(host)
    assert host.run("gitopsd", "sync", "blog", check=False).returncode == 1
    host.write("/srv/code", "0")

    wait_for_job(host, "blog", "succeeded")

    assert daemon_pid(host), "it was started to see to the retry"


def test_the_catch_all_finds_a_push_whose_webhook_never_came(host: Host) -> None:
    add_repos(host, "blog", "shop")
    switch_on(host)
    revision = host.push("blog")
    host.run("systemctl", "start", "gitopsd-catchall.service")
    wait_until_deployed(host, "blog", revision)
    for name in ("blog", "shop"):
        assert wait_for_job(host, name, "succeeded")["trigger"] == "timer"
    host.run("systemctl", "unmask", "--runtime", "gitopsd-catchall.timer")
    timer = host.unit("gitopsd-catchall.timer", "Persistent", "RandomizedDelayUSec")
    assert timer == {"Persistent": "yes", "RandomizedDelayUSec": "5min"}


def test_a_job_that_nobody_dispatches_is_seen_to_by_the_next_poll(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    host.run("gitopsd", "sync", "blog")
    host.run("systemctl", "mask", "--runtime", "gitopsd-sync@blog.service")
    assert host.run("gitopsd", "sync", "blog", "--no-wait", check=False).returncode != 0
    host.run("systemctl", "unmask", "--runtime", "gitopsd-sync@blog.service")
    assert jobs(host, "blog")[-1]["state"] == "pending"
    assert daemon_pid(host) == 0

    host.run("systemctl", "start", "gitopsd-poll.service")

    wait_for_job(host, "blog", "unchanged")
