"""A real remote for tests: a bare repository, and a clone to push to it from."""

import os
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


def git_environment(**more: str) -> dict[str, str]:
    """All that git sees of its surroundings: no configuration but the repository's, and a made-up author."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
        **more,
    }


def git(directory: Path, *arguments: str) -> str:
    """Run git in a directory and return what it printed, without the last newline."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env=git_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"git {' '.join(arguments)} in {directory} exited with {done.returncode}: {done.stderr}")
    return done.stdout.rstrip("\n")


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A bare repository that tests push to and that what is tested fetches from."""

    bare: Path
    work: Path
    branch: str

    @classmethod
    def create(cls, directory: Path, branch: str = "main", *, object_format: str = "sha1") -> Self:
        """Make `remote.git` and a clone of it under a directory; its first commit is its own, and holds a README."""
        remote = cls(bare=directory / "remote.git", work=directory / "work", branch=branch)
        directory.mkdir(parents=True, exist_ok=True)
        start = ("init", "--quiet", f"--initial-branch={branch}", f"--object-format={object_format}", "--template=")
        git(directory, *start, "--bare", str(remote.bare))
        git(directory, *start, str(remote.work))
        git(remote.work, "remote", "add", "origin", str(remote.bare))
        remote.push({"README": "A remote for tests.\n"}, f"first {uuid.uuid4().hex}")
        return remote

    @property
    def url(self) -> str:
        """The bare repository's path, which git takes as a URL."""
        return str(self.bare)

    def push(self, files: Mapping[str, str] | None = None, message: str = "change") -> str:
        """Commit the files (path: content), or one of its own kind, push the branch, return the full revision."""
        return self._commit_and_push(files or {f"file-{uuid.uuid4().hex}": "unique\n"}, message)

    def remove(self, *names: str, files: Mapping[str, str] | None = None) -> str:
        """Commit and push without these paths, and with the given files, which may stand in the place of them."""
        git(self.work, "rm", "--quiet", "-r", "--", *names)
        return self._commit_and_push(files or {}, "remove")

    def rewind(self, count: int = 1, files: Mapping[str, str] | None = None) -> str:
        """Take the last commits back, commit the files if there are any, and force it on the remote."""
        git(self.work, "reset", "--quiet", "--hard", f"HEAD~{count}")
        if files:
            return self._commit_and_push(files, "another history")
        return self._push()

    def start_branch(self, name: str) -> Self:
        """The same remote, on a new branch that starts at this one's tip."""
        git(self.work, "checkout", "--quiet", "-b", name)
        other = type(self)(bare=self.bare, work=self.work, branch=name)
        other._push()
        return other

    def delete_branch(self, name: str) -> None:
        """Delete a branch on the remote; the clone keeps it."""
        git(self.bare, "update-ref", "-d", f"refs/heads/{name}")

    def tag(self, name: str, message: str = "") -> str:
        """Tag the last commit, or move a tag to it, and push that; the id of the tag, its own if it has a message."""
        git(self.work, "tag", "--force", *(("-m", message) if message else ()), name)
        git(self.work, "push", "--quiet", "--force", self.url, f"refs/tags/{name}")
        return git(self.work, "rev-parse", f"refs/tags/{name}")

    def delete_tag(self, name: str) -> None:
        """Delete a tag on the remote; the clone keeps it."""
        git(self.bare, "update-ref", "-d", f"refs/tags/{name}")

    def tip(self, branch: str | None = None) -> str:
        """The full revision of a branch on the remote."""
        return git(self.bare, "rev-parse", "--verify", f"refs/heads/{branch or self.branch}")

    def _commit_and_push(self, files: Mapping[str, str], message: str) -> str:
        for name, content in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            if content.startswith("#!"):
                path.chmod(0o755)
        if files:
            git(self.work, "add", "--force", "--", *files)
        git(self.work, "commit", "--quiet", "-m", message)
        return self._push()

    def _push(self) -> str:
        git(self.work, "push", "--quiet", "--force", self.url, f"HEAD:refs/heads/{self.branch}")
        return git(self.work, "rev-parse", "HEAD")
