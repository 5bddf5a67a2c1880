"""Open a file in a directory for what it should be: a plain one. No link is followed, and no pipe waited for."""

from __future__ import annotations

import errno
import os
import stat


class NotPlain(OSError):
    """Something else stands in its place: a link, a directory, a pipe, a socket, a device."""


def open_plain(name: str, flags: int, directory: int) -> int:
    """A descriptor on a plain file; `directory` is a descriptor, and `name` has no slash in it.

    Opening a pipe waits for whoever opens the other end: for nobody, and with it the whole broker.

    Raises:
        NotPlain: it is none.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=directory)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _not_plain(name) from exc
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_plain(name)
    return descriptor


def allocated(name: str, directory: int) -> int:
    """Bytes of disk a plain file takes; 0 if there is none."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return status.st_blocks * 512 if stat.S_ISREG(status.st_mode) else 0


def _not_plain(name: str) -> NotPlain:
    return NotPlain(errno.ENXIO, "this is no plain file", name)
