"""The log of timed jobs: a file for each day of UTC, a line of JSON for each thing that happens.

Nobody waits for it. What cannot be written, or comes faster than it is written, is dropped and counted, and said once.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import trio

from jobclient import paths

MAX_WAITING = 8 * 1024 * 1024
"""Bytes of lines that wait to be written."""
WRITING_SECONDS = 10.0
"""How long a write may hang before everything else goes on without it."""
_DAY_MS = 24 * 60 * 60 * 1000
_SUFFIX = ".jsonl"
_LOOKS_LIKE = "0000-00-00" + _SUFFIX

log = logging.getLogger("jobbroker.timed")


def days(folder: str) -> list[str]:
    """The days there are files of, oldest first; none if the folder cannot be read."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(name.removesuffix(_SUFFIX) for name in names if _is_ours(name))


def file_of(folder: str, day: str) -> str:
    """The file of a day."""
    return os.path.join(folder, day + _SUFFIX)


def _is_ours(name: str) -> bool:
    shape = "".join("0" if each.isdecimal() and each.isascii() else each for each in name)
    return shape == _LOOKS_LIKE


class TickLog:
    """Lines on their way into the files.

    Attributes:
        folder: where the files are.
        dropped: lines that were not written, since the broker started.
        trouble: why lines are dropped now, None if none are.
        written: set, and replaced, when something was written.
    """

    def __init__(self, folder: str, keep_ms: int = 0) -> None:
        """Files older than `keep_ms` are removed when a new day begins; 0 keeps them all."""
        self.folder = folder
        self.dropped = 0
        self.trouble: str | None = None
        self.written = trio.Event()
        self._keep_ms = keep_ms
        self._waiting: list[tuple[str, bytes]] = []
        self._size = 0
        self._arrived = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._one_thread = trio.CapacityLimiter(1)
        self._file: tuple[str, int] | None = None  # its day, and descriptor
        self._torn = False

    def write(self, line: bytes, ts: str) -> None:
        """Append a line that was written at `ts` (`timestamp`) to the file of that day."""
        if self._size + len(line) > MAX_WAITING:
            self._note(1, "lines come faster than they are written")
            return
        self._waiting.append((ts[:10], line))
        self._size += len(line)
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._arrived.set()

    async def flush(self) -> None:
        """Wait until everything so far is written, or dropped."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write whatever comes, in order, until cancelled."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived = trio.Event()
                await self._write_waiting()
        finally:
            if self._file is not None:
                os.close(self._file[1])

    async def _write_waiting(self) -> None:
        lines, self._waiting, self._size = self._waiting, [], 0
        failures: list[str] | None = None
        # Shielded, or lines would be lost between having been taken and being in the thread's hands.
        with trio.move_on_after(WRITING_SECONDS, shield=True):
            failures = await trio.to_thread.run_sync(
                self._write_all, lines, abandon_on_cancel=True, limiter=self._one_thread
            )
        if failures is None:
            self._note(len(lines), "writing takes too long")
        elif failures:
            self._note(len(failures), failures[-1])
        elif self.trouble is not None:
            log.warning("the log of timed jobs can be written again; %d lines were dropped", self.dropped)
            self.trouble = None
        self.written.set()
        self.written = trio.Event()
        if not self._waiting:
            self._idle.set()

    def _note(self, count: int, why: str) -> None:
        """Lines were dropped. It is said once, until lines are written again."""
        self.dropped += count
        if self.trouble is None:
            log.error("the log of timed jobs cannot be written: %s", why)
        self.trouble = why

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _write_all(self, lines: list[tuple[str, bytes]]) -> list[str]:
        """Write lines, each with one write; why some could not be, for each of them."""
        failures: list[str] = []
        for day, line in lines:
            try:
                self._write_line(self._open(day), line)
            except (OSError, paths.PathError) as exc:
                failures.append(str(exc))
        return failures

    def _write_line(self, descriptor: int, line: bytes) -> None:
        """A line that was cut short by a full disk is ended first, so that it harms no other."""
        if self._torn:
            os.write(descriptor, b"\n")
            self._torn = False
        if os.write(descriptor, line) < len(line):
            self._torn = True
            raise OSError("no room for all of a line")

    def _open(self, day: str) -> int:
        """The file of a day, its folder made if need be. One that was removed or moved away is begun anew."""
        place = file_of(self.folder, day)
        if self._file is not None:
            if self._file[0] == day and os.fstat(self._file[1]).st_nlink:
                return self._file[1]
            os.close(self._file[1])
            self._file = None
        paths.make_private_dir(self.folder)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(place, flags, 0o600)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise OSError(f"{place} is not a regular file")
        self._file = day, descriptor
        size = found.st_size
        self._torn = bool(size) and os.pread(descriptor, 1, size - 1) != b"\n"
        self._forget_old(day)
        return descriptor

    def _forget_old(self, today: str) -> None:
        if not self._keep_ms:
            return
        oldest = datetime.fromisoformat(today).replace(tzinfo=UTC) - timedelta(milliseconds=self._keep_ms + _DAY_MS)
        for day in days(self.folder):
            if day < oldest.strftime("%Y-%m-%d"):
                with suppress(OSError):
                    os.unlink(file_of(self.folder, day))
