"""The engine, run as it is run in earnest: the script, real git, real files, real signals."""

import fcntl
import itertools
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.engine import MISCONFIGURED, REFUSED, SCRIPT, TRY_AGAIN, Site
from tests.remote import Remote, git, git_environment

# Ends the whole engine, as a power cut would, before or after the call of git with this number. Calls that only read
# are not counted: they end in the state of the call before.
FAKE_GIT = """#!/bin/bash
case " $* " in
*" rev-parse "* | *" merge-base "* | *" symbolic-ref "* | *" status "* | *" ls-"* | *" get-url "* | *" check-ref-"*)
    exec "$REAL_GIT" "$@" ;;
*" worktree "* | *" diff-index "* | *" hash-object "* | *" core.sshCommand "* | *" --get-all "*)
    exec "$REAL_GIT" "$@" ;;
esac
read -r count 2>/dev/null <"$CALLS"
echo $((++count)) >"$CALLS"
"$REAL_GIT" "$@"
status=$?
[[ $count != "${KILL_AFTER-}" ]] || kill -KILL 0
exit $status
"""


@pytest.fixture(scope="session")
def first_remote(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    return Remote.create(tmp_path_factory.mktemp("remote"))


@pytest.fixture
def remote(tmp_path: Path, first_remote: Remote) -> Remote:
    """A copy, which is much faster than another one."""
    bare = shutil.copytree(first_remote.bare, tmp_path / "remote.git")
    return Remote(bare=bare, work=shutil.copytree(first_remote.work, tmp_path / "work"), branch=first_remote.branch)


@pytest.fixture
def site(tmp_path: Path, remote: Remote) -> Site:
    return Site(directory=tmp_path, remote=remote)


@pytest.fixture
def checkout(site: Site) -> Site:
    """A site whose checkout stands at the tip."""
    site.synced()
    return site


@pytest.fixture
def cut(site: Site) -> Path:
    """While this file is there, the first `*.cut` that a checkout writes ends the engine in the middle of it."""
    flag = site.directory / "cut"
    filter_path = site.directory / "filter"
    name = shlex.quote(str(flag))
    filter_path.write_text(f"#!/bin/sh\nif [ -e {name} ]; then rm {name}; kill -KILL 0; fi\nexec cat\n")
    filter_path.chmod(0o755)
    configuration = site.directory / "gitconfig"
    git(site.directory, "config", "--file", str(configuration), "filter.cut.smudge", shlex.quote(str(filter_path)))
    site.environment["GIT_CONFIG_GLOBAL"] = str(configuration)
    site.remote.push({
        ".gitattributes": "*.cut filter=cut\n", ".gitignore": "*.env\n", "a.txt": "old a\n", "b.cut": "old b\n",
        "c.txt": "old c\n", "gone/before.txt": "old\n",
    })  # fmt: skip
    return flag


def push_what_will_be_cut(remote: Remote) -> str:
    return remote.remove(
        "gone", files={"a.txt": "new a\n", "a2/added.txt": "new\n", "b.cut": "new b\n", "c.txt": "new c\n"}
    )


# First checkout


def test_a_checkout_is_cloned_when_its_path_does_not_exist(site: Site, remote: Remote) -> None:
    run = site.synced()
    assert run.phases == ["prepare", "fetch", "select", "activate", "deploy"]
    assert (run["old_revision"], run["new_revision"], run["changed"]) == ("", remote.tip(), "yes")
    site.assert_stands_at(remote.tip())
    assert site.deploys == [remote.tip()]
    assert site.git("status", "--short", "--branch") == "## main...origin/main"
    remote.push()
    site.git("pull", "--quiet")
    assert site.git("rev-parse", "HEAD") == remote.tip()


def test_an_existing_empty_directory_becomes_the_checkout_itself(site: Site, remote: Remote) -> None:
    site.path.mkdir(parents=True)
    inode = site.path.stat().st_ino
    site.synced()
    assert site.path.stat().st_ino == inode
    site.assert_stands_at(remote.tip())


def test_a_directory_with_files_that_is_no_checkout_is_refused(site: Site) -> None:
    site.write("index.html", "mine")
    site.refused("not empty and no git checkout")


def test_a_file_in_the_place_of_the_checkout_is_refused(site: Site) -> None:
    site.path.parent.mkdir(parents=True)
    site.path.write_text("mine")
    assert site.sync().code == REFUSED
    assert site.path.read_text() == "mine"


def test_a_broken_git_directory_is_refused_and_a_repository_above_it_is_left_alone(site: Site) -> None:
    site.path.mkdir(parents=True)
    git(site.path.parent, "init", "--quiet")
    git(site.path.parent, "remote", "add", "origin", site.remote.url)
    site.write(".git/config", "")
    run = site.sync()
    assert run.code == REFUSED
    assert "not the top of a checkout" in run["reason"]
    assert git(site.path.parent, "for-each-ref") == ""


def test_a_first_checkout_overwrites_no_file_that_appeared_meanwhile(site: Site, remote: Remote) -> None:
    site.path.mkdir(parents=True)
    site.git("init", "--quiet", "--initial-branch=main")
    site.git("remote", "add", "origin", remote.url)
    site.write("README", "mine")
    site.write(".git/info/exclude", "README\n")
    site.refused("README")


@pytest.mark.parametrize("name", ["blög with spaces", "feature branch's 'own' place"])
def test_paths_with_spaces_quotes_and_unicode_work(tmp_path: Path, name: str) -> None:
    site = Site(directory=tmp_path / name, remote=Remote.create(tmp_path / name))
    site.synced()
    site.remote.push({"ein Büro/ä b.txt": "1\n"})
    site.synced()
    site.assert_stands_at(site.remote.tip())


def test_a_sha256_remote_works(tmp_path: Path) -> None:
    site = Site(directory=tmp_path, remote=Remote.create(tmp_path, object_format="sha256"))
    site.synced()
    assert len(site.remote.push()) == 64
    site.synced()
    site.assert_stands_at(site.remote.tip())


@pytest.mark.parametrize("ref", ["feature/new-look", "refs/heads/feature/new-look"])
def test_a_branch_with_a_slash_works_with_and_without_its_prefix(tmp_path: Path, ref: str) -> None:
    site = Site(directory=tmp_path, remote=Remote.create(tmp_path, "feature/new-look"))
    site.synced(GITOPSD_REF=ref)
    site.assert_stands_at(site.remote.tip())
    assert site.git("status", "--short", "--branch") == "## feature/new-look...origin/feature/new-look"


# Updates


def test_a_push_is_fast_forwarded_and_deployed_once(checkout: Site, remote: Remote) -> None:
    old = remote.tip()
    new = remote.push({"page": "2\n"})
    run = checkout.synced()
    assert (run["old_revision"], run["new_revision"], run["changed"]) == (old, new, "yes")
    checkout.assert_stands_at(new)
    assert checkout.deploys == [old, new]
    assert (checkout.path / "page").read_text() == "2\n"


def test_nothing_happens_when_nothing_changed(checkout: Site, remote: Remote) -> None:
    run = checkout.synced()
    assert run["changed"] == "no"
    assert run["old_revision"] == run["new_revision"] == remote.tip()
    assert run.phases == ["prepare", "fetch", "select"]
    assert len(checkout.deploys) == 1


def test_a_push_that_is_told_of_before_the_remote_shows_it_is_waited_for(checkout: Site, remote: Remote) -> None:
    old, new = remote.tip(), remote.push()
    git(remote.bare, "update-ref", f"refs/heads/{remote.branch}", old)
    with subprocess.Popen(
        [str(SCRIPT), "blog"],
        env=checkout.command_environment(GITOPSD_HINT=new),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        cwd=checkout.directory,
    ) as engine:
        assert engine.stdout is not None
        assert any(f"does not have {new[:12]} yet" in line for line in engine.stdout)
        git(remote.bare, "update-ref", f"refs/heads/{remote.branch}", new)
        engine.stdout.read()
    assert engine.returncode == 0
    checkout.assert_stands_at(new)


def test_a_push_that_never_shows_is_waited_for_a_few_times_and_the_tip_is_the_truth(
    checkout: Site, remote: Remote
) -> None:
    new = remote.push()
    run = checkout.synced(GITOPSD_HINT="1" * 40)
    assert run["new_revision"] == new
    assert run.stdout.count("yet, of which it was told") == 3
    checkout.assert_stands_at(new)


def test_what_the_remote_shows_or_showed_before_is_not_waited_for(checkout: Site, remote: Remote) -> None:
    old, new = remote.tip(), remote.push()
    for hint in (new, old):
        assert "yet" not in checkout.synced(GITOPSD_HINT=hint).stdout
    assert checkout.sync(GITOPSD_HINT="main").code == 78


def test_force_deploys_although_nothing_changed(checkout: Site) -> None:
    assert checkout.synced(GITOPSD_FORCE="yes")["changed"] == "yes"
    assert len(checkout.deploys) == 2


def test_a_checkout_that_somebody_cloned_and_nobody_deployed_is_deployed(site: Site, remote: Remote) -> None:
    git(site.directory, "clone", "--quiet", remote.url, str(site.path))
    run = site.synced()
    assert (run["old_revision"], run["changed"]) == (remote.tip(), "yes")
    assert site.deploys == [remote.tip()]


def test_what_the_operator_pulled_by_hand_is_still_deployed(checkout: Site, remote: Remote) -> None:
    old, new = remote.tip(), remote.push()
    checkout.git("pull", "--quiet")
    assert checkout.synced()["old_revision"] == old
    assert checkout.deploys == [old, new]


def test_without_a_deploy_command_the_tree_is_all(site: Site, remote: Remote) -> None:
    assert site.synced(GITOPSD_DEPLOY="")["changed"] == "yes"
    assert site.synced(GITOPSD_DEPLOY=None, GITOPSD_FORCE="yes")["changed"] == "no"
    assert site.git("rev-parse", "refs/gitopsd/deployed") == remote.tip()
    assert site.deploys == []


def test_another_branch_in_the_configuration_switches_a_clean_checkout(checkout: Site, remote: Remote) -> None:
    checkout.remote = remote.start_branch("production")
    checkout.remote.push({"page": "production\n"})
    checkout.synced()
    checkout.assert_stands_at(checkout.remote.tip())
    assert checkout.git("status", "--short", "--branch") == "## production...origin/production"
    assert checkout.git("rev-parse", "main") == remote.tip("main")


def test_another_branch_of_the_same_revision_is_switched_to_without_a_deploy(checkout: Site, remote: Remote) -> None:
    checkout.remote = remote.start_branch("production")
    assert checkout.synced()["changed"] == "no"
    checkout.assert_stands_at(remote.tip())
    assert len(checkout.deploys) == 1


def test_untracked_and_ignored_files_survive_an_update(site: Site, remote: Remote) -> None:
    remote.push({".gitignore": "*.env\n"})
    site.synced()
    site.write("notes", "mine")
    site.write("secret.env", "mine")
    remote.push({"page": "2\n"})
    site.synced()
    assert (site.path / "notes").read_text() == (site.path / "secret.env").read_text() == "mine"


def test_a_failing_hook_of_the_checkout_does_not_fail_the_activation(checkout: Site, remote: Remote) -> None:
    checkout.write(".git/hooks/post-checkout", "#!/bin/sh\necho hook speaks >&2\nexit 1\n").chmod(0o755)
    remote.push()
    run = checkout.synced()
    assert "hook speaks" in run.stderr
    checkout.assert_stands_at(remote.tip())


def test_a_daemon_that_a_hook_started_does_not_hold_the_sync_up(checkout: Site, remote: Remote) -> None:
    pid_path = checkout.directory / "pid"
    hook = f"#!/bin/sh\ntail -f /dev/null >/dev/null </dev/null &\necho $! >{shlex.quote(str(pid_path))}\n"
    checkout.write(".git/hooks/post-checkout", hook).chmod(0o755)
    remote.push()
    checkout.synced()
    os.kill(int(pid_path.read_text()), signal.SIGKILL)
    checkout.assert_stands_at(remote.tip())


def test_a_linked_worktree_is_synced_and_its_neighbours_are_left_alone(site: Site, remote: Remote) -> None:
    original = site.directory / "original"
    git(site.directory, "clone", "--quiet", remote.url, str(original))
    git(original, "checkout", "--quiet", "-b", "mine")
    git(original, "worktree", "add", "--quiet", str(site.path), "main")
    (original / ".git" / "worktrees" / "blog" / "index.lock").touch()
    mine = git(original, "rev-parse", "mine")
    new = remote.push()
    site.synced()
    assert site.git("rev-parse", "main", "refs/worktree/gitopsd/deployed").split() == [new, new]
    assert git(original, "rev-parse", "HEAD") == mine
    assert git(original, "for-each-ref", "refs/gitopsd", "refs/worktree") == ""
    assert site.synced()["changed"] == "no"


def test_a_submodule_that_lags_behind_is_no_local_change(site: Site, remote: Remote) -> None:
    git(remote.work, "update-index", "--add", "--cacheinfo", f"160000,{remote.tip()},module")
    remote.push()
    site.synced()
    git(site.path, "clone", "--quiet", remote.url, "module")
    assert site.git("status", "--porcelain") == " M module"
    remote.push()
    site.synced()
    assert site.git("rev-parse", "HEAD") == remote.tip()
    assert (site.path / "module" / "README").exists()


# Refusals


def test_a_checkout_with_local_changes_is_refused_and_lists_them(checkout: Site, remote: Remote) -> None:
    remote.push({f"page{number}": "1\n" for number in range(8)})
    checkout.synced()
    for number in range(7):
        checkout.write(f"page{number}", "mine")
    checkout.git("add", "page0")
    remote.push({"page7": "2\n"})
    run = checkout.refused("local changes: 7 in ")
    assert "page0, page1, page2, page3, page4 and 2 more" in run["reason"]
    assert "page6" in run.stdout


def test_an_unfinished_merge_is_refused(checkout: Site, remote: Remote) -> None:
    checkout.git("checkout", "--quiet", "-b", "side")
    checkout.write("side", "1")
    checkout.git("add", "side")
    checkout.git("commit", "--quiet", "-m", "side")
    checkout.git("checkout", "--quiet", "main")
    checkout.git("merge", "--quiet", "--no-ff", "--no-commit", "--strategy=ours", "side")
    remote.push()
    checkout.refused("MERGE_HEAD")


def test_local_commits_are_refused_and_listed(checkout: Site, remote: Remote) -> None:
    checkout.write("hotfix", "1")
    checkout.git("add", "hotfix")
    checkout.git("commit", "--quiet", "-m", "at three in the night")
    assert "at three in the night" in checkout.refused("local commits: 1 on main")["reason"]
    remote.push()
    assert "at three in the night" in checkout.refused("local commits: 1 on main")["reason"]


def test_a_rewound_history_is_refused_until_the_operator_follows_it(checkout: Site, remote: Remote) -> None:
    old = remote.push({"page": "1\n"})
    checkout.synced()
    new = remote.rewind(1, {"page": "other\n"})
    run = checkout.refused("history rewound: ")
    assert old[:12] in run["reason"]
    assert new[:12] in run["reason"]
    checkout.refused("history rewound: ")
    command = run["reason"].partition("run: ")[2]
    subprocess.run(shlex.split(command), env=git_environment(), check=True, capture_output=True)
    checkout.synced()
    checkout.assert_stands_at(new)


def test_a_rewound_history_is_told_from_local_commits_by_what_the_operator_pulled(
    checkout: Site, remote: Remote
) -> None:
    remote.push()
    checkout.git("pull", "--quiet")
    remote.rewind()
    checkout.refused("history rewound: ")


def test_another_branch_in_the_checkout_is_refused(checkout: Site, remote: Remote) -> None:
    checkout.git("checkout", "--quiet", "-b", "experiment")
    checkout.git("commit", "--quiet", "--allow-empty", "-m", "mine")
    remote.push()
    assert "checkout main" in checkout.refused("is on experiment and not on main")["reason"]


def test_a_detached_checkout_is_refused(checkout: Site, remote: Remote) -> None:
    remote.push()
    checkout.synced()
    checkout.git("checkout", "--quiet", "--detach", "HEAD~1")
    checkout.refused("is on no branch")


def test_commits_of_the_local_branch_to_switch_to_are_refused(checkout: Site, remote: Remote) -> None:
    checkout.git("branch", "production")
    checkout.git("checkout", "--quiet", "production")
    checkout.git("commit", "--quiet", "--allow-empty", "-m", "mine")
    checkout.git("checkout", "--quiet", "main")
    checkout.remote = remote.start_branch("production")
    checkout.refused("local commits: 1 on production")


def test_a_branch_whose_name_cannot_stand_beside_another_is_refused_before_the_tree_moves(
    checkout: Site, remote: Remote
) -> None:
    checkout.git("branch", "feature")
    checkout.remote = remote.start_branch("feature/new")
    checkout.remote.push()
    checkout.refused("cannot have a branch feature/new")


def test_a_branch_that_another_worktree_has_is_refused(checkout: Site, remote: Remote) -> None:
    checkout.git("worktree", "add", "--quiet", "-b", "production", str(checkout.directory / "other"))
    checkout.remote = remote.start_branch("production")
    checkout.remote.push()
    checkout.refused("another worktree")


@pytest.mark.parametrize("ignored", [False, True], ids=["untracked", "ignored"])
@pytest.mark.parametrize(
    ("mine", "theirs"), [("new", "new"), ("new", "new/page"), ("new/mine", "new")], ids=["file", "below", "above"]
)
def test_no_file_of_the_operator_is_overwritten(
    checkout: Site, remote: Remote, *, ignored: bool, mine: str, theirs: str
) -> None:
    checkout.write(mine, "mine")
    if ignored:
        checkout.write(".git/info/exclude", "new\n")
    remote.push({theirs: "theirs\n"})
    checkout.refused("new")
    assert not checkout.has_ref("refs/gitopsd/activating")
    (checkout.path / mine).rename(checkout.directory / "moved")
    if (checkout.path / "new").is_dir():
        (checkout.path / "new").rmdir()
    checkout.synced()
    checkout.assert_stands_at(remote.tip())


def test_an_ignored_file_in_a_directory_that_becomes_a_file_is_kept(site: Site, remote: Remote) -> None:
    remote.push({".gitignore": "*.env\n", "d/page": "1\n"})
    site.synced()
    site.write("d/secret.env", "mine")
    remote.remove("d", files={"d": "a file now\n"})
    site.refused("d")


def test_a_checkout_without_an_origin_is_refused(checkout: Site, remote: Remote) -> None:
    checkout.git("remote", "remove", "origin")
    remote.push()
    assert "remote add origin" in checkout.refused("no origin")["reason"]


def test_a_checkout_of_somebody_else_is_refused_by_name(checkout: Site, remote: Remote) -> None:
    remote.push()
    run = checkout.refused("dubious ownership: ", GIT_TEST_ASSUME_DIFFERENT_OWNER="1")
    assert "User=" in run["reason"]


def test_a_repo_that_did_not_opt_in_is_refused(checkout: Site, remote: Remote) -> None:
    remote.push()
    checkout.refused("not opted in", GITOPSD_OPT_IN="yes")
    remote.push({".gitops": ""})
    checkout.synced()
    remote.push()
    checkout.synced(GITOPSD_OPT_IN="yes")
    checkout.assert_stands_at(remote.tip())


@pytest.mark.parametrize("exists", [False, True])
def test_opt_in_never_clones(site: Site, *, exists: bool) -> None:
    if exists:
        site.path.mkdir(parents=True)
    site.refused("not opted in", GITOPSD_OPT_IN="yes")
    assert not (site.path / ".git").exists()


SAME_REMOTE = [
    ("git@host.example:me/blog", "ssh://git@host.example/me/blog"),
    ("git@host.example:me/blog.git", "https://host.example/me/blog"),
    ("git@host.example:/me/blog.git/", "https://HOST.example/me/blog/"),
    ("ssh://git@host.example:2222/me/blog.git", "host.example:me/blog"),
    ("https://user:pass@host.example:8443/me/blog.git", "http://host.example/me/blog"),
    ("ssh://git@[::1]:22/me/blog", "git@[::1]:me/blog"),
    ("/srv/git/blog.git", "file:///srv/git/blog"),
    ("/srv/git/blog/", "file://localhost/srv/git//blog.git"),
    ("../../git/blog", "{directory}/git/blog.git"),
]
OTHER_REMOTE = [
    ("git@host.example:me/blog", "git@host.example:me/blog2"),
    ("git@host.example:me/blog", "git@other.example:me/blog"),
    ("git@host.example:me/blog", "git@host.example:me/Blog"),
    ("https://host.example/me/blog", "/me/blog"),
    ("/srv/git/blog", "/srv/git/Blog"),
    ("https://host.example/a", "https://host.example/me/a"),
]


@pytest.mark.parametrize(
    ("origin", "url", "same"),
    [(*pair, True) for pair in SAME_REMOTE]
    + [(right, left, True) for left, right in SAME_REMOTE if not left.startswith("..")]
    + [(*pair, False) for pair in OTHER_REMOTE],
)
def test_another_remote_is_refused_and_another_spelling_of_it_is_not(
    site: Site, origin: str, url: str, *, same: bool
) -> None:
    site.path.mkdir(parents=True)
    site.git("init", "--quiet")
    site.git("remote", "add", "origin", origin)
    run = site.sync(
        GITOPSD_URL=url.format(directory=site.directory), GIT_SSH_COMMAND="false", ALL_PROXY="http://127.0.0.1:1"
    )
    if same:
        assert (run.code, run.phases[-1]) == (TRY_AGAIN, "fetch"), run.everything
    else:
        assert (run.code, run.phases[-1]) == (REFUSED, "prepare"), run.everything
        assert run["reason"].startswith("wrong remote: ")
        assert origin in run["reason"]
        assert url in run["reason"]


# Remotes that fail


def test_a_remote_that_is_gone_is_tried_again(checkout: Site, remote: Remote) -> None:
    remote.bare.rename(checkout.directory / "elsewhere")
    assert "does not appear to be a git repository" in checkout.refused("fetch: ", code=TRY_AGAIN)["reason"]
    (checkout.directory / "elsewhere").rename(remote.bare)
    assert checkout.synced()["changed"] == "no"


def test_a_connection_that_is_refused_is_tried_again(site: Site) -> None:
    run = site.sync(GITOPSD_URL="http://127.0.0.1:1/me/blog.git")
    assert run.code == TRY_AGAIN
    assert "127.0.0.1" in run["reason"]
    assert not site.path.exists()


def test_a_remote_that_is_garbage_is_tried_again(checkout: Site, remote: Remote) -> None:
    shutil.rmtree(remote.bare / "objects")
    remote.bare.joinpath("packed-refs").write_bytes(b"\0garbage\n")
    checkout.refused("fetch: ", code=TRY_AGAIN)


def test_a_pack_that_breaks_off_is_tried_again(checkout: Site, remote: Remote) -> None:
    remote.push()
    for file in (remote.bare / "objects").rglob("??*"):
        if file.is_file():
            file.chmod(0o644)
            file.write_bytes(b"")
    checkout.refused("fetch: ", code=TRY_AGAIN)


def test_an_empty_remote_has_no_branch(site: Site) -> None:
    empty = site.directory / "empty.git"
    git(site.directory, "init", "--quiet", "--bare", str(empty))
    site.refused("the remote has no branch main", GITOPSD_URL=str(empty))
    assert not site.path.exists()


def test_a_branch_that_was_deleted_on_the_remote_is_refused(checkout: Site, remote: Remote) -> None:
    remote.start_branch("other")
    remote.delete_branch("main")
    checkout.refused("the remote has no branch main")


@pytest.mark.parametrize(
    "url",
    [
        "http://me:s3cret@127.0.0.1:1/blog.git",
        "http://s3cret@127.0.0.1:1/blog.git",
        "http://me:s3c@ret@127.0.0.1:1/blog.git",
        "http://me:s3c/ret@127.0.0.1:1/blog.git",
        "ssh://me:s3cret@host.example/blog.git",
    ],
)
@pytest.mark.parametrize("case", ["clone", "fetch", "wrong remote", "wrong origin", "no origin"])
def test_a_credential_in_a_url_is_never_printed(site: Site, url: str, case: str) -> None:
    ssh = site.directory / "ssh"
    ssh.write_text('#!/bin/sh\necho "$*: Permission denied (publickey)." >&2\nexit 255\n')
    ssh.chmod(0o755)
    other = "https://host.example/other"
    if case != "clone":
        site.path.mkdir(parents=True)
        site.git("init", "--quiet")
    if case in {"fetch", "wrong remote", "wrong origin"}:
        site.git("remote", "add", "origin", other if case == "wrong remote" else url)
    run = site.sync(GITOPSD_URL=other if case == "wrong origin" else url, GIT_SSH_COMMAND=str(ssh))
    assert run.code in {TRY_AGAIN, REFUSED}
    assert "s3c" not in run.everything
    assert "ret@" not in run.everything
    assert "***@" in run["reason"]


def test_ssh_asks_nobody_unless_the_operator_chose_another_ssh(checkout: Site) -> None:
    ssh = checkout.directory / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\necho "ssh $*" >&2\nexit 255\n')
    ssh.chmod(0o755)
    url = "git@host.example:me/blog"
    checkout.git("remote", "set-url", "origin", url)
    checkout.environment["PATH"] = f"{ssh.parent}:{os.environ['PATH']}"
    assert "-o BatchMode=yes" in checkout.sync(GITOPSD_URL=url).stderr
    assert "BatchMode" not in checkout.sync(GITOPSD_URL=url, GIT_SSH_COMMAND=str(ssh)).stderr
    checkout.git("config", "core.sshCommand", f"{ssh} -4")
    run = checkout.sync(GITOPSD_URL=url)
    assert "BatchMode" not in run.stderr
    assert "ssh -4 " in run.stderr


PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def over_ssh(checkout: Site) -> Site:
    """A checkout whose remote is reached by ssh; a stand-in for that says what it was started with, word by word."""
    ssh = checkout.directory / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nprintf \'[%s]\' "ssh" "$@" >&2\nexit 255\n')
    ssh.chmod(0o755)
    url = "git@host.example:me/blog"
    checkout.git("remote", "set-url", "origin", url)
    credentials = checkout.directory / "the unit's own"
    credentials.mkdir()
    checkout.environment |= {
        "PATH": f"{ssh.parent}:{os.environ['PATH']}",
        "CREDENTIALS_DIRECTORY": str(credentials),
        "GITOPSD_URL": url,
    }
    return checkout


