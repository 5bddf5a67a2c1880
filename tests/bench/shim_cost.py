"""What a truthful parent costs: fork server, shims and jobs against the bare minimum, measured in the same run.

By hand: PYTHONPATH=tests .venv/bin/python -P tests/bench/shim_cost.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from driver import Driver, Link, eventually
from jobbroker.identity import read_file, read_stat

TICK = os.sysconf("SC_CLK_TCK")
TRUE = ["/bin/true"]


class Row(NamedTuple):
    """One figure, and what it should not exceed (or, for a rate, fall below)."""

    name: str
    value: float
    unit: str
    goal: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def __str__(self) -> str:
        goal = f"goal {'>=' if self.at_least else '<='} {self.goal:g}"
        return f"{self.name:<58} {self.value:8.2f} {self.unit:<8} {goal}{'' if self.met else '  MISSED'}"


class Meter:
    """The CPU time of a driver's fork server, shims and jobs: of a control group if we may make one, to the nanosecond.

    Else of /proc, which counts in ticks, and knows only of children that were reaped.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.group = ""
        for parent, self.file, self.unit in (
            ("/sys/fs/cgroup/cpuacct", "cpuacct.usage", 1e-6),
            ("/sys/fs/cgroup", "cpu.stat", 1e-3),
        ):
            group = f"{parent}/jobbroker-bench-{os.getpid()}"
            try:
                os.mkdir(group)
                Path(group, "cgroup.procs").write_text(str(driver.process.pid))
                Path(group, self.file).read_text()
            except OSError:
                continue
            self.group = group
            return

    def ms(self) -> float:
        if self.group:
            words = Path(self.group, self.file).read_text().split()
            return int(words[0] if len(words) == 1 else words[1]) * self.unit
        pids = [self.driver.process.pid, *(link.pid for link in self.driver.links)]
        stats = [stat for stat in map(read_stat, pids) if stat is not None]
        return sum(int(field) for stat in stats for field in stat[11:15]) * 1000 / TICK

    def close(self) -> None:
        if self.group:
            eventually(lambda: not Path(self.group, "cgroup.procs").read_text())
            os.rmdir(self.group)


def own_ms(pid: int) -> float:
    """CPU time of a process alone."""
    return time.clock_gettime(~pid << 3 | 2) * 1000


def private_mb(pid: int) -> float:
    rows = read_file(f"/proc/{pid}/smaps_rollup").splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith(b"Private_")) / 1024


def popen_ms(jobs: int) -> float:
    """CPU per job of the barest way to run one from Python."""
    before = sum(os.times()[:4])
    for _ in range(jobs):
        subprocess.Popen(TRUE, stdin=-3, stdout=-3, stderr=-3, cwd="/", start_new_session=True).wait()
    return (sum(os.times()[:4]) - before) * 1000 / jobs


def shims_ms(driver: Driver, meter: Meter, links: list[Link], jobs: int) -> float:
    """CPU per job of fork server, shims and jobs; the daemon's part is not theirs."""
    names = [driver.create(TRUE) for _ in range(jobs)]
    before = meter.ms()
    for start in range(0, jobs, len(links)):
        batch = list(zip(links, names[start : start + len(links)], strict=False))
        for link, name in batch:
            link.hand(name)
        for link, _ in batch:
            link.until_end()
    return (meter.ms() - before) / jobs


def per_job(driver: Driver, meter: Meter, in_flight: int, rounds: int = 9, jobs: int = 50) -> Row:
    links = [driver.shim() for _ in range(in_flight)]
    shims_ms(driver, meter, links, 10)
    popen_ms(10)
    # Round by round, since the machine's mood changes by the minute.
    ratios = [shims_ms(driver, meter, links, jobs) / popen_ms(jobs) for _ in range(rounds)]
    for link in links:
        link.close()
    return Row(f"CPU of a true job, {in_flight} in flight", statistics.median(ratios), "x Popen", 1.8)


