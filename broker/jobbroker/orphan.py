"""A job nobody vouches for: its shim was killed, or its record is gone. The daemon holds its limits until it ends.

Nobody will ever see its exit status, its output may end here, and what its processes left behind is found only while it
lives. So this is a last resort: it keeps the job visible as running, and it can be cancelled.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import cast

import trio

from jobbroker import tree
from jobbroker.clock import mono_ms, wall_ms
from jobbroker.core import ladder, record
from jobbroker.core.job import milliseconds
from jobbroker.identity import open_checked, open_process, read_file, read_stat, send_signal, start_time
from jobbroker.signals import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from jobclient.protocol.wire import Job, Reason

MARK = "JOBBROKER_JOB_ID"
"""In the environment of every job: its id."""
KILL_PAUSE_SECONDS = 0.005
MAX_ROUNDS = 200
"""Rounds of killing after which what hangs in the kernel is waited for no more."""


class Orphan:
    """The ladder of a job without a shim.

    Attributes:
        pid, started: its process, and when that started.
        pidfd: a descriptor on that, for whoever attends it to close.
        epitaph: what to say of it when it has ended.
        killed: its processes that SIGTERM did not end.
    """

    def __init__(self, pid: int, pidfd: int, *, since: int, timeout_ms: int, grace_ms: int, epitaph: str) -> None:
        """Watch the process behind `pidfd`, which started at `since` on the monotonic clock."""
        self.epitaph = epitaph
        self.pid = pid
        self.started = start_time(pid) or 0
        self.pidfd = pidfd
        # Its output went to the shim's pipes, so silence means nothing any more.
        self._ladder = ladder.Ladder(since, timeout_ms=timeout_ms, idle_ms=0, grace_ms=grace_ms)
        self._wait = trio.CancelScope()
        self._stands = False
        self.killed: set[int] = set()
        self._rounds = 0

    @property
    def ending(self) -> bool:
        """Whether its end was asked for."""
        return self._ladder.reason is not None

    def turned(self, *, stopped: bool) -> None:
        """It was seen to stand still, or to go on: its limits wait meanwhile."""
        if stopped != self._stands:
            self._stands = stopped
            (self._ladder.stopped if stopped else self._ladder.continued)(mono_ms())
            self._wait.cancel()

    def ask(self, reason: Reason, grace_ms: int) -> None:
        """End it."""
        self._ladder.ask(reason, grace_ms, mono_ms())
        self._wait.cancel()

    async def run(self, begun: Callable[[Reason], None]) -> None:
        """Hold its limits until it has ended; calls `begun` when a limit or a cancellation begins to be carried out."""
        while True:
            over = is_over(self.pidfd)
            match self._ladder.step(mono_ms(), leader_ended=over, tree_empty=over):
                case ladder.FINISH:
                    return
                case ladder.BEGIN:
                    begun(cast("Reason", self._ladder.reason))
                    self._signal_group()
                case ladder.KILL:
                    self._kill()
                    await self._rest(KILL_PAUSE_SECONDS)
                case _:
                    due = self._ladder.due()
                    await self._rest(None if due is None else max(0, due - mono_ms()) / 1000)

    async def _rest(self, seconds: float | None) -> None:
        """Until it ends, somebody asks for its end, or the time is over."""
        self._wait = trio.CancelScope()
        if seconds is not None:
            self._wait.deadline = trio.current_time() + seconds
        with self._wait:
            await trio.lowlevel.wait_readable(self.pidfd)

    def _kill(self) -> None:
        """What descends from it first, and itself once it stands still and nothing of that is left.

        Gone, it could no longer tell what was its own; and as long as it runs, it may have one child more.
        """
        try:
            send_signal(self.pidfd, SIGSTOP)
            self.killed |= tree.kill_round(self.pid)
            self._rounds += 1
            alone = self._stands_still() and not tree.survivors(self.pid)
            if (alone or self._rounds > MAX_ROUNDS) and send_signal(self.pidfd, SIGKILL):
                self.killed.add(self.pid)
        except PermissionError:  # it belongs to another user by now, and runs on, and is said to
            pass

    def _stands_still(self) -> bool:
        stat = read_stat(self.pid)
        return stat is None or stat[0] == b"T"

    def _signal_group(self) -> None:
        """As a shim would. The leader was alive a moment ago; while it is, its group is no stranger's."""
        for number in (SIGTERM, SIGCONT):
            if not is_over(self.pidfd):
                try:
                    os.killpg(self.pid, number)
                except (ProcessLookupError, PermissionError):
                    pass
        tree.let_go_on(self.pid)


def by_record(lines: list[record.Line], of: Job) -> Orphan | None:
    """The job of a record that says that it runs; None if its process has ended."""
    started = record.last(lines, b"S")
    handle = None if started is None else _unless_over(open_checked(started.number(0), started.number(1)))
    if started is None or handle is None:
        return None
    return Orphan(
        started.number(0),
        handle,
        since=started.number(4) + _stood_still(lines, of),
        timeout_ms=of.timeout_ms,
        grace_ms=of.grace_ms,
        epitaph="its shim was killed; how it ended was not seen",
    )


def by_mark(of: Job, why: str) -> Orphan | None:
    """A job that has no record any more, if its process can be told by its environment; None if it cannot."""
    handle = None if of.pid is None else _unless_over(open_marked(of.pid, of.id))
    if of.pid is None or handle is None:
        return None
    ran = 0 if of.started_at is None else max(0, wall_ms() - milliseconds(of.started_at))
    return Orphan(
        of.pid,
        handle,
        since=mono_ms() - ran,
        timeout_ms=of.timeout_ms,
        grace_ms=of.grace_ms,
        epitaph=f"{why}; how it ended was not seen",
    )


def _stood_still(lines: list[record.Line], of: Job) -> int:
    """How long it stood still, in milliseconds: by its record, and since then by its row, which we wrote ourselves."""
    known = record.stood_still(lines, mono_ms())
    if of.stopped_at is None or record.is_stopped(lines):
        return known
    return known + max(0, wall_ms() - milliseconds(of.stopped_at))


def _unless_over(handle: int | None) -> int | None:
    """The handle, unless its process has ended and only whoever inherited it has not collected it yet."""
    if handle is not None and is_over(handle):
        os.close(handle)
        return None
    return handle


def open_marked(pid: int, name: str) -> int | None:
    """A pidfd on the process of that pid if it is one of that job's, which its environment tells.

    For want of a record there is no start time to know it by. A process that hides its environment is not taken.
    """
    handle = open_process(pid)
    if handle is None:
        return None
    try:
        if f"{MARK}={name}".encode() in read_file(f"/proc/{pid}/environ").split(b"\0"):
            return handle
    except OSError:  # gone, or another user's by now
        pass
    os.close(handle)
    return None


def is_over(pidfd: int) -> bool:
    """Whether the process has ended."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))
