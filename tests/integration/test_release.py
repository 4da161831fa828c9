"""Releases: each revision in a tree of its own, one rename from the next, and nothing that anybody made is lost."""

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.engine import DEPLOY_FAILED, MISCONFIGURED, REFUSED, TRY_AGAIN, Run, Site
from tests.remote import Remote, git, git_environment
from tests.strategies import Host, both_strategies, copy_of


@pytest.fixture(scope="session")
def first_remote(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    return Remote.create(tmp_path_factory.mktemp("remote"))


@pytest.fixture
def remote(tmp_path: Path, first_remote: Remote) -> Remote:
    return copy_of(first_remote, tmp_path)


@pytest.fixture
def host(tmp_path: Path, remote: Remote) -> Host:
    return Host(directory=tmp_path, remote=remote, strategy="release")


@pytest.fixture
def released(host: Host) -> Host:
    """A host with one release."""
    host.synced()
    return host


def in_shell(script: str, *arguments: object) -> str:
    """A command of the repo that runs this, with what follows as $1 and so on."""
    return shlex.join(["sh", "-c", script, "sh", *map(str, arguments)])


def read_below(directory: int, name: str) -> bytes:
    """The content of a short file below an open directory."""
    file = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)


def commit_in(tree: Path, name: str, content: str) -> str:
    (tree / name).write_text(content)
    git(tree, "add", "--force", name)
    git(tree, "commit", "--quiet", "-m", f"{name}, by an operator")
    return git(tree, "rev-parse", "HEAD")


def push_often(host: Host) -> Run:
    """Push and sync until none of the releases that were there is to be kept; the last run."""
    for _ in range(2):
        host.remote.push()
        host.synced(GITOPSD_KEEP="2")
    host.remote.push()
    return host.synced(GITOPSD_KEEP="2")


def push_until_pruned(host: Host, tree: Path) -> None:
    push_often(host)
    assert not tree.exists()


# The first one


def test_the_first_release_is_a_tree_of_its_own_that_a_symlink_leads_to(host: Host, remote: Remote) -> None:
    run = host.synced()
    assert run.phases == ["prepare", "fetch", "select", "stage", "activate", "deploy", "prune"]
    assert (run["old_revision"], run["new_revision"], run["changed"]) == ("", remote.tip(), "yes")
    (tree,) = host.releases
    assert tree.name.endswith(f"Z-{remote.tip()[:12]}")
    assert host.path.is_symlink()
    assert host.path.resolve() == tree
    assert (host.path / "README").read_text() == "A remote for tests.\n"
    host.is_at(remote.tip())
    host.is_in_order()


def test_nothing_happens_when_nothing_changed(released: Host) -> None:
    live = released.live()
    run = released.synced()
    assert run["changed"] == "no"
    assert run.phases == ["prepare", "fetch", "select"]
    assert released.live() == live
    assert len(released.deploys) == 1


def test_the_symlink_is_relative_so_that_what_is_around_it_can_be_moved(released: Host) -> None:
    assert not released.path.readlink().is_absolute()
    moved = released.path.parent.rename(released.directory / "elsewhere")
    assert (moved / "blog" / "README").exists()


def test_an_empty_directory_at_its_place_becomes_the_symlink(host: Host, remote: Remote) -> None:
    host.path.mkdir(parents=True)
    host.synced()
    host.is_at(remote.tip())
    assert host.path.is_symlink()


@pytest.mark.parametrize("what", ["directory", "file", "symlink", "dangling symlink"])
def test_what_is_in_the_way_of_the_symlink_is_refused_and_left_alone(host: Host, what: str) -> None:
    host.path.parent.mkdir(parents=True)
    mine = host.directory / "mine"
    if what == "directory":
        host.path.mkdir()
        host.write("index.html", "mine")
    elif what == "file":
        host.path.write_text("mine")
    else:
        host.path.symlink_to(mine)
    if what == "symlink":
        mine.mkdir()
        (mine / "index.html").write_text("mine")
    before = host.path.lstat()
    run = host.sync()
    assert run.code == REFUSED
    assert "in the way" in run["reason"]
    assert host.path.lstat() == before
    assert host.deploys == []
    assert not host.releases


def test_a_checkout_in_the_place_of_the_symlink_is_refused_and_left_alone(released: Host, tmp_path: Path) -> None:
    site = Site(directory=tmp_path / "other", remote=released.remote)
    site.path.parent.mkdir(parents=True)
    site.synced()
    state = site.state()
    site.environment |= released.environment
    site.refused("is in the way")
    assert site.state() == state


