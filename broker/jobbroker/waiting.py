"""Those who wait for jobs to end: any number, for any jobs; one that leaves loses nothing for the others."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import trio

from jobbroker.core.job import is_terminal
from jobclient.protocol.wire import Job


class Waiter:
    """One wait for a set of jobs.

    Attributes:
        ended: the jobs that ended, in order of completion.
        left: the ids still waited for.
        stopped: those of them that will not end before somebody resumes them.
    """

    def __init__(self, jobs: list[Job], *, content_with_one: bool) -> None:
        """Wait for these; those that have ended already count in the order in which they did."""
        over = [job for job in jobs if is_terminal(job)]
        self.ended = sorted(over, key=lambda job: (job.completed_at or "", job.rev))
        self.left = {job.id for job in jobs} - {job.id for job in over}
        self.stopped = {job.id for job in jobs if _stands_still(job)}
        self._one = content_with_one
        self._over = trio.Event()

    @property
    def content(self) -> bool:
        """Whether what was waited for has happened."""
        return not self.left or (self._one and bool(self.ended))

    @property
    def over(self) -> bool:
        """Whether waiting on is of no use: all has happened, or all that is left is stopped."""
        return self.content or len(self.stopped) == len(self.left)

    def note(self, job: Job) -> None:
        """A job changed."""
        if job.id not in self.left:
            return
        if _stands_still(job):
            self.stopped.add(job.id)
        else:
            self.stopped.discard(job.id)
        if is_terminal(job):
            self.left.discard(job.id)
            self.ended.append(job)
        if self.over:
            self._over.set()

    async def wait(self) -> None:
        """Until it is over: a job that was stopped only for a moment is waited for on."""
        while not self.over:
            self._over = trio.Event()
            await self._over.wait()


def _stands_still(job: Job) -> bool:
    """Whether it will not end before somebody resumes it; one whose end was asked for will."""
    return job.status == "stopped" and not job.cancel_requested


class WaitingRoom:
    """Who waits for which job."""

    def __init__(self) -> None:
        self._by_job: dict[str, dict[Waiter, None]] = {}  # in the order in which they came

    @contextmanager
    def entered(self, waiter: Waiter) -> Generator[None]:
        """Hear of every change of the jobs this waiter waits for, within a block."""
        names = tuple(waiter.left)
        for name in names:
            self._by_job.setdefault(name, {})[waiter] = None
        try:
            yield
        finally:
            for name in names:
                others = self._by_job.get(name, {})
                others.pop(waiter, None)
                if not others:
                    self._by_job.pop(name, None)

    def tell(self, job: Job) -> None:
        """A job changed."""
        for waiter in tuple(self._by_job.get(job.id, ())):
            waiter.note(job)
