"""Batch ids: every tick has one of its own, whatever came of it, and each is greater than all before it."""

from __future__ import annotations

_PREFIX = "timed-jobs"


class Batches:
    """Gives them out.

    Attributes:
        floor_ms: what all so far say is not later than this.
    """

    def __init__(self, floor_ms: int = 0) -> None:
        """`floor_ms`: no id says an earlier time than this, whatever becomes of the time of day."""
        self.floor_ms = floor_ms
        self._last = 0

    def take(self, wall_ms: int) -> str:
        """The id of what happens now: `timed-jobs-EPOCHMS-SEQ`."""
        self.floor_ms = max(self.floor_ms, wall_ms)
        self._last += 1
        return f"{_PREFIX}-{self.floor_ms}-{self._last}"


def time_of(batch: str) -> int:
    """The time an id says, in milliseconds; 0 for what is no batch id."""
    prefix, _, rest = batch.rpartition("-")[0].rpartition("-")
    return int(rest) if prefix == _PREFIX and rest.isascii() and rest.isdecimal() else 0
