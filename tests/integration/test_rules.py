"""What a receiver may trigger and for what, events that are no push, and repos without git: with the real daemon."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gitopsd import lock
from gitopsd.store import Store, path_in
from tests.remote import Remote, git
from tests.site import SECRET, WAIT_SEC, Answer, Site, signed_headers, wait_for

REVISION = "1" * 40
DIGEST = f"sha256:{'5' * 64}"
DOCS_ONLY = "blog: none of the files that it changed (1) is one of the receiver's paths"
NONE_OF_ITS_REPOS = "is none of the repos that this receiver may trigger"
FRAMING = 64
"""Bytes that chunks take besides what is in them."""
VARIABLES = ("EVENT_TYPE", "IMAGE", "TAG", "DIGEST", "IMAGES")


def add_receiver(site: Site, name: str, provider: str = "generic-token", **rules: Any) -> None:
    """A receiver with the secret that everything here is sent with."""
    site.settings.setdefault("receivers", {})[name] = {
        "provider": provider,
        "secrets": ["github-webhook-secret"],
        **rules,
    }
    site.write_config()


def add_command(site: Site, name: str, script: str, **settings: Any) -> Path:
    """A repo without git that runs a shell script; its path."""
    path = site.root / "commands" / name
    path.mkdir(parents=True)
    command = {"path": str(path), "strategy": "none", "deploy": ["sh", "-c", script]}
    site.settings["repos"][name] = command | settings
    site.write_config()
    return path


def send(site: Site, receiver: str, headers: Mapping[str, str] | None = None, **body: Any) -> Answer:
    """A delivery with the token in its header."""
    proof = {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"}
    return site.request("POST", f"/hook/{receiver}", json.dumps(body).encode(), proof | dict(headers or {}))


def reload(site: Site) -> None:
    """Put what `site.settings` says in force."""
    before = site.log().count("info: configuration ")
    site.write_config()
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.log().count("info: configuration ") > before, "the reload")


def note(site: Site) -> str:
    """A shell command that writes down what it is told of the event that asked for it."""
    line = "|".join(f"$GITOPSD_{name}" for name in VARIABLES)
    return f'echo "{line}" >> "{site.root}/told"'


def told(site: Site) -> list[str]:
    """What each run was told."""
    file = site.root / "told"
    return file.read_text().splitlines() if file.exists() else []


def until(gate: Path) -> str:
    return f'while [ ! -e "{gate}" ]; do sleep 0.01; done'


def wait_for_done(site: Site, name: str, *, count: int = 1) -> dict[str, Any]:
    """The last of so many jobs that succeeded, once nothing of its sync is left."""
    job = site.wait_for_job(name, "succeeded", count=count)
    wait_for(lambda: len(site.processes()) == 1, "the daemon to be alone")
    return job


def repos_in(answer: Answer) -> list[str]:
    """The repos that a delivery was accepted for."""
    assert answer.status == 202, answer.body
    return [job["repo"] for job in answer.payload["jobs"]]


def reason_in(answer: Answer) -> str:
    """Why a delivery led to nothing."""
    assert answer.status == 200, answer.body
    reason: str = answer.payload["reason"]
    return reason


# Events that are no push


def test_what_is_no_push_runs_the_deploy_command_although_the_revision_has_not_moved(site: Site) -> None:
    remote = site.add_repo("blog", deploy=note(site))
    add_receiver(site, "ci", repos=["blog"])
    add_receiver(site, "default", "github", events=["push", "release"])
    assert site.run("sync", "blog").returncode == 0
    site.start()

    for count, kind in enumerate(("image", "purge", "release"), start=2):
        if kind == "image":
            answer = send(site, "ci", image="ghcr.io/me/blog", tag="v1", digest=DIGEST)
        else:
            answer = send(site, "ci", event="purge") if kind == "purge" else site.deliver("blog", "", event=kind)
        assert repos_in(answer) == ["blog"]
        job = wait_for_done(site, "blog", count=count)
        assert (job["trigger"], job["old_revision"], job["new_revision"]) == ("webhook", remote.tip(), remote.tip())

    assert told(site) == [
        "||||",
        f"image|ghcr.io/me/blog|v1|{DIGEST}|ghcr.io/me/blog:v1@{DIGEST}",
        "purge||||",
        "release||||",
    ]


def test_images_that_come_while_a_sync_runs_make_one_more_run_that_sees_them_all(site: Site) -> None:
    gate = site.root / "gate"
    add_command(site, "shop", f"{note(site)}; {until(gate)}")
    add_receiver(site, "ci", repos=["shop"])
    site.start()
    send(site, "ci", image="me/a", tag="1")
    wait_for(lambda: told(site), "the first run")

    for image, tag in (("me/b", "1"), ("me/c", "1"), ("me/a", "2"), ("me/b", "1")):
        assert repos_in(send(site, "ci", image=image, tag=tag)) == ["shop"]
    gate.touch()

    site.wait_for_job("shop", "succeeded", count=2)
    site.wait_until_settled("shop")
    assert told(site) == ["image|me/a|1||me/a:1", "image|me/b|1||me/c:1 me/a:2 me/b:1"]


def test_images_that_were_accepted_before_the_daemon_is_killed_are_there_at_its_next_start(site: Site) -> None:
    add_command(site, "shop", note(site))
    add_receiver(site, "ci", repos=["shop"])
    site.start()
    with lock.hold(site.state_dir, "shop"):  # so that the dispatcher finds no moment to start it
        send(site, "ci", image="me/a", tag="1")
        send(site, "ci", image="me/b", tag="1", digest=DIGEST)
        site.stop(signal.SIGKILL)

    site.start()

    site.wait_for_job("shop", "succeeded")
    assert told(site) == [f"image|me/b|1|{DIGEST}|me/a:1 me/b:1@{DIGEST}"]


def test_a_failed_deploy_of_an_image_is_tried_again_with_it_although_the_revision_stands(site: Site) -> None:
    fail = site.root / "fail"
    site.add_repo("blog", deploy=f'{note(site)}; [ ! -e "{fail}" ] || {{ rm "{fail}"; exit 1; }}')
    add_receiver(site, "ci", repos=["blog"])
    assert site.run("sync", "blog").returncode == 0
    fail.touch()
    site.start()

    send(site, "ci", image="me/blog", tag="v1")

    assert "attempt 1 of 5" in site.wait_for_job("blog", "failed")["reason"]
    site.wait_for_job("blog", "succeeded", count=2)
    assert told(site)[1:] == ["image|me/blog|v1||me/blog:v1"] * 2


# Repos without git


def test_a_command_without_git_runs_in_its_path_under_the_lock_and_leaves_a_record(site: Site) -> None:
    gate = site.root / "gate"
    path = add_command(site, "purge", f"touch begun; pwd; echo to be seen >&2; {until(gate)}")
    add_receiver(site, "ci", repos=["purge"])
    site.start()

    assert repos_in(send(site, "ci", event="purge")) == ["purge"]
    wait_for((path / "begun").exists, "the command")
    assert not lock.is_free(site.state_dir, "purge")
    gate.touch()

    site.wait_for_job("purge", "succeeded")
    (job,) = site.json("history", "purge")["jobs"]
    assert (job["trigger"], job["event"], job["reason"], job["new_revision"]) == ("webhook", "purge", "deployed", None)
    assert [phase["phase"] for phase in job["phases"]] == ["prepare", "deploy"]
    assert f"{path}\nto be seen\n" in site.run("logs", "purge").stdout
    by_hand = site.run("sync", "purge")
    assert (by_hand.returncode, by_hand.stderr) == (0, "")
    assert "purge: succeeded (job 2, " in by_hand.stdout


def test_a_command_whose_path_is_missing_is_refused_with_what_to_do(site: Site) -> None:
    path = add_command(site, "purge", "touch done")
    path.rmdir()

    refused = site.run("sync", "purge")

    assert refused.returncode == 77
    assert f"{path} is not a directory; make it, or correct the path of purge" in refused.stdout
    path.mkdir()
    assert site.run("sync", "purge").returncode == 0
    assert (path / "done").exists()


def test_only_a_person_or_a_receiver_starts_what_has_no_git(site: Site) -> None:
    site.add_repo("blog")
    add_command(site, "purge", "true")

    assert site.json("poll") == {"asked": ["blog"], "moved": ["blog"], "problems": {}}
    assert [job["repo"] for job in site.json("catchall")["jobs"]] == ["blog"]

    assert site.jobs("purge") == []


def test_two_commands_may_share_a_path_and_check_is_content_with_them(site: Site) -> None:
    path = add_command(site, "purge", "echo purge >> runs")
    add_command(site, "warm", "echo warm >> runs", path=str(path))

    (path / "index.html").touch()
    checked, synced = site.run("check"), site.run("sync", "--all")

    assert (checked.returncode, "✗" in checked.stdout) == (0, False)
    assert f"✓ warm: path {path}\n" in checked.stdout
    assert synced.returncode == 0
    assert sorted((path / "runs").read_text().split()) == ["purge", "warm"]


def test_a_command_that_runs_in_a_checkout_below_a_root_leaves_that_a_repo(site: Site) -> None:
    remote = Remote.create(site.root / "remotes" / "wiki")
    remote.push({".gitops": ""})
    root = site.root / "roots"
    root.mkdir()
    git(root, "clone", "--quiet", remote.url, "wiki")
    site.settings["roots"] = [str(root)]
    add_command(site, "purge", "true", path=str(root / "wiki"))

    assert sorted(repo["name"] for repo in site.json("status")["repos"]) == ["purge", "wiki"]


def test_a_command_that_was_cut_off_is_run_again_for_the_same_event(site: Site) -> None:
    gate = site.root / "gate"
    add_command(site, "shop", f"{note(site)}; {until(gate)}")
    add_receiver(site, "ci", repos=["shop"])
    site.start()
    send(site, "ci", image="me/shop", tag="v1")
    wait_for(lambda: told(site), "the command")
    site.kill_everything()
    gate.touch()

    site.start()

    site.wait_for_job("shop", "succeeded")
    assert "interrupted during deploy" in site.wait_for_job("shop", "interrupted")["reason"]
    assert told(site) == ["image|me/shop|v1||me/shop:v1"] * 2


# paths


def changed(*files: str, **more: Any) -> dict[str, Any]:
    """The part of a GitHub push that tells all files that it has changed."""
    commits = [{"added": [], "modified": list(files), "removed": []}]
    return {"created": False, "forced": False, "deleted": False, "commits": commits} | more


@pytest.fixture
def pages(site: Site) -> Remote:
    """The remote of a repo that stands at its tip; its receiver is for what is below `site` only."""
    remote = site.add_repo("blog")
    add_receiver(site, "default", "github", paths=["site/**"])
    site.start()
    assert site.deliver("blog", remote.tip()).status == 202, "of whose files nothing is known"
    wait_for_done(site, "blog")
    return remote


def test_a_push_that_changes_none_of_the_paths_leaves_no_job_and_neither_does_a_poll_after_it(
    site: Site, pages: Remote
) -> None:
    for _ in range(2):
        before, docs = pages.tip(), pages.push()
        assert reason_in(site.deliver("blog", docs, before=before, **changed("docs/a.md"))) == DOCS_ONLY
    assert site.json("poll")["moved"] == []
    assert len(site.jobs("blog")) == 1

    before, code = pages.tip(), pages.push()
    assert site.deliver("blog", code, before=before, **changed("docs/a.md", "site/deep/a.html")).status == 202

    assert site.wait_for_job("blog", "succeeded", count=2)["new_revision"] == code == site.deployed("blog")


def test_a_poll_finds_the_push_whose_delivery_was_lost_before_one_that_was_left_out(site: Site, pages: Remote) -> None:
    lost, docs = pages.push(), pages.push()
    assert reason_in(site.deliver("blog", docs, before=lost, **changed("docs/a.md"))) == DOCS_ONLY

    assert site.json("poll")["moved"] == ["blog"]

    assert (site.jobs("blog")[-1]["trigger"], site.jobs("blog")[-1]["revision"]) == ("poll", docs)


def test_a_push_whose_files_are_not_all_told_is_synced(site: Site, pages: Remote) -> None:
    known = changed("docs/a.md")
    unknown: list[dict[str, Any]] = [known | {"forced": True}, known | {"commits": []}, {"commits": known["commits"]}]
    for count, more in enumerate(unknown, start=2):
        before, revision = pages.tip(), pages.push()
        assert site.deliver("blog", revision, before=before, **more).status == 202
        assert wait_for_done(site, "blog", count=count)["new_revision"] == revision


# Rules that decide before anything is run: one daemon for all of them


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daemon with a receiver for each rule. All its repos are locked: nothing is synced."""
    host = Site(tmp_path_factory.mktemp("rules"))
    for name in ("blog", "shop", "wiki"):
        url = f"https://github.com/demo/{name}.git"
        host.settings["repos"][name] = {"url": url, "path": str(host.checkout(name)), "images": [f"me/{name}"]}
    add_command(host, "purge", "true")
    host.environment["NEXT_SECRET"] = "next"
    add_receiver(host, "default", "github")
    add_receiver(host, "rotated", "github", secrets=["github-webhook-secret", "next-secret"])
    add_receiver(host, "other", "github", secrets=["next-secret"])
    add_receiver(host, "branches", "github", refs=["refs/heads/*"])
    add_receiver(host, "releases", "github", events=["Release"])
    add_receiver(host, "pages", "github", repos=["purge"], paths=["site/**"])
    add_receiver(host, "inside", "github", repos=["shop"])
    add_receiver(host, "small", "github", max_body="1K")
    add_receiver(host, "large", "github", max_body="1G")
    add_receiver(host, "images", images=["me/*"], tags=["v*", "latest"])
    add_receiver(host, "several", repos=["shop", "wiki", "purge"])
    add_receiver(host, "shop", repos=["shop"])
    add_receiver(host, "anybody")
    host.settings["max_body"] = "4K"
    host.write_config()
    with contextlib.ExitStack() as locks:
        for name in host.settings["repos"]:
            locks.enter_context(lock.hold(host.state_dir, name))
        try:
            host.start()
            yield host
        finally:
            host.close()


