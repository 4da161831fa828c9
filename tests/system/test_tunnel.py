"""The tunnel's unit, with a stand-in for cloudflared that shows how it was called."""

from collections.abc import Iterator

import pytest

from tests.system.host import Host
from tests.system.operator import add_repos, has_logged, is_active, switch_on, wait_until_deployed

UNIT = "gitopsd-tunnel.service"
TOKEN = "a-token-that-nobody-may-see"
TOKEN_FILE = "/etc/gitopsd/tunnel-token"
STAND_IN = """#!/bin/sh
tr '\\0' ' ' </proc/$$/cmdline; echo
env
while [ "$1" != --token-file ]; do shift || exit 9; done
[ "$(cat "$2")" = "%s" ] && echo the token is right
cat %s && echo the file itself is open
exec %s
"""


@pytest.fixture
def cloudflared(host: Host) -> Iterator[str]:
    path = "/usr/local/bin/cloudflared"
    yield path
    host.run("systemctl", "stop", UNIT)
    host.run("rm", "-f", path)


def test_it_gets_its_token_as_a_file_and_nobody_else_sees_it(host: Host, cloudflared: str) -> None:
    add_repos(host, "blog")
    host.write(cloudflared, STAND_IN % (TOKEN, TOKEN_FILE, "sleep 1000"), mode=0o755)
    host.write(TOKEN_FILE, TOKEN, mode=0o600)
    switch_on(host)  # which is all it takes

    host.wait_for(lambda: has_logged(host, UNIT, "the token is right"), "the tunnel")

    assert is_active(host, UNIT)
    said = "\n".join(str(entry["MESSAGE"]) for entry in host.journal("-u", UNIT))
    assert "cloudflared --no-autoupdate tunnel run --token-file" in said
    assert TOKEN not in said, "in its arguments or its environment"
    assert "the file itself is open" not in said
    pid = host.unit(UNIT, "MainPID")["MainPID"]
    assert host.run("stat", "-c", "%u", f"/proc/{pid}").stdout.strip() != "0"
    assert TOKEN not in host.run("tr", "\\0", "\\n", input=host.read(f"/proc/{pid}/environ")).stdout


@pytest.mark.parametrize("trouble", ["it fails", "it is not installed", "it has no token"])
def test_its_failure_touches_nothing_else(host: Host, cloudflared: str, trouble: str) -> None:
    add_repos(host, "blog")
    if trouble != "it is not installed":
        host.write(cloudflared, STAND_IN % (TOKEN, TOKEN_FILE, "false"), mode=0o755)
    if trouble != "it has no token":
        host.write(TOKEN_FILE, TOKEN, mode=0o600)
    switch_on(host)
    if trouble == "it has no token":
        assert host.unit(UNIT, "ConditionResult")["ConditionResult"] == "no"
    else:
        host.wait_for(lambda: host.unit(UNIT, "Result")["Result"] == "exit-code", "its failure")

    revision = host.push("blog")
    assert host.deliver("blog", revision).status == 202
    wait_until_deployed(host, "blog", revision)
    assert is_active(host, "gitopsd.socket")
    told = [line for line in host.run("gitopsd", "status").stdout.splitlines() if line.startswith("!")]
    assert all(UNIT in line for line in told), told
