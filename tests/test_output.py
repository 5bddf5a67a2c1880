"""Reading what a job wrote, while it writes: by cursor, backwards, and its totals, held against all that was given."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

from hypothesis import given, strategies as st

from jobbroker.capture import Capture
from jobbroker.core.index import DROPPED, STDERR, STDOUT, encode
from jobbroker.core.ranges import Entry, Range, ranges
from jobbroker.output import OutputReader, opened_output
from jobbroker.totals import BLOCK, Totals
from jobclient.protocol.wire import Stream, StreamName

if TYPE_CHECKING:
    from collections.abc import Generator

CHUNKS = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.text("ab\n", min_size=1, max_size=60).map(str.encode)), max_size=40
)
LIMITS = st.one_of(st.just(0), st.integers(1, 600))
STREAMS: tuple[tuple[StreamName, int], ...] = (("all", STDOUT | STDERR), ("stdout", STDOUT), ("stderr", STDERR))


@contextmanager
def directory() -> Generator[int]:
    path = tempfile.mkdtemp()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        shutil.rmtree(path)


@given(CHUNKS, LIMITS)
def test_totals_kept_are_the_totals_there_are(chunks: list[tuple[int, bytes]], limit: int) -> None:
    with directory() as place:
        capture, totals = Capture(place, limit), Totals()
        for kind, data in chunks:
            capture.store(kind, data)
            with opened_output(place) as output:
                seen = totals.look(output)
                assert seen == Totals().look(output)
        capture.close()
        with opened_output(place) as output:
            assert totals.look(output) == (
                Stream(capture.size[STDOUT], capture.dropped[STDOUT]),
                Stream(capture.size[STDERR], capture.dropped[STDERR]),
            )


def read(output: OutputReader, stream: StreamName, start: int, step: int) -> tuple[bytes, int]:
    """Everything of a stream from there on, and how much of it was dropped."""
    data, dropped, at = b"", 0, start
    while at < output.size:
        piece = output.read(stream, at, step)
        assert piece.next > at
        data, dropped, at = data + piece.data, dropped + piece.dropped, piece.next
    return data, dropped


@given(CHUNKS, LIMITS, st.integers(1, 100), st.integers(0, 12))
def test_by_cursor_and_from_the_end(chunks: list[tuple[int, bytes]], limit: int, step: int, lines: int) -> None:
    with directory() as place:
        capture = Capture(place, limit)
        for kind, data in chunks:
            capture.store(kind, data)
        capture.close()
        with opened_output(place) as output:
            for stream, wanted in STREAMS:
                given_ = b"".join(data for kind, data in chunks if kind & wanted)
                data, dropped = read(output, stream, 0, step)
                assert len(data) + dropped == len(given_)
                if not limit:
                    assert data == given_
                    tail, _ = read(output, stream, output.tail(stream, lines), step)
                    assert tail == b"".join(given_.splitlines(keepends=True)[-lines:] if lines else [])
                last, more = output.last(stream, 50)
                assert data.endswith(last)
                assert more or last == given_


def as_told(kinds: bytes, told: list[Range]) -> bytes:
    """The streams of all bytes, as the index tells them: what was dropped has lost its order, not its amount."""
    result = bytearray(kinds)
    for dropped, group in groupby(told, lambda each: each.dropped):
        hole = list(group)
        begin, end = hole[0].start, hole[-1].end
        said = b"".join(bytes([each.kind & ~DROPPED]) * (each.end - each.start) for each in hole)
        assert sorted(said) == sorted(kinds[begin:end]) if dropped else said == kinds[begin:end]
        result[begin:end] = said
    return bytes(result)


@given(CHUNKS, LIMITS, st.data())
def test_any_read_at_any_moment_is_the_truth(chunks: list[tuple[int, bytes]], limit: int, data: st.DataObject) -> None:
    with directory() as place:
        capture, truth, written = Capture(place, limit), b"", b""
        for kind, chunk in chunks:
            capture.store(kind, chunk)
            truth, written = truth + chunk, written + bytes([kind]) * len(chunk)
            with opened_output(place) as output:
                start = data.draw(st.integers(0, output.size))
                stream, wanted = data.draw(st.sampled_from(STREAMS))
                most = data.draw(st.integers(1, 100))
                piece = output.read(stream, start, most)
                kinds = as_told(written, list(ranges(output.entries(0), output.size)))
            assert start <= piece.start <= piece.next <= output.size <= len(truth)
            theirs = [at for at in range(start, piece.next) if kinds[at] & wanted]
            assert piece.data == bytes(truth[at] for at in theirs if at >= piece.start)
            assert len(piece.data) <= most
            assert piece.data or piece.next == output.size
            assert piece.dropped == sum(not piece.data or at < piece.start for at in theirs)
        capture.close()


def test_a_long_index_is_read_once() -> None:
    with directory() as place:
        count = 100_000
        for name, data in (
            ("index", b"".join(encode(n, 1 + n, STDOUT if n % 2 else STDERR) for n in range(count))),
            ("output", b"x" * count),
        ):
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=place)
            os.write(descriptor, data)
            os.close(descriptor)
        totals = Totals()
        with watched_output(place) as output:
            assert totals.look(output) == (Stream(count // 2), Stream(count // 2))
            assert output.read_entries >= count
            output.read_entries = 0
            assert totals.look(output) == (Stream(count // 2), Stream(count // 2))
            assert output.read_entries <= BLOCK, "the next look reads what may still grow"


def test_behind_what_was_dropped_only_what_is_new_is_read() -> None:
    with directory() as place:
        capture, totals = Capture(place, 1_000_000), Totals()
        seen = Stream(), Stream()
        for turn in range(200):
            for count in range(200):  # forty thousand ranges, of which half are given up in the end
                capture.store((STDOUT, STDERR)[count % 2], b"x" * 50, now=1 + turn * 60_000_000)
            with watched_output(place) as output:
                seen = totals.look(output)
                assert output.read_entries <= 6 * BLOCK
                assert seen == Totals().look(output)
        assert seen[0].dropped > 100_000
        capture.close()


class Watched(OutputReader):
    """Counts the entries that are read."""

    read_entries = 0

    def some_entries(self, first: int, count: int) -> list[Entry]:
        self.read_entries += count
        return super().some_entries(first, count)


@contextmanager
def watched_output(place: int) -> Generator[Watched]:
    descriptors = [os.open(name, os.O_RDONLY, dir_fd=place) for name in ("output", "index")]
    try:
        yield Watched(*descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_nothing_is_known_of_a_job_that_wrote_nothing() -> None:
    with directory() as place, opened_output(place) as output:
        assert Totals().look(output) == (Stream(), Stream())
        assert output.read("all", 0, 10).data == b""
        assert output.tail("all", 3) == 0
        assert output.last("all", 3) == (b"", False)
