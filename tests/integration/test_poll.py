"""What no webhook told of: `gitopsd poll` and `gitopsd catchall`, and the daemon that does what they queue."""

import json
import shutil
from typing import Any

from tests.remote import Remote, git
from tests.site import Site


def break_remote(site: Site, name: str) -> None:
    site.remotes[name].bare.rename(site.root / "away")


def mend_remote(site: Site, name: str) -> None:
    (site.root / "away").rename(site.remotes[name].bare)


def poll(site: Site, code: int) -> dict[str, Any]:
    """What `gitopsd poll` says, which has to exit with `code`."""
    done = site.run("poll", "--json")
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_push_that_no_webhook_told_of_is_deployed_after_the_next_poll(site: Site) -> None:
    remote = site.add_repo("blog", deploy="true")
    site.start()
    site.deliver("blog", remote.tip())
    site.wait_for_job("blog", "succeeded")
    revision = remote.push()

    assert poll(site, 0) == {"asked": ["blog"], "moved": ["blog"], "problems": {}}

    job = site.wait_for_job("blog", "succeeded", count=2)
    assert (job["trigger"], job["new_revision"], site.deployed("blog")) == ("poll", revision, revision)
    assert poll(site, 0) == {"asked": ["blog"], "moved": [], "problems": {}}
    assert len(site.jobs("blog")) == 2


def test_a_poll_says_in_words_what_it_did_and_touches_no_checkout(site: Site) -> None:
    for name in ("blog", "shop"):
        site.add_repo(name)

    first, second = site.run("poll"), site.run("poll")

    assert (first.returncode, first.stdout) == (0, "remotes asked: 2; moved: blog, shop\n")
    assert (second.returncode, second.stdout) == (0, "remotes asked: 2; moved: none\n")
    assert "info: blog: the remote has moved to " in first.stderr
    assert not site.checkout("blog").exists()


def test_a_daemon_that_is_started_later_does_what_a_poll_has_queued(site: Site) -> None:
    remote = site.add_repo("blog")
    assert site.run("poll").returncode == 0
    assert [(job["state"], job["revision"]) for job in site.jobs("blog")] == [("pending", remote.tip())]

    site.start()

    assert site.wait_for_job("blog", "succeeded")["new_revision"] == remote.tip()


def test_a_remote_that_cannot_be_asked_is_said_in_status_until_it_can(site: Site) -> None:
    site.add_repo("blog")
    shop = site.add_repo("shop")
    site.start()
    break_remote(site, "blog")

    said = poll(site, 75)

    assert (said["asked"], said["moved"], list(said["problems"])) == (["blog", "shop"], ["shop"], ["blog"])
    assert site.wait_for_job("shop", "succeeded")["new_revision"] == shop.tip()
    expected = f"could not ask the remote of blog: {said['problems']['blog']}"
    (problem,) = site.json("status")["problems"]
    assert problem.startswith("the last poll (")
    assert problem.endswith(expected)
    assert expected in site.run("status").stdout.replace("\n", " ").replace("  ", " ")
    words = site.run("poll")
    assert (words.returncode, words.stdout.splitlines()[1]) == (75, f"blog: {said['problems']['blog']}")
    mend_remote(site, "blog")
    assert poll(site, 0)["moved"] == ["blog"]
    assert site.json("status")["problems"] == []


def test_a_branch_that_the_remote_does_not_have_is_said_too(site: Site) -> None:
    site.add_repo("blog", ref="release")
    assert poll(site, 75)["problems"] == {"blog": "has no branch release"}
    assert site.jobs("blog") == []


def test_what_was_refused_is_not_queued_by_each_poll_again(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()
    site.deliver("blog", remote.push({"page": "one"}))
    site.wait_for_job("blog", "succeeded")
    (site.checkout("blog") / "page").write_text("edited by hand")
    remote.push({"page": "two"})

    assert poll(site, 0)["moved"] == ["blog"]
    site.wait_for_job("blog", "refused")
    assert [poll(site, 0)["moved"] for _ in range(2)] == [[], []]

    git(site.checkout("blog"), "checkout", "--quiet", "page")
    remote.push({"page": "three"})
    assert poll(site, 0)["moved"] == ["blog"]
    assert site.wait_for_job("blog", "succeeded", count=2)["new_revision"] == remote.tip()


def test_a_deploy_that_has_failed_for_good_is_not_tried_again_by_each_poll(site: Site) -> None:
    site.settings["retry"] = {"tries": 2, "delay": "100ms"}
    remote = site.add_repo("blog", deploy="exit 1")
    site.start()
    site.deliver("blog", remote.tip())
    site.wait_for_job("blog", "failed", count=2)
    site.wait_until_settled("blog")

    assert poll(site, 0)["moved"] == []


def test_repos_below_a_root_are_asked_too(site: Site) -> None:
    remote = Remote.create(site.root / "remotes" / "wiki")
    remote.push({".gitops": ""})
    root = site.root / "roots"
    root.mkdir()
    git(root, "clone", "--quiet", remote.url, "wiki")
    site.settings["roots"] = [str(root)]
    site.write_config()

    assert poll(site, 0) == {"asked": ["wiki"], "moved": ["wiki"], "problems": {}}


def test_the_catch_all_has_every_repo_synced(site: Site) -> None:
    blog, shop = site.add_repo("blog"), site.add_repo("shop")
    site.start()
    site.deliver("blog", blog.tip())
    site.wait_for_job("blog", "succeeded")

    jobs = site.json("catchall")["jobs"]

    assert [(job["repo"], job["trigger"], job["state"]) for job in jobs] == [
        ("blog", "timer", "pending"),
        ("shop", "timer", "pending"),
    ]
    assert site.wait_for_job("blog", "unchanged")["new_revision"] == blog.tip()
    assert site.wait_for_job("shop", "succeeded")["new_revision"] == shop.tip()


def test_the_catch_all_tries_again_what_was_refused(site: Site) -> None:
    remote = site.add_repo("blog")
    site.start()
    site.deliver("blog", remote.push({"page": "one"}))
    site.wait_for_job("blog", "succeeded")
    (site.checkout("blog") / "page").write_text("edited by hand")
    site.deliver("blog", remote.push({"page": "two"}))
    site.wait_for_job("blog", "refused")
    git(site.checkout("blog"), "checkout", "--quiet", "page")

    done = site.run("catchall")

    assert (done.returncode, done.stdout) == (0, "queued: job 3 of blog\n")
    assert site.wait_for_job("blog", "succeeded", count=2)["new_revision"] == remote.tip()


def test_without_a_repo_both_say_so_and_are_content(site: Site) -> None:
    assert site.run("poll").stdout == "remotes asked: 0; moved: none\n"
    assert site.run("catchall").stdout == "queued: nothing, no repo with a remote is configured\n"
    assert site.json("catchall") == {"jobs": []}


def test_a_broken_configuration_or_store_is_one_line_and_the_exit_code_says_which(site: Site) -> None:
    site.add_repo("blog")
    whole = site.config_path.read_text()
    for command in ("poll", "catchall"):
        site.config_path.write_text("colour: red\n")
        broken = site.run(command)
        assert (broken.returncode, broken.stdout, len(broken.stderr.splitlines())) == (78, "", 1)
        site.config_path.write_text(whole)
        site.state_dir.write_text("a file in the way")
        stuck = site.run(command)
        assert (stuck.returncode, stuck.stdout, len(stuck.stderr.splitlines())) == (1, "", 1)
        site.state_dir.unlink()
        assert site.run(command).returncode == 0
        shutil.rmtree(site.state_dir)
