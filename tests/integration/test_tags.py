"""Repos that follow tags: the highest version is deployed, whoever tells of it, and the commands name it."""

import json
from typing import Any

import pytest

from tests.remote import Remote
from tests.site import Site

DEPLOY = "git describe --tags > version"


@pytest.fixture
def remote(site: Site) -> Remote:
    """The remote of a repo that follows versions; there is one of them."""
    remote = site.add_repo("blog", deploy=DEPLOY, ref="v*")
    remote.tag("v1.0")
    return remote


def version(site: Site) -> str:
    return (site.checkout("blog") / "version").read_text().strip()


def test_a_webhook_of_a_tag_deploys_it_whether_it_has_a_message_or_not(site: Site, remote: Remote) -> None:
    site.start()
    answer = site.deliver("blog", remote.tag("v1.0"), ref="refs/tags/v1.0")
    assert answer.status == 202
    assert site.wait_for_job("blog", "succeeded")["new_revision"] == site.deployed("blog") == remote.tip()

    revision = remote.push()
    own_id = remote.tag("v1.1", "with a message")
    assert site.deliver("blog", own_id, ref="refs/tags/v1.1").status == 202

    job = site.wait_for_job("blog", "succeeded", count=2)
    assert (job["trigger"], job["ref"], job["new_revision"]) == ("webhook", "refs/tags/v1.1", revision)
    assert (site.deployed("blog"), version(site)) == (revision, "v1.1")


@pytest.mark.parametrize(
    ("ref", "revision", "reason"),
    [
        ("refs/heads/main", "1" * 40, "follows the tags v*, not refs/heads/main"),
        ("refs/tags/nightly", "1" * 40, "follows the tags v*, not refs/tags/nightly"),
        ("refs/tags/v2.0-rc1", "1" * 40, "a tag with a hyphen is followed only if the pattern has one"),
        ("refs/tags/v1.0", "0" * 40, "refs/tags/v1.0 was deleted; the checkout stays as it is"),
    ],
)
def test_a_webhook_of_anything_else_says_why_nothing_happens(
    site: Site, remote: Remote, ref: str, revision: str, reason: str
) -> None:
    site.start()

    answer = site.deliver("blog", revision, ref=ref)

    assert (answer.status, site.jobs("blog")) == (200, [])
    assert reason in answer.payload["reason"]
    assert reason in " ".join(site.run("why", "blog").stdout.split())


def test_an_older_version_that_is_pushed_late_changes_nothing(site: Site, remote: Remote) -> None:
    revision = remote.push()
    remote.tag("v2.0")
    site.start()
    site.deliver("blog", revision, ref="refs/tags/v2.0")
    site.wait_for_job("blog", "succeeded")
    remote.push()

    site.deliver("blog", remote.tag("v1.1", "a mended one"), ref="refs/tags/v1.1")

    assert site.wait_for_job("blog", "unchanged")["new_revision"] == revision
    assert version(site) == "v2.0"


def test_a_version_that_no_webhook_told_of_is_found_by_the_next_poll(site: Site, remote: Remote) -> None:
    def poll() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(site.run("poll", "--json").stdout)
        return found

    assert poll() == {"asked": ["blog"], "moved": ["blog"], "problems": {}}
    site.start()
    site.wait_for_job("blog", "succeeded")
    remote.push()
    assert poll()["moved"] == []

    revision = remote.push()
    remote.tag("v1.1", "with a message")

    assert poll()["moved"] == ["blog"]
    assert site.wait_for_job("blog", "succeeded", count=2)["revision"] == revision
    assert (site.deployed("blog"), poll()["moved"]) == (revision, [])


def test_the_commands_name_the_tags(site: Site, remote: Remote) -> None:
    assert f"✓ blog: remote {remote.url} v* (v1.0)" in "".join(site.run("check").stdout.splitlines())
    assert site.json("status")["repos"][0]["ref"] == "v*"
    assert f"blog  follows the tags v* of {remote.url} at " in "".join(site.run("why", "blog").stdout.splitlines())

    remote.delete_tag("v1.0")

    done = site.run("check")
    assert done.returncode == 78
    assert f"blog: remote {remote.url} v*: has no tag v*" in "".join(done.stdout.splitlines())


def test_a_repo_that_is_to_follow_tags_is_added_without_asking_for_a_branch(site: Site) -> None:
    remote = Remote.create(site.root / "remotes" / "shop")
    words = ("add", remote.url, "--name", "shop", "--path", str(site.checkout("shop")), "--ref", "v*")
    first = site.run(*words)
    assert first.returncode == 75
    assert "has no tag v*" in first.stdout
    remote.tag("v1.0")

    second = site.run(*words)

    assert second.returncode == 0, second.stdout
    assert "shop  follows the tags v* of" in second.stdout
    assert "ref: v*\n" in (site.root / "conf.d" / "shop.yaml").read_text()
    assert site.run("sync", "shop").returncode == 0
    assert site.deployed("shop") == remote.tip()


def test_a_branch_with_a_wildcard_is_no_pattern_of_tags(site: Site) -> None:
    done = site.run("add", "/srv/nowhere", "--name", "shop", "--ref", "refs/heads/v*")

    assert done.returncode == 78
    assert "repos.shop.ref: this text is not right; wanted: the branch to follow" in done.stderr