@pytest.mark.parametrize("name", ["blög with spaces", "'own' \"place\"", "$(false) *", "-n"])
def test_paths_with_spaces_quotes_and_unicode_work(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    host = Host(directory=tmp_path / name, remote=Remote.create(tmp_path / name), strategy="release")
    path = host.path.parent / name
    host.environment |= {"GITOPSD_PATH": str(path), "GITOPSD_KEEP": "2"}
    for number in range(3):
        host.remote.push({"ein Büro/ä b.txt": f"{number}\n"})
        host.synced()
        assert (path / "ein Büro" / "ä b.txt").read_text() == f"{number}\n"
    assert len(list(path.resolve().parent.iterdir())) == 2


def test_a_sha256_remote_works(tmp_path: Path) -> None:
    remote = Remote.create(tmp_path, object_format="sha256")
    host = Host(directory=tmp_path, remote=remote, strategy="release")
    host.deployed(remote.tip())
    assert len(remote.push()) == 64
    host.deployed(remote.tip())
    host.is_in_order()


def test_a_release_can_be_the_neighbour_of_another(released: Host, tmp_path: Path) -> None:
    other = released.path.parent / "wiki"
    environment = {"GITOPSD_PATH": str(other)}
    assert released.sync("wiki", **environment).code == 0
    released.remote.push()
    assert released.sync("wiki", **environment).code == 0
    assert (other / "README").exists()
    released.is_in_order()
    released.deployed(released.remote.tip())


# The next one


def test_the_next_release_leaves_the_tree_of_the_last_as_it_is(released: Host, remote: Remote) -> None:
    old, before = remote.tip(), released.path.resolve()
    new = remote.push({"README": "new\n"})
    run = released.deployed(new)
    assert (run["old_revision"], run["new_revision"], run["changed"]) == (old, new, "yes")
    assert run.phases == ["prepare", "fetch", "select", "stage", "activate", "deploy", "prune"]
    assert released.releases == [before, released.path.resolve()]
    assert (before / "README").read_text() == "A remote for tests.\n"
    assert git(before, "status", "--porcelain") == ""
    assert released.deploys == [old, new]


def test_a_process_in_the_old_release_goes_on_working_there(released: Host, remote: Remote) -> None:
    inside = os.open(released.path, os.O_DIRECTORY)
    try:
        remote.push({"README": "new\n"})
        released.synced()
        assert read_below(inside, "README") == b"A remote for tests.\n"
    finally:
        os.close(inside)


def test_the_deploy_works_in_the_release_and_is_told_the_path_that_stays(released: Host, remote: Remote) -> None:
    old, new = remote.tip(), remote.push()
    run = released.synced(GITOPSD_DEPLOY="sh -c 'echo in $(pwd -P); pwd; env'")
    lines = run.stdout.splitlines()
    for line in (f"in {released.path.resolve()}", str(released.path), f"GITOPSD_PATH={released.path}"):
        assert line in lines
    assert f"GITOPSD_OLD_REVISION={old}" in lines
    assert f"GITOPSD_NEW_REVISION={new}" in lines
    assert not [line for line in lines if line.startswith(("GIT_DIR=", "GITOPSD_OUTPUT=", "GITOPSD_KEEP="))]


@pytest.mark.parametrize("keep", [2, 3, 5])
def test_as_many_releases_stay_as_are_to_be_kept(host: Host, remote: Remote, keep: int) -> None:
    pushed = [remote.tip()]
    for _ in range(keep + 2):
        host.synced(GITOPSD_KEEP=str(keep))
        pushed.append(remote.push())
    host.deployed(pushed[-1], GITOPSD_KEEP=str(keep))
    assert [git(tree, "rev-parse", "HEAD") for tree in host.releases] == pushed[-keep:]
    host.is_in_order()


def test_fewer_releases_to_keep_are_pruned_at_the_next_change(released: Host, remote: Remote) -> None:
    for _ in range(4):
        remote.push()
        released.synced(GITOPSD_KEEP="5")
    remote.push()
    released.synced(GITOPSD_KEEP="2")
    assert len(released.releases) == 2


@pytest.mark.parametrize("keep", ["0", "1", "-1", "two"])
def test_fewer_than_two_releases_cannot_be_kept(released: Host, keep: str) -> None:
    run = released.in_vain("GITOPSD_KEEP", code=MISCONFIGURED, GITOPSD_KEEP=keep)
    assert "from 2" in run["reason"]


def test_a_revision_that_was_deployed_before_goes_live_again_from_its_tree(released: Host, remote: Remote) -> None:
    first, tree = remote.tip(), released.path.resolve()
    remote.push()
    released.synced()
    released.deployed(first, GITOPSD_REVISION=first)
    assert released.path.resolve() == tree
    assert len(released.releases) == 2


def test_a_forced_sync_deploys_the_standing_release_again_where_it_is(released: Host, remote: Remote) -> None:
    live = released.live()
    run = released.synced(GITOPSD_FORCE="yes")
    assert run["changed"] == "yes"
    assert released.live() == live
    assert released.deploys == [remote.tip()] * 2
    assert len(released.releases) == 1


def test_a_forced_sync_makes_no_second_tree_where_the_deploy_edits_its_own(host: Host, remote: Remote) -> None:
    deploy = in_shell('echo edited >README; echo "$GITOPSD_NEW_REVISION" >>"$1"', host.directory / "deploys")
    for _ in range(3):
        host.synced(GITOPSD_FORCE="yes", GITOPSD_DEPLOY=deploy)
    assert len(host.releases) == 1
    assert host.deploys == [remote.tip()] * 3


def test_a_failed_deploy_is_run_again_in_its_release(released: Host, remote: Remote) -> None:
    old, new = remote.tip(), remote.push()
    assert released.sync(GITOPSD_DEPLOY="false").code == DEPLOY_FAILED
    assert released.standing == new
    assert released.ask("rev-parse", "refs/gitopsd/deployed") == old
    tree = released.path.resolve()
    run = released.synced()
    assert (run["old_revision"], run["changed"]) == (old, "yes")
    assert released.path.resolve() == tree
    released.is_at(new)


def test_releases_whose_deploy_failed_crowd_out_none_that_was_good(released: Host, remote: Remote) -> None:
    good = [remote.tip(), remote.push()]
    released.synced()
    for _ in range(4):
        remote.push()
        assert released.sync(GITOPSD_DEPLOY="false").code == DEPLOY_FAILED
    assert [git(tree, "rev-parse", "HEAD") for tree in released.releases] == [*good, remote.tip()]
    released.is_in_order()


# What changes around it


def test_a_remote_that_moved_is_followed(released: Host, remote: Remote) -> None:
    remote.bare.rename(released.directory / "moved.git")
    url = str(released.directory / "moved.git")
    released.in_vain("does not appear", code=TRY_AGAIN)
    released.synced(GITOPSD_URL=url)
    git(remote.work, "commit", "--quiet", "--allow-empty", "-m", "change")
    git(remote.work, "push", "--quiet", url, "HEAD:main")
    released.synced(GITOPSD_URL=url)
    assert released.standing == git(remote.work, "rev-parse", "HEAD")


def test_another_repository_in_the_place_of_the_remote_is_a_rewound_history(released: Host, tmp_path: Path) -> None:
    other = Remote.create(tmp_path / "other")
    released.in_vain("history rewound", GITOPSD_URL=other.url)
    released.deployed(other.tip(), GITOPSD_URL=other.url, GITOPSD_REWIND="allow")


def test_another_path_gets_the_next_release_and_the_old_one_stays_as_it_is(released: Host, remote: Remote) -> None:
    new = remote.push({"README": "new\n"})
    other = released.directory / "www" / "site"
    released.synced(GITOPSD_PATH=str(other))
    assert git(other, "rev-parse", "HEAD") == new
    assert (released.path / "README").read_text() == "A remote for tests.\n"
    assert git(released.path, "status", "--porcelain") == ""


def test_a_mirror_that_was_moved_away_is_made_anew_and_no_tree_is_touched(released: Host, remote: Remote) -> None:
    before = released.path.resolve()
    (before / "README").write_text("an edit\n")
    (before / "notes").write_text("mine\n")
    released.git_dir.rename(released.directory / "moved away")
    released.deployed(remote.tip())
    assert released.path.resolve() != before
    push_often(released)
    assert (before / "README").read_text() == "an edit\n"
    assert (before / "notes").read_text() == "mine\n"


def test_a_mirror_that_is_broken_is_refused_and_what_is_live_stays(released: Host) -> None:
    (released.git_dir / "HEAD").write_text("garbage")
    released.in_vain("is no repository that git can use")


def test_a_live_release_that_was_removed_by_hand_is_staged_again(released: Host, remote: Remote) -> None:
    subprocess.run(["rm", "-r", "--", str(released.path.resolve())], check=True)
    released.deployed(remote.tip())
    released.is_in_order()


def test_all_releases_may_be_removed_by_hand(released: Host, remote: Remote) -> None:
    remote.push()
    released.synced()
    subprocess.run(["rm", "-r", "--", str(released.releases[0].parent)], check=True)
    released.deployed(remote.tip())
    released.is_in_order()


def test_a_symlink_that_was_removed_by_hand_leads_to_the_same_tree_again(released: Host, remote: Remote) -> None:
    tree = released.path.resolve()
    released.path.unlink()
    released.deployed(remote.tip())
    assert released.path.resolve() == tree


def test_a_live_release_that_git_no_longer_knows_is_no_release_and_stays(released: Host, remote: Remote) -> None:
    tree = released.path.resolve()
    (tree / ".git").unlink()
    (tree / "notes").write_text("mine\n")
    released.deployed(remote.tip())
    push_often(released)
    assert (tree / "notes").read_text() == "mine\n"


def test_a_copy_that_somebody_made_of_a_release_is_left_alone(released: Host) -> None:
    copy = released.path.resolve().with_name("99990101T000000.000000Z-before-i-try-it")
    subprocess.run(["cp", "-a", "--", str(released.path.resolve()), str(copy)], check=True)
    (copy / "notes").write_text("mine\n")
    push_often(released)
    assert (copy / "notes").read_text() == "mine\n"


def test_an_empty_directory_among_the_releases_is_cleared_away(released: Host) -> None:
    (released.releases[0].parent / "20200101T000000.000000Z-000000000000").mkdir()
    released.synced()
    assert len(released.releases) == 1


# A remote that went back


def test_a_rewound_history_is_refused_until_the_operator_follows_it(released: Host, remote: Remote) -> None:
    old = remote.push()
    released.synced()
    new = remote.rewind(1, {"page": "other\n"})
    reason = released.in_vain("history rewound: ")["reason"]
    assert old[:12] in reason
    assert new[:12] in reason
    assert "rewind: allow" in reason
    command = reason.partition("run: ")[2]
    subprocess.run(shlex.split(command), env=git_environment(), check=True, capture_output=True)
    released.deployed(new)


def test_a_rewound_history_is_followed_where_that_is_allowed(released: Host, remote: Remote) -> None:
    first = remote.tip()
    remote.push()
    released.synced()
    remote.rewind()
    released.deployed(first, GITOPSD_REWIND="allow")
    assert len(released.releases) == 2


def test_what_never_came_to_a_good_end_may_be_taken_back_on_the_remote(released: Host, remote: Remote) -> None:
    remote.push()
    assert released.sync(GITOPSD_DEPLOY="false").code == DEPLOY_FAILED
    released.deployed(remote.rewind(1, {"page": "the fix\n"}))


# Drift


def test_drift_is_nobodys_business_unless_it_is_asked_for(released: Host) -> None:
    (released.path / "README").write_text("an edit\n")
    assert released.synced()["changed"] == "no"
    assert (released.path / "README").read_text() == "an edit\n"


@pytest.mark.parametrize("how", ["edit", "removal", "mode"])
def test_drift_is_reported_and_left_as_it_is(released: Host, how: str) -> None:
    readme = released.path / "README"
    drift_apart(readme, how)
    reason = released.in_vain("drift: 1 files in ", GITOPSD_DRIFT="report")["reason"]
    assert "README" in reason
    command = reason.partition("put them back with: ")[2]
    subprocess.run(shlex.split(command), env=git_environment(), check=True, capture_output=True)
    assert released.synced(GITOPSD_DRIFT="report")["changed"] == "no"


def drift_apart(file: Path, how: str) -> None:
    if how == "edit":
        file.write_text("an edit\n")
    elif how == "removal":
        file.unlink()
    else:
        file.chmod(0o755)


@pytest.mark.parametrize("how", ["edit", "removal", "mode"])
def test_drift_is_repaired_by_a_whole_tree_and_deployed(released: Host, remote: Remote, how: str) -> None:
    drifted = released.path.resolve()
    drift_apart(drifted / "README", how)
    run = released.deployed(remote.tip(), GITOPSD_DRIFT="repair")
    assert run["changed"] == "yes"
    assert released.path.resolve() != drifted
    assert (released.path / "README").read_text() == "A remote for tests.\n"
    assert released.deploys == [remote.tip()] * 2
    assert released.synced(GITOPSD_DRIFT="repair")["changed"] == "no"


def test_what_drifts_again_and_again_takes_no_more_room_than_releases_do(released: Host, remote: Remote) -> None:
    for number in range(6):
        (released.path / "README").write_text(f"edit {number}\n")
        released.deployed(remote.tip(), GITOPSD_DRIFT="repair", GITOPSD_KEEP="2")
    assert len(released.releases) <= 3
    kept = {(tree / "README").read_text() for tree in released.releases}
    assert kept | found_in_rescues(released, "README") >= {f"edit {number}\n" for number in range(6)}


def found_in_rescues(host: Host, name: str) -> set[str]:
    """What the saved commits hold under this name."""
    found = set()
    for ref in host.rescues:
        with contextlib.suppress(AssertionError):  # not in this one
            found.add(host.ask("cat-file", "blob", f"{ref}:{name}") + "\n")
    return found


# What somebody did in a release is saved when it goes


@pytest.fixture
def inhabited(host: Host, remote: Remote) -> Host:
    """A host whose deploys make files of their own in their release, ignored ones and others."""
    remote.push({".gitignore": "*.log\nbuild/\n", "page": "1\n", "sub/page": "1\n"})
    script = 'mkdir build; echo >build/made; echo >made.txt; echo >made.log; echo "$GITOPSD_NEW_REVISION" >>"$1"'
    host.environment |= {"GITOPSD_DEPLOY": in_shell(script, host.directory / "deploys"), "GITOPSD_KEEP": "2"}
    host.synced()
    return host


def test_what_the_deploy_itself_made_goes_with_its_release(inhabited: Host) -> None:
    push_until_pruned(inhabited, inhabited.path.resolve())
    assert inhabited.rescues == []
    inhabited.is_in_order()


def test_what_the_deploy_has_linked_from_elsewhere_goes_with_its_release(inhabited: Host) -> None:
    store = inhabited.directory / "store"
    store.write_text("a package\n")
    inhabited.environment["GITOPSD_DEPLOY"] = in_shell('mkdir -p build && ln "$1" build/package', store)
    inhabited.remote.push()
    inhabited.synced()
    push_until_pruned(inhabited, inhabited.path.resolve())
    assert inhabited.rescues == []


def test_what_a_deploy_that_failed_made_goes_with_its_release(inhabited: Host, remote: Remote) -> None:
    for _ in range(3):
        remote.push()
        deploy = "sh -c 'mkdir build; echo >build/made; echo >made.txt; exit 1'"
        assert inhabited.sync(GITOPSD_DEPLOY=deploy).code == DEPLOY_FAILED
    assert len(inhabited.releases) == 2
    assert inhabited.rescues == []


def test_what_an_operator_put_there_so_that_the_deploy_works_is_saved(inhabited: Host, remote: Remote) -> None:
    remote.push()
    assert inhabited.sync(GITOPSD_DEPLOY="sh -c 'mkdir build; test -e needed.log'").code == DEPLOY_FAILED
    inhabited.write("needed.log", "mine\n")
    inhabited.synced(GITOPSD_DEPLOY="test -e needed.log")
    push_until_pruned(inhabited, inhabited.path.resolve())
    assert found_in_rescues(inhabited, "needed.log") == {"mine\n"}


def test_what_an_operator_put_there_after_a_deploy_was_killed_is_saved(inhabited: Host, remote: Remote) -> None:
    remote.push()
    assert inhabited.sync(GITOPSD_DEPLOY="sh -c 'kill -KILL 0'").code == -signal.SIGKILL
    inhabited.write("needed.log", "mine\n")
    inhabited.synced(GITOPSD_DEPLOY="test -e needed.log")
    push_until_pruned(inhabited, inhabited.path.resolve())
    assert found_in_rescues(inhabited, "needed.log") == {"mine\n"}


@pytest.mark.parametrize("force", [None, "yes"])
def test_syncs_in_between_make_nothing_the_deploys_own(inhabited: Host, force: str | None) -> None:
    tree = inhabited.path.resolve()
    (tree / "notes").write_text("mine\n")
    inhabited.synced(GITOPSD_FORCE=force, GITOPSD_DEPLOY="true")
    push_until_pruned(inhabited, tree)
    assert found_in_rescues(inhabited, "notes") == {"mine\n"}


@pytest.mark.parametrize("name", ["page", "notes", "new/notes", "sub/notes", "notes.log", "build/notes", "made.txt"])
def test_what_was_written_into_a_release_after_its_deploy_is_saved(inhabited: Host, name: str) -> None:
    tree = inhabited.path.resolve()
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text("mine\n")
    push_until_pruned(inhabited, tree)
    (rescue,) = inhabited.rescues
    assert inhabited.ask("diff-tree", "-r", "--name-only", f"{rescue}^", rescue) == name
    assert inhabited.ask("show", f"{rescue}:{name}") == "mine"


def test_a_directory_that_was_moved_into_a_release_is_saved(inhabited: Host, tmp_path: Path) -> None:
    tree = inhabited.path.resolve()
    uploads = tmp_path / "uploads"
    (uploads / "2026").mkdir(parents=True)
    (uploads / "2026" / "photo.log").write_text("mine\n")
    for file in (uploads / "2026" / "photo.log", uploads / "2026", uploads):
        os.utime(file, (0, 0))
    inhabited.remote.push()
    inhabited.synced()
    uploads.rename(inhabited.path.resolve() / "uploads")
    push_until_pruned(inhabited, inhabited.path.resolve())
    (rescue,) = inhabited.rescues
    assert not tree.exists()
    assert inhabited.ask("show", f"{rescue}:uploads/2026/photo.log") == "mine"


def test_a_staged_change_is_saved_beside_what_came_over_it(inhabited: Host) -> None:
    tree = inhabited.path.resolve()
    (tree / "page").write_text("staged\n")
    git(tree, "add", "page")
    (tree / "page").write_text("mine\n")
    push_until_pruned(inhabited, tree)
    (rescue,) = inhabited.rescues
    assert inhabited.ask("show", f"{rescue}:page") == "mine"
    assert inhabited.ask("show", f"{rescue}^2:page") == "staged"


@pytest.mark.parametrize("branch", [False, True])
def test_commits_that_were_made_in_a_release_are_saved(inhabited: Host, *, branch: bool) -> None:
    tree = inhabited.path.resolve()
    if branch:
        git(tree, "checkout", "--quiet", "-b", "mine")
    made = commit_in(tree, "page", "mine\n")
    (tree / "page").write_text("more\n")
    push_until_pruned(inhabited, tree)
    assert {inhabited.ask("rev-parse", ref) for ref in inhabited.rescues} >= {made}
    assert found_in_rescues(inhabited, "page") == {"mine\n", "more\n"}
    assert not branch or inhabited.ask("rev-parse", "mine") == made


def test_a_release_with_a_conflict_in_it_stays(inhabited: Host) -> None:
    tree = inhabited.path.resolve()
    git(tree, "checkout", "--quiet", "-b", "side")
    commit_in(tree, "page", "side\n")
    git(tree, "checkout", "--quiet", "--detach", "HEAD~1")
    commit_in(tree, "page", "other\n")
    with pytest.raises(AssertionError, match="exited with 1"):
        git(tree, "merge", "--quiet", "side")
    push_often(inhabited)
    assert "<<<<<<<" in (tree / "page").read_text()
    assert len(inhabited.releases) == 3


def test_a_release_with_a_repository_in_it_that_came_after_its_deploy_stays(inhabited: Host) -> None:
    tree = inhabited.path.resolve()
    git(tree, "init", "--quiet", "mine")
    commit_in(tree / "mine", "page", "mine\n")
    run = push_often(inhabited)
    assert f"{tree} stays" in run.stdout
    assert git(tree / "mine", "show", "HEAD:page") == "mine"
    assert len(inhabited.releases) == 3


@pytest.mark.parametrize("how", ["untouched", "commit", "edit"])
def test_a_repository_that_the_deploy_made_goes_unless_somebody_worked_in_it(released: Host, how: str) -> None:
    script = 'test -d made || git clone --quiet "$1" made'
    released.environment |= {"GITOPSD_DEPLOY": in_shell(script, released.remote.url), "GITOPSD_KEEP": "2"}
    released.remote.push()
    released.synced()
    tree = released.path.resolve()
    if how == "commit":
        commit_in(tree / "made", "README", "mine\n")
    elif how == "edit":
        (tree / "made" / "README").write_text("mine\n")
    push_often(released)
    assert tree.exists() == (how != "untouched")


# Submodules


@pytest.fixture
def module(host: Host, remote: Remote, tmp_path: Path) -> Remote:
    """A repository that is a submodule of the host's, which has one release."""
    module = Remote.create(tmp_path / "module")
    configuration = tmp_path / "gitconfig"
    configuration.write_text("[protocol.file]\nallow = always\n")
    host.environment |= {
        "GIT_CONFIG_GLOBAL": str(configuration),
        "GITOPSD_SUBMODULES": "yes",
        "GITOPSD_KEEP": "2",
    }
    git(remote.work, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", module.url, "theme")
    remote.push({"page": "1\n"})
    host.synced()
    return module


def test_submodules_are_in_a_release_before_it_goes_live(host: Host, module: Remote) -> None:
    assert (host.path / "theme" / "README").exists()
    seen = host.directory / "seen"
    host.remote.push()
    host.synced(GITOPSD_GATE=in_shell('cat theme/README >"$1"', seen))
    assert seen.read_text() == "A remote for tests.\n"
    host.is_at(host.remote.tip())


def test_releases_with_submodules_are_pruned(host: Host, module: Remote) -> None:
    push_until_pruned(host, host.path.resolve())
    host.is_in_order()
    assert host.rescues == []


def test_what_the_deploy_made_in_a_submodule_goes_with_its_release(host: Host, module: Remote) -> None:
    host.remote.push()
    host.synced(GITOPSD_DEPLOY="sh -c 'echo >theme/made; echo >theme/README'")
    push_until_pruned(host, host.path.resolve())
    assert len(host.releases) == 2


@pytest.mark.parametrize("how", ["edit", "untracked", "ignored", "commit", "commit elsewhere", "stash", "overlooked"])
def test_a_release_whose_submodule_somebody_worked_in_stays(host: Host, module: Remote, how: str) -> None:
    tree = host.path.resolve()
    theme = tree / "theme"
    if how in {"commit", "commit elsewhere"}:
        commit_in(theme, "page", "mine\n")
        if how == "commit elsewhere":
            git(theme, "checkout", "--quiet", "-B", "mine")
            git(theme, "checkout", "--quiet", "--detach", "HEAD~1")
    elif how == "ignored":
        (tree / ".git").read_text()
        (Path(git(theme, "rev-parse", "--absolute-git-dir")) / "info" / "exclude").write_text("page\n")
        (theme / "page").write_text("mine\n")
    elif how == "untracked":
        (theme / "page").write_text("mine\n")
    else:
        (theme / "README").write_text("mine\n")
        if how == "stash":
            git(theme, "stash", "--quiet")
        elif how == "overlooked":
            git(theme, "update-index", "--assume-unchanged", "README")
    run = push_often(host)
    assert f"{tree} stays" in run.stdout
    assert theme.exists()


# The gate


@both_strategies
def test_a_gate_that_fails_keeps_the_revision_from_what_is_live(tmp_path: Path, remote: Remote, strategy: str) -> None:
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    host.synced()
    new = remote.push({"README": "new\n"})
    run = host.in_vain("gate: sh exited with 3", code=DEPLOY_FAILED, GITOPSD_GATE="sh -c 'exit 3'")
    assert run.phases[-1] == "stage"
    assert host.deployed(new)["changed"] == "yes"
    trees = git(host.git_dir, "worktree", "list", "--porcelain")
    assert trees.count("worktree ") == (3 if host.is_release else 1)
    assert len(host.releases) == (2 if host.is_release else 0)


def test_a_tree_that_did_not_pass_the_gate_is_gone_at_the_next_sync(released: Host, remote: Remote) -> None:
    remote.push()
    assert released.sync(GITOPSD_GATE="false").code == DEPLOY_FAILED
    assert len(released.releases) == 2
    remote.rewind()
    assert released.synced()["changed"] == "no"
    assert len(released.releases) == 1
    released.is_in_order()


@both_strategies
def test_a_gate_sees_the_new_tree_while_the_old_one_is_live(tmp_path: Path, remote: Remote, strategy: str) -> None:
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    host.synced()
    new = remote.push({"README": "new\n"})
    gate = in_shell('cat README "$1"/README; pwd; echo "at $GITOPSD_PATH"; echo >left-behind', host.path)
    run = host.synced(GITOPSD_GATE=gate)
    lines = run.stdout.splitlines()
    start = lines.index("stage: gate: sh")
    assert lines[start + 1 : start + 3] == ["new", "A remote for tests."]
    where = Path(lines[start + 3])
    assert lines[start + 4] == f"at {where}"
    assert where != host.path
    assert where.exists() == host.is_release
    assert host.standing == new
    assert (host.path / "left-behind").exists() == host.is_release
    assert git(host.git_dir, "worktree", "list", "--porcelain").count("worktree ") == (3 if host.is_release else 1)


@both_strategies
def test_the_gate_is_asked_before_a_first_activation(tmp_path: Path, remote: Remote, strategy: str) -> None:
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    assert host.sync(GITOPSD_GATE="false").code == DEPLOY_FAILED
    assert not (host.path / "README").exists()
    assert host.deploys == []
    host.synced(GITOPSD_GATE="true")
    assert host.standing == remote.tip()


def test_edits_in_a_checkout_stay_where_they_are_when_the_gate_fails(tmp_path: Path, remote: Remote) -> None:
    host = Host(directory=tmp_path, remote=remote, strategy="in-place")
    host.synced()
    host.write("README", "mine\n")
    remote.push({"page": "new\n"})
    assert host.sync(GITOPSD_GATE="false", GITOPSD_LOCAL_CHANGES="rescue").code == DEPLOY_FAILED
    assert (host.path / "README").read_text() == "mine\n"
    assert host.rescues == []


# A reader


@dataclass
class Reader:
    """Reads `path`/a and `path`/b without an end, in a thread of its own: the numbers there, and what went wrong."""

    path: Path
    rounds: int = 0
    seen: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        last = 0
        while not self.stop.is_set():
            try:
                together = self._from_one_directory()
                one_by_one = [int((self.path / name).read_bytes()) for name in ("a", "b", "d/a")]
            except (OSError, ValueError) as error:
                self.faults.append(repr(error))
                continue
            if len(set(together)) != 1:
                self.faults.append(f"mixed: {together}")
            if sorted([last, together[0], *one_by_one]) != [last, together[0], *one_by_one]:
                self.faults.append(f"backwards: {last}, {together[0]}, {one_by_one}")
            last = one_by_one[-1]
            self.seen |= {*together, *one_by_one}
            self.rounds += 1

    def _from_one_directory(self) -> list[int]:
        directory = os.open(self.path, os.O_DIRECTORY)
        try:
            return [int(read_below(directory, name)) for name in ("a", "b", "d/a")]
        finally:
            os.close(directory)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader]:
    reader = Reader(path)
    thread = threading.Thread(target=reader.run)
    thread.start()
    try:
        yield reader
    finally:
        reader.stop.set()
        thread.join()


def numbered_commits(remote: Remote, count: int) -> list[str]:
    """Commits 1, 2, … on the branch, with their number in each of their files; the revisions, the oldest first."""
    stream = [f"reset refs/heads/{remote.branch}\n"]
    for number in range(1, count + 1):
        stream.append(f"commit refs/heads/{remote.branch}\ncommitter Ada <ada@example.org> {number} +0000\ndata 0\n")
        stream += [f"M 644 inline {name}\ndata <<.\n{number}\n.\n" for name in ("a", "b", "d/a", "d/z")]
        stream.append("\n")
    subprocess.run(
        ["git", "fast-import", "--quiet", "--force"],
        cwd=remote.bare,
        env=git_environment(),
        input="".join(stream),
        text=True,
        check=True,
    )
    return git(remote.bare, "rev-list", "--reverse", remote.branch).split()


@pytest.mark.timeout(900)  # for --swaps=200, beside others on a machine with one core
def test_a_reader_sees_whole_trees_alone_during_many_swaps(host: Host, remote: Remote, swaps: int) -> None:
    revisions = numbered_commits(remote, swaps + 1)
    host.environment |= {"GITOPSD_KEEP": "2", "GITOPSD_DEPLOY": ""}
    host.synced()
    host.synced(GITOPSD_REVISION=revisions[0])
    with reading(host.path) as reader:
        for revision in revisions[1:]:
            host.synced(GITOPSD_REVISION=revision)
    assert reader.faults == []
    assert reader.rounds > swaps
    assert len(reader.seen) > swaps / 2
    assert len(host.releases) == 2
    host.is_in_order()
