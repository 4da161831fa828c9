"""`gitopsd deliveries`, `receivers` and `replay`, as a person and a script use them, after real deliveries."""

import base64
import hashlib
import hmac
import json
import re
import signal
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from gitopsd.store import path_in
from tests.site import Answer, Site, signed_headers, wait_for
from tests.terminal import on_a_terminal

TOKEN = "token-51c0e7"
OTHER = "1" * 40
JSON = {"Content-Type": "application/json"}


def add_receiver(site: Site, name: str, provider: str = "generic-token", secret: str = TOKEN, **rules: Any) -> None:
    """A receiver with a secret of its own."""
    entry = {"provider": provider, "secrets": [f"{name}-secret"], **rules}
    site.settings.setdefault("receivers", {})[name] = entry
    site.environment[f"{name.upper()}_SECRET"] = secret
    site.write_config()


def add_command(site: Site, name: str, script: str) -> None:
    """A repo without git that runs a shell script."""
    command = {"path": str(site.root), "strategy": "none", "deploy": ["sh", "-c", script]}
    site.settings["repos"][name] = command
    site.write_config()


def send(site: Site, path: str, headers: Mapping[str, str] | None = None, **body: Any) -> Answer:
    """A delivery with the token in its header."""
    proof = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
    return site.request("POST", f"/hook/{path}", json.dumps(body).encode(), JSON | dict(proof))


def table(text: str) -> list[list[str]]:
    """The cells of a table; how long ago something was is `then`."""
    lines = [re.sub(r"\b[0-9]+ (s|min) ago", "then", line) for line in text.splitlines()]
    return [re.split(" {2,}", line) for line in lines]


def plain(shown: str) -> str:
    """What a terminal shows, without colours."""
    return re.sub("\x1b\\[[0-9;]*m", "", shown).replace("\r", "")


