"""Whole lines out of a stream that is read piece by piece: what is to be examined now, and what has to wait."""

from __future__ import annotations

from typing import NamedTuple

MAX_LINE = 64 * 1024
"""Bytes of a line that are examined."""


class Place(NamedTuple):
    """A byte of a stream: so many bytes of it after the one at an offset of the file."""

    start: int
    after: int


class Block(NamedTuple):
    """Whole lines, and where in the stream their first bytes are: those left over from before, and the new ones."""

    data: bytes
    left_over: int
    first: Place
    new: int

    def place(self, at: int) -> Place:
        """Where a byte of the block is in the stream."""
        if at < self.left_over:
            return Place(self.first.start, self.first.after + at)
        return Place(self.new, at - self.left_over)


class Blocks:
    """One stream on its way to being examined."""

    def __init__(self) -> None:
        self._rest = b""  # of a line that has not ended
        self._first = Place(0, 0)  # of it
        self._skipping = False  # the rest of a line that was too long

    def feed(self, data: bytes, start: int, *, gap: bool, over: bool) -> Block:
        """Take in bytes that begin at an offset; what can be examined by now.

        Args:
            data: the next bytes of the stream.
            start: the offset of the first.
            gap: bytes before them are missing, so a line that had not ended has now.
            over: nothing comes after them, so that the last line has ended too.
        """
        if gap:
            self._rest, self._skipping = b"", False
        begin = 0
        if self._skipping:
            begin = data.find(b"\n") + 1
            if not begin:
                return Block(b"", 0, self._first, start)
            self._skipping = False
        if not self._rest:
            self._first = Place(start, begin)
        text = self._rest + data[begin:]
        block = Block(text, len(self._rest), self._first, start)
        if begin:  # what was skipped belongs to nobody: all that is there is new, and begins behind it
            block = Block(text, len(text), self._first, start)
        cut = len(text) if over else text.rfind(b"\n") + 1
        self._first = block.place(cut)
        self._rest = text[cut:]
        if len(self._rest) <= MAX_LINE:
            return block._replace(data=text[:cut])
        self._rest, self._skipping = b"", True
        return block._replace(data=text[: cut + MAX_LINE])