@pytest.fixture
def key(over_ssh: Site) -> Path:
    return Path(over_ssh.environment["CREDENTIALS_DIRECTORY"]) / "ssh-key"


def test_the_key_that_systemd_has_loaded_is_the_one_that_ssh_uses(over_ssh: Site, key: Path) -> None:
    key.write_text(PRIVATE_KEY)
    run = over_ssh.sync()
    assert run.code == TRY_AGAIN
    assert f"[ssh][-o][BatchMode=yes][-o][IdentitiesOnly=yes][-i][{key}]" in run.stderr


@pytest.mark.parametrize("stand_in", ["none", "", "not a key -----BEGIN", None, "a directory"])
def test_what_is_no_key_is_not_given_to_ssh(over_ssh: Site, key: Path, stand_in: str | None) -> None:
    if stand_in == "a directory":
        key.mkdir()
    elif stand_in is not None:
        key.write_text(stand_in)
    run = over_ssh.sync()
    assert run.code == TRY_AGAIN
    assert "[ssh][-o][BatchMode=yes]" in run.stderr
    assert "IdentitiesOnly" not in run.everything
    assert "[-i]" not in run.everything


def test_without_credentials_from_systemd_ssh_uses_its_own_keys(over_ssh: Site) -> None:
    run = over_ssh.sync(CREDENTIALS_DIRECTORY=None)
    assert "[ssh][-o][BatchMode=yes]" in run.stderr
    assert "IdentitiesOnly" not in run.everything


