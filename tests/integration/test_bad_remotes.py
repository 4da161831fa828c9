"""Remotes that are not what they were, wires that are bad, disks that are full: what is live stays as it is."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitopsd import script
from gitopsd.model import Job, JobState, Outcome, Trigger
from gitopsd.settings import Config, Repo
from tests.engine import DEPLOY_FAILED, SCRIPT, TRY_AGAIN
from tests.remote import Remote, git
from tests.strategies import STRATEGIES, Host, copy_of
from tests.wire import Treatment, Wire, broken_off, saying, silent, slow, whole

GONE = "does not appear to be a git repository"


@pytest.fixture(scope="session")
def first_remote(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    remote = Remote.create(tmp_path_factory.mktemp("remote"))
    remote.push({"page": "1\n", "static/style": "body {}\n"})
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
    """A host after a first good deploy."""
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    host.deployed(remote.tip())
    return host


def start_anew(remote: Remote) -> str:
    """Force a history on the remote that has nothing to do with what was there."""
    git(remote.work, "checkout", "--quiet", "--orphan", "anew")
    revision = remote.push({"page": "another\n"})
    git(remote.work, "branch", "--quiet", "-M", remote.branch)
    return revision


# A history that is another


@pytest.mark.parametrize("how", ["unrelated", "shorter", "amended"])
def test_a_history_that_was_forced_is_refused_until_it_is_followed_or_taken_back(
    host: Host, remote: Remote, how: str
) -> None:
    before = remote.tip()
    if how == "unrelated":
        forced = start_anew(remote)
    else:
        forced = remote.rewind(1, {"page": "2\n"} if how == "amended" else None)
    for _ in range(2):
        assert f"has {forced[:12]}" in host.in_vain("history rewound: ")["reason"]
    host.in_vain("history rewound: ", GITOPSD_FORCE="yes", GITOPSD_LOCAL_CHANGES="rescue")
    host.deployed(forced, GITOPSD_REWIND="allow")
    git(remote.work, "reset", "--quiet", "--hard", before)
    host.deployed(remote.push(), GITOPSD_REWIND="allow")


def test_a_history_that_was_forced_for_a_while_does_not_matter_later(host: Host, remote: Remote) -> None:
    before = remote.tip()
    remote.rewind(1, {"page": "2\n"})
    host.in_vain("history rewound: ")
    git(remote.work, "reset", "--quiet", "--hard", before)
    host.deployed(remote.push())


@pytest.mark.parametrize("how", ["taken back", "mended", "with a gate"])
def test_what_was_never_deployed_well_may_be_taken_back_on_the_remote(host: Host, remote: Remote, how: str) -> None:
    good = remote.tip()
    bad = remote.push({"page": "bad\n"})
    failing = "GITOPSD_GATE" if how == "with a gate" else "GITOPSD_DEPLOY"
    assert host.sync(**{failing: "false"}).code == DEPLOY_FAILED
    assert host.standing == (good if how == "with a gate" else bad)
    if how == "taken back":
        remote.rewind()
        assert host.deployed(good)["changed"] == "yes"
        assert host.deploys == [good, good]
    else:
        host.deployed(remote.rewind(1, {"page": "2\n"}))


def test_what_was_deployed_well_may_not_be_taken_back_with_what_was_not(host: Host, remote: Remote) -> None:
    remote.push({"page": "bad\n"})
    assert host.sync(GITOPSD_DEPLOY="false").code == DEPLOY_FAILED
    remote.rewind(2, {"page": "2\n"})
    host.in_vain("history rewound: ")


def test_a_bad_revision_that_was_rolled_back_may_be_taken_back(host: Host, remote: Remote) -> None:
    good = remote.tip()
    bad = remote.push({"page": "bad\n"})
    deploy = f"sh -c 'test $GITOPSD_NEW_REVISION != {bad}'"
    assert host.sync(GITOPSD_DEPLOY=deploy, GITOPSD_ROLLBACK="yes")["rolled_back"] == good
    remote.rewind()
    assert host.synced(GITOPSD_ROLLBACK="yes")["changed"] == "no"
    host.deployed(remote.push({"page": "2\n"}), GITOPSD_ROLLBACK="yes")


# A remote that is not there


def test_a_branch_that_was_deleted_is_refused_until_it_is_back(host: Host, remote: Remote) -> None:
    remote.delete_branch("main")
    host.in_vain("the remote has no branch main: ")
    host.deployed(remote.push())


@pytest.mark.parametrize("how", ["the same", "anew"])
def test_a_repository_that_was_emptied_is_refused_until_it_is_filled(host: Host, remote: Remote, how: str) -> None:
    shutil.rmtree(remote.bare)
    git(host.directory, "init", "--quiet", "--bare", str(remote.bare))
    host.in_vain("the remote has no branch main: ")
    if how == "anew":
        start_anew(remote)
        host.in_vain("history rewound: ")
    else:
        host.deployed(remote.push())


@pytest.mark.parametrize("how", ["gone", "a file", "no permission", "damaged"])
def test_a_remote_that_is_no_repository_is_tried_again(host: Host, remote: Remote, how: str) -> None:
    kept = remote.bare.rename(host.directory / "kept")
    if how == "a file":
        remote.bare.write_text("no repository\n")
    elif how == "damaged":
        shutil.copytree(kept, remote.bare, ignore=shutil.ignore_patterns("objects"))
    host.to_try_again("fetch: fatal: ")
    if how == "a file":
        remote.bare.unlink()
    elif how == "damaged":
        shutil.rmtree(remote.bare)
    kept.rename(remote.bare)
    host.deployed(remote.push())


# A remote behind a bad wire


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path)
    yield wire
    wire.close()


@pytest.fixture
def far(tmp_path: Path, remote: Remote, wire: Wire, strategy: str) -> Host:
    """A host whose remote is at the other end of the wire, after a first good deploy and before a big push."""
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    host.environment["GITOPSD_URL"] = wire.url()
    host.deployed(remote.tip())
    remote.push({"big": random.Random(1).randbytes(150_000).hex() + "\n"})
    return host


@pytest.mark.parametrize(
    ("treatment", "reason"),
    [
        (saying(b""), "fetch: fatal: "),
        (saying(os.urandom(4096)), "fetch: fatal: protocol error: bad line length"),
        (saying(b"\x1b[2J\x07" * 9999), "fetch: fatal: protocol error: bad line length"),
        (saying(b"HTTP/1.1 200 OK\r\n\r\n<html>\n"), "fetch: fatal: protocol error: bad line length"),
        (saying(b"0035ERR the repository is closed for the inventory now"), "closed for the inventory"),
        (broken_off(after=30), "fetch: fatal: "),
        (broken_off(after=100_000), "fetch: fatal: "),
    ],
    ids=["nothing", "noise", "control characters", "a page", "an error", "a bit of the answer", "half of the pack"],
)
def test_what_is_no_whole_answer_is_tried_again(far: Host, wire: Wire, treatment: Treatment, reason: str) -> None:
    wire.treat = treatment
    run = far.to_try_again(reason)
    assert run["reason"].isprintable()
    assert run.phases[-1] == "fetch"
    wire.treat = whole
    far.deployed(far.remote.tip())
    assert not list(far.git_dir.glob("objects/pack/tmp_*"))


PAGE = b"<!doctype html>\n<title>Sign in</title>\n"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html", "not valid: is this a git repository?"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement", "fetch: fatal: "),
        (b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html", "not found"),
        (b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=git", "could not read Username"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html", "returned error: 503"),
    ],
    ids=["200", "200 that looks like git", "404", "401", "503"],
)
def test_a_web_page_in_the_place_of_a_remote_is_tried_again(
    host: Host, remote: Remote, wire: Wire, head: bytes, reason: str
) -> None:
    url = wire.url(scheme="http")
    if not host.is_release:
        host.git("remote", "set-url", "origin", url)
    wire.treat = saying(head + b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(PAGE) + PAGE)
    host.to_try_again(reason, GITOPSD_URL=url)
    assert wire.heard > 0
    if not host.is_release:
        host.git("remote", "set-url", "origin", remote.url)
    host.deployed(remote.push())


def run_as_gitopsd_does(host: Host, timeout_sec: float) -> Outcome:
    """One sync under its time limit."""
    repo = Repo(
        name="blog",
        url=host.environment["GITOPSD_URL"],
        ref=host.remote.branch,
        path=host.path,
        strategy=host.strategy,
        deploy=tuple(host.deploy),
        timeout_sec=timeout_sec,
    )
    config = Config(
        source=host.directory / "gitopsd.yaml", state_dir=host.directory / "state", engine=SCRIPT, receivers={}
    )
    job = Job(
        id=1,
        repo="blog",
        trigger=Trigger.MANUAL,
        state=JobState.RUNNING,
        reason="",
        attempts=1,
        failures=0,
        interruptions=0,
        due_at=0.0,
        created_at=0.0,
    )
    with (host.directory / "lock").open("w") as lock:
        return script.run(
            config,
            repo,
            job,
            output_path=host.directory / "output",
            on_output=lambda _: None,
            lock_fd=lock.fileno(),
            stop_fd=None,
        )


@pytest.mark.parametrize("treatment", [slow, silent], ids=["ten bytes a second", "silent"])
def test_a_remote_that_is_too_slow_is_given_up_when_the_time_is_over(
    far: Host, wire: Wire, treatment: Treatment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    wire.treat = treatment
    live, standing, deploys = far.live(), far.standing, far.deploys
    outcome = run_as_gitopsd_does(far, timeout_sec=1.5)
    assert (outcome.state, outcome.retry) == (JobState.FAILED, True)
    assert outcome.reason == "fetch was ended: the sync took longer than 1.5 s (repos.blog.timeout)"
    assert (far.live(), far.standing, far.deploys) == (live, standing, deploys)
    assert wire.heard > 0
    wire.treat = whole
    assert run_as_gitopsd_does(far, timeout_sec=60).state is JobState.SUCCEEDED
    far.is_at(far.remote.tip())


# A disk that is full


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[Path, str], None]]:
    """Gives a directory a disk of its own, of a size, and that disk another size."""
    mounted: list[Path] = []

    def resize(place: Path, size: str) -> None:
        place.mkdir(parents=True, exist_ok=True)
        options = f"size={size}" if place not in mounted else f"remount,size={size}"
        argv = ["mount", "-t", "tmpfs", "-o", options, "gitopsd-test", str(place)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(place)

    yield resize
    for place in set(mounted):
        subprocess.run(["umount", "--lazy", str(place)], check=True)


BIG = 3_000_000
"""Bytes, more than there is room for."""


def push_more_than_fits(remote: Remote, *, packed: bool) -> str:
    """A revision that moves much around in the tree, and holds a big file; as a pack it is big or it is small."""
    content = "x" * BIG if packed else random.Random(2).randbytes(BIG).hex()
    git(remote.work, "rm", "--quiet", "-r", "static", "README")
    return remote.push({
        "a/first": "new\n", "page": content + "\n", "static": "a file\n", "README/more": "new\n", "z/y/last": "new\n",
    })  # fmt: skip


def contents(host: Host) -> dict[str, object]:
    return {name: seen[:2] for name, seen in host.live().items()}


def test_a_disk_that_is_full_while_fetching_is_tried_again(
    tmp_path: Path, remote: Remote, strategy: str, disk: Callable[[Path, str], None]
) -> None:
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    place = tmp_path / ("state" if host.is_release else "srv")
    disk(place, "2m")
    host.deployed(remote.tip())
    revision = push_more_than_fits(remote, packed=False)
    for _ in range(2):
        assert host.to_try_again("No space left on device").phases[-1] == "fetch"
    disk(place, "50m")
    host.deployed(revision)


def test_a_disk_that_is_full_while_staging_is_tried_again(
    tmp_path: Path, remote: Remote, strategy: str, disk: Callable[[Path, str], None]
) -> None:
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    gates = tmp_path / "gates"
    host.environment["GITOPSD_GATE"] = f"sh -c 'echo >>{gates}'"
    disk(tmp_path / "srv", "2m")
    host.deployed(remote.tip())
    before = gates.read_text()
    revision = push_more_than_fits(remote, packed=True)
    for _ in range(2):
        assert host.to_try_again("is the disk full?").phases[-1] == "stage"
    assert gates.read_text() == before
    disk(tmp_path / "srv", "50m")
    host.deployed(revision)


@pytest.mark.parametrize("strategy", ["in-place"])
@pytest.mark.parametrize("ref", ["the same", "another branch", "tags"])
def test_a_disk_that_is_full_while_the_tree_is_written_leaves_it_as_it_was(
    tmp_path: Path, remote: Remote, strategy: str, disk: Callable[[Path, str], None], ref: str
) -> None:
    host = Host(directory=tmp_path, remote=remote, strategy=strategy)
    disk(tmp_path / "srv", "2m")
    if ref == "tags":
        git(remote.bare, "tag", "v1", remote.tip())
        host.environment["GITOPSD_REF"] = "v*"
    host.deployed(remote.tip())
    host.write("own/notes", "mine\n")
    if ref == "another branch":
        remote = remote.start_branch("other")
        host.environment["GITOPSD_REF"] = "other"
    revision = push_more_than_fits(remote, packed=True)
    if ref == "tags":
        git(remote.bare, "tag", "v2", revision)
    before, deploys, standing = contents(host), host.deploys, host.standing
    for _ in range(2):
        run = host.sync()
        assert run.code == TRY_AGAIN, run.everything
        assert run["reason"].endswith("is the disk full?")
        assert (contents(host), host.deploys, host.standing) == (before, deploys, standing)
        assert host.git("status", "--porcelain", "--untracked-files=no") == ""
    disk(tmp_path / "srv", "50m")
    host.synced()
    assert (host.standing, host.deploys[-1], host.rescues) == (revision, revision, [])
    assert host.git("status", "--porcelain") == "?? own/"
