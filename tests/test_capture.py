"""What a job writes, kept: on real directories, by sequences nobody would think of, and on disks that are full."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from jobbroker.capture import Capture
from jobbroker.core import index
from jobbroker.core.index import DROPPED, ENTRY, STAMP_US, STDERR, STDOUT, decode, give_up
from jobbroker.pipe import CHUNK, WIDE_CHUNK, WIDEN_AFTER, Pipe

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

KIND = st.sampled_from([STDOUT, STDERR])
CHUNKS = st.lists(st.tuples(KIND, st.binary(min_size=1, max_size=300)), max_size=25)
LIMITS = st.one_of(st.just(0), st.integers(1, 2000))


class Log:
    """A capture, and all that was ever given to it."""

    def __init__(self, directory: Path, limit: int = 0) -> None:
        self.directory = directory
        self._descriptor = os.open(directory, os.O_RDONLY)
        self.capture = Capture(self._descriptor, limit)
        self.given = bytearray()
        self.kinds = bytearray()

    def store(self, kind: int, data: bytes) -> None:
        self.capture.store(kind, data)
        self.given += data
        self.kinds += bytes([kind]) * len(data)

    def close(self) -> None:
        self.capture.close()
        os.close(self._descriptor)

    def output(self) -> bytes:
        return (self.directory / "output").read_bytes()

    def ranges(self) -> list[tuple[int, int, int]]:
        """Start, end and kind of everything that the index tells of."""
        entries = decode((self.directory / "index").read_bytes())
        ends = [*(entry[0] for entry in entries), (self.directory / "output").stat().st_size][1:]
        return [(start, end, kind) for (start, _, kind), end in zip(entries, ends, strict=True)]

    def check(self) -> int:
        """Everything that must be true of a closed capture with at least one kept byte; how many bytes are kept."""
        output, ranges = self.output(), self.ranges()
        assert len(output) == len(self.given)
        assert ranges[0][0] == 0
        assert all(start <= end for start, end, _ in ranges)
        dropped = {STDOUT: 0, STDERR: 0}
        kept = 0
        for start, end, kind in ranges:
            if kind & DROPPED:
                dropped[kind & ~DROPPED] += end - start
                assert not output[start:end].strip(b"\0")
            else:
                kept += end - start
                assert output[start:end] == self.given[start:end]
                assert set(self.kinds[start:end]) <= {kind}
        assert self.capture.dropped == dropped
        assert self.capture.size == {kind: self.kinds.count(kind) for kind in (STDOUT, STDERR)}
        return kept


@contextmanager
def logging(limit: int) -> Generator[Log]:
    directory = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    from pathlib import Path

    log = Log(Path(directory), limit)
    try:
        yield log
    finally:
        shutil.rmtree(directory)


@settings(max_examples=200, deadline=None)
@given(limit=LIMITS, chunks=CHUNKS)
def test_ranges_tile_the_output_and_nothing_is_lost_but_what_is_counted(
    limit: int, chunks: list[tuple[int, bytes]]
) -> None:
    with logging(limit) as log:
        for kind, data in chunks:
            log.store(kind, data)
        log.close()
        if not chunks:
            assert os.listdir(log.directory) == []
            return
        kept = log.check()
        total = len(log.given)
        if not limit or total <= limit:
            assert kept == total
            return
        head = limit // 10
        window = limit - head
        assert limit - window // 16 - 300 <= kept <= limit
        covered = [(start, end) for start, end, kind in log.ranges() if not kind & DROPPED and end > start]
        assert covered[-1][1] == total  # the end of a log is what people read
        assert head == 0 or covered[0][0] == 0


@given(
    lengths=st.lists(st.tuples(st.sampled_from([1, 2, 5, 6]), st.integers(0, 50)), min_size=1, max_size=20),
    count=st.integers(1, 400),
)
def test_what_is_given_up_is_the_oldest_and_exactly_enough(lengths: list[tuple[int, int]], count: int) -> None:
    entries: list[tuple[int, int, int]] = []
    at = 0
    for kind, length in lengths:
        entries.append((at, 7, kind))
        at += length
    taken, cut, lost = give_up([*entries, (at, 7, 0)], count)
    kept = sum(length for kind, length in lengths if not kind & DROPPED)
    assert lost[STDOUT] + lost[STDERR] == min(count, kept)
    assert sum(lost.values()) == cut
    assert taken == len(lengths) or entries[taken][0] <= cut <= entries[taken][0] + lengths[taken][1]


def test_the_files_are_made_at_the_first_byte(tmp_path: Path) -> None:
    log = Log(tmp_path)
    assert os.listdir(tmp_path) == []
    log.store(STDERR, b"x")
    assert sorted(os.listdir(tmp_path)) == ["index", "output"]
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o600 for name in ("index", "output"))
    log.close()
    assert log.check() == 1


def test_one_stream_in_a_burst_is_one_range(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for _ in range(5):
        log.store(STDOUT, b"abc")
    log.store(STDERR, b"d")
    log.close()
    assert len(log.ranges()) <= 3  # but for a pause of 50 ms somewhere
    log.check()


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    place = tmp_path / "job"
    place.mkdir()
    (place / "output").symlink_to(victim)
    log = Log(place)
    log.store(STDOUT, b"x" * 100)
    log.close()
    assert victim.read_text() == "precious"
    assert log.capture.dropped == {STDOUT: 100, STDERR: 0}


def test_what_is_dropped_is_given_back_to_the_disk(tmp_path: Path) -> None:
    log = Log(tmp_path, limit=1 << 20)
    block = os.urandom(8192)
    for turn in range(2000):  # 16 MB, a stream at a time: the index must not grow for ever either
        log.store((STDOUT, STDERR)[turn % 2], block)
    log.close()
    log.check()
    assert (tmp_path / "output").stat().st_size == 2000 * 8192
    assert (tmp_path / "output").stat().st_blocks * 512 <= (1 << 20) + 65536
    assert (tmp_path / "index").stat().st_blocks * 512 <= 16384
    assert (tmp_path / "index").stat().st_size > 2000 * ENTRY


def test_a_chunk_larger_than_the_limit(tmp_path: Path) -> None:
    log = Log(tmp_path, limit=100)
    data = bytes(range(256)) * 40
    log.store(STDOUT, data)
    log.store(STDERR, b"end")
    log.close()
    log.check()
    output = log.output()
    assert output[:10] == data[:10]
    assert output[-13:] == data[-10:] + b"end"


# --- the index of a job that writes for days --------------------------------------------------------------------------


def live_entries(log: Log) -> list[tuple[int, int, int]]:
    return decode((log.directory / "index").read_bytes())


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_times_give_way_to_what_must_be_told(limit: int, entries: int) -> None:
    most = index.budget(limit)
    assert not limit or most * ENTRY <= max(limit // 8, 65536)
    assert STAMP_US <= index.stamp_us(entries, most) <= index.stamp_us(entries + 1, most) < 1 << 48
    assert index.stamp_us(most // 16 - 1, most) == STAMP_US


def test_a_trickle_for_days_keeps_every_byte_and_a_small_index(tmp_path: Path) -> None:
    log = Log(tmp_path, 1_000_000)
    begun, step, count = 1_700_000_000_000_000, 1_000_000, 300_000  # a byte a second, for three days and a half
    for number in range(count):
        log.kinds += bytes([STDOUT])
        log.given += b"x"
        log.capture.store(STDOUT, b"x", begun + number * step)
    log.close()
    assert log.check() == count, "nothing was dropped"
    entries = live_entries(log)
    assert len(entries) < index.budget(1_000_000)
    ends = [*(start for start, _, _ in entries[1:]), count]
    for (start, time, kind), end in zip(entries, ends, strict=True):
        if not kind & DROPPED and start < end:
            assert time == begun + start * step, "where a range begins its time is exact"
            assert (end - 1 - start) * step <= STAMP_US + (time - begun + step) / 64, (
                "behind that it is as good as the age"
            )


def two_streams_in_turn(place: Path) -> Log:
    log = Log(place, 40_000)
    for number in range(30_000):
        log.store((STDOUT, STDERR)[number % 2], b"x")
    log.close()
    kept, most = log.check(), index.budget(40_000)
    assert len(live_entries(log)) <= most + 4
    assert kept > most // 2
    return log


def test_two_streams_in_turn_for_days_have_an_index_within_its_budget(tmp_path: Path) -> None:
    log = two_streams_in_turn(tmp_path)
    assert log.ranges()[-1][2] in (STDOUT, STDERR), "the end is what people read"
    assert (tmp_path / "index").stat().st_blocks * 512 <= index.budget(40_000) * ENTRY + 8192


# --- where nothing can be punched -------------------------------------------------------------------------------------


def test_where_nothing_can_be_punched_the_beginning_is_kept(rigid_disk: Path) -> None:
    log = two_streams_in_turn(rigid_disk)
    assert log.ranges()[0][2] == STDOUT
    assert log.ranges()[-1][2] & DROPPED


@pytest.mark.parametrize("limit", [5_000, 10_000, 100_000])
def test_where_nothing_can_be_punched_the_limit_holds(rigid_disk: Path, limit: int) -> None:
    log = Log(rigid_disk, limit)
    for turn in range(100):
        log.store((STDOUT, STDERR)[turn % 2], os.urandom(3000))
    log.close()
    assert log.check() == limit
    assert log.output()[:limit] == log.given[:limit]


# --- disks that take no more ------------------------------------------------------------------------------------------


def fill(disk: Path) -> Path:
    """Take all there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):  # noqa: PT012  # whichever write hits the end
        while True:
            file.write(bytes(4096))
    with filler.open("ab", buffering=0) as file, pytest.raises(OSError):  # noqa: PT012
        while True:
            file.write(b"x")
    return filler


