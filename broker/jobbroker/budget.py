"""The limit on what all jobs together may have on disk: who is counted when, and who gives up what he wrote.

Nothing is polled. Ends and removals keep the sum up to date, one walk after the start adds what was there, and live
jobs are looked at when another one ends or somebody asks. Live jobs count, and keep what they have.
"""

from __future__ import annotations

import logging

import trio

from jobbroker.core.job import Snapshot, is_live
from jobbroker.core.selection import Selection
from jobbroker.core.table import Table
from jobbroker.core.usage import Usage
from jobbroker.jobdir import JobDirectories
from jobbroker.removal import PAGE, Removals
from jobbroker.rows import FIRST, Place, place
from jobbroker.store import Store
from jobclient.protocol.errors import StoreUnavailable

FRESH_SECONDS = 1.0
"""How old a look at live jobs may be: one that ends every millisecond must not cost a look at all others each time."""

log = logging.getLogger("jobbroker.jobs")


class Budget:
    """Who has how much on disk, and whether that is too much.

    Attributes:
        limit: bytes for the output of all jobs, 0 for any number.
    """

    def __init__(
        self, limit: int, usage: Usage, store: Store, jobs: JobDirectories, table: Table, removals: Removals
    ) -> None:
        self.limit = limit
        self._usage = usage
        self._store = store
        self._jobs = jobs
        self._table = table
        self._removals = removals
        self._looked_at = float("-inf")
        self._emptied: Place = FIRST  # all that ended up to here has nothing left to give up
        self._one_thread = trio.CapacityLimiter(1)

    # --- counting ---------------------------------------------------------------------------------------------------

    async def count(self, names: list[str]) -> None:
        """Walk over the directories that were there at the start."""
        for first in range(0, len(names), PAGE):
            page = [name for name in names[first : first + PAGE] if not self._is_live(name)]
            for name, size in zip(page, await self._measure(page), strict=True):
                self._usage.find(name, size)
        self._usage.finish()
        log.info("counted: %d directories, %d bytes of output", len(names), self._usage.ended)

    def _is_live(self, name: str) -> bool:
        held = self._table.get(name)
        return held is not None and is_live(held.job)

    async def _measure(self, names: list[str]) -> list[int]:
        def look() -> list[int]:
            return [self._jobs.output_room(name) for name in names]

        return await trio.to_thread.run_sync(look, limiter=self._one_thread)

    def note_end(self, snapshot: Snapshot) -> bool:
        """A job has ended; whether there is reason to see if that was too much."""
        job = snapshot.job
        wrote = job.persist and (job.stdout.size or job.stderr.size)
        size = self._jobs.output_room(job.id) if wrote else 0
        self._usage.end(job.id, size)
        if size:
            self._emptied = min(self._emptied, (place(snapshot)[0], 0))  # clocks are set back
        return bool(self.limit) and (self._usage.total > self.limit or not self._is_fresh())

    def _is_fresh(self) -> bool:
        return trio.current_time() - self._looked_at < FRESH_SECONDS

    async def look(self) -> int:
        """Bytes of disk the output of all jobs takes, those of live jobs as of now, or nearly."""
        if not self._is_fresh():
            self._looked_at = trio.current_time()
            names = self._table.slot_holders()
            for first in range(0, len(names), PAGE):
                page = names[first : first + PAGE]
                for name, size in zip(page, await self._measure(page), strict=True):
                    if self._is_live(name):
                        self._usage.live(name, size)
        return self._usage.total

    # --- giving up --------------------------------------------------------------------------------------------------

    async def enforce(self) -> None:
        """If it is too much, the jobs that ended first give up what they wrote, and say so."""
        if not self.limit or not self._removals.pruning:
            return
        selection = Selection[Snapshot](spare=1 << 62, excess=await self.look() - self.limit)
        begun = last = self._emptied
        while not selection.over:
            known = await self._write_ends()
            if self._emptied < begun:  # somebody has ended further back meanwhile
                begun = last = self._emptied
            page = self._store.rows.oldest_ended(PAGE, after=last)
            if not page:
                return  # live jobs have the rest
            sizes = await self._removals.measure(page)
            chosen = selection.choose(zip(page, sizes, strict=True))
            await self._removals.give_up_output([each for each, size in zip(chosen, sizes, strict=False) if size])
            last = place(chosen[-1])
            if known and self._emptied == begun:
                self._emptied = begun = last

    async def _write_ends(self) -> bool:
        """See that all that have ended are found; whether they are."""
        try:
            await self._store.commit()
        except StoreUnavailable:
            return False
        return True
