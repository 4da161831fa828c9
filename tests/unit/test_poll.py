"""What a poll asks real remotes, what it then queues, and what git is told of our surroundings: as little as can be."""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gitopsd import poll, systemd
from gitopsd.journal import Kind
from gitopsd.model import Job, JobState, Match, Outcome, Trigger
from gitopsd.poll import Tip
from gitopsd.settings import Repo, Retry
from gitopsd.store import Store, path_in
from tests import catalog, records
from tests.remote import Remote, git
from tests.site import SECRET

RETRY = Retry(tries=2, delay_sec=60)

# Says what it was started with, each time for one host, and that this host cannot be reached.
SSH = """#!/bin/sh
for word; do case $word in *@*) host=${word#*@} ;; esac; done
printf '%s\\n' "$@" > "$(dirname "$0")/$host.words"
env > "$(dirname "$0")/$host.environment"
echo "$host is far away" >&2
exit 255
"""


class Host:
    """Records, and remotes to ask."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(path_in(root / "state"), time.time)
        self.repos: list[Repo] = []

    def add(self, name: str, url: str, ref: str = "main") -> Repo:
        repo = Repo(name=name, url=url, ref=ref, path=self.root / name)
        self.repos.append(repo)
        return repo

    def add_remote(self, name: str, branch: str = "main") -> Remote:
        remote = Remote.create(self.root / "remotes" / name, branch)
        self.add(name, remote.url, branch)
        return remote

    def poll(self) -> list[str]:
        """The repos for which a job was queued."""
        return poll.enqueue_moved(self.store, self.ask())

    def look(self) -> None:
        """A job is queued for each repo whose files are compared."""
        poll.enqueue_looks(self.store, self.ask())

    def ask(self) -> list[Tip]:
        return poll.ask(self.repos, {"github-webhook-secret"})

    def problems(self) -> dict[str, str]:
        return {tip.repo.name: tip.problem for tip in self.ask() if tip.problem}

    def claim(self) -> Job:
        job = self.store.claim("blog", lambda _: pytest.fail("nothing was interrupted"), RETRY)
        assert job is not None
        return job

    def finish(self, state: JobState, revision: str | None, *, retry: bool = False, reason: str = "") -> None:
        """The pending job is run, and ends."""
        done = Outcome(state=state, reason=reason, exit_code=0, new_revision=revision, retry=retry)
        self.store.finish(self.claim(), done, RETRY)

    def leave_out(self, revision: str, came_from: str, repo: str = "blog") -> None:
        """A push is told of that a receiver's `paths` leave out."""
        told = records.push(revision, at=time.time(), revision=revision)
        match = Match(repo=repo, ref=told.ref, revision=revision, reason="none of its files", skipped_from=came_from)
        assert self.store.accept(told, [match]).jobs == ()

    def jobs(self) -> list[tuple[str, str, str | None]]:
        found = reversed(self.store.jobs("blog", limit=100))
        return [(job.trigger, job.state, job.revision) for job in found]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def remote(host: Host) -> Remote:
    return host.add_remote("blog")


# What is queued


def test_a_repo_that_was_never_synced_gets_a_job_for_the_tip(host: Host, remote: Remote) -> None:
    assert host.poll() == ["blog"]
    assert host.jobs() == [("poll", "pending", remote.tip())]
    assert host.store.due() == ["blog"]


def test_a_tip_that_has_moved_gets_one_job_with_its_revision_and_the_log_says_so(
    host: Host, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    host.store.enqueue("blog", Trigger.WEBHOOK)
    host.finish(JobState.SUCCEEDED, remote.tip())
    revision = remote.push()

    with caplog.at_level(logging.INFO):
        assert host.poll() == ["blog"]

    assert host.jobs()[1:] == [("poll", "pending", revision)]
    assert caplog.messages == [f"blog: the remote has moved to {revision[:10]}; job 2"]
    assert catalog.kinds_of(caplog.records) == {Kind.TIP_MOVED}


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.UNCHANGED])
def test_a_tip_that_is_deployed_gets_none(host: Host, remote: Remote, state: JobState) -> None:
    host.store.enqueue("blog", Trigger.MANUAL)
    host.finish(state, remote.tip())
    assert host.poll() == []
    assert len(host.jobs()) == 1


