"""The jobs in memory: all live ones and the recent ended ones, by id, number, name and key; counts, queue and pages.

Everything the store knows besides is older: an ended job whose number is at most `Table.floor` may be in the store
alone. A change costs the same with none and with a hundred thousand jobs. No order of a set or a hash is ever visible.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice

from jobbroker.core.job import STATUSES, Snapshot, is_live
from jobclient.protocol.errors import InvalidParams
from jobclient.protocol.wire import Filter, Status

KEEP = 1000
"""Ended jobs held in memory."""
_SLACK = 64  # stale numbers are not worth cleaning up below this
_LAST = 1 << 62

Matches = Callable[[Snapshot], bool]
Older = Callable[[int, int], Iterable[Snapshot]]
"""Stored jobs with low <= number <= high, in the order of the page that asks."""


class _Numbers:
    """Numbers of which the lowest is wanted, and any may be withdrawn. A withdrawn one stays until it comes up."""

    __slots__ = ("_heap", "_valid")

    def __init__(self) -> None:
        self._heap: list[int] = []
        self._valid: dict[int, None] = {}  # a set of these takes three times the room

    def push(self, number: int) -> None:
        if number not in self._valid:
            self._valid[number] = None
            heapq.heappush(self._heap, number)

    def discard(self, number: int) -> None:
        self._valid.pop(number, None)
        if len(self._heap) > 2 * len(self._valid) + _SLACK:
            self._heap = sorted(self._valid)

    def lowest(self) -> int | None:
        while self._heap and self._heap[0] not in self._valid:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None


class _Names:
    """The numbers of each name, in the order in which they came. Most have one: a dict for it would take 200 bytes."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[str, int | dict[int, None]] = {}

    def add(self, name: str, number: int) -> None:
        known = self._numbers.get(name)
        if known is None:
            self._numbers[name] = number
        elif isinstance(known, dict):
            known[number] = None
        else:
            self._numbers[name] = {known: None, number: None}

    def discard(self, name: str, number: int) -> None:
        known = self._numbers.get(name)
        if isinstance(known, dict):
            known.pop(number, None)
        if known in (number, {}):
            del self._numbers[name]

    def of(self, name: str) -> Iterable[int]:
        known = self._numbers.get(name, ())
        return (known,) if isinstance(known, int) else known


