"""The socket starts the daemon, the daemon ends when it has nothing to do, and no delivery notices."""

import json
import random
import re
from collections.abc import Callable

from gitopsd.journal import Kind
from tests.system.host import Answer, Host
from tests.system.operator import (
    DAEMON,
    SOCKET,
    add_repos,
    daemon_pid,
    deployed,
    is_active,
    jobs,
    switch_on,
    wait_for_job,
    wait_until_deployed,
)

LOOP = 50


def statuses(answers: list[Answer]) -> list[int | str]:
    return [answer.status or answer.error for answer in answers]


def test_the_first_delivery_starts_the_daemon_and_is_deployed(
    host: Host, release: str, tell: Callable[[str], None]
) -> None:
    add_repos(host, "blog")
    switch_on(host)
    assert daemon_pid(host) == 0
    revision = host.push("blog")

    answer = host.deliver("blog", revision)

    assert answer.status == 202, answer
    tell(f"{release}: from the connection to 202 with the daemon's start: {answer.seconds:.3f} s")
    wait_until_deployed(host, "blog", revision)
    assert wait_for_job(host, "blog", "succeeded")["trigger"] == "webhook"


def test_fifty_deliveries_at_once_during_the_start_are_all_answered(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    revision = host.push("blog")
    answers = host.deliver_at_once([host.delivery("blog", revision) for _ in range(LOOP)])
    assert statuses(answers) == [202] * LOOP
    wait_until_deployed(host, "blog", revision)
    assert len(jobs(host, "blog")) <= 3


def test_a_daemon_with_nothing_to_do_ends_and_the_socket_stays(host: Host) -> None:
    add_repos(host, "blog", settings={"idle_exit": "200ms"})
    switch_on(host)
    assert host.deliver("blog", host.push("blog")).status == 202
    wait_for_job(host, "blog", "succeeded")

    host.wait_for(lambda: not daemon_pid(host), "the daemon's end")

    assert host.unit(DAEMON, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert host.journal(f"MESSAGE_ID={Kind.IDLE}")
    assert not [pid for pid in host.run("pgrep", "-f", "gitopsd serve", check=False).stdout.split() if pid]
    assert is_active(host, SOCKET)
    assert "!" not in host.run("gitopsd", "status").stdout
    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202
    wait_until_deployed(host, "blog", revision)


def test_a_delivery_in_the_very_moment_of_the_idle_exit_is_not_lost(host: Host) -> None:
    add_repos(host, "blog", settings={"idle_exit": "100ms"})
    switch_on(host)
    revision = host.push("blog")
    pings = [host.delivery("blog", "", event="ping", delay=random.uniform(0.05, 0.35)) for _ in range(LOOP)]

    answers = host.send([host.delivery("blog", revision), *pings])

    assert statuses(answers) == [202, *[200] * LOOP]
    wait_until_deployed(host, "blog", revision)
    assert len(host.journal(f"MESSAGE_ID={Kind.IDLE}")) > LOOP / 5, "it hardly ever came to an idle exit"


def test_a_push_at_any_moment_of_a_sync_gets_a_run_of_its_own(host: Host) -> None:
    add_repos(host, "blog", settings={"idle_exit": "300ms"})
    switch_on(host)
    revisions = [host.push("blog") for _ in range(LOOP)]
    deliveries = [host.delivery("blog", each, delivery=each, delay=random.uniform(0, 0.6)) for each in revisions]

    answers = host.send(deliveries)

    assert statuses(answers) == [202] * LOOP
    wait_until_deployed(host, "blog", revisions[-1])
    starts = {job["id"]: job["started_at"] for job in jobs(host, "blog")}
    for accepted in host.journal(f"MESSAGE_ID={Kind.DELIVERY_ACCEPTED}"):
        started = host.journal(f"MESSAGE_ID={Kind.JOB_STARTED}", f"GITOPSD_JOB={accepted['GITOPSD_JOB']}")
        assert started, f"job {accepted['GITOPSD_JOB']} never ran"
        assert starts[int(accepted["GITOPSD_JOB"])]


def test_no_unit_is_ever_failed_by_a_limit_on_starts(host: Host) -> None:
    add_repos(host, "blog", settings={"idle_exit": "200ms"})
    switch_on(host)
    start = f"for each in $(seq {LOOP}); do systemctl start gitopsd-sync@blog.service || exit; done"
    host.run("sh", "-c", start, timeout=120)
    with host.held_connections(500):
        host.wait_for(lambda: daemon_pid(host), "the daemon")
    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202
    wait_until_deployed(host, "blog", revision)
    failed = host.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "gitopsd*").stdout
    assert failed == ""
    assert is_active(host, SOCKET)


def test_a_daemon_that_cannot_start_never_takes_the_socket_down(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    host.write(f"/run/systemd/system/{DAEMON}.d/broken.conf", "[Service]\nExecStart=\nExecStart=/bin/false\n")
    host.run("systemctl", "daemon-reload")
    revision = host.push("blog")
    waiting = host.start_process(*host.client())
    assert waiting.stdin is not None
    assert waiting.stdout is not None
    waiting.stdin.write(host.task([host.delivery("blog", revision)]) + "\n")
    waiting.stdin.flush()
    host.wait_for(lambda: int(host.unit(DAEMON, "NRestarts")["NRestarts"]) >= 3, "some starts in vain")

    assert is_active(host, SOCKET)
    host.run("rm", "-r", f"/run/systemd/system/{DAEMON}.d")
    host.run("systemctl", "daemon-reload")

    assert [answer["status"] for answer in json.loads(waiting.stdout.readline())] == [202]
    wait_until_deployed(host, "blog", revision)


def test_a_broken_configuration_is_named_and_a_reload_after_its_repair_is_enough(host: Host) -> None:
    add_repos(host, "blog")
    good = host.read("/etc/gitopsd/gitopsd.yaml")
    host.run("gitopsd", "sync", "blog")
    before = deployed(host, "blog")
    host.write("/etc/gitopsd/gitopsd.yaml", good.replace("retry:", "retries:"))
    switch_on(host)
    revision = host.push("blog")

    turned_away = host.deliver("blog", revision)

    assert turned_away.status == 503
    assert int(turned_away.headers["Retry-After"]) > 0
    assert is_active(host, SOCKET)
    status = host.run("systemctl", "status", "--no-pager", DAEMON, check=False).stdout
    assert "retries: unknown key" in next(line for line in status.splitlines() if "Status:" in line)
    assert re.search(r"gitopsd\.yaml:\d+: retries: unknown key; did you mean 'retry'", status), status
    assert deployed(host, "blog") == before

    host.write("/etc/gitopsd/gitopsd.yaml", good)
    host.run("systemctl", "reload", DAEMON)

    host.wait_for(lambda: host.deliver("blog", revision).status in (202, 200), "an answer in order")
    wait_until_deployed(host, "blog", revision)


def test_a_configuration_that_is_mended_is_taken_up_without_a_word(host: Host) -> None:
    add_repos(host, "blog")
    good = host.read("/etc/gitopsd/gitopsd.yaml")
    host.write("/etc/gitopsd/conf.d/half.yaml", "repos: [")
    switch_on(host)
    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 503

    host.run("rm", "/etc/gitopsd/conf.d/half.yaml")

    host.wait_for(lambda: host.deliver("blog", revision).status == 202, "an answer in order")
    wait_until_deployed(host, "blog", revision)
    host.write("/etc/gitopsd/gitopsd.yaml", good.replace("retry:", "retries:"))
    host.run("systemctl", "reload", DAEMON)
    host.wait_for(lambda: "retries" in host.unit(DAEMON, "StatusText")["StatusText"], "the key in the status")
    host.write("/etc/gitopsd/gitopsd.yaml", good)
    host.wait_for(lambda: "waiting" in host.unit(DAEMON, "StatusText")["StatusText"], "the end of the trouble")


def test_a_reload_with_a_broken_configuration_changes_nothing(host: Host) -> None:
    add_repos(host, "blog")
    switch_on(host)
    assert host.deliver("blog", host.push("blog")).status == 202
    wait_for_job(host, "blog", "succeeded")
    good = host.read("/etc/gitopsd/gitopsd.yaml")
    host.write("/etc/gitopsd/gitopsd.yaml", good.replace("retry:", "retries:"))
    host.run("systemctl", "reload", DAEMON)
    host.wait_for(lambda: host.journal(f"MESSAGE_ID={Kind.CONFIG_BROKEN}"), "the refusal")

    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202

    # A sync reads the file itself, so the job waits until it is mended.
    host.wait_for(lambda: host.unit("gitopsd-sync@blog.service", "Result")["Result"] == "exit-code", "a sync in vain")
    host.write("/etc/gitopsd/gitopsd.yaml", good)
    host.run("systemctl", "reload", DAEMON)
    wait_until_deployed(host, "blog", revision)