@pytest.mark.parametrize("knows", ["fetched", "told"])
@pytest.mark.parametrize("state", [JobState.REFUSED, JobState.FAILED])
def test_a_tip_that_was_refused_or_has_failed_for_good_gets_none_until_it_moves(
    host: Host, remote: Remote, state: JobState, knows: str
) -> None:
    host.poll()
    host.finish(state, remote.tip() if knows == "fetched" else None)
    for _ in range(3):
        assert host.poll() == []

    revision = remote.push()

    assert host.poll() == ["blog"]
    assert host.jobs()[1:] == [("poll", "pending", revision)]


def test_a_refusal_that_came_before_anybody_knew_the_tip_leads_to_one_more_and_not_to_one_a_poll(
    host: Host, remote: Remote
) -> None:
    host.store.enqueue("blog", Trigger.MANUAL)
    host.finish(JobState.REFUSED, None)
    assert host.poll() == ["blog"]
    host.finish(JobState.REFUSED, None)
    for _ in range(3):
        assert host.poll() == []


def test_while_a_job_waits_or_runs_there_is_none(host: Host, remote: Remote) -> None:
    assert host.poll() == ["blog"]
    remote.push()
    assert host.poll() == []
    job = host.claim()
    remote.push()
    assert host.poll() == []
    assert len(host.jobs()) == 1
    host.store.finish(job, Outcome(state=JobState.SUCCEEDED, reason="", exit_code=0, new_revision="1" * 40), RETRY)
    assert host.poll() == ["blog"]


def test_a_retry_waits_for_its_time_and_gives_way_to_a_newer_tip(host: Host, remote: Remote) -> None:
    tip = remote.tip()
    host.poll()
    host.finish(JobState.FAILED, tip, retry=True)
    assert host.poll() == []
    assert host.store.due() == []

    revision = remote.push()

    assert host.poll() == ["blog"]
    expected = [("poll", "failed", tip), ("poll", "superseded", tip), ("poll", "pending", revision)]
    assert host.jobs() == expected
    assert host.store.due() == ["blog"]


def test_a_tip_that_was_set_back_has_moved_too(host: Host, remote: Remote) -> None:
    host.store.enqueue("blog", Trigger.MANUAL)
    host.finish(JobState.SUCCEEDED, remote.push())
    assert host.poll() == []
    remote.rewind()
    assert host.poll() == ["blog"]
    host.finish(JobState.REFUSED, remote.tip())
    assert host.poll() == []


def test_a_rollback_that_waits_for_its_next_try_takes_no_newer_tip_in_with_each_poll(
    host: Host, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    host.store.enqueue("blog", Trigger.ROLLBACK)
    host.finish(JobState.FAILED, "1" * 40, retry=True)
    with caplog.at_level(logging.INFO):
        assert host.poll() == []
    assert host.jobs() == [("rollback", "failed", None), ("rollback", "pending", None)]
    assert caplog.messages == []


# Where the files are compared


@pytest.fixture
def compared(host: Host, remote: Remote) -> Remote:
    """The remote of a repo whose files each poll compares."""
    host.repos = [repo._replace(drift="report") for repo in host.repos]
    return remote


def done(host: Host, remote: Remote, state: JobState = JobState.SUCCEEDED) -> None:
    host.store.enqueue("blog", Trigger.MANUAL)
    host.finish(state, remote.tip())


@pytest.mark.parametrize("drift", ["report", "repair"])
@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.UNCHANGED])
def test_a_repo_whose_files_are_compared_gets_a_job_at_each_poll_though_its_tip_stands(
    host: Host, remote: Remote, state: JobState, drift: str, caplog: pytest.LogCaptureFixture
) -> None:
    host.repos = [repo._replace(drift=drift) for repo in host.repos]
    done(host, remote, state)
    for _ in range(2):
        assert host.poll() == []
        host.look()
        assert host.jobs()[-1] == ("poll", "pending", remote.tip())
        host.finish(JobState.UNCHANGED, remote.tip())
    assert [(trigger, state) for trigger, state, _ in host.jobs()] == [("manual", state), ("poll", "unchanged")]


