"""One SQLite file: opened on first use, shared by threads and processes, mended without a restart."""

import fcntl
import grp
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from gitopsd import modes
from gitopsd.errors import StoreError
from gitopsd.store import tables

Connection = sqlite3.Connection
Row = sqlite3.Row

_BUSY_SEC = 5.0
_MANY_PAGES = 4096  # 16 MB
_LOG_PAGES = 4096
_LARGEST_LOG = 16 * 1024 * 1024
_NOWHERE = (0, 0)

T = TypeVar("T")


class Database:
    """Transactions and reads on the file at `path`. Raises StoreError for whatever is wrong with it.

    Who reads does not wait for the disk, as whoever writes does.
    """

    def __init__(self, path: Path, pause: Callable[[], None] = lambda: None) -> None:
        """`pause` lets others come as far as to share a transaction, where somebody knows of others."""
        self._writer, self._reader = _Link(path), _Link(path)
        self._pause = pause
        self._queue: list[_Turn[Any]] = []
        self._queueing = threading.Lock()

    @property
    def opened(self) -> int:
        """How often a file was opened to write into it: another one may lie there each time."""
        return self._writer.opened

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
        self._reader.close()

    def read(self, query: str, values: Sequence[Any]) -> list[Row]:
        """The rows of a SELECT."""
        with self._reader.use() as connection:
            rows: list[Row] = connection.execute(query, values).fetchall()
            return rows

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction: on disk when the block has ended, and nothing of it if the block raised."""
        with self._writer.use() as connection, _transaction(connection):
            yield connection

    def together(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives, in a write transaction that it shares with the work of others who came meanwhile.

        On disk when this returns. An error of SQLite or of the disk is everybody's, any other that of whose work it is.
        """
        turn = _Turn(work)
        with self._queueing:
            self._queue.append(turn)
        self._pause()
        # Whoever gets the guard does what has gathered behind it. The others then find that theirs is done.
        with self._writer.guard:
            if not turn.is_over:
                self._take_turns()
        return turn.outcome()

    def _take_turns(self) -> None:
        with self._queueing:
            turns, self._queue = self._queue, []
        try:
            while left := [turn for turn in turns if not turn.is_over]:
                with self._writer.use_guarded() as connection:
                    _take(connection, left)
        except BaseException as error:
            for turn in turns:
                turn.fail(error)
            if not isinstance(error, StoreError):
                raise

    def give_back(self) -> None:
        """Give the disk back what is free in the file, where that is a lot. Nobody can write meanwhile."""
        with self._writer.use() as connection:
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            if free > _MANY_PAGES and free > pages / 2:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class _Turn(Generic[T]):
    """Somebody's part of a transaction that several share."""

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self._work = work
        self._result: list[T] = []
        self._error: Exception | None = None
        self.is_over = False

    def take(self, connection: Connection) -> None:
        """Do the work. Raises _SpoiltError where it cannot be done: the others have to begin anew without it."""
        try:
            self._result = [self._work(connection)]
        except sqlite3.Error:
            raise
        except Exception as error:
            self._error, self.is_over = error, True
            raise _SpoiltError from error

    def fail(self, error: BaseException) -> None:
        """The transaction came to nothing, and with it this, unless it was over before."""
        if not self.is_over:
            text = str(error) if isinstance(error, StoreError) else f"store: {error!r}"
            self._error, self.is_over = StoreError(text), True

    def outcome(self) -> T:
        """What the work gave, or its error. Raises StoreError."""
        if isinstance(self._error, UnicodeError | OverflowError):
            raise StoreError(f"store: {self._error}") from self._error
        if self._error:
            raise self._error
        return self._result[0]


class _SpoiltError(Exception):
    pass


