"""A sync that is killed at any moment: the next one ends in a whole, correct state, and nothing is left over."""

import os
import random
import shlex
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine import DEPLOY_FAILED, REFUSED, TRY_AGAIN, Run
from tests.remote import Remote, git
from tests.strategies import Host, both_strategies, copy_of

WRITERS = ("git", "mv", "ln", "sync", "rm", "rmdir", "touch")
"""The programs by which the engine changes something."""

FAKE = r"""#!/bin/sh
# Ends the whole engine, as a power cut would, before or after the call with this number. Calls that only read are not
# counted, nor are those that write what nothing leads to yet: they end in the state of the call before.
name=${0##*/} PATH=${PATH#*:}
case "$name: $* " in
"git:"*" rev-parse "* | "git:"*" merge-base "* | "git:"*" symbolic-ref "* | "git:"*" status "* | "git:"*" ls-"* | \
    "git:"*" get-url "* | "git:"*" check-ref-"* | "git:"*" diff-"* | "git:"*" hash-object "* | "git:"*" rev-list "* | \
    "git:"*" worktree list "* | "git:"*" for-each-ref "* | "git:"*" core.sshCommand "* | "git:"*" --get-all "* | \
    "git:"*" cat-file "* | "git:"*" write-tree "* | "git:"*" update-index "* | \
    "rm: -f "*/gitopsd-problem" " | "rm: -f "*/gitopsd-rescue" ")
    exec "$name" "$@" ;;
esac
read -r count 2>/dev/null <"$CALLS"
count=$((count + 1))
echo "$count" >"$CALLS"
echo "$name $*" >>"$CALLS.log"
[ "$count" != "${KILL_BEFORE-}" ] || kill -s KILL 0
"$name" "$@"
status=$?
[ "$count" != "${KILL_AFTER-}" ] || kill -s KILL 0
exit $status
"""

KILL = "read -r _ _ _ _ _ session _ </proc/$$/stat; kill -s KILL -- -$session; kill -s KILL 0"
"""Ends the whole engine from within a command of the repo, which may be in a process group of its own."""

NOTE = "what an operator wrote"