def test_drift_that_was_refused_is_looked_at_again_and_is_one_record(host: Host, compared: Remote) -> None:
    done(host, compared)
    for _ in range(3):
        host.look()
        host.finish(JobState.REFUSED, compared.tip(), reason="drift: 1 files")
    assert [(trigger, state) for trigger, state, _ in host.jobs()] == [("manual", "succeeded"), ("poll", "refused")]
    host.look()
    host.finish(JobState.UNCHANGED, compared.tip())
    assert host.jobs()[-1][1] == "unchanged"


def test_a_repo_whose_files_are_not_compared_gets_none(host: Host, remote: Remote) -> None:
    done(host, remote)
    host.look()
    assert len(host.jobs()) == 1


def test_while_a_job_waits_or_runs_the_files_are_not_compared(host: Host, compared: Remote) -> None:
    done(host, compared)
    waiting = host.store.enqueue("blog", Trigger.MANUAL)
    host.look()
    assert host.store.waiting() == [waiting]
    host.claim()
    host.look()
    assert host.store.waiting() == []


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.REFUSED])
def test_where_the_last_job_was_refused_or_has_failed_the_files_are_not_compared(
    host: Host, compared: Remote, state: JobState
) -> None:
    done(host, compared, state)
    host.look()
    assert len(host.jobs()) == 1


def test_where_a_look_would_be_a_deploy_there_is_none(host: Host, compared: Remote) -> None:
    host.look()
    assert host.jobs() == []  # it was never synced; that is for the poll itself to see
    before = compared.tip()
    done(host, compared)
    host.leave_out(compared.push(), before)
    assert host.poll() == []
    host.look()
    assert len(host.jobs()) == 1


def test_where_the_remote_cannot_be_asked_the_files_are_not_compared(host: Host, compared: Remote) -> None:
    done(host, compared)
    compared.bare.rename(host.root / "away")
    host.look()
    assert len(host.jobs()) == 1


def test_the_files_of_a_held_repo_wait_with_one_job(host: Host, compared: Remote) -> None:
    done(host, compared)
    for _ in range(3):
        host.look()
    assert len(host.store.waiting()) == 1


# What a receiver's paths leave out


@pytest.fixture
def deployed(host: Host, remote: Remote) -> str:
    """The revision that is deployed."""
    host.poll()
    host.finish(JobState.SUCCEEDED, remote.tip())
    return remote.tip()


def test_a_tip_that_was_left_out_is_no_move(host: Host, remote: Remote, deployed: str) -> None:
    first = remote.push()
    host.leave_out(first, deployed)
    assert host.poll() == []

    second = remote.push()

    assert host.poll() == ["blog"]
    assert host.jobs()[1:] == [("poll", "pending", second)]


def test_several_pushes_that_were_left_out_one_after_the_other_are_no_move(
    host: Host, remote: Remote, deployed: str
) -> None:
    revision = deployed
    for _ in range(3):
        revision, before = remote.push(), revision
        host.leave_out(revision, before)
        assert host.poll() == []
    remote.push()
    assert host.poll() == ["blog"]


def test_what_was_left_out_is_no_move_whichever_way_the_rest_was_deployed(
    host: Host, remote: Remote, deployed: str
) -> None:
    host.leave_out(remote.push(), deployed)
    host.store.enqueue("blog", Trigger.MANUAL)
    host.finish(JobState.SUCCEEDED, remote.tip())
    assert host.poll() == []
    middle = remote.tip()
    host.leave_out(remote.push(), middle)
    assert host.poll() == []


