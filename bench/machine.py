"""What it was measured on, and whether others are at work there."""

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

BUSY = 1.5


def machine(directory: Path, *programs: str) -> list[tuple[str, str]]:
    """Name and value of what matters; with the versions of `programs`."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = models[0].partition(":")[2].strip() if models else platform.machine()
    disk = _first_line("df", "--output=fstype", str(directory), line=-1)
    return [
        ("date", datetime.datetime.now(datetime.UTC).date().isoformat()),
        ("processor", f"{cpu}, {os.cpu_count()} cores"),
        ("memory", f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"),
        ("file system", disk),
        ("system", f"Linux {platform.release()}"),
        ("python", platform.python_version()),
        *((program, _version(program)) for program in programs),
    ]


def warn_if_busy() -> float:
    """The load average before anything begins; a word on stderr if it is high."""
    before = os.getloadavg()[0]
    if before > BUSY:
        print(f"The load average is {before:.2f}: others are at work here, so the figures say little.", file=sys.stderr)
    return before


def _version(program: str) -> str:
    how = {"webhook": "-version", "wrk": "-v", "bash": "--version"}.get(program, "--version")
    return _first_line(program, how) or "not installed"


def _first_line(*argv: str, line: int = 0) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[line].strip() if lines else ""
