"""Whatever somebody has done in a checkout or in a release is found again, under any policy and after any syncs."""

import itertools
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.engine import DEPLOY_FAILED, REFUSED
from tests.remote import Remote, git
from tests.strategies import Host, both_strategies, copy_of

POLICIES = [
    {"LOCAL_CHANGES": local_changes, "CLEAN": clean, "DRIFT": drift, "REWIND": rewind}
    for (local_changes, clean, drift), rewind in zip(
        itertools.product(("rescue", "refuse"), ("untracked", "none"), ("repair", "report", "off")),
        itertools.cycle(("allow", "refuse", "refuse", "allow")),
    )
]
"""The first takes out all that there is to be taken out."""

Work = Callable[[Path], list[str]]
"""Does something in a tree; the words in it, each in one place, that have to be found afterwards."""


def writing(*names: str, word: str = "mine") -> Work:
    """Write into these files."""

    def do(tree: Path) -> list[str]:
        for name in names:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(f"<{word} in {name}>\n")
        return [f"<{word} in {name}>" for name in names]

    return do


def running(*commands: str) -> Work:
    """Run git with each of these, which are shell words; the last may come to a conflict."""

    def do(tree: Path) -> list[str]:
        for command in commands[:-1]:
            git(tree, *shlex.split(command))
        try:
            git(tree, *shlex.split(commands[-1]))
        except AssertionError:
            assert git(tree, "ls-files", "--unmerged")
        return []

    return do


def together(*steps: Work) -> Work:
    """One after the other."""
    return lambda tree: [word for step in steps for word in step(tree)]


def removing(name: str) -> Work:
    """Remove a file, or a directory that has one named `page`."""

    def do(tree: Path) -> list[str]:
        if (tree / name).is_dir():
            (tree / name / "page").unlink()
            (tree / name).rmdir()
        else:
            (tree / name).unlink()
        return []

    return do


def linking(name: str) -> Work:
    def do(tree: Path) -> list[str]:
        (tree / name).symlink_to("<mine>")
        return ["<mine>"]

    return do


def another_mode(tree: Path) -> list[str]:
    (tree / "page").chmod(0o755)
    return []


COMMIT = running("commit --quiet --all --message work")
BACK = running("checkout --quiet -")

KINDS: Mapping[str, Work] = {
    "an edit": writing("page"),
    "a staged edit": together(writing("page"), running("add page")),
    "an edit over a staged one": together(writing("page", word="staged"), running("add page"), writing("page")),
    "a file that was added": together(writing("added"), running("add added")),
    "a file that is meant to be added": together(writing("added"), running("add --intent-to-add added")),
    "a file that was taken out of git": together(running("rm --quiet --cached page"), writing("page")),
    "a file that was renamed": together(running("mv page moved"), writing("moved")),
    "a deletion": removing("page"),
    "a file for a directory": together(removing("gone"), writing("gone")),
    "a directory for a file": together(removing("page"), writing("page/notes", "page/mine.env")),
    "a link for a directory": together(removing("gone"), linking("gone")),
    "another link": together(removing("link"), linking("link")),
    "another mode": another_mode,
    "untracked files": writing("notes", "new/notes", "gone/notes", "a name\twith blanks "),
    "ignored files": writing("mine.env", "gone/mine.env", "build/mine"),
    "files that are in the way": writing("arrives", "arrives.d/page", "arrives.env"),
    "a file in the way of a directory": writing("arrives.d"),
    "a commit": together(writing("page"), COMMIT),
    "a commit and an edit over it": together(writing("page", word="committed"), COMMIT, writing("page")),
    "a commit without a branch": together(running("checkout --quiet --detach"), writing("page"), COMMIT),
    "a commit on another branch": together(running("checkout --quiet -b mine"), writing("page"), COMMIT),
    "a branch that was left again": together(running("checkout --quiet -b mine"), writing("page"), COMMIT, BACK),
    "an edit on another branch": together(running("checkout --quiet -b mine"), writing("page")),
    "a stash": together(writing("page", "notes"), running("stash push --quiet --include-untracked")),
    "an edit that git overlooks": together(writing("page"), running("update-index --assume-unchanged page")),
    "an edit that git leaves out": together(writing("page"), running("update-index --skip-worktree page")),
    "an edit that git overlooks beside one that it sees": together(
        writing("README", "page", "never"), running("update-index --assume-unchanged page never")
    ),
    "an edit that git leaves out beside one that it sees": together(
        writing("README", "page", "never"), running("update-index --skip-worktree page never")
    ),
    "a conflict": together(
        running("checkout --quiet -b side"), writing("page", word="aside"), COMMIT, BACK, writing("page"), COMMIT,
        running("merge --quiet side"),
    ),
    "a merge that is not committed": together(
        running("checkout --quiet -b side"), writing("page"), COMMIT, BACK,
        running("merge --quiet --no-ff --no-commit side"),
    ),
    "a conflict out of a stash": together(
        writing("page"), running("stash push --quiet"), writing("page", word="committed"), COMMIT,
        running("stash pop --quiet"),
    ),
    "a rebase that has stopped": together(
        running("checkout --quiet -b side"), writing("page", word="aside"), COMMIT, BACK, writing("page"), COMMIT,
        running("rebase --quiet side"),
    ),
    "a repository": together(running("init --quiet own"), writing("own/page")),
    "a repository in the way of a file": together(running("init --quiet arrives"), writing("arrives/page")),
    "a repository in the way of a directory": together(running("init --quiet arrives.d"), writing("arrives.d/mine")),
    "a repository that is ignored": together(running("init --quiet build"), writing("build/page")),
}  # fmt: skip