def _take(connection: Connection, turns: Sequence[_Turn[Any]]) -> None:
    """Take all the turns in one transaction; if one cannot be taken, that one is over, and nothing is done."""
    try:
        with _transaction(connection):
            for turn in turns:
                turn.take(connection)
    except _SpoiltError:
        return
    for turn in turns:
        turn.is_over = True


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class _Link:
    """A connection to the file, for one thread at a time.

    It is dropped after an error and made anew by the next call, so that a file that was on a full or read-only disk, or
    was damaged, is used again once it is mended or moved away.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)
        self.guard = threading.Lock()
        self._connection: Connection | None = None
        self._place = self._log_place = _NOWHERE
        self.opened = 0

    def close(self) -> None:
        """Close it."""
        with self.guard:
            self._disconnect()

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """The connection, for this block alone. Raises StoreError."""
        with self.guard, self.use_guarded() as connection:
            yield connection

    @contextmanager
    def use_guarded(self) -> Iterator[Connection]:
        """The same for who holds `guard`."""
        try:
            yield self._open()
        except sqlite3.Error as error:
            self._disconnect()
            raise StoreError(f"store {self._path}: {error}; {_hint(error)}") from error
        except OSError as error:
            hint = _permitted(self._path) if isinstance(error, PermissionError) else _WRITABLE
            raise StoreError(f"store {self._path}: {error.strerror}; {hint}") from error
        except (UnicodeError, OverflowError) as error:
            raise StoreError(f"store {self._path}: {error}") from error

    def _open(self) -> Connection:
        # Who moved the file away wants a new one; what went into the old one would never be seen by a sync.
        if self._connection is not None and self._identity() != self._place:
            self._disconnect()
        if self._connection is None:
            modes.make_directory(self._path.parent)
            self._make_file()
            connection = sqlite3.connect(self._path, timeout=_BUSY_SEC, isolation_level=None, check_same_thread=False)
            try:
                _prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._place, self._log_place = self._identity(), self._identity("-wal")
            self.opened += 1
        return self._connection

    def _make_file(self) -> None:
        """Make the file, if it is missing, with rights of its directory; SQLite gives those beside it the same."""
        if self._path.is_symlink():  # others may write into that directory, too: they must not choose another file
            raise StoreError(f"store {self._path}: it is a link; remove it")
        # Never open one that is there: to close it again would let go of the locks that SQLite has on it elsewhere.
        if self._path.exists():
            return
        with _locked(self._path.parent):  # or a second one who makes it would take away what the first one has opened
            if not self._path.exists():
                # SQLite would take these for the new file's, although whoever has the old one open still uses them.
                for left_behind in ("-wal", "-shm"):
                    Path(f"{self._path}{left_behind}").unlink(missing_ok=True)
                os.close(modes.open_file(self._path, os.O_RDWR | os.O_EXCL))

    def _identity(self, beside: str = "") -> tuple[int, int]:
        try:
            found = os.stat(self._name + beside)  # noqa: PTH116 - each read and each write asks, and a Path takes its time
        except FileNotFoundError:
            return _NOWHERE
        return (found.st_dev, found.st_ino)

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error, OSError):  # who may only read cannot; whoever has written can
                self._complete(self._connection)
            self._connection.close()
            self._connection = None

    def _complete(self, connection: Connection) -> None:
        """Write into a file that was moved away what is in its log alone: SQLite does so only where it was not moved.

        Also where the log is gone, as somebody has made a new file since: we still have it open.
        """
        place = self._identity()
        # A copy that lies in its place goes by the same log, which we would empty.
        is_shared = place != _NOWHERE and self._identity("-wal") == self._log_place
        if place != self._place and not is_shared:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _prepare(connection: Connection) -> None:
    connection.row_factory = Row
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_LOG}")  # what a large transaction took is given back
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")  # a page that changes often is written back once
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")  # one user may have written the file, and another opens it
    tables.see_to(connection)


def _switch_to_wal(connection: Connection) -> None:
    # While another process makes the same new file, SQLite refuses this at once, whatever the time-out.
    deadline = time.monotonic() + _BUSY_SEC
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


_WRITABLE = "see that its directory is there and writable"


def _permitted(path: Path) -> str:
    """Who may: the group of the nearest directory that we may look at."""
    for directory in path.parents:
        try:
            group = grp.getgrgid(directory.stat().st_gid).gr_name
        except (OSError, KeyError):
            continue
        also = f", or join the group {group} (usermod -aG {group} NAME, and log in anew)" if group != "root" else ""
        return f"run this as root (sudo){also}"
    return "run this as root (sudo)"


def _hint(error: sqlite3.Error) -> str:
    if isinstance(error, tables.NewerError):
        return "install that gitopsd again, or move the file away and a new one is made"
    if isinstance(error, tables.ForeignError):
        return "find out who did that; move the file away and a new one is made"
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return "make room on that disk"
    if name.startswith("SQLITE_BUSY"):
        return "another process holds it; try again"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return "move the file away and a new one is made; then `gitopsd sync --all`"
    return _WRITABLE