@pytest.fixture(scope="session")
def first_remote(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    remote = Remote.create(tmp_path_factory.mktemp("remote"))
    remote.push({".gitignore": "*.env\n", "page": "1\n", "gone/page": "1\n"})
    return remote


@pytest.fixture
def remote(tmp_path: Path, first_remote: Remote) -> Remote:
    return copy_of(first_remote, tmp_path)


def host_of(strategy: str, directory: Path, remote: Remote) -> Host:
    """A host that has all there is to be done in a sync. Its deploy fails where there is a file `bad`."""
    host = Host(directory=directory, remote=remote, strategy=strategy)
    deploy = 'echo "$GITOPSD_NEW_REVISION" >>"$1"; echo >made; [ ! -e bad ] || { echo broken >page; exit 1; }'
    host.environment |= {
        "GITOPSD_GATE": "test -e page",
        "GITOPSD_DEPLOY": shlex.join(["sh", "-c", deploy, "deploy", str(directory / "deploys")]),
        "GITOPSD_HEALTH": "test -e page",
        "GITOPSD_ROLLBACK": "yes",
        "GITOPSD_KEEP": "2",
    }
    return host


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One way to end a sync: before or after the call with this number."""

    moment: str
    number: int


@dataclass(kw_only=True)
class Scene:
    """A host at a certain time, to which it is brought back for each sync that is to be ended."""

    host: Host

    def __post_init__(self) -> None:
        fakes = self.host.directory / "bin"
        fakes.mkdir()
        for name in WRITERS:
            (fakes / name).write_text(FAKE)
            (fakes / name).chmod(0o755)
        self._template.mkdir()
        for name in ("srv", "state", "deploys"):
            if (self.host.directory / name).exists():
                (self.host.directory / name).rename(self._template / name)

    @property
    def _calls(self) -> Path:
        return self.host.directory / "calls"

    @property
    def _log(self) -> Path:
        return self.host.directory / "calls.log"

    @property
    def _template(self) -> Path:
        return self.host.directory / "template"

    def begin(self, **more: str | None) -> Run:
        """Sync, from the beginning."""
        for name in ("srv", "state"):
            shutil.rmtree(self.host.directory / name, ignore_errors=True)
            if (self._template / name).exists():
                shutil.copytree(self._template / name, self.host.directory / name, symlinks=True)
        (self.host.directory / "deploys").unlink(missing_ok=True)
        if (self._template / "deploys").exists():
            shutil.copy(self._template / "deploys", self.host.directory / "deploys")
        for file in (self._calls, self._log):
            file.unlink(missing_ok=True)
        fakes = f"{self.host.directory / 'bin'}:{os.environ['PATH']}"
        return self.host.sync(PATH=fakes, CALLS=str(self._calls), **more)

    def end_anywhere(self, whole: Callable[[], None], cuts: int, code: int = 0) -> None:
        """End a sync at so many of its calls (0: at each), and see that all is whole after the next.

        `code` is that of a sync that is not ended.
        """
        run = self.begin()
        assert run.code == code, run.everything
        calls = self._log.read_text().splitlines()
        whole()
        assert len(calls) > 10
        # What bash itself writes between two calls is seen before the second.
        every = [Cut(moment="KILL_BEFORE", number=number + 1) for number in range(len(calls))]
        every.append(Cut(moment="KILL_AFTER", number=len(calls)))
        for cut in random.sample(every, min(cuts, len(every))) if cuts else every:
            said = f"{cut.moment} {cut.number}: {calls[cut.number - 1]}"
            run = self.begin(**{cut.moment: str(cut.number)})
            assert run.code == -signal.SIGKILL, f"{said}\n{run.everything}"
            try:
                whole()
            except AssertionError as error:
                raise AssertionError(f"{said}\n{error}") from error


def assert_whole(host: Host, revision: str) -> None:
    """The revision is live, deployed and alone; the trees are those to keep, and one at most that is about to go."""
    assert host.standing == revision
    assert host.ask("rev-parse", "refs/gitopsd/deployed") == revision
    assert host.deploys[-1] == revision
    assert git(host.path, "status", "--porcelain", "--untracked-files=no") == ""
    assert not host.ask("for-each-ref", "refs/gitopsd/activating", "refs/gitopsd/rollback")
    assert len(host.releases) <= int(host.environment["GITOPSD_KEEP"]) + 1
    left = {"gitopsd-problem", "gitopsd-messages", "gitopsd-gate", "gitopsd-rescue", "gitopsd-start"}
    assert not left & {file.name for file in host.git_dir.iterdir()}
    assert not list(host.git_dir.rglob("*.new"))
    assert not [file for file in host.path.parent.iterdir() if file.name not in {"blog", ".blog.releases"}]
    assert not list(host.path.parent.glob(".blog.releases/.*"))
    host.is_in_order()


# At each call of a program that changes something


@pytest.mark.timeout(600)
@both_strategies
def test_a_first_sync_ended_anywhere_is_mended_by_the_next(
    tmp_path: Path, remote: Remote, strategy: str, cuts: int
) -> None:
    host = host_of(strategy, tmp_path, remote)

    def whole() -> None:
        run = host.synced()
        assert run["new_revision"] == remote.tip()
        assert_whole(host, remote.tip())
        assert len(host.releases) <= 1

    Scene(host=host).end_anywhere(whole, cuts)


@pytest.mark.timeout(600)
@both_strategies
def test_an_update_ended_anywhere_is_mended_by_the_next(
    tmp_path: Path, remote: Remote, strategy: str, cuts: int
) -> None:
    host = host_of(strategy, tmp_path, remote)
    host.environment |= {"GITOPSD_LOCAL_CHANGES": "rescue", "GITOPSD_CLEAN": "untracked"}
    host.synced()
    if host.is_release:
        write_into(host)
        remote.push({"page": "2\n"})
        host.synced()
    else:
        write_into(host)
    tip = remote.remove("gone", files={"page": "3\n", "new/page": "3\n"})

    def whole() -> None:
        host.synced()
        assert_whole(host, tip)
        assert not (host.path / "gone").exists()
        contents = host.contents()
        assert all(f"{NOTE}: {name}" in contents for name in ("README", "notes", "mine.env"))

    Scene(host=host).end_anywhere(whole, cuts)


def write_into(host: Host) -> None:
    """Write files of all kinds into the tree that is live."""
    for name in ("README", "notes", "mine.env"):
        (host.path / name).write_text(f"{NOTE}: {name}\n")


@pytest.mark.timeout(600)
@both_strategies
def test_a_rollback_ended_anywhere_is_gone_on_with_by_the_next(
    tmp_path: Path, remote: Remote, strategy: str, cuts: int
) -> None:
    host = host_of(strategy, tmp_path, remote)
    host.synced()
    old, bad = remote.tip(), remote.push({"bad": "\n", "page": "2\n"})

    def whole() -> None:
        run = host.sync()
        assert run.code in {DEPLOY_FAILED, REFUSED}, run.everything
        assert_whole(host, old)
        assert (host.git_dir / "gitopsd-bad").read_text().split("\n")[0] == bad

    Scene(host=host).end_anywhere(whole, cuts, code=DEPLOY_FAILED)


@pytest.mark.timeout(600)
def test_a_repair_of_drift_ended_anywhere_is_mended_by_the_next(tmp_path: Path, remote: Remote, cuts: int) -> None:
    host = host_of("release", tmp_path, remote)
    host.environment["GITOPSD_DRIFT"] = "repair"
    host.synced()
    (host.path / "README").write_text(f"{NOTE}\n")
    (host.path / "gone" / "page").unlink()

    def whole() -> None:
        host.synced()
        assert_whole(host, remote.tip())
        assert NOTE in host.contents()

    Scene(host=host).end_anywhere(whole, cuts)


# Within a phase


@both_strategies
@pytest.mark.parametrize("phase", ["gate", "deploy", "health"])
def test_a_sync_ended_within_a_command_is_mended_by_the_next(
    tmp_path: Path, remote: Remote, strategy: str, phase: str
) -> None:
    host = host_of(strategy, tmp_path, remote)
    host.synced()
    tip = remote.push({"page": "2\n"})
    run = host.sync(**{f"GITOPSD_{phase.upper()}": shlex.join(["sh", "-c", f"echo >half; {KILL}"])})
    assert run.code == -signal.SIGKILL
    host.synced()
    assert_whole(host, tip)


@both_strategies
@pytest.mark.parametrize("phase", ["deploy", "health"])
def test_a_rollback_ended_within_its_own_command_is_gone_on_with_while_the_remote_is_gone(
    tmp_path: Path, remote: Remote, strategy: str, phase: str
) -> None:
    host = host_of(strategy, tmp_path, remote)
    host.synced()
    old, bad = remote.tip(), remote.push({"bad": "\n", "page": "2\n"})
    command = "if [ -e bad ]; then echo broken >page; exit 1; fi; " + KILL
    run = host.sync(**{"GITOPSD_DEPLOY": "true", f"GITOPSD_{phase.upper()}": shlex.join(["sh", "-c", command])},
                    GITOPSD_HEALTH_TRIES="1")  # fmt: skip
    assert run.code == -signal.SIGKILL
    assert host.standing == old
    remote.bare.rename(tmp_path / "gone.git")
    run = host.sync()
    assert run.code == TRY_AGAIN
    assert "does not appear to be a git repository" in run["reason"]
    assert run["rolled_back"] == old
    assert_whole(host, old)
    (tmp_path / "gone.git").rename(remote.bare)
    assert bad[:12] in host.in_vain("bad revision")["reason"]


@both_strategies
def test_a_sync_ended_while_the_tree_is_written_is_mended_by_the_next(
    tmp_path: Path, remote: Remote, strategy: str
) -> None:
    host = host_of(strategy, tmp_path, remote)
    flag = killing_filter(host)
    remote.push({".gitattributes": "*.cut filter=cut\n", "a": "1\n", "b.cut": "1\n", "c": "1\n"})
    host.synced()
    tip = remote.push({"a": "2\n", "b.cut": "2\n", "c": "2\n", "page": "2\n"})
    for _ in range(2):
        flag.touch()
        assert host.sync().code == -signal.SIGKILL
        assert (host.path / "c").read_text() == "1\n"
    host.synced()
    assert_whole(host, tip)


def killing_filter(host: Host) -> Path:
    """While the file that it returns is there, the first `*.cut` that git writes ends the engine within that."""
    flag, program = host.directory / "cut", host.directory / "filter"
    program.write_text(f"#!/bin/sh\nif [ -e {flag} ]; then rm {flag}; kill -KILL 0; fi\nexec cat\n")
    program.chmod(0o755)
    configuration = host.directory / "gitconfig"
    git(host.directory, "config", "--file", str(configuration), "filter.cut.smudge", str(program))
    host.environment["GIT_CONFIG_GLOBAL"] = str(configuration)
    return flag


@both_strategies
def test_a_sync_ended_while_it_fetches_is_mended_by_the_next(tmp_path: Path, remote: Remote, strategy: str) -> None:
    host = host_of(strategy, tmp_path, remote)
    host.synced()
    tip = remote.push({f"page{number}": f"{number}\n" for number in range(200)})
    hook, configuration = tmp_path / "hook", tmp_path / "gitconfig"
    hook.write_text('#!/bin/sh\n"$@" | head -c 5000\nkill -KILL 0\n')
    hook.chmod(0o755)
    git(tmp_path, "config", "--file", str(configuration), "uploadpack.packObjectsHook", str(hook))
    git(tmp_path, "config", "--file", str(configuration), "fetch.unpackLimit", "1")
    for _ in range(2):
        assert host.sync(GIT_CONFIG_GLOBAL=str(configuration)).code == -signal.SIGKILL
    host.synced()
    assert_whole(host, tip)
    assert not list(host.git_dir.glob("objects/pack/tmp_*"))


HALF_MADE = {
    "a directory of git's alone": (["{marks}/"], None),
    "and one for the tree": (["{marks}/locked", "{tree}/"], None),
    "known where it will be": (["{marks}/locked", "{marks}/gitdir"], None),
    "an empty .git": (["{marks}/locked", "{marks}/gitdir", "{tree}/.git"], ""),
    "a .git alone": (["{marks}/locked", "{marks}/gitdir", "{tree}/.git"], "gitdir: {marks}\n"),
    "a HEAD": (["{marks}/locked", "{marks}/gitdir", "{tree}/.git", "{marks}/HEAD"], "gitdir: {marks}\n"),
}
"""What git has made of a worktree when it is killed, in this order, and what is in its .git."""


@pytest.mark.parametrize("made", HALF_MADE)
def test_what_a_git_that_was_killed_has_made_of_a_tree_is_removed(tmp_path: Path, remote: Remote, made: str) -> None:
    host = host_of("release", tmp_path, remote)
    host.synced()
    (tree,) = host.releases
    name = f"20260101T000000.000000Z-{remote.tip()[:12]}"
    places = {"marks": str(host.git_dir / "worktrees" / name), "tree": str(tree.with_name(name))}
    files, content = HALF_MADE[made]
    for template in files:
        file = Path(template.format(**places))
        (file if template.endswith("/") else file.parent).mkdir(parents=True, exist_ok=True)
        if file.name == "gitdir":
            file.write_text(f"{places['tree']}/.git\n")
        elif file.name == ".git":
            file.write_text((content or "").format(**places))
        elif not template.endswith("/"):
            file.write_text("initializing\n" if file.name == "locked" else f"{'0' * 40}\n")
    assert host.synced()["changed"] == "no"
    assert host.releases == [tree]
    assert_whole(host, remote.tip())


@pytest.mark.parametrize("what", ["a tree", "what git has of it"])
def test_a_release_that_was_half_removed_is_removed(tmp_path: Path, remote: Remote, what: str) -> None:
    host = host_of("release", tmp_path, remote)
    host.synced()
    remote.push()
    host.synced()
    old = host.releases[0]
    marks = host.git_dir / "worktrees" / old.name
    old.rename(old.with_name(f".trash.{old.name}"))
    (old.with_name(f".trash.{old.name}") / ".git").unlink()
    if what == "what git has of it":
        shutil.rmtree(old.with_name(f".trash.{old.name}"))
        (marks / "gitdir").unlink()
    host.synced()
    assert len(host.releases) == 1
    assert_whole(host, remote.tip())


def test_syncs_that_are_killed_one_after_the_other_take_no_more_room(tmp_path: Path, remote: Remote) -> None:
    host = host_of("release", tmp_path, remote)
    host.synced()
    for number in range(6):
        remote.push({"page": f"{number}\n"})
        phase = ("GATE", "DEPLOY", "HEALTH")[number % 3]
        assert host.sync(**{f"GITOPSD_{phase}": shlex.join(["sh", "-c", KILL])}).code == -signal.SIGKILL
        assert len(host.releases) <= 2 + 2
    host.synced()
    assert_whole(host, remote.tip())