@pytest.mark.parametrize("limit", [0, 500_000])
def test_on_a_full_disk_bytes_are_counted_until_there_is_room_again(small_disk: Path, limit: int) -> None:
    place = small_disk / "job"
    place.mkdir()
    log = Log(place, limit)
    log.store(STDOUT, b"before" * 1000)
    filler = fill(small_disk)
    for turn in range(50):
        log.store((STDOUT, STDERR)[turn % 2], b"lost" * 2000)
    assert log.capture.dropped[STDOUT] > 0
    filler.unlink()
    for _ in range(20):
        log.store(STDOUT, b"after" * 1000)
        log.store(STDERR, b"too" * 1000)
    log.close()
    log.check()
    assert log.output().startswith(b"before" * 1000)
    assert log.output().endswith(b"after" * 1000 + b"too" * 1000)


def test_a_disk_that_is_full_from_the_start(small_disk: Path) -> None:
    place = small_disk / "job"
    place.mkdir()
    filler = fill(small_disk)
    log = Log(place)
    log.store(STDERR, b"x" * 5000)
    filler.unlink()
    log.store(STDOUT, b"y" * 5000)
    log.close()
    log.check()
    assert log.output()[5000:] == b"y" * 5000


def test_a_disk_that_stays_full(small_disk: Path) -> None:
    place = small_disk / "job"
    place.mkdir()
    fill(small_disk)
    log = Log(place)
    for _ in range(10):
        log.store(STDOUT, b"x" * 5000)
    log.close()
    assert log.capture.size == {STDOUT: 50_000, STDERR: 0}
    kept = sum(end - start for start, end, kind in log.ranges() if not kind & DROPPED)
    assert log.capture.dropped[STDOUT] + kept == 50_000


