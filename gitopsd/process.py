"""Run one command: argv, environment, time limit, session."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gitopsd.errors import GitopsdError

GRACE_SEC = 5.0
"""How long a command that is told to end may take to clean up before it is killed."""

_CHUNK_BYTES = 64 * 1024
_LAST_WORDS_CHUNKS = 16
_TRIES, _RATE_SEC = 10, 0.1
_LONGEST_WAIT_SEC = 3600.0  # epoll takes no more than 24 days at once

# Also where our modules are in a directory that only the launcher knows.
_HOME = str(Path(__file__).parents[1])

Child = subprocess.Popen[bytes]
NOWHERE = subprocess.DEVNULL


class Ended(NamedTuple):
    """How a command ended: by itself with `exit_code`, or by the signal named in `signal_name`.

    `timed_out` or `stopped` says that it was told to end, whatever it then made of it.
    """

    exit_code: int | None = None
    signal_name: str | None = None
    timed_out: bool = False
    stopped: bool = False


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout_sec: float,
    on_output: Callable[[bytes], None],
    keep_fds: Sequence[int] = (),
    stop_fd: int | None = None,
) -> Ended:
    """Run `argv` in a session of its own until it ends, and its whole session with it.

    `on_output` gets what the session writes to stdout and stderr, as it comes. `keep_fds` stay open in the command. The
    session is told to end after `timeout_sec` seconds, or once `stop_fd` is readable, and killed GRACE_SEC later.

    Raises GitopsdError if the command cannot be started.
    """
    child = start(argv, environment=environment, output=subprocess.PIPE, keep_fds=keep_fds)
    assert child.stdout is not None  # noqa: S101 - a pipe was asked for
    pid_fd = os.pidfd_open(child.pid)
    os.set_blocking(child.stdout.fileno(), False)
    with child.stdout as output, selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ, "output")
        selector.register(pid_fd, selectors.EVENT_READ, "ended")
        if stop_fd is not None:
            selector.register(stop_fd, selectors.EVENT_READ, "stop")
        told_to_end = None
        try:
            told_to_end = _follow(child, selector, timeout_sec, on_output)
        finally:
            # Nothing of the session may outlive the run. Kill before wait: while the leader is a zombie its number
            # cannot go to a stranger.
            _signal_session(child, signal.SIGKILL)
            code = child.wait()
            os.close(pid_fd)
        for _ in range(_LAST_WORDS_CHUNKS):
            if not _hand_on(output.fileno(), on_output):
                break
    return Ended(
        exit_code=code if code >= 0 else None,
        signal_name=_signal_name(-code) if code < 0 else None,
        timed_out=told_to_end == "timeout",
        stopped=told_to_end == "stop",
    )


def start(
    argv: Sequence[str], *, environment: Mapping[str, str], output: int | None = None, keep_fds: Sequence[int] = ()
) -> Child:
    """Start `argv` in a session of its own and do not wait. `output` as in subprocess; None: where ours goes.

    Raises GitopsdError if the command cannot be started.
    """
    try:
        return subprocess.Popen(
            list(argv),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            pass_fds=keep_fds,
            start_new_session=True,
        )
    except OSError as error:
        raise GitopsdError(f"{argv[0]}: cannot be started: {error.strerror}") from error
    except ValueError as error:  # a zero byte in a word or in the environment
        raise GitopsdError(f"{argv[0]}: cannot be started: {error}") from error


def step_back(child: Child, niceness: int) -> None:
    """Let `child`, which was just started, and all of its session give way to others when there is too much to do.

    Source: sched(7), on autogroups: a niceness counts within a session, and the session has one, too. It may take a
    second, as the kernel takes one of them every tenth of a second from who is not root.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, child.pid, niceness)
    for _ in range(_TRIES):
        try:
            Path(f"/proc/{child.pid}/autogroup").write_text(str(niceness))
        except BlockingIOError:
            time.sleep(_RATE_SEC)
        except OSError:  # not every kernel has them, and it may have ended
            return
        else:
            return


def output_of(
    argv: Sequence[str], *, environment: Mapping[str, str], timeout_sec: float, keep_fds: Sequence[int] = ()
) -> tuple[Ended, str]:
    """Run `argv`; how it ended, and what it wrote (stdout and stderr, undecodable bytes replaced).

    Raises GitopsdError if the command cannot be started.
    """
    chunks: list[bytes] = []
    ended = run(argv, environment=environment, timeout_sec=timeout_sec, on_output=chunks.append, keep_fds=keep_fds)
    return ended, b"".join(chunks).decode("utf-8", "replace")


def own_argv(module: str, *words: str) -> tuple[str, ...]:
    """What calls `main()` of one of our own modules with `words` as its arguments."""
    program = f"import sys; sys.path.append({_HOME!r}); from {module} import main; main()"
    # -I: not the modules of whatever directory, or with whatever variables, somebody calls us.
    return (sys.executable, "-I", "-c", program, *words)


def open_memory(name: str, text: str) -> BinaryIO:
    """A file that is nowhere but in the hands of whoever has its descriptor: nobody else reads, changes or keeps it."""
    file = os.fdopen(os.memfd_create(name), "wb", buffering=0)
    file.write(text.encode())
    return file


def path_of(file: BinaryIO) -> str:
    """Where a child that is started with the descriptor of `file` finds it."""
    return f"/proc/self/fd/{file.fileno()}"


def _follow(
    child: Child, selector: selectors.BaseSelector, timeout_sec: float, on_output: Callable[[bytes], None]
) -> str | None:
    """Hand on output until the child has ended or has had its time; says why it was told to end, if it was."""
    told_to_end = None
    deadline = time.monotonic() + timeout_sec
    while True:
        wait_sec = min(max(0.0, deadline - time.monotonic()), _LONGEST_WAIT_SEC)
        ready = {key.data: key for key, _ in selector.select(wait_sec)}
        if "output" in ready and not _hand_on(ready["output"].fd, on_output):
            selector.unregister(ready["output"].fileobj)
        if "ended" in ready:
            # And not the end of the pipe: a process that the command left behind may hold that open for ever.
            return told_to_end
        late = time.monotonic() >= deadline
        if late and told_to_end:
            return told_to_end
        if "stop" in ready:
            selector.unregister(ready["stop"].fileobj)
        if (late or "stop" in ready) and not told_to_end:
            told_to_end = "timeout" if late else "stop"
            _signal_session(child, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SEC


def _hand_on(fd: int, on_output: Callable[[bytes], None]) -> bool:
    """Hand on one chunk, if there is one now. False at the end of the pipe."""
    try:
        chunk = os.read(fd, _CHUNK_BYTES)
    except BlockingIOError:
        return True
    if chunk:
        on_output(chunk)
    return bool(chunk)


def _signal_session(leader: Child, number: signal.Signals) -> None:
    """Signal the leader's group, and what has made a group of its own in its session, as timeout(1) does."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader.pid, number)
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and _session_of(int(entry.name)) == leader.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(entry.name), number)


def _session_of(pid: int) -> int:
    """0 for a process that has ended."""
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
