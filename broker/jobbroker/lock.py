"""The lock that makes a broker the only one of its instance. Standard library only: taken before anything heavy loads.

The lock on the file is the truth about "is a broker running"; what stands in the file is only where to find it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time

PAUSE_SECONDS, TRIES = 0.01, 10


class LockHeld(Exception):
    """Another broker of this instance is running; the text names it as far as its file does."""


class InstanceLock:
    """The lock, held until the process ends: a lock file that is removed or closed early would let a second one in."""

    def __init__(self, path: str) -> None:
        """Take the lock.

        Raises:
            LockHeld: somebody has it.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not self._take():
            holder = os.pread(self._descriptor, 4096, 0).decode("utf-8", "replace").strip()
            os.close(self._descriptor)
            raise LockHeld(holder or "a broker that is just starting")
        # What an earlier broker said is blotted out, not cut off: its room is needed if the disk is full now.
        os.pwrite(self._descriptor, b" " * os.fstat(self._descriptor).st_size, 0)

    def _take(self) -> bool:
        """Try for a moment: a client that asks whether a broker runs holds the lock, shared, for an instant."""
        for patience in (*[PAUSE_SECONDS] * TRIES, 0.0):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(patience)
            else:
                return True
        return False

    def tell(self, *, pid: int, socket: str, version: str) -> None:
        """Write where the holder is found, once it listens."""
        text = json.dumps({"pid": pid, "socket": socket, "version": version}).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))
