"""The live jobs, and how each of them is watched. Of one that waits nothing has to be known: ten thousand may."""

from __future__ import annotations

from collections.abc import Iterable

from jobbroker.attendance import Attendance
from jobclient.protocol.wire import Job


class LiveJobs:
    """All jobs that have not ended, by id."""

    def __init__(self) -> None:
        self._waiting: dict[str, Job] = {}  # those of which nothing had to be known so far
        self._attended: dict[str, Attendance] = {}

    def __contains__(self, name: str) -> bool:
        """Whether it is live."""
        return name in self._waiting or name in self._attended

    @property
    def attended(self) -> Iterable[Attendance]:
        """How those are watched that are."""
        return self._attended.values()

    def expect(self, of: Job) -> None:
        """Care for a job that waits; how it is watched begins when somebody asks."""
        self._attended.pop(of.id, None)
        self._waiting[of.id] = of

    def attend(self, of: Job) -> Attendance:
        """Begin to watch a live job."""
        self._waiting.pop(of.id, None)
        attendance = self._attended[of.id] = Attendance(of)
        return attendance

    def get(self, name: str) -> Attendance | None:
        """How a live job is watched; None if it is not live."""
        waiting = self._waiting.get(name)
        return self._attended.get(name) if waiting is None else self.attend(waiting)

    def watched(self, name: str) -> Attendance | None:
        """How a job that somebody has is watched; None also while it waits."""
        attendance = self._attended.get(name)
        return attendance if attendance is not None and attendance.watched else None

    def leave(self, name: str) -> None:
        """The job has ended: nobody watches it any more."""
        self._waiting.pop(name, None)
        attendance = self._attended.pop(name, None)
        if attendance is not None:
            attendance.begun.set()
            attendance.ended.set()
            attendance.turned.set()
            attendance.drop_watch()
