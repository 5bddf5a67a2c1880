"""Read what a job wrote: by cursor, or its last lines. Only reads; from the job's directory, through no link.

A cursor is an offset into `output`, the same for every stream, held by whoever reads.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice

from msgspec import Struct

from jobbroker.core.index import ENTRY, decode
from jobbroker.core.ranges import Entry, Range, ranges
from jobbroker.plainfile import open_plain
from jobclient.protocol.wire import Encoding, StreamName

BLOCK = 256 * ENTRY
"""How much of an index is read at once."""
NEAR = 16
"""Entries at the end that are looked at first: who follows a job reads what came last."""
MAX_TAIL = 16 * 1024 * 1024
"""How far back the last lines are searched for."""
MAX_MARKS = 4096
"""Ranges in a piece whose times are wanted: where each is a byte, their times would be more than a message may hold."""


class Piece(Struct, frozen=True):
    """Bytes of one stream from `start`; the reader goes on at `next`; `dropped` bytes before `start` were not kept.

    The last `run` bytes of the data lie side by side in the file and end at `end`; beyond it, up to `next`, there is
    nothing of this stream. `marks` has the ranges the data is made of: place in the data, microseconds, kind.
    """

    data: bytes
    start: int
    next: int
    dropped: int
    end: int
    run: int
    marks: list[tuple[int, int, int]] = []

    def after(self, taken: int) -> int:
        """Where the reader goes on if it takes only so many bytes: all but a few of the last `run`."""
        return self.next if taken == len(self.data) else self.end - (len(self.data) - taken)


class OutputReader:
    """The output of one job as it is now; more may come while it is read.

    Attributes:
        size: where it ends.
        is_gone: whether there is no file: it wrote nothing, or what it wrote was given up.
    """

    def __init__(self, output: int, index: int) -> None:
        self._output = output
        self._index = index
        self.is_gone = output < 0
        self.size = os.fstat(output).st_size if output >= 0 else 0
        # The index is written first: whatever part of `output` we see, its entry is there.
        self._entries = os.fstat(index).st_size // ENTRY if index >= 0 else 0

    def read(self, stream: StreamName, start: int, limit: int) -> Piece:
        """At most `limit` bytes of a stream, from `start` on, without a gap among them."""
        if start >= self.size:
            return Piece(b"", start, start, 0, start, 0, [])
        while True:
            piece = self._read(stream, start, limit)
            # Oldest bytes are given up first: if the first of these is still kept, none was a hole when it was read.
            if not piece.data or self._is_kept(piece.start):
                return piece

    def _is_kept(self, at: int) -> bool:
        return any(piece.start <= at < piece.end and not piece.dropped for piece in islice(self._ranges(at), 2))

    def _read(self, stream: StreamName, start: int, limit: int) -> Piece:
        data = bytearray()
        first = at = end = start
        dropped = run = 0
        marks: list[tuple[int, int, int]] = []
        for piece in self._ranges(start):
            begin = max(piece.start, start)
            if not piece.belongs_to(stream):
                at = piece.end
            elif piece.dropped:
                if data:
                    break
                dropped += piece.end - begin
                at = piece.end
            else:
                if not data:
                    first = begin
                marks.append((len(data), piece.time, piece.kind))
                want = min(piece.end - begin, limit - len(data))
                got = os.pread(self._output, want, begin)
                data += got
                run = run + len(got) if end == begin else len(got)
                at = end = begin + len(got)
                if len(data) >= limit or len(got) < want or len(marks) == MAX_MARKS:
                    break
        return Piece(bytes(data), first if data else at, at, dropped, end, run, marks)

    def amount(self, stream: StreamName, start: int, end: int) -> int:
        """How many bytes a stream has from `start` to `end`, those that were not kept among them."""
        found = 0
        for piece in self._ranges(start):
            if piece.start >= end:
                break
            if piece.belongs_to(stream):
                found += min(piece.end, end) - max(piece.start, start)
        return found

    def offset(self, stream: StreamName, start: int, after: int) -> int:
        """The offset of the byte of a stream that is so many of its bytes after the one at `start`."""
        for piece in self._ranges(start):
            if piece.belongs_to(stream):
                begin = max(piece.start, start)
                if after < piece.end - begin:
                    return begin + after
                after -= piece.end - begin
        return self.size

    def tail(self, stream: StreamName, lines: int) -> int:
        """Where the last `lines` lines of a stream begin; a last line without its newline counts."""
        if lines <= 0:
            return self.size
        left, looked, begin = lines + 1, 0, 0
        last = True
        for piece in self._backwards():
            if piece.dropped or not piece.belongs_to(stream):
                continue
            if looked >= MAX_TAIL:
                return begin
            end = piece.end
            while end > piece.start and looked < MAX_TAIL:
                begin = max(piece.start, end - 65536)
                block = os.pread(self._output, end - begin, begin)
                looked += len(block)
                if last and not block.endswith(b"\n"):
                    left -= 1
                last = False
                at = len(block)
                while left and (at := block.rfind(b"\n", 0, at)) >= 0:
                    left -= 1
                if not left:
                    return begin + at + 1
                end = begin
        return 0

    def last(self, stream: StreamName, limit: int) -> tuple[bytes, bool]:
        """The last `limit` kept bytes of a stream, and whether there was more before them."""
        data = b""
        for piece in self._backwards():
            if not piece.belongs_to(stream):
                continue
            if piece.dropped or len(data) >= limit:
                return data, True
            begin = max(piece.start, piece.end - (limit - len(data)))
            data = os.pread(self._output, piece.end - begin, begin) + data
            if begin > piece.start:
                return data, True
        return data, False

    def _ranges(self, start: int) -> Iterator[Range]:
        """The ranges from the one that holds `start` on."""
        return ranges(self.entries(self._find(start)), self.size)

    def _backwards(self) -> Iterator[Range]:
        """All ranges, the last one first; reads no more of the index than is asked for."""
        end = self.size
        for last in range(self._entries * ENTRY, 0, -BLOCK):
            first = max(0, last - BLOCK)
            for start, _, kind in reversed(decode(os.pread(self._index, last - first, first))):
                if start < end:
                    yield Range(start, end, kind)
                    end = start

    def _find(self, start: int) -> int:
        """The number of the last entry at or before an offset."""
        near = self._find_near(start)
        if near is not None:
            return near
        low, high = 0, self._entries
        while high - low > 1:
            middle = (low + high) // 2
            entry = self._first_valid(middle, high)
            if entry < high and self._entry(entry)[0] <= start:
                low = entry
            else:
                high = middle
        return low

    def _find_near(self, start: int) -> int | None:
        """The same, if it is one of the last few: by one look instead of one for each halving of the index."""
        first = max(0, self._entries - NEAR)
        data = os.pread(self._index, NEAR * ENTRY, first * ENTRY) if self._entries else b""
        for at in range(len(data) - ENTRY, -1, -ENTRY):
            if any(data[at + 8 : at + ENTRY]) and int.from_bytes(data[at : at + 8], "little") <= start:
                return first + at // ENTRY
        return None

    def _first_valid(self, low: int, high: int) -> int:
        """The first entry from `low` on that was not given up, `high` if there is none. Those lie side by side."""
        if self._entry(low)[1]:
            return low
        while high - low > 1:
            middle = (low + high) // 2
            if self._entry(middle)[1]:
                high = middle
            else:
                low = middle
        return high

    def _entry(self, number: int) -> tuple[int, int]:
        """Where an entry begins, and its stamp, 0 if it was given up."""
        data = os.pread(self._index, ENTRY, number * ENTRY)
        return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")

    @property
    def entries_there(self) -> int:
        """How many entries the index has, with those that were given up."""
        return self._entries

    def entry(self, number: int) -> Entry | None:
        """One of them, None if it was given up."""
        return next(iter(self.some_entries(number, 1)), None)

    def first_kept(self, number: int) -> int:
        """The first entry from `number` on that was not given up."""
        return self._first_valid(number, self._entries)

    def some_entries(self, first: int, count: int) -> list[Entry]:
        """Up to so many of them, without those that were given up."""
        return decode(os.pread(self._index, min(count, self._entries - first) * ENTRY, first * ENTRY))

    def entries(self, first: int) -> Iterator[Entry]:
        """What the index says from its entry `first` on."""
        end = self._entries * ENTRY
        at = first * ENTRY
        while at < end and (block := os.pread(self._index, min(BLOCK, end - at), at)):
            yield from decode(block)
            at += len(block)


@contextmanager
def opened_output(directory: int) -> Generator[OutputReader]:
    """The output of the job whose directory this is; a job that wrote nothing has an empty one.

    Raises:
        NotPlain: something else has taken the place of its files.
    """
    descriptors: list[int] = []
    try:
        for name in ("output", "index"):
            try:
                descriptors.append(open_plain(name, os.O_RDONLY, directory))
            except FileNotFoundError:
                descriptors.append(-1)
        yield OutputReader(*descriptors)
    finally:
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)


def as_text(data: bytes, spare: int = 0, *, binary: bool = False) -> tuple[str, Encoding, int]:
    """Bytes as they travel: text where they are text, base64 where not, and how many of them were taken.

    Of a character that is cut off at the end, up to `spare` bytes are left for the next piece. A NUL makes it base64:
    one editor's parser rejects a whole message for it (editors.md S12). `binary` data is base64 in any case.
    """
    if not binary and b"\0" not in data:
        try:
            return data.decode(), "utf-8", len(data)
        except UnicodeDecodeError as exc:
            cut = exc.start
            if cut > 0 and len(data) - cut <= min(spare, 3) and exc.reason == "unexpected end of data":
                return data[:cut].decode(), "utf-8", cut
    return base64.b64encode(data).decode(), "base64", len(data)
