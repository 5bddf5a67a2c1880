"""Keep what a job writes: pipes in, one file `output` and its `index` out, within a size limit, whatever the disk does.

Both files are made at the first byte. Bytes over the limit, and bytes a full disk does not take, are counted as dropped
and leave a hole, so that offsets into `output` mean the same for ever. Standard library only: the shim loads this.
"""

from __future__ import annotations

import fcntl
import os
import time

from jobbroker.core.index import DROPPED, ENTRY, STDERR, STDOUT, encode

CHUNK = 64 * 1024
WIDE_CHUNK = 1024 * 1024
"""What is read at once, and what a pipe under heavy flow is widened to. Not before: a user may own 64 MiB of pipe
buffers, after which new pipes shrink to two pages (pipe(7))."""
WIDEN_AFTER = 8
"""Full reads in a row that make a flow heavy."""
STAMP_US = 50_000
"""A new index entry at least this often while output comes, so that times are known to 50 ms."""
_FIONREAD = 0x541B


class Pipe:
    """The reading end of one of a job's streams."""

    __slots__ = ("_full_reads", "chunk", "descriptor", "inode", "kind")

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.chunk = CHUNK
        self.descriptor = -1
        self.inode = 0
        self._full_reads = 0

    def open(self) -> int:
        """Make the pipe; return the writing end, for the job."""
        self.descriptor, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.descriptor, False)
        self.inode = os.fstat(self.descriptor).st_ino
        return theirs

    def read(self) -> bytes | None:
        """What is there now; empty at the end of the stream, None if there is nothing."""
        try:
            data = os.read(self.descriptor, self.chunk)
        except BlockingIOError:
            return None
        if len(data) < self.chunk:
            self._full_reads = 0
        elif self.chunk == CHUNK:
            self._full_reads += 1
            if self._full_reads == WIDEN_AFTER:
                self._widen()
        return data

    def pending(self) -> int:
        """Bytes in the pipe right now."""
        return int.from_bytes(fcntl.ioctl(self.descriptor, _FIONREAD, bytes(4)), "little")

    def close(self) -> None:
        """Close our end; what still writes gets SIGPIPE."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _widen(self) -> None:
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_SETPIPE_SZ, WIDE_CHUNK)
        except PermissionError:  # the user's share of pipe memory is spent: stay narrow
            return
        self.chunk = WIDE_CHUNK


class Hole:
    """Bytes not kept at the end of `output`: where they begin, how many of each stream, and their place in the index.

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
        "_directory", "_entries", "_hole", "_index", "_kept", "_kind", "_limit", "_offset", "_output", "_stamp",
        "_unmarked", "dropped", "size",
    )  # fmt: skip

    def __init__(self, directory: int, limit: int) -> None:
        """Capture into the job's directory, given as a descriptor; a limit of 0 is none."""
        self._directory = directory
        self._limit = limit
        self._output = self._index = -1
        self._offset = 0  # logical end of `output`: kept and dropped bytes
        self._kept = 0
        self._entries = 0  # in `index`
        self._kind = 0  # the stream of the last entry, 0 after a hole
        self._stamp = 0  # the time of the last entry
        self._hole: Hole | None = None  # at the end of `output`, if it ends in one
        self._unmarked = False  # the hole has grown, and the files do not tell of it yet
        self.size = {STDOUT: 0, STDERR: 0}
        self.dropped = {STDOUT: 0, STDERR: 0}

    def store(self, kind: int, data: bytes) -> None:
        """Keep these bytes of that stream, or count them."""
        now = time.time_ns() // 1000
        self.size[kind] += len(data)
        room = max(0, self._limit - self._kept) if self._limit else len(data)
        kept = self._keep(kind, data[:room], now) if room else 0
        if kept < len(data):
            self._drop(kind, len(data) - kept, now)

    def close(self) -> None:
        """Write down what was only counted so far, and close the files."""
        self._mark_hole(time.time_ns() // 1000)
        for descriptor in (self._output, self._index):
            if descriptor >= 0:
                os.close(descriptor)
        self._output = self._index = -1

    def _keep(self, kind: int, data: bytes, now: int) -> int:
        """Append to `output`; return how many bytes the disk took."""
        try:
            if self._output < 0:
                self._create()
            self._mark_hole(now)
            if self._unmarked:
                return 0
            if kind != self._kind or now - self._stamp >= STAMP_US:
                self._add_entry(kind, now)
            written = os.pwrite(self._output, data, self._offset)
        except OSError:  # a full disk, a quota, an I/O error: count, and go on draining
            return 0
        self._offset += written
        self._kept += written
        if written < len(data):
            return written + self._keep(kind, data[written:], now)
        return written

    def _create(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        if self._index < 0:
            self._index = os.open("index", flags, 0o600, dir_fd=self._directory)
        self._output = os.open("output", flags, 0o600, dir_fd=self._directory)

    def _add_entry(self, kind: int, now: int) -> None:
        os.pwrite(self._index, encode(self._offset, now, kind), self._entries * ENTRY)
        self._entries += 1
        self._kind = kind
        self._stamp = now
        self._hole = None

    def _drop(self, kind: int, count: int, now: int) -> None:
        """Count bytes that are not kept."""
        fresh = self._hole is None
        if self._hole is None:
            self._hole = Hole(self._offset, self._entries)
        self._hole.counts[kind] += count
        self._offset += count
        self.dropped[kind] += count
        self._unmarked = True
        if fresh or now - self._stamp >= STAMP_US:
            self._mark_hole(now)

    def _mark_hole(self, now: int) -> None:
        """Let the index and the size of `output` tell of the hole, if they do not yet and the disk takes it."""
        if self._hole is None or not self._unmarked:
            return
        try:
            os.pwrite(self._index, self._hole.encode(now), self._hole.entry * ENTRY)
            os.ftruncate(self._output, self._offset)
        except OSError:  # tried again with the next bytes, and at the end
            return
        self._entries = self._hole.entry + 2
        self._kind = 0
        self._stamp = now
        self._unmarked = False
