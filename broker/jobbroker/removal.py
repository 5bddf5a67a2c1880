"""Remove ended jobs with all they left, or what they wrote alone: on request, and by themselves over the limits.

Files are removed in a thread, a few jobs at a time: a large one takes the disk a while, and nobody waits for that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import msgspec
import trio
from msgspec import Struct, field

from jobbroker.clock import wall_ms
from jobbroker.core.job import Snapshot, is_terminal
from jobbroker.core.selection import Selection
from jobbroker.core.table import Table, matcher, statuses
from jobbroker.core.usage import Usage
from jobbroker.events import Events
from jobbroker.jobdir import JobDirectories
from jobbroker.rows import FIRST, place
from jobbroker.settings import Settings
from jobbroker.store import Store
from jobbroker.volatile import VolatileOutputs
from jobclient.protocol.errors import StoreUnavailable
from jobclient.protocol.wire import TERMINAL, Filter, Stream

PAGE = 50
"""Jobs looked at, or removed, between two chances for everything else."""

log = logging.getLogger("jobbroker.jobs")


class Policy(Struct, frozen=True, kw_only=True):
    """Which ended jobs go: all that every member allows.

    Attributes:
        wanted: a filter.
        age_ms: they ended at least so long ago.
        keep: the newest so many of those the filter wants stay.
        max_bytes: the oldest go, until the output of the ended jobs that are left takes no more disk than this.
    """

    wanted: Filter = field(default_factory=Filter)
    age_ms: int = 0
    keep: int = 0
    max_bytes: int | None = None


class Removals:
    """The way out.

    Attributes:
        pruning: whether anything may be removed without being asked for; not after a store was lost.
        under_way: the ids of jobs that are being removed; some of their files may be gone.
    """

    def __init__(
        self,
        store: Store,
        jobs: JobDirectories,
        volatile: VolatileOutputs,
        table: Table,
        events: Events,
        usage: Usage,
        touch: Callable[[Snapshot], None],
        announce: Callable[[Snapshot], None],
    ) -> None:
        self.pruning = True
        self.under_way: set[str] = set()
        self._store = store
        self._jobs = jobs
        self._volatile = volatile
        self._table = table
        self._events = events
        self._usage = usage
        self._touch = touch
        self._announce = announce
        self._taken: set[str] = set()
        self._one_thread = trio.CapacityLimiter(1)

    # --- which ------------------------------------------------------------------------------------------------------

    async def clean(self, policy: Policy, *, dry_run: bool = False) -> list[str]:
        """Remove the ended jobs a policy lets go, oldest first; one that cannot be removed stays.

        Returns:
            The ids of those that are gone, or, in a dry run, would be.

        Raises:
            StoreUnavailable: the rows cannot be written.
        """
        await self._write_ends()
        spare = await self._count(policy.wanted) - policy.keep
        excess = None if policy.max_bytes is None else self._usage.ended - policy.max_bytes
        selection = Selection[Snapshot](spare=spare, excess=excess)
        until, matches = wall_ms() - policy.age_ms + 1, matcher(policy.wanted)
        gone: list[str] = []
        for page in self._pages(policy.wanted, until):
            if selection.over:
                break
            fitting = [snapshot for snapshot in page if matches(snapshot)]
            sizes = await self.measure(fitting) if excess is not None else [0] * len(fitting)
            chosen = selection.choose(zip(fitting, sizes, strict=True))
            gone += [snapshot.job.id for snapshot in chosen] if dry_run else await self.remove(chosen)
            await trio.lowlevel.checkpoint()
        return gone

    def _pages(self, wanted: Filter, until: int = 1 << 62) -> Iterator[list[Snapshot]]:
        """Jobs that ended before a time, oldest first, and last those whose ends a full disk keeps from the store."""
        last = FIRST
        while page := self._store.rows.oldest_ended(PAGE, until, after=last, wanted=wanted):
            last = place(page[-1])
            yield page
        held = [self._table.get(name) for name in dict.fromkeys(self._store.unstored)]
        ended = [snapshot for snapshot in held if snapshot is not None and is_terminal(snapshot.job)]
        yield sorted((each for each in ended if not self._is_known(each) and place(each)[0] < until), key=place)

    def _is_known(self, snapshot: Snapshot) -> bool:
        """Whether the store knows that it ended."""
        row = self._store.rows.get(snapshot.job.id)
        return row is not None and is_terminal(row.job)

    async def _count(self, wanted: Filter) -> int:
        """How many ended jobs a filter wants."""
        among = statuses(wanted)
        if wanted == Filter(status=wanted.status):
            counts = self._table.counts
            return sum(counts[status] for status in counts if status in TERMINAL and (among is None or status in among))
        count, matches = 0, matcher(wanted)
        for page in self._pages(wanted):
            count += sum(map(matches, page))
            await trio.lowlevel.checkpoint()
        return count

    async def measure(self, snapshots: Iterable[Snapshot]) -> list[int]:
        """Bytes of disk the output of each takes."""
        names = [snapshot.job.id for snapshot in snapshots]
        return await self._in_thread(lambda: [self._jobs.output_room(name) for name in names])

    async def _in_thread(self, work: Callable[[], list[int]]) -> list[int]:
        return await trio.to_thread.run_sync(work, limiter=self._one_thread)

    async def prune(self, settings: Settings) -> None:
        """Remove the ended jobs that the settings no longer want kept."""
        if not self.pruning:
            return
        gone: list[str] = []
        if await self._count(Filter()) > settings.keep_jobs:
            gone += await self.clean(Policy(keep=settings.keep_jobs))
        if settings.keep_for_ms:
            gone += await self.clean(Policy(age_ms=settings.keep_for_ms))
        if gone:
            log.info("pruned: %d ended jobs", len(gone))

    # --- whole jobs -------------------------------------------------------------------------------------------------

    async def remove(self, snapshots: list[Snapshot]) -> list[str]:
        """Remove ended jobs, their artefacts first and the rows last; one that cannot be removed stays.

        Returns:
            The ids of those that are gone.

        Raises:
            StoreUnavailable: the rows cannot be written.
        """
        await self._make_writable(snapshots)
        gone: list[str] = []
        for first in range(0, len(snapshots), PAGE):
            gone += await self._remove(self._take(snapshots[first : first + PAGE]))
        return gone

    async def _remove(self, taken: list[Snapshot]) -> list[str]:
        names = [snapshot.job.id for snapshot in taken]
        self.under_way.update(names)
        try:
            freed = await self._in_thread(lambda: [self._try(self._jobs.remove, name) for name in names])
            gone = [snapshot for snapshot, size in zip(taken, freed, strict=True) if size >= 0]
            for name, size in zip(names, freed, strict=True):
                self._usage.give_up(name, max(size, 0))
            await self._store.commit(delete=[snapshot.job.id for snapshot in gone])
            for snapshot in gone:
                self._volatile.drop(snapshot.job.id)
                self._table.remove(snapshot)
                self._store.rev = max(self._store.rev, self._events.removed(snapshot))
        finally:
            self._taken.difference_update(names)
            self.under_way.difference_update(names)
        return [snapshot.job.id for snapshot in gone]

    def _take(self, snapshots: Iterable[Snapshot]) -> list[Snapshot]:
        """Those that have ended, and that nobody removes already, or has by now. They are ours until let go."""
        taken: list[Snapshot] = []
        for snapshot in snapshots:
            name = snapshot.job.id
            if name in self._taken or not is_terminal(snapshot.job):
                continue
            held = self._table.get(name)
            if held is not None or self._store.rows.get(name) is not None:
                self._taken.add(name)
                taken.append(held or snapshot)
        return taken

    @staticmethod
    def _try(remove: Callable[[str], int], name: str) -> int:
        """Bytes of disk freed, -1 if it could not be removed."""
        try:
            return remove(name)
        except OSError as exc:
            log.warning("cannot remove: id=%s error=%s", name, exc)
            return -1

    async def _write_ends(self) -> None:
        """What ended just now is not in the store yet. On a full disk, what is there has to do."""
        with suppress(StoreUnavailable):
            await self._store.commit()

    async def _make_writable(self, snapshots: list[Snapshot]) -> None:
        """See that the ends of these jobs are committed before their records go, which would prove them.

        A full disk keeps them from being written. Then what the jobs wrote goes first, to make room.
        """
        if self._store.degraded is None and all(self._store.is_stored(snapshot.job.id) for snapshot in snapshots):
            return
        try:
            await self._store.commit()
        except StoreUnavailable:
            await self.give_up_output(snapshots)
            try:
                await self._store.commit()
            except StoreUnavailable as exc:
                text = "what the jobs wrote is removed, which did not make room enough to forget them"
                raise StoreUnavailable(f"{text}: {exc.message}") from exc

    # --- what they wrote --------------------------------------------------------------------------------------------

    async def give_up_output(self, snapshots: list[Snapshot]) -> None:
        """Remove what ended jobs wrote. The jobs stay and say so: before it goes, if that can be written at all."""
        kept = [snapshot for snapshot in snapshots if snapshot.job.persist]
        for first in range(0, len(kept), PAGE):
            await self._give_up(self._take(kept[first : first + PAGE]))

    async def _give_up(self, taken: list[Snapshot]) -> None:
        names = [snapshot.job.id for snapshot in taken]
        emptied = [_without_output(snapshot) for snapshot in taken]
        try:
            for snapshot in emptied:
                self._touch(snapshot)
            try:
                await self._store.commit(put=emptied)
            except StoreUnavailable as exc:
                log.warning("not committed: output given up: error=%s", exc)
                self._store.post(put=emptied)  # that there are no files proves it meanwhile
            freed = await self._in_thread(lambda: [self._try(self._jobs.remove_output, name) for name in names])
            for snapshot, told, size in zip(taken, emptied, freed, strict=True):
                self._usage.give_up(snapshot.job.id, max(size, 0))
                snapshot.job.stdout, snapshot.job.stderr = told.job.stdout, told.job.stderr
                snapshot.job.rev = told.job.rev
                self._announce(snapshot)
        finally:
            self._taken.difference_update(names)
        if names:
            log.info("output given up: %d ended jobs, %d bytes", len(names), sum(map(max, freed, [0] * len(freed))))


def _without_output(snapshot: Snapshot) -> Snapshot:
    """An ended job whose output is gone. What it wrote is still counted."""
    job = snapshot.job
    out, err = (Stream(stream.size, stream.size, closed=True) for stream in (job.stdout, job.stderr))
    return msgspec.structs.replace(snapshot, job=msgspec.structs.replace(job, stdout=out, stderr=err))
