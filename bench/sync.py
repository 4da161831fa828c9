"""How long a sync takes beside bare git: `python -m bench.sync [--quick] [--directory DIR]`.

For trees of several sizes and pushes of ten files each, the engine and bare git bring copies of one remote to the same
revisions, in turns. Prints the medians and writes them to bench/sync.md. Needs git, and ssh-keygen for signed commits.
"""

import argparse
import contextlib
import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.machine import machine, warn_if_busy
from bench.table import markdown, show

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ROOT / "scripts" / "gitops_sync.sh"
REPORT = Path(__file__).with_suffix(".md")

FULL = {100: 5, 10_000: 5, 100_000: 3}  # how many files: how many pairs
QUICK = {100: 3, 1_000: 3}
CHANGED = 10
KEEP = 3
ROLLBACK_LIMIT_SEC = 1.0

FETCH = "git fetch --quiet origin && git reset --quiet --hard origin/main"
ADD = 'git fetch --quiet origin && git worktree add --quiet --detach "../trees/$REVISION" "$REVISION"'
ON_DISK = " && sync -f ."
REMOVE = ' && if [ "$OLDEST" ]; then git worktree remove --force "../trees/$OLDEST"; fi'

BARE, DISK, OURS = "git", "git+sync", "engine"
ROLLBACK = "rollback"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One way to bring a copy to a revision, and where that copy's tree is then."""

    name: str
    argv: Sequence[str]
    cwd: Path
    tree: Callable[[str], Path]
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A bare repository; each of its `tips` is a push later than the one before it, and the first is on main."""

    bare: Path
    files: int
    tips: Sequence[str]
    signers: Path | None

    @property
    def url(self) -> str:
        """As a URL, so that git copies no more than what main has."""
        return f"file://{self.bare}"

    def push(self, number: int) -> str:
        """Move main to a tip; its revision."""
        git(self.bare, "update-ref", "refs/heads/main", self.tips[number])
        return self.tips[number]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of one thing: the seconds of each round, by the name of the subject."""

    files: int
    what: str
    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> str:
        """In milliseconds."""
        return f"{statistics.median(self.seconds[name]) * 1000:,.0f} ms" if name in self.seconds else "-"

    def ratio(self, name: str) -> str:
        """How many times that of `name` the engine takes: the median of the ratios of each round."""
        if name not in self.seconds:
            return "-"
        pairs = zip(self.seconds[OURS], self.seconds[name], strict=True)
        return f"{statistics.median(ours / theirs for ours, theirs in pairs):.2f}"

    def cells(self) -> Sequence[str]:
        """The row of the table."""
        medians = [self.median(name) for name in (BARE, DISK, OURS)]
        return [f"{self.files:,}", self.what, *medians, self.ratio(BARE), self.ratio(DISK)]


HEAD = ("files", "what", BARE, DISK, OURS, f"x {BARE}", f"x {DISK}")

EXPLAINED = f"""# How long a sync takes

Written by `python -m bench.sync`, which tells how it is measured. Each push changes {CHANGED} files. All have copies
of the same remote, and its pushes come to them in turns; another one begins each time. Times are medians, and `x` are
medians of the ratios of each turn. What one has written is on the disk before the next one begins.

- **{BARE}**: `git fetch && git reset --hard origin/main`; for `release` `git fetch && git worktree add`; where there is
  nothing to do `git ls-remote`.
- **{DISK}**: the same, then `sync -f`: like the engine it has ended only when a power cut takes nothing away. For
  `release` the tree before the last {KEEP} is removed, too.
- **{OURS}**: `gitops_sync.sh`, with no command to deploy.

A rollback goes to a release that was kept, while the remote is away. It has to take less than 1 s.
"""

# What surrounds the commands


def environment(**more: str) -> dict[str, str]:
    """No configuration but the repository's own, and a made-up author."""
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


