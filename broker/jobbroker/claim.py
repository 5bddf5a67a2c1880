"""The claim on a record: an exclusive lock that lives and dies with the open file it was taken through.

Open file description locks, because a lock that the kernel frees with its holder is the only proof of life that cannot
lie (`moby#43491`: a killed shim left its container "running" for ever). Standard library only: the shim loads this.
"""

from __future__ import annotations

import fcntl
import sys


def _flock(kind: int) -> bytes:
    """`struct flock` of 64-bit Linux over the whole file: type, whence, start, length, and the pid, which must be 0."""
    return kind.to_bytes(2, sys.byteorder) + bytes(30)


_WRITE = _flock(fcntl.F_WRLCK)
_FREE = fcntl.F_UNLCK


def take(descriptor: int) -> bool:
    """Claim the file through a descriptor its owner opened itself; False if somebody else holds the claim."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _WRITE)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_held(descriptor: int) -> bool:
    """Whether somebody else holds the claim; asks without ever taking it."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _WRITE)
    return int.from_bytes(answer[:2], sys.byteorder) != _FREE