@pytest.mark.parametrize("how", ["GIT_SSH_COMMAND", "GIT_SSH", "core.sshCommand"])
def test_how_the_operator_wants_ssh_to_be_run_comes_before_the_key(over_ssh: Site, key: Path, how: str) -> None:
    key.write_text(PRIVATE_KEY)
    ssh = str(over_ssh.directory / "bin" / "ssh")
    if how == "core.sshCommand":
        over_ssh.git("config", how, ssh)
    run = over_ssh.sync(**{} if how == "core.sshCommand" else {how: ssh})
    assert run.code == TRY_AGAIN
    assert "[ssh][" in run.stderr
    assert "IdentitiesOnly" not in run.everything
    assert "BatchMode" not in run.everything


def test_a_deploy_is_not_told_how_git_reaches_its_remote(checkout: Site, remote: Remote) -> None:
    credentials = checkout.directory / "credentials"
    credentials.mkdir()
    (credentials / "ssh-key").write_text(PRIVATE_KEY)
    remote.push()
    told = checkout.directory / "told"
    command = shlex.join(["sh", "-c", 'env > "$1"', "deploy", str(told)])
    checkout.synced(CREDENTIALS_DIRECTORY=str(credentials), GITOPSD_DEPLOY=command)
    assert "GIT_SSH_COMMAND" not in told.read_text()
    assert f"CREDENTIALS_DIRECTORY={credentials}\n" in told.read_text()  # its own are among them


