"""A timer of the kernel's (timerfd(2), which Python lacks): no wake-up before its time, and none late for a sleep.

It goes by the clock that counts while the machine sleeps; what became due meanwhile is due at once afterwards.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time

import trio

_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_SECOND, _MILLISECOND = 1000, 1_000_000
_itimerspec = struct.Struct("@4l")  # interval: seconds, nanoseconds; value: seconds, nanoseconds
_libc = ctypes.CDLL(None, use_errno=True)


class Timer:
    """One timer; it can be set anew while somebody waits for it."""

    def __init__(self) -> None:
        self._descriptor: int = _libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    def set(self, at_ms: int | None) -> None:
        """Let it go off at that time (`clock.boot_ms`), at once if that has passed, never if there is none."""
        at = 0 if at_ms is None else max(at_ms, 1)
        value = _itimerspec.pack(0, 0, at // _SECOND, at % _SECOND * _MILLISECOND)
        if _libc.timerfd_settime(self._descriptor, _ABSOLUTE, value, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    async def wait(self) -> None:
        """Until it goes off."""
        while True:
            await trio.lowlevel.wait_readable(self._descriptor)
            try:
                os.read(self._descriptor, 8)
            except BlockingIOError:  # set anew meanwhile
                continue
            return

    def close(self) -> None:
        """Let go of it."""
        trio.lowlevel.notify_closing(self._descriptor)
        os.close(self._descriptor)
