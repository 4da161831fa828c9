"""What a row of the table is, how much is measured for it, and whom."""

import contextlib
import sqlite3
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import pushes
from bench.servers import Gitopsd, Server, Webhook

MANY = 50


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table; `lost` says what went wrong, which no speed makes good."""

    what: str
    ours: str
    peer: str = "-"
    ratio: str = "-"
    goal: str
    reached: bool
    lost: str = ""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How long and how much; `--quick` is only to show that all of it runs."""

    seconds: float
    rounds: int
    burst: int
    flood_sec: float
    jobs: int
    polled: int
    deliveries: int


FULL = Scale(seconds=5, rounds=3, burst=1000, flood_sec=30, jobs=100_000, polled=500, deliveries=1_000_000)
QUICK = Scale(seconds=1, rounds=1, burst=40, flood_sec=3, jobs=2_000, polled=20, deliveries=3_000)


def engine(directory: Path) -> Path:
    """An engine that has nothing to do: what is measured is everything around it."""
    path = directory / "engine"
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    return path


def daemon(directory: Path, repos: int, **settings: object) -> Gitopsd:
    """Our daemon with so many repos whose engine does nothing."""
    directory.mkdir(parents=True)
    named = {
        f"r{number:03}": {"url": f"https://github.com/demo/r{number:03}.git", "path": str(directory / f"r{number:03}")}
        for number in range(repos)
    }
    return Gitopsd(
        directory / "gitopsd",
        settings={"engine": str(engine(directory)), "repos": named, **settings},
    )


def peer(directory: Path, command: str = "/bin/true") -> Webhook | None:
    """The peer, if it is installed."""
    return Webhook(directory / "webhook", command=command) if Webhook.is_installed() else None


@contextlib.contextmanager
def running(*servers: Server | None) -> Iterator[None]:
    """Servers that run meanwhile."""
    try:
        for server in servers:
            if isinstance(server, Gitopsd | Webhook):
                server.start()
        yield
    finally:
        for server in servers:
            if server:
                server.stop()


def bodies(repos: int) -> list[bytes]:
    """Pushes to so many repos in turn, each of another revision."""
    return [pushes.body_of(f"r{number % repos:03}", each) for number, each in enumerate(pushes.revisions(100))]


def count(server: Gitopsd, query: str) -> int:
    """A number out of the store."""
    with contextlib.closing(sqlite3.connect(server.store)) as connection:
        return int(connection.execute(query).fetchone()[0])


def start_row(how: str, taken: Sequence[float], goal: float) -> Row:
    """How long it took from an accepted push to its engine, in milliseconds. The first time, all is cold."""
    median = statistics.median(taken[1:])
    return Row(
        what=f"push accepted -> engine started, {how} (median)",
        ours=f"{median:.0f} ms",
        goal=f"<= {goal:.0f} ms",
        reached=median <= goal,
    )


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of pairs."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