# Locks of git, and who holds them


def test_locks_that_a_dead_git_left_behind_are_removed_and_named(checkout: Site, remote: Remote) -> None:
    names = ["index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock", "ORIG_HEAD.lock",
             "refs/heads/main.lock", "refs/remotes/origin/main.lock", "objects/pack/tmp_pack_x1"]  # fmt: skip
    for name in names:
        checkout.write(f".git/{name}", "")
    run = checkout.sync()
    assert run.code == 0, run.everything
    for name in names:
        assert not (checkout.path / ".git" / name).exists()
        assert f"removed {checkout.path}/.git/{name}" in run.stdout
    remote.push()
    checkout.synced()
    checkout.assert_stands_at(remote.tip())


@pytest.mark.parametrize("how", ["working directory", "command line"])
def test_the_lock_of_a_living_git_is_respected(checkout: Site, remote: Remote, how: str) -> None:
    lock = checkout.write(".git/index.lock", "")
    remote.push()
    inside = how == "working directory"
    with subprocess.Popen(
        ["git", *([] if inside else [f"--git-dir={checkout.path}/.git"]), "cat-file", "--batch"],
        cwd=checkout.path if inside else "/",
        env=git_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as alive:
        assert alive.stdin is not None
        assert alive.stdout is not None
        alive.stdin.write(b"HEAD\n")
        alive.stdin.flush()
        assert alive.stdout.readline()  # it has become git
        checkout.refused(f"(pid {alive.pid})", code=TRY_AGAIN)
        assert lock.exists()
        alive.communicate()
    checkout.synced()
    checkout.assert_stands_at(remote.tip())


def test_a_living_git_elsewhere_does_not_keep_stale_locks(checkout: Site, remote: Remote) -> None:
    checkout.write(".git/index.lock", "")
    with subprocess.Popen(
        ["git", "cat-file", "--batch"],
        cwd=remote.work,
        env=git_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as alive:
        checkout.synced()
        alive.communicate()


def test_the_repos_lock_lives_with_the_engine_and_not_with_what_a_deploy_leaves_running(checkout: Site) -> None:
    lock = checkout.directory / "lock"
    started, go = checkout.directory / "started", checkout.directory / "go"
    os.mkfifo(started)
    os.mkfifo(go)
    command = 'ls -l /proc/self/fd >"$1"; read line <"$2"'
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        engine = subprocess.Popen(
            [str(SCRIPT), "blog"],
            env=checkout.command_environment(
                GITOPSD_FORCE="yes",
                GITOPSD_LOCK_FD=str(held.fileno()),
                GITOPSD_DEPLOY=shlex.join(["sh", "-c", command, "deploy", str(started), str(go)]),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[held.fileno()],
            start_new_session=True,
        )
    with engine, lock.open("w") as second:
        try:
            assert str(lock) not in started.read_text()
            with pytest.raises(BlockingIOError):
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            go.write_text("go\n")
            assert engine.wait(timeout=30) == 0
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            if engine.poll() is None:
                os.killpg(engine.pid, signal.SIGKILL)


# Deploys


def test_a_deploy_knows_where_it_is_and_what_it_deploys(checkout: Site, remote: Remote) -> None:
    old = remote.tip()
    new = remote.push({"deploy.sh": "#!/bin/sh\npwd; env; cat; printf '<%s>' \"$@\"\n"})
    run = checkout.synced(
        GITOPSD_DEPLOY=shlex.join(["./deploy.sh", "--fast", "a b", "two\nlines", "$(false)", "*", "it's"]),
        GITOPSD_REF="refs/heads/main",
        LC_ALL="C.UTF-8",
        GITOPSD_LOCK_FD="9",
    )
    assert "<--fast><a b><two\nlines><$(false)><*><it's>" in run.stdout
    lines = run.stdout.splitlines()
    assert str(checkout.path) in lines
    expected: Mapping[str, str] = {
        "REPO": "blog", "REF": "main", "PATH": str(checkout.path), "OLD_REVISION": old, "NEW_REVISION": new,
    }  # fmt: skip
    for name, value in expected.items():
        assert f"GITOPSD_{name}={value}" in lines
    assert "LC_ALL=C.UTF-8" in lines
    for name in ("GITOPSD_OUTPUT=", "GITOPSD_LOCK_FD=", "GITOPSD_URL=", "GIT_SSH_COMMAND=", "GIT_TERMINAL_PROMPT="):
        assert not [line for line in lines if line.startswith(name)]


@pytest.mark.parametrize("status", [1, 3, 75, 77, 78, 126, 127, 255])
def test_a_failed_deploy_is_a_failed_deploy_whatever_it_exits_with(checkout: Site, status: int) -> None:
    run = checkout.sync(GITOPSD_DEPLOY=f"sh -c 'exit {status}'", GITOPSD_FORCE="yes")
    assert (run.code, run["reason"]) == (1, f"deploy: sh exited with {status}")


def test_a_deploy_that_a_signal_ended_says_which(checkout: Site) -> None:
    run = checkout.sync(GITOPSD_DEPLOY="sh -c 'kill -TERM $$'", GITOPSD_FORCE="yes")
    assert (run.code, run["reason"]) == (1, "deploy: sh was ended by SIGTERM")
    assert "Terminated" not in run.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [("./missing.sh", "./missing.sh is not there (in "), ("no-such-command", "no-such-command was not found (PATH=")],
)
def test_a_deploy_command_that_is_not_there_is_named(checkout: Site, command: str, said: str) -> None:
    run = checkout.sync(GITOPSD_DEPLOY=command, GITOPSD_FORCE="yes")
    assert run.code == 1
    assert said in run["reason"]


def test_a_deploy_command_that_is_not_executable_says_what_to_do(checkout: Site, remote: Remote) -> None:
    remote.push({"deploy.sh": "true\n"})
    run = checkout.sync(GITOPSD_DEPLOY="./deploy.sh")
    assert run.code == 1
    assert "git update-index --chmod=+x ./deploy.sh" in run["reason"]


def test_a_failed_deploy_is_run_again_although_the_tree_stands(checkout: Site, remote: Remote) -> None:
    old = remote.tip()
    new = remote.push({"page": "2\n"})
    assert checkout.sync(GITOPSD_DEPLOY="false").code == 1
    assert checkout.git("rev-parse", "HEAD") == new
    assert checkout.git("rev-parse", "refs/gitopsd/deployed") == old
    run = checkout.synced()
    assert (run["old_revision"], run["new_revision"], run["changed"]) == (old, new, "yes")
    assert run.phases == ["prepare", "fetch", "select", "deploy"]
    checkout.assert_stands_at(new)
    assert checkout.synced()["changed"] == "no"


def test_the_fix_of_a_failed_deploy_is_deployed_without_it(checkout: Site, remote: Remote) -> None:
    first = remote.tip()
    remote.push()
    assert checkout.sync(GITOPSD_DEPLOY="false").code == 1
    fixed = remote.push()
    assert checkout.synced()["old_revision"] == first
    assert checkout.deploys == [first, fixed]


# Without git


EVENT = {
    "GITOPSD_EVENT_TYPE": "image",
    "GITOPSD_IMAGE": "ghcr.io/me/blog",
    "GITOPSD_TAG": "v1",
    "GITOPSD_DIGEST": f"sha256:{'5' * 64}",
    "GITOPSD_IMAGES": f"me/other:v1 ghcr.io/me/blog:v1@sha256:{'5' * 64}",
}


@pytest.fixture
def command(site: Site) -> Site:
    """A site whose strategy is `none`, and where no git is to be found; its command writes a line."""
    tools = site.directory / "tools"
    tools.mkdir()
    for name in ("env", "id", "sed", "sh"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    site.path.mkdir(parents=True)
    site.environment |= {
        "PATH": str(tools),
        "GITOPSD_STRATEGY": "none",
        "GITOPSD_URL": "",
        "GITOPSD_REF": "",
        "GITOPSD_DEPLOY": shlex.join(["sh", "-c", 'echo run >>"$1"', "deploy", str(site.directory / "deploys")]),
    }
    return site


def test_a_command_without_git_is_run_each_time_and_told_of_in_two_phases(command: Site) -> None:
    for count in (1, 2):
        run = command.synced()
        assert [key for key, _ in run.pairs] == ["phase", "changed", "phase"]
        assert (run.phases, run["changed"]) == (["prepare", "deploy"], "yes")
        assert (run.stdout, run.stderr) == ("deploy: sh\n", "")
        assert command.deploys == ["run"] * count
    assert list(command.path.iterdir()) == []


def test_a_command_without_git_knows_where_it_is_and_of_no_revision(command: Site) -> None:
    run = command.synced(GITOPSD_DEPLOY="sh -c 'pwd; env'", GITOPSD_FORCE="yes")
    lines = run.stdout.splitlines()
    assert lines[:2] == ["deploy: sh", str(command.path)]
    for pair in ("REPO=blog", f"PATH={command.path}", "STRATEGY=none", "REF=", "OLD_REVISION=", "NEW_REVISION="):
        assert f"GITOPSD_{pair}" in lines
    for name in ("GITOPSD_OUTPUT=", "GITOPSD_LOCK_FD=", "GITOPSD_URL=", "GIT_SSH_COMMAND=", "GIT_TERMINAL_PROMPT="):
        assert not [line for line in lines if line.startswith(name)]


@pytest.mark.parametrize("strategy", ["in-place", "none"])
def test_a_deploy_is_told_what_asked_for_it(request: pytest.FixtureRequest, remote: Remote, strategy: str) -> None:
    site: Site = request.getfixturevalue("command" if strategy == "none" else "site")
    run = site.synced(GITOPSD_DEPLOY="env", **EVENT)
    for name, value in EVENT.items():
        assert f"{name}={value}" in run.stdout.splitlines()


@pytest.mark.parametrize("status", [1, 75, 77, 78])
def test_a_command_without_git_that_fails_is_a_failed_deploy(command: Site, status: int) -> None:
    run = command.sync(GITOPSD_DEPLOY=f"sh -c 'exit {status}'")
    assert (run.code, run["reason"], run.phases) == (1, f"deploy: sh exited with {status}", ["prepare", "deploy"])


@pytest.mark.parametrize("there", ["nothing", "file"])
def test_a_command_without_a_directory_to_run_in_is_refused(command: Site, there: str) -> None:
    command.path.rmdir()
    if there == "file":
        command.path.write_text("mine")
    run = command.refused(f"{command.path} is not a directory; make it, or correct the path of blog")
    assert run.phases == ["prepare"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"GITOPSD_DEPLOY": ""}, "GITOPSD_DEPLOY is empty"),
        ({"GITOPSD_DEPLOY": None}, "GITOPSD_DEPLOY is empty"),
        ({"GITOPSD_DEPLOY": "sh 'open"}, "GITOPSD_DEPLOY is not a list"),
        ({"GITOPSD_PATH": "srv/blog"}, "absolute"),
        ({"GITOPSD_PATH": None}, "absolute"),
        ({"GITOPSD_LOCK_FD": "x"}, "GITOPSD_LOCK_FD"),
        ({"GITOPSD_STRATEGY": "None"}, "one of: in-place release none"),
        ({"GITOPSD_STRATEGY": "in-place"}, "git is not installed"),
    ],
)
def test_a_wrong_configuration_without_git_is_named(command: Site, more: dict[str, str | None], said: str) -> None:
    run = command.refused(said, code=MISCONFIGURED, **more)
    assert run.phases == []


