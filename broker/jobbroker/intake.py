"""Open what a job is to read from. Standard library only: the shim loads this."""

from __future__ import annotations

import errno
import os
import stat

from jobbroker.spawn import SpawnFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobbroker.core.record import Head

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY


def open_intake(head: Head, directory: int) -> int | None:
    """A descriptor to read from, for the job; None if it is to read nothing, or from a pipe.

    Raises:
        SpawnFailed: there is no such file, it may not be read, or it is neither a file nor a device.
    """
    kind = head.more.get(b"stdin")
    try:
        if kind == b"data":
            return os.open("input", _FLAGS | os.O_NOFOLLOW, dir_fd=directory)
        if kind == b"file":
            return _open_plain(head.more[b"stdinFile"])
    except OSError as exc:
        raise SpawnFailed(b"stdin", exc.errno or 0) from exc
    return None


def _open_plain(path: bytes) -> int:
    """Without waiting: a named pipe that nobody writes to would hold the shim up for ever."""
    descriptor = os.open(path, _FLAGS | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        os.close(descriptor)
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.ESPIPE, "not a file")
    os.set_blocking(descriptor, True)
    return descriptor