@pytest.mark.parametrize(
    ("receiver", "push", "reason"),
    [
        pytest.param(
            "branches",
            {"ref": "refs/tags/v1"},
            "refs/tags/v1 matches none of the receiver's refs (refs/heads/*)",
            id="tag",
        ),
        pytest.param(
            "branches",
            {"ref": "refs/heads/a/b"},
            "refs/heads/a/b matches none of the receiver's refs (refs/heads/*)",
            id="deeper",
        ),
        pytest.param("branches", {"ref": "refs/heads/b"}, "blog: follows refs/heads/main, not refs/heads/b", id="ref"),
        pytest.param(
            "releases", {}, "event 'push' is none of the receiver's events (Release)", id="push, and it takes none"
        ),
        pytest.param("default", {"event": "release"}, "event 'release' is not a push", id="release, and it takes none"),
        pytest.param("releases", {"event": "ping"}, "ping: the webhook works", id="a trial works with any rule"),
    ],
)
def test_what_a_rule_leaves_out_is_told_with_the_rule_and_leaves_no_job(
    host: Site, receiver: str, push: dict[str, Any], reason: str
) -> None:
    before = host.jobs("blog")
    assert reason_in(host.deliver("blog", REVISION, path=f"/hook/{receiver}", **push)) == reason
    assert host.jobs("blog") == before


