"""Remove ended jobs with all they left: when asked to, and by themselves when there are more than the settings keep."""

from __future__ import annotations

import logging

import trio

from jobbroker.clock import wall_ms
from jobbroker.core.job import Snapshot, is_terminal
from jobbroker.core.table import Table
from jobbroker.events import Events
from jobbroker.jobdir import JobDirectories
from jobbroker.settings import Settings
from jobbroker.store import Store
from jobbroker.volatile import VolatileOutputs
from jobclient.protocol.errors import StoreUnavailable
from jobclient.protocol.wire import TERMINAL

log = logging.getLogger("jobbroker.jobs")


class Removals:
    """The way out.

    Attributes:
        pruning: whether ended jobs may be removed by themselves; not after a store was lost.
    """

    def __init__(
        self, store: Store, jobs: JobDirectories, volatile: VolatileOutputs, table: Table, events: Events
    ) -> None:
        self.pruning = True
        self._store = store
        self._jobs = jobs
        self._volatile = volatile
        self._table = table
        self._events = events
        self._removing: set[str] = set()

    async def old_jobs(self, age_ms: int, keep: int) -> list[Snapshot]:
        """The ended jobs of at least that age, oldest first, but for the newest `keep` of all ended ones."""
        await self._store.commit()  # what ended just now is not in the store yet
        spare = sum(count for status, count in self._table.counts.items() if status in TERMINAL) - keep
        if spare <= 0:
            return []
        return self._store.rows.oldest_ended(spare, wall_ms() - age_ms + 1)

    async def remove(self, snapshots: list[Snapshot]) -> list[str]:
        """Remove ended jobs, their artefacts first and the rows last; one that cannot be removed stays.

        Returns:
            The ids of those that are gone.

        Raises:
            StoreUnavailable: the rows cannot be written.
        """
        if self._store.degraded is not None:
            raise StoreUnavailable(f"nothing is removed while the store cannot be written: {self._store.degraded}")
        gone: list[Snapshot] = []
        for snapshot in snapshots:
            if self._may_go(snapshot) and self._remove_files(snapshot):
                self._removing.add(snapshot.job.id)
                gone.append(snapshot)
            await trio.lowlevel.checkpoint()
        names = [snapshot.job.id for snapshot in gone]
        try:
            await self._store.commit(delete=names)
            for snapshot in gone:
                self._table.remove(snapshot)
                self._store.rev = max(self._store.rev, self._events.removed(snapshot))
        finally:
            self._removing.difference_update(names)
        return names

    def _may_go(self, snapshot: Snapshot) -> bool:
        """Whether it has ended, and nobody removes it already, or has by now."""
        name = snapshot.job.id
        if name in self._removing or not is_terminal(snapshot.job):
            return False
        return self._table.get(name) is not None or self._store.rows.get(name) is not None

    def _remove_files(self, snapshot: Snapshot) -> bool:
        try:
            self._jobs.remove(snapshot.job.id)
        except OSError as exc:
            log.warning("cannot remove: id=%s error=%s", snapshot.job.id, exc)
            return False
        self._volatile.drop(snapshot.job.id)
        return True

    async def prune(self, settings: Settings) -> None:
        """Remove the ended jobs that the settings no longer want kept."""
        if not self.pruning:
            return
        old = await self.old_jobs(0, settings.keep_jobs)
        if settings.keep_for_ms:
            old += await self.old_jobs(settings.keep_for_ms, 0)
        if old:
            gone = await self.remove(old)
            log.info("pruned: %d ended jobs", len(gone))
