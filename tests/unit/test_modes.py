"""What is made in a shared directory is shared as that is, whatever the umask; everything else is private."""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gitopsd import joblog, lock, modes
from gitopsd.errors import BusyError
from gitopsd.model import Trigger
from gitopsd.store import Store, path_in
from tests.users import ALICE, BOB, GROUP, STRANGER, act_as, needs_root, shared_directory

UMASKS = (0o000, 0o022, 0o077, 0o777)


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        assert os.umask(before) == value, "the umask of the process is another now"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def make_file(path: Path, flags: int = os.O_RDWR) -> None:
    os.close(modes.open_file(path, flags))


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    path = tmp_path / "parent"
    path.mkdir()
    return path


@pytest.mark.parametrize("mask", UMASKS, ids=oct)
@pytest.mark.parametrize("mode", [0o2770, 0o2775, 0o2750, 0o2777], ids=oct)
def test_what_is_made_in_a_shared_directory_gets_its_rights_whatever_the_umask(
    parent: Path, mode: int, mask: int
) -> None:
    parent.chmod(mode)
    with umask(mask):
        modes.make_directory(parent / "logs" / "blog")
        make_file(parent / "file")
        make_file(parent / "logs" / "blog" / "file")

    assert [mode_of(path) for path in (parent / "logs", parent / "logs" / "blog")] == [mode, mode]
    assert [mode_of(path) for path in (parent / "file", parent / "logs" / "blog" / "file")] == [mode & 0o666] * 2


@pytest.mark.parametrize("mask", UMASKS, ids=oct)
@pytest.mark.parametrize("mode", [0o755, 0o777, 0o770, 0o1777], ids=oct)
def test_what_is_made_elsewhere_is_private_whatever_the_umask(parent: Path, mode: int, mask: int) -> None:
    parent.chmod(mode)
    with umask(mask):
        modes.make_directory(parent / "logs" / "blog")
        make_file(parent / "file")
        make_file(parent / "logs" / "blog" / "file")

    assert [mode_of(path) for path in (parent / "logs", parent / "logs" / "blog")] == [0o750, 0o750]
    assert [mode_of(path) for path in (parent / "file", parent / "logs" / "blog" / "file")] == [0o640, 0o640]


def test_a_file_is_never_more_open_than_the_directory_that_it_is_in(parent: Path) -> None:
    parent.chmod(0o700)
    make_file(parent / "file")
    assert mode_of(parent / "file") == 0o600


@needs_root
def test_what_is_made_in_a_shared_directory_belongs_to_its_group() -> None:
    def make_both() -> None:
        modes.make_directory(shared / "logs")
        make_file(shared / "logs" / "file")

    with shared_directory(0o2770) as shared:
        assert act_as(BOB, make_both) == ""

        for path in (shared / "logs", shared / "logs" / "file"):
            assert (path.stat().st_uid, path.stat().st_gid) == (BOB, GROUP)


def test_a_directory_that_is_there_stays_as_it_is(parent: Path) -> None:
    parent.chmod(0o2770)
    (parent / "logs").mkdir()
    (parent / "logs").chmod(0o700)
    (parent / "link").symlink_to("logs")

    modes.make_directory(parent / "logs")
    modes.make_directory(parent / "link")

    assert mode_of(parent / "logs") == 0o700
    assert (parent / "link").is_symlink()


def test_what_is_in_a_file_that_is_there_stays(parent: Path) -> None:
    (parent / "file").write_text("content")
    make_file(parent / "file")
    assert (parent / "file").read_text() == "content"


@needs_root
def test_a_file_of_somebody_else_keeps_its_rights() -> None:
    with shared_directory(0o2770) as shared:
        (shared / "file").touch()
        (shared / "file").chmod(0o666)
        os.chown(shared / "file", ALICE, GROUP)

        assert act_as(BOB, lambda: make_file(shared / "file")) == ""
        make_file(shared / "file")  # nor does root change them

        assert mode_of(shared / "file") == 0o666


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_EXCL])
@pytest.mark.parametrize("target", ["there", "missing"])
def test_a_link_in_the_place_of_a_file_is_not_followed(parent: Path, target: str, flags: int) -> None:
    if target == "there":
        (parent / target).write_text("precious")
        (parent / target).chmod(0o600)
    (parent / "file").symlink_to(target)

    with pytest.raises(OSError, match=r"symbolic links|File exists"):
        make_file(parent / "file", flags)

    if target == "there":
        assert ((parent / target).read_text(), mode_of(parent / target)) == ("precious", 0o600)
    else:
        assert not (parent / target).exists()


def test_a_link_to_nowhere_in_the_place_of_a_directory_is_not_followed(parent: Path) -> None:
    (parent / "logs").symlink_to("missing")
    with pytest.raises(FileExistsError):
        modes.make_directory(parent / "logs")
    assert not (parent / "missing").exists()


def test_a_file_in_the_place_of_a_directory_is_an_error(parent: Path) -> None:
    (parent / "logs").touch()
    for path in (parent / "logs", parent / "logs" / "blog"):
        with pytest.raises(OSError, match=r"File exists|Not a directory"):
            modes.make_directory(path)


# What somebody else may have written


@pytest.mark.parametrize(
    ("limit", "offset", "read"),
    [(-1, 0, b"0123456789"), (4, 0, b"0123"), (-1, 8, b"89"), (4, 8, b"89"), (4, 100, b""), (0, 0, b"")],
)
def test_a_file_is_read_from_where_and_as_far_as_one_wants(parent: Path, limit: int, offset: int, read: bytes) -> None:
    (parent / "file").write_bytes(b"0123456789")
    assert modes.read_file(parent / "file", limit, offset) == read


