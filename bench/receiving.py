"""What arrives: how much, and how fast it is answered."""

import statistics
from pathlib import Path

from bench import pushes
from bench.pushes import Load, Steady
from bench.rows import MANY, Row, Scale, bodies, count, daemon, engine, peer, ratio_of, running


def rates(directory: Path, scale: Scale, repos: int, goal: float, *, forged: bool = False) -> Row:
    """Pushes a second, in turns with the peer."""
    ours = daemon(directory, repos)
    theirs = peer(directory, str(engine(directory)))
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
                    server.come_to_rest()
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
    ours = daemon(directory, MANY)
    theirs = peer(directory, str(engine(directory)))
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