@pytest.mark.parametrize(
    ("name", "said"),
    [("./there.sh", "run in {path}: chmod +x ./there.sh"), ("./missing.sh", "is not there (in {path}); put it there")],
)
def test_a_command_without_git_that_cannot_be_run_says_what_to_do(command: Site, name: str, said: str) -> None:
    command.write("there.sh", "true\n")
    run = command.sync(GITOPSD_DEPLOY=name)
    assert run.code == 1
    assert run["reason"].endswith(said.format(path=command.path))


def test_a_command_without_git_is_not_run_when_the_output_cannot_be_written(command: Site) -> None:
    assert command.sync(GITOPSD_OUTPUT="/dev/full").code == TRY_AGAIN
    assert command.deploys == []


# Surroundings


def test_the_variables_of_a_surrounding_hook_change_nothing(checkout: Site, remote: Remote) -> None:
    trap = Remote.create(checkout.directory / "trap")
    before = git(trap.work, "for-each-ref"), git(trap.work, "status", "--short")
    remote.push()
    checkout.synced(
        GIT_DIR=str(trap.work / ".git"), GIT_WORK_TREE=str(trap.work), GIT_INDEX_FILE=str(trap.work / ".git/index")
    )
    checkout.assert_stands_at(remote.tip())
    assert before == (git(trap.work, "for-each-ref"), git(trap.work, "status", "--short"))


