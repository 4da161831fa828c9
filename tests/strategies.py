"""A host of either strategy, looked at from outside: what is live, and where the engine keeps its own."""

import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine import REFUSED, TRY_AGAIN, Run, Site
from tests.remote import Remote, git

STRATEGIES = ["in-place", "release"]
both_strategies = pytest.mark.parametrize("strategy", STRATEGIES)


def copy_of(remote: Remote, directory: Path) -> Remote:
    """The same remote elsewhere, which is much faster than another one."""
    return Remote(
        bare=shutil.copytree(remote.bare, directory / "remote.git"),
        work=shutil.copytree(remote.work, directory / "work"),
        branch=remote.branch,
    )


def path_without(directory: Path, *names: str) -> str:
    """A PATH with all commands of this machine but these; `directory` gets links to them."""
    directory.mkdir()
    for place in ("/usr/local/bin", "/bin", "/usr/bin"):
        for file in Path(place).iterdir():
            if file.name not in names and not (directory / file.name).is_symlink():
                (directory / file.name).symlink_to(file)
    return str(directory)


@dataclass(kw_only=True)
class Host(Site):
    """A site with a strategy of its own."""

    strategy: str

    def __post_init__(self) -> None:
        self.environment |= {
            "GITOPSD_STRATEGY": self.strategy,
            "GITOPSD_STATE_DIR": str(self.directory / "state"),
        }

    @property
    def is_release(self) -> bool:
        return self.strategy == "release"

    @property
    def git_dir(self) -> Path:
        return self.directory / "state" / "mirrors" / "blog" if self.is_release else self.path / ".git"

    def ask(self, *words: str) -> str:
        """What git says of the repository that the engine works with."""
        return git(self.directory, f"--git-dir={self.git_dir}", *words)

    @property
    def standing(self) -> str:
        """The revision that is live; "" for none."""
        if self.is_release:
            return git(self.path, "rev-parse", "HEAD") if self.path.is_symlink() else ""
        done = self.ask("for-each-ref", "--count=1") if self.git_dir.exists() else ""
        return self.ask("rev-parse", "HEAD") if done and (self.git_dir / "index").exists() else ""

    @property
    def releases(self) -> list[Path]:
        return sorted((self.path.parent / ".blog.releases").glob("[0-9]*"))

    @property
    def rescues(self) -> list[str]:
        """The refs of what was saved, the oldest first."""
        return self.ask("for-each-ref", "--format=%(refname)", "refs/gitopsd/rescue").split()

    def is_in_order(self) -> None:
        """Each tree is known to git and each that git knows is there; no lock is left, and no object is missing."""
        known = [
            line for line in self.ask("worktree", "list", "--porcelain").splitlines() if line.startswith("worktree ")
        ]
        trees = [f"worktree {tree}" for tree in self.releases]
        assert sorted(known) == sorted([f"worktree {self.git_dir if self.is_release else self.path}", *trees])
        assert len(list(self.git_dir.glob("worktrees/*"))) == len(trees)
        assert not list(self.git_dir.rglob("*.lock"))
        assert self.ask("fsck", "--no-dangling") == ""

    def contents(self) -> str:
        """All that somebody can find: in the trees, in their indexes, and in the commits that a ref leads to."""
        found = [self.ask("log", "--all", "-m", "--patch", "--format=")]
        for tree in {self.path.resolve(), *self.releases}:
            found.append(git(tree, "diff", "--cached", "--patch"))
            for file in tree.rglob("*"):
                if file.is_symlink():
                    found.append(str(file.readlink()))
                elif file.is_file() and ".git" not in file.relative_to(tree).parts:
                    found.append(file.read_text())
        return "\n".join(found)

    def live(self) -> dict[str, tuple[object, ...]]:
        """All that a reader of `path` sees, byte for byte, and whether it was written anew."""
        seen: dict[str, tuple[object, ...]] = {}
        for file in self.path.rglob("*") if self.path.exists() else ():
            name = file.relative_to(self.path)
            if name.parts[0] != ".git":
                status = file.lstat()
                content = file.read_bytes() if stat.S_ISREG(status.st_mode) else b""
                seen[str(name)] = (oct(status.st_mode), content, status.st_ino, status.st_mtime_ns * (content != b""))
        seen["."] = (self.path.resolve(),)
        return seen

    def in_vain(self, reason: str, *, code: int = REFUSED, **more: str | None) -> Run:
        """Sync, which has to come to nothing for this reason: what is live is as it was, and no command has run."""
        live, standing, deploys = self.live(), self.standing, self.deploys
        run = self.sync(**more)
        assert run.code == code, run.everything
        assert reason in run["reason"], run.everything
        assert len(run["reason"]) < 500
        assert run["reason"] in run.stderr
        assert self.live() == live
        assert self.standing == standing
        assert self.deploys == deploys
        return run

    def to_try_again(self, reason: str, **more: str | None) -> Run:
        return self.in_vain(reason, code=TRY_AGAIN, **more)

    def deployed(self, revision: str, **more: str | None) -> Run:
        """Sync, which has to bring this revision to life and to deploy it."""
        run = self.synced(**more)
        self.is_at(revision)
        assert run["new_revision"] == revision
        return run

    def is_at(self, revision: str) -> None:
        """The live tree is exactly this revision's, it was deployed last, and nothing is left over."""
        assert self.standing == revision
        assert self.ask("rev-parse", "refs/gitopsd/deployed") == revision
        assert self.deploys[-1] == revision
        assert git(self.path, "status", "--porcelain") == ""
        assert not self.ask("for-each-ref", "refs/gitopsd/activating", "refs/gitopsd/rollback")
        assert not list(self.git_dir.rglob("*.lock"))
        assert not list(self.path.parent.glob(".blog.releases/.trash*"))
        assert not list(self.path.parent.glob(".blog.next"))
        kept = {"gitopsd-problem", "gitopsd-messages", "gitopsd-gate", "gitopsd-rescue", "gitopsd-keys"}
        assert not kept & {file.name for file in self.git_dir.iterdir()}
