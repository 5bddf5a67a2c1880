"""The reading end of one of a job's streams. Standard library only: the shim loads this."""

from __future__ import annotations

import fcntl
import os
import sys

CHUNK = 64 * 1024
WIDE_CHUNK = 256 * 1024
"""What is read at once, and what a pipe under heavy flow is widened to. Not before: a user may own 64 MiB of pipe
buffers, after which new pipes shrink to two pages (pipe(7))."""
WIDEN_AFTER = 8
"""Full reads in a row that make a flow heavy."""
_FIONREAD = 0x541B


class Pipe:
    """One of a job's streams, non-blocking for us and an ordinary pipe for the job."""

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
        return int.from_bytes(fcntl.ioctl(self.descriptor, _FIONREAD, bytes(4)), sys.byteorder)

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