def test_phases_are_timed_with_a_point_in_any_locale(site: Site) -> None:
    # Proves the point only where this locale is installed; elsewhere it is the C locale's.
    run = site.synced(LC_ALL=None, LANG="de_DE.UTF-8", LC_NUMERIC="de_DE.UTF-8")
    times = [float(value.partition(" at=")[2]) for key, value in run.pairs if key == "phase"]
    assert len(times) == 5
    assert times == sorted(times)
    assert times[0] > 1_600_000_000


def test_it_runs_by_hand_without_an_output_file(site: Site, remote: Remote) -> None:
    site.synced(GITOPSD_OUTPUT=None)
    site.assert_stands_at(remote.tip())


def test_a_relative_output_file_is_relative_to_where_the_engine_was_started(site: Site) -> None:
    assert site.synced(GITOPSD_OUTPUT="output")["changed"] == "yes"


@pytest.mark.parametrize("output", ["/dev/full", "/nonexistent/output"])
def test_nothing_is_activated_when_the_output_cannot_be_written(checkout: Site, remote: Remote, output: str) -> None:
    remote.push()
    before = checkout.state()
    run = checkout.sync(GITOPSD_OUTPUT=output)
    assert run.code == TRY_AGAIN
    assert output in run.stderr
    assert checkout.state() == before


