"""How much a live job has written so far, kept so that a look costs what is new and not what there is.

A job that runs for days has an index of millions of entries, and every list of jobs asks.
"""

from __future__ import annotations

from jobbroker.core.index import DROPPED, STDERR, STDOUT
from jobbroker.core.ranges import Entry, ranges, total
from jobbroker.output import OutputReader
from jobclient.protocol.wire import Stream


class Totals:
    """Size and dropped bytes of both streams.

    What the index says before the first bytes that were dropped stays as it is, so it is counted once. What it says
    behind them changes, when old output makes room for new, and is counted anew.
    """

    __slots__ = ("_counted", "_last", "_size")

    def __init__(self) -> None:
        self._counted = 0  # entries
        self._last: Entry | None = None  # of those
        self._size = {STDOUT: 0, STDERR: 0}

    def look(self, output: OutputReader) -> tuple[Stream, Stream]:
        """Both streams as of now."""
        changing: list[Entry] = []
        for entry in output.entries(self._counted):
            if changing or entry[2] & DROPPED:
                changing.append(entry)
            else:
                self._count(entry)
        if self._last is not None:
            changing.insert(0, self._last)
        out, err = total(ranges(changing, output.size))
        return (
            Stream(self._size[STDOUT] + out.size, out.dropped),
            Stream(self._size[STDERR] + err.size, err.dropped),
        )

    def _count(self, entry: Entry) -> None:
        if self._last is not None:
            start, _, kind = self._last
            self._size[kind] += entry[0] - start
        self._last = entry
        self._counted += 1
