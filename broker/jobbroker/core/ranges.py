"""What a stretch of output consists of: the ranges the index speaks of, cut and chosen by stream. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from jobbroker.core.index import DROPPED, STDERR, STDOUT
from jobclient.protocol.wire import StreamName

_WANTED = {"all": STDOUT | STDERR, "stdout": STDOUT, "stderr": STDERR}

Entry = tuple[int, int, int]
"""Start, microseconds, kind: as `core/index.py` decodes it."""


class Range(Struct, frozen=True, gc=False):
    """Bytes `start` to `end` of `output`, all of one stream, all kept or all dropped, from some microsecond on."""

    start: int
    end: int
    kind: int
    time: int = 0

    @property
    def dropped(self) -> bool:
        """Whether the bytes were not kept."""
        return bool(self.kind & DROPPED)

    def belongs_to(self, stream: StreamName) -> bool:
        """Whether a reader of that stream cares."""
        return bool(self.kind & _WANTED[stream])


def ranges(entries: Iterable[Entry], size: int) -> Iterator[Range]:
    """The ranges of consecutive entries; `size` of the file ends the last one. Empty ones are left out."""
    before: Entry | None = None
    for entry in entries:
        if before is not None and before[0] < entry[0]:
            yield Range(before[0], min(entry[0], size), before[2], before[1])
        before = entry
    if before is not None and before[0] < size:
        yield Range(before[0], size, before[2], before[1])
