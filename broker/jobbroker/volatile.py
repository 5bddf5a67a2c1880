"""Output that is kept in memory only: nothing of it ever touches a disk, and it is gone with the last who has it open.

While such a job runs its shim has it, and so do we: it comes with the shim's first word, and where that was said to a
daemon before us we take it through /proc. Once the job has ended it is ours alone. There is a limit to what is held.
"""

from __future__ import annotations

import os
import resource
import stat

from jobbroker.core import record
from jobbroker.descriptors import SHORTAGES
from jobbroker.identity import open_checked
from jobbroker.output import OutputReader
from jobclient.protocol.errors import ResultUnavailable
from jobclient.protocol.wire import TERMINAL, Job

IN_MEMORY = 10 * 1024 * 1024
"""Bytes kept of a job that does not say."""
MAX_IN_MEMORY = 256 * 1024 * 1024
"""The most bytes kept of one, and of all together that have ended."""
MAX_HELD = 256
"""Ended jobs whose output is held, if so many files may be open; each is two of ours."""
_UNKNOWN = ("lost", "internal")  # reasons of an end of which nobody knows what was written before it


class VolatileOutputs:
    """The open files, by job."""

    def __init__(self, most_jobs: int = MAX_HELD, most_bytes: int = MAX_IN_MEMORY) -> None:
        """Hold at most so much for jobs that have ended."""
        self._held: dict[str, tuple[int, int]] = {}  # output and index
        self._ended: dict[str, int] = {}  # bytes in memory; the one that ended first comes first
        self._most_jobs = min(most_jobs, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 16)
        self._most_bytes = most_bytes

    def take(self, name: str, descriptors: list[int]) -> None:
        """Hold what came from a shim; nothing, where we had no room for it."""
        if len(descriptors) == 2 and name not in self._held:
            self._held[name] = descriptors[0], descriptors[1]
            return
        for descriptor in descriptors:
            os.close(descriptor)

    def adopt(self, name: str, claim: record.Line) -> None:
        """Hold the output of a job, if its shim says that it is in memory only, still has it, and we do not yet."""
        places = record.files_in_memory(claim)
        while len(places) == 2 and name not in self._held:
            try:
                self.take(name, _open(claim.number(0), claim.number(1), places))
                return
            except OSError as exc:
                if exc.errno not in SHORTAGES or not self._ended:
                    return
            self.drop(next(iter(self._ended)))

    def end(self, name: str) -> None:
        """The job has ended. If that makes too much held for ended jobs, the oldest go."""
        if name not in self._held:
            return
        self._ended[name] = sum(os.fstat(descriptor).st_blocks * 512 for descriptor in self._held[name])
        while len(self._ended) > self._most_jobs or sum(self._ended.values()) > self._most_bytes:
            self.drop(next(iter(self._ended)))

    def drop(self, name: str) -> None:
        """Let go of a job's output, if it is held."""
        self._ended.pop(name, None)
        for descriptor in self._held.pop(name, ()):
            os.close(descriptor)

    def size(self, name: str) -> int | None:
        """Bytes of its output, None if it is not held."""
        held = self._held.get(name)
        return None if held is None else os.fstat(held[0]).st_size

    def reader(self, job: Job, claim: record.Line | None) -> OutputReader:
        """The output of a job, valid until somebody else has a turn; `claim` is what the shim of a live one said first.

        Raises:
            ResultUnavailable: it is gone.
        """
        if claim is not None:
            self.adopt(job.id, claim)
        held = self._held.get(job.id)
        if held is not None:
            return OutputReader(*held)
        if claim is None and _wrote_nothing(job):
            return OutputReader(-1, -1)
        raise ResultUnavailable(
            f"{job.id} kept its output in memory only, and it is gone: the broker that held it has ended, "
            "or let go of it to make room for that of later jobs",
            {"status": job.status, "reason": job.reason, "exitCode": job.exit_code, "id": job.id},
        )


def _wrote_nothing(job: Job) -> bool:
    """Whether it is known that there is no output, because it has not begun, or ended without any."""
    if job.status not in TERMINAL:
        return True
    return job.reason not in _UNKNOWN and not job.stdout.size and not job.stderr.size


def _open(pid: int, started: int, places: list[tuple[int, int]]) -> list[int]:
    """Open files that a shim has open, by its descriptors; nothing, if it has them no more.

    Raises:
        OSError: in SHORTAGES, we may not have so many open.
    """
    handle = open_checked(pid, started)
    if handle is None:
        return []
    opened: list[int] = []
    try:
        for number, inode in places:
            path = f"/proc/{pid}/fd/{number}"
            status = os.stat(path)
            if status.st_ino != inode or not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(path)
            opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
            if os.fstat(opened[-1]).st_ino != inode:  # the shim went on to something else in between
                raise FileNotFoundError(path)
    except OSError:
        for descriptor in opened:
            os.close(descriptor)
        raise
    finally:
        os.close(handle)
    return opened