@pytest.mark.parametrize(
    ("receiver", "push"), [("branches", {}), ("releases", {"event": "release"}), ("rotated", {}), ("large", {})]
)
def test_what_a_rule_takes_is_accepted(host: Site, receiver: str, push: dict[str, Any]) -> None:
    assert repos_in(host.deliver("blog", REVISION, path=f"/hook/{receiver}", **push)) == ["blog"]


@pytest.mark.parametrize(
    ("image", "tag", "repos"),
    [
        ("me/blog", "v1", ["blog"]),
        ("ghcr.io/me/blog", "latest", ["blog"]),
        ("registry.example:5000/me/shop", "v2", ["shop"]),
        ("me/blog", "edge", None),
        ("you/blog", "v1", None),
        ("me/deep/blog", "v1", None),
    ],
)
def test_an_image_goes_by_the_rules_of_the_receiver_and_is_for_the_repos_that_name_it(
    host: Site, image: str, tag: str, repos: list[str] | None
) -> None:
    answer = send(host, "images", image=image, tag=tag)

    if repos:
        assert repos_in(answer) == repos
    else:
        told = "images (me/*) or tags (v*, latest)"
        assert reason_in(answer) == f"{image}:{tag} matches none of the receiver's {told}"


def test_the_paths_of_a_receiver_hold_for_a_repo_without_git_too(host: Site) -> None:
    def push(file: str) -> Answer:
        return host.deliver("blog", REVISION, path="/hook/pages", before="2" * 40, **changed(file))

    assert "none of the files that it changed (1) is one of the receiver's paths" in reason_in(push("docs/a.md"))
    assert repos_in(push("site/a.html")) == ["purge"]