class Table:
    """Jobs by everything they are asked for by. Tell it of each change right after the change, with `update`.

    Attributes:
        floor: ended jobs above this number are all here; those up to it may be in the store alone.
    """

    def __init__(
        self,
        *,
        keep: int = KEEP,
        floor: int = 0,
        counts: Mapping[Status, int] | None = None,
        is_stored: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """An empty table.

        Args:
            keep: how many ended jobs to hold.
            floor: the highest number the store knows; ended jobs up to it need not be loaded.
            counts: jobs in the store, by status.
            is_stored: whether the latest change of a job is in the store, so that it may leave memory.
        """
        self.floor = floor
        self._keep = keep
        self._is_stored = is_stored
        self._counts: dict[Status, int] = {status: (counts or {}).get(status, 0) for status in STATUSES}
        self._by_id: dict[str, Snapshot] = {}
        self._by_number: dict[int, Snapshot] = {}
        self._by_key: dict[str, Snapshot] = {}
        self._live_names = _Names()
        self._ended_names = _Names()
        self._status: dict[str, Status] = {}  # as last told: snapshots change in place
        self._order: list[int] = []  # ascending, with stale numbers in between
        self._ended = _Numbers()
        self._queue = _Numbers()
        self._busy: set[str] = set()

    # --- changes ----------------------------------------------------------------------------------------------------

    def load(self, snapshots: Iterable[Snapshot]) -> None:
        """Take in jobs the store has, so that `counts` knows them already. Those that run hold a slot."""
        for snapshot in snapshots:
            self._insert(snapshot)
            if snapshot.job.status in ("running", "stopped"):
                self._busy.add(snapshot.job.id)

    def add(self, snapshot: Snapshot) -> None:
        """Take in a new job. Starts may overtake each other: its number need not be the highest."""
        self._insert(snapshot)
        self._counts[snapshot.job.status] += 1

    def _insert(self, snapshot: Snapshot) -> None:
        job = snapshot.job
        if job.id in self._by_id or job.number in self._by_number:
            raise ValueError(f"there is a job {job.id} or %{job.number} already")
        self._by_id[job.id] = self._by_number[job.number] = snapshot
        at = bisect_left(self._order, job.number)  # the end, but for starts that overtook each other
        if self._order[at : at + 1] != [job.number]:
            self._order.insert(at, job.number)
        self._status[job.id] = job.status
        if snapshot.key is not None:
            self._by_key[snapshot.key] = snapshot
        if job.name is not None:
            (self._live_names if is_live(job) else self._ended_names).add(job.name, job.number)
        if job.status == "queued":
            self._queue.push(job.number)
        elif not is_live(job):
            self._end(job.number)

    def update(self, snapshot: Snapshot) -> None:
        """A job has changed: bring counts, queue and indexes up to date."""
        job = snapshot.job
        before = self._status[job.id]
        if before == job.status:
            return
        self._status[job.id] = job.status
        self._counts[before] -= 1
        self._counts[job.status] += 1
        self._queue.discard(job.number)
        if not is_live(job):
            if job.name is not None:
                self._live_names.discard(job.name, job.number)
                self._ended_names.add(job.name, job.number)
            self._end(job.number)

    def remove(self, snapshot: Snapshot) -> None:
        """A job is gone for good, whether it was here or in the store alone."""
        self._counts[self._status.get(snapshot.job.id, snapshot.job.status)] -= 1
        self._forget(snapshot)
        self._busy.discard(snapshot.job.id)

    def _end(self, number: int) -> None:
        self._ended.push(number)
        while self.in_memory - self.live > self._keep:
            lowest = self._ended.lowest()
            if lowest in (None, number) or not self._is_stored(self._by_number[lowest].job.id):
                return  # the next end looks again; this one may still have to be put
            self._forget(self._by_number[lowest])
            self.floor = max(self.floor, lowest)

    def _forget(self, snapshot: Snapshot) -> None:
        job = snapshot.job
        if self._by_id.pop(job.id, None) is None:
            return
        del self._by_number[job.number], self._status[job.id]
        if snapshot.key is not None:
            self._by_key.pop(snapshot.key, None)
        if job.name is not None:
            self._live_names.discard(job.name, job.number)
            self._ended_names.discard(job.name, job.number)
        self._ended.discard(job.number)
        self._queue.discard(job.number)
        if len(self._order) > 2 * len(self._by_number) + _SLACK:
            self._order = [number for number in self._order if number in self._by_number]

    # --- slots ------------------------------------------------------------------------------------------------------

    def next_to_start(self, max_running: int) -> list[Snapshot]:
        """The queued jobs that may start now, lowest number first. Each takes a slot until `release` or `requeue`."""
        ready: list[Snapshot] = []
        while len(self._busy) < max_running and (number := self._queue.lowest()) is not None:
            snapshot = self._by_number[number]
            self.occupy(snapshot)
            ready.append(snapshot)
        return ready

    def occupy(self, snapshot: Snapshot) -> None:
        """A job has a slot: it was handed out, or found under way."""
        self._queue.discard(snapshot.job.number)
        self._busy.add(snapshot.job.id)

    def release(self, snapshot: Snapshot) -> None:
        """A job's slot is free again."""
        self._busy.discard(snapshot.job.id)

    def requeue(self, snapshot: Snapshot) -> None:
        """A job that was handed out surely did not begin: back to its place in the queue."""
        self.release(snapshot)
        if self._status.get(snapshot.job.id) == "queued":
            self._queue.push(snapshot.job.number)

    # --- questions --------------------------------------------------------------------------------------------------

    @property
    def counts(self) -> dict[Status, int]:
        """Jobs by status, those in the store alone included."""
        return dict(self._counts)

    @property
    def live(self) -> int:
        """How many jobs have not ended."""
        return self._counts["queued"] + self._counts["running"] + self._counts["stopped"]

    @property
    def in_memory(self) -> int:
        """How many jobs are held here."""
        return len(self._by_id)

    @property
    def slots_taken(self) -> int:
        """How many jobs hold a slot."""
        return len(self._busy)

    def slot_holders(self) -> list[str]:
        """The ids of the jobs that hold one."""
        return sorted(self._busy)

    def get(self, identity: str) -> Snapshot | None:
        """The job with that id, if it is here."""
        return self._by_id.get(identity)

    def by_number(self, number: int) -> Snapshot | None:
        """The job with that number, if it is here."""
        return self._by_number.get(number)

    def by_key(self, key: str) -> Snapshot | None:
        """The job with that idempotency key, if it is here."""
        return self._by_key.get(key)

    def by_name(self, name: str, limit: int) -> list[Snapshot]:
        """The live jobs of that name, then the newest ended ones, as far as they are here."""
        found = list(islice(self._live_names.of(name), limit))
        found += heapq.nlargest(limit - len(found), self._ended_names.of(name))
        return [self._by_number[number] for number in found]

    def by_prefix(self, prefix: str, limit: int) -> list[Snapshot]:
        """Jobs here whose id begins so. Looks at all of them: only people shorten ids."""
        return list(islice((found for found in self._by_id.values() if found.job.id.startswith(prefix)), limit))

    def all_live(self) -> list[Snapshot]:
        """All jobs that have not ended, by number."""
        return [snapshot for snapshot in self._numbered(0, _LAST, descending=False) if is_live(snapshot.job)]

    def page(
        self, matches: Matches, *, older: Older, limit: int, before: str | None = None, descending: bool = True
    ) -> tuple[list[Snapshot], str | None]:
        """A page of jobs in the order of their starts, and where the next one goes on, None after the last.

        Args:
            matches: which jobs are meant, see `matcher`.
            older: reads the store.
            limit: the most jobs to return.
            before: where the last page said the next one goes on.
            descending: newest start first.

        Raises:
            InvalidParams: `before` is not what a page said.
        """
        low, high = _range(before, descending=descending)
        old = min(high, self.floor)
        stored = (snapshot for snapshot in older(low, old) if snapshot.job.id not in self._by_id)
        known = self._numbered(low, old, descending=descending)
        recent = self._numbered(max(low, self.floor + 1), high, descending=descending)
        past = heapq.merge(known, stored, key=lambda snapshot: snapshot.job.number, reverse=descending)
        jobs: list[Snapshot] = []
        for snapshot in chain(recent, past) if descending else chain(past, recent):
            if matches(snapshot):
                if len(jobs) >= limit:
                    return jobs, str(jobs[-1].job.number) if jobs else before
                jobs.append(snapshot)
        return jobs, None

    def _numbered(self, low: int, high: int, *, descending: bool) -> Iterator[Snapshot]:
        first, end = bisect_left(self._order, low), bisect_right(self._order, high)
        for at in range(end - 1, first - 1, -1) if descending else range(first, end):
            snapshot = self._by_number.get(self._order[at])
            if snapshot is not None:
                yield snapshot


def _range(before: str | None, *, descending: bool) -> tuple[int, int]:
    """The lowest and the highest number a page may hold."""
    if before is None:
        return 0, _LAST
    if not (before.isascii() and before.isdecimal() and len(before) <= 18):
        raise InvalidParams("`before` must be the `next` of an earlier page")
    return (0, int(before) - 1) if descending else (int(before) + 1, _LAST)


def statuses(wanted: Filter) -> frozenset[Status] | None:
    """The statuses a filter asks for, None for any."""
    if wanted.status is None:
        return None
    return frozenset([wanted.status] if isinstance(wanted.status, str) else wanted.status)


def matcher(wanted: Filter) -> Matches:
    """The predicate a filter stands for; a filter without members matches every job."""
    tests: list[Matches] = []
    status, labels = statuses(wanted), wanted.label
    if status is not None:
        tests.append(lambda snapshot: snapshot.job.status in status)
    if wanted.kind is not None:
        tests.append(lambda snapshot: snapshot.job.kind == wanted.kind)
    if wanted.name is not None:
        tests.append(lambda snapshot: snapshot.job.name == wanted.name)
    if wanted.cwd is not None:
        tests.append(lambda snapshot: snapshot.job.cwd == wanted.cwd)
    if labels:
        tests.append(lambda snapshot: labels.items() <= snapshot.job.labels.items())
    if not tests:
        return lambda _: True
    return lambda snapshot: all(test(snapshot) for test in tests)
