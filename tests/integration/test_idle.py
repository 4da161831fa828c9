"""A daemon on a socket that outlives it ends when it has nothing to do, and nobody who delivers is worse off."""

import random
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.site import Answer, Site, wait_for

GONE = "nothing to do for a while (idle_exit)"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def site(site: Site) -> Site:
    site.settings["idle_exit"] = "500ms"
    site.write_config()
    return site


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Site]:
    """Another daemon with nothing to do: once it has ended, whatever else is idle for as long has ended, too."""
    (tmp_path / "control").mkdir()
    made = Site(tmp_path / "control")
    made.settings["idle_exit"] = "500ms"
    made.write_config()
    try:
        yield made
    finally:
        made.close()


def start_and_wait_for_the_end(control: Site) -> None:
    control.start()
    assert control.wait_for_end() == 0


def starts(site: Site) -> int:
    return site.log().count("listening on ")


def test_with_nothing_to_do_it_ends_and_the_next_one_serves_the_same_socket(site: Site) -> None:
    remote = site.add_repo("blog", deploy="true")
    for count in (1, 2):
        site.start()
        assert site.deliver("blog", remote.push()).status == 202
        assert site.wait_for_job("blog", "succeeded", count=count)["new_revision"] == remote.tip()
        assert site.wait_for_end() == 0
        assert site.log().count(GONE) == count
    assert site.processes() == []


def test_a_delivery_that_comes_while_nobody_is_there_is_answered_by_the_next(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()
    assert site.wait_for_end() == 0
    answers: list[Answer] = []
    sender = threading.Thread(target=lambda: answers.append(site.deliver("blog", remote.tip())))
    sender.start()

    site.start()

    sender.join()
    assert [answer.status for answer in answers] == [202]
    site.wait_for_job("blog", "succeeded")


def test_it_is_there_for_a_retry_that_is_due_later(site: Site) -> None:
    site.settings["retry"] = {"tries": 2, "delay": "2s"}  # longer than it may be idle
    remote = site.add_repo("blog", deploy="[ -e ../failed ] || { touch ../failed; exit 1; }")
    site.start()

    site.deliver("blog", remote.tip())

    site.wait_for_job("blog", "succeeded")
    assert [job["state"] for job in site.jobs("blog")] == ["failed", "succeeded"]
    assert site.wait_for_end() == 0
    assert starts(site) == 1
    log = site.log()
    assert log.index("succeeded: deployed") < log.index(GONE)


def test_it_is_there_until_a_sync_has_ended(site: Site, control: Site) -> None:
    gate = site.root / "gate"
    remote = site.add_repo("blog", deploy=f"touch ../begun; while [ ! -e '{gate}' ]; do sleep 0.01; done")
    site.start()
    site.deliver("blog", remote.tip())
    wait_for((site.checkout("blog").parent / "begun").exists, "the deploy command")

    start_and_wait_for_the_end(control)

    assert not site.has_ended()
    assert site.get("/healthz").status == 200
    gate.touch()
    assert site.wait_for_end() == 0
    assert [job["state"] for job in site.jobs("blog")] == ["succeeded"]


def test_it_is_there_while_somebody_else_syncs(site: Site, control: Site) -> None:
    gate = site.root / "gate"
    site.add_repo("blog", deploy=f"touch ../begun; while [ ! -e '{gate}' ]; do sleep 0.01; done")
    assert site.run("sync", "blog", "--no-wait").returncode == 0
    wait_for((site.checkout("blog").parent / "begun").exists, "the deploy command")
    site.start()

    start_and_wait_for_the_end(control)

    assert not site.has_ended()  # should that sync be killed, the daemon does its job again
    gate.touch()
    assert site.wait_for_end() == 0


def test_it_is_there_for_who_is_connected_until_he_has_gone(site: Site, control: Site) -> None:
    site.start()
    with site.connect() as client:
        start_and_wait_for_the_end(control)

        assert not site.has_ended()
        for _ in range(2):
            client.sendall(HEALTH)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        client.shutdown(socket.SHUT_WR)
    assert site.wait_for_end() == 0


def test_it_stays_for_ever_where_it_is_never_to_end(site: Site, control: Site) -> None:
    site.settings["idle_exit"] = "never"
    site.write_config()
    site.start()

    start_and_wait_for_the_end(control)

    assert not site.has_ended()
    assert site.stop() == 0
    assert GONE not in site.log()


def test_on_a_socket_of_its_own_it_never_ends_by_itself(site: Site, control: Site) -> None:
    path = site.root / "socket"
    with subprocess.Popen(site.command("serve", "--listen", f"unix:{path}"), env=site.environment) as daemon:
        try:
            wait_for(path.exists, "the socket")

            start_and_wait_for_the_end(control)

            assert daemon.poll() is None
        finally:
            daemon.terminate()
    assert daemon.returncode == 0


def test_while_its_configuration_is_broken_it_is_there_to_say_so(site: Site, control: Site) -> None:
    site.config_path.write_text("idle_exit: 500ms\ncolour: red\n")
    site.start()

    start_and_wait_for_the_end(control)

    assert not site.has_ended()
    assert site.get("/readyz").status == 503


def test_a_reload_brings_another_idle_exit_into_force(site: Site) -> None:
    site.settings["idle_exit"] = "never"
    site.write_config()
    site.start()
    site.settings["idle_exit"] = "100ms"
    site.write_config()

    site.signal(signal.SIGHUP)

    assert site.wait_for_end() == 0


@pytest.mark.timeout(300)
def test_a_delivery_in_the_moment_of_the_end_is_answered_by_this_daemon_or_the_next(
    site: Site, tell: Callable[[str], None]
) -> None:
    rounds = 20
    site.settings["idle_exit"] = "200ms"
    remote = site.add_repo("blog")
    answers: list[Answer] = []
    site.start()
    for _ in range(rounds):
        sender = threading.Thread(target=lambda: answers.append(site.deliver("blog", remote.tip())))
        # The one wait for time alone: whether it comes before, in or after the moment of the end is what is tried.
        threading.Event().wait(random.uniform(0.0, 0.3))
        sender.start()
        while sender.is_alive():
            if site.has_ended():
                assert site.wait_for_end() == 0
                site.start()
            sender.join(0.01)
        site.wait_until_settled("blog")
    tell(f"{rounds} deliveries around the idle exit, answered by {starts(site)} daemons")
    assert [answer.status for answer in answers] == [202] * rounds
    assert {job["state"] for job in site.jobs("blog")} == {"succeeded", "unchanged"}
    assert len(site.jobs("blog")) == rounds
    assert site.wait_for_end() == 0
