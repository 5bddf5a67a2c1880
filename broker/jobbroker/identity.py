"""Which process is meant: a pid alone is not an answer, since pids come back; a pid with its start time is.

Standard library only: the shim loads this.
"""

from __future__ import annotations

import os

from jobbroker.signals import pidfd_send_signal


def boot_id() -> bytes:
    """The id of this boot of the machine; process ids of another boot mean nothing."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().strip()


def read_stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third (state) on, None if there is no such process.

    A command may hold blanks and brackets, so everything up to the last bracket is skipped.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (field 22, which no clock step moves); None if it is gone."""
    stat = read_stat(pid)
    return None if stat is None else int(stat[19])


def open_checked(pid: int, started: int) -> int | None:
    """A pidfd on the process of that pid and start time, None if that one is gone.

    The descriptor is opened before the check: what it refers to cannot change afterwards.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError):
        return None
    if start_time(pid) == started:
        return descriptor
    os.close(descriptor)
    return None


def send_signal(pidfd: int, signal: int) -> bool:
    """Signal exactly that process; False if it has ended."""
    try:
        pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    return True
