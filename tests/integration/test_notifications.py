"""From a deploy that fails to a message, and from a push to a commit status: the real daemon, Apprise and servers."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.listener import Listener
from tests.site import WAIT_SEC, Site, wait_for

HERE = os.uname().nodename
FAILED, WELL = f"blog failed on {HERE}", f"blog works again on {HERE}"
TOKEN = "t0ken-that-nobody-sees"


@pytest.fixture
def phone() -> Iterator[Listener]:
    """Where messages go."""
    with Listener() as here:
        yield here


@pytest.fixture
def forge() -> Iterator[Listener]:
    """Where commit statuses go."""
    with Listener(lambda _heard: (201, {}, b"{}")) as here:
        yield here


def tell_by(site: Site, phone: Listener, **settings: Any) -> None:
    site.settings["notify"] = {"urls": ["phone-url"], **settings}
    site.environment["PHONE_URL"] = f"json://{phone.place}/{TOKEN}"
    site.write_config()


def add_blog(site: Site, forge: Listener | None = None, deploy: str = 'exec "$HOME/deploy"', **settings: Any) -> None:
    """A repo whose deploy is what `deploy_is` says; with `forge` its statuses are told there."""
    if forge:
        settings["statuses"] = {"forge": "github", "token": "forge-token", "api": f"http://{forge.place}"}
        site.environment["FORGE_TOKEN"] = TOKEN
    site.add_repo("blog", deploy=deploy, **settings)
    deploy_is(site, "true")


def deploy_is(site: Site, script: str) -> None:
    path = site.root / "deploy"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def push(site: Site, *states: str) -> tuple[str, dict[str, Any]]:
    """Push, deliver, and wait for the end of the job; the revision and the job."""
    before = len(site.jobs("blog"))
    revision = site.remotes["blog"].push()
    assert site.deliver("blog", revision).status == 202
    wait_for(lambda: len(site.jobs("blog")) > before, "the job")
    site.wait_until_settled("blog")
    job = site.jobs("blog")[-1]
    assert job["state"] in states, job
    return revision, job


def notifiers(site: Site) -> list[int]:
    found = []
    for pid in site.processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"notify" in words:
            found.append(pid)
    return found


def wait_until_all_is_told(site: Site) -> None:
    wait_for(lambda: not notifiers(site), "the end of all notifiers")


def start(site: Site, *words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(site.command(*words), env=site.environment, stdout=pipe, stderr=pipe, text=True)


def end(child: subprocess.Popen[str]) -> int:
    child.communicate(timeout=60)
    return child.returncode


def test_a_failure_is_told_once_and_so_is_the_recovery(site: Site, phone: Listener) -> None:
    add_blog(site, retry={"tries": 3})
    tell_by(site, phone)
    site.start()
    push(site, "succeeded")
    deploy_is(site, "exit 3")
    revision, _ = push(site, "failed")
    wait_for(lambda: phone.titles() == [FAILED], "the message")
    body = phone.heard[0].body["message"]
    assert "deploy failed" in body or "exited with 3" in body, body
    assert revision[:10] in body
    assert "gitopsd why blog" in body
    wait_until_all_is_told(site)
    deploy_is(site, "true")
    push(site, "succeeded")
    wait_for(lambda: phone.titles() == [FAILED, WELL], "the second message")
    push(site, "succeeded")
    wait_until_all_is_told(site)
    assert phone.titles() == [FAILED, WELL]


@pytest.mark.timeout(240)
def test_a_storm_of_failures_is_one_message(site: Site, phone: Listener) -> None:
    add_blog(site, retry={"tries": 8, "delay": "1ms", "max_delay": "10ms"})
    tell_by(site, phone)
    deploy_is(site, "exit 3")
    site.start()
    assert site.deliver("blog", site.remotes["blog"].push()).status == 202
    wait_for(lambda: len(site.jobs("blog")) == 8, "eight jobs", 2 * WAIT_SEC)
    site.wait_until_settled("blog")
    wait_until_all_is_told(site)
    assert phone.titles() == [FAILED]


def test_a_refusal_is_told(site: Site, phone: Listener) -> None:
    add_blog(site)
    tell_by(site, phone)
    site.start()
    push(site, "succeeded")
    (site.checkout("blog") / "README").write_text("somebody's change")
    push(site, "refused")
    wait_for(lambda: phone.titles() == [f"blog was refused on {HERE}"], "the message")
    assert "local changes" in phone.heard[0].body["message"]


def test_successes_are_told_to_who_wants_them(site: Site, phone: Listener) -> None:
    add_blog(site)
    tell_by(site, phone, on=["success"])
    site.start()
    push(site, "succeeded")
    wait_for(lambda: phone.titles() == [f"blog was deployed on {HERE}"], "the message")


def test_whoever_hangs_changes_no_outcome_and_holds_up_no_sync(site: Site, phone: Listener, forge: Listener) -> None:
    add_blog(site, forge, retry={"tries": 1})
    tell_by(site, phone)
    site.start()
    push(site, "succeeded")
    wait_until_all_is_told(site)
    phone.hang()
    forge.hang()
    deploy_is(site, "exit 3")
    _, job = push(site, "failed")
    wait_for(lambda: phone.heard or len(forge.heard) > 2, "the notifier")
    deploy_is(site, "true")
    push(site, "succeeded")
    assert job["exit_code"] == 1
    # Nobody has got an answer to this moment.
    assert notifiers(site)


def test_a_run_by_hand_ends_without_the_notifier_even_for_who_reads_its_output(site: Site, phone: Listener) -> None:
    add_blog(site)
    tell_by(site, phone, on=["success"])
    phone.hang()
    with start(site, "sync", "blog", "--no-wait") as sync:
        assert end(sync) == 0
    site.wait_until_settled("blog")
    wait_for(lambda: phone.heard, "the notifier")
    assert site.run("run", "blog").returncode == 0  # it reads stdout and stderr to their ends
    assert notifiers(site)


def test_several_notifiers_tell_a_thing_once(site: Site, phone: Listener) -> None:
    add_blog(site, retry={"tries": 1})
    deploy_is(site, "exit 3")
    assert site.run("sync", "blog").returncode == 1
    tell_by(site, phone)
    children = [start(site, "notify") for _ in range(6)]
    assert [end(child) for child in children] == [0] * 6
    assert phone.titles() == [FAILED]


def test_a_notifier_that_is_killed_is_followed_by_one_that_tells(site: Site, phone: Listener) -> None:
    add_blog(site, retry={"tries": 1})
    deploy_is(site, "exit 3")
    site.run("sync", "blog")
    tell_by(site, phone)
    phone.hang()
    first = start(site, "notify")
    wait_for(lambda: phone.heard, "the first one to tell")
    site.kill_everything()
    assert end(first) == -signal.SIGKILL
    phone.free()
    with start(site, "notify") as second:
        assert end(second) == 0
    assert phone.titles() == [FAILED, FAILED]
    assert site.run("notify").returncode == 0
    assert len(phone.heard) == 2


def test_no_deploy_ever_sees_a_url_or_a_token(site: Site, phone: Listener, forge: Listener) -> None:
    add_blog(site, forge)
    tell_by(site, phone)
    seen = site.root / "seen"
    deploy_is(site, f'env >"{seen}"; ls -R "${{CREDENTIALS_DIRECTORY:-/nonexistent}}" >>"{seen}" 2>&1; exit 3')
    site.start()
    assert site.deliver("blog", site.remotes["blog"].push()).status == 202
    site.wait_for_job("blog", "failed")
    wait_for(lambda: phone.titles() == [FAILED], "the message")
    shown = seen.read_text()
    assert "GITOPSD_REPO=blog" in shown
    assert TOKEN not in shown
    assert "PHONE_URL" not in shown
    assert "FORGE_TOKEN" not in shown
    assert TOKEN not in site.log()
    assert TOKEN not in "".join(path.read_text() for path in site.state_dir.glob("logs/blog/*.log"))


def test_a_commit_is_pending_until_it_is_deployed_or_has_failed(site: Site, forge: Listener) -> None:
    add_blog(site, forge, retry={"tries": 1})
    gate = site.root / "gate"
    deploy_is(site, f'while [ ! -e "{gate}" ]; do sleep 0.01; done')
    site.start()
    revision = site.remotes["blog"].push()
    assert site.deliver("blog", revision).status == 202
    wait_for(lambda: forge.states() == [(revision, "pending")], "the first status")
    gate.touch()
    wait_for(lambda: forge.states()[1:] == [(revision, "success")], "the second status")
    deploy_is(site, "exit 3")
    bad, _ = push(site, "failed")
    wait_for(lambda: forge.states()[-1] == (bad, "failure"), "the failure")
    wait_until_all_is_told(site)
    ends = [(which, state) for which, state in forge.states() if state != "pending"]
    assert ends == [(revision, "success"), (bad, "failure")]
    assert len(set(forge.states())) == len(forge.states())
    last = forge.heard[-1]
    assert last.headers["authorization"] == f"Bearer {TOKEN}"
    assert last.path.endswith(f"/blog/remote/statuses/{bad}"), last.path
    assert "exit" in last.body["description"] or "failed" in last.body["description"]


def test_a_token_that_is_refused_stands_in_status_and_goes_on_to_be_nobodys_trouble(
    site: Site, forge: Listener
) -> None:
    forge.answer = lambda _heard: (401, {}, b"{}")
    add_blog(site, forge)
    site.start()
    push(site, "succeeded")
    wait_until_all_is_told(site)
    (line,) = [line for line in site.json("status")["problems"] if "commit status" in line]
    assert "the last commit status of blog failed" in line
    assert "answered 401: the token is not accepted; look at /etc/gitopsd/notify/forge-token" in line
    for _ in range(5):
        assert site.run("notify").returncode == 0
    assert len(forge.heard) <= 2 * 3  # two states, each a few times
    forge.answer = lambda _heard: (201, {}, b"{}")
    push(site, "succeeded")
    wait_until_all_is_told(site)
    assert not [line for line in site.json("status")["problems"] if "commit status" in line]


def test_a_target_that_takes_nothing_stands_in_status_until_it_does(site: Site, phone: Listener) -> None:
    phone.answer = lambda _heard: (500, {}, b"")
    add_blog(site, retry={"tries": 1})
    tell_by(site, phone)
    deploy_is(site, "exit 3")
    site.run("sync", "blog")
    wait_until_all_is_told(site)
    (line,) = [line for line in site.json("status")["problems"] if "notification" in line]
    assert "the last notification by phone-url failed" in line
    assert TOKEN not in line
    phone.answer = lambda _heard: (200, {}, b"")
    assert site.run("notify").returncode == 0
    assert not [line for line in site.json("status")["problems"] if "notification" in line]
    assert set(phone.titles()) == {FAILED}


def test_a_trial_says_of_each_target_whether_it_was_taken(site: Site, phone: Listener) -> None:
    tell_by(site, phone)
    done = site.run("notify", "--test")
    assert (done.returncode, done.stdout) == (0, "✓ phone-url: the message was taken\n"), done.stderr
    assert phone.titles() == [f"gitopsd can be heard from {HERE}"]
    site.environment["PHONE_URL"] += "\njson://127.0.0.1:1/nobody-is-there"
    done = site.run("notify", "--test")
    assert done.returncode == 1
    assert "✓ phone-url: " in done.stdout
    assert "✗ phone-url (2): " in done.stdout
    assert "nobody-is-there" not in done.stdout + done.stderr


def test_without_anybody_to_tell_a_trial_says_so_and_a_notifier_just_ends(site: Site) -> None:
    done = site.run("notify", "--test")
    assert done.returncode == 1
    assert "names nobody to notify; name a credential under notify.urls" in done.stderr
    assert site.run("notify").returncode == 0
    assert not (site.state_dir / "store").exists()


def test_check_looks_at_each_url_and_token_and_sends_nothing(site: Site, phone: Listener, forge: Listener) -> None:
    add_blog(site, forge)
    tell_by(site, phone)
    assert "✓ notify: phone-url\n" in site.run("check").stdout
    assert "✓ blog: statuses: token 'forge-token'\n" in site.run("check").stdout
    site.environment["PHONE_URL"] = TOKEN
    del site.environment["FORGE_TOKEN"]
    done = site.run("check")
    assert done.returncode == 78
    assert "✗ notify: phone-url: " in done.stdout
    assert "✗ blog: statuses: token 'forge-token': secret 'forge-token' is missing" in done.stdout
    assert TOKEN not in done.stdout
    assert (phone.heard, forge.heard) == ([], [])
