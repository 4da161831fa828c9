"""The bench runs, and whoever it measures has done the whole work. How long that took is nobody's business here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote import git

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "bench" / "sync.md"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where it has worked, and what it printed. It has written no report: that is for the long run."""
    before = REPORT.read_text()
    directory = tmp_path_factory.mktemp("bench") / "work"
    argv = [sys.executable, "-m", "bench.sync", "--quick", "--directory", str(directory)]
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "80"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert REPORT.read_text() == before
    return directory, done.stdout


def test_it_shows_a_line_for_each_thing_that_it_measures(bench: tuple[Path, str]) -> None:
    _, shown = bench
    lines = [line for line in shown.splitlines() if "ms" in line]

    verified = ("in-place, verify",) if shutil.which("ssh-keygen") else ()
    for what in ("in-place ", *verified, "release", "nothing to do", "rollback"):
        assert len([line for line in lines if what in line]) == 2, what  # once for each size


@pytest.mark.parametrize("files", [100, 1000])
def test_all_copies_end_as_whole_trees_of_one_push(bench: tuple[Path, str], files: int) -> None:
    place = bench[0] / str(files)
    remote = place / "remote.git"
    cases = sorted(place.glob("case-*"))
    in_place = [[case / name for name in ("ours", "bare", "disk")] for case in cases if (case / "ours").is_dir()]
    trees = [case / "live" for case in cases if (case / "live").is_dir()]

    assert len(cases) == len(in_place) + len(trees)
    assert trees
    for checkouts in in_place:
        assert len({git(checkout, "rev-parse", "HEAD") for checkout in checkouts}) == 1
    for tree in (*trees, *(checkout for checkouts in in_place for checkout in checkouts)):
        revision = git(tree, "rev-parse", "HEAD")
        assert revision in git(remote, "for-each-ref", "--format=%(objectname)", "refs/pushes").split()
        assert git(tree, "status", "--porcelain", "--ignored") == ""
        assert len([path for path in tree.rglob("*.txt") if path.stat().st_size]) == files


@pytest.mark.skipif(
    shutil.which("wrk") is None, reason="no wrk here (scripts/test.sh brings it where there is apt-get)"
)
@pytest.mark.timeout(300)
def test_beside_the_peer_nothing_that_was_accepted_is_lost() -> None:
    report = ROOT / "bench" / "results.md"
    before = report.read_text() if report.exists() else None
    environment = {"PATH": os.environ["PATH"]}
    argv = [sys.executable, "-m", "bench.run", "--quick"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    for what in ("pushes accepted a second, 50 repos", "forged pushes refused", "cold start", "the store after"):
        assert what in done.stdout
    assert (report.read_text() if report.exists() else None) == before
