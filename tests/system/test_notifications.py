"""Who is told of syncs on a booted host: the unit that does it, what starts it, and that no deploy gets near it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.system.host import CONFIG, Host
from tests.system.operator import add_repos, jobs, switch_on, wait_for_job
from tests.system.sandbox import look_around

of_one_release = pytest.mark.parametrize("release", ["debian13"])

NOTIFY = "gitopsd-notify.service"
HEARD = "/root/heard"
PORT = 8999
TOKEN = "t0ken-that-nobody-sees"
DEPLOY = 'exec sh "$(dirname "$GITOPSD_PATH")/blog.deploy"'


def prepare(host: Host, *names: str, messages: bool = True, statuses: bool = True) -> None:
    """Repos whose deploys are what `deploy_is` says, and a phone and a forge that are told of them; switched on."""
    add_repos(host, *(names or ("blog",)), deploy=DEPLOY)
    settings = yaml.safe_load(host.read(CONFIG))
    settings["retry"] = {"tries": 1}
    if messages:
        settings["notify"] = {"urls": ["phone-url"]}
        host.write("/etc/gitopsd/notify/phone-url", f"json://127.0.0.1:{PORT}/{TOKEN}\n", mode=0o600)
    if statuses:
        told = {"forge": "gitea", "token": "forge-token", "api": f"http://127.0.0.1:{PORT}/api/v1"}
        settings["repos"]["blog"]["statuses"] = told
        host.write("/etc/gitopsd/notify/forge-token", TOKEN, mode=0o600)
    host.write(CONFIG, yaml.safe_dump(settings))
    deploy_is(host, "true")
    host.write("/root/phone.py", Path(__file__).with_name("phone.py").read_text())
    host.run("rm", "-f", HEARD, f"{HEARD}.hang")
    host.start_process("python3", "/root/phone.py", str(PORT), HEARD)
    switch_on(host)


def deploy_is(host: Host, script: str) -> None:
    host.write("/srv/blog.deploy", f"{script}\n")


def heard(host: Host) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.read(HEARD).splitlines()] if host.exists(HEARD) else []


def titles(host: Host) -> list[str]:
    return [each["body"]["title"].partition(" on ")[0] for each in heard(host) if "title" in each["body"]]


def states(host: Host) -> list[tuple[str, str]]:
    return [(each["path"].rpartition("/")[2], each["body"]["state"]) for each in heard(host) if "state" in each["body"]]


def is_over(host: Host) -> bool:
    return host.unit(NOTIFY, "ActiveState")["ActiveState"] in ("inactive", "failed")


def test_a_sync_that_fails_is_told_by_a_unit_of_its_own_and_so_is_the_end_of_that(host: Host) -> None:
    prepare(host)
    deploy_is(host, "while [ ! -e /srv/gate ]; do sleep 0.05; done; exit 3")
    bad = host.push("blog")
    assert host.deliver("blog", bad).status == 202
    host.wait_for(lambda: states(host) == [(bad, "pending")], "the first commit status")
    host.write("/srv/gate", "")
    wait_for_job(host, "blog", "failed")
    host.wait_for(lambda: titles(host) == ["blog failed"], "the message")
    host.wait_for(lambda: (bad, "failure") in states(host), "the commit status")
    deploy_is(host, "true")
    good = host.push("blog")
    assert host.deliver("blog", good).status == 202
    host.wait_for(lambda: titles(host) == ["blog failed", "blog works again"], "the second message")
    host.wait_for(lambda: (good, "success") in states(host), "the second commit status")
    host.wait_for(lambda: is_over(host), "the end of the unit")
    assert host.unit(NOTIFY, "Result")["Result"] == "success"
    assert len(set(states(host))) == len(states(host))
    said = [str(entry.get("MESSAGE")) for entry in host.journal("-u", NOTIFY)]
    assert any("phone-url was told of the failure" in line for line in said), said
    assert TOKEN not in "".join(said)


def test_nothing_is_started_where_there_is_nobody_to_tell(host: Host) -> None:
    prepare(host, messages=False, statuses=False)
    assert host.run("gitopsd", "sync", "blog").returncode == 0
    found = host.unit(NOTIFY, "ActiveState", "ConditionResult", "ExecMainStartTimestamp")
    assert (found["ActiveState"], found["ConditionResult"]) == ("inactive", "no")
    assert found.get("ExecMainStartTimestamp", "") == ""
    assert "!" not in host.run("gitopsd", "status").stdout


def test_what_was_missed_is_told_after_the_next_poll(host: Host) -> None:
    prepare(host, statuses=False)
    deploy_is(host, "exit 3")
    host.run("systemctl", "mask", "--runtime", NOTIFY)
    assert host.run("gitopsd", "sync", "blog", check=False).returncode == 1
    assert "is masked, so nobody is told of anything" in host.run("gitopsd", "status").stdout
    assert titles(host) == []
    host.run("systemctl", "unmask", "--runtime", NOTIFY)
    host.run("systemctl", "start", "gitopsd-poll.service")
    host.wait_for(lambda: titles(host) == ["blog failed"], "the message")


@of_one_release
def test_a_phone_that_hangs_holds_up_no_sync(host: Host) -> None:
    prepare(host)
    host.write(f"{HEARD}.hang", "")
    deploy_is(host, "exit 3")
    assert host.run("gitopsd", "sync", "blog", check=False).returncode == 1
    host.wait_for(lambda: heard(host), "the notifier")
    deploy_is(host, "true")
    assert host.deliver("blog", host.push("blog")).status == 202
    wait_for_job(host, "blog", "succeeded")
    assert [job["state"] for job in jobs(host, "blog")] == ["failed", "succeeded"]
    assert not is_over(host)


@of_one_release
@pytest.mark.parametrize(
    "unit", ["gitopsd-sync@shop.service", "gitopsd-poll.service", "gitopsd-catchall.service", "gitopsd.service"]
)
def test_no_other_unit_sees_anything_of_what_messages_are_sent_with(host: Host, unit: str) -> None:
    prepare(host)
    host.write(f"{HEARD}.hang", "")
    deploy_is(host, "exit 3")
    host.run("gitopsd", "sync", "blog", check=False)
    host.wait_for(lambda: heard(host), "the notifier")
    teller = host.unit(NOTIFY, "MainPID")["MainPID"]
    credentials = f"/run/credentials/{NOTIFY}"
    assert host.exists(f"{credentials}/notify_phone-url")

    found = look_around(
        host,
        unit,
        read=[
            "/etc/gitopsd/notify",
            "/etc/gitopsd/notify/phone-url",
            credentials,
            f"{credentials}/notify_phone-url",
            f"/proc/{teller}/environ",
            f"/proc/{teller}/root{credentials}/notify_phone-url",
        ],
    )

    assert teller != "0"
    assert not {what for what, came in found.items() if came == "yes" and what != "io_uring"}


@of_one_release
def test_the_notifier_sees_neither_secrets_nor_keys_and_writes_nothing_but_records(host: Host) -> None:
    prepare(host)
    host.write("/etc/gitopsd/keys/blog", "a key", mode=0o600)

    found = look_around(
        host,
        NOTIFY,
        read=["/etc/gitopsd/secrets", "/etc/gitopsd/keys", "/etc/gitopsd/notify", "/root"],
        write=["/srv/planted", "/srv/blog/planted", "/etc/gitopsd/gitopsd.yaml", "/var/lib/gitopsd/logs/planted"],
    )

    assert not {what for what, came in found.items() if came == "yes"}
    assert found["capabilities"] == "0" * 16


@of_one_release
def test_a_trial_and_check_go_by_the_files_of_the_unit(host: Host) -> None:
    prepare(host)
    done = host.run("gitopsd", "notify", "--test")
    assert done.stdout == "✓ phone-url: the message was taken\n"
    assert titles(host) == ["gitopsd can be heard from " + host.run("uname", "-n").stdout.strip()]
    done = host.run("gitopsd", "notify", "--test", user="gitopsd-sync", check=False)
    assert done.stderr == "gitopsd: only root may read /etc/gitopsd/notify; run: sudo gitopsd notify --test\n"
    shown = host.run("gitopsd", "check", check=False).stdout
    assert "✓ notify: phone-url\n" in shown
    assert "✓ blog: statuses: token 'forge-token'\n" in shown
    host.run("rm", "/etc/gitopsd/notify/phone-url")
    shown = host.run("gitopsd", "check", check=False).stdout
    assert "✗ notify: phone-url: secret 'phone-url' is missing" in shown
    assert "put it into /etc/gitopsd/notify/phone-url" in shown
