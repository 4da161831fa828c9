"""Held, resumed, rolled back: through the real daemon and the real commands, with a real remote."""

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitopsd import holds, lock
from gitopsd.cli.status import hold_of
from gitopsd.model import Hold
from gitopsd.settings import Config
from tests.conftest import ForNobody
from tests.remote import Remote, git
from tests.site import WAIT_SEC, Site, wait_for

DEPLOY = "echo $GITOPSD_NEW_REVISION >> ../deploys"
GATE = "touch ../begun; while [ ! -e ../gate ]; do sleep 0.01; done"


def place_of(site: Site) -> Path:
    """Where the deploy commands leave their marks."""
    return site.checkout("blog").parent


def deploys(site: Site) -> list[str]:
    path = place_of(site) / "deploys"
    return path.read_text().split() if path.exists() else []


def states(site: Site) -> list[tuple[str, str]]:
    return [(job["trigger"], job["state"]) for job in site.jobs("blog")]


def hold(site: Site, *words: str) -> str:
    done = site.run("hold", "blog", "--reason", "disk swap", *words, SUDO_USER="ada")
    assert done.returncode == 0, done.stderr
    return done.stdout


def standing(site: Site) -> dict[str, Any]:
    (repo,) = site.json("status", "blog")["repos"]
    found: dict[str, Any] = repo
    return found


def push_and_deliver(site: Site, remote: Remote) -> dict[str, Any]:
    """The job in the answer to a push."""
    answer = site.deliver("blog", remote.push())
    assert answer.status == 202
    job: dict[str, Any] = answer.payload["jobs"][0]
    return job


def deploy_some(site: Site, remote: Remote, count: int) -> list[str]:
    """So many revisions, one after the other."""
    revisions = []
    for _ in range(count):
        revisions.append(remote.push())
        assert site.run("sync", "blog").returncode == 0
    return revisions


