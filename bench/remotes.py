"""Remotes with commits to push."""

import os
import subprocess
from pathlib import Path


def git(directory: Path, *words: str, stdin: str | None = None) -> str:
    """Run git there; what it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_CONFIG_GLOBAL": "/dev/null"}
    return subprocess.run(
        ["git", *words], cwd=directory, env=environment, input=stdin, capture_output=True, text=True, check=True
    ).stdout


def make_remote(directory: Path, number: int) -> tuple[Path, list[str]]:
    """A bare remote whose branch main is at the first of so many commits and one; their revisions."""
    bare = directory / "remote.git"
    git(directory, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    stream = "".join(
        f"commit refs/heads/all\ncommitter Ada <ada@example.org> {10**9 + each} +0000\ndata 0\n"
        f"M 100644 inline page\ndata <<.\n{each}\n.\n\n"
        for each in range(number + 1)
    )
    git(bare, "fast-import", "--quiet", stdin=stream)
    revisions = git(bare, "rev-list", "--reverse", "all").split()
    git(bare, "update-ref", "refs/heads/main", revisions[0])
    return bare, revisions
