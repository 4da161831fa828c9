"""A sync as a child process."""

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping, Set

from gitopsd import process, systemd
from gitopsd.errors import GitopsdError

_log = logging.getLogger(__name__)
_LAST_WORDS_SEC = 2 * process.GRACE_SEC
_STDERR = 2
_NICENESS = 10
"""Of a sync: while the machine is busy, deliveries are answered first."""


class LocalRunner:
    """Runs `gitopsd run REPO` as a child in a process group of its own, so that it outlives a daemon that is killed."""

    def __init__(self, config_text: Callable[[], str], secrets: Set[str], *, quiet: bool = False) -> None:
        """`config_text` gives the configuration for the next child, as `config.dump` does. `quiet`: its output
        goes nowhere.

        `secrets`: names that no child may find in its environment; whoever learns of more adds them to the set.
        """
        self._config_text = config_text
        self._secrets = secrets
        self._quiet = quiet
        self._children: dict[str, process.Child] = {}
        self._ended = threading.Condition()

    def start(self, repo: str, on_end: Callable[[str, int], None]) -> None:
        """Start a sync of `repo`; `on_end` gets its name and the exit code, on a thread of its own.

        Raises GitopsdError if no process can be started, or no thread that sees its end.
        """
        environment = systemd.child_environment(os.environ, frozenset(self._secrets))
        # In the daemon it is the directory of the webhook secrets; a sync started by systemd has one of its own.
        environment.pop("CREDENTIALS_DIRECTORY", None)
        output = process.NOWHERE if self._quiet else None
        child = _start(self._config_text(), "run", repo, environment=environment, output=output)
        self._children[repo] = child

        def wait() -> None:
            process.step_back(child, _NICENESS)
            on_end(repo, self._see_off(repo))

        try:
            threading.Thread(target=wait, name=f"sync-{repo}", daemon=True).start()
        except RuntimeError as error:
            # Nobody would hear of its end, and the repo would count as running for good.
            child.terminate()
            self._see_off(repo)
            remedy = "too many processes and threads run; raise TasksMax= of the service, or ulimit -u"
            raise GitopsdError(f"the sync of {repo} cannot be started: {error}: {remedy}") from error

    def running(self) -> list[str]:
        """The repos whose sync runs as a child of this process."""
        return list(self._children)

    def finish(self, timeout_sec: float) -> None:
        """Give the children `timeout_sec` seconds; then tell them to end, and to record that they were interrupted."""
        if running := self.running():
            _log.info("waiting up to %g s for %s", timeout_sec, ", ".join(running))
        self._wait(timeout_sec)
        if left := self.running():
            _log.warning("still running after stop_timeout, ended and queued again: %s", ", ".join(left))
            for child in list(self._children.values()):
                child.terminate()
            self._wait(_LAST_WORDS_SEC)

    def _see_off(self, repo: str) -> int:
        """Wait for the end of its child; the exit code."""
        code = self._children[repo].wait()
        with self._ended:
            del self._children[repo]
            self._ended.notify_all()
        return code

    def _wait(self, timeout_sec: float) -> None:
        deadline = time.monotonic() + timeout_sec
        with self._ended:
            while self._children and (left_sec := deadline - time.monotonic()) > 0:
                self._ended.wait(left_sec)


def start_notifier(config_text: str, secrets: Set[str], *, limit_sec: float) -> process.Child:
    """Start `gitopsd notify` by this configuration, as a child that nobody has to wait for. Raises GitopsdError.

    It is killed after `limit_sec` seconds.
    """
    environment = systemd.child_environment(os.environ, frozenset(secrets))
    # Whoever reads our output to its end is not to wait for this one, too.
    output = process.NOWHERE if _is_pipe(_STDERR) else None
    limit = ("timeout", "--signal=KILL", f"{limit_sec:g}")
    return _start(config_text, "notify", environment=environment, output=output, before=limit)


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:  # it is closed
        return True


def _start(
    config_text: str, *words: str, environment: Mapping[str, str], output: int | None, before: tuple[str, ...] = ()
) -> process.Child:
    """Start `gitopsd` with `words`, as an argument of the command `before`. Raises GitopsdError."""
    with process.open_memory("gitopsd.yaml", config_text) as config:
        argv = (*before, *process.own_argv("gitopsd.cli", "--config", process.path_of(config), *words))
        return process.start(argv, environment=environment, output=output, keep_fds=(config.fileno(),))
