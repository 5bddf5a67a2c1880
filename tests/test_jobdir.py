"""Job directories: made whole or not at all, read without disturbing, and never a way to anything outside."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import driving
from driver import eventually
from jobbroker import claim
from jobbroker.core.record import ROOM, Head, encode_line
from jobbroker.jobdir import JobDirectories

if TYPE_CHECKING:
    from collections.abc import Generator

    from driver import Driver


def head(name: bytes = b"abc", padding: int = 0) -> Head:
    return Head(name, 1, b"command", b"/", [b"true"], [b"X=" + b"x" * padding], {b"merged": b"1"})


@pytest.fixture
def jobs(tmp_path: Path) -> Generator[JobDirectories]:
    jobs = JobDirectories(str(tmp_path / "jobs"))
    yield jobs
    jobs.close()


# --- what it is for ---------------------------------------------------------------------------------------------------


def test_a_record_is_private_and_reads_back(jobs: JobDirectories) -> None:
    jobs.create(head(padding=300_000))
    assert jobs.names() == ["abc"]
    place = Path(jobs.path, "abc")
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "record").stat().st_mode & 0o777 == 0o600
    reading = jobs.read("abc")
    assert (reading.head.encode(), reading.lines, reading.locked) == (head(padding=300_000).encode(), [], False)


def test_an_id_is_given_once(jobs: JobDirectories) -> None:
    jobs.create(head())
    with pytest.raises(FileExistsError):
        jobs.create(head())
    assert jobs.read("abc").lines == []


def test_reading_never_takes_the_claim(jobs: JobDirectories) -> None:
    jobs.create(head())
    with Path(jobs.path, "abc", "record").open("r+b") as theirs:
        for _ in range(3):
            assert not jobs.read("abc").locked
        assert claim.take(theirs.fileno())
        assert jobs.read("abc").locked
        assert not jobs.withdraw("abc", b"user", 1)
    assert not jobs.read("abc").locked
    assert jobs.withdraw("abc", b"user", 1)
    assert [line.letter for line in jobs.read("abc").lines] == [b"N"]


def test_removing_takes_everything_and_may_be_repeated(jobs: JobDirectories) -> None:
    jobs.create(head())
    jobs.ask("abc", "user", 5)
    Path(jobs.path, "abc", "output").write_text("x")
    jobs.remove("abc")
    jobs.remove("abc")
    assert jobs.names() == []


def test_a_directory_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(PermissionError):
        JobDirectories(str(tmp_path / "open"))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError):
        JobDirectories(str(tmp_path / "link"))


# --- links in the way -------------------------------------------------------------------------------------------------


@pytest.fixture
def victim(tmp_path: Path) -> Generator[Path]:
    """A directory that looks like a job's, outside. It must stay as it is."""
    place = tmp_path / "victim"
    place.mkdir()
    for name in ("record", "ask", "output", "index"):
        (place / name).write_bytes(head().encode())
    yield place
    assert sorted(os.listdir(place)) == ["ask", "index", "output", "record"]
    assert all(path.read_bytes() == head().encode() for path in place.iterdir())


def test_a_directory_replaced_by_a_link_is_not_entered(jobs: JobDirectories, victim: Path) -> None:
    Path(jobs.path, "abc").symlink_to(victim)
    for attempt in (
        lambda: jobs.read("abc"),
        lambda: jobs.open("abc"),
        lambda: jobs.withdraw("abc", b"user", 1),
        lambda: jobs.ask("abc", "user", 1),
        lambda: jobs.remove("abc"),
        lambda: jobs.create(head()),
    ):
        with pytest.raises(OSError):
            attempt()


def test_a_record_replaced_by_a_link_is_not_followed(jobs: JobDirectories, victim: Path) -> None:
    jobs.create(head())
    record = Path(jobs.path, "abc", "record")
    record.unlink()
    record.symlink_to(victim / "record")
    for attempt in (lambda: jobs.read("abc"), lambda: jobs.withdraw("abc", b"user", 1)):
        with pytest.raises(OSError):
            attempt()
    jobs.remove("abc")


def test_an_ask_replaced_by_a_link_is_replaced(jobs: JobDirectories, victim: Path) -> None:
    jobs.create(head())
    for name in ("ask", "word"):
        Path(jobs.path, "abc", name).symlink_to(victim / "ask")
    jobs.ask("abc", "user", 1)
    assert os.readlink(Path(jobs.path, "abc", "ask")) == "user 1"
    jobs.remove("abc")


def test_output_replaced_by_a_link_is_not_written_through(driver: Driver, victim: Path) -> None:
    name = driver.create(["sh", "-c", "echo precious | tee /dev/stderr"], merged=0)
    driver.path(name, "output").symlink_to(victim / "output")
    driver.path(name, "index").symlink_to(victim / "index")
    shim = driver.shim()
    shim.hand(name)
    shim.until_end()
    end = driver.line(name, "X")
    assert [end.number(index) for index in range(3, 7)] == [9, 9, 9, 9]
    assert end.number(0) == 0


# --- full disks -------------------------------------------------------------------------------------------------------


def fill(disk: Path) -> Path:
    """Take all there is, to the last byte."""
    filler = disk / "filler"
    for size in (65536, 512, 1):
        try:
            with filler.open("ab", buffering=0) as file:
                while file.write(bytes(size)):
                    pass
        except OSError:
            pass
    return filler


def test_on_a_full_disk_no_job_is_promised_and_nothing_is_left(small_disk: Path) -> None:
    jobs = JobDirectories(str(small_disk / "jobs"))
    filler = fill(small_disk)
    for padding in (0, 3000, 60_000):
        with pytest.raises(OSError):
            jobs.create(head(padding=padding))
    assert jobs.names() == []
    filler.unlink()
    jobs.create(head())
    jobs.close()


def test_the_room_for_every_line_is_set_aside(small_disk: Path) -> None:
    jobs = JobDirectories(str(small_disk / "jobs"))
    for number in range(20):
        jobs.create(head(b"j%d" % number, padding=number * 517))
    fill(small_disk)
    for number in range(20):
        with Path(jobs.path, f"j{number}", "record").open("ab", buffering=0) as file:
            line = encode_line(b"L", b"x" * 59, 1, 1)
            assert all(file.write(line) == len(line) for _ in range(ROOM // len(line)))
    jobs.close()


def test_a_job_that_fills_the_disk_is_whole_and_can_be_cancelled(small_disk: Path) -> None:
    with driving(small_disk) as driver:
        shim = driver.shim()
        waiting = driver.create(["sh", "-c", "echo lost; exit 3"])  # while there is room
        name = shim.begin(["sh", "-c", "cat /dev/zero"])
        eventually(lambda: driver.path(name, "output").exists() and os.statvfs(small_disk).f_bavail < 3)
        fill(small_disk)
        other = driver.shim()
        other.hand(waiting)
        other.until_end()
        assert (driver.letters(waiting), driver.status(waiting)) == ("ASX", 3 << 8)
        assert driver.line(waiting, "X").number(3) == 5
        driver.ask(name)
        shim.until_end()
        end = driver.line(name, "X")
        assert (driver.letters(name), end.number(0)) == ("ASLX", signal.SIGTERM)
        assert 0 < end.number(4) < end.number(3)
        assert not driver.faults()
