"""The store's file: its tables, how an older one becomes a current one, what damage looks like, how it is put aside.

Nothing here knows what a row means; see `rows` and `store`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from jobclient.protocol.errors import JobBrokerError, StoreUnavailable

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # The number is the row's own key: starts append to the table, and pages in the order of starts cost no index.
        """
        CREATE TABLE job (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL,
            status TEXT NOT NULL,
            kind TEXT NOT NULL,
            name TEXT,
            cwd TEXT,
            key TEXT,
            completed INTEGER,
            snapshot TEXT NOT NULL
        )
        """,
        "CREATE UNIQUE INDEX job_id ON job (id)",
        "CREATE UNIQUE INDEX job_key ON job (key) WHERE key IS NOT NULL",
        "CREATE INDEX job_name ON job (name) WHERE name IS NOT NULL",
        "CREATE INDEX job_status ON job (status)",
        "CREATE INDEX job_completed ON job (completed) WHERE completed IS NOT NULL",
        "CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, rev INTEGER NOT NULL)",
        "INSERT INTO meta VALUES (1, 0, 0)",
    ),
    (
        # What is kept besides jobs, in the order in which it came: schedules, and how they stand.
        "CREATE TABLE fact (kind TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL)",
        "CREATE UNIQUE INDEX fact_name ON fact (kind, name)",
    ),
)
"""The statements that lead from each version of the schema to the next. Only ever append."""

_PARTS = ("-wal", "-shm", "")  # of one store; the file itself last, see `quarantine`
_WRITE_PATIENCE = 5.0  # nobody but the broker writes; somebody may look in with sqlite3
_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR))


class DamagedStore(JobBrokerError):
    """The store cannot be read for what it is; it must be put aside and rebuilt."""


class NewerStore(JobBrokerError):
    """The store was written by a newer version, which alone may touch it."""


@contextmanager
def named(path: Path) -> Generator[None]:
    """Give errors of SQLite their names.

    Raises:
        DamagedStore: the file is no database, not ours, or its pages contradict each other.
        StoreUnavailable: it is as it should be but cannot be used: disk full, read-only, locked.
    """
    try:
        yield
    except sqlite3.DatabaseError as exc:
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without one, the text was not UTF-8
        if isinstance(exc, sqlite3.ProgrammingError):
            raise StoreUnavailable("the store is closed") from exc
        if code in _DAMAGED:
            raise DamagedStore(f"{path} is damaged: {exc}") from exc
        raise StoreUnavailable(f"{path} cannot be used: {exc}") from exc
    except UnicodeDecodeError as exc:  # SQLite quotes what it cannot read, and that is no text
        raise DamagedStore(f"{path} is damaged: its schema cannot be read") from exc


def open_file(path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> sqlite3.Connection:
    """Open a store for writing, make it if there is none, bring it up to date. Reads no more than a few pages.

    Raises:
        DamagedStore: see `named`; damage to pages not looked at here shows when they are read.
        NewerStore: a newer version wrote it.
        StoreUnavailable: it cannot be made or opened.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        _check_length(path)
    except OSError as exc:
        raise StoreUnavailable(f"{path} cannot be used: {exc.strerror}") from exc
    with named(path):
        db = connect(path)
        try:
            migrate(db, path, migrations)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            db.close()
            raise
    return db


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode; the caller sees to it that one thread at a time uses it."""
    return sqlite3.connect(path, timeout=_WRITE_PATIENCE, isolation_level=None, check_same_thread=False)


def migrate(db: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]]) -> None:
    """Lead the schema to its current version, wholly or not at all."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise NewerStore(
            f"{path} was written by a newer jobbroker (format {version}, this one knows {len(migrations)}):"
            " run that version, or use another state directory"
        )
    if version < len(migrations):
        with transaction(db):
            for statements in migrations[version:]:
                for statement in statements:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(migrations)}")


@contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    """All of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some errors roll back by themselves
            db.execute("ROLLBACK")
        raise


def _check_length(path: Path) -> None:
    """Refuse a file that ends before its own header says, which SQLite would only notice much later.

    A log beside it may hold the missing pages, so then there is nothing to be said yet.
    """
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        return
    with path.open("rb") as file:
        header = file.read(100)
    pages, valid_for, changes = (int.from_bytes(header[at : at + 4], "big") for at in (28, 92, 24))
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    if header and (len(header) < 100 or (valid_for == changes and path.stat().st_size < pages * page)):
        raise DamagedStore(f"{path} is damaged: it is cut short")


def quarantine(path: Path, now: datetime | None = None) -> Path:
    """Put a store aside under a name of its own, its log beside it, and return that name. Overwrites nothing.

    The file itself goes last: should we die in between, its log must not be taken for that of a new store.
    """
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    again = 1
    while any(_part(aside, part).exists() for part in _PARTS):
        again += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{again}")
    for part in _PARTS:
        if _part(path, part).exists():
            _part(path, part).rename(_part(aside, part))
    return aside


def _part(path: Path, part: str) -> Path:
    return path.with_name(path.name + part)
