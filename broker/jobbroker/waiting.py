"""Those who wait for jobs to end: any number, for any jobs; one that leaves loses nothing for the others."""

from __future__ import annotations

import trio

from jobbroker.core.job import is_terminal
from jobclient.protocol.wire import Job


class Waiter:
    """One wait for a set of jobs.

    Attributes:
        ended: the jobs that ended, in order of completion.
        left: the ids still waited for.
    """

    def __init__(self, jobs: list[Job], *, content_with_one: bool) -> None:
        """Wait for these; those that have ended already count in the order in which they did."""
        over = [job for job in jobs if is_terminal(job)]
        self.ended = sorted(over, key=lambda job: (job.completed_at or "", job.rev))
        self.left = {job.id for job in jobs} - {job.id for job in over}
        self._one = content_with_one
        self._changed = trio.Event()

    @property
    def content(self) -> bool:
        """Whether there is nothing left to wait for."""
        return not self.left or (self._one and bool(self.ended))

    def note(self, job: Job) -> None:
        """A job changed."""
        if is_terminal(job) and job.id in self.left:
            self.left.discard(job.id)
            self.ended.append(job)
        self._changed.set()

    async def changed(self) -> None:
        """Until one of the jobs changes."""
        await self._changed.wait()
        self._changed = trio.Event()


class WaitingRoom:
    """Who waits for which job."""

    def __init__(self) -> None:
        self._by_job: dict[str, set[Waiter]] = {}

    def enter(self, waiter: Waiter) -> None:
        """Hear of every change of the jobs this waiter waits for."""
        for name in waiter.left:
            self._by_job.setdefault(name, set()).add(waiter)

    def leave(self, waiter: Waiter, names: set[str]) -> None:
        """Hear no more."""
        for name in names:
            others = self._by_job.get(name)
            if others is not None:
                others.discard(waiter)
                if not others:
                    del self._by_job[name]

    def tell(self, job: Job) -> None:
        """A job changed."""
        for waiter in tuple(self._by_job.get(job.id, ())):
            waiter.note(job)