def test_several_receivers_and_secrets_may_be_for_one_repo(host: Site) -> None:
    for receiver, secret in (("default", SECRET), ("rotated", SECRET), ("rotated", "next"), ("other", "next")):
        assert repos_in(host.deliver("blog", REVISION, path=f"/hook/{receiver}", secret=secret)) == ["blog"]
    for receiver, secret in (("default", "next"), ("other", SECRET)):
        assert host.deliver("blog", REVISION, path=f"/hook/{receiver}", secret=secret).status == 401


def test_one_receiver_may_be_for_several_repos(host: Site) -> None:
    assert repos_in(send(host, "several", event="purge")) == ["purge", "shop", "wiki"]
    assert repos_in(send(host, "several", image="me/wiki", tag="1")) == ["purge", "wiki"]
    assert repos_in(send(host, "several", repository="demo/shop", ref="main")) == ["purge", "shop"]


def test_a_receiver_triggers_none_but_its_repos_whatever_it_is_told(host: Site) -> None:
    known = {"id": 77, "full_name": "demo/blog"}
    assert host.deliver("blog", REVISION, repository=known).status == 202
    before = [host.jobs(name) for name in ("blog", "wiki", "purge")]
    renamed = known | {"full_name": "demo/renamed"}

    # By name, and by the id that another receiver knows and that this one was just told.
    by_name = host.deliver("blog", REVISION, repository=known, path="/hook/inside")
    by_id = host.deliver("blog", REVISION, repository=renamed, path="/hook/inside")
    assert (reason_in(by_name), reason_in(by_id)) == (
        f"blog: {NONE_OF_ITS_REPOS}",
        "no repo is configured for demo/renamed",
    )
    assert reason_in(send(host, "shop", image="me/blog", tag="v1")) == f"blog: {NONE_OF_ITS_REPOS}"
    assert reason_in(send(host, "shop", event="purge", repository="demo/blog")) == f"blog: {NONE_OF_ITS_REPOS}"
    assert reason_in(send(host, "shop", repository="demo/wiki", ref="main")) == f"wiki: {NONE_OF_ITS_REPOS}"
    assert repos_in(send(host, "shop", event="purge")) == ["shop"]

    assert [host.jobs(name) for name in ("blog", "wiki", "purge")] == before


