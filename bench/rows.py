"""What is measured, a function each."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import pushes
from bench.pushes import Load, Steady
from bench.servers import Gitopsd, Server, Webhook, wait_for

MANY = 50
_DROP = b"\0" * 65536


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


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of pairs."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


# Throughput


def rates(directory: Path, scale: Scale, repos: int, goal: float, *, forged: bool = False) -> Row:
    """Pushes a second, in turns with the peer."""
    ours, theirs = daemon(directory, repos), peer(directory)
    taken: dict[str, list[Load]] = {"ours": [], "theirs": []}
    memory = []
    with running(ours, theirs):
        ours.forget_peak()
        memory.append(ours.status("VmRSS"))
        for _ in range(scale.rounds):
            for name, server in (("ours", ours), ("theirs", theirs)):
                if server:
                    got = pushes.load(directory, server.port, bodies(repos), scale.seconds, forged=forged)
                    taken[name].append(got)
        memory.append(ours.status("VmHWM"))
        kept = count(ours, "SELECT count(*) FROM deliveries WHERE decision = 'accepted'")
    us, them = [[load.rate for load in taken[name]] for name in ("ours", "theirs")]
    wanted = sum(load.answered - load.refused for load in taken["ours"])
    lost = "" if kept >= wanted > 0 else f"{wanted - kept} of {wanted} accepted pushes are not stored"
    if forged:
        lost = "" if kept == wanted == 0 else f"{wanted} forged pushes were accepted"
    times = ratio_of(us, them) if them else 0.0
    half = [statistics.median(load.p99_ms for load in taken[name]) for name in taken if taken[name]]
    what = "forged pushes refused a second" if forged else f"pushes accepted a second, {repos} repo{'s'[: repos > 1]}"
    return Row(
        what=f"{what} (p99; memory: at first, most)",
        ours=f"{statistics.median(us):,.0f} ({half[0]:.0f} ms; {memory[0] / 1024:.0f}, {memory[1] / 1024:.0f} MB)",
        peer=f"{statistics.median(them):,.0f} ({half[1]:.0f} ms)" if them else "-",
        ratio=f"{times:.2f}" if them else "-",
        goal=f">= {goal} x",
        reached=not them or times >= goal,
        lost=lost,
    )


def latency(directory: Path, scale: Scale) -> Row:
    """Of the answer at 50 pushes a second, each on a connection of its own."""
    ours, theirs = daemon(directory, MANY), peer(directory)
    seen: list[list[float]] = []
    lost = ""
    with running(ours, theirs):
        for server in (ours, theirs):
            if server:
                sender = Steady(port=server.port, bodies=bodies(MANY), rate=50)
                sender.run(2 * scale.seconds)
                seen.append([second * 1000 for second in sender.seconds])
                lost = lost or "; ".join(sender.faults[:3])
    told = [(statistics.median(each), statistics.quantiles(each, n=100)[98]) for each in seen]
    return Row(
        what="answer at 50 pushes a second: median, p99",
        ours=f"{told[0][0]:.1f}, {told[0][1]:.1f} ms",
        peer=f"{told[1][0]:.1f}, {told[1][1]:.1f} ms" if len(told) > 1 else "-",
        ratio=f"{told[0][0] / told[1][0]:.2f}" if len(told) > 1 else "-",
        goal="<= 3, 15 ms",
        reached=told[0][0] <= 3 and told[0][1] <= 15,
        lost=lost,
    )


# Hostile


def flood(directory: Path, scale: Scale) -> Row:
    """Real pushes, five a second, while forged ones come as fast as wrk can."""
    ours = daemon(directory, MANY)
    with running(ours):
        before = ours.status("VmRSS")
        ours.forget_peak()
        forger = threading.Thread(
            target=pushes.load, args=(directory, ours.port, bodies(MANY), scale.flood_sec), kwargs={"forged": True}
        )
        forger.start()
        sender = Steady(port=ours.port, bodies=bodies(MANY), rate=5)
        sender.run(scale.flood_sec - 0.5)
        forger.join()
        peak, after = ours.status("VmHWM"), ours.status("VmRSS")
    p99 = statistics.quantiles(sender.seconds, n=100)[98] * 1000 if len(sender.seconds) > 1 else 0.0
    return Row(
        what="p99 of real pushes during a forged flood (memory: before, most, after)",
        ours=f"{p99:.0f} ms ({before / 1024:.0f}, {peak / 1024:.0f}, {after / 1024:.0f} MB)",
        goal="<= 500 ms, 60 MB",
        reached=p99 <= 500 and peak <= 60 * 1024,
        lost="; ".join(sender.faults[:3]),
    )


def slow(directory: Path, scale: Scale) -> Row:
    """A real push while 500 connections send a byte a second."""
    ours = daemon(directory, MANY)
    head = (
        b"POST /hook/github HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: 900\r\nX-A: "
    )
    taken, faults = [], []
    with running(ours), contextlib.ExitStack() as stack:
        slow_ones = [stack.enter_context(socket.create_connection(("127.0.0.1", ours.port))) for _ in range(500)]
        for step in range(max(2, int(scale.seconds))):
            for each in slow_ones:
                with contextlib.suppress(OSError):
                    each.send(head[step : step + 1])
            begin = time.perf_counter()
            try:
                status = pushes.post(ours.port, bodies(MANY)[step])
                faults += [] if status == http.client.ACCEPTED else [f"status {status}"]
            except OSError as error:
                faults.append(repr(error))
            taken.append(time.perf_counter() - begin)
            time.sleep(1)
    return Row(
        what="a real push beside 500 connections that send a byte a second",
        ours=f"{max(taken) * 1000:.0f} ms",
        goal="<= 1,000 ms",
        reached=max(taken) <= 1,
        lost="; ".join(faults[:3]),
    )


def large(directory: Path, _scale: Scale) -> Row:
    """300 MB that nobody has signed: declared, and in chunks."""
    ours = daemon(directory, 1)
    said = []
    with running(ours):
        pushes.post(ours.port, bodies(1)[0])
        before = ours.status("VmRSS")
        ours.forget_peak()
        for kind in (b"Content-Length: 314572800", b"Transfer-Encoding: chunked"):
            with socket.create_connection(("127.0.0.1", ours.port)) as sock:
                head = (
                    b"POST /hook/github HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\n" + kind + b"\r\n\r\n"
                )
                chunk = b"10000\r\n" + _DROP + b"\r\n" if b"chunked" in kind else _DROP
                with contextlib.suppress(OSError):
                    sock.sendall(head)
                    for _ in range(314572800 // len(_DROP)):
                        sock.sendall(chunk)
                with contextlib.suppress(OSError):
                    said.append(sock.recv(100).split(b" ")[1:2])
        more = (ours.status("VmHWM") - before) / 1024
    codes = [code.decode() for codes in said for code in codes]
    return Row(
        what="300 MB that nobody has signed, declared and in chunks: more memory",
        ours=f"{more:.1f} MB ({', '.join(codes) or 'closed'})",
        goal="<= 5 MB, 413",
        reached=more <= 5 and set(codes) <= {"413"},
    )


# From a push to what is live


def burst(directory: Path, scale: Scale) -> Row:
    """Pushes to one repo as fast as they go, until the last commit is live and nothing runs any more."""
    directory.mkdir()
    ours, theirs = _burst_ours(directory, scale.burst), _burst_theirs(directory, scale.burst)
    return Row(
        what=f"{scale.burst:,} pushes to one repo: runs, until the last is live and all is quiet",
        ours=f"{ours[0]}, {ours[1]:.2f} s",
        peer=f"{theirs[0]:,}, {theirs[1]:.2f} s" if theirs else "-",
        ratio=f"{ours[1] / theirs[1]:.3f}" if theirs else "-",
        goal="<= 3 runs, 0.05 x",
        reached=ours[0] <= 3 and (not theirs or ours[1] <= theirs[1] / 20),
    )


def _git(directory: Path, *words: str, stdin: str | None = None) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_CONFIG_GLOBAL": "/dev/null"}
    return subprocess.run(
        ["git", *words], cwd=directory, env=environment, input=stdin, capture_output=True, text=True, check=True
    ).stdout


def _remote(directory: Path, number: int) -> tuple[Path, list[str]]:
    """A bare remote whose branch main is at the first of so many commits and one; their revisions."""
    bare = directory / "remote.git"
    _git(directory, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    stream = "".join(
        f"commit refs/heads/all\ncommitter Ada <ada@example.org> {10**9 + each} +0000\ndata 0\n"
        f"M 100644 inline page\ndata <<.\n{each}\n.\n\n"
        for each in range(number + 1)
    )
    _git(bare, "fast-import", "--quiet", stdin=stream)
    revisions = _git(bare, "rev-list", "--reverse", "all").split()
    _git(bare, "update-ref", "refs/heads/main", revisions[0])
    return bare, revisions


def _push_all(bare: Path, revisions: Sequence[str], port: int, url: str) -> None:
    """Move main on and tell of it, over and over."""
    for revision in revisions:
        (bare / "refs" / "heads" / "main").write_text(f"{revision}\n")
        pushes.post(port, pushes.body_of("app", revision, url))


def _burst_ours(directory: Path, number: int) -> tuple[int, float]:
    place = directory / "ours"
    place.mkdir()
    bare, revisions = _remote(place, number)
    path = place / "app"
    server = Gitopsd(
        place / "gitopsd",
        settings={"repos": {"app": {"url": f"file://{bare}", "path": str(path)}}},
    )
    with running(server):
        begin = time.perf_counter()
        _push_all(bare, revisions[1:], server.port, f"file://{bare}")
        unfinished = "SELECT count(*) FROM jobs WHERE state IN ('pending', 'running')"
        wait_for(lambda: count(server, unfinished) == 0, "the last sync")
        taken = time.perf_counter() - begin
        runs = count(server, "SELECT count(*) FROM jobs WHERE state != 'superseded'")
    assert _git(path, "rev-parse", "HEAD").strip() == revisions[-1]
    return runs, taken


def _burst_theirs(directory: Path, number: int) -> tuple[int, float] | None:
    """With the script that most people have: one at a time, fetch and reset."""
    place = directory / "theirs"
    place.mkdir()
    bare, revisions = _remote(place, number)
    path = place / "app"
    script = place / "deploy.sh"
    script.write_text(f"""#!/bin/sh
