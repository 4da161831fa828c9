"""Looks around from within the sandbox of a unit: a probe runs in the place of its program."""

import json
import shlex
from pathlib import Path
from typing import Any

from tests.system.host import Host

PROBE = "/opt/probe.py"


def look_around(host: Host, unit: str, **task: Any) -> dict[str, Any]:
    """What a program could do as that unit: {"read PATH": "yes" or the error, …}. See probe.py."""
    host.write(PROBE, Path(__file__).with_name("probe.py").read_text())
    command = shlex.join(["/usr/bin/python3", PROBE, json.dumps(task)])
    folder = f"/run/systemd/system/{unit}.d"
    # The unit's own settings stay; what it would tell systemd, the probe does not.
    kind = "" if "@" in unit else "Type=oneshot\nWatchdogSec=0\nRestart=no\nRestartForceExitStatus=\n"
    host.write(f"{folder}/probe.conf", f"[Service]\nExecStart=\nExecStart={command}\n{kind}")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "stop", unit, check=False)
    try:
        host.run("systemctl", "start", unit)
    finally:
        host.run("rm", "-r", folder)
        host.run("systemctl", "daemon-reload")
    said = [str(entry["MESSAGE"]) for entry in host.journal(f"_SYSTEMD_UNIT={unit}")]
    reports = [text.removeprefix("PROBE ") for text in said if text.startswith("PROBE ")]
    found: dict[str, Any] = json.loads(reports[-1])
    return found
