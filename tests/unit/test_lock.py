"""One repo's lock: who holds it, and until when. Real processes, as it is between processes that it counts."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gitopsd import lock
from gitopsd.errors import BusyError, GitopsdError
from tests.site import wait_for

_HOLD = """
import sys
from pathlib import Path
from gitopsd import lock
with lock.hold(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""

# The heir inherits the descriptor of the lock, and its own end of the pipe on stdin.
_HOLD_AND_LEAVE = """
import subprocess, sys
from pathlib import Path
from gitopsd import lock
with lock.hold(Path(sys.argv[1]), sys.argv[2]) as fd:
    heir = subprocess.Popen(["cat"], pass_fds=[fd], stdout=subprocess.DEVNULL)
    print(heir.pid, flush=True)
    heir.wait()
"""

_COUNT_UP = """
import sys
from pathlib import Path
from gitopsd import lock
directory, counter = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(25):
    with lock.hold(directory, "blog", patience_sec=60):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


@contextmanager
def other_process(script: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs `script` until its stdin ends, and the first line that it wrote."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:  # closes its stdin, which is the sign to end, and waits
        assert process.stdout is not None
        yield process, process.stdout.readline()


def test_what_another_process_holds_is_busy_until_it_lets_go(tmp_path: Path) -> None:
    with other_process(_HOLD, str(tmp_path), "blog") as (_, said):
        assert said == "held\n"

        assert not lock.is_free(tmp_path, "blog")
        with pytest.raises(BusyError) as caught, lock.hold(tmp_path, "blog"):
            pass
        assert str(caught.value) == f"another sync of blog is running (it holds {tmp_path}/locks/blog.lock)"

    assert lock.is_free(tmp_path, "blog")
    with lock.hold(tmp_path, "blog"):
        pass


@pytest.mark.parametrize(("name", "who"), [(lock.DAEMON, "gitopsd serve"), (lock.NOTIFIER, "gitopsd notify")])
def test_who_is_no_sync_has_a_lock_of_its_own_and_is_called_by_its_name(tmp_path: Path, name: str, who: str) -> None:
    with lock.hold(tmp_path, name), pytest.raises(BusyError) as caught, lock.hold(tmp_path, name):
        pass
    assert f"another {who} is running" in str(caught.value)


def test_a_repo_does_not_wait_for_the_lock_of_another(tmp_path: Path) -> None:
    with lock.hold(tmp_path, "blog"), lock.hold(tmp_path, "shop"):
        assert lock.is_free(tmp_path, "docs")


def test_who_is_patient_gets_the_lock_once_it_is_free(tmp_path: Path) -> None:
    with other_process(_HOLD, str(tmp_path), "blog") as (process, _):
        assert process.stdin is not None
        process.stdin.close()

        with lock.hold(tmp_path, "blog", patience_sec=30):
            assert not lock.is_free(tmp_path, "blog")


def test_patience_has_an_end(tmp_path: Path) -> None:
    with lock.hold(tmp_path, "blog"), pytest.raises(BusyError), lock.hold(tmp_path, "blog", patience_sec=0.1):
        pass


def test_an_error_in_the_block_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock.hold(tmp_path, "blog"):
        raise KeyError

    assert lock.is_free(tmp_path, "blog")


def test_processes_that_want_it_at_once_get_it_one_after_the_other(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    several = [subprocess.Popen([sys.executable, "-c", _COUNT_UP, str(tmp_path), str(counter)]) for _ in range(4)]

    assert [process.wait() for process in several] == [0] * 4
    assert counter.read_text() == "100"


def test_who_was_killed_holds_nothing(tmp_path: Path) -> None:
    with other_process(_HOLD, str(tmp_path), "blog") as (process, _):
        process.kill()
        process.wait()

        assert lock.is_free(tmp_path, "blog")


def test_the_heir_of_a_killed_holder_holds_the_lock_until_it_ends(tmp_path: Path) -> None:
    with other_process(_HOLD_AND_LEAVE, str(tmp_path), "blog") as (process, said):
        heir = int(said)
        process.send_signal(signal.SIGKILL)
        process.wait()
        try:
            assert Path(f"/proc/{heir}/fd").is_dir()
            assert not lock.is_free(tmp_path, "blog")
            with pytest.raises(BusyError), lock.hold(tmp_path, "blog"):
                pass
        finally:
            os.kill(heir, signal.SIGKILL)
        wait_for(lambda: lock.is_free(tmp_path, "blog"), "the lock of an heir that ended")


def test_the_descriptor_given_is_the_one_of_the_lock_and_no_child_gets_it_unasked(tmp_path: Path) -> None:
    with (tmp_path / "another").open("w") as another, lock.hold(tmp_path, "shop"), lock.hold(tmp_path, "blog") as fd:
        assert fd != another.fileno()
        assert Path(f"/proc/self/fd/{fd}").readlink() == tmp_path / "locks" / "blog.lock"
        assert not os.get_inheritable(fd)


def test_the_descriptor_given_is_not_that_of_who_has_the_file_open_and_waits(tmp_path: Path) -> None:
    with lock.hold(tmp_path, "blog"):
        pass
    waiting = os.open(tmp_path / "locks" / "blog.lock", os.O_RDWR)
    try:
        with lock.hold(tmp_path, "blog") as fd:
            assert fd != waiting
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who holds it may take it again
    finally:
        os.close(waiting)


def test_looking_whether_it_is_free_does_not_take_it(tmp_path: Path) -> None:
    assert lock.is_free(tmp_path, "blog")
    assert lock.is_free(tmp_path, "blog")
    with lock.hold(tmp_path, "blog"):
        pass


def test_of_several_repos_those_are_told_whose_lock_is_held(tmp_path: Path) -> None:
    (tmp_path / "locks" / "broken.lock").mkdir(parents=True)
    with lock.hold(tmp_path, "blog"), lock.hold(tmp_path, "docs"):
        assert lock.held(tmp_path, ["blog", "shop", "broken"]) == {"blog"}
    assert lock.held(tmp_path, ["blog"]) == set()


def test_looking_whether_it_is_free_makes_nothing(tmp_path: Path) -> None:
    assert lock.is_free(tmp_path, "blog")
    assert lock.is_free(tmp_path / "missing", "blog")
    assert list(tmp_path.iterdir()) == []


def test_who_looks_does_not_see_another_who_looks(tmp_path: Path) -> None:
    with lock.hold(tmp_path, "blog"):
        pass
    with (tmp_path / "locks" / "blog.lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert lock.is_free(tmp_path, "blog")


def test_who_looks_does_not_keep_a_patient_one_from_the_lock(tmp_path: Path) -> None:
    with lock.hold(tmp_path, "blog"):
        pass
    with (tmp_path / "locks" / "blog.lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        done_looking = threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN))
        done_looking.start()
        try:
            with lock.hold(tmp_path, "blog", patience_sec=30):
                assert not lock.is_free(tmp_path, "blog")
        finally:
            done_looking.join()


@pytest.mark.parametrize("trouble", ["a directory", "a pipe", "a link", "a link to nowhere"])
def test_what_is_no_lock_tells_nobody_whether_it_is_free(tmp_path: Path, trouble: str) -> None:
    path = tmp_path / "locks" / "blog.lock"
    path.parent.mkdir()
    if trouble == "a directory":
        path.mkdir()
    elif trouble == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("other.lock")
        if trouble == "a link":
            (path.parent / "other.lock").touch()

    with pytest.raises(GitopsdError, match=f"^lock {path}: [^\n]*$"):
        lock.is_free(tmp_path, "blog")

    assert lock.held(tmp_path, ["blog"]) == set()


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("content")
    path = tmp_path / "locks" / "blog.lock"
    path.parent.mkdir()
    path.symlink_to(precious)

    with pytest.raises(GitopsdError, match=f"^lock {path}: "), lock.hold(tmp_path, "blog", patience_sec=1):
        pass

    assert precious.read_text() == "content"


@pytest.mark.parametrize("trouble", ["no directory", "no file", "a link"])
def test_a_place_that_cannot_be_used_is_an_error_with_its_path(tmp_path: Path, trouble: str) -> None:
    state_dir = tmp_path / "state"
    path = state_dir / "locks" / "blog.lock"
    if trouble == "no directory":
        state_dir.write_text("")
    elif trouble == "no file":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True)
        path.symlink_to(tmp_path)

    with pytest.raises(GitopsdError) as caught, lock.hold(state_dir, "blog"):
        pass

    assert not isinstance(caught.value, BusyError)
    assert str(caught.value).startswith(f"lock {path}: ")
    assert str(caught.value).endswith("; is its directory writable?")