def test_what_tells_of_no_repository_is_for_nobody_where_the_receiver_names_no_repos(host: Site) -> None:
    assert "the receiver names no repos" in reason_in(send(host, "anybody", event="purge"))
    assert "no repo is configured for the image me/other:1" in reason_in(
        send(host, "anybody", image="me/other", tag="1")
    )


@pytest.mark.parametrize("is_chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize(("receiver", "limit"), [("small", 1024), ("large", 4096), ("default", 4096)])
def test_a_body_over_the_limit_of_its_receiver_is_not_taken(
    host: Site, receiver: str, limit: int, *, is_chunked: bool
) -> None:
    def post(size: int) -> int:
        body = json.dumps({"ref": "refs/heads/main", "after": REVISION, "repository": {"full_name": "demo/blog"}})
        return _status(host, f"/hook/{receiver}", body.encode().ljust(size), is_chunked=is_chunked)

    before = count_deliveries(host)
    assert post(limit + 1) == 413
    assert count_deliveries(host) == before
    assert post(limit - FRAMING if is_chunked else limit) == 202
    assert count_deliveries(host) == before + 1


def count_deliveries(site: Site) -> int:
    store = Store(path_in(site.state_dir), time.time)
    try:
        return len(store.newest_deliveries(limit=1000))
    finally:
        store.close()


def _status(site: Site, path: str, body: bytes, *, is_chunked: bool) -> int:
    """What a signed body is answered."""
    length = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
    head = [f"{name}: {value}".encode() for name, value in signed_headers(body).items()]
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body
    with site.connect() as connection:
        start = [f"POST {path} HTTP/1.1".encode(), b"Host: example.org", b"Connection: close", length, *head]
        connection.sendall(b"\r\n".join([*start, b"", sent]))
        return int(connection.makefile("rb").readline().split()[1])


# suspended


def test_a_suspended_receiver_says_why_and_works_again_once_that_is_taken_back(site: Site) -> None:
    remote = site.add_repo("blog")
    add_receiver(site, "default", "github", suspended="the forge is being moved")
    add_receiver(site, "second", "github", suspended=True)
    site.start()

    assert reason_in(site.deliver("blog", remote.tip())) == "the receiver is suspended: the forge is being moved"
    assert reason_in(site.deliver("blog", remote.tip(), path="/hook/second")) == "the receiver is suspended"
    assert site.deliver("blog", remote.tip(), secret="wrong").status == 401
    assert site.jobs("blog") == []
    assert site.json("status")["problems"][0].startswith("receiver 'default' is suspended: the forge is being moved; ")

    for name in ("default", "second"):
        del site.settings["receivers"][name]["suspended"]
    reload(site)

    assert site.deliver("blog", remote.tip()).status == 202
    assert site.json("status")["problems"] == []
    site.wait_for_job("blog", "succeeded")


# allow_from and proxy


def test_the_address_of_a_client_is_believed_from_a_trusted_proxy_alone(site: Site) -> None:
    add_command(site, "purge", "true")
    add_receiver(site, "near", repos=["purge"], allow_from=["192.0.2.0/24", "2001:db8::/32"])
    add_receiver(site, "here", repos=["purge"], allow_from=["127.0.0.1"])
    site.start()

    def status(receiver: str, address: str = "", **more: str) -> int:
        headers = {"X-Forwarded-For": address} if address else {}
        return send(site, receiver, headers | more, event="x").status

    # Without a proxy everybody is who he is, and whoever pretends to be another is not.
    assert (status("here"), status("near"), status("near", "192.0.2.1")) == (202, 401, 401)
    assert "its client 127.0.0.1 is not in allow_from" in site.log()
    site.settings["proxy"] = {"trusted": ["203.0.113.9"], "header": "X-Forwarded-For"}
    reload(site)
    assert (status("here"), status("near"), status("near", "192.0.2.1")) == (202, 401, 401)

    site.settings["proxy"] = {"trusted": ["127.0.0.1"], "header": "X-Forwarded-For"}
    reload(site)
    for address in ("192.0.2.1", "2001:db8::1", "203.0.113.1, 192.0.2.1", "192.0.2.1, 127.0.0.1"):
        assert status("near", address) == 202, address
    for address in ("203.0.113.1", "192.0.2.1, 203.0.113.1", "192.0.2.1, unknown", "192.0.2.1,"):
        assert status("near", address) == 401, address
    # What only looks like that header.
    assert status("near", X_Forwarded_For="192.0.2.1") == 401
    assert status("near", "203.0.113.1", X_Forwarded_For="192.0.2.1") == 401
    assert status("near", "192.0.2.1", X_Forwarded_For="203.0.113.1") == 202
    assert status("near", **{"CF-Connecting-IP": "192.0.2.1"}) == 401
    assert (status("here"), status("here", "203.0.113.1")) == (202, 401), "a proxy is not its client"


def test_over_a_unix_socket_a_client_is_unix_or_who_the_proxy_there_says(site: Site) -> None:
    add_command(site, "purge", "true")
    add_receiver(site, "near", repos=["purge"], allow_from=["192.0.2.0/24"])
    add_receiver(site, "here", repos=["purge"], allow_from=["unix"])
    path = site.root / "hook.sock"

    def status(receiver: str, *addresses: str) -> int:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT_SEC)
            client.connect(str(path))
            connection = http.client.HTTPConnection("localhost")
            connection.sock = client
            connection.putrequest("POST", f"/hook/{receiver}")
            headers = [("Content-Type", "application/json"), ("Authorization", f"Bearer {SECRET}")]
            for name, value in (*headers, *(("X-Forwarded-For", each) for each in addresses), ("Content-Length", "14")):
                connection.putheader(name, value)
            connection.endheaders(b'{"event": "x"}')
            return connection.getresponse().status

    with (site.root / "daemon.log").open("ab") as log:
        command = site.command("serve", "--listen", f"unix:{path}")
        site._daemon = subprocess.Popen(command, env=site.environment, stdout=log, stderr=log)
    wait_for(lambda: "listening on " in site.log(), "the socket")

    assert (status("here"), status("near"), status("near", "192.0.2.1")) == (202, 401, 401)
    site.settings["proxy"] = {"trusted": ["unix"], "header": "X-Forwarded-For"}
    reload(site)
    assert (status("near", "192.0.2.1"), status("near", "203.0.113.1"), status("here", "192.0.2.1")) == (202, 401, 401)
    assert (status("here"), status("near")) == (202, 401), "what the proxy says nothing of is the proxy's own"
    # Some proxies add a line of their own.
    assert (status("near", "203.0.113.1", "192.0.2.1"), status("near", "192.0.2.1", "203.0.113.1")) == (202, 401)
    assert site.stop() == 0