def newest(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = site.json("deliveries", "--limit", "1")["deliveries"][0]
    return found


# deliveries


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that six deliveries have come to, before its daemon was killed."""
    past = Site(tmp_path_factory.mktemp("past"))
    try:
        remote = past.add_repo("blog", deploy="true")
        past.settings["receivers"] = {"default": {"provider": "github", "secrets": ["github-webhook-secret"]}}
        add_receiver(past, "ci", repos=["blog"])
        past.start()
        assert past.deliver("blog", remote.tip(), delivery="one").status == 202
        past.wait_for_job("blog", "succeeded")
        assert past.deliver("blog", remote.tip(), delivery="one").status == 200
        assert past.deliver("blog", OTHER, event="ping").status == 200
        assert past.deliver("blog", OTHER, ref="refs/heads/next").status == 200
        assert send(past, "ci", image="ghcr.io/me/blog", tag="v1").status == 202
        past.wait_for_job("blog", "succeeded", count=2)
        assert past.deliver("nobody", OTHER).status == 200
        past.stop(signal.SIGKILL)
        yield past
    finally:
        past.close()


def test_what_has_come_is_listed_with_what_was_decided_and_why(past: Site) -> None:
    done = past.run("deliveries")

    tip = past.remotes["blog"].tip()[:10]
    assert (done.returncode, done.stderr) == (0, "")
    assert table(done.stdout) == [
        ["NO", "WHEN", "RECEIVER", "EVENT", "ABOUT", "DECISION", "WHY"],
        [
            "6",
            "then",
            "default",
            "push",
            "demo/nobody main 1111111111",
            "ignored",
            "no repo is configured for demo/nobody",
        ],
        ["5", "then", "ci", "image", "ghcr.io/me/blog:v1", "accepted", "job 2 of blog"],
        [
            "4",
            "then",
            "default",
            "push",
            "demo/blog next 1111111111",
            "ignored",
            "blog: follows refs/heads/main, not refs/heads/next",
        ],
        ["3", "then", "default", "ping", "demo/blog", "ignored", "ping: the webhook works"],
        ["2", "then", "default", "push", f"demo/blog main {tip}", "duplicate", "accepted before, as job 1"],
        ["1", "then", "default", "push", f"demo/blog main {tip}", "accepted", "job 1 of blog"],
    ]


def test_a_delivery_has_for_machines_what_a_person_sees(past: Site) -> None:
    found = past.json("deliveries")["deliveries"]

    assert [delivery["number"] for delivery in found] == [6, 5, 4, 3, 2, 1]
    first, image = found[-1], found[1]
    assert re.fullmatch(r"[0-9-]{10}T[0-9:.]{12}Z", first.pop("received_at"))
    assert first == {
        "number": 1,
        "receiver": "default",
        "delivery": "one",
        "event": "push",
        "remote": "demo/blog",
        "ref": "refs/heads/main",
        "revision": past.remotes["blog"].tip(),
        "decision": "accepted",
        "reason": "",
        "jobs": [1],
    }
    assert (image["delivery"][:7], image["revision"], image["jobs"]) == ("sha256:", None, [2])


def test_the_newest_are_listed_up_to_a_limit_and_of_one_receiver(past: Site) -> None:
    def numbers(*words: str) -> list[int]:
        return [delivery["number"] for delivery in past.json("deliveries", *words)["deliveries"]]

    assert (numbers("--limit", "2"), numbers("ci"), numbers("default", "--limit", "1")) == ([6, 5], [5], [6])


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            ("deliveries",),
            r"4 \d+ (s|min) ago default push demo/blog next 1{10} ignored blog: follows refs/heads/main, not",
        ),
        (
            ("receivers",),
            r"default /api/webhook/gitops github: every repo last delivery \d+ (s|min) ago: push demo/nobody",
        ),
        (
            ("receivers", "--host", "hooks.example.org"),
            r"default https://hooks.example.org/api/webhook/gitops github: every repo last delivery \d+ (s|min) ago",
        ),
    ],
)
def test_on_a_narrow_terminal_no_name_url_or_reason_is_cut(past: Site, words: tuple[str, ...], shown: str) -> None:
    lines = plain(on_a_terminal(past, *words, columns=80)).splitlines()

    assert all(len(line) <= 80 for line in lines)
    assert re.search(shown, " ".join(" ".join(line.split()) for line in lines))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that nothing has come to."""
    return Site(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize(
    ("words", "code", "out", "said"),
    [
        (("deliveries",), 0, "no delivery has come yet; gitopsd receivers shows where they are to be sent\n", ""),
        (("deliveries", "default"), 0, "no delivery has come yet; ", ""),
        (("deliveries", "--json"), 0, '{\n  "deliveries": []\n}\n', ""),
        (("deliveries", "nobody"), 1, "", "there is no receiver 'nobody'; known: default\n"),
        (("deliveries", "--limit", "0"), 2, "", "give a whole number from 1"),
        (("replay",), 2, "", "the following arguments are required: DELIVERY"),
        (("replay", "7"), 1, "", "there is no delivery '7'; gitopsd deliveries shows their numbers\n"),
        (("replay", "9" * 30), 1, "", "there is no delivery '999"),
        (("replay", "²"), 1, "", "there is no delivery '²'"),
        (("receivers", "--host", "https://h.example"), 1, "", "--host https://h.example: give the public name"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(
    empty: Site, words: tuple[str, ...], code: int, out: str, said: str
) -> None:
    done = empty.run(*words)

    assert (done.returncode, bool(done.stdout), bool(done.stderr)) == (code, bool(out), bool(said))
    assert done.stdout.startswith(out)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == {0: 0, 1: 1, 2: 2}[code], "with the usage, where that is wrong"


# replay


def test_what_was_ignored_is_deployed_once_the_configuration_is_corrected(site: Site) -> None:
    remote = site.add_repo("blog", ref="next")
    site.start()
    assert site.deliver("blog", remote.tip(), delivery="one").status == 200
    site.stop()

    still = site.run("replay", "1")
    assert (still.returncode, still.stderr) == (77, "")
    assert still.stdout == "delivery 1 leads to nothing: blog: follows refs/heads/next, not refs/heads/main\n"
    assert site.jobs("blog") == []

    site.settings["repos"]["blog"]["ref"] = "main"
    site.write_config()
    first, second = site.run("replay", "1"), site.run("replay", "one")

    assert (first.returncode, second.returncode) == (0, 0), first.stdout + first.stderr
    assert re.search(r"^blog: succeeded \(.*job 1, ", first.stdout, re.MULTILINE)
    assert re.search(r"^blog: unchanged \(.*job 2, ", second.stdout, re.MULTILINE)
    assert site.deployed("blog") == remote.tip()
    about = ["then", "default", "push", f"demo/blog main {remote.tip()[:10]}"]
    why = "blog: follows refs/heads/next, not refs/heads/main"
    assert table(site.run("deliveries").stdout)[1:] == [
        ["4", *about, "accepted", "replay of 3; job 2 of blog"],
        ["3", *about, "accepted", "replay of 1; job 1 of blog"],
        ["2", *about, "ignored", f"replay of 1; {why}"],
        ["1", *about, "ignored", why],
    ]


def test_a_replay_brings_the_event_with_it_and_ends_with_the_code_of_its_job(site: Site) -> None:
    fail = site.root / "fail"
    add_command(site, "shop", f'echo "$GITOPSD_EVENT_TYPE $GITOPSD_IMAGES" >> told; [ ! -e "{fail}" ]')
    add_receiver(site, "ci", repos=["shop"])
    site.start()
    send(site, "ci", image="me/shop", tag="v1")
    site.wait_for_job("shop", "succeeded")

    left = site.run("replay", "1", "--no-wait")
    assert (left.returncode, left.stdout) == (0, "shop: job 2 is queued; gitopsd logs --follow 2\n")
    site.wait_for_job("shop", "succeeded", count=2)
    done = json.loads(site.run("replay", "1", "--json").stdout)
    assert list(done) == ["delivery", "jobs"]
    assert (done["delivery"]["number"], done["delivery"]["reason"], done["delivery"]["jobs"]) == (3, "replay of 1", [3])
    assert [(job["id"], job["state"], job["event"]) for job in done["jobs"]] == [(3, "succeeded", "image")]
    queued = json.loads(site.run("replay", "1", "--no-wait", "--json").stdout)
    assert (queued["delivery"]["number"], [job["id"] for job in queued["jobs"]]) == (4, [4])
    site.wait_for_job("shop", "succeeded", count=4)
    assert (site.root / "told").read_text().splitlines() == ["image me/shop:v1"] * 4

    site.settings["retry"] = {"tries": 1}
    site.settings["receivers"]["ci"]["images"] = ["me/other"]
    site.write_config()
    refused = site.run("replay", "1", "--json")
    assert refused.returncode == 77
    assert json.loads(refused.stdout)["jobs"] == []
    assert json.loads(refused.stdout)["delivery"]["decision"] == "ignored"
    del site.settings["receivers"]["ci"]["images"]
    site.write_config()
    fail.touch()
    assert site.run("replay", "1").returncode == 1


def test_of_a_delivery_that_came_twice_the_id_leads_to_the_one_whose_body_is_there(site: Site) -> None:
    add_command(site, "shop", "true")
    add_receiver(site, "ci", repos=["shop"])
    site.start()
    proof = {"Authorization": f"Bearer {TOKEN}", "X-Delivery-ID": "one"}
    assert [send(site, "ci", proof, event="purge").status for _ in range(2)] == [202, 200]

    done, of_second = site.run("replay", "one"), site.run("replay", "2")

    assert done.returncode == 0, done.stderr
    assert newest(site)["reason"] == "replay of 1"
    assert of_second.returncode == 1
    assert of_second.stderr.endswith(
        "delivery 2 is a duplicate; the body is kept with the first one: gitopsd replay one\n"
    )


def test_what_cannot_be_replayed_any_more_says_why_in_a_line(site: Site) -> None:
    add_command(site, "shop", "true")
    add_receiver(site, "ci", repos=["shop"])
    add_receiver(site, "old", repos=["shop"])
    site.settings["keep"] = {"bodies": 3}
    site.write_config()
    site.start()
    send(site, "ci", event="first")
    send(site, "ci", event="second", padding=" " * (257 * 1024))
    for receiver in ("old", "ci", "ci"):
        assert send(site, receiver, event="last").status == 202
    site.wait_until_settled("shop")

    def refusal(number: str) -> str:
        done = site.run("replay", number)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        return done.stderr

    for number in ("1", "2"):
        kept = "those of the last 3 deliveries are (keep.bodies), if they are not over 256K and hide no secret"
        assert refusal(number) == f"gitopsd: the body of delivery {number} is not kept; {kept}\n"
    del site.settings["receivers"]["old"]
    site.settings["receivers"]["ci"]["provider"] = "github"
    site.write_config()
    assert refusal("3") == "gitopsd: there is no receiver 'old'; known: ci\n"
    assert refusal("4").startswith("gitopsd: delivery 4 is not what github sends: header X-GitHub-Event is missing")
    site.settings["receivers"]["ci"]["provider"] = "generic-token"
    site.write_config()
    assert site.run("replay", "4").returncode == 0


def test_bodies_that_are_not_to_be_kept_any_more_are_gone_after_the_next_start(site: Site) -> None:
    add_command(site, "shop", "true")
    add_receiver(site, "ci", repos=["shop"])
    site.start()
    send(site, "ci", event="purge")
    assert bodies(site) == 1
    site.stop()
    site.settings["keep"] = {"bodies": 0}
    site.write_config()

    site.start()

    wait_for(lambda: bodies(site) == 0, "the body to be forgotten")
    assert send(site, "ci", event="purge").status == 202
    assert bodies(site) == 0
    assert len(site.json("deliveries")["deliveries"]) == 2


def bodies(site: Site) -> int:
    """Of how many deliveries the body is kept."""
    connection = sqlite3.connect(path_in(site.state_dir))
    try:
        count: int = connection.execute("SELECT count(*) FROM bodies").fetchone()[0]
        return count
    finally:
        connection.close()


def test_a_replay_of_what_came_under_an_old_name_does_not_take_it_for_the_new_one(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()
    old = {"id": 41, "full_name": "demo/old", "clone_url": remote.url}
    assert site.deliver("blog", remote.tip(), repository=old).status == 202
    site.wait_until_settled("blog")
    there = site.root / "demo" / "new.git"
    there.parent.mkdir()
    remote.bare.rename(there)
    site.settings["repos"]["blog"]["url"] = str(there)
    site.write_config()
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.log().count("info: configuration ") == 2, "the reload")
    new = {"id": 41, "full_name": "demo/new", "clone_url": "https://github.com/demo/new.git"}
    assert site.deliver("blog", OTHER, repository=new).status == 202

    assert site.run("replay", "1", "--no-wait").returncode == 0

    assert (newest(site)["reason"], newest(site)["remote"]) == ("replay of 1", "demo/old")
    assert site.json("status")["problems"] == []


# receivers


@pytest.fixture
def several(site: Site) -> Site:
    """A daemon with receivers of several kinds, and what came to them."""
    site.settings["receivers"] = {"default": {"provider": "github", "secrets": ["github-webhook-secret"]}}
    add_command(site, "shop", "true")
    add_receiver(site, "ci", repos=["shop"], images=["me/*"], tags=["v*"])
    add_receiver(site, "far", repos=["shop"], allow_from=["192.0.2.0/24"], events=["purge"])
    add_receiver(site, "path", "generic", repos=["shop"], suspended="the forge is being moved")
    add_receiver(site, "shut", refs=["refs/heads/*"], paths=["site/**"])
    del site.environment["SHUT_SECRET"]
    site.start()
    assert send(site, "ci", image="me/shop", tag="v1").status == 202
    assert send(site, "ci", {"Authorization": f"Bearer wrong-{TOKEN}"}, event="x").status == 401
    assert send(site, "far", event="x").status == 401
    assert send(site, f"path/wrong-{TOKEN}", {}, event="x").status == 401
    assert send(site, f"path/{TOKEN}", {}, event="x").status == 200
    assert send(site, "shut", event="x").status == 401
    assert send(site, "astray", event="x").status == 401
    assert site.deliver("blog", OTHER, event="ping").status == 200
    site.wait_until_settled("shop")
    return site


def test_receivers_shows_where_to_send_to_what_is_taken_and_what_came_last(several: Site) -> None:
    bare, whole = several.run("receivers"), several.run("receivers", "--host", "hooks.example.org")

    assert (bare.returncode, bare.stderr) == (0, "")
    lines = table(bare.stdout)
    wrong, elsewhere = "the token is none of the secrets", "its client 127.0.0.1 is not in allow_from"
    assert [lines[0], *sorted(lines[1:6])] == [
        ["RECEIVER", "PROVIDER", "URL", "TRIGGERS", "LAST DELIVERY", "LAST REFUSED"],
        [
            "ci",
            "generic-token",
            "/hook/ci",
            "shop; images me/*; tags v*",
            "then: image me/shop:v1, accepted",
            f"then: {wrong}",
        ],
        ["default", "github", "/api/webhook/gitops", "every repo", "then: ping demo/blog, ignored", "-"],
        [
            "far",
            "generic-token",
            "/hook/far",
            "shop; events purge; allow_from 192.0.2.0/24",
            "-",
            f"then: {elsewhere} (behind a proxy that takes 'proxy' in the configuration)",
        ],
        [
            "path",
            "generic",
            "/hook/path/TOKEN",
            "suspended: the forge is being moved; shop",
            "then: x, ignored",
            f"then: {wrong}",
        ],
        [
            "shut",
            "generic-token",
            "/hook/shut",
            "every repo; refs refs/heads/*; paths site/**",
            "-",
            "then: the receiver has no usable secret",
        ],
    ]
    closed, suspended, astray = (" ".join(line) for line in lines[6:])
    assert closed.startswith("! receiver 'shut' is closed: secret 'shut-secret' is missing (looked for ")
    assert suspended.startswith("! receiver 'path' is suspended: the forge is being moved; ")
    nobody = "there is no receiver of the name in its URL"
    assert astray == f"! something came then, and {nobody} (known: ci, default, far, path, shut)"
    urls = [line[2] for line in table(whole.stdout)[1:6]]
    places = ("/hook/ci", "/api/webhook/gitops", "/hook/far", "/hook/path/TOKEN", "/hook/shut")
    assert sorted(urls) == sorted(f"https://hooks.example.org{place}" for place in places)


def test_receivers_tells_machines_the_same_also_after_a_restart(several: Site) -> None:
    before = several.json("receivers")
    several.stop(signal.SIGKILL)
    several.start()
    after = several.json("receivers")

    assert (after["receivers"], after["unknown"]) == (before["receivers"], before["unknown"])
    assert len(after["problems"]) == len(before["problems"]) == 3
    assert list(before) == ["receivers", "unknown", "problems"]
    assert before["unknown"]["reason"] == "there is no receiver of the name in its URL"
    ci = next(each for each in before["receivers"] if each["name"] == "ci")
    assert (ci.pop("last_delivery")["number"], ci.pop("last_rejected").keys()) == (1, {"at", "reason"})
    assert ci == {
        "name": "ci",
        "provider": "generic-token",
        "url": "/hook/ci",
        "repos": ["shop"],
        "events": [],
        "refs": [],
        "paths": [],
        "images": ["me/*"],
        "tags": ["v*"],
        "allow_from": [],
        "suspended": None,
        "max_body": None,
    }
    default = next(each for each in before["receivers"] if each["name"] == "default")
    assert (default["repos"], default["last_rejected"]) == (None, None)


def test_without_a_daemon_receivers_says_so_and_names_the_urls_all_the_same(empty: Site) -> None:
    lines = table(empty.run("receivers", "--host", "h.example:8443").stdout)

    assert lines[1] == ["default", "github", "https://h.example:8443/api/webhook/gitops", "every repo", "-", "-"]
    assert lines[2][0].startswith("! gitopsd serve is not running")


# Secrets


def proof_of(provider: str, secret: str, body: bytes) -> dict[str, str]:
    """The headers with which a sender of that kind proves a body."""
    match provider:
        case "generic-token":
            return {"Authorization": f"Bearer {secret}"}
        case "generic-hmac":
            return {"X-Signature": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"}
        case "github":
            return signed_headers(body, secret=secret, event="release")
        case "azure-devops":
            return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}
    return {}


def test_no_secret_is_in_the_store_a_log_or_what_the_commands_show(site: Site) -> None:
    providers = {
        "token": "generic-token",
        "path": "generic",
        "hmac": "generic-hmac",
        "hub": "github",
        "login": "azure-devops",
    }
    add_command(site, "shop", "true")
    for name, provider in providers.items():
        secret = f"gitopsd:needle-{name}" if name == "login" else f"needle-{name}"
        add_receiver(site, name, provider, secret, repos=["shop"], events=["*"])
    site.start()

    said = bytearray()
    for name, provider in providers.items():
        secret, echo = site.environment[f"{name.upper()}_SECRET"], f"needle-{name}"
        told = {"event": "purge", "eventType": "purge", "marker": "in the body"}
        echoes = {"secret": echo, f"key {echo}": echo, "deep": [{"list": [f"https://user:{echo}@example.org/"]}]}
        body = json.dumps(told | echoes).encode()
        twice = json.dumps(told).encode()[:-1] + f', "twice": "{echo}", "twice": 1}}'.encode()
        for sent, key, status in (
            (body, secret, 202),
            (twice, secret, 202),
            (b"[", secret, 400),
            (body, f"{secret}x", 401),
        ):
            path = f"/hook/{name}/{key}" if name == "path" else f"/hook/{name}"
            answer = site.request("POST", path, sent, JSON | proof_of(provider, key, sent))
            assert answer.status == status, (name, sent, answer.body)
            said += answer.body
        for path in (f"/hook/{name}/{echo}/{echo}", f"/hook/nobody/{echo}", f"/hook/{echo}"):
            said += site.request("POST", path, body, JSON | proof_of(provider, secret, body)).body
    site.wait_until_settled("shop")

    assert (site.state_dir / "store" / "gitopsd.sqlite3-wal").stat().st_size > 0
    for words in (("deliveries",), ("receivers",), ("replay", "1"), ("replay", "10"), ("status",)):
        done = site.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        said += (done.stdout + done.stderr).encode()
    everything = b"".join(file.read_bytes() for file in site.root.rglob("*") if file.is_file())
    assert everything.count(b"in the body") >= 10
    assert b"needle-" not in everything + said