def run(argv: Sequence[str], cwd: Path, *, stdin: bytes = b"", more: Mapping[str, str] | None = None) -> str:
    """What it prints. Ends the program if it fails."""
    done = subprocess.run(argv, cwd=cwd, env=environment(**(more or {})), input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"bench.sync: {' '.join(argv)} in {cwd} exited with {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode().strip()


def git(directory: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git in a directory."""
    return run(["git", *arguments], directory, stdin=stdin)


# The remote


def make_remote(directory: Path, files: int, pushes: int) -> Remote:
    """A remote with so many files, and so many pushes to come; the commits are signed if there is ssh-keygen."""
    bare = directory / "remote.git"
    git(directory, "init", "--quiet", "--bare", "--initial-branch=main", "--template=", str(bare))
    git(bare, "fast-import", "--quiet", stdin=b"".join(history(files, pushes)))
    key, signers = make_key(directory)
    sign = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={key}"] if key else []
    tips: list[str] = []
    for number in range(pushes + 1):
        parent = ["-p", tips[-1]] if tips else []
        how = ["commit-tree", *(["-S"] if key else []), "-m", f"push {number}", *parent]
        tips.append(git(bare, *sign, *how, f"refs/import/{number}^{{tree}}"))
        git(bare, "update-ref", f"refs/pushes/{number}", tips[-1])
        git(bare, "update-ref", "-d", f"refs/import/{number}")
    remote = Remote(bare=bare, files=files, tips=tips, signers=signers)
    remote.push(0)
    return remote


def history(files: int, pushes: int) -> Iterator[bytes]:
    """For git fast-import: one commit with all files, then one for each push."""
    for number in range(pushes + 1):
        yield f"commit refs/import/{number}\ncommitter Ada <ada@example.org> {10**9 + number} +0000\ndata 0\n".encode()
        if number:
            yield f"from refs/import/{number - 1}\n".encode()
        spread = [(each * files // CHANGED + number) % files for each in range(CHANGED)]
        for index in spread if number else range(files):
            text = f"file {index} as push {number} has it\n".encode() * 4
            name = f"part-{index // 100:04}/file-{index:06}.txt"
            yield f"M 100644 inline {name}\ndata {len(text)}\n".encode() + text
        yield b"\n"


def make_key(directory: Path) -> tuple[Path | None, Path | None]:
    """A key to sign with, and the file that names who may sign."""
    if not shutil.which("ssh-keygen"):
        return None, None
    key, signers = directory / "key", directory / "allowed_signers"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], directory)
    signers.write_text(f"ada@example.org {key.with_suffix('.pub').read_text()}")
    return key, signers


# Who brings a copy to its revision


def clone(remote: Remote, place: Path) -> Path:
    """A checkout."""
    git(place.parent, "clone", "--quiet", "--branch=main", remote.url, str(place))
    return place


def mirror(remote: Remote, place: Path) -> Path:
    """A bare repository, with a directory beside it for trees."""
    (place / "trees").mkdir(parents=True)
    git(place, "clone", "--quiet", "--bare", "--single-branch", remote.url, "mirror")
    git(place / "mirror", "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    return place / "mirror"


def shell(name: str, script: str, cwd: Path, tree: Callable[[str], Path]) -> Subject:
    """Somebody's script."""
    return Subject(name=name, argv=["sh", "-c", script], cwd=cwd, tree=tree)


def engine(remote: Remote, directory: Path, path: Path, **settings: str) -> Subject:
    """The engine, with nothing to deploy and its files below `directory`."""
    told = {
        "URL": remote.url,
        "REF": "main",
        "PATH": str(path),
        "STATE_DIR": str(directory / "state"),
        "OUTPUT": str(directory / "output"),
        **settings,
    }
    more = {f"GITOPSD_{name}": value for name, value in told.items()}
    return Subject(name=OURS, argv=[str(ENGINE), "bench"], cwd=directory, tree=lambda _: path, more=more)


def in_place(remote: Remote, directory: Path, verify: str = "none") -> list[Subject]:
    """Checkouts: git alone, git and then what the engine does for a power cut, the engine."""
    ours, bare, disk = [clone(remote, directory / name) for name in ("ours", "bare", "disk")]
    settings = {"VERIFY": verify, "ALLOWED_SIGNERS": str(remote.signers)}
    return [
        shell(BARE, FETCH, bare, lambda _: bare),
        shell(DISK, FETCH + ON_DISK, disk, lambda _: disk),
        engine(remote, directory, ours, **settings),
    ]


def release(remote: Remote, directory: Path) -> list[Subject]:
    """A tree for each revision: git alone, git that writes it to the disk and removes old trees, the engine."""
    bare, disk = [mirror(remote, directory / name) for name in ("bare", "disk")]
    return [
        shell(BARE, ADD, bare, lambda revision: bare.parent / "trees" / revision),
        shell(DISK, ADD + ON_DISK + REMOVE, disk, lambda revision: disk.parent / "trees" / revision),
        engine(remote, directory, directory / "live", STRATEGY="release", KEEP=str(KEEP)),
    ]


# To measure


def seconds_of(subject: Subject, **more: str) -> float:
    """How long it takes. What others have written is on the disk before, so that nobody pays for that."""
    os.sync()
    start = time.perf_counter()
    run(subject.argv, subject.cwd, more={**subject.more, **more})
    return time.perf_counter() - start


def in_turns(
    subjects: Sequence[Subject], rounds: int, told: Callable[[int], Mapping[str, str]]
) -> dict[str, list[float]]:
    """The seconds of each, in rounds in which another one begins each time. The first round warms up."""
    seconds: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for number in range(rounds + 1):
        more = told(number)
        first = number % len(subjects)
        for subject in (*subjects[first:], *subjects[:first]):
            taken = seconds_of(subject, **more)
            if number:
                seconds[subject.name].append(taken)
    return seconds


def syncs(remote: Remote, subjects: Sequence[Subject], first: int, pairs: int, what: str) -> Row:
    """Syncs to one push after the other, of which `first` is the first."""
    for subject in subjects:
        if subject.name == OURS:
            seconds_of(subject)  # what it keeps in a checkout is there from now on

    def push(number: int) -> dict[str, str]:
        oldest = remote.tips[first + number - KEEP] if number >= KEEP else ""
        return {"REVISION": remote.push(first + number), "OLDEST": oldest}

    seconds = in_turns(subjects, pairs, push)
    for subject in subjects:
        check(subject.tree(remote.tips[first + pairs]), remote.tips[first + pairs], remote.files)
    return Row(files=remote.files, what=what, seconds=seconds)


def nothing_to_do(remote: Remote, ours: Subject, pairs: int) -> Row:
    """A sync to what is deployed, beside the least that finds that out."""
    look = shell(BARE, "git ls-remote --quiet origin refs/heads/main", ours.tree(""), ours.tree)
    return Row(files=remote.files, what="nothing to do", seconds=in_turns([look, ours], pairs, lambda _: {}))


def rollbacks(remote: Remote, ours: Subject, revisions: Sequence[str], pairs: int) -> Row:
    """From one kept release to the other and back while the remote is away."""
    away = remote.bare.rename(remote.bare.with_suffix(".away"))
    seconds = in_turns([ours], pairs, lambda number: {"GITOPSD_REVISION": revisions[number % len(revisions)]})
    check(ours.tree(""), revisions[pairs % len(revisions)], remote.files)
    away.rename(remote.bare)
    return Row(files=remote.files, what=ROLLBACK, seconds=seconds)


def check(tree: Path, revision: str, files: int) -> None:
    """Whether the tree is that of the revision, whole and with nothing else. Ends the program if not."""
    found = git(tree, "rev-parse", "HEAD"), git(tree, "status", "--porcelain", "--ignored"), git(tree, "ls-files")
    if found[:2] != (revision, "") or len(found[2].splitlines()) != files:
        sys.exit(f"bench.sync: {tree} is not what it has to be: {revision}, {files} files")


def measure(directory: Path, files: int, pairs: int, say: Callable[[str], None]) -> Iterator[Row]:
    """Everything of trees of one size; in a directory that is empty."""
    say(f"{files:,} files: a remote for them")
    rounds = pairs + 1
    remote = make_remote(directory, files, 3 * rounds)
    ways: list[tuple[str, Callable[[Remote, Path], list[Subject]]]] = [("in-place", in_place)]
    if remote.signers:
        ways.append(("in-place, verify", functools.partial(in_place, verify="ssh")))
    ways.append(("release", release))
    for number, (what, make) in enumerate(ways):
        say(f"{files:,} files: {what}")
        place = directory / f"case-{number}"
        place.mkdir()
        subjects = make(remote, place)
        first, ours = number * rounds + 1, subjects[-1]
        yield syncs(remote, subjects, first, pairs, what)
        if make is in_place:
            yield nothing_to_do(remote, ours, pairs)
        if make is release:
            last = first + pairs
            yield rollbacks(remote, ours, (remote.tips[last - 1], remote.tips[last]), pairs)


# To tell


def report(rows: Sequence[Row], about: Sequence[tuple[str, str]]) -> str:
    """The report."""
    return "\n".join([EXPLAINED, markdown(HEAD, [row.cells() for row in rows]), markdown(("", ""), about)])


def too_slow(rows: Sequence[Row]) -> list[Row]:
    """The rollbacks whose median is over the limit."""
    own = [row for row in rows if row.what == ROLLBACK]
    return [row for row in own if statistics.median(row.seconds[OURS]) >= ROLLBACK_LIMIT_SEC]


@contextlib.contextmanager
def workplace(wanted: Path | None) -> Iterator[Path]:
    """An empty directory; a temporary one if none is wanted."""
    if wanted:
        wanted.mkdir(parents=True)
        yield wanted.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="gitopsd-bench-") as name:
            yield Path(name).resolve()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sync", description="How long a sync takes beside bare git.")
    parser.add_argument("--quick", action="store_true", help="small trees and few pairs; nothing is written down")
    parser.add_argument("--directory", type=Path, help="a new one to work in; it stays")
    arguments = parser.parse_args()
    rows: list[Row] = []
    before = warn_if_busy()
    with workplace(arguments.directory) as directory:
        about = machine(directory, "git", "bash")
        for files, pairs in (QUICK if arguments.quick else FULL).items():
            place = directory / str(files)
            place.mkdir()
            rows += measure(place, files, pairs, lambda text: print(text, file=sys.stderr))
            if not arguments.directory:
                shutil.rmtree(place)
    show(HEAD, [row.cells() for row in rows], left=(1,))
    if not arguments.quick:
        load = f"{before:.2f} before, {os.getloadavg()[0]:.2f} after (the bench itself is one)"
        REPORT.write_text(report(rows, [*about, ("load average", load)]))
        for row in too_slow(rows):
            print(f"A rollback takes {row.median(OURS)} with {row.files:,} files.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
