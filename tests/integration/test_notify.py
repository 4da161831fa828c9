"""What a daemon tells systemd in the course of its life."""

import re
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.site import Site


@pytest.fixture
def systemd(site: Site) -> Iterator[socket.socket]:
    """The socket on which the daemon of the site is heard."""
    path = site.root / "notify"
    site.environment["NOTIFY_SOCKET"] = str(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(30)
        yield listener
        site.close()  # before its end of the socket is


def hear(systemd: socket.socket, wanted: bytes) -> list[bytes]:
    """What is heard until `wanted`, that included."""
    heard: list[bytes] = []
    while not heard or not re.fullmatch(wanted, heard[-1]):
        heard.append(systemd.recv(65536))
    return heard


def test_it_says_when_it_is_ready_what_it_does_that_it_lives_and_when_it_ends(
    site: Site, systemd: socket.socket
) -> None:
    gate = site.root / "gate"
    remote = site.add_repo("blog", deploy=f"while [ ! -e '{gate}' ]; do sleep 0.01; done")
    site.start()
    assert hear(systemd, b"READY=1") == [b"READY=1"]
    hear(systemd, b"STATUS=waiting for deliveries")
    site.deliver("blog", remote.tip())
    hear(systemd, b"STATUS=syncing blog")
    gate.touch()
    hear(systemd, b"STATUS=waiting for deliveries")
    for _ in range(2):
        hear(systemd, b"WATCHDOG=1")
    site.signal(signal.SIGTERM)
    hear(systemd, b"STOPPING=1")
    assert site.wait_for_end() == 0


def test_a_configuration_that_is_broken_is_its_status(site: Site, systemd: socket.socket) -> None:
    whole = site.config_path.read_text()
    site.config_path.write_text("colour: red\n")
    site.start()
    hear(systemd, b"READY=1")
    hear(systemd, b"STATUS=the configuration is broken: .*colour: unknown key.*")
    hear(systemd, b"WATCHDOG=1")  # it lives all the same
    site.config_path.write_text(whole)
    site.signal(signal.SIGHUP)
    hear(systemd, b"STATUS=waiting for deliveries")


def test_who_ends_for_lack_of_work_says_so(site: Site, systemd: socket.socket) -> None:
    site.settings["idle_exit"] = "100ms"
    site.write_config()
    site.start()
    assert hear(systemd, b"STOPPING=1")[0] == b"READY=1"
    assert site.wait_for_end() == 0
