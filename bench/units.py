"""From a push to its engine where syncs are units: on a booted host, as the tests of booted hosts have them."""

from pathlib import Path

from bench.rows import Row, Scale, start_row
from gitopsd.journal import Kind
from tests.system import roots
from tests.system.host import Host, what_is_missing
from tests.system.operator import SYNC_USER, switch_on

_RELEASE = "debian12"
_ENGINE = "/usr/local/bin/engine"
_STAMP = "/srv/bench/stamp"
_WRITES_THE_TIME = f"#!/bin/bash\necho $EPOCHREALTIME >{_STAMP}.new; mv {_STAMP}.new {_STAMP}\n"


def why_not(*, quick: bool) -> str:
    """Why no host is booted here; "" if nothing speaks against it."""
    return "--quick boots none" if quick else what_is_missing()


def started(directory: Path, scale: Scale) -> Row:
    """From the entry that says that a push was accepted to the first moment of the engine, which writes it down."""
    directory.mkdir()
    host = Host(roots.trees([_RELEASE])[_RELEASE], directory, "bench")
    taken = []
    try:
        host.boot()
        host.install()
        host.reset()
        host.write(_ENGINE, _WRITES_THE_TIME, 0o755)
        host.run("install", "-d", "-o", SYNC_USER, str(Path(_STAMP).parent))
        url = host.add_remote("app")
        host.configure({"engine": _ENGINE, "repos": {"app": {"url": url, "path": "/srv/bench/app"}}})
        switch_on(host)
        for number in range(5 * scale.rounds + 1):
            assert host.deliver("app", f"{number + 1:040x}").status == 202
            host.wait_for(lambda: host.exists(_STAMP), "the engine")
            accepted = host.journal(f"MESSAGE_ID={Kind.DELIVERY_ACCEPTED}")[-1]
            taken.append(float(host.read(_STAMP)) * 1000 - int(accepted["_SOURCE_REALTIME_TIMESTAMP"]) / 1000)
            host.wait_for(lambda: not host.run("systemctl", "list-units", "-q", "gitopsd-sync@*").stdout, "its end")
            host.run("rm", _STAMP)
    finally:
        host.close()
    return start_row("as a unit", taken, 200)
