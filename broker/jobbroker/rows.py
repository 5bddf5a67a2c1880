"""Jobs as rows: how a snapshot is written down, and everything that is asked of the rows.

Reads are short and run where they are called; they see what is committed, which for live jobs may be older than memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from jobbroker.core.job import STATUSES, Snapshot, milliseconds
from jobbroker.core.table import statuses
from jobbroker.schema import DamagedStore, connect, named
from jobclient.protocol.wire import Filter, Status, Text

Row: TypeAlias = tuple[int, str, str, str, str | None, str | None, str | None, int | None, str]
"""number, id, status, kind, name, cwd, key, completed (ms), snapshot."""
Value: TypeAlias = "str | int | None"
Fact: TypeAlias = tuple[str, str]
"""Something kept besides jobs: of what kind, and its name."""

Place: TypeAlias = tuple[int, int]
"""Where an ended job stands among all: when it ended (ms), and its number."""
FIRST: Place = (-1, 0)
"""Before all of them."""

_ANY = Filter()
_PIECE = 100  # rows per query of a long read, so that no query holds the log for long
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Snapshot)


def encode(snapshot: Snapshot) -> Row:
    """A snapshot as it is now. As JSON it can be read with sqlite3, and members with a default can be added."""
    job = snapshot.job
    completed = None if job.completed_at is None else milliseconds(job.completed_at)
    text = _encoder.encode(snapshot).decode()
    return (job.number, job.id, job.status, job.kind, job.name, _place(job.cwd), snapshot.key, completed, text)


def place(snapshot: Snapshot) -> Place:
    """Where an ended job stands in the order of ends."""
    return milliseconds(snapshot.job.completed_at or ""), snapshot.job.number


def _place(cwd: Text) -> str:
    """A directory as its column has it. No path begins as what stands for one that is not text."""
    return cwd if isinstance(cwd, str) else f"base64:{cwd.base64}"


def decode(text: object) -> Snapshot:
    """The snapshot of a row, members added since with their defaults.

    Raises:
        DamagedStore: it is none; a damaged page may even hold another type.
    """
    if not isinstance(text, str):
        raise DamagedStore("a row of the store cannot be read: it is not text")
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError as exc:
        raise DamagedStore(f"a row of the store cannot be read: {exc}") from exc


class Rows:
    """The committed rows, read through a connection of their own.

    Every method raises `DamagedStore` where it meets damage.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with named(path):
            self._db = connect(path)
            self._db.execute("PRAGMA query_only = 1")

    def close(self) -> None:
        """No more questions."""
        self._db.close()

    def get(self, identity: str) -> Snapshot | None:
        """The job with that id."""
        return self._one("WHERE id = ?", identity)

    def by_number(self, number: int) -> Snapshot | None:
        """The job with that number."""
        return self._one("WHERE number = ?", number)

    def by_key(self, key: str) -> Snapshot | None:
        """The job with that idempotency key."""
        return self._one("WHERE key = ?", key)

    def by_name(self, name: str, limit: int) -> list[Snapshot]:
        """The newest jobs of that name."""
        return self._all("WHERE name = ? ORDER BY number DESC LIMIT ?", name, limit)

    def by_prefix(self, prefix: str, limit: int) -> list[Snapshot]:
        """The jobs whose id begins so."""
        after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return self._all("WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", prefix, after, limit)

    def live(self) -> list[Snapshot]:
        """All jobs that have not ended, by number."""
        return self._all("WHERE status IN ('queued', 'running', 'stopped') ORDER BY number")

    def oldest_ended(
        self, limit: int, before_ms: int | None = None, *, after: Place = FIRST, wanted: Filter = _ANY
    ) -> list[Snapshot]:
        """The jobs that ended first, if need be only those that ended before a time.

        Args:
            limit: the most to return.
            before_ms: that time.
            after: the `place` of the last one seen; those behind it are meant.
            wanted: a filter; labels are only looked for roughly, as in `between`.
        """
        where, values = _conditions(wanted)
        asked = statuses(wanted)
        if asked is not None:  # the + keeps SQLite from taking the index of statuses, and sorting
            where.append(f"+status IN ({', '.join('?' * len(asked))})")
            values += sorted(asked)
        until = (1 << 62) if before_ms is None else before_ms
        rest = " AND ".join(["WHERE completed IS NOT NULL AND (completed, number) > (?, ?) AND completed < ?", *where])
        return self._all(rest + " ORDER BY completed, number LIMIT ?", *after, until, *values, limit)

    def counts(self) -> dict[Status, int]:
        """How many jobs there are of each status."""
        with named(self._path):
            found: dict[str, int] = dict(self._db.execute("SELECT status, count(*) FROM job GROUP BY status"))
        return {status: found.get(status, 0) for status in STATUSES}

    def facts(self, kind: str) -> list[tuple[str, str]]:
        """Name and text of everything of a kind that is kept besides jobs, in the order in which it came."""
        with named(self._path):
            found = self._db.execute("SELECT name, text FROM fact WHERE kind = ? ORDER BY rowid", (kind,)).fetchall()
        try:
            return msgspec.convert(found, list[tuple[str, str]])
        except msgspec.ValidationError as exc:
            raise DamagedStore(f"{self._path} is damaged: {exc}") from exc

    def between(self, low: int, high: int, wanted: Filter, *, descending: bool = True) -> Iterator[Snapshot]:
        """The jobs with low <= number <= high that a filter may want, by number, read piece by piece as needed.

        Labels are only looked for roughly: what comes must still pass the `matcher`.
        """
        where, values = _conditions(wanted)
        asked = statuses(wanted)
        if asked is None:
            return self._pieces(where, values, low, high, descending=descending)
        # One status after the other walks the index in the order of numbers; all at once would sort them all.
        each = (
            self._pieces([*where, "status = ?"], [*values, status], low, high, descending=descending)
            for status in STATUSES
            if status in asked
        )
        return heapq.merge(*each, key=lambda snapshot: snapshot.job.number, reverse=descending)

    def _pieces(
        self, where: Iterable[str], values: Iterable[Value], low: int, high: int, *, descending: bool
    ) -> Iterator[Snapshot]:
        order = "DESC" if descending else "ASC"
        rest = " AND ".join(["WHERE number BETWEEN ? AND ?", *where]) + f" ORDER BY number {order} LIMIT {_PIECE}"
        while low <= high:
            piece = self._all(rest, low, high, *values)
            yield from piece
            if len(piece) < _PIECE:
                return
            if descending:
                high = piece[-1].job.number - 1
            else:
                low = piece[-1].job.number + 1

    def _one(self, rest: str, value: Value) -> Snapshot | None:
        found = self._all(rest, value)
        return found[0] if found else None

    def _all(self, rest: str, *values: Value) -> list[Snapshot]:
        with named(self._path):
            found: list[tuple[int, object]] = self._db.execute(
                "SELECT number, snapshot FROM job " + rest,  # noqa: S608  # constants of this file
                values,
            ).fetchall()
        snapshots = [decode(text) for _, text in found]
        if any(snapshot.job.number != number for snapshot, (number, _) in zip(snapshots, found, strict=True)):
            raise DamagedStore(f"{self._path} is damaged: a row holds another job than it says")
        return snapshots


def _conditions(wanted: Filter) -> tuple[list[str], list[Value]]:
    """All but the status, as SQL."""
    where: list[str] = []
    values: list[Value] = []
    place = None if wanted.cwd is None else _place(wanted.cwd)
    for column, value in (("kind", wanted.kind), ("name", wanted.name), ("cwd", place)):
        if value is not None:
            where.append(f"{column} = ?")
            values.append(value)
    for name, value in (wanted.label or {}).items():
        where.append("instr(snapshot, ?)")  # spares decoding what cannot match
        values.append(_encoder.encode({name: value})[1:-1].decode())
    return where, values
