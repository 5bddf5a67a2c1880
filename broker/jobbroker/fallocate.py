"""fallocate(2), which Python lacks: set room aside in a file, or give a range of it back. Standard library only.

The fork server loads this, and ctypes with it, before it forks: that is shared by all shims.
"""

from __future__ import annotations

import ctypes
import os

_KEEP_SIZE, _PUNCH_HOLE = 1, 2

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def set_aside(descriptor: int, start: int, length: int) -> None:
    """Allocate a range without growing the file: writing there works on a full disk.

    Raises:
        OSError: the disk is full, or (EOPNOTSUPP) its file system cannot do that.
    """
    _call(descriptor, _KEEP_SIZE, start, length)


def punch(descriptor: int, start: int, length: int) -> None:
    """Give a range back to the disk: it reads as zeros from now on, and every offset stays what it was.

    Raises:
        OSError: EOPNOTSUPP, where the file system cannot do that.
    """
    _call(descriptor, _KEEP_SIZE | _PUNCH_HOLE, start, length)


def _call(descriptor: int, mode: int, start: int, length: int) -> None:
    if _fallocate(descriptor, mode, start, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
