"""The index beside a job's output: which stream wrote which bytes, and when. Pure, imports nothing: the shim loads it.

Entries of 16 bytes, little endian: where the range starts in `output`, then microseconds since the epoch shifted left
by a byte that says what the range is. A range ends where the next begins, the last one where the file does. What
was not kept is a range too, without bytes behind it, so that offsets stay valid for ever.
"""

from __future__ import annotations

ENTRY = 16
STDOUT, STDERR, DROPPED = 1, 2, 4
"""What a range is: a stream, and whether its bytes were dropped."""


def encode(start: int, time_us: int, kind: int) -> bytes:
    """One entry."""
    return start.to_bytes(8, "little") + (time_us << 8 | kind).to_bytes(8, "little")


def decode(data: bytes) -> list[tuple[int, int, int]]:
    """Whole entries as (start, microseconds, kind); a torn last one is left out."""
    entries: list[tuple[int, int, int]] = []
    for at in range(0, len(data) - ENTRY + 1, ENTRY):
        start = int.from_bytes(data[at : at + 8], "little")
        stamp = int.from_bytes(data[at + 8 : at + ENTRY], "little")
        entries.append((start, stamp >> 8, stamp & 0xFF))
    return entries