@contextmanager
def files_no_larger_than(size: int) -> Generator[None]:
    """Make every write beyond `size` fail, as a quota or a dying disk would (Python ignores SIGXFSZ)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@settings(max_examples=100, deadline=None)
@given(
    limit=LIMITS,
    phases=st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3000)), CHUNKS), min_size=1, max_size=4),
)
def test_writes_that_fail_at_any_point(limit: int, phases: list[tuple[int | None, list[tuple[int, bytes]]]]) -> None:
    with logging(limit) as log:
        for size, chunks in phases:
            if size is None:
                for kind, data in chunks:
                    log.store(kind, data)
            else:
                with files_no_larger_than(size):
                    for kind, data in chunks:
                        log.store(kind, data)
        log.store(STDOUT, b"last words")
        log.close()
        kept = log.check()
        assert kept <= (limit or kept)


# --- pipes ------------------------------------------------------------------------------------------------------------


def test_a_pipe_tells_nothing_from_the_end() -> None:
    pipe = Pipe(STDOUT)
    theirs = pipe.open()
    assert pipe.read() is None
    assert os.get_blocking(theirs)
    os.write(theirs, b"abc")
    assert (pipe.pending(), pipe.read(), pipe.pending()) == (3, b"abc", 0)
    os.write(theirs, b"d")
    os.close(theirs)
    assert (pipe.read(), pipe.read()) == (b"d", b"")
    pipe.close()
    pipe.close()


def test_a_pipe_widens_under_heavy_flow_only() -> None:
    pipe = Pipe(STDOUT)
    theirs = pipe.open()
    for _ in range(WIDEN_AFTER - 1):
        os.write(theirs, bytes(CHUNK))
        assert len(pipe.read() or b"") == CHUNK
    os.write(theirs, b"x")
    assert pipe.read() == b"x"
    assert pipe.chunk == CHUNK
    for _ in range(WIDEN_AFTER):
        os.write(theirs, bytes(CHUNK))
        assert len(pipe.read() or b"") == CHUNK
    assert pipe.chunk == WIDE_CHUNK
    os.write(theirs, bytes(WIDE_CHUNK))
    assert len(pipe.read() or b"") == WIDE_CHUNK
    os.close(theirs)
    pipe.close()
