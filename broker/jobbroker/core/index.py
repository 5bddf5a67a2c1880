"""The index beside a job's output: which stream wrote which bytes, and when. Pure, imports nothing: the shim loads it.

Entries of 16 bytes, little endian: where the range starts in `output`, then microseconds since the epoch shifted left
by a byte that says what the range is. A range ends where the next begins, the last one where the file does. What
was not kept is a range too, without bytes behind it, so that offsets stay valid for ever.

The index has a budget, an eighth of the limit of the output. Times give way first: the more entries there are, the
rarer one is written for the time alone. Offsets and streams stay exact; what those need beyond it, old output pays.
"""

from __future__ import annotations

ENTRY = 16
STAMP_US = 50_000
"""A new entry at least this often while output comes, so that times are known to 50 ms; as long as there are few."""
SHARE = 8
"""The part of the limit that the index may have."""
LEAST_BUDGET, BUDGET_WITHOUT_LIMIT = 4096, 1 << 20
"""Entries."""
FINENESS = 16
"""Parts of the budget, at each of which times get half as fine."""
STDOUT, STDERR, DROPPED = 1, 2, 4
"""What a range is: a stream, and whether its bytes were dropped."""


def budget(limit: int) -> int:
    """How many entries the index of so much output may have; without a limit only times go by it."""
    return max(LEAST_BUDGET, limit // SHARE // ENTRY) if limit else BUDGET_WITHOUT_LIMIT


def stamp_us(entries: int, most: int) -> int:
    """Microseconds after which an entry is due for the time alone, if there are so many of the `most` there may be.

    50 ms for the first sixteenth, twice as much for each further one. So a job that writes without a pause has spent a
    quarter after 15 times as long as the first sixteenth took, a half after 255 times, and hardly ever all; and how
    much a time may be wrong is in proportion to the age of the job: with the default limit, a second in a day.
    """
    return STAMP_US << min(entries * FINENESS // most, 2 * FINENESS)


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


def give_up(entries: list[tuple[int, int, int]], count: int, whole: int = 0) -> tuple[int, int, dict[int, int]]:
    """What to give up of the oldest output, so that `count` kept bytes are freed, or all there are.

    Args:
        entries: the oldest ones, and one more whose start is the end of the last.
        count: bytes, at least one unless `whole` is.
        whole: so many of the entries go in any case.

    Returns:
        How many entries go as a whole, where what stays begins, and how many bytes go by kind.
    """
    lost: dict[int, int] = dict.fromkeys((STDOUT, STDERR, STDOUT | DROPPED, STDERR | DROPPED), 0)
    for taken, (start, _, kind) in enumerate(entries[:-1]):
        length = entries[taken + 1][0] - start
        left = max(0, count - lost[STDOUT] - lost[STDERR])
        if taken >= whole and not kind & DROPPED and length > left:
            lost[kind] += left
            return taken, start + left, lost
        lost[kind] += length
    return len(entries) - 1, entries[-1][0], lost