@pytest.mark.parametrize(
    ("arguments", "more", "said"),
    [
        ((), {"GITOPSD_PATH": "srv/blog"}, "absolute"),
        (("Blog",), {}, "name must match"),
        (("../x",), {}, "name must match"),
        (("a" * 64,), {}, "name must match"),
        (("blog", "more"), {}, "use: "),
        ((), {"GITOPSD_URL": ""}, "GITOPSD_URL"),
        ((), {"GITOPSD_URL": "--upload-pack=touch /tmp/x"}, "GITOPSD_URL"),
        ((), {"GITOPSD_URL": "origin"}, "GITOPSD_URL"),
        ((), {"GITOPSD_URL": "/a\nb"}, "control character"),
        ((), {"GITOPSD_REF": ""}, "branch name"),
        ((), {"GITOPSD_REF": "a b"}, "branch name"),
        ((), {"GITOPSD_REF": "-d"}, "branch name"),
        ((), {"GITOPSD_REF": "@{-1}"}, "branch name"),
        ((), {"GITOPSD_REF": "refs/tags/"}, "branch name"),
        ((), {"GITOPSD_REF": "v[0-9]*"}, "pattern of tags"),
        ((), {"GITOPSD_REF": "v 1.*"}, "pattern of tags"),
        ((), {"GITOPSD_STRATEGY": "canary"}, "GITOPSD_STRATEGY"),
        ((), {"GITOPSD_STRATEGY": "release"}, "GITOPSD_STATE_DIR"),
        ((), {"GITOPSD_DEPLOY": "./deploy.sh 'open"}, "GITOPSD_DEPLOY"),
        ((), {"GITOPSD_LOCK_FD": "x"}, "GITOPSD_LOCK_FD"),
    ],
)
def test_a_wrong_configuration_is_named(
    site: Site, arguments: tuple[str, ...], more: dict[str, str], said: str
) -> None:
    run = site.sync(*arguments, **more)
    assert run.code == MISCONFIGURED
    assert said in run["reason"]
    assert not site.path.exists()


