"""The clocks. Standard library only: the shim loads this."""

from __future__ import annotations

import time


def mono_ms() -> int:
    """Monotonic milliseconds since boot, the clock of all limits; the same in every process of a boot."""
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    """Milliseconds since the epoch, for people."""
    return time.time_ns() // 1_000_000


def boot_ms() -> int:
    """Milliseconds since boot, those included in which the machine slept: the clock of schedules."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
