"""Wait for a line that matches, in what a job wrote and what it writes: looked for slice by slice, in a thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

import trio

from jobbroker.core.blocks import Block, Blocks
from jobbroker.core.job import Snapshot
from jobbroker.following import Following
from jobbroker.output import OutputReader, as_text
from jobbroker.pattern import Pattern
from jobclient.protocol import wire

SLICE = 64 * 1024
"""Bytes examined before everybody else gets a turn."""
AT_ONCE = 4
"""Slices that are examined at the same time, whoever wants it."""

Opened: TypeAlias = Callable[[wire.Job], AbstractContextManager[OutputReader]]


class Searching:
    """Looks for lines, for any number of clients."""

    def __init__(self, opened: Opened, following: Following) -> None:
        """Read what `opened` opens; it may raise what it likes, the request that asked for it is answered with that."""
        self._opened = opened
        self._following = following
        self._threads = trio.CapacityLimiter(AT_ONCE)

    async def compile(self, text: str) -> Pattern:
        """Compile a pattern.

        Raises:
            BadPattern: it is none.
        """
        return await trio.to_thread.run_sync(Pattern, text, limiter=self._threads, abandon_on_cancel=True)

    def search(self, snapshot: Snapshot, pattern: Pattern, stream: wire.StreamName, start: int) -> Search:
        """A search in one stream, or in both, from an offset on."""
        return Search(self._opened, self._following, self._threads, snapshot.job, pattern, stream, start)


class Search:
    """One search.

    Attributes:
        job: in what it wrote.
        match: the first line that matches, once it was found.
    """

    def __init__(
        self,
        opened: Opened,
        following: Following,
        threads: trio.CapacityLimiter,
        job: wire.Job,
        pattern: Pattern,
        stream: wire.StreamName,
        start: int,
    ) -> None:
        """Use `Searching.search`."""
        self.job = job
        self.match: wire.OutputMatch | None = None
        self._opened = opened
        self._following = following
        self._threads = threads
        self._pattern = pattern
        both: tuple[wire.OneStream, ...] = ("stdout", "stderr")
        streams = both if stream == "all" else (stream,)
        self._blocks = {each: Blocks() for each in streams}
        self._places: dict[wire.OneStream, int] = dict.fromkeys(streams, start)

    async def to_the_end(self) -> None:
        """Go on until there is a match, or the job has ended without."""
        with self._following.growth(self.job.id, 0) as growth:
            while self.job.status in wire.LIVE:
                await self.go_on(over=False)
                if self.match is not None:
                    return
                if self.job.status in wire.LIVE:  # else it has ended meanwhile, and nobody tells of that twice
                    await growth.more()
        await self.go_on(over=True)

    async def go_on(self, *, over: bool) -> None:
        """Examine all there is by now; `over`: nothing comes after that, so the last line has ended."""
        left = set(self._places)
        while left and self.match is None:
            matches: list[wire.OutputMatch] = []
            for stream in sorted(left):
                block, at_end = self._next(stream, over=over)
                if block.data:
                    matches += await self._examine(stream, block)
                if at_end:
                    left.discard(stream)
            self.match = min(matches, key=lambda match: int(match.start), default=None)

    def _next(self, stream: wire.OneStream, *, over: bool) -> tuple[Block, bool]:
        with self._opened(self.job) as reader:
            piece = reader.read(stream, self._places[stream], SLICE)
            at_end = piece.next >= reader.size
        self._places[stream] = piece.next
        gap = piece.dropped > 0
        return self._blocks[stream].feed(piece.data, piece.start, gap=gap, over=over and at_end), at_end

    async def _examine(self, stream: wire.OneStream, block: Block) -> list[wire.OutputMatch]:
        span = await trio.to_thread.run_sync(
            self._pattern.line_of, block.data, limiter=self._threads, abandon_on_cancel=True
        )
        if span is None:
            return []
        begin, end = span
        line, encoding, _ = as_text(block.data[begin:end])
        with self._opened(self.job) as reader:
            first = reader.offset(stream, *block.place(begin))
            last = reader.offset(stream, *block.place(min(end, len(block.data) - 1)))
        return [wire.OutputMatch(stream=stream, line=line, encoding=encoding, start=str(first), next=str(last + 1))]
