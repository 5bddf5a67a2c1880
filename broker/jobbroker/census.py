"""The processes a job has: who descends from whom, what each runs, and what it costs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from jobbroker.pausing import Root
from jobbroker.wiretext import as_wire
from jobclient.protocol.wire import Process, Text

if TYPE_CHECKING:
    import psutil

MAX_COMMAND = 1000
"""Characters of a command that are told."""


def processes(root: Root) -> list[Process]:
    """The live processes of a job, parents before their children. Takes a while: not for the broker's own thread."""
    import psutil  # most brokers are never asked, and it costs as much as all else

    found: list[Process] = []
    for pid in root.members():
        try:
            described = _describe(psutil.Process(pid))
        except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
            continue
        if described is not None:
            found.append(described)
    return found if root.stands() else []  # else some may be those of the next job of the same shim


def groups(of: list[Process], leader: int | None) -> list[int]:
    """Their process groups, each once: the job's own first, if anything of it is left, then in order of appearance."""
    found = dict.fromkeys(process.pgid for process in of)
    own = [leader] if leader in found else []
    return [*own, *(group for group in found if group != leader)]


def _describe(process: psutil.Process) -> Process | None:
    """A process as it is now; None if it is dead and waits to be reaped."""
    with process.oneshot():
        state = process.status()
        if state in ("zombie", "dead"):
            return None
        spent = process.cpu_times()
        age = max(time.time() - process.create_time(), 0.01)
        words = process.cmdline() or [f"[{process.name()}]"]
        return Process(
            pid=process.pid,
            ppid=process.ppid(),
            pgid=os.getpgid(process.pid),
            command=_shown(b" ".join(os.fsencode(word) for word in words)),
            state=state,
            cpu=round(100 * (spent.user + spent.system) / age, 1),
            rss=process.memory_info().rss,
        )


def _shown(command: bytes) -> Text:
    """The beginning of a command: the words of one process may be larger than a message."""
    shown = as_wire(command)
    if isinstance(shown, str):
        return shown if len(shown) <= MAX_COMMAND else shown[:MAX_COMMAND] + "..."
    return as_wire(command[:MAX_COMMAND])