cd {path} && exec flock .git/deploy sh -c 'git fetch -q && git reset -q --hard origin/main; echo run >>../runs'
""")
    script.chmod(0o755)
    server = peer(place, str(script))
    if server is None:
        return None
    _git(place, "clone", "--quiet", f"file://{bare}", str(path))
    runs = place / "runs"
    with running(server):
        begin = time.perf_counter()
        _push_all(bare, revisions[1:], server.port, f"file://{bare}")
        wait_for(lambda: runs.exists() and runs.read_text().count("\n") == number, "the peer's last run", 900)
        taken = time.perf_counter() - begin
    assert _git(path, "rev-parse", "HEAD").strip() == revisions[-1]
    return number, taken


def started(directory: Path, scale: Scale) -> Row:
    """From the answer that accepts a push to the first moment of the engine, which writes it down."""
    ours = daemon(directory, 1)
    stamp = directory / "stamp"
    (directory / "engine").write_text(f"#!/bin/bash\necho $EPOCHREALTIME >{stamp}.new; mv {stamp}.new {stamp}\n")
    taken = []
    with running(ours):
        for body in bodies(1)[: 5 * scale.rounds + 2]:
            stamp.unlink(missing_ok=True)
            pushes.post(ours.port, body)
            accepted = time.time()
            wait_for(stamp.exists, "the engine")
            taken.append((float(stamp.read_text()) - accepted) * 1000)
            wait_for(lambda: count(ours, "SELECT count(*) FROM jobs WHERE finished_at IS NULL") == 0, "its end")
    median = statistics.median(taken[1:])
    return Row(
        what="push accepted -> engine started, local runner (median)",
        ours=f"{median:.0f} ms",
        goal="<= 60 ms",
        reached=median <= 60,
    )


def cold(directory: Path, scale: Scale) -> Row:
    """From a connection to a socket without a daemon to the answer; the daemon is started as the socket unit would."""
    taken, memory = [], []
    ours = daemon(directory, MANY)
    for _ in range(2 * scale.rounds + 1):
        ours.prepare()
        begin = time.perf_counter()
        ours.launch()
        status = pushes.post(ours.port, bodies(MANY)[0])
        taken.append((time.perf_counter() - begin) * 1000)
        assert status == http.client.ACCEPTED, status
        time.sleep(0.5)
        memory.append(ours.status("VmRSS") / 1024)
        ours.stop()
    median = statistics.median(taken[1:])
    return Row(
        what="cold start: connection -> 202 (memory then)",
        ours=f"{median:.0f} ms ({max(memory):.0f} MB)",
        goal="<= 400 ms, 40 MB",
        reached=median <= 400 and max(memory) <= 40,
    )


# What has gathered


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
    bare, _ = _remote(directory, 1)
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


Measure = Callable[[Path, Scale], Row]

ALL: dict[str, Measure] = {
    "many": lambda directory, scale: rates(directory, scale, MANY, 1.2),
    "one": lambda directory, scale: rates(directory, scale, 1, 1.2),
    "latency": latency,
    "forged": lambda directory, scale: rates(directory, scale, MANY, 1.5, forged=True),
    "burst": burst,
    "started": started,
    "cold": cold,
    "large": large,
    "slow": slow,
    "flood": flood,
    "status": status,
    "poll": poll,
    "disk": disk,
}
