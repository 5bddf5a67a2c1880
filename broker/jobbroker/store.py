"""The store: the latest snapshot of every job, and the few facts kept besides, written by one writer in groups.

What is queued while a group is being written makes up the next one, so the more there is to write, the cheaper each
change. The loop never waits for the disk: groups are written in a thread, with a connection of their own.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self, TypeVar

import msgspec
import trio

from jobbroker.core.job import Snapshot
from jobbroker.rows import Fact, Row, Rows, encode
from jobbroker.schema import DamagedStore, NewerStore, named, open_file, quarantine, transaction
from jobclient.protocol.errors import StoreUnavailable

__all__ = ["DamagedStore", "NewerStore", "Store", "quarantine"]

COALESCE = 0.02
"""Seconds a change nobody waits for may wait for company: a short job begins and ends in one group."""
RETRY = 1.0
"""Seconds until a failed group is tried again, and so until the store notices that the disk has room again."""
CLOSING = 10.0
"""Seconds the last write may take."""
REVS_AHEAD = 1_000_000
"""How far the announced revisions may be ahead of the written ones when the broker is killed."""

_T = TypeVar("_T")
_SIZES = (64, 16, 4, 1)  # rows per statement: each statement gives up the interpreter's lock and must get it back
_NOTE = "UPDATE meta SET number = max(number, ?), rev = ?"
_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
_AGAIN = (
    "ON CONFLICT (number) DO UPDATE"
    " SET status = excluded.status, completed = excluded.completed, snapshot = excluded.snapshot"
)
_PUT = {size: f"INSERT INTO job VALUES {', '.join([_ROW] * size)} {_AGAIN}" for size in _SIZES}  # noqa: S608  # constants
_PUT_FACT = "INSERT INTO fact VALUES (?, ?, ?) ON CONFLICT (kind, name) DO UPDATE SET text = excluded.text"
_DELETE_FACT = "DELETE FROM fact WHERE kind = ? AND name = ?"
_DELETE = {size: f"DELETE FROM job WHERE id IN ({', '.join('?' * size)})" for size in _SIZES}  # noqa: S608  # constants

_NO_FACTS: Mapping[Fact, str | None] = {}

_log = logging.getLogger(__name__)


class _Group:
    """Changes to be written together: for each id its latest row, for each fact its latest text, None to delete it."""

    __slots__ = ("changes", "done", "facts", "failure", "kept", "kept_facts", "refused")

    def __init__(self) -> None:
        self.changes: dict[str, Row | None] = {}
        self.facts: dict[Fact, str | None] = {}
        self.kept_facts: dict[Fact, str | None] = {}
        self.kept: dict[str, Row | None] = {}  # those nobody waits for: tried again with the next group if this fails
        self.done = trio.Event()
        self.failure: str | None = None
        self.refused: dict[str, str] = {}

    def inherit(self, failed: _Group) -> None:
        """Take over what must not be lost with an earlier group; what was queued since goes before it."""
        self.changes = failed.kept | self.changes
        self.kept = failed.kept | self.kept
        self.facts = failed.kept_facts | self.facts
        self.kept_facts = failed.kept_facts | self.kept_facts


class Store:
    """An open store. `rows` answers questions; changes go through `commit` and `post`.

    For one id the order of calls is the order of effects. A snapshot is written as it is at the call.

    Attributes:
        rows: the committed rows.
        is_new: whether there was no store before, so that records found beside it are not in it.
        degraded: why the last write failed, None as soon as one succeeds again.
        rev: no revision above this one was announced before this store was opened; it grows with what is put.
        last_number: the highest number ever taken or put.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection, rows: Rows) -> None:
        """Use `open`."""
        self.path = path
        self.rows = rows
        self.degraded: str | None = None
        self._writer = writer
        self._group = _Group()
        self._writing: _Group | None = None
        self._dirty, self._urgent = trio.Event(), trio.Event()
        self._one_writer = trio.CapacityLimiter(1)
        self._closed = False
        with named(path):
            noted = writer.execute("SELECT number, rev, (SELECT max(number) FROM job) FROM meta").fetchone()
        try:
            number, self.rev, highest = msgspec.convert(noted, tuple[int, int, int | None])
        except msgspec.ValidationError as exc:
            raise DamagedStore(f"{path} is damaged: it has lost its numbers") from exc
        self.last_number = max(number, highest or 0)
        self.is_new = self.last_number == 0 and self.rev == 0
        self._reserve()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store, or make one. Looks at what every start reads: the counts and the live jobs.

        Raises:
            DamagedStore: put it aside with `quarantine`. Other damage shows when a row is read.
            NewerStore: a newer version wrote it.
            StoreUnavailable: it cannot be opened, for a reason that is not its own.
        """
        with ExitStack() as undo:
            writer = undo.enter_context(closing(open_file(path)))
            rows = undo.enter_context(closing(Rows(path)))
            store = cls(path, writer, rows)
            rows.counts()
            rows.live()
            undo.pop_all()  # from here on `close` lets go of them
        return store

    def _reserve(self) -> None:
        """Revisions are announced before they are written; so the first ones must be covered now."""
        try:
            with named(self.path):
                self._write(_Group(), self.last_number, self.rev + REVS_AHEAD)
        except StoreUnavailable as exc:
            self.degraded = exc.message
            self._dirty.set()  # see `_settle`

    def take_number(self) -> int:
        """A number for a new job. None is given twice, not even after its job is removed."""
        self.last_number += 1
        return self.last_number

    def is_stored(self, identity: str) -> bool:
        """Whether everything put for that job so far is committed."""
        return identity not in self._group.changes and (self._writing is None or identity not in self._writing.changes)

    @property
    def unstored(self) -> list[str]:
        """The ids of the jobs of which that is not so."""
        return [*({} if self._writing is None else self._writing.changes), *self._group.changes]

    async def commit(
        self, put: Iterable[Snapshot] = (), delete: Iterable[str] = (), facts: Mapping[Fact, str | None] = _NO_FACTS
    ) -> None:
        """Write changes, and return when they are committed; without any, when everything posted so far is.

        A caller that is cancelled has still had its changes queued.

        Raises:
            StoreUnavailable: they were not written and never will be.
        """
        group, changes = self._queue(put, delete, facts)
        self._urgent.set()
        await group.done.wait()
        failure = group.failure or next((group.refused[key] for key in changes if key in group.refused), None)
        if failure is not None:
            raise StoreUnavailable(failure)

    def post(
        self, put: Iterable[Snapshot] = (), delete: Iterable[str] = (), facts: Mapping[Fact, str | None] = _NO_FACTS
    ) -> None:
        """Queue changes that are proven elsewhere; they are kept until a write succeeds, the latest of each job."""
        group, changes = self._queue(put, delete, facts)
        group.kept.update(changes)
        group.kept_facts.update(facts)

    def _queue(
        self, put: Iterable[Snapshot], delete: Iterable[str], facts: Mapping[Fact, str | None]
    ) -> tuple[_Group, dict[str, Row | None]]:
        if self._closed:
            raise StoreUnavailable("the broker is shutting down: its store is closed")
        changes: dict[str, Row | None] = dict.fromkeys(delete)
        for snapshot in put:
            row = encode(snapshot)
            changes[snapshot.job.id] = row
            self.last_number = max(self.last_number, row[0])
            self.rev = max(self.rev, snapshot.job.rev)
        self._group.changes.update(changes)
        self._group.facts.update(facts)
        self._dirty.set()
        return self._group, changes

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write whatever is queued, until cancelled; then `close` writes the rest."""
        task_status.started()
        while True:
            await self._dirty.wait()
            with trio.move_on_after(COALESCE if self.degraded is None else RETRY):
                await self._urgent.wait()
            await self._flush(self.rev + REVS_AHEAD, abandon=False)

    async def close(self) -> None:
        """Write the last group and let go of the file. Call it when `run` has ended."""
        self._closed = True
        await self._flush(self.rev, abandon=True)
        self.rows.close()
        if self._writing is None:  # else a thread still hangs in it
            self._writer.close()

    def abandon(self) -> None:
        """Let go of the file without another word; for one that was opened and never run."""
        self._closed = True
        self.rows.close()
        self._writer.close()

    async def _flush(self, rev: int, *, abandon: bool) -> None:
        group, self._group = self._group, _Group()
        self._dirty, self._urgent = trio.Event(), trio.Event()
        self._writing = group
        failure: str | None = f"{self.path} was not written in time"
        # Shielded, or the group would be lost between having been taken and being in the thread's hands.
        with trio.move_on_after(CLOSING, shield=True):
            failure = await trio.to_thread.run_sync(
                self._attempt, group, self.last_number, rev, abandon_on_cancel=abandon, limiter=self._one_writer
            )
            self._writing = None
        self._settle(group, failure)

    def _settle(self, group: _Group, failure: str | None) -> None:
        if failure is not None:
            if self.degraded is None:
                _log.error("the store cannot be written, trying again: %s", failure)
            self._group.inherit(group)
            self._dirty.set()  # even if there is nothing to write: to see when writing works again
        elif self.degraded is not None:
            _log.warning("the store can be written again")
        for refusal in group.refused.values():
            _log.error("%s", refusal)
        self.degraded = group.failure = failure
        group.done.set()

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _attempt(self, group: _Group, number: int, rev: int) -> str | None:
        """Write a group; why it could not be written, or None."""
        try:
            with named(self.path):
                self._write(group, number, rev)
        except (StoreUnavailable, DamagedStore) as exc:
            return str(exc)
        return None

    def _write(self, group: _Group, number: int, rev: int) -> None:
        rows = [row for row in group.changes.values() if row is not None]
        gone = [identity for identity, row in group.changes.items() if row is None]
        with transaction(self._writer):
            self._writer.execute(_NOTE, (number, rev))
            for some in _cut(gone):
                self._writer.execute(_DELETE[len(some)], some)
            for piece in _cut(rows):
                self._put(piece, group.refused)
            if group.facts:
                self._write_facts(group.facts)

    def _write_facts(self, facts: Mapping[Fact, str | None]) -> None:
        """One that stays the same fact keeps its place in the order."""
        self._writer.executemany(_DELETE_FACT, [fact for fact, text in facts.items() if text is None])
        self._writer.executemany(_PUT_FACT, [(*fact, text) for fact, text in facts.items() if text is not None])

    def _put(self, rows: Sequence[Row], refused: dict[str, str]) -> None:
        """Write rows; one that contradicts another (a fault of ours) must not hold up the rest for ever."""
        try:
            self._writer.execute(_PUT[len(rows)], [value for row in rows for value in row])
        except sqlite3.IntegrityError as exc:
            if len(rows) > 1:
                for row in rows:
                    self._put([row], refused)
            else:
                refused[rows[0][1]] = f"job {rows[0][1]} cannot be stored: {exc}"


def _cut(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Pieces of the sizes there are statements for."""
    at = 0
    for size in _SIZES:
        while len(items) - at >= size:
            yield items[at : at + size]
            at += size
