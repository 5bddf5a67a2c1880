"""Who waits for jobs to write more: one task looks at the output of all jobs that somebody follows, and of no others.

Looking costs one system call a job, and is rarer the longer a job has been silent. Nothing is read here: whoever
follows is told that there is more, and reads it. inotify was measured to cost more, and to slow the writers down.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from math import ceil

import trio

FIRST, BUSY, QUIET = 10, 50, 200
"""Milliseconds between looks at one job: just begun to be followed; writing (its shim collects what comes within as
much); silent for long."""
UNTIL_BUSY, UNTIL_QUIET = 200, 2000
"""Milliseconds of silence before it is looked at as rarely as that."""
CROWD = 25
"""Followed jobs that may each be looked at so often. Of more each is looked at more rarely, down to as a silent
one is: whoever follows gets larger pieces then, and the broker has time for others."""
SLICE = 16
"""Looks before everybody else gets a turn: each may let somebody read."""

log = logging.getLogger("jobbroker.jobs")


def pause(silent: int, *, grown: bool, crowd: int = 1) -> int:
    """Milliseconds between two looks at one job of a `crowd` of followed ones.

    It has been silent for so many milliseconds, and has `grown` since it is followed, or has not.
    """
    if silent < UNTIL_BUSY and not grown:
        return FIRST
    return min(QUIET, BUSY * ceil(crowd / CROWD)) if silent < UNTIL_QUIET else QUIET


def _now() -> int:
    return int(trio.current_time() * 1000)


class Followed:
    """A job whose output somebody follows."""

    __slots__ = ("due", "grown", "interests", "since")

    def __init__(self, now: int) -> None:
        self.interests: list[Interest] = []
        self.since = now  # when it was found to have grown, or began to be followed
        self.grown = False
        self.due = 0
        self.put_off(now, 1)

    def put_off(self, now: int, crowd: int) -> None:
        """Set the time of the next look; times are round, so that many jobs are looked at together."""
        step = pause(now - self.since, grown=self.grown, crowd=crowd)
        self.due = (now // step + 1) * step


class Interest:
    """Somebody who follows a job.

    Attributes:
        seen: bytes there were when he was told last, or when he came.
        over: the job has ended; he is told no more.
    """

    __slots__ = ("_drop", "_tell", "over", "seen")

    def __init__(self, seen: int, tell: Callable[[], None], drop: Callable[[Interest], None]) -> None:
        self.seen = seen
        self.over = False
        self._tell = tell
        self._drop = drop

    def drop(self) -> None:
        """Follow no more."""
        self._drop(self)

    def look(self, size: int) -> bool:
        """There are so many bytes: tell, if that is news; whether it was."""
        if size <= self.seen:
            return False
        self.seen = size
        self.tell()
        return True

    def tell(self) -> None:
        """A fault in who is told must not end the watch over everything else."""
        try:
            self._tell()
        except Exception:
            log.exception("fault in telling of output")


class Growth:
    """Waits for a job to write more.

    Attributes:
        over: the job has ended.
    """

    __slots__ = ("_more", "interest")

    interest: Interest

    def __init__(self) -> None:
        self._more = trio.Event()

    @property
    def over(self) -> bool:
        """Whether the job has ended: nothing comes after what is there."""
        return self.interest.over

    def tell(self) -> None:
        """There is more, or the job has ended."""
        self._more.set()

    async def more(self) -> None:
        """Until there is more than there was when this returned last, or the job has ended."""
        await self._more.wait()
        if not self.over:
            self._more = trio.Event()


class Following:
    """All jobs that are followed, and the one task that looks at them. No timer runs while nobody follows."""

    def __init__(self, size_of: Callable[[str], int]) -> None:
        """Look by `size_of`: how many bytes there are of a job, by its id; must be cheap, and not raise."""
        self._size_of = size_of
        self._followed: dict[str, Followed] = {}
        self._soonest = float("inf")  # when the task looks next
        self._sooner = trio.Event()

    def follow(self, name: str, seen: int, tell: Callable[[], None]) -> Interest:
        """Call `tell` when a live job has written more than `seen` bytes, then whenever it has written more than that.

        And once when it has ended, with `over` set; then everything is there, and the interest drops by itself. Calls
        come from the loop of the broker and are few: twenty a second at most, whatever the job writes. Nothing is
        missed: what is written between a look of the caller's and this call is more than it has seen.
        """
        followed = self._followed.get(name)
        if followed is None:
            followed = self._followed[name] = Followed(_now())
        interest = Interest(seen, tell, followed.interests.remove)
        followed.interests.append(interest)
        if followed.due < self._soonest:
            self._sooner.set()
        return interest

    @contextmanager
    def growth(self, name: str, seen: int) -> Generator[Growth]:
        """Follow for the length of a block, to wait in it."""
        growth = Growth()
        growth.interest = self.follow(name, seen, growth.tell)
        try:
            yield growth
        finally:
            if not growth.over:
                growth.interest.drop()

    def end(self, name: str) -> None:
        """A job has ended: whoever follows is told at once."""
        followed = self._followed.pop(name, None)
        if followed is not None:
            for interest in tuple(followed.interests):
                interest.over = True
                interest.tell()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Look at what is followed, whenever that is due; ends when it is cancelled."""
        task_status.started()
        while True:
            self._sooner = trio.Event()
            self._soonest = min((followed.due for followed in self._followed.values()), default=float("inf"))
            with trio.move_on_at(self._soonest / 1000):
                await self._sooner.wait()
                continue
            await self._look_round(_now())

    async def _look_round(self, now: int) -> None:
        due = [name for name, followed in self._followed.items() if followed.due <= now]
        for count, name in enumerate(due, 1):
            self._look(name, now)
            if count % SLICE == 0:
                await trio.lowlevel.checkpoint()

    def _look(self, name: str, now: int) -> None:
        followed = self._followed.get(name)
        if followed is None:
            return
        if not followed.interests:  # kept until now, in case somebody who was told comes back for more
            del self._followed[name]
            return
        size = self._size_of(name)
        news = [interest.look(size) for interest in tuple(followed.interests)]
        if any(news):
            followed.since = now
            followed.grown = True
        followed.put_off(now, len(self._followed))
