"""From a push to what is live."""

import http.client
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench import pushes
from bench.remotes import make_remote
from bench.rows import MANY, Row, Scale, bodies, count, daemon, peer, running, start_row
from bench.servers import Gitopsd, wait_for
from bench.sync import git

_SENDERS = 8


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


def _push_all(bare: Path, revisions: Sequence[str], port: int, url: str) -> float:
    """Move main on and tell of it, over and over, by some senders at once; the time at which that began."""
    left, moving = iter(revisions), threading.Lock()
    # Signed before it counts: to send is no part of what is measured.
    requests = {each: pushes.request_of(pushes.body_of("app", each, url)) for each in revisions}

    def send() -> None:
        while True:
            with moving:
                if (revision := next(left, None)) is None:
                    return
                (bare / "refs" / "heads" / "main").write_text(f"{revision}\n")
            pushes.answer_to(port, requests[revision])

    begin = time.perf_counter()
    senders = [threading.Thread(target=send) for _ in range(_SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return begin


def _burst_ours(directory: Path, number: int) -> tuple[int, float]:
    place = directory / "ours"
    place.mkdir()
    bare, revisions = make_remote(place, number)
    path = place / "app"
    server = Gitopsd(
        place / "gitopsd",
        settings={"repos": {"app": {"url": f"file://{bare}", "path": str(path)}}},
    )
    with running(server):
        begin = _push_all(bare, revisions[1:], server.port, f"file://{bare}")
        unfinished = "SELECT count(*) FROM jobs WHERE state IN ('pending', 'running')"
        wait_for(lambda: count(server, unfinished) == 0, "the last sync")
        taken = time.perf_counter() - begin
        runs = count(server, "SELECT count(*) FROM jobs WHERE state != 'superseded'")
    assert git(path, "rev-parse", "HEAD") == revisions[-1]
    return runs, taken


def _burst_theirs(directory: Path, number: int) -> tuple[int, float] | None:
    """With the script that most people have: one at a time, fetch and reset."""
    place = directory / "theirs"
    place.mkdir()
    bare, revisions = make_remote(place, number)
    path = place / "app"
    script = place / "deploy.sh"
    script.write_text(f"""#!/bin/sh
cd {path} && exec flock .git/deploy sh -c 'git fetch -q && git reset -q --hard origin/main; echo run >>../runs'
""")
    script.chmod(0o755)
    server = peer(place, str(script))
    if server is None:
        return None
    git(place, "clone", "--quiet", f"file://{bare}", str(path))
    runs = place / "runs"
    with running(server):
        begin = _push_all(bare, revisions[1:], server.port, f"file://{bare}")
        wait_for(lambda: runs.exists() and runs.read_text().count("\n") == number, "the peer's last run", 900)
        taken = time.perf_counter() - begin
    assert git(path, "rev-parse", "HEAD") == revisions[-1]
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
    return start_row("local runner", taken, 60)


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
