"""Keep what a job writes: one file `output` and its `index`, within a size limit, whatever the disk does.

Both files are made at the first byte. Under a limit the first tenth and the newest rest are kept. What is not kept, and
what a full disk does not take, is counted as dropped and leaves a hole, so that offsets into `output` mean the same for
ever. Of a job that wants nothing kept on a disk both are files in memory, made before it starts. Standard library only:
the shim loads this.
"""

from __future__ import annotations

import errno
import os
import time

from jobbroker import fallocate
from jobbroker.core import index
from jobbroker.core.index import DROPPED, ENTRY, STAMP_US, STDERR, STDOUT, decode, encode, give_up

_NOEXEC_SEAL = 8  # of memfd_create(2), since Linux 6.3: some systems refuse files in memory without it
BLOCK = 4096
"""Index entries looked at in one go when old output makes room for new."""


def in_memory(name: str) -> int:
    """A file that is nowhere but in memory, and gone with the last process that has it open."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | _NOEXEC_SEAL)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, os.MFD_CLOEXEC)


class Hole:
    """Bytes that are not in `output`: where they begin, how many of each stream, and their place in the index.

    What was dropped has no order any more, so one hole needs one entry a stream, however long it grows.
    """

    __slots__ = ("counts", "entry", "start")

    def __init__(self, start: int, entry: int) -> None:
        self.start = start
        self.entry = entry
        self.counts = {STDOUT: 0, STDERR: 0}

    def encode(self, now: int) -> bytes:
        """Its two entries."""
        middle = self.start + self.counts[STDOUT]
        return encode(self.start, now, STDOUT | DROPPED) + encode(middle, now, STDERR | DROPPED)


class Capture:
    """The files behind a job's output.

    Attributes:
        size: bytes the job wrote, by stream.
        dropped: bytes of those that were not kept, by stream.
    """

    __slots__ = (
        "_budget", "_directory", "_entries", "_gap", "_head", "_hole", "_index", "_kept", "_kind", "_limit", "_offset",
        "_oldest", "_output", "_stamp", "_unmarked", "dropped", "size",
    )  # fmt: skip

    def __init__(self, directory: int, limit: int, files: tuple[int, int] = (-1, -1)) -> None:
        """Capture into the job's directory, given as a descriptor, or into open files; a limit of 0 is none."""
        self._directory = directory
        self._limit = limit
        self._budget = index.budget(limit)  # entries in the index
        self._head = limit // 10  # bytes at the beginning that are kept for good
        self._output, self._index = files
        self._offset = 0  # logical end of `output`: kept and dropped bytes
        self._kept = 0
        self._entries = 0  # in `index`
        self._kind = 0  # the stream of the last entry, 0 after a hole
        self._stamp = 0  # the time of the last entry
        self._hole: Hole | None = None  # at the end of `output`, if it ends in one
        self._unmarked = False  # that hole has grown, and the files do not tell of it yet
        self._gap: Hole | None = None  # between head and tail, where old output makes room for new
        self._oldest = 0  # the index entry of the oldest bytes behind the gap
        self.size = {STDOUT: 0, STDERR: 0}
        self.dropped = {STDOUT: 0, STDERR: 0}

    def store(self, kind: int, data: bytes, now: int = 0) -> None:
        """Keep these bytes of that stream, or count them; they came at `now`, in microseconds, which is 0 for now."""
        now = now or time.time_ns() // 1000
        self.size[kind] += len(data)
        if self._limit and self._entries > self._budget // 4:
            self._head = min(self._head, self._offset)  # of so many small parts less than a tenth is kept for good
        head = self._head - self._offset
        if 0 < head < len(data):
            self._append(kind, data[:head], now)
            data = data[head:]
            head = 0
        if self._limit and head <= 0:
            window = self._limit - self._head
            if len(data) > window:
                self._drop(kind, len(data) - window, now)
                data = data[-window:]
        self._append(kind, data, now)

    def close(self) -> None:
        """Write down what was only counted so far, and close the files."""
        self._mark_hole(time.time_ns() // 1000)
        for descriptor in (self._output, self._index):
            if descriptor >= 0:
                os.close(descriptor)
        self._output = self._index = -1

    def _append(self, kind: int, data: bytes, now: int) -> None:
        room = self._room(len(data), now) if self._limit and self._offset >= self._head else len(data)
        kept = self._keep(kind, data[:room], now) if room else 0
        if kept < len(data):
            self._drop(kind, len(data) - kept, now)

    def _keep(self, kind: int, data: bytes, now: int) -> int:
        """Append to `output`; return how many bytes the disk took."""
        done = 0
        try:
            if self._output < 0:
                self._open()
            if self._unmarked:
                self._mark_hole(now)
                if self._unmarked:
                    return 0
            if kind != self._kind or not 0 <= now - self._stamp < index.stamp_us(self._live(), self._budget):
                self._write_index(encode(self._offset, now, kind), self._entries)
                self._entries += 1
                self._kind = kind
                self._stamp = now
                self._hole = None
            while done < len(data):
                written = os.pwrite(self._output, data[done:], self._offset)
                self._offset += written
                self._kept += written
                done += written
        except OSError:  # a full disk, a quota, an I/O error: count, and go on draining
            pass
        return done

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        if self._index < 0:
            self._index = os.open("index", flags, 0o600, dir_fd=self._directory)
        if self._output < 0:
            self._output = os.open("output", flags, 0o600, dir_fd=self._directory)

    def _write_index(self, data: bytes, entry: int) -> None:
        if os.pwrite(self._index, data, entry * ENTRY) != len(data):
            raise OSError(errno.ENOSPC, "an index entry was cut short")

    def _overwrite_index(self, data: bytes, entry: int) -> None:
        """Write over entries, all or nothing: what was cut short is put back, half an entry would be a lie."""
        before = os.pread(self._index, len(data), entry * ENTRY)
        try:
            self._write_index(data, entry)
        except OSError:
            os.pwrite(self._index, before, entry * ENTRY)
            raise

    # --- holes at the end -------------------------------------------------------------------------------------------

    def _drop(self, kind: int, count: int, now: int) -> None:
        """Count bytes that are not kept."""
        fresh = self._hole is None
        if self._hole is None:
            self._hole = Hole(self._offset, self._entries)
        self._hole.counts[kind] += count
        self._offset += count
        self.dropped[kind] += count
        self._unmarked = True
        if fresh or not 0 <= now - self._stamp < STAMP_US:
            self._mark_hole(now)

    def _mark_hole(self, now: int) -> None:
        """Let the index and the size of `output` tell of the hole, if they do not yet and the disk takes it."""
        if self._hole is None or not self._unmarked:
            return
        try:
            self._write_index(self._hole.encode(now), self._hole.entry)
            os.ftruncate(self._output, self._offset)
        except OSError:  # tried again with the next bytes, and at the end
            return
        self._entries = self._hole.entry + 2
        self._kind = 0
        self._stamp = now
        self._unmarked = False

    # --- the limit --------------------------------------------------------------------------------------------------

    def _room(self, count: int, now: int) -> int:
        """How many of so many bytes may be kept, once the oldest behind the head have made room for them."""
        try:
            self._open_gap(now)
            surplus = self._live() - self._budget
            if surplus > 0:
                self._widen_gap(0, now, surplus + self._budget // 16)
            excess = self._kept + count - self._limit
            if excess > 0:
                excess += (self._limit - self._head) // 16  # so that not every byte moves the gap
            while excess > 0 and (freed := self._widen_gap(excess, now)):
                excess -= freed
        except OSError:  # nothing can be given up, for now or on this file system: what is there stays
            pass
        return min(count, max(0, self._limit - self._kept)) if self._live() <= self._budget else 0

    def _live(self) -> int:
        """How many entries of the index were not given up."""
        return self._entries - (self._oldest - self._gap.entry - 2 if self._gap is not None else 0)

    def _open_gap(self, now: int) -> None:
        """Between head and tail leave room in the index, for what will be dropped there."""
        if self._gap is not None:
            return
        self._open()
        fallocate.punch(self._output, self._offset, 1)  # nothing is there yet: it only tells whether it can be done
        self._mark_hole(now)
        if self._unmarked:
            return
        gap = Hole(self._offset, self._entries)
        self._write_index(gap.encode(now), gap.entry)
        self._gap = gap
        self._entries += 2
        self._oldest = self._entries
        self._kind = 0
        self._hole = None

    def _widen_gap(self, count: int, now: int, whole: int = 0) -> int:
        """Give up so many of the oldest bytes behind the gap, or what a block of entries tells of; return how many.

        At least so many entries go as a `whole`, as far as the block has them.

        The old entries go first, then the gap is told of, then the bytes go: whoever reads the index after the bytes
        it speaks of never takes a hole for output.
        """
        self._mark_hole(now)
        gap = self._gap
        if gap is None or self._unmarked:
            return 0
        known = self._entries - self._oldest
        entries = decode(os.pread(self._index, min(known, BLOCK + 1) * ENTRY, self._oldest * ENTRY))
        if known <= BLOCK:
            entries.append((self._offset, now, 0))
        taken, cut, lost = give_up(entries, count, whole)
        moved = encode(cut, *entries[taken][1:]) if taken + 1 < len(entries) else b""
        self._overwrite_index(bytes(taken * ENTRY) + moved, self._oldest)
        self._oldest += taken
        if self._oldest == self._entries:
            self._kind = 0  # the last entry went, too
            self._hole = None
        for kind in (STDOUT, STDERR):
            gap.counts[kind] += lost[kind] + lost[kind | DROPPED]
            self.dropped[kind] += lost[kind]
        freed = lost[STDOUT] + lost[STDERR]
        self._kept -= freed
        self._overwrite_index(gap.encode(now), gap.entry)
        fallocate.punch(self._output, gap.start, cut - gap.start)
        begin = gap.entry + 2
        if self._oldest > begin:
            fallocate.punch(self._index, begin * ENTRY, (self._oldest - begin) * ENTRY)
        return freed