# Remotes that are called otherwise now


def test_a_push_of_a_remote_that_was_renamed_is_deployed_and_the_new_name_is_told_until_it_is_configured(
    site: Site,
) -> None:
    remote = site.add_repo("blog")
    site.start()

    def push(name: str, url: str) -> None:
        repository = {"id": 41, "full_name": name, "clone_url": url}
        assert site.deliver("blog", remote.tip(), repository=repository).status == 202
        site.wait_until_settled("blog")

    push("demo/blog", remote.url)
    assert site.json("status")["problems"] == []
    revision = remote.push()
    push("ada/journal", "https://github.com/ada/journal.git")

    assert site.deployed("blog") == revision
    line = f"the remote of blog is called ada/journal now; correct its url, which is {remote.url}"
    assert site.json("status")["problems"] == [line]
    assert f"! {line}\n" in site.run("why", "blog").stdout

    there = site.root / "ada" / "journal.git"
    there.parent.mkdir()
    remote.bare.rename(there)
    git(site.checkout("blog"), "remote", "set-url", "origin", str(there))
    site.settings["repos"]["blog"]["url"] = str(there)
    reload(site)
    remote = Remote(bare=there, work=remote.work, branch=remote.branch)
    revision = remote.push()
    assert site.json("status")["problems"] == []
    push("ada/journal", "https://github.com/ada/journal.git")
    assert site.deployed("blog") == revision
    assert site.json("status")["problems"] == []


