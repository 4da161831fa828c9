"""gitopsd beside adnanh/webhook: `bench/run.sh [--quick] [--only ROW,…]`.

Prints a table and, unless it is `--quick` or only some rows, writes bench/results.md. Exits with 1 if something was
lost: an accepted push that is not stored, a forged one that was accepted. No figure makes it fail.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import deploying, gathered, hostile, receiving, units
from bench.machine import machine, warn_if_busy
from bench.rows import FULL, MANY, QUICK, Row, Scale
from bench.servers import Webhook
from bench.table import markdown, show

REPORT = Path(__file__).with_name("results.md")
Measure = Callable[[Path, Scale], Row]

ALL: dict[str, Measure] = {
    "many": lambda directory, scale: receiving.rates(directory, scale, MANY, 1.2),
    "one": lambda directory, scale: receiving.rates(directory, scale, 1, 1.2),
    "latency": receiving.latency,
    "forged": lambda directory, scale: receiving.rates(directory, scale, MANY, 1.5, forged=True),
    "burst": deploying.burst,
    "started": deploying.started,
    "unit": units.started,
    "cold": deploying.cold,
    "large": hostile.large,
    "slow": hostile.slow,
    "crowd": hostile.crowd,
    "flood": hostile.flood,
    "status": gathered.status,
    "poll": gathered.poll,
    "disk": gathered.disk,
}

HEAD = ("what", "gitopsd", "webhook", "x", "to reach", "")
EXPLAINED = """# gitopsd beside webhook

Written by `bench/run.sh`. [docs/performance.md](../docs/performance.md) says how it is measured and what the figures
mean. `webhook` is adnanh/webhook as Debian has it; `x` is the median of pairs.

"""


def cells(row: Row) -> Sequence[str]:
    """A line of the table."""
    return (row.what, row.ours, row.peer, row.ratio, row.goal, row.lost or ("" if row.reached else "falls short"))


def measure(names: Sequence[str], *, quick: bool) -> list[Row]:
    """The rows of these names."""
    found = []
    for name in names:
        print(f"{name} …", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="gitopsd-bench-") as directory:
            row = ALL[name](Path(directory) / "bench", QUICK if quick else FULL)
        print(f"    {row.ours}; {row.lost or row.peer}", file=sys.stderr)
        found.append(row)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/run.sh", description="gitopsd beside adnanh/webhook.")
    parser.add_argument("--quick", action="store_true", help="only see that all of it runs; nothing is written down")
    parser.add_argument("--only", default=",".join(ALL), help=f"rows, with commas between: {', '.join(ALL)}")
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        print("bench/run.sh: wrk is not installed; run: apt-get install wrk", file=sys.stderr)
        return 1
    if not Webhook.is_installed():
        print("webhook is not installed, and so left out; to have it: apt-get install webhook", file=sys.stderr)
    names = arguments.only.split(",")
    if "unit" in names and (reason := units.why_not(quick=arguments.quick)):
        print(f"unit is left out: {reason}", file=sys.stderr)
        names.remove("unit")
    if unknown := sorted(set(names) - set(ALL)):
        parser.error(f"--only: there is no row {', '.join(unknown)}")
    before = warn_if_busy()
    rows = measure(names, quick=arguments.quick)
    show(HEAD, [cells(row) for row in rows])
    if not arguments.quick and set(ALL) - set(names) <= {"unit"}:
        about = machine(Path(tempfile.gettempdir()), "wrk", "webhook", "git")
        about.append(("load average", f"{before:.2f} before, {os.getloadavg()[0]:.2f} after (the bench itself is one)"))
        REPORT.write_text(EXPLAINED + markdown(HEAD, [cells(row) for row in rows]) + "\n" + markdown(("", ""), about))
    return 1 if any(row.lost for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