def test_a_push_of_which_nobody_was_told_is_a_move_though_the_next_one_was_left_out(
    host: Host, remote: Remote, deployed: str
) -> None:
    lost, last = remote.push(), remote.push()
    host.leave_out(last, lost)
    assert host.poll() == ["blog"]
    assert host.jobs()[1:] == [("poll", "pending", last)]


def test_what_another_repo_has_left_out_is_a_move(host: Host, remote: Remote, deployed: str) -> None:
    host.leave_out(remote.push(), deployed, repo="shop")
    assert host.poll() == ["blog"]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.timeout(20)
def test_pushes_to_and_fro_that_were_left_out_come_to_an_end(
    host: Host, remote: Remote, deployed: str, length: int
) -> None:
    revisions = [remote.push() for _ in range(length)]
    for place, revision in enumerate(revisions):
        host.leave_out(revision, revisions[place - 1])
    assert host.poll() == ["blog"]


def test_what_was_left_out_of_a_repo_that_was_never_synced_is_a_move(host: Host, remote: Remote) -> None:
    host.leave_out(remote.tip(), "1" * 40)
    assert host.poll() == ["blog"]


def test_what_was_left_out_after_a_job_that_knew_no_revision_is_a_move(host: Host, remote: Remote) -> None:
    host.store.enqueue("blog", Trigger.MANUAL)
    host.finish(JobState.REFUSED, None)
    host.leave_out(remote.tip(), "1" * 40)
    assert host.poll() == ["blog"]


# Tags


@pytest.fixture
def tagged(host: Host) -> Remote:
    """The remote of a repo that follows versions."""
    remote = Remote.create(host.root / "remotes" / "blog")
    host.add("blog", remote.url, "v*")
    return remote


def tips(host: Host, ref: str) -> list[tuple[str, str, str]]:
    repo = Repo(name="blog", url=host.repos[0].url, ref=ref, path=host.root)
    return [(tip.tag, tip.revision, tip.problem) for tip in poll.ask([repo], set())]


def test_the_highest_version_is_found_in_the_order_of_numbers(host: Host, tagged: Remote) -> None:
    revisions = {name: (tagged.push(), tagged.tag(name))[0] for name in ("v1.9", "v1.10", "v1.2", "v1.10.1", "v0.99")}
    tagged.push()
    tagged.tag("nightly")
    tagged.tag("v1.11/x")
    git(tagged.bare, "update-ref", "refs/heads/v9", "refs/heads/main")
    git(tagged.bare, "update-ref", "refs/heads/refs/tags/v9", "refs/heads/main")

    assert tips(host, "v*") == [("v1.10.1", revisions["v1.10.1"], "")]
    assert tips(host, "refs/tags/v*") == tips(host, "v*")
    assert tips(host, "v1.?") == [("v1.9", revisions["v1.9"], "")]
    assert tips(host, "refs/tags/v1.2") == [("v1.2", revisions["v1.2"], "")]
    assert tips(host, "v1.11/*") == [("v1.11/x", tagged.tip(), "")]


def test_what_comes_before_a_version_is_followed_only_by_who_says_so(host: Host, tagged: Remote) -> None:
    final = tagged.tip()
    tagged.tag("v1.0")
    first, second = ((tagged.push(), tagged.tag(name))[0] for name in ("v2.0-rc1", "v2.0-rc2"))

    assert tips(host, "v*") == [("v1.0", final, "")]
    assert tips(host, "v*-rc*") == [("v2.0-rc2", second, "")]
    assert tips(host, "refs/tags/v2.0-rc1") == [("v2.0-rc1", first, "")]

    tagged.push()
    tagged.tag("v2.0")

    assert tips(host, "v?.0*-*") == [("v2.0-rc2", second, "")]
    assert tips(host, "v*") == [("v2.0", tagged.tip(), "")]