def test_a_transfer_is_told_once_and_before_anybody_pushes(site: Site) -> None:
    remote = site.add_repo("blog")
    hooks = ("default", "second")
    for name in hooks:
        add_receiver(site, name, "github")
    site.start()
    here = {"id": 41, "full_name": "demo/blog", "clone_url": remote.url}
    there = {"id": 41, "full_name": "ada/blog", "clone_url": "https://github.com/ada/blog.git"}
    for name in hooks:
        assert site.deliver("blog", remote.tip(), repository=here, path=f"/hook/{name}").status == 202
    site.wait_until_settled("blog")
    jobs = site.jobs("blog")

    for name in hooks:
        answer = site.deliver("blog", "", event="repository", repository=there, path=f"/hook/{name}")
        assert reason_in(answer) == "event 'repository' is not a push"

    assert site.jobs("blog") == jobs
    line = f"the remote of blog is called ada/blog now; correct its url, which is {remote.url}"
    assert site.json("status")["problems"] == site.json("why", "blog")["problems"] == [line]
    site.settings["repos"]["blog"]["url"] = "git@mirror.example:blog.git"
    site.write_config()
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.json("status")["problems"] == [], "no problem, where it is fetched from somewhere else now")


# What is said of a configuration that cannot be as it was meant


def problems_of(site: Site) -> list[str]:
    found: list[str] = site.json("status")["problems"]
    return found


def findings_of(site: Site) -> dict[str, str | None]:
    """What `gitopsd check` found, by its subject."""
    done = site.run("check", "--offline", "--json")
    return {each["subject"]: each["problem"] for each in json.loads(done.stdout)["findings"]}


