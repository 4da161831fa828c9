"""The tables of the store: made, brought up to date, and found to be ours and no others."""

import functools
import sqlite3
from contextlib import closing

Connection = sqlite3.Connection

# The partial unique indexes are the coalescing: at most one pending and one running job a repo, whoever writes.
MIGRATIONS = (
    """
    CREATE TABLE deliveries (
        id INTEGER PRIMARY KEY,
        receiver TEXT NOT NULL,
        delivery_id TEXT NOT NULL,
        event TEXT NOT NULL,
        remote TEXT NOT NULL,
        ref TEXT NOT NULL,
        revision TEXT NOT NULL,
        decision TEXT NOT NULL CHECK (decision IN ('accepted', 'ignored', 'duplicate')),
        reason TEXT NOT NULL,
        received_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX deliveries_by_id ON deliveries (receiver, delivery_id);
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        repo TEXT NOT NULL,
        trigger TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'succeeded', 'unchanged', 'failed', 'refused',
                                             'interrupted', 'superseded')),
        reason TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        interruptions INTEGER NOT NULL,
        due_at REAL NOT NULL,
        created_at REAL NOT NULL,
        delivery TEXT,
        ref TEXT,
        revision TEXT,
        force INTEGER NOT NULL,
        retry_of INTEGER,
        started_at REAL,
        finished_at REAL,
        old_revision TEXT,
        new_revision TEXT,
        exit_code INTEGER,
        phases TEXT NOT NULL DEFAULT '[]'
    ) STRICT;
    CREATE UNIQUE INDEX one_pending_job ON jobs (repo) WHERE state = 'pending';
    CREATE UNIQUE INDEX one_running_job ON jobs (repo) WHERE state = 'running';
    CREATE INDEX jobs_by_repo ON jobs (repo, id);
    CREATE INDEX jobs_by_retry ON jobs (retry_of) WHERE retry_of IS NOT NULL;
    CREATE TABLE matches (
        delivery INTEGER NOT NULL REFERENCES deliveries ON DELETE CASCADE,
        repo TEXT NOT NULL,
        job INTEGER,
        reason TEXT
    ) STRICT;
    CREATE INDEX matches_by_repo ON matches (repo, delivery);
    CREATE INDEX matches_by_delivery ON matches (delivery);
    CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    """,
    # Tables of their own: a process of the version before, which goes on beside us until its sync ends, reads whole
    # rows of the others. `skips` has the two ends of each push that `paths` left out; ids of bodies have no gaps.
    """
    CREATE TABLE wishes (
        job INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
        event TEXT,
        images TEXT NOT NULL
    ) STRICT;
    CREATE TABLE skips (
        delivery INTEGER NOT NULL REFERENCES deliveries ON DELETE CASCADE,
        repo TEXT NOT NULL,
        revision TEXT NOT NULL,
        skipped_from TEXT NOT NULL
    ) STRICT;
    CREATE INDEX skips_by_revision ON skips (repo, revision);
    CREATE INDEX skips_by_delivery ON skips (delivery);
    CREATE TABLE bodies (
        id INTEGER PRIMARY KEY,
        delivery INTEGER NOT NULL UNIQUE REFERENCES deliveries ON DELETE CASCADE,
        event_header TEXT NOT NULL,
        text BLOB NOT NULL
    ) STRICT;
    """,
)


class NewerError(sqlite3.DatabaseError):
    """The file has tables that this program does not know."""


class ForeignError(sqlite3.DatabaseError):
    """Somebody else has written into the file, and what it would do is not ours."""


def see_to(connection: Connection) -> None:
    """Make the tables that are missing. Raises NewerError, ForeignError, sqlite3.Error."""
    connection.execute("BEGIN")  # both looks are at one moment
    version, found = connection.execute("PRAGMA user_version").fetchone()[0], _schema(connection)
    connection.execute("COMMIT")
    if version > len(MIGRATIONS):
        raise NewerError(f"written by a newer gitopsd (version {version})")
    if found != _schema_of(version):
        raise ForeignError("its tables are not those that gitopsd makes")
    if version == len(MIGRATIONS):
        return
    # Two processes may find the same old file: the second waits here, and then has nothing left to do.
    connection.execute("BEGIN IMMEDIATE")
    _migrate(connection, connection.execute("PRAGMA user_version").fetchone()[0], len(MIGRATIONS))
    connection.execute("COMMIT")


def _migrate(connection: Connection, version: int, target: int) -> None:
    for number in range(version, target):
        for statement in MIGRATIONS[number].split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")


def _schema(connection: Connection) -> frozenset[tuple[str, ...]]:
    """What is in the file. What SQLite keeps there for itself (ANALYZE) does not count."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'")
    return frozenset(tuple(row) for row in rows)


@functools.cache
def _schema_of(version: int) -> frozenset[tuple[str, ...]]:
    """What a file of this version has in it: nothing more, as one user may have made it, and another opens it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _migrate(connection, 0, version)
        return _schema(connection)
