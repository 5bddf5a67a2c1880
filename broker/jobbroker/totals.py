"""How much a live job has written so far, kept so that a look costs what is new and not what there is.

A job that runs for days has an index of many thousands of entries, and every list of jobs asks.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from jobbroker.core.index import DROPPED, STDERR, STDOUT
from jobbroker.core.ranges import Entry
from jobbroker.output import OutputReader
from jobclient.protocol.wire import Stream

BLOCK = 512
"""Entries that are counted together, once."""


class Block(Struct, frozen=True, gc=False):
    """Entries side by side, none of which tells of dropped bytes: what they tell of, but for the length of the last."""

    first: Entry
    last: Entry
    stdout: int
    stderr: int


class Totals:
    """Size and dropped bytes of both streams.

    Of an index only the end grows; and where old output makes room for new, the entries that tell of what was dropped
    change, and those behind them are given up one after the other. So full blocks without such entries are settled.
    They are counted once, and the first behind those that are not is looked at, whether it has changed by now.
    """

    __slots__ = ("_gone", "_settled")

    def __init__(self) -> None:
        self._settled: dict[int, Block] = {}
        self._gone = range(0)  # numbers of blocks that were given up as a whole

    def look(self, output: OutputReader) -> tuple[Stream, Stream]:
        """Both streams as of now."""
        tally = _Tally(output.size)
        for part in self._parts(output):
            if isinstance(part, Block):
                tally.add_block(part)
            else:
                for entry in part:
                    tally.add(entry)
        return tally.streams()

    def _parts(self, output: OutputReader) -> Iterator[Block | list[Entry]]:
        """Everything the index tells of, in order."""
        number, sure = 0, True
        while number * BLOCK < output.entries_there:
            if number in self._gone:
                number, sure = self._gone.stop, False
                continue
            block = self._settled.get(number)
            if block is not None and not sure and output.entry(number * BLOCK) != block.first:
                del self._settled[number]
                block = None
            sure = block is not None
            yield block or self._count(output, number)
            number += 1

    def _count(self, output: OutputReader, number: int) -> Block | list[Entry]:
        """Count a block, for good if it is one that stays as it is until it is given up."""
        entries = output.some_entries(number * BLOCK, BLOCK)
        if (number + 1) * BLOCK >= output.entries_there:
            return entries  # the last one may still grow
        if not entries:
            kept = output.first_kept(number * BLOCK) // BLOCK
            self._gone = range(self._gone.start if self._gone else number, max(kept, number + 1))
        if len(entries) < BLOCK or any(kind & DROPPED for _, _, kind in entries):
            return entries
        tally = _Tally(entries[-1][0])
        for entry in entries:
            tally.add(entry)
        sizes = tally.sizes
        block = self._settled[number] = Block(entries[0], entries[-1], sizes[STDOUT], sizes[STDERR])
        return block


class _Tally:
    """Adds up ranges, each of which ends where the next begins."""

    __slots__ = ("_end", "_last", "sizes")

    def __init__(self, end: int) -> None:
        self._end = end
        self._last: Entry | None = None
        self.sizes: dict[int, int] = dict.fromkeys((STDOUT, STDERR, STDOUT | DROPPED, STDERR | DROPPED), 0)

    def add(self, entry: Entry) -> None:
        self._close(entry[0])
        self._last = entry

    def add_block(self, block: Block) -> None:
        self._close(block.first[0])
        self.sizes[STDOUT] += block.stdout
        self.sizes[STDERR] += block.stderr
        self._last = block.last

    def _close(self, start: int) -> None:
        if self._last is not None:
            self.sizes[self._last[2]] += max(0, min(start, self._end) - self._last[0])

    def streams(self) -> tuple[Stream, Stream]:
        self._close(self._end)
        self._last = None
        dropped = self.sizes[STDOUT | DROPPED], self.sizes[STDERR | DROPPED]
        return Stream(self.sizes[STDOUT] + dropped[0], dropped[0]), Stream(self.sizes[STDERR] + dropped[1], dropped[1])
