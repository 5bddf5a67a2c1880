"""What a long history costs: looking at jobs, memory, and getting rid of ten thousand while others are served.

The history is written into the store before the broker starts. Ratios, last against first; a flat one is 1.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import trio

from bench.cost import report
from bench.store import fill, job
from harness import Home, Processes, Wire, eventually

AMOUNTS = (10, 1000, 100_000)
LOOKS = 300
GOING = 10_000
WAITING = 10_000


def main() -> None:
    print("history of 10, 1000 and 100 000 ended jobs")
    with tempfile.TemporaryDirectory() as folder, Processes():
        rows = [look(Path(folder) / str(amount), amount) for amount in AMOUNTS]
        for name, values in zip(("job/list, 20 jobs", "job/get", "memory, MiB"), zip(*rows, strict=True), strict=True):
            print(f"  {name:20} {'  '.join(f'{value:8.3f}' for value in values)}")
            report(f"{name}, last / first", values[-1] / values[0], "<= 1.2")
        report("longest silence while 10 000 are removed, ms", clean(Path(folder) / "clean"), "<= 50")
        report("memory of a job that waits, KiB", waiting(Path(folder) / "waiting"), "<= 1.1")


def prepared(root: Path, amount: int) -> Home:
    root.mkdir()
    home = Home(root, JOBBROKER_KEEP_JOBS="10000000", JOBBROKER_MAX_RUNNING="1")
    home.state.mkdir(mode=0o700, parents=True)
    trio.run(fill, home.state / "store.db", amount)
    return home


def look(root: Path, amount: int) -> tuple[float, float, float]:
    """CPU milliseconds of the daemon for a page and for a job, and its memory in MiB."""
    home = prepared(root, amount)
    home.start()
    with Wire(str(home.socket)) as wire:
        middle = wire.call("job/list", limit=20)["jobs"][-1]["number"] // 2 + 1
        costs = [cost(home, lambda: wire.call("job/list", limit=20)), cost(home, lambda: wire.get(f"%{middle}"))]
    size = memory(home)
    home.close()
    return costs[0], costs[1], size


def cost(home: Home, call: object) -> float:
    assert home.process is not None
    assert callable(call)
    for _ in range(20):
        call()
    before = cpu_ns(home.process.pid)
    for _ in range(LOOKS):
        call()
    return (cpu_ns(home.process.pid) - before) / LOOKS / 1e6


def cpu_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def memory(home: Home) -> float:
    assert home.process is not None
    text = Path(f"/proc/{home.process.pid}/smaps_rollup").read_text()
    return int(text.partition("Private_Dirty:")[2].split()[0]) / 1024


def clean(root: Path) -> float:
    """The longest a ping waits while as many jobs as that are removed, in milliseconds."""
    home = prepared(root, GOING)
    for number in range(1, GOING + 1):
        place = home.state / "jobs" / job(number, "completed").job.id
        place.mkdir(mode=0o700, parents=True)
        for name in ("record", "output", "index"):
            (place / name).write_bytes(b"x" * 4096)
    os.chmod(home.state / "jobs", 0o700)
    home.start()
    with Wire(str(home.socket)) as wire, Wire(str(home.socket)) as other:
        eventually(lambda: wire.call("broker/status")["totalOutput"] >= 8192 * GOING, "all is counted")
        gone: list[int] = []
        thread = threading.Thread(target=lambda: gone.append(len(other.call("job/cleanup", maxAgeMs=0)["removed"])))
        begun = time.perf_counter()
        thread.start()
        longest = 0.0
        while thread.is_alive():
            before = time.perf_counter()
            wire.call("broker/ping")
            longest = max(longest, time.perf_counter() - before)
        print(f"  {gone[0]} jobs with output removed in {time.perf_counter() - begun:.1f} s")
    home.close()
    return longest * 1000


def waiting(root: Path) -> float:
    """KiB of the daemon for each of as many jobs as that in the queue."""
    root.mkdir()
    home = Home(root, JOBBROKER_MAX_RUNNING="1")
    home.start()
    with Wire(str(home.socket)) as wire:
        start(wire, 1000)
        before = memory(home)
        for _ in range(WAITING // 1000):
            start(wire, 1000)
        size = (memory(home) - before) * 1024 / WAITING
    home.close()
    return size


def start(wire: Wire, count: int) -> None:
    wire.write([{"id": n, "method": "job/start", "params": {"argv": ["sleep", "600"]}} for n in range(count)])
    assert len(wire.read()) == count


if __name__ == "__main__":
    main()
