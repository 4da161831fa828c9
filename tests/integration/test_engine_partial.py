"""What is fetched and what is not: depth, filters, submodules, Git LFS, and revisions that somebody asks for."""

import random
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import MISCONFIGURED
from tests.remote import Remote, git
from tests.strategies import STRATEGIES, Host, copy_of
from tests.wire import Wire, whole


@pytest.fixture(scope="session")
def first_remote(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    remote = Remote.create(tmp_path_factory.mktemp("remote"))
    for number in range(3):
        remote.push({"page": f"{number}\n", "static/style": "body {}\n"})
    git(remote.bare, "config", "uploadpack.allowFilter", "true")
    git(remote.bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    return remote


@pytest.fixture
def remote(tmp_path: Path, first_remote: Remote) -> Remote:
    return copy_of(first_remote, tmp_path)


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    strategy: str = request.param
    return strategy


@pytest.fixture
def host(tmp_path: Path, remote: Remote, strategy: str) -> Host:
    """A host without anything yet, whose remote can give parts of itself."""
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    host.environment["GITOPSD_URL"] = f"file://{remote.bare}"
    return host


def in_history(host: Host) -> int:
    return int(host.ask("rev-list", "--count", "refs/gitopsd/deployed"))


# Depth


@pytest.fixture
def shallow(host: Host, remote: Remote) -> Host:
    """A host that has the last commit alone."""
    host.environment["GITOPSD_DEPTH"] = "1"
    host.deployed(remote.tip())
    assert in_history(host) == 1
    return host


def test_a_shallow_clone_follows_what_comes_after(shallow: Host, remote: Remote) -> None:
    first = remote.tip()
    remote.push({"page": "a\n"})
    shallow.deployed(remote.push({"page": "b\n"}))
    assert in_history(shallow) == 3
    shallow.deployed(first, GITOPSD_REVISION=first)


def test_more_depth_is_as_deep_as_that(host: Host, remote: Remote) -> None:
    host.deployed(remote.tip(), GITOPSD_DEPTH="2")
    assert in_history(host) == 2


@pytest.mark.parametrize("how", ["shorter", "amended", "amended below", "unrelated"])
def test_a_shallow_clone_knows_a_history_that_was_forced(shallow: Host, remote: Remote, how: str) -> None:
    if how == "unrelated":
        git(remote.work, "checkout", "--quiet", "--orphan", "other")
        remote.push()
    else:
        remote.rewind(2 if how == "amended below" else 1, None if how == "shorter" else {"page": "x\n"})
    shallow.in_vain("history rewound: ")
    shallow.deployed(remote.tip(), GITOPSD_REWIND="allow")


# Filters


@pytest.fixture
def partial(host: Host, remote: Remote) -> Host:
    """A host that leaves out files which no tree of its own has."""
    host.environment["GITOPSD_FILTER"] = "blob:none"
    host.deployed(remote.tip())
    return host


def missing(host: Host) -> set[str]:
    listed = host.ask("rev-list", "--objects", "--missing=print", "refs/gitopsd/deployed").splitlines()
    return {line.removeprefix("?") for line in listed if line.startswith("?")}


def test_a_partial_clone_has_what_is_live_and_not_what_was_before(partial: Host, remote: Remote) -> None:
    first = remote.tip()
    assert git(remote.work, "rev-parse", "HEAD~1:page") in missing(partial)
    remote.push({"page": "never live\n"})
    never_live = git(remote.work, "rev-parse", "HEAD:page")
    second = remote.push({"page": "b\n"})
    partial.deployed(second)
    assert never_live in missing(partial)
    remote.bare.rename(partial.directory / "gone")
    partial.deployed(first, GITOPSD_REVISION=first)
    partial.deployed(second, GITOPSD_REVISION=second)


def test_a_partial_clone_knows_a_history_that_was_forced(partial: Host, remote: Remote) -> None:
    before = remote.tip()
    remote.rewind(1, {"page": "x\n"})
    for _ in range(2):
        partial.in_vain("history rewound: ")
    if not partial.is_release:
        assert partial.git("rev-parse", "refs/remotes/origin/main") == before


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path)
    yield wire
    wire.close()


def test_a_partial_clone_whose_remote_goes_in_the_middle_is_as_it_was(host: Host, remote: Remote, wire: Wire) -> None:
    host.environment |= {"GITOPSD_FILTER": "blob:none", "GITOPSD_URL": wire.url()}
    first = remote.tip()
    host.deployed(first)
    revision = remote.push({"page": "b\n", "added": "b\n"})

    def once(wire: Wire, connection: socket.socket) -> None:
        wire.treat = lambda _wire, _connection: None
        whole(wire, connection)

    for _ in range(2):
        wire.treat = once
        run = host.to_try_again(": fatal: ")
        assert run.phases[-1] == ("stage" if host.is_release else "activate")
    assert host.synced(GITOPSD_REVISION=first)["changed"] == "no"
    wire.treat = whole
    host.deployed(revision)


@pytest.mark.parametrize(
    ("name", "value"), [("DEPTH", "0"), ("DEPTH", "-1"), ("FILTER", "--exec=x"), ("FILTER", "x y")]
)
def test_what_is_no_depth_and_no_filter_is_a_wrong_configuration(host: Host, name: str, value: str) -> None:
    host.in_vain(f"GITOPSD_{name} '{value}' is no", code=MISCONFIGURED, **{f"GITOPSD_{name}": value})


# Submodules


@pytest.fixture
def modules(tmp_path: Path, host: Host, remote: Remote) -> list[Remote]:
    """A host that has deployed one revision; a second one has a submodule that has a submodule."""
    configuration = tmp_path / "gitconfig"
    configuration.write_text("[protocol.file]\nallow = always\n")
    host.environment |= {"GIT_CONFIG_GLOBAL": str(configuration), "GITOPSD_SUBMODULES": "yes"}
    host.deployed(remote.tip())
    inner, outer = (Remote.create(tmp_path / name) for name in ("inner", "outer"))
    add_submodule(outer, inner.url, "inner")
    add_submodule(remote, "../outer/remote.git", "outer")
    return [outer, inner]


def add_submodule(remote: Remote, url: str, name: str) -> None:
    there = (remote.bare / url).resolve() if url.startswith("../") else url
    git(
        remote.work, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "--name", name, str(there), name
    )
    git(remote.work, "config", "--file", ".gitmodules", f"submodule.{name}.url", url)
    remote.push({f"with-{name}": "\n"})


@pytest.mark.parametrize("strategy", ["release"])
def test_submodules_of_submodules_are_in_a_release(host: Host, remote: Remote, modules: list[Remote]) -> None:
    host.deployed(remote.tip())
    assert (host.path / "outer" / "inner" / "README").is_file()
    newer = modules[0].push({"page": "newer\n"})
    git(remote.work / "outer", "pull", "--quiet", "origin", "main")
    git(remote.work, "add", "outer")
    host.deployed(remote.push())
    assert git(host.path / "outer", "rev-parse", "HEAD") == newer
    assert (host.path / "outer" / "page").read_text() == "newer\n"


@pytest.mark.parametrize("strategy", ["release"])
@pytest.mark.parametrize("which", ["outer", "inner"])
def test_a_submodule_that_is_gone_keeps_the_revision_from_what_is_live(
    host: Host, remote: Remote, modules: list[Remote], which: str
) -> None:
    bare = modules[0 if which == "outer" else 1].bare
    kept = bare.rename(bare.parent / "kept")
    for _ in range(2):
        assert host.to_try_again("stage: submodules: fatal: ").phases[-1] == "stage"
    kept.rename(bare)
    host.deployed(remote.tip())
    assert len(host.releases) == 2
    host.is_in_order()


@pytest.mark.parametrize("strategy", ["release"])
def test_a_submodule_over_a_protocol_that_git_does_not_trust_is_not_fetched(
    host: Host, remote: Remote, modules: list[Remote]
) -> None:
    host.to_try_again("transport 'file' not allowed", GIT_CONFIG_GLOBAL="/dev/null")


def test_submodules_are_left_alone_where_they_are_not_asked_for(
    host: Host, remote: Remote, modules: list[Remote]
) -> None:
    shutil.rmtree(modules[0].bare)
    host.synced(**{"GITOPSD_SUBMODULES": ""} if host.is_release else {})
    assert host.standing == remote.tip()
    assert not list((host.path / "outer").iterdir())


# Git LFS


@pytest.fixture
def large(tmp_path: Path, host: Host, remote: Remote) -> Path:
    """A host that has deployed one revision; a second one holds a large file. Where the remote has its content."""
    if shutil.which("git-lfs") is None:
        pytest.skip("git-lfs is not installed")
    host.deployed(remote.tip())
    configuration = tmp_path / "gitconfig"
    for name, value in {
        "process": "git-lfs filter-process",
        "smudge": "git-lfs smudge -- %f",
        "clean": "git-lfs clean -- %f",
        "required": "true",
    }.items():
        git(tmp_path, "config", "--file", str(configuration), f"filter.lfs.{name}", value)
        git(remote.work, "config", f"filter.lfs.{name}", value)
    host.environment["GIT_CONFIG_GLOBAL"] = str(configuration)
    git(remote.work, "config", "core.hooksPath", "/dev/null")  # git-lfs puts a hook there that wants a file:// URL
    git(remote.work, "remote", "set-url", "origin", f"file://{remote.bare}")
    remote.push({".gitattributes": "*.bin filter=lfs -text\n", "large.bin": random.Random(3).randbytes(50_000).hex()})
    git(remote.work, "lfs", "push", "--all", "origin", "main")
    (content,) = [file for file in (remote.bare / "lfs" / "objects").rglob("*") if file.is_file()]
    assert "git-lfs" in git(remote.work, "cat-file", "blob", "HEAD:large.bin")
    return content


def test_large_files_are_there_before_the_tree_goes_live(host: Host, remote: Remote, large: Path) -> None:
    host.synced(GITOPSD_GATE="sh -c 'test $(wc -c <large.bin) = 100000'")
    assert (host.standing, host.deploys[-1]) == (remote.tip(), remote.tip())
    assert (host.path / "large.bin").read_bytes() == large.read_bytes()
    assert host.synced()["changed"] == "no"


def test_a_large_file_that_is_gone_keeps_the_revision_from_what_is_live(
    host: Host, remote: Remote, large: Path
) -> None:
    kept = large.rename(host.directory / "kept")
    for _ in range(2):
        host.to_try_again("large.bin: smudge filter lfs failed")
    kept.rename(large)
    host.synced()
    assert (host.standing, host.deploys[-1]) == (remote.tip(), remote.tip())
    assert (host.path / "large.bin").read_bytes() == large.read_bytes()


# Revisions that somebody asks for


def test_a_revision_is_gone_back_to_also_without_the_remote(host: Host, remote: Remote) -> None:
    revisions = [remote.tip()]
    host.deployed(revisions[0], GITOPSD_KEEP="2")
    for _ in range(4):
        revisions.append(remote.push())
        host.deployed(revisions[-1], GITOPSD_KEEP="2")
    kept = remote.bare.rename(host.directory / "gone")
    for revision in (revisions[3], revisions[0], revisions[2]):
        run = host.deployed(revision, GITOPSD_REVISION=revision)
        assert run["changed"] == "yes"
        assert host.synced(GITOPSD_REVISION=revision)["changed"] == "no"
    host.to_try_again("fetch: ")
    kept.rename(remote.bare)
    host.deployed(revisions[-1])


def test_a_revision_is_gone_back_to_whatever_became_of_the_remote(host: Host, remote: Remote) -> None:
    first = remote.tip()
    host.deployed(first)
    second = remote.push()
    host.deployed(second)
    remote.delete_branch("main")
    host.deployed(first, GITOPSD_REVISION=first)
    remote.rewind(3, {"page": "another\n"})
    host.in_vain("history rewound: ")
    host.deployed(second, GITOPSD_REVISION=second)


def test_a_revision_may_be_the_first_that_a_host_gets(host: Host, remote: Remote) -> None:
    wanted = remote.tip()
    tip = remote.push()
    host.deployed(wanted, GITOPSD_REVISION=wanted)
    host.deployed(tip)


def test_a_revision_that_nobody_has_is_refused(host: Host, remote: Remote) -> None:
    host.deployed(remote.tip())
    host.in_vain("there is no revision 111111111111 in blog, nor does main have it", GITOPSD_REVISION="1" * 40)
    elsewhere = remote.start_branch("other").push()
    host.in_vain(f"there is no revision {elsewhere[:12]}", GITOPSD_REVISION=elsewhere)
    host.in_vain("is not a commit id", code=MISCONFIGURED, GITOPSD_REVISION=elsewhere[:12])
    kept = remote.bare.rename(host.directory / "gone")
    host.to_try_again("fetch: ", GITOPSD_REVISION="1" * 40)
    kept.rename(remote.bare)
    assert host.synced()["changed"] == "no"


def test_a_revision_that_is_no_commit_is_refused(host: Host, remote: Remote) -> None:
    host.deployed(remote.tip())
    tree = git(remote.work, "rev-parse", "HEAD^{tree}")
    host.in_vain(f"there is no revision {tree[:12]}", GITOPSD_REVISION=tree)
