"""Events that are no push, on a booted host: from a webhook to what runs in a unit, and the record of it."""

import json
from typing import Any

import pytest

from tests.system.host import Answer, Host, Request
from tests.system.operator import add_repos, jobs, switch_on, wait_for_job

of_one_release = pytest.mark.parametrize("release", ["debian13"])

TOKEN = "a token that nobody guesses"
DIGEST = f"sha256:{'a' * 64}"
RECEIVERS = {
    "default": {"provider": "github", "secrets": ["github-webhook-secret"]},
    "ci": {"provider": "generic-token", "secrets": ["ci-token"], "repos": ["blog"]},
}


def tell(host: Host, body: dict[str, Any], token: str = TOKEN) -> Answer:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    return host.send([Request("POST", "/hook/ci", json.dumps(body), headers)])[0]


def prepare(host: Host, deploy: str, receivers: dict[str, Any] | None = None) -> None:
    add_repos(host, "blog", deploy=deploy, settings={"receivers": receivers or RECEIVERS})
    host.write("/etc/gitopsd/secrets/ci-token", TOKEN, mode=0o600)
    switch_on(host)


def test_a_pushed_image_deploys_in_the_unit_of_its_repo(host: Host) -> None:
    prepare(host, 'echo "$GITOPSD_EVENT_TYPE $GITOPSD_IMAGE $GITOPSD_TAG $GITOPSD_DIGEST" >/srv/blog/told')
    assert host.run("gitopsd", "sync", "blog").returncode == 0
    answer = tell(host, {"image": "ghcr.io/me/blog", "tag": "v1", "digest": DIGEST})
    assert answer.status == 202
    job = wait_for_job(host, "blog", "succeeded", count=2)
    assert job["old_revision"] == job["new_revision"]
    assert host.read("/srv/blog/told") == f"image ghcr.io/me/blog v1 {DIGEST}\n"
    assert "succeeded" in host.run("gitopsd", "why", "blog").stdout


@of_one_release
def test_what_came_is_listed_and_can_be_taken_once_more(host: Host) -> None:
    prepare(host, "echo again >>/srv/blog/told")
    assert tell(host, {"event": "rebuild"}).status == 202
    assert tell(host, {"event": "rebuild"}, token="a guess").status == 401
    wait_for_job(host, "blog", "succeeded")
    assert host.run("gitopsd", "replay", "1").returncode == 0
    assert len(jobs(host, "blog")) == 2
    listed = json.loads(host.run("gitopsd", "deliveries", "--json").stdout)["deliveries"]
    assert [(each["number"], each["decision"], each["reason"]) for each in listed] == [
        (2, "accepted", "replay of 1"),
        (1, "accepted", ""),
    ]
    shown = host.run("gitopsd", "receivers").stdout
    assert "/hook/ci" in shown
    assert "the token is none of the secrets" in shown
    assert TOKEN not in shown


@of_one_release
def test_a_command_without_git_runs_in_a_unit_under_the_lock_of_its_name(host: Host) -> None:
    purge = {"path": "/srv/cache", "strategy": "none", "deploy": ["sh", "-c", "rm -f page"]}
    receivers = {"ci": {**RECEIVERS["ci"], "repos": ["purge"]}}
    host.configure({"receivers": receivers, "repos": {"purge": purge}})
    host.write("/etc/gitopsd/secrets/ci-token", TOKEN, mode=0o600)
    host.run("install", "-d", "-o", "gitopsd-sync", "/srv/cache")
    host.write("/srv/cache/page", "stale", owner="gitopsd-sync")
    switch_on(host)
    assert host.run("gitopsd", "check").returncode == 0
    assert tell(host, {"event": "pages"}).status == 202
    wait_for_job(host, "purge", "succeeded")
    assert not host.exists("/srv/cache/page")
    assert host.journal("_SYSTEMD_UNIT=gitopsd-sync@purge.service", "GITOPSD_REPO=purge")


@of_one_release
def test_a_client_is_who_the_tunnel_says_and_nobody_else_is_believed(host: Host) -> None:
    receivers = {"ci": {**RECEIVERS["ci"], "allow_from": ["192.0.2.0/24"]}}
    add_repos(
        host,
        "blog",
        settings={"receivers": receivers, "proxy": {"trusted": ["127.0.0.1"], "header": "CF-Connecting-IP"}},
    )
    host.write("/etc/gitopsd/secrets/ci-token", TOKEN, mode=0o600)
    switch_on(host)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    body = json.dumps({"event": "rebuild"})

    def told(name: str, address: str) -> int:
        return host.send([Request("POST", "/hook/ci", body, {**headers, name: address})])[0].status

    assert told("CF-Connecting-IP", "192.0.2.7") == 202
    assert told("CF-Connecting-IP", "198.51.100.7") == 401
    assert told("X-Forwarded-For", "192.0.2.7") == 401
    assert "client 127.0.0.1 is not in allow_from" in host.run("gitopsd", "receivers").stdout