def first_job(driver: Driver, meter: Meter, rounds: int = 5, jobs: int = 10) -> Row:
    """The first job of a new shim, its fork and its end included."""
    ratios: list[float] = []
    for _ in range(rounds):
        before = meter.ms()
        for _ in range(jobs):
            link = driver.shim()
            link.run(TRUE)
            link.close()
            link.gone()
        ratios.append((meter.ms() - before) / jobs / popen_ms(50))
    return Row("CPU of the first job of a new shim", statistics.median(ratios), "x Popen", 4)


def memory(driver: Driver) -> list[Row]:
    rows: list[Row] = []
    for what, jobs in (("fresh", 0), ("reused", 200)):
        link = driver.shim()
        for _ in range(jobs):
            link.run(TRUE)
        name = link.begin(["sleep", "1000"])
        time.sleep(0.2)
        rows.append(Row(f"private memory of a running job's shim, {what}", private_mb(link.pid), "MB", 1.1))
        driver.ask(name, grace_ms=0)
        link.until_end()
        link.close()
    return rows


def flood(driver: Driver, megabytes: int = 1024, rounds: int = 3) -> list[Row]:
    """A gigabyte through the pipe, and straight into a file of the same disk."""
    command = ["dd", "if=/dev/zero", "bs=64k", f"count={megabytes * 16}", "status=none"]
    rates: list[float] = []
    costs: list[float] = []
    for _ in range(rounds):
        plain = driver.state / "plain"
        begun = time.monotonic()
        with plain.open("wb") as file:
            subprocess.run(command, stdout=file, check=True)
        bare = time.monotonic() - begun
        plain.unlink()
        link = driver.shim()
        begun = time.monotonic()
        name = link.begin(command)
        started = own_ms(link.pid)
        link.until_end()
        rates.append(bare / (time.monotonic() - begun))
        costs.append((own_ms(link.pid) - started) * 1024 / megabytes)
        driver.jobs.remove(name)
        link.close()
    return [
        Row("rate through the pipe", statistics.median(rates), "x file", 0.6, at_least=True),
        Row("CPU of the shim for a gigabyte", statistics.median(costs), "ms", 700),
    ]


def trickles(driver: Driver, jobs: int = 100, seconds: int = 4) -> Row:
    """A hundred jobs of a thousand lines a second. One process writes to all their pipes, so that it costs little."""
    links = [driver.shim() for _ in range(jobs)]
    names = [link.begin(["sleep", "1000"]) for link in links]
    pipes = [os.open(f"/proc/{driver.line(name, 'S').text(0)}/fd/1", os.O_WRONLY) for name in names]
    before = sum(own_ms(link.pid) for link in links)
    begun = time.monotonic()
    turns = 0
    while time.monotonic() < begun + seconds:
        for pipe in pipes:
            os.write(pipe, b"a line of output as a build or a server writes it\n")
        turns += 1
        time.sleep(max(0, begun + turns * 0.001 - time.monotonic()))
    took = time.monotonic() - begun
    cost = sum(own_ms(link.pid) for link in links) - before
    for pipe, name, link in zip(pipes, names, links, strict=True):
        os.close(pipe)
        driver.ask(name, grace_ms=0)
        link.until_end()
        link.close()
    print(f"# {jobs} jobs wrote {turns / took:.0f} lines/s each", file=sys.stderr)
    return Row(f"all shims of {jobs} jobs of 1000 lines/s", cost / took / 10 * 1000 * took / turns, "% core", 15)


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as place:
        driver = Driver(Path(place))
        meter = Meter(driver)
        rows = [per_job(driver, meter, in_flight) for in_flight in (1, 2, 16)]
        rows.append(first_job(driver, meter))
        rows += memory(driver)
        rows += flood(driver)
        rows.append(trickles(driver))
        driver.close()
        meter.close()
    return rows


def main() -> None:
    for row in measure():
        print(row)


if __name__ == "__main__":
    main()