def test_a_change_that_the_daemon_was_not_told_of_is_said_until_it_is(site: Site) -> None:
    site.add_repo("blog")
    add_receiver(site, "ci")
    site.start()
    assert problems_of(site) == []

    site.settings["repos"]["blog"]["images"] = ["me/blog"]
    site.write_config()
    (problem,) = problems_of(site)
    assert re.fullmatch(
        r"the configuration was changed, and the daemon goes by that of \d+ s ago; kill -HUP .*", problem
    )

    reload(site)
    assert problems_of(site) == []


def test_a_receiver_that_names_a_repo_that_there_is_not_is_said_before_anything_comes(site: Site) -> None:
    site.add_repo("blog")
    add_receiver(site, "ci", repos=["blgo"], max_body="1G")
    site.start()

    first, second = problems_of(site)
    assert first == "receiver 'ci': repos: 'blgo' is none of the repos; take it out, or: gitopsd add URL"
    assert second == "receiver 'ci': max_body: no receiver reads more than max_body of all, 26214400"
    assert site.run("check", "--offline").returncode == 78
    assert reason_in(send(site, "ci", event="purge")) == (
        "event 'purge' is for none of the repos that the receiver names (blgo)"
    )


def test_a_command_that_nothing_can_ask_for_is_told_and_is_no_fault(site: Site) -> None:
    add_command(site, "purge", "true")
    add_command(site, "named", "true")
    add_command(site, "pulled", "true", images=["me/*"])
    add_receiver(site, "ci", repos=["named"])
    found = findings_of(site)
    told = [subject for subject in found if "nothing but gitopsd sync runs" in subject]
    assert told == ["purge: no receiver names it, so nothing but gitopsd sync runs its command"]
    assert site.run("check", "--offline").returncode == 0


def test_images_of_a_repo_with_nothing_to_run_for_them_are_found(site: Site) -> None:
    site.add_repo("blog", images=["me/blog"])
    assert findings_of(site)["blog"] == "images: there is no 'deploy' for them to run"
    assert site.run("check", "--offline").returncode == 78


def test_a_checkout_from_elsewhere_is_found_before_its_sync_is_refused(site: Site) -> None:
    remote = site.add_repo("blog")
    assert site.run("sync", "blog").returncode == 0
    site.settings["repos"]["blog"]["url"] = "git@github.com:me/weblog.git"
    site.write_config()
    problem = next(problem for subject, problem in findings_of(site).items() if subject.startswith("blog: path"))
    assert problem is not None
    assert problem.startswith(f"its origin is {remote.url}, and url is git@github.com:me/weblog.git; git -C ")


def test_why_tells_what_a_rule_kept_from_the_repo_that_it_was_meant_for(site: Site) -> None:
    remote = site.add_repo("blog", images=["me/blog"])
    add_receiver(site, "default", "github", refs=["refs/tags/*"])
    add_receiver(site, "ci", tags=["v*"])
    site.start()

    assert site.deliver("blog", remote.tip()).status == 200
    assert "refs/heads/main matches none of the receiver's refs (refs/tags/*)" in site.run("why", "blog").stdout
    assert remote.tip()[:10] in site.run("why", "blog", remote.tip()).stdout

    assert reason_in(send(site, "ci", image="me/blog:edge"))
    assert "me/blog:edge matches none of the receiver's tags (v*)" in site.run("why", "blog").stdout


def test_an_image_that_was_refused_is_deployed_with_the_next_sync_whoever_asks(site: Site) -> None:
    site.add_repo("blog", deploy=note(site), images=["me/blog"])
    add_receiver(site, "ci")
    assert site.run("sync", "blog").returncode == 0
    site.start()
    (site.checkout("blog") / "deploy.sh").write_text("mine")
    assert send(site, "ci", image="me/blog:v2").status == 202
    site.wait_for_job("blog", "refused")
    git(site.checkout("blog"), "checkout", "--", "deploy.sh")

    assert site.run("sync", "blog").returncode == 0

    assert [line.split("|")[:3] for line in told(site)[1:]] == [["image", "me/blog", "v2"]]
