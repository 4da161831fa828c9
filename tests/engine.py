"""The engine, run as it is run in earnest: the script, real git, real files, a process group of its own."""

import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.remote import Remote, git, git_environment

SCRIPT = Path(__file__).parents[1] / "scripts" / "gitops_sync.sh"
DEPLOY_FAILED, TRY_AGAIN, REFUSED, MISCONFIGURED = 1, 75, 77, 78


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of the engine left."""

    code: int
    stdout: str
    stderr: str
    output: str

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(key, value) for key, _, value in (line.partition("=") for line in self.output.splitlines())]

    def __getitem__(self, key: str) -> str:
        """The value of a key, which must be there once."""
        (value,) = [value for name, value in self.pairs if name == key]
        return value

    @property
    def phases(self) -> list[str]:
        return [value.split(" ")[0] for key, value in self.pairs if key == "phase"]

    @property
    def everything(self) -> str:
        return self.stdout + self.stderr + self.output


@dataclass(kw_only=True)
class Site:
    """One host: a remote, a checkout and what its deploys wrote."""

    directory: Path
    remote: Remote
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.directory / "srv" / "blog"

    @property
    def deploys(self) -> list[str]:
        """The revisions that were deployed, in order."""
        log = self.directory / "deploys"
        return log.read_text().split() if log.exists() else []

    @property
    def deploy(self) -> list[str]:
        return ["sh", "-c", 'echo "$GITOPSD_NEW_REVISION" >>"$1"', "deploy", str(self.directory / "deploys")]

    def command_environment(self, **more: str | None) -> dict[str, str]:
        environment: dict[str, str | None] = {
            **git_environment(HOME=str(self.directory)),
            "GITOPSD_URL": self.remote.url,
            "GITOPSD_REF": self.remote.branch,
            "GITOPSD_PATH": str(self.path),
            "GITOPSD_DEPLOY": shlex.join(self.deploy),
            "GITOPSD_OUTPUT": str(self.directory / "output"),
            **self.environment,
            **more,
        }
        return {name: value for name, value in environment.items() if value is not None}

    def sync(self, *arguments: str, **more: str | None) -> Run:
        """Run the engine once, in a process group of its own; a variable that is None is left out."""
        output = self.directory / "output"
        output.unlink(missing_ok=True)
        done = subprocess.run(
            [str(SCRIPT), *(arguments or ("blog",))],
            env=self.command_environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,
            cwd=self.directory,
        )
        assert not re.search(r": line \d+: ", done.stderr), f"bash complains: {done.stderr}"
        run = Run(
            code=done.returncode,
            stdout=done.stdout,
            stderr=done.stderr,
            output=output.read_text(errors="replace") if output.exists() else "",
        )
        if run.code > 0 and run.output:
            assert run["reason"]
        return run

    def synced(self, **more: str | None) -> Run:
        """Run the engine, which has to succeed."""
        run = self.sync(**more)
        assert run.code == 0, run.everything
        return run

    def refused(self, reason: str, *, code: int = REFUSED, **more: str | None) -> Run:
        """Run the engine, which has to refuse for this reason and to leave everything as it is."""
        before = self.state()
        deploys = self.deploys
        run = self.sync(**more)
        assert run.code == code, run.everything
        assert reason in run["reason"], run.everything
        assert run["reason"] in run.stderr
        assert self.state() == before
        assert self.deploys == deploys
        return run

    def state(self) -> dict[str, str]:
        """Every file in the tree, the index, HEAD and the refs, but not where the remote is."""
        if not self.path.exists():
            return {}
        state = {
            str(file.relative_to(self.path)): file.read_text() if file.is_file() else "link"
            for file in self.path.rglob("*")
            if (file.is_file() or file.is_symlink()) and ".git" not in file.relative_to(self.path).parts
        }
        if (self.path / ".git" / "HEAD").exists():
            state[".git/index"] = self.git("ls-files", "--stage")
            state[".git/HEAD"] = (self.path / ".git" / "HEAD").read_text()
            refs = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
            state[".git/refs"] = "\n".join(line for line in refs if not line.startswith("refs/gitopsd/tip "))
        return state

    def git(self, *arguments: str) -> str:
        return git(self.path, *arguments)

    def has_ref(self, name: str) -> bool:
        return bool(self.git("for-each-ref", name))

    def write(self, name: str, content: str) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def assert_stands_at(self, revision: str) -> None:
        """The tree is exactly the revision's, on the branch, and the last deploy was of it."""
        branch = self.remote.branch
        assert self.git("symbolic-ref", "HEAD") == f"refs/heads/{branch}"
        names = ["HEAD", "refs/gitopsd/deployed", f"refs/remotes/origin/{branch}"]
        assert self.git("rev-parse", *names).split() == [revision] * 3
        assert self.git("status", "--porcelain", "--untracked-files=no") == ""
        assert not self.has_ref("refs/gitopsd/activating")
        assert self.deploys[-1] == revision
        assert not list((self.path / ".git").glob("*.lock"))
