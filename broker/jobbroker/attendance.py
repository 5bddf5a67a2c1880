"""How one live job is watched: who has it, what its record has said so far, and what it was asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property

import trio

from jobbroker.core import record
from jobbroker.identity import is_dead, read_stat
from jobbroker.orphan import Orphan
from jobbroker.pausing import Root
from jobbroker.processes import Shim
from jobbroker.totals import Totals
from jobclient.protocol.wire import Job, Reason


class Attendance:
    """How one live job is watched.

    Attributes:
        job: the job, as clients see it; read only.
        survivors: processes of it that could not be killed.
        killed: how many of its processes ended by SIGKILL alone.
        claim: what its record says of the shim that claimed it (A).
        started: what its record says of its process (S).
        turn: how to tell the backend that a turn is to end; None for what is no turn, or waits for a slot.
        asked: the reason and the grace of the end that was asked for; kept, since whoever was told may be killed.
    """

    def __init__(self, of: Job) -> None:
        self.job = of
        self.survivors: list[int] = []
        self.killed = 0
        self.shim: Shim | None = None
        self.orphan: Orphan | None = None
        self.pidfd: int | None = None  # of the shim or the job, where there is no channel
        self._scope: trio.CancelScope | None = None  # of the task that watches it
        self.claim: record.Line | None = None
        self.started: record.Line | None = None
        self.heard = 0  # lines of the record that were reported
        self.handovers = 0
        self.asked: tuple[Reason, int] | None = None
        self.turn: Callable[[Reason, int], None] | None = None
        self.delivered = False  # to whoever has the job now
        self.retrying = False

    @cached_property
    def begun(self) -> trio.Event:
        """Set once the job runs, or has ended without."""
        return trio.Event()

    @cached_property
    def ended(self) -> trio.Event:
        """Set once the job has ended."""
        return trio.Event()

    @cached_property
    def turned(self) -> trio.Event:
        """Set, and replaced, whenever the job was stopped or goes on, or its end was asked for or began."""
        return trio.Event()

    @cached_property
    def turning(self) -> trio.Lock:
        """Held by whoever stops its tree, or lets it go on."""
        return trio.Lock()

    @cached_property
    def totals(self) -> Totals:
        """What it has written so far."""
        return Totals()

    @property
    def root(self) -> Root | None:
        """Where the job's processes are to be found; None while it has none."""
        process = self.process
        if process is None or (self.orphan is None and self.claim is None):
            return None
        top = self.claim.number(0) if self.orphan is None and self.claim is not None else process[0]
        return Root(top, *process)

    @property
    def process(self) -> tuple[int, int] | None:
        """The job's own process, by pid and start time; None before there is one."""
        if self.started is not None:
            return self.started.number(0), self.started.number(1)
        return None if self.orphan is None else (self.orphan.pid, self.orphan.started)

    def see(self) -> bool | None:
        """Whether its process stands still, by /proc; None if it is gone. Its limits wait, where we hold them."""
        process = self.process
        stat = None if process is None else read_stat(process[0])
        if process is None or stat is None or is_dead(stat) or int(stat[19]) != process[1]:
            return None
        stopped = stat[0] == b"T"
        if self.orphan is not None:
            self.orphan.turned(stopped=stopped)
        return stopped

    @property
    def is_blank(self) -> bool:
        """Whether nothing is known of the job but that it waits."""
        return not self.watched and not self.heard and self.asked is None and not self.retrying

    @property
    def watched(self) -> bool:
        """Whether somebody has the job: a shim, the backend, or we for want of one."""
        return self.shim is not None or self._scope is not None or self.turn is not None

    def watch(self, handle: int | None) -> tuple[int | None, trio.CancelScope]:
        """Begin to be watched through a pidfd; what the task that does it needs to know."""
        self.pidfd = handle
        self._scope = trio.CancelScope()
        return handle, self._scope

    def drop_watch(self) -> None:
        """Let the task that watches end without a word."""
        if self._scope is not None:
            self._scope.cancel()
        self.pidfd = self._scope = None

    def unwatch(self, handle: int | None, scope: trio.CancelScope) -> None:
        """That task ends; another one may have taken over already."""
        if handle is not None:
            os.close(handle)
        if self._scope is scope:
            self.pidfd = self._scope = None
