"""Start a repo's sync: a child process."""

import os
import sys
import threading
from collections.abc import Callable, Set
from typing import BinaryIO

from gitopsd import process, systemd


class LocalRunner:
    """Runs `gitopsd run REPO` as a child in a process group of its own, so that it outlives a daemon that is killed."""

    def __init__(self, config_text: Callable[[], str], secrets: Set[str], *, quiet: bool = False) -> None:
        """`config_text` gives the configuration for the next child, as YAML. `quiet`: its output goes nowhere.

        `secrets`: names that no child may find in its environment; whoever learns of more adds them to the set.
        """
        self._config_text = config_text
        self._secrets = secrets
        self._quiet = quiet
        self._children: dict[str, process.Child] = {}

    def start(self, repo: str, on_end: Callable[[str, int], None]) -> None:
        """Start a sync of `repo`; `on_end` gets its name and the exit code, on a thread of its own.

        Raises GitopsdError if no process can be started.
        """
        environment = systemd.child_environment(os.environ, frozenset(self._secrets))
        # In the daemon it is the directory of the webhook secrets; a sync started by systemd has one of its own.
        environment.pop("CREDENTIALS_DIRECTORY", None)
        with _open_memory(self._config_text()) as config:
            argv = (sys.executable, "-m", "gitopsd", "--config", f"/proc/self/fd/{config.fileno()}", "run", repo)
            output = process.NOWHERE if self._quiet else None
            child = process.start(argv, environment=environment, output=output, keep_fds=(config.fileno(),))
        self._children[repo] = child

        def wait() -> None:
            code = child.wait()
            del self._children[repo]
            on_end(repo, code)

        threading.Thread(target=wait, name=f"sync-{repo}", daemon=True).start()

    def running(self) -> list[str]:
        """The repos whose sync runs as a child of this process."""
        return list(self._children)

    def stop(self) -> None:
        """Tell every child to end; it ends its engine and records that it was interrupted."""
        for child in list(self._children.values()):
            child.terminate()


def _open_memory(text: str) -> BinaryIO:
    """A file that is nowhere but in the hands of whoever has its descriptor: nobody else reads, changes or keeps it."""
    file = os.fdopen(os.memfd_create("gitopsd.yaml"), "wb", buffering=0)
    file.write(text.encode())
    return file