def test_without_a_repo_it_says_how_it_is_used(site: Site) -> None:
    done = subprocess.run(
        [str(SCRIPT)], env=site.command_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == MISCONFIGURED
    assert b"use: " in done.stderr


# Ends in the middle


@pytest.fixture
def counted(site: Site) -> Iterator[Path]:
    """The number of calls of git by the engine that changed something."""
    calls = site.directory / "calls"
    fake = site.directory / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(FAKE_GIT)
    fake.chmod(0o755)
    real = shutil.which("git")
    assert real
    site.environment |= {"PATH": f"{fake.parent}:{os.environ['PATH']}", "REAL_GIT": real, "CALLS": str(calls)}
    yield calls
    assert calls.exists()


def end_at_every_call_of_git(site: Site, calls: Path, template: Path) -> None:
    """From the same start, end the engine at its first call of git, its second and so on; the next run mends it."""
    for number in itertools.count(1):
        shutil.rmtree(site.path, ignore_errors=True)
        shutil.copytree(template, site.path, symlinks=True)
        calls.unlink(missing_ok=True)
        run = site.sync(KILL_AFTER=str(number))
        if run.code == 0:
            assert number > 5
            return
        assert run.code == -signal.SIGKILL, f"{number}: {run.everything}"
        again = site.sync()
        assert again.code == 0, f"{number}: {again.everything}"
        site.assert_stands_at(site.remote.tip())
        assert (site.path / "notes").read_text() == (site.path / "secret.env").read_text() == "mine"


def test_the_mending_of_an_activation_ended_at_any_call_of_git_is_mended_by_the_next(
    site: Site, counted: Path, cut: Path
) -> None:
    site.synced()
    site.write("notes", "mine")
    site.write("secret.env", "mine")
    push_what_will_be_cut(site.remote)
    cut.touch()
    assert site.sync().code == -signal.SIGKILL
    site.write("a2/added.txt", "the operator's repair")
    template = site.path.rename(site.directory / "template")
    end_at_every_call_of_git(site, counted, template)


def test_an_update_cut_off_inside_the_activation_is_finished_by_the_next(site: Site, cut: Path) -> None:
    site.synced()
    old = site.remote.tip()
    site.write("notes", "mine")
    site.write("secret.env", "mine")
    new = push_what_will_be_cut(site.remote)
    cut.touch()
    assert site.sync().code == -signal.SIGKILL
    assert (site.path / "a.txt").read_text() == "new a\n"
    assert (site.path / "c.txt").read_text() == "old c\n"
    run = site.synced()
    assert "was cut off" in run.stdout
    assert (run["old_revision"], run["new_revision"], run["changed"]) == (old, new, "yes")
    site.assert_stands_at(new)
    assert (site.path / "notes").read_text() == (site.path / "secret.env").read_text() == "mine"
    assert not (site.path / "gone").exists()
    assert not site.has_ref("refs/gitopsd/rescue")


def test_a_first_checkout_cut_off_inside_the_activation_is_finished_by_the_next(site: Site, cut: Path) -> None:
    cut.touch()
    assert site.sync().code == -signal.SIGKILL
    assert not (site.path / "c.txt").exists()
    site.synced()
    site.assert_stands_at(site.remote.tip())
    assert site.git("status", "--short", "--branch") == "## main...origin/main"


def test_a_switch_of_branches_cut_off_inside_the_activation_is_finished_by_the_next(site: Site, cut: Path) -> None:
    site.synced()
    site.remote.push({"newer.txt": "only on main\n"})
    site.synced()
    site.remote = site.remote.start_branch("production")
    site.remote.rewind(1, {"a.txt": "production a\n", "a3.txt": "new\n", "b.cut": "production b\n"})
    cut.touch()
    assert site.sync().code == -signal.SIGKILL
    assert (site.path / "a3.txt").exists()
    site.synced()
    site.assert_stands_at(site.remote.tip())
    assert not (site.path / "newer.txt").exists()
    assert site.git("rev-parse", "main") == site.remote.tip("main")


def test_an_activation_is_finished_before_anything_else_even_while_the_remote_is_gone(site: Site, cut: Path) -> None:
    site.synced()
    new = push_what_will_be_cut(site.remote)
    cut.touch()
    assert site.sync().code == -signal.SIGKILL
    assert site.sync(GITOPSD_REF="main").code == 0
    site.assert_stands_at(new)
    newer = site.remote.push({"b.cut": "newer b\n", "c.txt": "newer c\n"})
    cut.touch()
    assert site.sync().code == -signal.SIGKILL
    site.remote.bare.rename(site.directory / "elsewhere")
    assert site.sync().code == TRY_AGAIN
    assert site.git("rev-parse", "HEAD") == newer
    assert site.git("status", "--porcelain") == ""


def test_what_the_operator_did_after_a_cut_off_activation_is_rescued(site: Site, cut: Path) -> None:
    site.synced()
    old = site.remote.tip()
    new = push_what_will_be_cut(site.remote)
    cut.touch()
    assert site.sync().code == -signal.SIGKILL
    site.write("c.txt", "the operator's repair")
    shutil.rmtree(site.path / "a2")
    site.write("a2", "the operator's file in the place of a directory")
    run = site.synced()
    site.assert_stands_at(new)
    (rescue,) = site.git("for-each-ref", "--format=%(refname)", "refs/gitopsd/rescue").splitlines()
    assert rescue in run.stdout
    assert site.git("show", f"{rescue}:c.txt") == "the operator's repair"
    assert site.git("show", f"{rescue}:a2") == "the operator's file in the place of a directory"
    assert site.git("rev-parse", f"{rescue}^") == old


def test_an_operator_who_moved_on_after_a_cut_off_activation_is_left_alone(site: Site, cut: Path) -> None:
    site.synced()
    push_what_will_be_cut(site.remote)
    cut.touch()
    assert site.sync().code == -signal.SIGKILL
    (site.path / ".git" / "index.lock").unlink()
    site.git("add", "--all")
    state = {name: content for name, content in site.state().items() if name != ".git/refs"}
    run = site.sync()
    assert run.code == REFUSED
    assert "local changes" in run["reason"]
    assert {name: content for name, content in site.state().items() if name != ".git/refs"} == state


def test_a_power_cut_that_emptied_the_index_and_a_file_is_mended(site: Site, cut: Path) -> None:
    site.synced()
    new = push_what_will_be_cut(site.remote)
    cut.touch()
    assert site.sync().code == -signal.SIGKILL
    site.write("a.txt", "")
    (site.path / ".git" / "index").write_bytes(b"")
    site.synced()
    site.assert_stands_at(new)


def test_a_deploy_that_was_cut_off_is_run_again(checkout: Site, remote: Remote) -> None:
    old = remote.tip()
    new = remote.push()
    assert checkout.sync(GITOPSD_DEPLOY="sh -c 'kill -KILL 0'").code == -signal.SIGKILL
    assert checkout.git("rev-parse", "HEAD") == new
    run = checkout.synced()
    assert (run["old_revision"], run["changed"]) == (old, "yes")
    checkout.assert_stands_at(new)
    assert checkout.deploys == [old, new]
