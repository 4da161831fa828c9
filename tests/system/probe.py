"""Runs in place of a service's own program, within its sandbox, and prints what it can do there, as JSON.

probe.py {"read": [PATH…], "write": [PATH…], "link": [PATH…], "connect": [[HOST, PORT]…]}
"""

import contextlib
import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def _can(attempt: Callable[[], object]) -> str:
    """What came of it: "yes", or the error."""
    try:
        attempt()
    except OSError as error:
        return error.strerror or str(error)
    return "yes"


def _read(path: str) -> None:
    if Path(path).is_dir():
        os.listdir(path)  # noqa: PTH208 - its error is the answer
        if not os.listdir(path):  # noqa: PTH208
            raise FileNotFoundError(2, "empty")
    else:
        Path(path).read_bytes()


def _write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def _connect(host: str, port: int) -> None:
    socket.create_connection((host, port), 3).close()


def _ring() -> None:
    """io_uring_setup(2), which Python has no function for."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(425, 1, ctypes.create_string_buffer(256)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    task: dict[str, Any] = json.loads(sys.argv[1])
    found: dict[str, Any] = {"processes": []}
    for path in task.get("read", []):
        found[f"read {path}"] = _can(partial(_read, path))
    for path in task.get("write", []):
        found[f"write {path}"] = _can(partial(_write, path))
    for path in task.get("link", []):
        found[f"link {path}"] = _can(partial(os.symlink, "/etc/passwd", path))
    for host, port in task.get("connect", []):
        found[f"connect {host}:{port}"] = _can(partial(_connect, host, port))
    with contextlib.suppress(OSError):
        found["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208
    status = Path("/proc/self/status").read_text().splitlines()
    found["io_uring"] = _can(_ring)
    found["capabilities"] = next(line.split()[1] for line in status if line.startswith("CapEff"))
    sys.stdout.write(f"PROBE {json.dumps(found)}\n")


main()
