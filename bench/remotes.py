"""Remotes with commits to push."""

from pathlib import Path

from bench.sync import git


def make_remote(directory: Path, number: int) -> tuple[Path, list[str]]:
    """A bare remote whose branch main is at the first of so many commits and one; their revisions."""
    bare = directory / "remote.git"
    git(directory, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    stream = "".join(
        f"commit refs/heads/all\ncommitter Ada <ada@example.org> {10**9 + each} +0000\ndata 0\n"
        f"M 100644 inline page\ndata <<.\n{each}\n.\n\n"
        for each in range(number + 1)
    )
    git(bare, "fast-import", "--quiet", stdin=stream.encode())
    revisions = git(bare, "rev-list", "--reverse", "all").split()
    git(bare, "update-ref", "refs/heads/main", revisions[0])
    return bare, revisions
