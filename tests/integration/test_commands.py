"""The commands, as a person and a script use them: what they print, and their exit codes."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from gitopsd.runner import units
from tests.site import WAIT_SEC, Site, wait_for


def use_engine(site: Site, *lines: str) -> None:
    """An engine of a few lines in the place of the real one."""
    engine = site.root / "engine"
    engine.write_text("\n".join(("#!/bin/bash", *lines, "")))
    engine.chmod(0o755)
    site.settings["engine"] = str(engine)
    site.write_config()


@pytest.mark.parametrize(
    ("engine", "code", "state"),
    [(0, 0, "unchanged"), (1, 1, "failed"), (75, 75, "failed"), (77, 77, "refused"), (78, 78, "failed")],
)
def test_the_exit_code_of_a_sync_is_that_of_its_job(site: Site, engine: int, code: int, state: str) -> None:
    site.add_repo("blog")
    use_engine(site, "echo to be seen", "echo reason=because >> $GITOPSD_OUTPUT", f"exit {engine}")
    done = site.run("sync", "blog")
    assert done.returncode == code
    assert "to be seen" in done.stdout
    assert re.search(rf"^blog: {state} .*: because", done.stdout, re.MULTILINE)
    assert done.stderr == ""


def test_a_sync_of_everything_ends_with_the_worst_code_and_names_each_repo(site: Site) -> None:
    for name in ("blog", "shop"):
        site.add_repo(name)
    use_engine(site, "echo line of $1", '[ "$1" != shop ] || exit 77')
    done = site.run("sync", "--all")
    assert done.returncode == 77
    assert "blog │ line of blog" in done.stdout
    assert "shop │ line of shop" in done.stdout
    as_json = json.loads(site.run("sync", "--all", "--json").stdout)
    assert [(job["repo"], job["state"]) for job in as_json["jobs"]] == [("blog", "unchanged"), ("shop", "refused")]


def test_who_syncs_what_is_deployed_already_is_told_how_to_deploy_it_again(site: Site) -> None:
    site.add_repo("blog", deploy="true")
    hint = "gitopsd sync blog --force"
    assert hint not in site.run("sync", "blog").stdout
    assert hint in site.run("sync", "blog").stdout
    assert hint not in site.run("sync", "blog", "--force").stdout
    assert hint not in site.run("sync", "blog", "--json").stdout


def test_a_receiver_that_names_a_repo_that_there_is_not_is_told(site: Site) -> None:
    site.add_repo("blog")
    receiver = {"provider": "github", "secrets": ["github-webhook-secret"], "repos": ["blog", "blgo"]}
    site.settings["receivers"] = {"default": receiver}
    site.write_config()
    found = json.loads(site.run("check", "--json").stdout)["findings"]
    assert [each["subject"] for each in found if "'blgo' is none of the repos" in (each["problem"] or "")] == [
        "receiver 'default'"
    ]


def test_a_sync_that_is_not_waited_for_is_done_all_the_same(site: Site) -> None:
    site.add_repo("blog")
    done = site.run("sync", "blog", "--no-wait")
    assert (done.returncode, done.stdout) == (0, "blog: job 1 is queued; gitopsd logs --follow 1\n")
    site.wait_for_job("blog", "succeeded")


def test_logs_follows_a_job_to_its_end(site: Site) -> None:
    gate = site.root / "gate"
    site.add_repo("blog")
    use_engine(site, "echo first", f"while [ ! -e '{gate}' ]; do sleep 0.01; done", "echo last")
    site.run("sync", "blog", "--no-wait")
    site.wait_for_job("blog", "running")
    follower = subprocess.Popen(site.command("logs", "-f", "blog"), env=site.environment, stdout=subprocess.PIPE)
    assert follower.stdout is not None
    with follower.stdout as output:
        assert output.readline() == b"first\n"
        gate.touch()
        assert output.read() == b"last\n"
    assert follower.wait(WAIT_SEC) == 0


def test_a_sync_that_is_left_with_ctrl_c_goes_on(site: Site) -> None:
    gate = site.root / "gate"
    site.add_repo("blog")
    use_engine(site, f"while [ ! -e '{gate}' ]; do sleep 0.01; done")
    site.run("status")  # makes the store
    person = subprocess.Popen(
        site.command("sync", "blog"), env=site.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert person.stderr is not None
    with person.stderr as complaints:
        site.wait_for_job("blog", "running")
        person.send_signal(signal.SIGINT)
        assert person.wait(WAIT_SEC) == 130
        assert complaints.read() == b"blog: goes on; gitopsd logs --follow 1\n"
    gate.touch()
    site.wait_for_job("blog", "unchanged")


def test_a_reader_that_has_seen_enough_is_no_fault(site: Site) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            site.command("status"), env=site.environment, stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("sync",), 2, "name repos or give --all, and not both"),
        (("sync", "nobody"), 2, "there is no repo 'nobody'"),
        (("sync", "--all", "blog"), 2, "name repos or give --all, and not both"),
        (("status", "nobody"), 1, "there is no repo 'nobody'"),
        (("history", "nobody"), 1, "there is no repo 'nobody'"),
        (("why", "nobody"), 1, "there is no repo 'nobody'"),
        (("logs", "nobody"), 1, "there is no repo 'nobody'"),
        (("logs", "7"), 1, "there is no job 7"),
        (("logs", "blog"), 1, "no job of blog has run yet"),
        (("history", "--limit", "0"), 2, "give a whole number from 1"),
        pytest.param(("logs", "²"), 1, "there is no repo '²'", id="a digit that is no number"),
        pytest.param(("logs", "9" * 20), 1, "there is no job 99999999999999999999", id="a number that is too large"),
        pytest.param(("history", "--limit", "9" * 20), 2, "give a whole number", id="a limit that is too large"),
    ],
)
def test_what_cannot_be_is_said_without_a_traceback(site: Site, words: tuple[str, ...], code: int, said: str) -> None:
    site.add_repo("blog")
    done = site.run(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("status",), ("history",), ("why", "blog"), ("sync", "blog"), ("run", "blog")])
def test_every_problem_of_the_configuration_is_told_with_exit_code_78(site: Site, words: tuple[str, ...]) -> None:
    site.config_path.write_text("max_parallel: many\nretries: 1\n")
    done = site.run(*words)
    assert done.returncode == 78
    places = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert sorted(places) == [f"{site.config_path}:{line}" for line in (1, 2)]


def test_check_finds_what_would_keep_a_push_from_being_deployed(site: Site) -> None:
    site.add_repo("good")
    site.add_repo("no-branch", ref="release")
    site.add_repo("no-checkout")
    (site.checkout("no-checkout")).mkdir(parents=True)
    (site.checkout("no-checkout") / "file").touch()
    site.settings["repos"]["no-remote"] = {"url": str(site.root / "nowhere"), "path": str(site.checkout("no-remote"))}
    site.settings["engine"] = str(site.root / "no-engine")
    site.write_config()
    del site.environment["GITHUB_WEBHOOK_SECRET"]

    done = site.run("check", "--json")

    found = json.loads(done.stdout)
    problems = {each["subject"].split(" ")[0]: each["problem"] for each in found["findings"] if each["problem"]}
    assert done.returncode == 78
    assert found["ok"] is False
    assert sorted(problems) == ["engine", "no-branch:", "no-checkout:", "no-remote:", "receiver"]
    assert problems["no-branch:"] == "has no branch release"
    assert problems["no-checkout:"] == "is neither empty nor a git checkout"
    assert "does not appear to be a git repository" in problems["no-remote:"]
    assert "secret 'github-webhook-secret' is missing" in problems["receiver"]


def test_check_is_content_with_a_good_site(site: Site) -> None:
    site.add_repo("blog")
    done = site.run("check")
    assert (done.returncode, "✗" in done.stdout) == (0, False)


def test_status_history_and_why_tell_of_a_push(site: Site) -> None:
    remote = site.add_repo("blog", deploy="true")
    assert site.json("status")["repos"][0]["state"] == "new"
    site.start()
    site.deliver("blog", remote.tip(), delivery="the-one")
    site.wait_for_job("blog", "succeeded")

    (repo,) = site.json("status")["repos"]
    (job,) = site.json("history", "blog")["jobs"]
    why = site.json("why", "blog", remote.tip()[:7])
    assert (repo["state"], repo["revision"], repo["last_job"]) == ("succeeded", remote.tip(), job)
    assert (job["delivery"], job["new_revision"], job["trigger"]) == ("the-one", remote.tip(), "webhook")
    assert why["jobs"] == [job]
    assert (why["delivery"]["delivery"], why["delivery"]["decision"]) == ("the-one", "accepted")
    assert site.json("why", "blog", "f" * 40)["delivery"] is None


def test_why_tells_of_a_push_that_no_repo_is_configured_for(site: Site) -> None:
    site.add_repo("blog")
    site.start()
    site.deliver("blgo", "1" * 40)
    assert "no repo is configured for demo/blgo" in site.run("why", "blog").stdout
    site.deliver("blog", "1" * 40, ref="refs/heads/next")
    assert "ignored: follows refs/heads/main, not refs/heads/next" in site.run("why", "blog").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("history",),
        ("why", "blog"),
        ("sync", "blog"),
    ],
)
def test_a_reason_from_the_engine_cannot_write_on_the_terminal(site: Site, words: tuple[str, ...]) -> None:
    site.add_repo("blog")
    use_engine(site, r"printf 'reason=\033]0;owned\007\n' >> $GITOPSD_OUTPUT", "exit 77")
    site.run("sync", "blog")
    done = site.run(*words)
    assert "owned" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_sync_waits_for_another_of_the_same_repo(site: Site) -> None:
    gate, runs = site.root / "gate", site.root / "runs"
    site.add_repo("blog")
    use_engine(site, f"echo run >> '{runs}'", f"while [ ! -e '{gate}' ]; do sleep 0.01; done")
    site.run("sync", "blog", "--no-wait")
    wait_for(runs.exists, "the first run")
    with (site.root / "second").open("wb") as output:
        second = subprocess.Popen(site.command("sync", "blog"), env=site.environment, stdout=output)
        wait_for(lambda: len(site.jobs("blog")) == 2, "the second wish")
        gate.touch()
        assert second.wait(WAIT_SEC) == 0
    assert Path(runs).read_text() == "run\nrun\n"
    assert [job["state"] for job in site.jobs("blog")] == ["unchanged", "unchanged"]


def test_a_last_line_without_an_end_is_shown_too(site: Site) -> None:
    site.add_repo("blog", deploy='printf "no line end"')

    assert "no line end" in site.run("sync", "blog").stdout.splitlines()


@pytest.fixture
def wants_units(site: Site) -> Site:
    """A site whose syncs are to be units, on a host that has none."""
    if not units.reason_against():
        pytest.skip("units can be had here")
    site.add_repo("blog")
    site.settings["runner"] = "systemd"
    site.write_config()
    return site


@pytest.mark.parametrize("words", [("sync", "blog"), ("check", "--offline"), ("poll",), ("catchall",)], ids=" ".join)
def test_who_wants_units_where_there_are_none_is_told_why_once(wants_units: Site, words: tuple[str, ...]) -> None:
    done = wants_units.run(*words)

    assert done.returncode == (78 if words[0] == "check" else 1)
    told = [line for line in (done.stdout + done.stderr).splitlines() if "runner: systemd: " in line]
    assert len(told) == 1
    assert "fault" not in done.stderr


def test_a_daemon_that_is_to_use_units_where_there_are_none_says_why_and_takes_nothing(wants_units: Site) -> None:
    wants_units.start()

    ready, answer = wants_units.get("/readyz"), wants_units.deliver("blog", "1" * 40)

    assert (ready.status, answer.status) == (503, 503)
    assert "runner: systemd: " in ready.payload["error"]
    wants_units.settings["runner"] = "local"
    wants_units.write_config()
    wants_units.signal(signal.SIGHUP)
    wait_for(lambda: wants_units.get("/readyz").status == 200, "the mended configuration")


def test_a_daemon_that_looks_again_whether_it_can_have_units_says_only_once_that_it_cannot(
    wants_units: Site, tmp_path: Path
) -> None:
    wants_units.start()
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other")
    try:
        for _ in range(2):
            other.config_path.write_text("colour: red\n")
            other.start()
            other.write_config()
            wait_for(lambda: other.get("/readyz").status == 200, "another daemon to have looked again")
            other.stop()
    finally:
        other.close()

    assert wants_units.log().count("runner: systemd: ") == 1


def test_what_is_recorded_can_be_read_where_units_are_wanted_and_there_are_none(wants_units: Site) -> None:
    for words in (("status",), ("status", "blog"), ("history",), ("why", "blog")):
        done = wants_units.run(*words)
        assert done.returncode == 0, (words, done.stderr)
    (problem,) = wants_units.json("status")["problems"]
    assert problem.startswith("runner: systemd: ")
