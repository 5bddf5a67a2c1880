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
    """Whole entries as (start, microseconds, kind); a torn last one is left out, and so are those given up (all zero).

    Whoever reads `output` by an index reads the index again afterwards: what was dropped meanwhile read as zeros.
    """
    entries: list[tuple[int, int, int]] = []
    for at in range(0, len(data) - ENTRY + 1, ENTRY):
        start = int.from_bytes(data[at : at + 8], "little")
        stamp = int.from_bytes(data[at + 8 : at + ENTRY], "little")
        if stamp:
            entries.append((start, stamp >> 8, stamp & 0xFF))
    return entries


def give_up(entries: list[tuple[int, int, int]], count: int) -> tuple[int, int, dict[int, int]]:
    """What to give up of the oldest output, so that `count` kept bytes are freed, or all there are.

    Args:
        entries: the oldest ones, and one more whose start is the end of the last.
        count: bytes, at least one.

    Returns:
        How many entries go as a whole, where what stays begins, and how many bytes go by kind.
    """
    lost: dict[int, int] = dict.fromkeys((STDOUT, STDERR, STDOUT | DROPPED, STDERR | DROPPED), 0)
    for taken, (start, _, kind) in enumerate(entries[:-1]):
        length = entries[taken + 1][0] - start
        left = count - lost[STDOUT] - lost[STDERR]
        if not kind & DROPPED and length > left:
            lost[kind] += left
            return taken, start + left, lost
        lost[kind] += length
    return len(entries) - 1, entries[-1][0], lost