def test_a_final_version_comes_after_those_with_a_hyphen(host: Host, tagged: Remote) -> None:
    for name in ("release-2.0-rc1", "release-2.0", "release-2.0-rc2"):
        tagged.push()
        tagged.tag(name)
    ((tag, _, _),) = tips(host, "release-*")
    assert tag == "release-2.0"


def test_a_tag_with_a_message_stands_for_its_commit(host: Host, tagged: Remote) -> None:
    own_id = tagged.tag("v1.0", "the first")

    assert own_id != tagged.tip()
    for ref in ("v*", "refs/tags/v1.0", "v1.?"):
        assert tips(host, ref) == [("v1.0", tagged.tip(), "")]


@pytest.mark.parametrize(
    ("ref", "problem"), [("v*", "has no tag v*"), ("refs/tags/v1.2", "has no tag v1.2"), ("x?", "has no tag x?")]
)
@pytest.mark.parametrize("others", [[], ["V1", "1.0", "v3-rc1", "x"]])
def test_a_remote_without_such_a_tag_is_a_problem(
    host: Host, tagged: Remote, ref: str, problem: str, others: list[str]
) -> None:
    for name in others:
        tagged.tag(name)
    assert tips(host, ref) == [("", "", problem)]


def test_a_new_version_is_a_move_and_an_older_one_that_comes_late_is_none(host: Host, tagged: Remote) -> None:
    tagged.tag("v1.0")
    assert host.poll() == ["blog"]
    host.finish(JobState.SUCCEEDED, tagged.tip())
    tagged.push()
    assert host.poll() == []
    tagged.tag("v0.9")
    assert host.poll() == []

    revision = tagged.push()
    tagged.tag("v1.1", "with a message")

    assert host.poll() == ["blog"]
    assert host.jobs()[1:] == [("poll", "pending", revision)]


def test_the_version_before_is_a_move_when_the_highest_is_deleted(host: Host, tagged: Remote) -> None:
    first = tagged.tip()
    tagged.tag("v1.0")
    tagged.push()
    tagged.tag("v2.0")
    host.poll()
    host.finish(JobState.SUCCEEDED, tagged.tip())

    tagged.delete_tag("v2.0")

    assert host.poll() == ["blog"]
    host.finish(JobState.REFUSED, first)
    assert host.poll() == []


# What is asked


def test_a_repo_without_a_remote_is_not_asked_for(host: Host, remote: Remote) -> None:
    host.add("purge", "")
    assert [tip.repo.name for tip in host.ask()] == ["blog"]
    assert host.poll() == ["blog"]
    assert host.store.jobs("purge", limit=1) == []


def test_every_remote_is_asked_for_the_branch_of_its_repo(host: Host) -> None:
    remotes = [host.add_remote(f"repo-{number}", f"branch-{number}/x") for number in range(10)]
    for remote in remotes:
        remote.start_branch("main").push()

    assert [tip.revision for tip in host.ask()] == [remote.tip() for remote in remotes]


@dataclass(frozen=True)
class Trouble:
    """What a remote may answer other than the tip, and what is said of it."""

    says: str
    make: Callable[[Host], object] = field(repr=False)


def without_a_branch(host: Host, *others: str) -> None:
    bare = host.add_remote("broken").bare
    for other in others:
        git(bare, "update-ref", f"refs/heads/{other}", "refs/heads/main")
    git(bare, "update-ref", "-d", "refs/heads/main")


