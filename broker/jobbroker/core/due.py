"""When schedules are due: anchor + k x interval, on a clock that only grows, so that nothing ever drifts. Pure.

The clock counts while the machine sleeps, and no change of the time of day moves it. From one boot to the next the time
of day is all there is to go by.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import NamedTuple
from zlib import crc32

from msgspec import Struct

LATE_MS = 5_000
"""A tick that comes no later than this is late; one that would come later has been missed."""
_SPARE = 64


class Moment(Struct, frozen=True):
    """A moment on both clocks: of the day, and of a boot. Milliseconds."""

    wall_ms: int
    boot_ms: int
    boot: str


class Beat(Struct, frozen=True):
    """The due times of a schedule, counted from 1.

    Attributes:
        anchor_ms: the start, on the clock of this boot.
        every_ms: the interval.
        jitter_ms: each due time is up to so much later than its place; less than the interval.
        salt: what makes the jitter of one schedule another than that of all others.
    """

    anchor_ms: int
    every_ms: int
    jitter_ms: int = 0
    salt: str = ""

    def at(self, number: int) -> int:
        """The due time with that number, on the clock of this boot."""
        place = self.anchor_ms + number * self.every_ms
        return place + crc32(f"{self.salt}:{number}".encode()) % (self.jitter_ms + 1) if self.jitter_ms else place


class Look(NamedTuple):
    """What is to be done at a moment.

    Attributes:
        fire: whether there is a tick now, and `late_ms` how late it is.
        missed: due times that have passed without a tick of their own.
        number: the next one to wait for.
    """

    fire: bool
    late_ms: int
    missed: int
    number: int


def look(beat: Beat, number: int, now_ms: int, *, catch_up: bool) -> Look:
    """What is due now, `number` being the due time waited for. However many have passed, there is one tick at most.

    Where the machine slept, or nobody was there, the last of them is made up for only if that is wanted.
    """
    if now_ms < beat.at(number):
        return Look(fire=False, late_ms=0, missed=0, number=number)
    latest = (now_ms - beat.anchor_ms) // beat.every_ms
    if beat.at(latest) > now_ms:
        latest -= 1
    latest = max(latest, number)
    late = now_ms - beat.at(latest)
    fire = catch_up or late <= LATE_MS
    return Look(fire=fire, late_ms=late if fire else 0, missed=latest - number + (not fire), number=latest + 1)


def placed(anchor: Moment, number: int, every_ms: int, now: Moment) -> tuple[Moment, int]:
    """An anchor of an earlier boot, on the clock of this one, and the number to wait for.

    Where the time of day cannot be right, so that the next tick would come later than an interval from now, the
    schedule begins anew.
    """
    if anchor.boot != now.boot:
        anchor = Moment(anchor.wall_ms, now.boot_ms - (now.wall_ms - anchor.wall_ms), now.boot)
    if anchor.boot_ms + number * every_ms > now.boot_ms + every_ms:
        return now, 1
    return anchor, number


class DueTimes:
    """Which schedule is due next, of any number of them."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._at: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._at)

    def put(self, name: str, at_ms: int) -> None:
        """The schedule is due then, and not when it was before."""
        self._at[name] = at_ms
        heappush(self._heap, (at_ms, name))
        if len(self._heap) > 2 * len(self._at) + _SPARE:
            self._heap = [(at, each) for each, at in self._at.items()]
            heapify(self._heap)

    def drop(self, name: str) -> None:
        """The schedule is not due any more."""
        self._at.pop(name, None)

    def get(self, name: str) -> int | None:
        """When the schedule is due; None if it never is."""
        return self._at.get(name)

    def next(self) -> int | None:
        """When the first of all is due; None if none is."""
        while self._heap:
            at, name = self._heap[0]
            if self._at.get(name) == at:
                return at
            heappop(self._heap)
        return None

    def pop(self, now_ms: int) -> str | None:
        """The schedule that has been due the longest, which is not waited for any more; None if none is due yet."""
        at = self.next()
        if at is None or at > now_ms:
            return None
        name = heappop(self._heap)[1]
        del self._at[name]
        return name