@pytest.mark.parametrize("trap", ["a pipe", "a link", "a directory", "a device"])
def test_what_is_no_file_is_neither_read_nor_followed_nor_waited_for(parent: Path, trap: str) -> None:
    path = parent / "file"
    if trap == "a pipe":
        os.mkfifo(path)
    elif trap == "a link":
        (parent / "target").write_text("precious")
        path.symlink_to("target")
    elif trap == "a directory":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(OSError, match=r"symbolic links|not a regular file|Is a directory"):
        modes.read_file(path)


# Two users of one state directory


def take_lock(state_dir: Path) -> None:
    with lock.hold(state_dir, "blog"):
        pass


def write_log(state_dir: Path, job_id: int = 1) -> None:
    path = joblog.log_path(state_dir, "blog", job_id)
    log = joblog.JobLog(path, 1000)
    log.write(b"hello\n")
    log.close()
    assert path.read_bytes() == b"hello\n"


def enqueue(state_dir: Path, repo: str) -> None:
    """Leaves -wal and -shm behind in a process that ends at once."""
    Store(path_in(state_dir), time.time).enqueue(repo, Trigger.MANUAL)


@needs_root
@pytest.mark.parametrize("mode", [0o2770, 0o2775], ids=oct)
@pytest.mark.parametrize(("first", "second"), [(ALICE, BOB), (BOB, ALICE)], ids=["alice first", "bob first"])
def test_a_lock_that_one_user_made_the_other_can_hold(mode: int, first: int, second: int) -> None:
    with shared_directory(mode) as shared:
        for user in (first, second, first, second):
            assert act_as(user, lambda: take_lock(shared)) == ""

        assert (mode_of(shared / "locks"), mode_of(shared / "locks" / "blog.lock")) == (mode, mode & 0o666)
        assert (shared / "locks" / "blog.lock").stat().st_gid == GROUP


@needs_root
def test_a_lock_that_was_busy_for_the_user_who_made_it_the_other_can_still_hold() -> None:
    with shared_directory(0o2770) as shared:
        assert act_as(ALICE, lambda: take_lock(shared)) == ""
        with lock.hold(shared, "blog"):
            assert BusyError.__name__ in act_as(ALICE, lambda: take_lock(shared))

        assert act_as(BOB, lambda: take_lock(shared)) == ""


@needs_root
def test_who_may_only_read_a_lock_sees_whether_it_is_held_and_cannot_hold_it() -> None:
    def look() -> None:
        assert lock.is_free(shared, "blog") is is_free
        assert lock.is_free(shared, "never-synced")

    with shared_directory(0o2775) as shared:
        assert act_as(ALICE, lambda: take_lock(shared)) == ""
        for is_free in (True, False):
            with lock.hold(shared, "blog" if not is_free else "another"):
                assert act_as(STRANGER, look) == ""
        assert "Permission denied; is its directory writable?" in act_as(STRANGER, lambda: take_lock(shared))
        assert {path.name for path in (shared / "locks").iterdir()} == {"blog.lock", "another.lock"}


@needs_root
@pytest.mark.parametrize("mode", [0o2770, 0o2775], ids=oct)
def test_a_job_of_a_repo_can_be_logged_by_one_user_after_the_other(mode: int) -> None:
    with shared_directory(mode) as shared:
        assert act_as(ALICE, lambda: write_log(shared, 1)) == ""
        assert act_as(BOB, lambda: write_log(shared, 2)) == ""
        assert act_as(BOB, lambda: write_log(shared, 1)) == ""
        assert act_as(ALICE, lambda: joblog.remove_old(shared, "blog", 1)) == ""

        (left,) = (shared / "logs" / "blog").iterdir()
        assert (left.name, left.stat().st_uid, left.stat().st_gid) == ("2.log", BOB, GROUP)
        assert (mode_of(left.parent), mode_of(left)) == (mode, mode & 0o666)


@needs_root
@pytest.mark.parametrize("mode", [0o2770, 0o2775], ids=oct)
@pytest.mark.parametrize(("first", "second"), [(ALICE, BOB), (BOB, ALICE)], ids=["alice first", "bob first"])
def test_records_that_one_user_made_the_other_can_write(mode: int, first: int, second: int) -> None:
    with shared_directory(mode) as shared:
        assert act_as(first, lambda: enqueue(shared, "one")) == ""
        directory = path_in(shared).parent
        assert {path.name for path in directory.iterdir()} == {f"gitopsd.sqlite3{end}" for end in ("", "-wal", "-shm")}
        for path in directory.iterdir():
            assert (mode_of(path), path.stat().st_gid) == (mode & 0o666, GROUP), path.name

        assert act_as(second, lambda: enqueue(shared, "two")) == ""
        assert act_as(first, lambda: enqueue(shared, "three")) == ""

        store = Store(path_in(shared), time.time)
        try:
            assert store.due() == ["one", "two", "three"]
        finally:
            store.close()


@needs_root
def test_what_root_makes_in_the_store_its_users_can_write() -> None:
    with shared_directory(0o2770) as shared:
        assert act_as(0, lambda: enqueue(shared, "one")) == ""  # as a first `gitopsd sync` by root does
        assert act_as(BOB, lambda: enqueue(shared, "two")) == ""


@needs_root
def test_records_in_a_private_directory_are_nobody_elses() -> None:
    with shared_directory(0o755) as shared:
        assert act_as(ALICE, lambda: enqueue(shared, "one")) == ""

        assert mode_of(path_in(shared)) == 0o640
        assert "StoreError" in act_as(STRANGER, lambda: enqueue(shared, "two"))
