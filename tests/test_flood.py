"""A job that writes more than any disk takes: its limit holds, its shim stays small, whoever watches or does not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import driving
from harness import Home, Wire, eventually
from jobbroker.core import record
from jobbroker.core.index import DROPPED
from jobbroker.identity import read_file

LIMIT = 20_000_000
MEGABYTE = 1 << 20
MEMORY = 8 * MEGABYTE
"""What a shim may have at most, with all that it shares."""


def flood(megabytes: int) -> list[str]:
    return ["dd", "if=/dev/zero", "bs=64k", f"count={megabytes * 16}", "status=none"]


def private_bytes(pid: int) -> int:
    rows = read_file(f"/proc/{pid}/smaps_rollup").splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith(b"Private_")) * 1024


def on_disk(directory: Path) -> int:
    return sum(path.stat().st_blocks for path in directory.iterdir()) * 512


def rate_into_a_file(place: Path, megabytes: int) -> float:
    """Megabytes a second of the same command, straight into a file."""
    plain = place / "plain"
    begun = time.monotonic()
    with plain.open("wb") as file:
        subprocess.run(flood(megabytes), stdout=file, check=True)
    took = time.monotonic() - begun
    plain.unlink()
    return megabytes / took


@pytest.mark.slow
@pytest.mark.parametrize("orphaned", [False, True], ids=["with its broker", "without"])
def test_ten_gigabytes_end_within_the_limit(new_home: Callable[..., Home], orphaned: bool) -> None:
    home = new_home()
    home.start()
    wire = home.connect()
    megabytes = 10_000
    job = wire.start(*flood(megabytes), maxOutput=LIMIT)["id"]
    begun = time.monotonic()
    place = home.state / "jobs" / job
    if orphaned:
        home.kill()
    claim = record.last(record.decode(home.record(job))[1], b"A")
    assert claim is not None
    largest = 0

    def over() -> bool:
        nonlocal largest
        largest = max(largest, on_disk(place))
        return b"\nX " in home.record(job).rpartition(b"\0")[2]

    while time.monotonic() < begun + 2:
        assert private_bytes(claim.number(0)) <= MEMORY
        over()
    wait_for(over)
    took = time.monotonic() - begun
    assert largest <= LIMIT * 1.1
    assert on_disk(place) <= LIMIT + 65536
    if orphaned:
        home.start()
        wire = home.connect()
    ended = wire.ended(job)
    assert ended["stdout"]["size"] == megabytes * MEGABYTE
    assert LIMIT * 0.9 <= ended["stdout"]["size"] - ended["stdout"]["dropped"] <= LIMIT
    check_kept(wire, job, ended["stdout"]["dropped"])
    plain = rate_into_a_file(home.root, 1000)
    print(f"{megabytes / took:.0f} MB/s, {megabytes / took / plain:.2f} of the rate into a file")


def wait_for(over: Callable[[], bool]) -> None:
    """For as long as a slow disk may take: longer than anything else in these tests."""
    for _ in range(8):
        try:
            eventually(over, "the end of the flood")
        except AssertionError:
            continue
        return
    raise AssertionError("the flood never ended")


def check_kept(wire: Wire, job: str, dropped: int) -> None:
    """Read all of it: the beginning, what was dropped, and the end."""
    seen, missing, cursor, eof = 0, 0, "0", False
    while not eof:
        piece = wire.call("job/output", id=job, limit=MEGABYTE, **{"from": cursor})
        seen, missing = seen + len(piece["data"]), missing + piece["dropped"]
        cursor, eof = piece["next"], piece["eof"]
    assert missing == dropped
    assert seen > 0


def test_a_flood_where_nothing_can_be_punched_keeps_the_beginning(rigid_disk: Path) -> None:
    with driving(rigid_disk) as driver:
        shim = driver.shim()
        name = shim.run(["sh", "-c", "seq 2000000; seq 3000000 >&2"], maxOutput=2_000_000, merged=1)
        end = driver.line(name, "X")
        written = b"".join(b"%d\n" % n for n in range(1, 400_000))
        assert end.number(3) == sum(len(str(n)) + 1 for last in (2_000_000, 3_000_000) for n in range(1, last + 1))
        kept = end.number(3) - end.number(4)
        assert kept == 2_000_000
        with driver.path(name, "output").open("rb") as file:
            assert file.read(kept) == written[:kept]
        assert driver.index(name)[-1][2] & DROPPED
        assert driver.faults() == ""
