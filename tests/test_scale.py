"""Many jobs: thousands that wait, a thousand that run. Looking at them stays cheap, memory stays small."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Home, Message, Wire

pytestmark = pytest.mark.slow


def batch(wire: Wire, count: int) -> list[Message]:
    wire.write([{"id": n, "method": "job/start", "params": {"argv": ["sleep", "600"]}} for n in range(count)])
    return [answer["result"]["job"] for answer in wire.read()]


def cost(home: Home, look: Callable[[], object]) -> float:
    """CPU seconds of the daemon for a hundred looks."""
    assert home.process is not None
    stat = Path(f"/proc/{home.process.pid}/stat")

    def spent() -> int:
        return sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))

    before = spent()
    for _ in range(100):
        look()
    return (spent() - before) / 100


def megabytes(home: Home) -> int:
    assert home.process is not None
    return int(Path(f"/proc/{home.process.pid}/status").read_text().partition("VmRSS:")[2].split()[0]) // 1024


def test_ten_thousand_wait(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_RUNNING="1")
    home.start()
    wire = home.connect()
    before = megabytes(home)
    for _ in range(10):
        assert len(batch(wire, 1000)) == 1000
    assert megabytes(home) - before < 80
    assert cost(home, lambda: wire.call("broker/status")) < 0.5
    assert cost(home, lambda: wire.call("job/list")) < 0.5
    assert cost(home, lambda: wire.get("%5000")) < 0.5
    begun = time.monotonic()
    home.restart()
    assert time.monotonic() - begun < 10
    assert home.connect().call("broker/status")["counts"]["queued"] == 9999
    with Wire(str(home.socket)) as last:
        last.call("broker/shutdown", mode="cancelJobs", graceMs=0)
    assert home.wait() == 0


def test_a_thousand_run(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_RUNNING="1000")
    home.start()
    wire = home.connect()
    if wire.call("broker/status")["limits"]["maxRunning"] < 1000:
        pytest.skip("the limit on open files is too low here")
    jobs = batch(wire, 1000)
    assert {job["status"] for job in jobs} == {"running"}
    assert cost(home, lambda: wire.call("broker/status")) < 1
    assert cost(home, lambda: wire.get(jobs[500]["id"])) < 1
    home.restart()
    wire = home.connect()
    assert wire.call("broker/status")["counts"]["running"] == 1000
    wire.call("job/cancel", id=jobs[0]["id"], graceMs=0)
    assert wire.call("broker/status")["counts"]["running"] == 999
