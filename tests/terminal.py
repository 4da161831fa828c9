"""A command on a terminal."""

import contextlib
import os
import pty
import subprocess

from tests.site import WAIT_SEC, Site


def on_a_terminal(site: Site, *words: str, columns: int = 80) -> str:
    """What a command shows on a terminal that is so wide."""
    ours, its = pty.openpty()
    try:
        child = subprocess.Popen(
            site.command(*words),
            env=site.environment | {"TERM": "xterm", "COLUMNS": str(columns)},
            stdin=its,
            stdout=its,
            stderr=its,
        )
        os.close(its)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while chunk := os.read(ours, 65536):
                shown += chunk
        assert child.wait(WAIT_SEC) == 0, shown
        return shown.decode("utf-8", "replace")
    finally:
        os.close(ours)