@contextlib.contextmanager
def started(site: Site, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A command that goes on beside the block, and where it says what it has to say."""
    said = site.root / "said"
    with said.open("wb") as output:
        child = subprocess.Popen(site.command(*words), env=site.environment, stdout=output, stderr=output)
    try:
        yield child, said
    finally:
        child.kill()
        child.wait(WAIT_SEC)


@pytest.fixture
def remote(site: Site) -> Remote:
    return site.add_repo("blog", deploy=DEPLOY)


# Held and resumed


def test_what_is_pushed_to_a_held_repo_is_one_deploy_of_the_newest_once_it_is_resumed(
    site: Site, remote: Remote
) -> None:
    site.start()
    hold(site)
    for _ in range(3):
        assert push_and_deliver(site, remote) == {"id": 1, "repo": "blog", "held": "held by ada: disk swap"}
    assert site.run("poll").returncode == 0
    assert [(each["repo"], each["state"]) for each in site.json("catchall")["jobs"]] == [("blog", "pending")]
    assert (deploys(site), states(site)) == ([], [("webhook", "pending")])

    done = site.run("resume", "blog")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("blog is no longer held\n")
    assert (deploys(site), states(site)) == ([remote.tip()], [("webhook", "succeeded")])
    assert standing(site)["held"] is None


def test_without_a_daemon_it_is_the_same(site: Site, remote: Remote) -> None:
    hold(site)
    site.run("catchall")
    assert site.run("run", "blog").returncode == 0
    assert states(site) == [("timer", "pending")]

    done = site.run("resume", "blog", "--json")

    assert [(job["id"], job["state"]) for job in json.loads(done.stdout)["jobs"]] == [(1, "succeeded")]


def test_to_resume_a_repo_for_which_nothing_has_come_syncs_it_too(site: Site, remote: Remote) -> None:
    deploy_some(site, remote, 1)
    hold(site)
    remote.push()

    assert site.run("resume", "blog", "--no-wait").stdout.splitlines() == [
        "blog is no longer held",
        "blog: job 2 is queued; gitopsd logs --follow 2",
    ]

    site.wait_for_job("blog", "succeeded", count=2)
    assert deploys(site)[-1] == remote.tip()


def test_once_a_hold_has_ended_the_daemon_does_what_has_waited(site: Site, remote: Remote) -> None:
    site.start()
    now = time.time()
    hold_of_an_hour = Hold(repo="blog", by="ada", reason="disk swap", at=now, until=now + 3600)
    holds.write(site.state_dir, hold_of_an_hour)
    assert "held" in push_and_deliver(site, remote)

    holds.write(site.state_dir, Hold(repo="blog", by="ada", reason="disk swap", at=now, until=now))  # as if it had come

    site.wait_for_job("blog", "succeeded")
    assert standing(site)["held"] is None
    assert site.run("resume", "blog").returncode == 2


def test_a_hold_can_be_for_a_while(site: Site, remote: Remote) -> None:
    before = time.time()
    said = hold(site, "--for", "2h")

    found = holds.read(site.state_dir, "blog", before)

    assert found
    assert found.until is not None
    assert 7200 <= found.until - before < 7200 + 60
    assert f", until {time.strftime('%Y-%m-%d %H:%M', time.localtime(found.until))}\n" in said


def test_a_sync_that_runs_goes_on_to_its_end_and_what_comes_after_it_waits(site: Site) -> None:
    remote = site.add_repo("blog", deploy=f"{GATE}; {DEPLOY}")
    site.start()
    first = remote.push()
    site.deliver("blog", first)
    wait_for((place_of(site) / "begun").exists, "the deploy command")

    said = hold(site)
    push_and_deliver(site, remote)
    (place_of(site) / "gate").touch()

    assert "A sync of blog runs, and goes on to its end.\n" in said
    site.wait_for_job("blog", "succeeded")
    wait_for(lambda: lock.is_free(site.state_dir, "blog"), "the end of the sync")
    assert (deploys(site), states(site)) == ([first], [("webhook", "succeeded"), ("webhook", "pending")])
    assert site.run("resume", "blog").returncode == 0
    assert deploys(site) == [first, remote.tip()]


def test_a_sync_of_a_held_repo_that_is_killed_is_recorded_and_done_again_only_when_resumed(site: Site) -> None:
    remote = site.add_repo("blog", deploy=f"{GATE}; {DEPLOY}")
    site.start()
    site.deliver("blog", remote.push())
    wait_for((place_of(site) / "begun").exists, "the deploy command")
    hold(site)

    site.kill_everything()
    (place_of(site) / "gate").touch()
    site.start()

    interrupted = site.wait_for_job("blog", "interrupted")
    assert interrupted["reason"] == "interrupted during deploy; queued again"
    assert site.run("run", "blog").returncode == 0  # nor by hand
    assert (deploys(site), states(site)) == ([], [("webhook", "interrupted"), ("webhook", "pending")])
    assert site.run("resume", "blog").returncode == 0
    assert deploys(site) == [remote.tip()]


def test_a_daemon_with_nothing_but_held_jobs_ends_as_one_with_none_does(site: Site) -> None:
    site.settings["idle_exit"] = "500ms"
    remote = site.add_repo("blog", deploy=DEPLOY)
    hold(site)
    site.start()
    assert "held" in push_and_deliver(site, remote)

    assert site.wait_for_end() == 0

    assert states(site) == [("webhook", "pending")]


def test_a_newer_hold_takes_the_place_of_an_older_one_and_says_so(site: Site, remote: Remote) -> None:
    hold(site, "--for", "2h")

    said = site.run("hold", "blog", "--reason", "  it takes\nlonger ").stdout

    assert said.startswith("In the place of the hold before: held by ada since ")
    assert standing(site)["held"]["reason"] == "it takes longer"
    assert standing(site)["held"]["until"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hold", "blog"), "the following arguments are required: --reason"),
        (("hold", "blog", "--reason", " \n"), "say something"),
        (("hold", "blog", "--reason", "x", "--for", "2"), "such as 2h"),
        (("hold", "blog", "--reason", "x", "--for", "0s"), "such as 2h"),
        (("hold", "blog", "--reason", "x", "--for", "-1h"), "expected one argument"),
        (("hold", "blog", "--reason", "x", "--for", "9999999d"), "such as 2h"),
        (("hold", "nobody", "--reason", "x"), "there is no repo 'nobody'"),
        (("resume", "nobody"), "there is no repo 'nobody'"),
        (("resume", "blog"), "blog is not held; gitopsd sync blog"),
        (("rollback", "nobody"), "there is no repo 'nobody'"),
        (("rollback", "blog"), "by the records, no other revision of blog was deployed; give --to REVISION"),
        (("rollback", "blog", "--to", "abc"), "give a revision, or four or more digits"),
        (("rollback", "blog", "--to", "HEAD~1"), "give a revision, or four or more digits"),
        (("rollback", "blog", "--to", "abcd"), "no revision of blog that was deployed begins so"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_what_cannot_be_is_said_in_one_line_and_nothing_is_held_or_queued(
    site: Site, remote: Remote, words: tuple[str, ...], said: str
) -> None:
    done = site.run(*words)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[-1]
    assert site.jobs("blog") == []
    assert holds.read(site.state_dir, "blog", time.time()) is None


# What other commands do with a held repo


def test_a_sync_by_hand_of_a_held_repo_is_refused_and_leaves_nothing_queued(site: Site, remote: Remote) -> None:
    site.add_repo("shop")
    hold(site)
    for words in (("blog",), ("shop", "blog"), ("blog", "--no-wait"), ("blog", "--json")):
        done = site.run("sync", *words)
        assert (done.returncode, done.stdout) == (77, "")
        assert done.stderr == "gitopsd sync: blog is held by ada: disk swap; gitopsd resume blog\n"
    assert site.jobs("blog") == site.jobs("shop") == []


def test_a_sync_of_everything_leaves_a_held_repo_out_and_says_so(site: Site, remote: Remote) -> None:
    site.add_repo("shop")
    hold(site)

    done = site.run("sync", "--all")

    assert (done.returncode, [job["state"] for job in site.jobs("shop")]) == (0, ["succeeded"])
    assert done.stderr == "gitopsd sync: blog is held by ada: disk swap; gitopsd resume blog\n"
    assert site.jobs("blog") == []


@pytest.mark.parametrize("words", [(), ("--no-wait",)], ids=["waits", "does not wait"])
def test_a_replay_for_a_held_repo_is_recorded_and_not_waited_for(
    site: Site, remote: Remote, words: tuple[str, ...]
) -> None:
    site.start()
    site.deliver("blog", remote.push())
    site.wait_for_job("blog", "succeeded")
    hold(site)

    done = site.run("replay", "1", *words)

    assert done.returncode == (0 if words else 77)
    assert "blog is held by ada: disk swap; gitopsd resume blog" in done.stdout
    assert states(site) == [("webhook", "succeeded"), ("webhook", "pending")]


def test_who_follows_a_job_is_told_when_its_repo_is_held(site: Site, remote: Remote) -> None:
    with lock.hold(site.state_dir, "blog"), started(site, "sync", "blog") as (person, said):
        wait_for(lambda: site.jobs("blog"), "the wish")
        hold(site)
        assert person.wait(WAIT_SEC) == 77
    assert said.read_text() == "job 1 stays queued: blog is held by ada: disk swap; gitopsd resume blog\n"


def test_a_repo_that_is_removed_is_not_held_should_another_get_its_name(site: Site) -> None:
    remote = Remote.create(site.root / "remotes" / "blog")
    words = ("add", remote.url, "--name", "blog", "--path", str(site.checkout("blog")))
    assert site.run(*words).returncode == 0
    hold(site)

    assert site.run("remove", "blog", "--yes").returncode == 0

    assert holds.read(site.state_dir, "blog", time.time()) is None


# What is shown


def test_status_and_why_tell_by_whom_a_repo_is_held_since_when_and_why(site: Site, remote: Remote) -> None:
    deploy_some(site, remote, 1)
    site.start()
    hold(site, "--for", "2h")
    push_and_deliver(site, remote)

    found, shown, why = standing(site), site.run("status").stdout, site.run("why", "blog").stdout

    assert (found["state"], found["pending"], found["last_job"]["state"]) == ("held", 2, "succeeded")
    held = found["held"]
    assert (held["by"], held["reason"], held["revision"]) == ("ada", "disk swap", None)
    assert held["at"] < held["until"]
    assert site.json("why", "blog")["held"] == held
    row = next(line for line in shown.splitlines() if line.startswith("blog"))
    assert " held " in row
    assert ": disk swap, until 2" in row
    assert row.endswith("; job 2 waits")
    assert "  held       by ada since " in why
    assert "; gitopsd resume blog\n" in why
    assert "pending: waits, as it is held\n" in why
    assert site.json("status")["problems"] == [], "a job that waits on purpose is no problem"
    hold(site)
    assert ", until " not in site.run("status").stdout


def test_while_a_held_repo_is_synced_that_is_what_is_shown(site: Site) -> None:
    site.add_repo("blog", deploy=GATE)
    site.run("sync", "blog", "--no-wait")
    wait_for((place_of(site) / "begun").exists, "the deploy command")
    hold(site)

    assert (standing(site)["state"], standing(site)["held"]["by"]) == ("running", "ada")

    (place_of(site) / "gate").touch()
    site.wait_for_job("blog", "succeeded")
    assert standing(site)["state"] == "held"


def test_a_hold_that_cannot_be_read_holds_is_said_and_is_gone_once_resumed(site: Site, remote: Remote) -> None:
    site.start()
    hold(site)
    file = site.state_dir / "holds" / "blog.json"
    file.write_text("nonsense")
    assert push_and_deliver(site, remote)["held"] == "held: its hold cannot be read"

    problem = f"hold {file}: is not what gitopsd writes; remove it, and hold the repo again"

    wait_for(lambda: problem in site.get("/readyz").body.decode(), "readyz to say so")
    assert problem in site.json("status")["problems"]
    assert problem in site.json("why", "blog")["problems"]
    for command in ("sync", "run"):
        done = site.run(command, "blog")
        assert done.returncode != 0
        assert problem in done.stderr
    assert states(site) == [("webhook", "pending")]
    assert site.run("resume", "blog").returncode == 0
    assert site.json("status")["problems"] == []
    assert deploys(site) == [remote.tip()]


def test_who_may_not_read_a_hold_gets_a_line_that_says_so(for_nobody: ForNobody) -> None:
    config = Config(source=Path("x"), state_dir=for_nobody.place, engine=Path("x"))
    holds.write(config.state_dir, Hold(repo="blog", by="ada", reason="disk swap", at=time.time()))
    file = config.state_dir / "holds" / "blog.json"
    file.chmod(0)

    with for_nobody.rights():
        assert hold_of(config, "blog") == (None, f"hold {file}: cannot be read: Permission denied")


# Rolled back


def with_a_gate(site: Site) -> tuple[Remote, list[str]]:
    """Two revisions that are deployed; the deploy command of the next one waits for a file `gate`."""
    remote = site.add_repo("blog", deploy=f"{DEPLOY}; {GATE}")
    place_of(site).mkdir(parents=True)
    (place_of(site) / "gate").touch()
    revisions = deploy_some(site, remote, 2)
    for name in ("gate", "begun"):
        (place_of(site) / name).unlink()
    return remote, revisions


@pytest.mark.parametrize("strategy", ["in-place", "release"])
def test_a_rollback_goes_back_and_stays_there_while_the_remote_cannot_be_reached(site: Site, strategy: str) -> None:
    remote = site.add_repo("blog", deploy=DEPLOY.replace("../", f"{site.root}/"), strategy=strategy)
    first, second = deploy_some(site, remote, 2)
    remote.bare.rename(site.root / "away")

    done = site.run("rollback", "blog", "--reason", "wrong prices", SUDO_USER="ada")

    assert done.returncode == 0, done.stdout + done.stderr
    why = f"rollback from {second[:10]} to {first[:10]}: wrong prices"
    assert done.stdout.splitlines()[-1] == f"blog is held by ada: {why}; gitopsd resume blog"
    assert site.deployed("blog") == first
    assert (site.root / "deploys").read_text().split() == [first, second, first]
    found = standing(site)
    assert (found["state"], found["revision"]) == ("held", first)
    assert (found["held"]["reason"], found["held"]["revision"]) == (why, first)

    (site.root / "away").rename(remote.bare)
    site.start()
    assert push_and_deliver(site, remote)["held"] == f"held by ada: {why}"
    assert site.run("poll").returncode == 0
    assert site.run("catchall").returncode == 0
    assert site.deployed("blog") == first
    assert site.run("resume", "blog").returncode == 0
    assert site.deployed("blog") == remote.tip()
    triggers = [job["trigger"] for job in site.jobs("blog")]
    assert triggers == ["manual", "manual", "rollback", "webhook"]


def test_who_rolls_back_twice_goes_back_twice(site: Site, remote: Remote) -> None:
    first, second, _ = deploy_some(site, remote, 3)

    assert site.run("rollback", "blog").returncode == 0
    assert site.deployed("blog") == second
    done = site.run("rollback", "blog")

    assert done.returncode == 0
    assert done.stdout.startswith("In the place of the hold before: held by ")
    assert site.deployed("blog") == first
    assert site.run("rollback", "blog").returncode == 2
    assert standing(site)["held"]["revision"] == first


def test_after_a_deploy_that_failed_in_place_a_rollback_goes_to_the_last_one_that_did_not(site: Site) -> None:
    remote = site.add_repo("blog", deploy=f"{DEPLOY}; [ ! -e bad ]")
    site.settings["retry"] = {"tries": 1}
    site.write_config()
    _, second = deploy_some(site, remote, 2)
    remote.push({"bad": ""})
    assert site.run("sync", "blog").returncode == 1
    assert site.deployed("blog") == remote.tip()

    assert site.run("rollback", "blog").returncode == 0

    assert site.deployed("blog") == second


def test_a_rollback_can_go_to_any_revision_that_was_deployed_and_is_named_by_how_it_begins(
    site: Site, remote: Remote
) -> None:
    first, _, third = deploy_some(site, remote, 3)

    found = json.loads(site.run("rollback", "blog", "--to", first[:7].upper(), "--json").stdout)

    assert (found["held"]["revision"], found["held"]["reason"]) == (
        first,
        f"rollback from {third[:10]} to {first[:10]}",
    )
    assert [(job["trigger"], job["state"], job["new_revision"]) for job in found["jobs"]] == [
        ("rollback", "succeeded", first)
    ]
    assert site.deployed("blog") == first


def test_a_rollback_can_go_to_a_revision_that_was_never_deployed_if_it_is_named_as_a_whole(
    site: Site, remote: Remote
) -> None:
    never = remote.push()
    deploy_some(site, remote, 1)

    assert site.run("rollback", "blog", "--to", never[:8]).returncode == 2
    assert site.run("rollback", "blog", "--to", never).returncode == 0

    assert site.deployed("blog") == never


def test_a_rollback_to_what_nobody_has_is_no_success_and_the_repo_stays_held(site: Site, remote: Remote) -> None:
    (deployed,) = deploy_some(site, remote, 1)

    done = site.run("rollback", "blog", "--to", "1" * 40)

    assert done.returncode not in (0, 2)
    assert done.stdout.splitlines()[-1] == "blog stays held; gitopsd resume blog"
    assert site.deployed("blog") == deployed
    assert site.run("sync", "blog").returncode == 77


def test_a_rollback_that_fails_leaves_the_repo_held_and_is_tried_again(site: Site) -> None:
    remote = site.add_repo("blog", deploy=f"{DEPLOY}; [ ! -e ../broken ]")
    first, _ = deploy_some(site, remote, 2)
    broken = place_of(site) / "broken"
    broken.touch()

    done = site.run("rollback", "blog")

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "blog stays held; gitopsd resume blog"
    broken.unlink()
    site.start()
    push_and_deliver(site, remote)
    site.wait_for_job("blog", "succeeded", count=3)
    site.wait_until_settled("blog")
    assert site.deployed("blog") == first
    assert [job["trigger"] for job in site.jobs("blog")][2:] == ["rollback", "rollback"]
    assert standing(site)["held"]["revision"] == first


def test_a_rollback_that_is_killed_is_done_again_although_a_push_came_meanwhile(site: Site) -> None:
    remote, (first, _) = with_a_gate(site)
    site.start()
    assert site.run("rollback", "blog", "--no-wait").stdout.splitlines()[-1].startswith("blog is held by ")
    wait_for((place_of(site) / "begun").exists, "the deploy command")
    push_and_deliver(site, remote)

    site.kill_everything()
    (place_of(site) / "gate").touch()
    site.start()

    interrupted = site.wait_for_job("blog", "interrupted")
    site.wait_until_settled("blog")
    assert (interrupted["trigger"], site.jobs("blog")[-1]["trigger"]) == ("rollback", "rollback")
    assert (site.deployed("blog"), deploys(site)[-1]) == (first, first)
    assert site.run("resume", "blog").returncode == 0
    assert site.deployed("blog") == remote.tip()


def test_a_rollback_during_a_sync_waits_for_its_end_and_what_waited_behind_it_is_left_out(site: Site) -> None:
    remote, (first, second) = with_a_gate(site)
    site.start()
    push_and_deliver(site, remote)
    third = remote.tip()
    wait_for((place_of(site) / "begun").exists, "the deploy command")
    push_and_deliver(site, remote)

    assert site.run("rollback", "blog", "--to", first, "--no-wait").returncode == 0
    (place_of(site) / "gate").touch()

    site.wait_until_settled("blog")
    assert deploys(site) == [first, second, third, first]
    assert [state for _, state in states(site)] == ["succeeded"] * 3 + ["superseded", "succeeded"]


def test_a_hold_in_the_place_of_a_rollback_s_keeps_its_next_try_back_too(site: Site) -> None:
    remote = site.add_repo("blog", deploy=f"{DEPLOY}; [ ! -e ../broken ]")
    _, second = deploy_some(site, remote, 2)
    (place_of(site) / "broken").touch()
    assert site.run("rollback", "blog").returncode == 1
    count = len(deploys(site))

    hold(site)
    wait_for(lambda: site.jobs("blog")[-1]["due_at"] < time.time(), "the time of the next try")
    assert site.run("run", "blog").returncode == 0

    assert len(deploys(site)) == count
    (place_of(site) / "broken").unlink()
    assert site.run("resume", "blog").returncode == 0
    assert deploys(site)[-1] == second == remote.tip()


def test_a_command_without_revisions_cannot_be_rolled_back(site: Site) -> None:
    (site.root / "place").mkdir()
    site.settings["repos"]["purge"] = {"strategy": "none", "path": str(site.root / "place"), "deploy": ["true"]}
    site.write_config()

    done = site.run("rollback", "purge")

    assert (done.returncode, done.stdout) == (2, "")
    assert "purge has no revisions that it could go back to (strategy: none)" in done.stderr
    assert holds.read(site.state_dir, "purge", time.time()) is None


def test_whoever_leaves_a_rollback_with_ctrl_c_leaves_it_held_and_going_on(site: Site) -> None:
    _, (first, _) = with_a_gate(site)
    with started(site, "rollback", "blog") as (person, _):
        wait_for((place_of(site) / "begun").exists, "the deploy command")
        person.send_signal(signal.SIGINT)
        assert person.wait(WAIT_SEC) == 130
    (place_of(site) / "gate").touch()
    site.wait_for_job("blog", "succeeded", count=3)
    assert (site.deployed("blog"), standing(site)["state"]) == (first, "held")
    assert git(site.checkout("blog"), "status", "--porcelain") == ""