TROUBLES = {
    "not there": Trouble("does not appear to be a git repository", lambda host: host.add("broken", "/nonexistent")),
    "nobody listens": Trouble("unable to connect to 127.0.0.1", lambda host: host.add("broken", "git://127.0.0.1:1/x")),
    "empty": Trouble("has no branch main", without_a_branch),
    "another branch": Trouble("has no branch main", lambda host: without_a_branch(host, "other")),
    "a branch that ends alike": Trouble(
        "has no branch main", lambda host: without_a_branch(host, "other/refs/heads/main", "other/main")
    ),
    "an unknown transport": Trouble("colour", lambda host: host.add("broken", "colour://example.org/x")),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_a_remote_in_trouble_is_a_problem_of_its_own_and_the_others_are_asked(host: Host, trouble: Trouble) -> None:
    first = host.add_remote("a")
    trouble.make(host)
    last = host.add_remote("z")

    tips = host.ask()

    assert [tip.revision for tip in tips] == [first.tip(), "", last.tip()]
    assert trouble.says in tips[1].problem
    assert [bool(tip.problem) for tip in tips] == [False, True, False]
    assert len(tips[1].problem.splitlines()) == 1
    assert poll.enqueue_moved(host.store, tips) == ["a", "z"]


def test_a_remote_that_does_not_answer_is_a_problem_of_its_own_after_a_while(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "_REMOTE_SEC", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        host.add("broken", f"git://127.0.0.1:{hung.getsockname()[1]}/x")
        assert host.problems() == {"broken": "no answer within 0.5 s"}


# What git is told


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory where a stand-in for ssh writes what it sees."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "ssh").write_text(SSH)
    (directory / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=":")
    for name in ("GIT_SSH", "GIT_SSH_COMMAND", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(systemd, "KEYS_DIRECTORY", tmp_path / "keys")
    return directory


def words(ssh: Path, host: str) -> list[str]:
    return (ssh / f"{host}.words").read_text().splitlines()


def test_git_is_told_neither_a_secret_nor_what_is_of_this_process_alone(
    host: Host, ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(ssh))
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    host.add("blog", "git@example.org:me/blog.git")

    assert host.problems() == {"blog": "example.org is far away"}

    environment = (ssh / "example.org.environment").read_text()
    assert SECRET not in environment
    for name in ("GITHUB_WEBHOOK_SECRET", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"):
        assert f"{name}=" not in environment
    assert "GIT_TERMINAL_PROMPT=0\n" in environment
    assert "SSH_AUTH_SOCK=/run/agent\n" in environment


@pytest.mark.parametrize("place", ["loaded by systemd", "where root keeps them"])
def test_the_key_of_a_repo_is_used_for_that_repo_alone(
    host: Host, ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    directory = tmp_path / "the keys"
    directory.mkdir()
    key = directory / ("ssh-key_blog" if place == "loaded by systemd" else "blog")
    key.write_text("a key")
    monkeypatch.setattr(systemd, "KEYS_DIRECTORY", directory)
    if place == "loaded by systemd":
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    host.add("blog", "git@blog.example.org:me/blog.git")
    host.add("shop", "git@shop.example.org:me/shop.git")
    host.add("blog2", "git@blog2.example.org:me/blog.git")

    assert len(host.problems()) == 3

    assert words(ssh, "blog.example.org")[:4] == ["-oBatchMode=yes", "-oIdentitiesOnly=yes", "-i", str(key)]
    for other in ("shop.example.org", "blog2.example.org"):
        assert words(ssh, other)[0] == "-oBatchMode=yes"
        assert not {"-i", "-oIdentitiesOnly=yes", str(key)} & set(words(ssh, other))


def test_a_key_that_systemd_has_loaded_comes_before_one_that_root_can_read(
    host: Host, ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "keys" / "blog", tmp_path / "credentials" / "ssh-key_blog"):
        path.parent.mkdir()
        path.write_text("a key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    host.add("blog", "git@example.org:me/blog.git")

    host.ask()

    assert words(ssh, "example.org")[3] == str(tmp_path / "credentials" / "ssh-key_blog")


def test_how_the_operator_wants_ssh_to_be_run_comes_before_a_key(
    host: Host, ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ssh / "ssh-key_blog").write_text("a key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(ssh))
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -oPort=2222")
    host.add("blog", "git@example.org:me/blog.git")

    host.ask()

    assert words(ssh, "example.org")[0] == "-oPort=2222"
    assert "-i" not in words(ssh, "example.org")
