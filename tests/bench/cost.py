"""What things cost: CPU seconds of processes and their descendants, and medians of ratios taken in turn."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
from collections.abc import Callable

from jobbroker.identity import read_stat
from jobbroker.tree import descendants

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """CPU seconds of a process, and of the children it has waited for."""
    stat = read_stat(pid)
    return 0.0 if stat is None else sum(int(field) for field in stat[11:15]) / TICKS


def cpu_of_tree(root: int) -> float:
    """CPU seconds of a process and everything that descends from it or did."""
    return sum(cpu_of(pid) for pid in [root, *descendants(root)])


def cpu_of_command(argv: list[str], **environ: str) -> float:
    """CPU seconds of one run of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | environ
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ratio(measure: Callable[[], float], limit: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """The median of what is measured, of the limit it is held against, and of their ratio, taken in turn."""
    pairs = [(measure(), limit()) for _ in range(rounds)]
    return (
        statistics.median(ours for ours, _ in pairs),
        statistics.median(theirs for _, theirs in pairs),
        statistics.median(ours / theirs for ours, theirs in pairs if theirs),
    )


def report(what: str, value: float, goal: str) -> None:
    """One line of the table."""
    print(f"  {what:<72} {value:6.2f}   goal {goal}", flush=True)
