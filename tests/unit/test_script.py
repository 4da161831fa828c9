"""The contract with the engine, kept by engines of a few lines."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitopsd import process, script
from gitopsd.model import Image, Job, JobState, Outcome, Phase, Trigger
from gitopsd.settings import Config, Health, Notify, Receiver, Repo, Retry, Statuses
from tests.site import SECRET, wait_for

OLD, NEW = "1" * 40, "2" * 40
JOB = Job(
    id=7,
    repo="blog",
    trigger=Trigger.MANUAL,
    state=JobState.RUNNING,
    reason="",
    attempts=1,
    failures=0,
    interruptions=0,
    due_at=0.0,
    created_at=0.0,
)
Run = Callable[..., tuple[Outcome, str]]


class Engine:
    """An engine that a test writes, and the surroundings that it is run in."""

    def __init__(self, root: Path) -> None:
        self.output_path = root / "report"
        self.repo = Repo(
            name="blog",
            url="https://github.com/demo/blog.git",
            ref="main",
            path=Path("/srv/blog"),
            deploy=("./deploy.sh", "a b", "$(c)"),
            timeout_sec=20.0,
        )
        self.config = Config(
            source=root / "gitopsd.yaml",
            state_dir=root / "state",
            engine=root / "engine",
            receivers={"default": Receiver(name="default", provider="github", secrets=("github-webhook-secret",))},
        )
        self.job = JOB
        self.shown = b""
        lock_path = root / "lock"
        lock_path.touch()
        self.lock_fd = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)

    def run(self, *lines: str, stop_fd: int | None = None) -> Outcome:
        if lines:
            self.config.engine.write_text("\n".join(("#!/bin/bash", *lines, "")))
            self.config.engine.chmod(0o755)
        self.shown = b""
        return script.run(
            self.config,
            self.repo,
            self.job,
            output_path=self.output_path,
            on_output=self._show,
            lock_fd=self.lock_fd,
            stop_fd=stop_fd,
        )

    def _show(self, chunk: bytes) -> None:
        self.shown += chunk

    def environment(self) -> dict[str, str]:
        assert self.run("env -0").exit_code == 0
        return dict(line.split("=", 1) for line in self.shown.decode().split("\0") if line)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path)
    yield made
    os.close(made.lock_fd)


def say(**values: str) -> str:
    return "\n".join(f"echo '{key}={value}' >> \"$GITOPSD_OUTPUT\"" for key, value in values.items())


@pytest.mark.parametrize(
    ("code", "state", "retry", "keep_trying"),
    [
        (0, JobState.SUCCEEDED, False, False),
        (1, JobState.FAILED, True, False),
        (75, JobState.FAILED, True, True),
        (77, JobState.REFUSED, False, False),
        (78, JobState.FAILED, False, False),
        (126, JobState.FAILED, True, False),
        (255, JobState.FAILED, True, False),
    ],
)
def test_the_exit_code_decides(engine: Engine, code: int, state: JobState, retry: bool, keep_trying: bool) -> None:
    outcome = engine.run(say(old_revision=OLD, new_revision=NEW, reason="because"), f"exit {code}")
    assert (outcome.state, outcome.retry, outcome.keep_trying) == (state, retry, keep_trying)
    assert (outcome.exit_code, outcome.reason) == (code, "because")
    assert (outcome.old_revision, outcome.new_revision) == (OLD, NEW)


@pytest.mark.parametrize(
    ("values", "state", "reason"),
    [
        ({"old_revision": OLD, "new_revision": NEW}, JobState.SUCCEEDED, "deployed"),
        ({"old_revision": OLD, "new_revision": OLD}, JobState.UNCHANGED, "nothing to do"),
        ({"old_revision": OLD, "new_revision": OLD, "changed": "yes"}, JobState.SUCCEEDED, "deployed"),
        ({"old_revision": OLD, "new_revision": NEW, "changed": "no"}, JobState.UNCHANGED, "nothing to do"),
        ({"old_revision": "", "new_revision": NEW}, JobState.SUCCEEDED, "deployed"),
        ({}, JobState.UNCHANGED, "nothing to do"),
    ],
)
def test_whether_anything_changed_is_the_engines_word(
    engine: Engine, values: dict[str, str], state: JobState, reason: str
) -> None:
    outcome = engine.run(say(**values) or "true")
    assert outcome.state is state
    assert outcome.reason.startswith(reason)
    assert outcome.old_revision == (values.get("old_revision") or None)


def test_an_engine_that_says_nothing_is_named_with_its_phase_and_exit_code(engine: Engine) -> None:
    assert engine.run("exit 3").reason == "start: the engine exited with 3"
    assert engine.run(say(phase="fetch at=1.5"), "exit 3").reason == "fetch: the engine exited with 3"


def test_the_phases_come_with_their_times(engine: Engine) -> None:
    outcome = engine.run(say(phase="prepare at=1700000000.25"), say(phase="fetch at=1700000001.500000"))
    assert outcome.phases == (Phase(name="prepare", at=1700000000.25), Phase(name="fetch", at=1700000001.5))


def test_the_report_of_the_run_before_is_not_taken_for_this_one(engine: Engine) -> None:
    engine.run(say(new_revision=NEW, reason="old"), "exit 1")
    outcome = engine.run("exit 1")
    assert (outcome.new_revision, outcome.reason) == (None, "start: the engine exited with 1")


def test_nonsense_in_the_report_does_no_harm(engine: Engine) -> None:
    outcome = engine.run(
        r"printf '=\n\nno equals sign\nphase=x\nphase=y at=soon\n\xff\xfe=\xff\nreason=%s\nnew_revision=cut of' "
        r'"$(printf "%2000s" x)" >> "$GITOPSD_OUTPUT"',
        "exit 1",
    )
    assert outcome.phases == (Phase(name="x", at=0.0), Phase(name="y", at=0.0))
    assert outcome.new_revision is None
    assert len(outcome.reason) == 500


def test_the_engine_is_told_what_the_contract_says(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("GITOPSD_REVISION", "left over from somewhere")
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")

    environment = engine.environment()

    told = {key.removeprefix("GITOPSD_"): value for key, value in environment.items() if key.startswith("GITOPSD_")}
    assert told == {
        "URL": "https://github.com/demo/blog.git",
        "REF": "main",
        "PATH": "/srv/blog",
        "STRATEGY": "in-place",
        "DEPLOY": "./deploy.sh 'a b' '$(c)'",
        "STATE_DIR": str(engine.config.state_dir),
        "OUTPUT": str(engine.output_path),
        "FORCE": "",
        "HINT": "",
        "REVISION": "",
        "OPT_IN": "",
        "GATE": "",
        "COMPOSE": "",
        "UNITS": "",
        "SETTLE": "5",
        "HEALTH": "",
        "ROLLBACK": "",
        "TIMEOUT": "20",
        "KEEP": "3",
        "SUBMODULES": "yes",
        "DEPTH": "",
        "FILTER": "",
        "REWIND": "refuse",
        "LOCAL_CHANGES": "refuse",
        "VERIFY": "none",
        "ALLOWED_SIGNERS": "",
        "KEYRING": "",
        "MERGE_BY": "",
        "CLEAN": "none",
        "DRIFT": "off",
        "EVENT_TYPE": "",
        "IMAGE": "",
        "TAG": "",
        "DIGEST": "",
        "IMAGES": "",
        "LOCK_FD": str(engine.lock_fd),
    }
    assert environment["SSH_AUTH_SOCK"] == "/run/agent"
    assert not {"LISTEN_FDS", "NOTIFY_SOCKET"} & set(environment)
    assert SECRET not in environment.values()


def test_force_and_opt_in_are_said_as_yes(engine: Engine) -> None:
    engine.job = engine.job._replace(force=True)
    engine.repo = engine.repo._replace(opted_in_by_file=True)
    environment = engine.environment()
    assert (environment["GITOPSD_FORCE"], environment["GITOPSD_OPT_IN"]) == ("yes", "yes")


def test_every_policy_of_a_repo_is_told_as_the_configuration_has_it(engine: Engine) -> None:
    before = engine.environment()
    engine.repo = engine.repo._replace(
        strategy="release",
        ref="v*",
        gate=("make", "test it"),
        compose="deploy/compose.yaml",
        units=("blog.service", "blog@1.timer"),
        settle_sec=0.25,
        health=Health(command=("curl", "a b"), interval_sec=90.0, tries=2, timeout_sec=0.5),
        rollback=True,
        keep=5,
        submodules=False,
        depth=1,
        filter="blob:none",
        rewind="allow",
        local_changes="rescue",
        verify="ssh",
        allowed_signers="/etc/gitopsd/allowed signers",
        keyring="/etc/gitopsd/keyring.gpg",
        merge_by=("noreply@example.org", "0123ABCD"),
        clean="untracked",
        drift="repair",
        retry=Retry(tries=2),
    )

    changed = dict(engine.environment().items() - before.items())

    assert {key.removeprefix("GITOPSD_"): value for key, value in changed.items()} == {
        "STRATEGY": "release",
        "REF": "v*",
        "GATE": "make 'test it'",
        "COMPOSE": "deploy/compose.yaml",
        "UNITS": "blog.service blog@1.timer",
        "SETTLE": "0.25",
        "HEALTH": "curl 'a b'",
        "HEALTH_INTERVAL": "90",
        "HEALTH_TRIES": "2",
        "HEALTH_TIMEOUT": "0.5",
        "ROLLBACK": "yes",
        "KEEP": "5",
        "SUBMODULES": "",
        "DEPTH": "1",
        "FILTER": "blob:none",
        "REWIND": "allow",
        "LOCAL_CHANGES": "rescue",
        "VERIFY": "ssh",
        "ALLOWED_SIGNERS": "/etc/gitopsd/allowed signers",
        "KEYRING": "/etc/gitopsd/keyring.gpg",
        "MERGE_BY": "noreply@example.org 0123ABCD",
        "CLEAN": "untracked",
        "DRIFT": "repair",
    }


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.001, "0.001"), (5.0, "5"), (100.0, "100"), (1500.5, "1500.5"), (30 * 86400.0, "2592000")]
)
def test_a_time_is_told_in_digits_that_a_shell_can_count_with(engine: Engine, seconds: float, told: str) -> None:
    engine.repo = engine.repo._replace(settle_sec=seconds)
    assert engine.environment()["GITOPSD_SETTLE"] == told


def test_the_names_of_secrets_lead_to_nothing_in_the_environment_of_the_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = engine.repo._replace(name="shop", statuses=Statuses(forge="github", token="status-token"))
    engine.config = engine.config._replace(notify=Notify(urls=("ntfy-url",)), repos={"shop": other})
    names = ("GITHUB_WEBHOOK_SECRET", "NTFY_URL", "STATUS_TOKEN")
    for name in names:
        monkeypatch.setenv(name, SECRET)

    assert not set(names) & set(engine.environment())


def test_a_rollback_goes_to_the_revision_that_it_is_pinned_to(engine: Engine) -> None:
    told = script.engine_environment(engine.config, engine.repo, engine.job, engine.output_path, OLD)
    assert told["GITOPSD_REVISION"] == OLD


@pytest.mark.parametrize("revision", ["1" * 40, "a" * 64])
def test_the_engine_is_told_of_the_revision_that_the_trigger_told_of(engine: Engine, revision: str) -> None:
    engine.job = engine.job._replace(revision=revision)
    assert engine.environment()["GITOPSD_HINT"] == revision


@pytest.mark.parametrize("revision", [None, "", "main", "1" * 39, "1" * 41, "A" * 40, "1" * 40 + "\n", "$(reboot)"])
def test_what_is_no_revision_is_no_hint(engine: Engine, revision: str | None) -> None:
    engine.job = engine.job._replace(revision=revision)
    assert engine.environment()["GITOPSD_HINT"] == ""


DIGEST = f"sha256:{'0123456789abcdef' * 4}"
BLOG = Image(name="ghcr.io/me/blog", tag="v1", digest=DIGEST)
ABOUT_EVENT = ("EVENT_TYPE", "IMAGE", "TAG", "DIGEST", "IMAGES")


def told_of(engine: Engine, event: str | None, *images: Image) -> tuple[str, ...]:
    """What the engine is told of what asked for the job."""
    engine.job = engine.job._replace(event=event, images=images)
    environment = engine.environment()
    return tuple(environment[f"GITOPSD_{name}"] for name in ABOUT_EVENT)


@pytest.mark.parametrize(
    ("event", "images", "told"),
    [
        pytest.param(None, [], ("", "", "", "", ""), id="nothing"),
        pytest.param("push", [], ("push", "", "", "", ""), id="an event"),
        pytest.param(
            "package",
            [BLOG],
            ("package", "ghcr.io/me/blog", "v1", DIGEST, f"ghcr.io/me/blog:v1@{DIGEST}"),
            id="an image",
        ),
        pytest.param(
            "package",
            [BLOG, Image(name="localhost:5000/me/api", tag="latest"), Image(name="me/site", tag="", digest=DIGEST)],
            (
                "package",
                "me/site",
                "",
                DIGEST,
                f"ghcr.io/me/blog:v1@{DIGEST} localhost:5000/me/api:latest me/site@{DIGEST}",
            ),
            id="several images, and the last one apart",
        ),
        pytest.param(None, [Image(name="blog", tag="")], ("", "blog", "", "", "blog"), id="no more than a name"),
    ],
)
def test_the_engine_is_told_of_the_event_and_of_the_images(
    engine: Engine, event: str | None, images: list[Image], told: tuple[str, ...]
) -> None:
    assert told_of(engine, event, *images) == told


@pytest.mark.parametrize("event", ["push", "repo:refs_changed", "Push Hook", "git.push", "a-b_c/d", "x" * 100])
def test_the_name_of_an_event_is_told_as_it_is(engine: Engine, event: str) -> None:
    assert told_of(engine, event)[0] == event


ODD = [
    "$(reboot)",
    "`id`",
    "a\nb",
    "a\n",
    "a'b",
    'a"b',
    "-rf",
    "a;b",
    "a|b",
    "a&b",
    "a*",
    "a\\b",
    "a>b",
    "é",
    "a\tb",
    "~",
]


@pytest.mark.parametrize("event", [*ODD, "", " push", "x" * 101, ":x", "a{b}"])
def test_an_odd_name_of_an_event_is_none(engine: Engine, event: str) -> None:
    assert told_of(engine, event, BLOG) == ("", BLOG.name, BLOG.tag, BLOG.digest, f"{BLOG.name}:v1@{DIGEST}")


@pytest.mark.parametrize(
    "image",
    [
        *(pytest.param(Image(name=odd, tag="v1"), id=f"name {odd}") for odd in ODD),
        *(pytest.param(Image(name="me/blog", tag=odd), id=f"tag {odd}") for odd in ODD),
        *(pytest.param(Image(name="me/blog", tag="v1", digest=odd), id=f"digest {odd}") for odd in ODD),
        pytest.param(Image(name="", tag="v1"), id="no name"),
        pytest.param(Image(name="a b", tag="v1"), id="two words"),
        pytest.param(Image(name="me/", tag="v1"), id="a slash at the end"),
        pytest.param(Image(name="/me", tag="v1"), id="a slash at the beginning"),
        pytest.param(Image(name="x" * 300, tag="v1"), id="a long name"),
        pytest.param(Image(name="me/blog", tag="x" * 129), id="a long tag"),
        pytest.param(Image(name="me/blog", tag=".v1"), id="a dot before the tag"),
        pytest.param(Image(name="me/blog", tag="a b"), id="a tag of two words"),
        pytest.param(Image(name="me/blog", tag="a:b"), id="a tag of two parts"),
        pytest.param(Image(name="me/blog", tag="v1", digest="0" * 64), id="a digest without its kind"),
        pytest.param(Image(name="me/blog", tag="v1", digest="sha256:"), id="a digest of nothing"),
        pytest.param(Image(name="me/blog", tag="v1", digest=f"{DIGEST}\n"), id="a digest and a new line"),
        pytest.param(Image(name="me/blog", tag="v1", digest=f"sha512:{'0' * 300}"), id="a long digest"),
    ],
)
def test_an_image_with_something_odd_about_it_is_left_out_and_the_others_are_told(engine: Engine, image: Image) -> None:
    other = Image(name="me/api", tag="v2")
    assert told_of(engine, "push", other, image) == ("push", "me/api", "v2", "", "me/api:v2")
    assert told_of(engine, "push", image) == ("push", "", "", "", "")


@pytest.mark.parametrize(
    "digest", ["", DIGEST, f"sha512:{'0' * 128}", "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564"]
)
def test_a_digest_of_any_kind_is_told(engine: Engine, digest: str) -> None:
    assert told_of(engine, "push", BLOG._replace(digest=digest))[1:4] == (BLOG.name, BLOG.tag, digest)


def test_a_repo_that_names_its_images_is_told_of_those_alone(engine: Engine) -> None:
    engine.repo = engine.repo._replace(images=("me/blog", "me/site-*"))
    images = [
        Image(name="ghcr.io/me/blog", tag="1"),
        Image(name="me/site-a", tag="2"),
        Image(name="me/api", tag="3"),
        Image(name="ghcr.io/you/blog", tag="4"),
    ]
    assert told_of(engine, "push", *images) == ("push", "me/site-a", "2", "", "ghcr.io/me/blog:1 me/site-a:2")
    assert told_of(engine, "push", *images[2:]) == ("push", "", "", "", "")


def test_the_engine_gets_the_name_the_lock_and_no_input(engine: Engine) -> None:
    engine.run('echo "$#:$1:$(readlink /proc/self/fd/$GITOPSD_LOCK_FD):$(cat | wc -c)"', "echo oops >&2")
    assert engine.shown.decode() == f"1:blog:{engine.output_path.parent / 'lock'}:0\noops\n"


def test_a_limit_that_outlives_us_stands_over_the_engine(engine: Engine) -> None:
    engine.run("tr '\\0' ' ' < /proc/$PPID/cmdline", "grep -E '^Sig(Blk|Ign)' /proc/self/status")
    command, *_ = engine.shown.decode().splitlines()
    program, killing, seconds, *rest = command.split()
    assert (program, killing) == ("timeout", "--signal=KILL")
    assert float(seconds) > engine.repo.timeout_sec + process.GRACE_SEC  # ours is first, with its grace and its reason
    assert rest[:2] == [str(engine.config.engine), "blog"]


def test_an_engine_that_takes_too_long_is_ended_with_all_it_started(engine: Engine, tmp_path: Path) -> None:
    engine.repo = engine.repo._replace(timeout_sec=0.3)
    outcome = engine.run(say(phase="deploy at=1"), f"sleep 1000 & echo $! > '{tmp_path}/child'", "wait")
    assert (outcome.state, outcome.retry, outcome.keep_trying) == (JobState.FAILED, True, False)
    assert outcome.reason == "deploy was ended: the sync took longer than 0.3 s (repos.blog.timeout)"
    child = (tmp_path / "child").read_text().strip()
    wait_for(lambda: not Path(f"/proc/{child}/cmdline").exists(), "the end of the child")


def test_with_a_way_back_the_limit_is_one_for_each_direction_and_one_to_find_out(engine: Engine) -> None:
    engine.repo = engine.repo._replace(timeout_sec=0.2, rollback=True)
    outcome = engine.run(say(phase="deploy at=1"), "sleep 1000")
    assert outcome.reason == "deploy was ended: the sync took longer than 0.6 s (repos.blog.timeout)"


def test_what_was_rolled_back_is_not_tried_again_by_itself(engine: Engine) -> None:
    outcome = engine.run(say(old_revision=OLD, new_revision=NEW, rolled_back=OLD, reason="because"), "exit 1")
    assert (outcome.state, outcome.retry, outcome.reason) == (JobState.FAILED, False, "because")


def test_an_engine_that_is_killed_says_by_what(engine: Engine) -> None:
    outcome = engine.run(say(phase="fetch at=1"), "kill -SEGV $$")
    assert (outcome.state, outcome.reason, outcome.exit_code) == (JobState.FAILED, "fetch was killed by SIGSEGV", None)
    assert outcome.retry


def test_a_sync_that_is_told_to_stop_is_interrupted_and_no_failure(engine: Engine, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    begun = tmp_path / "begun"

    def stop() -> None:
        wait_for(begun.exists, "the engine")
        os.write(writer, b"x")

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        report = say(old_revision=OLD, phase="deploy at=1")
        outcome = engine.run(report, f"touch '{begun}'", "sleep 1000", stop_fd=reader)
    finally:
        stopper.join()
        os.close(reader)
        os.close(writer)
    assert outcome.state is JobState.INTERRUPTED
    assert outcome.reason == "interrupted during deploy; queued again"
    assert (outcome.old_revision, outcome.retry) == (OLD, False)


def test_an_engine_that_is_not_there_is_a_fault_of_the_configuration(engine: Engine) -> None:
    outcome = engine.run()
    assert (outcome.state, outcome.exit_code, outcome.retry) == (JobState.FAILED, script.EXIT_CONFIG, False)
    assert str(engine.config.engine) in outcome.reason


def test_a_report_that_cannot_be_written_is_tried_again(engine: Engine) -> None:
    engine.output_path.mkdir()
    outcome = engine.run("exit 0")
    assert (outcome.state, outcome.retry, outcome.keep_trying) == (JobState.FAILED, True, True)
    assert str(engine.output_path) in outcome.reason


@pytest.mark.parametrize(
    ("settings", "limit_sec"),
    [
        ({}, 60.0),
        ({"health": Health(command=("true",), tries=100)}, 60.0),
        ({"rollback": True}, 180.0),
        ({"rollback": True, "health": Health(command=("true",), tries=100, interval_sec=1, timeout_sec=9)}, 2180.0),
        ({"rollback": True, "units": ("blog.service",), "settle_sec": 20}, 500.0),
    ],
)
def test_who_may_have_to_go_back_has_the_time_to_find_out_and_to_go(settings: dict[str, Any], limit_sec: float) -> None:
    repo = Repo(name="blog", url="/nowhere", ref="main", path=Path("/srv/blog"), timeout_sec=60, **settings)
    assert script.limit_sec(repo) == limit_sec
