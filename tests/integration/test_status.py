"""One command, and one knows: what `status`, `why` and /readyz say when something is not as it should be."""

import re
import signal
import time

import pytest

from tests.remote import git
from tests.site import Site, wait_for
from tests.terminal import on_a_terminal

NO_SPACE = "no space for pages, as the disk is full of the pages of yesterday, and of those of the day before"


def add_failing_repo(site: Site, name: str) -> None:
    """Its jobs fail with a long reason, and are tried again an hour later."""
    engine = site.root / "engine"
    engine.write_text(f"#!/bin/sh\necho 'reason={NO_SPACE}' >> $GITOPSD_OUTPUT\nexit 1\n")
    engine.chmod(0o755)
    site.settings |= {"engine": str(engine), "retry": {"delay": "1h", "max_delay": "1h"}}
    site.add_repo(name)


def with_a_failed_job(site: Site, name: str = "blog") -> None:
    """A job by hand that failed, and its retry, which waits."""
    add_failing_repo(site, name)
    assert site.run("sync", name).returncode == 1


def due_at(site: Site, name: str) -> str:
    return time.strftime("%H:%M:%S", time.localtime(site.jobs(name)[-1]["due_at"]))


def test_a_wrong_secret_at_the_provider_is_said_until_a_delivery_is_in_order(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()

    assert site.deliver("blog", remote.tip(), secret="wrong").status == 401

    (problem,) = site.json("status")["problems"]
    assert problem.startswith("receiver 'default' refused a delivery ")
    assert "the signature does not match any secret" in problem
    refusal = problem.partition(" ago: ")[2]  # seconds pass between one look and the next
    assert refusal in site.run("why", "blog").stdout
    site.stop(signal.SIGKILL)
    site.start()
    assert refusal in site.json("status")["problems"][0], "a restart forgets nothing"
    assert site.deliver("blog", remote.tip()).status == 202
    assert site.json("status")["problems"] == []


def test_what_came_for_a_receiver_that_there_is_not_may_be_a_misspelt_webhook(site: Site) -> None:
    site.add_repo("blog")
    site.start()

    assert site.deliver("blog", "a" * 40, secret="wrong", path="/hook/defalt").status == 401

    (problem,) = site.json("status")["problems"]
    why = "there is no receiver of the name in its URL, which is almost 'default' (known: default)"
    assert re.fullmatch(rf"something came \d+ s ago, and {re.escape(why)}", problem)


def test_a_daemon_that_is_not_there_is_said_and_its_old_problems_are_not(site: Site) -> None:
    site.add_repo("blog")
    site.start()
    whole = site.config_path.read_text()
    site.config_path.write_text("colour: red\n")
    site.signal(signal.SIGHUP)
    wait_for(lambda: "stays in force" in site.log(), "the reload")
    site.config_path.write_text(whole)
    wait_for(lambda: "stays in force" in "".join(site.json("status")["problems"]), "the note of the daemon")

    site.stop(signal.SIGKILL)

    (problem,) = site.json("status")["problems"]
    assert "gitopsd serve is not running" in problem


def test_readyz_knows_of_a_reload_that_came_to_nothing(site: Site) -> None:
    site.add_repo("blog")
    site.start()
    whole = site.config_path.read_text()
    site.config_path.write_text("colour: red\n")
    site.signal(signal.SIGHUP)

    ready = wait_for(lambda: (found := site.get("/readyz")).status == 503 and found, "readyz to say so")

    assert "colour: unknown key" in ready.payload["error"]
    site.config_path.write_text(whole)
    site.signal(signal.SIGHUP)
    wait_for(lambda: site.get("/readyz").status == 200, "the mended configuration")


def test_why_shows_a_newer_job_than_that_of_the_last_delivery(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()
    site.deliver("blog", remote.push({"page": "one"}))
    site.wait_for_job("blog", "succeeded")
    (site.checkout("blog") / "page").write_text("edited by hand")
    remote.push({"page": "two"})
    assert site.run("sync", "blog").returncode == 77

    why = site.run("why", "blog").stdout

    last = next(line for line in why.splitlines() if line.startswith("  last job"))
    assert "refused: " in last
    assert "(job 2, manual, " in last


def test_a_second_daemon_on_the_same_records_is_told_of_the_first(site: Site) -> None:
    site.add_repo("blog")
    site.start()
    first = site._daemon
    assert first is not None

    site.start(wait=False)

    wait_for(lambda: "another gitopsd serve is running" in site.log(), "the warning")
    first.kill()
    first.wait()
    wait_for(lambda: site.json("status")["problems"] == [], "the second to take the first one's place")


@pytest.mark.parametrize("words", [("history",), ("status",)], ids=" ".join)
def test_on_a_narrow_terminal_a_long_reason_has_lines_of_its_own(site: Site, words: tuple[str, ...]) -> None:
    with_a_failed_job(site, "a-repo-with-a-name-that-is-long")

    shown = re.sub("\x1b\\[[0-9;]*m", "", on_a_terminal(site, *words, columns=80)).replace("\r", "")

    assert all(len(line) <= 80 for line in shown.splitlines())
    own = [line for line in shown.splitlines() if line.startswith("    ")]
    assert NO_SPACE in " ".join(line.strip() for line in own)
    assert len(own) <= 3
    row = next(line for line in shown.splitlines() if "failed" in line)
    assert "a-repo-with-a-n" in row
    assert "REASON" not in shown


@pytest.mark.parametrize("words", [("history",), ("status",)], ids=" ".join)
def test_on_a_wide_terminal_and_in_a_pipe_a_reason_stays_in_its_row(site: Site, words: tuple[str, ...]) -> None:
    with_a_failed_job(site)

    shown, piped = on_a_terminal(site, *words, columns=300), site.run(*words).stdout

    for text in (shown, piped):
        assert NO_SPACE in next(line for line in text.splitlines() if "failed" in line)
        assert "REASON" in text


def test_status_and_why_tell_at_what_time_a_failed_job_is_tried_again(site: Site) -> None:
    with_a_failed_job(site)
    said = f"attempt 1 of 5, the next at {due_at(site, 'blog')}"

    for words in (("status",), ("why", "blog")):
        shown = site.run(*words).stdout
        assert said in shown
        assert "the next in" not in shown
    assert site.json("status")["repos"][0]["reason"].endswith("the next in 3600 s"), "as it is recorded"


def test_why_shows_the_last_job_that_has_ended_before_one_that_waits_though_no_delivery_came(site: Site) -> None:
    with_a_failed_job(site)

    lines = site.run("why", "blog").stdout.splitlines()

    at = next(number for number, line in enumerate(lines) if line.startswith("  last job"))
    assert f"pending: waits until {due_at(site, 'blog')} (job 2, manual, " in lines[at]
    assert lines[at + 1].startswith("  before     failed: ")
    assert NO_SPACE in lines[at + 1]
    assert "(job 1, manual, " in lines[at + 1]
    assert lines[at + 2].strip() == "output: gitopsd logs 1"
    assert site.json("why", "blog")["job_before"]["id"] == 1


def test_why_shows_a_job_that_failed_once_where_its_delivery_is_shown(site: Site) -> None:
    add_failing_repo(site, "blog")
    site.start()
    site.deliver("blog", site.remotes["blog"].tip())
    site.wait_for_job("blog", "failed")

    shown = site.run("why", "blog").stdout

    assert shown.count("failed: ") == 1
    assert shown.count("output: gitopsd logs 1\n") == 1
    assert "last job" not in shown
    assert "  before " not in shown


def test_why_says_no_more_than_the_last_job_where_that_has_ended(site: Site) -> None:
    site.add_repo("blog")
    for _ in range(2):
        assert site.run("sync", "blog").returncode == 0

    shown = site.run("why", "blog").stdout

    assert "(job 2, manual, " in shown
    assert "(job 1, " not in shown
    assert "output:" not in shown


def test_the_status_of_one_repo_leaves_out_the_polls_of_others(site: Site) -> None:
    site.add_repo("blog")
    site.add_repo("shop")
    site.start()
    site.remotes["shop"].bare.rename(site.root / "away")
    assert site.run("poll").returncode == 75

    assert any("the remote of shop" in problem for problem in site.json("status")["problems"])
    assert any("the remote of shop" in problem for problem in site.json("status", "shop")["problems"])
    assert site.json("status", "blog")["problems"] == []


def test_logs_of_a_job_that_was_refused_before_it_ran_says_so(site: Site) -> None:
    root = site.root / "mount"
    site.add_repo("wiki")
    url = site.settings["repos"].pop("wiki")["url"]
    site.settings["roots"] = [str(root)]
    site.write_config()
    site.remotes["wiki"].push({".gitops": ""})
    root.mkdir()
    git(root, "clone", "--quiet", url, "wiki")
    site.start()
    root.rename(site.root / "unmounted")
    site.deliver("wiki", site.remotes["wiki"].push())
    site.wait_for_job("wiki", "refused")

    said = site.run("logs", "1")

    assert said.returncode == 1
    assert "job 1 has no log: it was refused before it ran: " in said.stderr
    assert "keep.logs" not in said.stderr
