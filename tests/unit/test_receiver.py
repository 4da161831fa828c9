"""Webhooks in, 202 out: the application on a real store, without a daemon around it."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from falcon import testing

from gitopsd import holds, journal
from gitopsd.journal import Kind
from gitopsd.model import Decision, Hold, Secret
from gitopsd.receiver import Serving, create_app
from gitopsd.settings import Config, Limits, Proxy, Receiver, Repo
from gitopsd.store import Store, path_in
from gitopsd.store.notes import PROOF_NOTE, REFUSED_NOTE, REJECTED_NOTE, UNKNOWN_RECEIVER
from tests import catalog
from tests.site import SECRET, signed_headers

NOW = 1_700_000_000.0
REVISION = "1" * 40
HOOK = "/api/webhook/gitops"


class Parts:
    """What the application is handed, and what it did with it."""

    def __init__(self, root: Path) -> None:
        self.config = Config(
            source=root / "gitopsd.yaml",
            state_dir=root / "state",
            engine=root / "engine",
            max_body=10_000,
            receivers={
                name: Receiver(name=name, provider="github", secrets=(name,)) for name in ("default", "second", "shut")
            },
        )
        self.repos: Mapping[str, Repo] = {"blog": repo("blog")}
        self.store = Store(path_in(self.config.state_dir), lambda: NOW)
        self.secrets: dict[str, tuple[Secret, ...]] = {
            "default": (Secret("default", SECRET.encode()),),
            "second": (Secret("second", b"second"),),
        }
        self.closed: Mapping[str, str] = {}
        self.broken = ""
        self.dispatcher_problem = ""
        self.opted_in: dict[str, Repo] = {}
        self.rescans = 0
        self.jobs_at_wake: list[int] = []
        app = create_app(
            self.serving,
            rescan=self.rescan,
            wake=lambda: self.jobs_at_wake.append(len(self.store.jobs(limit=100))),
            dispatcher_problem=lambda: self.dispatcher_problem,
            clock=lambda: NOW,
        )
        self.client = testing.TestClient(app)

    def serving(self) -> Serving | str:
        if self.broken:
            return self.broken
        return Serving(config=self.config, store=self.store, repos=self.repos, secrets=self.secrets, closed=self.closed)

    def rescan(self) -> Mapping[str, Repo]:
        self.rescans += 1
        self.repos = {**self.repos, **self.opted_in}
        return self.repos

    def post(
        self, body: bytes, headers: Mapping[str, str], path: str = HOOK, peer: str = "127.0.0.1"
    ) -> testing.Result:
        return self.client.simulate_post(path, body=body, headers=dict(headers), remote_addr=peer)

    def rule(self, name: str = "default", **rules: Any) -> None:
        """Put rules on a receiver."""
        ruled = self.config.receivers[name]._replace(**rules)
        self.config = self.config._replace(receivers={**self.config.receivers, name: ruled})

    def push_from(self, peer: str, headers: dict[str, str] | None = None, **signing: str) -> testing.Result:
        body = json.dumps(push()).encode()
        return self.post(body, signed_headers(body, **signing) | (headers or {}), peer=peer)

    def rejected(self, name: str = "default") -> Any:
        return self.store.read_note(f"{REJECTED_NOTE}{name}")

    def deliver(self, payload: Mapping[str, Any], path: str = HOOK, **signing: str) -> testing.Result:
        body = json.dumps(payload).encode()
        return self.post(body, signed_headers(body, **signing), path)


def repo(name: str, ref: str = "main") -> Repo:
    return Repo(name=name, url=f"https://github.com/demo/{name}.git", ref=ref, path=Path("/srv") / name)


def push(name: str = "blog", **changes: Any) -> dict[str, Any]:
    repository = {"full_name": f"demo/{name}", "clone_url": f"https://github.com/demo/{name}.git"}
    return {"ref": "refs/heads/main", "after": REVISION, "repository": repository} | changes


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    yield made
    made.store.close()


def test_who_sends_too_many_without_the_secret_is_told_to_wait_and_not_noted_any_more(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    parts.config = parts.config._replace(limits=Limits(refusals=2))
    answers = [parts.push_from(STRANGER, secret="wrong") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [401, 401, 429, 429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    caplog.clear()
    assert parts.push_from(STRANGER, secret="wrong").status_code == 429
    assert caplog.records == []


def test_who_has_the_secret_is_heard_whatever_else_came_from_his_address(parts: Parts) -> None:
    parts.config = parts.config._replace(limits=Limits(refusals=1))
    for _ in range(5):
        parts.push_from(STRANGER, secret="wrong")

    assert parts.push_from(STRANGER).status_code == 202


def test_behind_a_trusted_proxy_it_is_the_address_that_the_proxy_tells(parts: Parts) -> None:
    parts.config = parts.config._replace(limits=Limits(refusals=1), proxy=CLOUDFLARED)
    by_stranger = [
        parts.push_from("127.0.0.1", {"CF-Connecting-IP": STRANGER}, secret="wrong").status_code for _ in range(3)
    ]

    assert by_stranger == [401, 429, 429]
    assert parts.push_from("127.0.0.1", {"CF-Connecting-IP": OFFICE}, secret="wrong").status_code == 401


def test_behind_a_proxy_that_nobody_trusts_all_are_one_and_none_is_told_to_wait(parts: Parts) -> None:
    parts.config = parts.config._replace(limits=Limits(refusals=1))
    answers = [parts.push_from("127.0.0.1", {"CF-Connecting-IP": STRANGER}, secret="wrong") for _ in range(3)]

    assert {answer.status_code for answer in answers} == {401}


def test_the_dispatcher_is_woken_when_the_job_is_in_the_store(parts: Parts) -> None:
    answer = parts.deliver(push(), delivery="one")

    assert answer.status_code == 202
    job = parts.store.jobs("blog", limit=1)[0]
    assert answer.json == {"delivery": "one", "jobs": [{"id": job.id, "repo": "blog"}]}
    assert (job.delivery, job.ref, job.revision) == ("one", "refs/heads/main", REVISION)
    assert parts.jobs_at_wake == [1]


def test_every_repo_that_follows_the_branch_gets_a_job(parts: Parts) -> None:
    follower = parts.repos["blog"]._replace(name="mirror", path=Path("/srv/mirror"))
    other = parts.repos["blog"]._replace(name="staging", ref="next", path=Path("/srv/staging"))
    parts.repos = {**parts.repos, "mirror": follower, "staging": other}

    answer = parts.deliver(push())

    assert [job["repo"] for job in answer.json["jobs"]] == ["blog", "mirror"]
    assert [delivery.reason for delivery in parts.store.deliveries("staging", limit=1)] == [
        "follows refs/heads/next, not refs/heads/main"
    ]


def test_the_answer_to_a_push_to_a_held_repo_says_by_whom_and_why_and_the_job_waits(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    shop = parts.repos["blog"]._replace(name="shop", path=Path("/srv/shop"))
    parts.repos = {**parts.repos, "shop": shop}
    hold = Hold(repo="blog", by="root", reason="disk swap", at=NOW - 60, until=NOW + 60)
    holds.write(parts.config.state_dir, hold)

    with caplog.at_level(logging.INFO):
        answer = parts.deliver(push())

    blog, other = (parts.store.jobs(name, limit=1)[0] for name in ("blog", "shop"))
    assert answer.status_code == 202
    assert answer.json["jobs"] == [
        {"id": blog.id, "repo": "blog", "held": "held by root: disk swap"},
        {"id": other.id, "repo": "shop"},
    ]
    assert [job.repo for job in parts.store.waiting()] == ["blog", "shop"]
    assert [message.endswith("as job 1 of blog, held by root: disk swap") for message in caplog.messages] == [
        True,
        False,
    ]
    assert catalog.kinds_of(caplog.records) == {Kind.DELIVERY_ACCEPTED}


def test_a_hold_that_has_ended_is_not_told(parts: Parts) -> None:
    hold = Hold(repo="blog", by="root", reason="disk swap", at=NOW - 60, until=NOW)
    holds.write(parts.config.state_dir, hold)
    assert "held" not in parts.deliver(push()).json["jobs"][0]


def test_a_hold_that_cannot_be_read_costs_no_delivery_and_tells_nobody_outside_where_it_is(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    hold = Hold(repo="blog", by="root", reason="disk swap", at=NOW)
    holds.write(parts.config.state_dir, hold)
    file = parts.config.state_dir / "holds" / "blog.json"
    file.write_text("nonsense")

    answer = parts.deliver(push())

    assert answer.status_code == 202
    assert answer.json["jobs"] == [{"id": 1, "repo": "blog", "held": "held: its hold cannot be read"}]
    assert len(parts.store.waiting()) == len(parts.jobs_at_wake) == 1
    assert f"hold {file}: is not what gitopsd writes" in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no media type"),
        pytest.param({"Content-Type": "text/plain"}, id="text"),
        pytest.param({"Content-Type": "application/json, application/json"}, id="twice"),
        pytest.param({"Content-Type": "application/jsonx"}, id="not quite"),
    ],
)
def test_a_body_of_another_type_is_turned_away(parts: Parts, headers: dict[str, str]) -> None:
    assert parts.post(b"{}", signed_headers(b"{}") | {"Content-Type": ""} | headers).status_code == 415


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "Application/JSON", " application/json ;x=y"]
)
def test_parameters_and_case_of_the_media_type_do_not_count(parts: Parts, media_type: str) -> None:
    body = json.dumps(push()).encode()
    assert parts.post(body, signed_headers(body) | {"Content-Type": media_type}).status_code == 202


def test_a_body_over_the_cap_is_turned_away_before_it_is_verified(parts: Parts) -> None:
    body = b" " * (parts.config.max_body + 1)
    assert parts.post(body, {"Content-Type": "application/json"}).status_code == 413
    assert parts.post(body[:-1], {"Content-Type": "application/json"}).status_code == 401


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[" * 5000, b"\xff\x00"])
def test_nothing_is_parsed_before_it_is_verified(parts: Parts, body: bytes) -> None:
    unsigned = {"Content-Type": "application/json", "X-GitHub-Event": "push"}
    assert parts.post(body, unsigned).status_code == 401
    assert parts.post(body, signed_headers(body)).status_code == 400
    assert parts.store.deliveries(None, limit=1) == []


def test_a_secret_opens_its_own_receiver_and_no_other(parts: Parts) -> None:
    paths = ("/hook/second", HOOK, "/hook/default", "/hook/shut", "/hook/unheard-of")
    assert [parts.deliver(push(), path, secret="second").status_code for path in paths] == [202, 401, 401, 401, 401]


def test_what_the_headers_say_of_the_sender_does_not_choose_the_proof(parts: Parts) -> None:
    body = json.dumps(push()).encode()
    headers = {"Content-Type": "application/json", "X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": SECRET}
    assert parts.post(body, headers).status_code == 401


def test_a_delivery_id_counts_as_seen_only_for_its_receiver(parts: Parts) -> None:
    assert parts.deliver(push(), delivery="one").status_code == 202
    assert parts.deliver(push(), "/hook/second", secret="second", delivery="one").status_code == 202
    again = parts.deliver(push(), delivery="one")
    assert (again.status_code, again.json["reason"]) == (200, "accepted before, as job 1")


@pytest.mark.parametrize("given", ["", "a b", "é", "x" * 201, "\t"])
def test_a_delivery_without_a_usable_id_is_no_repetition_of_another(parts: Parts, given: str) -> None:
    body = json.dumps(push()).encode()
    headers = signed_headers(body) | {"X-GitHub-Delivery": given}
    first, second = parts.post(body, headers), parts.post(body, headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json == second.json  # the job that waits is that of both
    assert first.json["delivery"].startswith("sha256:")


def test_what_is_authentic_and_cannot_be_read_is_remembered_too(parts: Parts) -> None:
    body = b"no JSON at all"
    assert parts.post(body, signed_headers(body)).status_code == 400
    assert refusals(parts) == [""]
    assert parts.deliver(push()).status_code == 202
    assert refusals(parts) == []


def test_a_delivery_that_the_store_could_not_keep_may_come_again(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    parts.config.state_dir.write_text("a file in the way")

    turned_away = parts.deliver(push(), delivery="one")
    not_ready = parts.client.simulate_get("/readyz")

    assert turned_away.status_code == not_ready.status_code == 503
    assert int(turned_away.headers["Retry-After"]) > 0
    assert turned_away.json == {"error": "the store cannot be written"}
    assert parts.jobs_at_wake == []
    assert str(parts.config.state_dir) in caplog.text
    parts.config.state_dir.unlink()
    assert parts.deliver(push(), delivery="one").status_code == 202


def test_without_a_configuration_everything_but_health_is_unavailable(parts: Parts) -> None:
    parts.broken = "the configuration is broken: line 3"
    for answer in (parts.deliver(push()), parts.client.simulate_get("/readyz")):
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
    assert parts.client.simulate_get("/readyz").json == {"error": "the configuration is broken: line 3"}
    assert parts.client.simulate_get("/healthz").json == {"status": "ok"}


def test_readiness_names_everything_that_is_in_the_way(parts: Parts) -> None:
    assert parts.client.simulate_get("/readyz").json == {"status": "ready"}
    parts.closed = {"shut": "secret 'shut' is missing"}
    parts.dispatcher_problem = "the dispatcher has stopped"
    answer = parts.client.simulate_get("/readyz")
    assert answer.status_code == 503
    assert answer.json["error"] == "receiver 'shut' is closed: secret 'shut' is missing; the dispatcher has stopped"


def test_a_checkout_that_was_opted_in_since_is_found_by_its_first_push(parts: Parts) -> None:
    parts.config = parts.config._replace(roots=(Path("/srv"),))
    parts.opted_in = {"shop": repo("shop")}
    assert parts.deliver(push("shop")).status_code == 202
    assert parts.deliver(push("shop")).status_code == 202
    assert parts.rescans == 1


@pytest.mark.parametrize(
    ("payload", "event"),
    [(push("shop"), "ping"), (push("shop"), "star"), (push(), "push"), (push(ref="refs/heads/next"), "push")],
)
def test_nothing_is_looked_for_on_disk_when_that_cannot_matter(
    parts: Parts, payload: dict[str, Any], event: str
) -> None:
    parts.config = parts.config._replace(roots=(Path("/srv"),))
    parts.deliver(payload, event=event)
    assert parts.rescans == 0


def test_without_roots_a_push_for_a_stranger_does_not_look_for_checkouts(parts: Parts) -> None:
    answer = parts.deliver(push("stranger"))
    assert (answer.status_code, answer.json["reason"]) == (200, "no repo is configured for demo/stranger")
    assert parts.rescans == 0


def test_a_flood_of_refused_deliveries_is_logged_once(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(50):
        parts.post(b"{}", {"Content-Type": "application/json"}, f"/hook/guess-{number}")
    assert [record.message for record in caplog.records if "refused" in record.message] == [
        "receiver '(unknown)': refused a delivery: there is no receiver of the name in its URL"
    ]


def test_a_fault_of_our_own_shows_nothing_of_its_inside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def serving() -> Serving:
        raise KeyError("inside")

    app = create_app(serving, rescan=dict, wake=lambda: None, dispatcher_problem=str, clock=lambda: NOW)
    with caplog.at_level(logging.ERROR):
        answer = testing.TestClient(app).simulate_post(HOOK, body=b"{}")
    assert (answer.status_code, answer.json) == (500, {"error": "internal error"})
    assert "KeyError('inside')" in caplog.text
    assert "test_receiver.py:" in caplog.text


def test_what_becomes_of_each_delivery_is_told_as_what_it_is(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    body = b"[]"
    deliveries: list[tuple[Callable[[], object], Kind]] = [
        (lambda: parts.deliver(push(), delivery="one"), Kind.DELIVERY_ACCEPTED),
        (lambda: parts.deliver(push(), delivery="one"), Kind.DELIVERY_IGNORED),
        (lambda: parts.deliver(push("stranger")), Kind.DELIVERY_IGNORED),
        (lambda: parts.deliver(push(), event="ping"), Kind.DELIVERY_IGNORED),
        (lambda: parts.deliver(push(), secret="wrong"), Kind.DELIVERY_REFUSED),
        (lambda: parts.deliver(push(), "/hook/nobody"), Kind.DELIVERY_REFUSED),
        (lambda: parts.post(body, signed_headers(body)), Kind.DELIVERY_REFUSED),
    ]
    with caplog.at_level(logging.INFO):
        for act, kind in deliveries:
            caplog.clear()
            act()
            assert catalog.kinds_of(caplog.records) == {kind}
        parts.store.close()
        parts.config.state_dir.rename(parts.config.state_dir.with_name("aside"))
        parts.config.state_dir.touch()
        caplog.clear()
        parts.deliver(push())
        assert catalog.kinds_of(caplog.records) == {Kind.DELIVERY_TURNED_AWAY}


def test_an_accepted_delivery_is_told_for_each_repo_with_its_job(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    parts.repos = {"blog": repo("blog"), "mirror": repo("blog")._replace(name="mirror")}
    with caplog.at_level(logging.INFO):
        parts.deliver(push(), delivery="one")

    told = [journal.entry_of(record.__dict__) for record in caplog.records]
    common = {
        "MESSAGE_ID": str(Kind.DELIVERY_ACCEPTED),
        "GITOPSD_RECEIVER": "default",
        "GITOPSD_DELIVERY": "one",
        "GITOPSD_REVISION": REVISION,
        "GITOPSD_RESULT": "accepted",
    }
    assert told == [
        {**common, "GITOPSD_REPO": "blog", "GITOPSD_JOB": "1"},
        {**common, "GITOPSD_REPO": "mirror", "GITOPSD_JOB": "2"},
    ]


def test_while_two_secrets_are_accepted_it_is_noted_which_repo_signs_with_which(parts: Parts) -> None:
    parts.secrets = {"default": (Secret("old", SECRET.encode()), Secret("new", b"second"))}
    assert parts.deliver(push(), secret="second", delivery="one").status_code == 202
    assert parts.deliver(push(ref="refs/heads/draft"), delivery="two").status_code == 200
    assert parts.deliver(push("other"), secret="second", delivery="three").status_code == 200
    assert parts.store.read_note(f"{PROOF_NOTE}default") == {"new": {"blog": NOW}, "old": {"blog": NOW}}


def test_a_ping_tells_too_that_a_repos_webhook_has_the_new_secret(parts: Parts) -> None:
    parts.secrets = {"default": (Secret("old", SECRET.encode()), Secret("new", b"second"))}
    assert parts.deliver(push(), secret="second", event="ping").status_code == 200
    assert parts.deliver({"zen": "of an organisation"}, event="ping", delivery="two").status_code == 200
    assert parts.store.read_note(f"{PROOF_NOTE}default") == {"new": {"blog": NOW}}


def test_a_single_secret_is_not_worth_a_note(parts: Parts) -> None:
    assert parts.deliver(push()).status_code == 202
    assert parts.store.read_note(f"{PROOF_NOTE}default") is None


def refusals(parts: Parts) -> list[str]:
    return list(parts.store.read_note(f"{REFUSED_NOTE}default") or {})


def deliver_as(parts: Parts, webhook: str, secret: str) -> int:
    body = json.dumps(push()).encode()
    headers = signed_headers(body, secret=secret) | {"X-GitHub-Hook-ID": webhook}
    return int(parts.post(body, headers).status_code)


def test_a_webhook_with_another_secret_is_remembered_until_it_has_the_right_one(parts: Parts) -> None:
    assert deliver_as(parts, "1", "old") == 401
    assert deliver_as(parts, "2", SECRET) in (200, 202)
    assert refusals(parts) == ["1"]
    assert deliver_as(parts, "1", SECRET) in (200, 202)
    assert refusals(parts) == []
    assert deliver_as(parts, "2", "old") == 401
    assert refusals(parts) == ["2"]


def test_who_does_not_name_a_webhook_is_forgiven_with_the_next_delivery_in_order(parts: Parts) -> None:
    assert parts.deliver(push(), secret="wrong").status_code == 401
    assert refusals(parts) == [""]
    assert deliver_as(parts, "2", SECRET) in (200, 202)
    assert refusals(parts) == []


def test_made_up_webhooks_fill_no_more_than_a_few_lines(parts: Parts) -> None:
    for number in range(50):
        assert deliver_as(parts, f"{number}", "wrong") == 401
    assert deliver_as(parts, "no name; of a webhook", "wrong") == 401
    assert refusals(parts) == ["0", "1", "2", "3", "4"]  # and so no more writes than that


def test_a_proven_delivery_for_a_repo_that_its_receiver_may_not_trigger_leads_to_nothing(parts: Parts) -> None:
    parts.rule("second", repos=("shop",))
    answer = parts.deliver(push(), "/hook/second", secret="second")
    assert answer.status_code == 200
    assert answer.json["reason"] == "blog: is none of the repos that this receiver may trigger"
    assert parts.store.jobs(limit=1) == []
    assert parts.deliver(push()).status_code == 202


def test_what_is_refused_again_right_after_it_was_in_order_is_remembered_again(parts: Parts) -> None:
    for _ in range(2):
        assert deliver_as(parts, "1", "old") == 401
        assert refusals(parts) == ["1"]
        assert deliver_as(parts, "1", SECRET) in (200, 202)
        assert refusals(parts) == []


def test_what_cannot_be_read_stays_remembered_while_it_comes_again(parts: Parts) -> None:
    body = b"no JSON at all"
    for _ in range(3):
        assert parts.post(body, signed_headers(body)).status_code == 400
        assert refusals(parts) == [""]


def test_what_was_refused_stays_noted_as_such_when_all_is_in_order_again(parts: Parts) -> None:
    assert parts.deliver(push(), secret="wrong").status_code == 401
    noted = {"at": NOW, "reason": "the signature does not match any secret"}
    assert (refusals(parts), parts.rejected()) == ([""], noted)

    assert parts.deliver(push()).status_code == 202

    assert (refusals(parts), parts.rejected()) == ([], noted)
    assert parts.rejected("second") is None
    body = b"no JSON at all"
    assert parts.post(body, signed_headers(body)).status_code == 400
    assert parts.rejected() == {"at": NOW, "reason": "body is not JSON in UTF-8"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("secnd", ", which is almost 'second'", id="misspelt"),
        pytest.param("Second", ", which is almost 'second'", id="upper case"),
        pytest.param("guess", "", id="like none"),
        pytest.param("s" * 2000, "", id="long"),
        pytest.param("a%1b", "", id="control character"),
    ],
)
def test_of_a_name_that_no_receiver_has_only_what_it_is_near_to_is_told(parts: Parts, name: str, hint: str) -> None:
    assert parts.deliver(push(), f"/hook/{name}").status_code == 401
    assert parts.rejected(UNKNOWN_RECEIVER) == {
        "at": NOW,
        "reason": f"there is no receiver of the name in its URL{hint}",
    }


def test_who_tries_a_receiver_that_there_is_not_is_noted_under_no_name_of_his(parts: Parts) -> None:
    for number in range(20):
        assert parts.deliver(push(), f"/hook/guess-{number}").status_code == 401

    noted = {"at": NOW, "reason": "there is no receiver of the name in its URL"}
    assert parts.rejected(UNKNOWN_RECEIVER) == noted
    assert [parts.rejected(name) for name in ("guess-0", "guess-19", "default")] == [None, None, None]
    assert parts.store.read_note(f"{REFUSED_NOTE}{UNKNOWN_RECEIVER}") is None
    assert parts.deliver(push()).status_code == 202
    assert parts.rejected(UNKNOWN_RECEIVER) == noted


@pytest.mark.parametrize(("webhooks", "writes"), [(1, 1), (50, 5)])
def test_a_flood_for_receivers_that_there_are_not_is_a_few_notes(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, webhooks: int, writes: int
) -> None:
    written: list[str] = []
    monkeypatch.setattr(parts.store, "write_note", lambda key, _: written.append(key))
    for number in range(50):
        headers = {"Content-Type": "application/json", "X-GitHub-Hook-ID": f"{number % webhooks}"}
        assert parts.post(b"{}", headers, f"/hook/guess-{number}").status_code == 401
    assert written == [f"{REJECTED_NOTE}{UNKNOWN_RECEIVER}"] * writes


def test_the_body_of_a_delivery_is_kept_without_the_secrets_of_its_receiver(parts: Parts) -> None:
    answer = parts.deliver(push(hook={"secret": SECRET}, other="second"))
    assert answer.status_code == 202
    kept = parts.store.body(1)
    assert kept is not None
    assert json.loads(kept.text) == push(hook={"secret": "***"}, other="second")
    assert kept.event_header == "push"


# Who may deliver

OFFICE, STRANGER, PROXY = "203.0.113.7", "198.51.100.9", "10.0.0.1"
CLOUDFLARED = Proxy(trusted=("127.0.0.1", "unix"), header="CF-Connecting-IP")
CHAIN = Proxy(trusted=("10.0.0.0/8",), header="X-Forwarded-For")


def deliveries(parts: Parts) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(each.decision, each.reason, each.jobs) for each in parts.store.newest_deliveries(limit=10)]


@pytest.mark.parametrize("allowed", [[OFFICE], ["203.0.113.0/24"], ["203.0.113.255/24", "::/0"]], ids=str)
def test_a_receiver_takes_deliveries_from_where_it_allows_them_alone(parts: Parts, allowed: list[str]) -> None:
    parts.rule(allow_from=tuple(allowed))

    assert parts.push_from(STRANGER).status_code == 401
    assert deliveries(parts) == []
    assert parts.store.jobs(limit=10) == []
    assert parts.jobs_at_wake == []
    assert parts.push_from(OFFICE).status_code == 202
    assert parts.deliver(push(), "/hook/second", secret="second").status_code == 202  # which has no such rule


def test_who_may_not_deliver_gets_the_answer_of_who_cannot_sign(parts: Parts) -> None:
    parts.rule(allow_from=(OFFICE,))
    answers = [
        parts.push_from(STRANGER),
        parts.push_from(STRANGER, secret="wrong"),
        parts.push_from(OFFICE, secret="wrong"),
        parts.push_from("localhost"),
        parts.push_from(STRANGER, {"X-GitHub-Event": "no name; of an event"}),
        parts.push_from(STRANGER, {"Content-Type": "application/x-www-form-urlencoded"}),
        parts.deliver(push(), "/hook/unheard-of"),
        parts.deliver(push(), "/hook/second"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.content for answer in answers} == {b'{"error": "unauthorized"}'}
    assert {tuple(sorted(answer.headers.items())) for answer in answers} == {tuple(sorted(answers[0].headers.items()))}


def test_the_address_of_who_may_not_deliver_is_noted(parts: Parts) -> None:
    parts.rule(allow_from=(OFFICE,))
    parts.push_from(STRANGER)
    assert parts.rejected()["reason"].startswith(f"its client {STRANGER} is not in allow_from")
    assert refusals(parts) == [""]
    assert parts.push_from(OFFICE).status_code == 202
    assert refusals(parts) == []


def test_a_flood_from_many_addresses_is_logged_once(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    parts.rule(allow_from=(OFFICE,))
    for number in range(50):
        assert parts.push_from(f"2001:db8::{number:x}").status_code == 401
    logged = [record.message for record in caplog.records if "refused" in record.message]
    assert len(logged) == 1
    assert logged[0].startswith("receiver 'default': refused a delivery: its client 2001:db8:: is not in allow_from")
    assert parts.push_from(OFFICE, secret="wrong").status_code == 401
    assert "the signature does not match any secret" in caplog.text  # which is news of another kind


@pytest.mark.parametrize(
    ("proxy", "peer", "headers", "status"),
    [
        pytest.param(CLOUDFLARED, "127.0.0.1", {"CF-Connecting-IP": OFFICE}, 202, id="cloudflared"),
        pytest.param(CLOUDFLARED, "localhost", {"cf-connecting-ip": OFFICE}, 202, id="cloudflared on a unix socket"),
        pytest.param(CLOUDFLARED, "127.0.0.1", {"CF-Connecting-IP": STRANGER}, 401, id="a stranger by cloudflared"),
        pytest.param(CLOUDFLARED, "127.0.0.1", {"CF-Connecting-IP": "nonsense"}, 401, id="nonsense"),
        pytest.param(CLOUDFLARED, "127.0.0.1", {"X-Forwarded-For": OFFICE}, 401, id="another header"),
        pytest.param(CLOUDFLARED, "127.0.0.1", {}, 401, id="no header"),
        pytest.param(CLOUDFLARED, STRANGER, {"CF-Connecting-IP": OFFICE}, 401, id="past cloudflared"),
        pytest.param(CLOUDFLARED, OFFICE, {"CF-Connecting-IP": STRANGER}, 202, id="past cloudflared from the office"),
        pytest.param(CHAIN, PROXY, {"X-Forwarded-For": OFFICE}, 202, id="a proxy"),
        pytest.param(CHAIN, PROXY, {"X-Forwarded-For": f"{OFFICE}, 10.2.2.2"}, 202, id="two proxies"),
        pytest.param(
            CHAIN, PROXY, {"X-Forwarded-For": f"{OFFICE}, {STRANGER}, 10.2.2.2"}, 401, id="forged by a client"
        ),
        pytest.param(CHAIN, PROXY, {"X-Forwarded-For": f"{STRANGER}, {OFFICE}"}, 202, id="from behind a proxy there"),
        pytest.param(CHAIN, STRANGER, {"X-Forwarded-For": OFFICE}, 401, id="past the proxy"),
        pytest.param(Proxy(), "127.0.0.1", {"X-Forwarded-For": OFFICE, "CF-Connecting-IP": OFFICE}, 401, id="no proxy"),
    ],
)
def test_behind_a_proxy_its_word_counts_and_nobody_elses(
    parts: Parts, proxy: Proxy, peer: str, headers: dict[str, str], status: int
) -> None:
    parts.rule(allow_from=(OFFICE,))
    parts.config = parts.config._replace(proxy=proxy)
    assert parts.push_from(peer, headers).status_code == status


def test_a_malformed_address_is_noted_as_one_and_not_shown(parts: Parts) -> None:
    parts.rule(allow_from=(OFFICE,))
    parts.config = parts.config._replace(proxy=CHAIN)
    parts.push_from(PROXY, {"X-Forwarded-For": "<b>"})
    assert parts.rejected()["reason"] == "its client (malformed address) is not in allow_from"


def test_only_deliveries_from_a_unix_socket_may_be_allowed(parts: Parts) -> None:
    parts.rule(allow_from=("unix",))
    assert parts.push_from("127.0.0.1").status_code == 401
    assert parts.push_from("localhost").status_code == 202
    assert parts.push_from("").status_code == 202


def test_a_ping_that_cannot_be_signed_is_answered_to_those_who_may_deliver_alone(parts: Parts) -> None:
    parts.rule("second", provider="bitbucket-server", allow_from=(OFFICE,))
    ping = {"Content-Type": "application/json", "X-Event-Key": "diagnostics:ping"}
    assert parts.post(b"{}", ping, "/hook/second", STRANGER).status_code == 401
    assert parts.rejected("second")["reason"].startswith(f"its client {STRANGER} is not in allow_from")
    answer = parts.post(b"{}", ping, "/hook/second", OFFICE)
    assert (answer.status_code, answer.json) == (200, {"reason": "ping: the webhook reaches this receiver"})
    assert deliveries(parts) == []


# Suspended, and how large


@pytest.mark.parametrize(
    ("suspended", "reason"),
    [
        ("", "the receiver is suspended"),
        ("the forge is being moved", "the receiver is suspended: the forge is being moved"),
    ],
)
@pytest.mark.parametrize("event", ["push", "ping", "star"])
def test_a_suspended_receiver_records_what_comes_and_does_nothing(
    parts: Parts, suspended: str, reason: str, event: str
) -> None:
    parts.rule(suspended=suspended)

    answer = parts.deliver(push(), event=event, delivery="one")

    assert (answer.status_code, answer.json) == (200, {"delivery": "one", "reason": reason})
    assert deliveries(parts) == [(Decision.IGNORED, reason, ())]
    assert parts.store.jobs(limit=10) == []
    assert parts.jobs_at_wake == []
    assert parts.store.body(1) is not None
    assert parts.deliver(push(), secret="wrong").status_code == 401
    assert parts.deliver(push(), "/hook/second", secret="second").status_code == 202


def test_a_body_that_is_too_large_is_told_like_any_refusal(parts: Parts) -> None:
    parts.rule(max_body=1000)
    body = json.dumps(push(more="x" * 1000)).encode()
    answer = parts.post(body, signed_headers(body))
    told = f"{len(body)} bytes, which is more than it reads (max_body: 1000)"
    assert (answer.status_code, answer.json) == (413, {"error": told})
    assert parts.rejected("default") == {"at": NOW, "reason": told}
    assert parts.deliver(push()).status_code == 202


def test_nobody_can_tell_by_its_limit_whether_there_is_a_receiver(parts: Parts) -> None:
    parts.rule(max_body=1000)
    answers = [parts.post(b" " * 2000, {"Content-Type": "application/json"}, path) for path in (HOOK, "/hook/nobody")]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content == answers[1].content


def test_what_came_while_a_receiver_was_suspended_may_come_again(parts: Parts) -> None:
    parts.rule(suspended="")
    assert parts.deliver(push(), delivery="one").status_code == 200
    parts.rule(suspended=None)
    assert parts.deliver(push(), delivery="one").status_code == 202


@pytest.mark.parametrize(("limit", "largest"), [(1000, 1000), (10_000, 10_000), (50_000, 10_000), (None, 10_000)])
def test_a_receiver_reads_no_more_than_it_may_and_never_more_than_all_may(
    parts: Parts, limit: int | None, largest: int
) -> None:
    parts.rule(max_body=limit)
    unsigned = {"Content-Type": "application/json"}
    assert parts.post(b" " * 10_001, unsigned).status_code == 413
    assert parts.post(b" " * 10_000, unsigned).status_code == 401
    body = json.dumps(push()).encode()
    body += b" " * (largest - len(body))
    assert parts.post(body, signed_headers(body)).status_code == 202
    assert parts.post(body + b" ", signed_headers(body + b" ")).status_code == 413