@pytest.fixture(scope="session")
def first_remote(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    """What is to come is there already, but not on the branch: changes of all kinds, a bad one, another history."""
    remote = Remote.create(tmp_path_factory.mktemp("remote"))
    link = remote.work / "link"
    link.symlink_to("page")
    git(remote.work, "add", "link")
    first = remote.push({
        ".gitignore": "*.env\nbuild/\n", "page": "1\n", "never": "1\n", "gone/page": "1\n", "sub/page": "1\n",
    })  # fmt: skip
    link.unlink()
    link.symlink_to("README")
    git(remote.work, "add", "link")
    arriving = {"arrives": "theirs\n", "arrives.d/page": "theirs\n", "arrives.env": "theirs\n"}
    changes = remote.remove("gone", "sub", files={"README": "2\n", "page": "2\n", "sub": "2\n", **arriving})
    bad = remote.push({"page": "3\n", "bad": "\n"})
    other = remote.rewind(2, {"page": "4\n"})
    for number, revision in enumerate((first, changes, bad, other)):
        git(remote.bare, "update-ref", f"refs/to-come/{number}", revision)
    git(remote.work, "reset", "--quiet", "--hard", first)
    git(remote.bare, "update-ref", f"refs/heads/{remote.branch}", first)
    return remote


@pytest.fixture
def remote(tmp_path: Path, first_remote: Remote) -> Remote:
    return copy_of(first_remote, tmp_path)


def inhabited(directory: Path, remote: Remote, strategy: str, policies: Mapping[str, str]) -> Host:
    """A host where one revision is deployed; a deploy fails where there is a file `bad`, and is rolled back."""
    host = Host(directory=directory, remote=remote, strategy=strategy)
    host.environment |= {
        "GITOPSD_DEPLOY": "test ! -e bad",
        "GITOPSD_ROLLBACK": "yes",
        "GITOPSD_KEEP": "2",
        **{f"GITOPSD_{name}": value for name, value in policies.items()},
    }
    host.synced()
    return host


def go_on(host: Host) -> None:
    """Syncs as they come: nothing new, changes of all kinds, a bad revision, another history by force."""
    for number, force in enumerate((None, None, None, "yes")):
        git(host.remote.bare, "update-ref", f"refs/heads/{host.remote.branch}", f"refs/to-come/{number}")
        run = host.sync(GITOPSD_FORCE=force)
        assert run.code in {0, DEPLOY_FAILED, REFUSED}, run.everything


def assert_found(host: Host, words: list[str]) -> None:
    contents = host.contents()
    assert [word for word in words if word not in contents] == []


@pytest.mark.parametrize("name", KINDS)
def test_work_in_a_checkout_is_found_again_where_all_is_taken_out(tmp_path: Path, remote: Remote, name: str) -> None:
    host = inhabited(tmp_path, remote, "in-place", POLICIES[0])
    words = KINDS[name](host.path)
    go_on(host)
    assert_found(host, words)


@pytest.mark.parametrize("name", KINDS)
def test_work_in_a_release_is_found_again(tmp_path: Path, remote: Remote, name: str) -> None:
    host = inhabited(tmp_path, remote, "release", POLICIES[0])
    words = KINDS[name](host.path.resolve())
    go_on(host)
    assert_found(host, words)


MANY = (
    "a branch that was left again", "a stash", "an edit over a staged one", "a file that was added", "another link",
    "untracked files", "ignored files", "an edit that git overlooks", "a repository",
)  # fmt: skip


@pytest.mark.parametrize("policies", POLICIES, ids=lambda policies: "-".join(policies.values()))
def test_work_of_many_kinds_in_a_checkout_is_found_again_under_all_policies(
    tmp_path: Path, remote: Remote, policies: Mapping[str, str]
) -> None:
    host = inhabited(tmp_path, remote, "in-place", policies)
    words = [word for name in MANY for word in KINDS[name](host.path)]
    go_on(host)
    assert_found(host, words)


@pytest.mark.parametrize(("drift", "keep"), [("repair", "2"), ("report", "3"), ("off", "2")])
def test_work_of_many_kinds_in_a_release_is_found_again_under_all_policies(
    tmp_path: Path, remote: Remote, drift: str, keep: str
) -> None:
    host = inhabited(tmp_path, remote, "release", {"DRIFT": drift, "KEEP": keep, "REWIND": "allow"})
    words = [word for name in MANY[:-1] for word in KINDS[name](host.path.resolve())]
    go_on(host)
    assert_found(host, words)


# What is beside the tree, or within it and of a repository of its own


@both_strategies
def test_another_worktree_of_the_same_repository_is_left_alone(tmp_path: Path, remote: Remote, strategy: str) -> None:
    host = inhabited(tmp_path, remote, strategy, POLICIES[0])
    places = [tmp_path / "other", host.path.resolve() / "within"]
    for place in places:
        git(host.path, "worktree", "add", "--quiet", "-b", place.name, str(place))
        together(writing("page"), running("add page"), writing("notes"))(place)
    go_on(host)
    for place in places:
        assert git(place, "status", "--porcelain") == "M  page\n?? notes"
        assert (place / "page").read_text() == "<mine in page>\n"


MODULE_WORK: Mapping[str, Work] = {
    "an edit": writing("README"),
    "untracked files": writing("notes", "new/notes"),
    "a commit": together(writing("README"), COMMIT),
    "a commit that was left again": together(
        running("checkout --quiet -b mine"), writing("README"), COMMIT, running("checkout --quiet --detach HEAD~1")
    ),
    "a stash": together(writing("README"), running("stash push --quiet")),
}


@both_strategies
@pytest.mark.parametrize("name", MODULE_WORK)
def test_work_in_a_submodule_is_found_again(tmp_path: Path, remote: Remote, strategy: str, name: str) -> None:
    module = Remote.create(tmp_path / "module")
    allow = "protocol.file.allow=always"
    git(remote.work, "-c", allow, "submodule", "--quiet", "add", module.url, "theme")
    remote.push({"page": "2\n"})
    configuration = tmp_path / "gitconfig"
    git(tmp_path, "config", "--file", str(configuration), *allow.split("="))
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    host.environment |= {"GIT_CONFIG_GLOBAL": str(configuration), "GITOPSD_SUBMODULES": "yes", "GITOPSD_DEPLOY": "true"}
    host.environment |= {"GITOPSD_KEEP": "2", **{f"GITOPSD_{key}": value for key, value in POLICIES[0].items()}}
    host.synced()
    git(host.path, "-c", allow, "submodule", "--quiet", "update", "--init")
    theme = host.path.resolve() / "theme"
    words = MODULE_WORK[name](theme)
    module.push({"README": "2\n", "notes": "theirs\n"})
    git(remote.work / "theme", "pull", "--quiet", "origin", "main")
    for step in range(3):
        if step == 0:
            git(remote.work, "add", "theme")
            remote.push({"page": "3\n"})
        else:
            remote.push() if step == 1 else remote.remove("theme", ".gitmodules", files={"theme": "a file now\n"})
        assert host.sync().code in {0, REFUSED}
    for word in words:
        here = [file for file in theme.rglob("*") if file.is_file() and word in file.read_text()]
        assert here or git(theme, "log", "--all", "HEAD", "-m", "--format=%H", f"-S{word}")


@pytest.mark.parametrize("policies", [POLICIES[0], POLICIES[-1]], ids=["all is taken out", "nothing is taken out"])
@pytest.mark.parametrize("name", ["an edit", "a commit", "a commit and an edit over it", "files that are in the way"])
def test_work_in_a_checkout_that_follows_tags_is_found_again(
    tmp_path: Path, remote: Remote, name: str, policies: Mapping[str, str]
) -> None:
    remote.tag("v1.0")
    host = inhabited(tmp_path, remote, "in-place", {"REF": "v*", **policies})
    words = KINDS[name](host.path)
    for number in range(1, 3):
        remote.push({"page": f"{number}\n", "arrives": "theirs\n"})
        remote.tag(f"v1.{number}")
        assert host.sync().code in {0, REFUSED}
    assert_found(host, words)


# A way back that waits


@pytest.mark.parametrize("standing", ["the bad one", "the good one"])
def test_commits_that_were_made_while_a_way_back_waits_are_found_again(
    tmp_path: Path, remote: Remote, standing: str
) -> None:
    host = inhabited(tmp_path, remote, "in-place", {})
    good = remote.tip()
    bad = remote.push({"bad": "\n"})
    if standing == "the bad one":  # killed as it turned back
        assert host.sync(GITOPSD_ROLLBACK="no").code == DEPLOY_FAILED
        host.ask("update-ref", "refs/gitopsd/rollback", good)
        (host.git_dir / "gitopsd-bad").write_text(f"{bad}\nas it was\n")
    else:
        assert host.sync(GITOPSD_DEPLOY="false").code == DEPLOY_FAILED
    words = together(writing("page"), COMMIT, writing("page", word="over it"))(host.path)
    assert host.sync().code == DEPLOY_FAILED
    assert host.standing == good
    assert_found(host, words)
