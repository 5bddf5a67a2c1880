"""Read the log of timed jobs: its last lines, or those from a place on. Runs in a thread; a place is `DAY:OFFSET`.

Lines that cannot be read are skipped: somebody may have written into a file by hand.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import Struct

from jobbroker.ticklog import days, file_of

BLOCK = 256 * 1024
MOST = 64 * 1024 * 1024
"""Bytes looked through for one answer."""
ROOM = 4 * 1024 * 1024
"""Bytes of lines in one answer."""
LONGEST = 1024 * 1024
"""Bytes of a line that is looked at in one piece; no line of ours is as long."""

Entry = dict[str, object]
_decoder = msgspec.json.Decoder(Entry)


class _Always(Struct):
    """What a line of ours has, whatever else it has."""

    batch_id: str
    duration_ms: int | None
    error: str | None
    result: str | None
    runner: str
    schedule: str | None
    stage: str
    ts: str


class Place(NamedTuple):
    """A place between two lines."""

    day: str
    offset: int

    def __str__(self) -> str:
        return f"{self.day}:{self.offset}"


class Wanted(NamedTuple):
    """Which lines: of one schedule, or all; not before a time."""

    schedule: str | None = None
    since: str = ""

    def has(self, entry: Entry) -> bool:
        """Whether a line is one of them."""
        if self.schedule is not None and entry.get("schedule") != self.schedule:
            return False
        return str(entry.get("ts", "")) >= self.since


class Found(NamedTuple):
    """Lines, and where to go on."""

    entries: list[Entry]
    next: Place


def place_of(cursor: str) -> Place | None:
    """The place a cursor names; None if it is none."""
    day, colon, offset = cursor.partition(":")
    shape = len(day) == 10 and day[4] == day[7] == "-" and day.replace("-", "").isdecimal() and day.isascii()
    if not (colon and shape and offset.isascii() and offset.isdecimal() and len(offset) <= 15):
        return None
    return Place(day, int(offset))


def end(folder: str, today: str) -> Place:
    """Behind the last line there is."""
    there = days(folder)
    return Place(there[-1], _size(file_of(folder, there[-1]))) if there else Place(today, 0)


def onwards(folder: str, start: Place, wanted: Wanted, limit: int) -> Found:
    """The first lines from a place on."""
    entries: list[Entry] = []
    place, seen, room = start, 0, ROOM
    for day in [each for each in days(folder) if each >= start.day]:
        place = start if day == start.day else Place(day, 0)
        for line in _lines(file_of(folder, day), place.offset):
            if len(entries) >= limit or seen > MOST or (room < 0 and entries):
                return Found(entries, place)
            seen += len(line)
            place = Place(day, place.offset + len(line))
            entry = _read(line)
            if entry is not None and wanted.has(entry):
                entries.append(entry)
                room -= len(line)
    return Found(entries, place)


def last(folder: str, today: str, wanted: Wanted, limit: int) -> Found:
    """The last lines."""
    place = end(folder, today)
    entries: list[Entry] = []
    seen, room = 0, ROOM
    for day in reversed(days(folder)):
        for line in _backwards(file_of(folder, day), place.offset if day == place.day else None):
            seen += len(line)
            if len(entries) >= limit or seen > MOST or room < 0:
                return Found(entries[::-1], place)
            entry = _read(line)
            if entry is not None and wanted.has(entry):
                entries.append(entry)
                room -= len(line)
    return Found(entries[::-1], place)


def _read(line: bytes) -> Entry | None:
    try:
        entry = _decoder.decode(line)
        msgspec.convert(entry, _Always)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return entry


def _size(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return 0


def _open(path: str) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def _lines(path: str, start: int) -> Iterator[bytes]:
    """Whole lines from an offset on, each with its end; of one that is far too long, its pieces."""
    descriptor = _open(path)
    if descriptor is None:
        return
    try:
        rest = b""
        while block := os.pread(descriptor, BLOCK, start):
            start += len(block)
            *whole, rest = (rest + block).split(b"\n")
            yield from (line + b"\n" for line in whole)
            if len(rest) > LONGEST:
                yield rest
                rest = b""
    finally:
        os.close(descriptor)


def _backwards(path: str, at: int | None) -> Iterator[bytes]:
    """Lines before an offset, or the end, the last one first; one with no end is none yet, one too long is pieces."""
    descriptor = _open(path)
    if descriptor is None:
        return
    try:
        at = os.fstat(descriptor).st_size if at is None else at
        rest, first = b"", True
        while at > 0:
            begin = max(0, at - BLOCK)
            parts = (os.pread(descriptor, at - begin, begin) + rest).split(b"\n")
            at = begin
            if first:
                parts.pop()
                first = False
            rest = parts.pop(0) if at and parts else b""
            yield from (part + b"\n" for part in reversed(parts))
            if len(rest) > LONGEST:
                yield rest
                rest = b""
    finally:
        os.close(descriptor)
