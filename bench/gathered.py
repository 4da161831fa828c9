"""What has gathered over time."""

import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench import pushes
from bench.remotes import make_remote
from bench.rows import MANY, Row, Scale, bodies, count, daemon, running
from bench.servers import Gitopsd


def status(directory: Path, scale: Scale) -> Row:
    """`gitopsd status` with a long history."""
    ours = daemon(directory, MANY)
    with running(ours):
        pushes.post(ours.port, bodies(MANY)[0])
    with contextlib.closing(sqlite3.connect(ours.store)) as connection, connection:
        connection.executemany(
            """INSERT INTO jobs (repo, trigger, state, reason, attempts, failures, interruptions, due_at, created_at,
            force, started_at, finished_at, new_revision, exit_code)
            VALUES (?, 'webhook', 'succeeded', 'deployed', 1, 0, 0, 0, ?, 0, ?, ?, ?, 0)""",
            ((f"r{number % MANY:03}", number, number, number, "1" * 40) for number in range(scale.jobs)),
        )
    taken = [_timed(ours.argv("status"), ours.environment()) for _ in range(2 * scale.rounds + 1)]
    median = statistics.median(taken) * 1000
    return Row(
        what=f"gitopsd status with {scale.jobs:,} jobs in the history",
        ours=f"{median:.0f} ms",
        goal="<= 300 ms",
        reached=median <= 300,
    )


def poll(directory: Path, scale: Scale) -> Row:
    """A poll of many repos, whose remotes are on this disk."""
    directory.mkdir()
    bare, _ = make_remote(directory, 1)
    repos = {}
    for number in range(scale.polled):
        shutil.copytree(bare, directory / "remotes" / f"r{number}.git")
        repos[f"r{number}"] = {
            "url": f"file://{directory}/remotes/r{number}.git",
            "path": str(directory / f"r{number}"),
        }
    ours = Gitopsd(directory / "gitopsd", settings={"repos": repos})
    ours.prepare()
    taken = _timed(ours.argv("poll"), ours.environment())
    found = count(ours, "SELECT count(*) FROM jobs WHERE trigger = 'poll'")
    return Row(
        what=f"gitopsd poll of {scale.polled} repos with remotes on this disk",
        ours=f"{taken:.1f} s",
        goal="<= 15 s",
        reached=taken <= 15,
        lost="" if found == scale.polled else f"{scale.polled - found} pushes were not found",
    )


def disk(directory: Path, scale: Scale) -> Row:
    """What the store takes after very many deliveries."""
    program = Path(__file__).with_name("deliveries.py")
    ours = daemon(directory, MANY)
    ours.prepare()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(program.parents[1])}
    argv = [ours.argv()[0], str(program), str(ours.config), str(scale.deliveries)]
    told = json.loads(subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout)
    size = sum(each.stat().st_size for each in ours.store.parent.iterdir()) / 1e6
    return Row(
        what=f"the store after {scale.deliveries:,} deliveries (kept: {told['kept']:,})",
        ours=f"{size:.0f} MB",
        goal="<= 200 MB",
        reached=size <= 200,
    )


def _timed(argv: Sequence[str], environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - begin
