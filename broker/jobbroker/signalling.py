"""Send a signal to a job's process or its group, and to nobody else."""

from __future__ import annotations

import difflib
import errno
import os
import signal
from typing import TYPE_CHECKING

from jobbroker.identity import open_checked, send_signal
from jobclient.protocol.errors import InvalidParams, InvalidState, NotDelivered
from jobclient.protocol.wire import Target

if TYPE_CHECKING:
    from jobbroker.attendance import Attendance

MAX_DIGITS = 10
"""Longer numbers are no signals, and Python refuses to read the longest."""
_ENDING = frozenset((signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT))
_PROCESS_GROUP = 1 << 2  # PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9


def number_of(name: str | int) -> int:
    """The signal of a name, in any case and with or without SIG, or of a number.

    Raises:
        InvalidParams: there is none; a default would be somebody's surprise.
    """
    if isinstance(name, str) and name.isascii() and name.isdecimal() and len(name) < MAX_DIGITS:
        name = int(name)
    if isinstance(name, int):
        if name in signal.valid_signals():
            return name
        raise InvalidParams(f"there is no signal {name}")
    word = name.upper().removeprefix("SIG")
    base, plus, offset = word.partition("+")
    if plus and base == "RTMIN" and offset.isascii() and offset.isdecimal() and len(offset) < MAX_DIGITS:
        number = signal.SIGRTMIN + int(offset)  # as a job's end by one is told
        if number <= signal.SIGRTMAX:
            return number
    try:
        return signal.Signals["SIG" + word]
    except KeyError:
        raise InvalidParams(f"there is no signal {name[:40]!r}; {_candidates(word)}") from None


def _candidates(word: str) -> str:
    """The names that come near, if any does, else all."""
    names = [known.name.removeprefix("SIG") for known in signal.Signals]
    near = difflib.get_close_matches(word[:40], names, 3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known are numbers, {', '.join(names)} and RTMIN+1"


def ends(number: int) -> bool:
    """Whether the signal is one by which people end a process (R124)."""
    return number in _ENDING


def deliver(attendance: Attendance | None, number: int, target: Target) -> None:
    """Signal a job that runs.

    Raises:
        InvalidState: it has just ended.
        NotDelivered: the kernel does not allow it.
    """
    process = attendance.process if attendance is not None else None
    handle = open_checked(*process) if process is not None else None
    if process is None or handle is None:
        raise InvalidState("the job has just ended")
    try:
        if target == "leader":
            delivered = send_signal(handle, number)
        else:
            delivered = _signal_group(handle, process[0], number)
    except PermissionError:
        raise NotDelivered("the job belongs to another user by now and may not be signalled") from None
    finally:
        os.close(handle)
    if not delivered:
        raise InvalidState("the job has just ended")


def _signal_group(handle: int, pid: int, number: int) -> bool:
    """Through the leader's pidfd where the kernel can; else by its id, which its unreaped leader keeps from others.

    Whether there was anybody to get it.
    """
    try:
        try:
            signal.pidfd_send_signal(handle, number, None, _PROCESS_GROUP)
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            os.killpg(pid, number)
    except ProcessLookupError:
        return False
    return True
