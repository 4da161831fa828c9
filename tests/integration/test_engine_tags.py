"""Tags in the place of a branch: which one is the highest, what may follow it, and where the checkout stands."""

import shlex
from pathlib import Path

import pytest

from tests.engine import DEPLOY_FAILED, MISCONFIGURED
from tests.remote import Remote, git
from tests.strategies import Host, both_strategies, copy_of


@pytest.fixture(scope="session")
def first_remote(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    return Remote.create(tmp_path_factory.mktemp("remote"))


@pytest.fixture
def remote(tmp_path: Path, first_remote: Remote) -> Remote:
    return copy_of(first_remote, tmp_path)


@pytest.fixture
def strategy() -> str:
    return "in-place"


@pytest.fixture
def host(tmp_path: Path, remote: Remote, strategy: str) -> Host:
    """A host that follows versions, of which there is none yet."""
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    host.environment["GITOPSD_REF"] = "v*"
    return host


@pytest.fixture
def versions(host: Host) -> Host:
    """A host that stands at v1.0."""
    host.deployed(push_tag(host.remote, "v1.0"))
    return host


def push_tag(remote: Remote, *names: str, message: str = "") -> str:
    """A revision of its own with these tags."""
    revision = remote.push()
    for name in names:
        remote.tag(name, message)
    return revision


def delete_tag(remote: Remote, name: str) -> None:
    git(remote.bare, "tag", "--delete", name)


# Which one


@pytest.mark.parametrize(
    ("pattern", "tags", "highest"),
    [
        ("v*", "v1.9 v1.10 v1.2", "v1.10"),
        ("v*", "v1.10 v1.10-rc1 v1.11-rc1 v1.9", "v1.10"),
        ("v*-*", "v1.10 v1.11-rc1 v1.11-rc2 v1.11-rc10", "v1.11-rc10"),
        ("v1.11*-*", "v1.10-rc1 v1.11-rc1 v1.12-rc1", "v1.11-rc1"),
        ("**-*", "v1.11-rc1 v1.11 v1.10-rc1", "v1.11-rc1"),
        ("*", "2026.01.9 2026.01.10 2025.12.31", "2026.01.10"),
        ("v?", "v1 v2 v10", "v2"),
        ("v*", "v1 w2 web/v3 xv4", "v1"),
        ("web/v*", "v9 web/v1 web/v2 api/v3 web/old/v4", "web/v2"),
        ("my-app/v*", "my-app/v1.9 my-app/v1.10 my-app/v1.10-rc1", "my-app/v1.10"),
        ("*/v*", "v9 web/v1 api/v3 web/old/v4", "web/v1"),
        ("web/**", "v9 web/v1 web/w/v2", "web/w/v2"),
        ("refs/tags/v*", "v1 v2", "v2"),
        ("refs/tags/v1", "v1 v2 w/v1 v1.1", "v1"),
        ("refs/tags/v1-rc1", "v1-rc1 v1", "v1-rc1"),
        ("refs/tags/web/v1", "web/v1 web/v2 refs/tags/web/v1", "web/v1"),
    ],
)
def test_the_highest_version_is_deployed_and_the_deploy_is_told_its_name(
    host: Host, remote: Remote, pattern: str, tags: str, highest: str
) -> None:
    revisions = {tag: push_tag(remote, tag, message=tag * (number % 2)) for number, tag in enumerate(tags.split())}
    remote.push()
    told = host.directory / "told"
    words = ["sh", "-c", 'echo "$GITOPSD_REF" >"$1"; echo "$GITOPSD_NEW_REVISION" >>"$2"', "sh"]
    host.environment["GITOPSD_DEPLOY"] = shlex.join([*words, str(told), str(host.directory / "deploys")])
    host.deployed(revisions[highest], GITOPSD_REF=pattern)
    assert told.read_text().strip() == highest
    assert host.synced(GITOPSD_REF=pattern)["changed"] == "no"


@both_strategies
def test_the_next_version_is_deployed_and_commits_without_one_are_not(versions: Host, remote: Remote) -> None:
    remote.push()
    assert versions.synced()["changed"] == "no"
    versions.deployed(push_tag(remote, "v1.1", message="annotated"))
    assert len(versions.deploys) == 2
    if not versions.is_release:
        assert versions.git("branch", "--show-current") == ""


@both_strategies
@pytest.mark.parametrize("tags", ["", "w1", "v2/w v1-rc1"])
def test_without_a_tag_that_is_followed_it_is_refused(host: Host, remote: Remote, tags: str) -> None:
    for tag in tags.split():
        remote.tag(tag)
    host.in_vain("the remote has no tag v*: ")


@pytest.mark.parametrize("what", ["blob", "tree"])
def test_a_tag_of_what_is_no_commit_is_not_deployed(versions: Host, remote: Remote, what: str) -> None:
    git(remote.bare, "tag", "v2", "HEAD^{tree}" if what == "tree" else "HEAD:README")
    versions.to_try_again("v2 of ")


@pytest.mark.parametrize(
    "ref", ["v[12]*", "v\\*", "v*..", "refs/tags/", "refs/tags/v1.lock", "v *", "refs/notes/*", "refs/heads/v*"]
)
def test_what_is_no_pattern_of_tags_is_a_wrong_configuration(host: Host, ref: str) -> None:
    host.in_vain("GITOPSD_REF", code=MISCONFIGURED, GITOPSD_REF=ref)


# What may follow


@both_strategies
def test_a_tag_that_was_moved_is_refused_unless_history_may_be_rewound(versions: Host, remote: Remote) -> None:
    moved = push_tag(remote, "v1.0")
    versions.in_vain("history rewound: the tag v1.0 was ")
    versions.in_vain("history rewound: ", GITOPSD_FORCE="yes")
    versions.deployed(moved, GITOPSD_REWIND="allow")


@both_strategies
def test_a_highest_tag_that_was_deleted_is_refused_unless_history_may_be_rewound(
    versions: Host, remote: Remote
) -> None:
    first = versions.standing
    versions.deployed(push_tag(remote, "v1.1"))
    delete_tag(remote, "v1.1")
    versions.in_vain("history rewound: v1.1 is deployed, and the highest version on the remote is v1.0")
    versions.deployed(first, GITOPSD_REWIND="allow")
    versions.deployed(push_tag(remote, "v1.2"))


def test_the_last_tag_that_was_deleted_is_refused(versions: Host, remote: Remote) -> None:
    delete_tag(remote, "v1.0")
    versions.in_vain("the remote has no tag v*")


def test_a_tag_may_be_given_a_message_or_another_tag_beside_it(versions: Host, remote: Remote) -> None:
    remote.tag("v1.0", "now with a message")
    assert versions.synced()["changed"] == "no"
    remote.tag("v1.0.0")
    assert versions.synced()["changed"] == "no"
    delete_tag(remote, "v1.0.0")
    versions.in_vain("history rewound: v1.0.0 is deployed, and the highest version on the remote is v1.0")


@both_strategies
@pytest.mark.parametrize(
    ("pattern", "before", "after"),
    [
        ("v*", "v1.9", "v1.10"),
        ("v*-*", "v1.10-rc1", "v1.10-rc2"),
        ("my-app/v*", "my-app/v1.10-rc1", "my-app/v1.10"),
        ("v*", "v1.0.1", "v1.0a"),
    ],
)
def test_a_version_may_take_the_place_of_a_lower_one_also_of_one_that_is_gone(
    host: Host, remote: Remote, pattern: str, before: str, after: str
) -> None:
    host.environment["GITOPSD_REF"] = pattern
    host.deployed(push_tag(remote, before))
    revision = push_tag(remote, after)
    if after != "v1.0a":  # what is the highest of those that are there is git's to say
        delete_tag(remote, before)
    host.deployed(revision)


def test_versions_need_not_descend_from_one_another(versions: Host, remote: Remote) -> None:
    git(remote.work, "checkout", "--quiet", "--orphan", "other")
    versions.deployed(push_tag(remote, "v1.1"))


@both_strategies
def test_another_pattern_is_followed_also_to_a_lower_version(host: Host, remote: Remote) -> None:
    old = push_tag(remote, "v1.9")
    new = push_tag(remote, "v2.0")
    host.deployed(new)
    host.deployed(old, GITOPSD_REF="v1.*")
    host.deployed(new, GITOPSD_REF="v2.*")
    host.deployed(old, GITOPSD_REF="refs/tags/v1.9")


@both_strategies
@pytest.mark.parametrize("taken_back", ["moved", "deleted"])
def test_a_version_that_was_never_deployed_well_may_be_taken_back(
    versions: Host, remote: Remote, taken_back: str
) -> None:
    first = versions.standing
    push_tag(remote, "v1.1")
    assert versions.sync(GITOPSD_DEPLOY="false").code == DEPLOY_FAILED
    git(remote.work, "reset", "--quiet", "--hard", first)
    if taken_back == "moved":
        versions.deployed(push_tag(remote, "v1.1"))
    else:
        delete_tag(remote, "v1.1")
        versions.deployed(first)


# Where the checkout stands


def test_a_clean_checkout_goes_from_a_branch_to_tags_and_back(host: Host, remote: Remote) -> None:
    tagged = push_tag(remote, "v1.0")
    tip = remote.push()
    host.deployed(tip, GITOPSD_REF="main")
    host.deployed(tagged)
    assert host.git("branch", "--show-current") == ""
    host.deployed(tip, GITOPSD_REF="main")
    host.assert_stands_at(tip)
    assert host.git("status", "--short", "--branch") == "## main...origin/main"


def test_a_checkout_on_a_branch_of_somebodys_is_refused(versions: Host, remote: Remote) -> None:
    versions.git("checkout", "--quiet", "-b", "mine")
    versions.git("commit", "--quiet", "--allow-empty", "-m", "work")
    push_tag(remote, "v1.1")
    versions.in_vain("other branch: ")


def test_local_commits_on_no_branch_are_refused_or_saved(versions: Host, remote: Remote) -> None:
    versions.write("README", "mine\n")
    versions.git("commit", "--quiet", "-a", "-m", "work")
    mine = versions.git("rev-parse", "HEAD")
    revision = push_tag(remote, "v1.1")
    assert "work" in versions.in_vain("local commits: 1 ")["reason"]
    run = versions.deployed(revision, GITOPSD_LOCAL_CHANGES="rescue")
    assert versions.git("rev-parse", run["rescued"]) == mine


def test_another_tag_that_somebody_checked_out_is_no_local_commit(versions: Host, remote: Remote) -> None:
    other = push_tag(remote, "w1")
    revision = push_tag(remote, "v1.1")
    versions.git("fetch", "--quiet", "--tags", "origin")
    versions.git("checkout", "--quiet", other)
    versions.deployed(revision)


def test_local_changes_are_refused(versions: Host, remote: Remote) -> None:
    push_tag(remote, "v1.1")
    versions.write("README", "mine\n")
    versions.in_vain("local changes: 1 ")


@both_strategies
def test_a_rollback_and_the_way_back_to_the_highest_version(versions: Host, remote: Remote) -> None:
    first = versions.standing
    second = push_tag(remote, "v1.1")
    versions.deployed(second)
    kept = remote.bare.rename(versions.directory / "gone")
    versions.deployed(first, GITOPSD_REVISION=first)
    kept.rename(remote.bare)
    versions.deployed(second)
