"""The record of a job, from the side of the shim that runs it: claim it, write its lines, free it.

Standard library only: the shim loads this.
"""

from __future__ import annotations

import os
import time

from jobbroker import claim
from jobbroker.core import record

RETRY_MS = 200
"""Between attempts to write a line that the disk does not take."""


class Journal:
    """An open record; only the holder of its claim may write.

    Attributes:
        claimed: the claim is ours.
        ended: the last line there will be is written.
    """

    __slots__ = ("_begin", "_descriptor", "_end", "_stopped", "claimed", "ended")

    def __init__(self, directory: int) -> None:
        """Open the record in the job's directory; through a descriptor of our own, or the claim would be shared.

        Raises:
            OSError: there is none.
        """
        self._descriptor = os.open("record", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
        self._begin = self._end = 0
        self._stopped = False  # the last T has no C yet
        self.claimed = self.ended = False

    def claim(self) -> record.Head | None:
        """Make the job ours; None if somebody else has it, had it, or decided that it shall not run.

        Raises:
            DamagedRecord: it is no record.
        """
        if not claim.take(self._descriptor):
            return None
        data = _read_all(self._descriptor)
        head, lines = record.decode(data)
        if lines:
            return None
        self.claimed = True
        # What follows the head now is a line cut short, which is no line: it is written over.
        self._begin = self._end = data.rfind(b"\0") + 1
        return head

    def write(self, letter: bytes, *fields: int | bytes) -> bytes:
        """Write a line; try until it is written, whatever the disk says: the room for it was set aside."""
        line = record.encode_line(letter, *fields)
        while not self._try(line):
            time.sleep(RETRY_MS / 1000)
        self._end += len(line)
        self.ended = letter in b"XF"
        return line

    def takes_stop(self, *, stopped: bool) -> bool:
        """Whether there is room to write of a stop; of a continuation there is whenever its stop was written."""
        if stopped:
            self._stopped = self._end - self._begin < record.ROOM_FOR_STOPS
            return self._stopped
        noted, self._stopped = self._stopped, False
        return noted

    def free(self) -> None:
        """Let go of the claim, which publishes what is written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _try(self, line: bytes) -> bool:
        try:
            return os.pwrite(self._descriptor, line, self._end) == len(line)
        except OSError:
            return False


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size  # final: the claim is ours
    data = os.pread(descriptor, size, 0)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), len(data))):
        data += more
    return data
