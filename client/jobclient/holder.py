"""Who holds the lock of an instance: the broker that runs, wherever it listens, and how to ask it to leave for good."""

from __future__ import annotations

import fcntl
import os
import signal
import time

from jobclient import paths, rawjson

_LOOK_SECONDS = 0.02


class Holder:
    """The broker that holds the lock, as far as it has said who it is: pid 0 and no socket while it starts."""

    __slots__ = ("pid", "socket", "version")

    def __init__(self, pid: int = 0, socket: str = "", version: str = "") -> None:
        self.pid = pid
        self.socket = socket
        self.version = version


def find(instance: str) -> Holder | None:
    """The broker of that instance, or None if there is none.

    To ask, the lock is taken for an instant, shared. A daemon that wants it just then is told that it is held; so ask
    only while holding the lock of spawning, or when it does not matter.
    """
    try:
        descriptor = os.open(paths.lock_path(instance), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _parse(os.pread(descriptor, 4096, 0))
    finally:
        os.close(descriptor)
    return None


def _parse(text: bytes) -> Holder:
    try:
        said = rawjson.decode(text)
        return Holder(int(said["pid"]), str(said["socket"]), str(said.get("version", "")))
    except (ValueError, TypeError, KeyError, AttributeError):
        return Holder()


def terminate(instance: str) -> bool:
    """Send SIGTERM to the broker that holds the lock, and surely to nobody else; False if none could be named."""
    holder = find(instance)
    if holder is None or holder.pid <= 0:
        return False
    try:
        descriptor = os.pidfd_open(holder.pid)
    except OSError:
        return False
    try:
        again = find(instance)  # still there, hence alive when the descriptor was opened: it is this very process
        if again is None or again.pid != holder.pid:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def named(instance: str, deadline: float) -> Holder | None:
    """The broker, once it has said who it is, if it does so before the deadline; None if there is none."""
    while (found := find(instance)) is not None and not found.pid and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return found


def await_gone(instance: str, pid: int, deadline: float) -> bool:
    """Wait until that broker holds the lock no more, whoever does then; False if it still does at the deadline."""
    while (found := find(instance)) is not None and found.pid == pid:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
