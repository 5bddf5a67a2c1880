"""Turns as jobs: requests to the backend that are admitted, limited, cancelled, watched and kept as any job is.

A turn has no process of its own and no shim: its record says no more than that it may have begun, its output is
written here, and its end is committed before anybody is told, since nothing else could prove it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import cast

import msgspec
import trio

from jobbroker.attendance import Attendance
from jobbroker.backend import Backend, TurnNews
from jobbroker.capture import Capture
from jobbroker.clock import mono_ms, wall_ms
from jobbroker.core import job as life
from jobbroker.core.index import STDERR, STDOUT
from jobbroker.core.job import Snapshot, is_live
from jobbroker.core.profile import JobRule
from jobbroker.core.routing import effects
from jobbroker.core.routing.turns import exclusive_key, variables
from jobbroker.jobdir import JobDirectories
from jobbroker.output import opened_output
from jobbroker.store import Store
from jobbroker.totals import Totals
from jobclient.protocol import errors, wire
from jobclient.protocol.jsonrpc import Json

log = logging.getLogger("jobbroker.jobs")


class TurnJobs:
    """The turns of this broker's backend.

    Attributes:
        backend: whose turns these are.
    """

    def __init__(
        self,
        jobs: JobDirectories,
        store: Store,
        apply: Callable[[str, life.Event], None],
        attendance: Callable[[str], Attendance | None],
    ) -> None:
        """Report what happens to `apply`; `attendance` tells how a job is watched, if it has not ended."""
        self._jobs = jobs
        self._store = store
        self._apply = apply
        self._attendance = attendance
        self.backend: Backend | None = None
        self._snapshots: dict[str, Snapshot] = {}
        self._captures: dict[str, Capture] = {}
        self._directories: dict[str, int] = {}
        self._exclusive: dict[str, str] = {}
        self._ended: list[effects.TurnEnded] = []
        self._arrived = trio.Event()
        self._settled = trio.Event()

    async def run(self) -> None:
        """Commit the ends of turns, in groups, and tell of them."""
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            await self._settle()

    # --- the way in -------------------------------------------------------------------------------------------------

    def completed(self, params: wire.StartParams, known: Callable[[str], bool]) -> wire.StartParams:
        """A request with what a profile says of the turn; `known` tells whether its key has one already.

        Raises:
            InvalidParams: there is no backend.
            Busy: another turn is at what only one may be at.
        """
        rule = self._rule(params.method)
        if params.idempotency_key is None or not known(params.idempotency_key):
            self._check_free(rule, params)
        timeout = params.timeout_ms
        if timeout is None and rule.timeout is not None:
            timeout = int(rule.timeout * 1000)
        idle = int(rule.idle_timeout * 1000) if params.idle_timeout_ms is None else params.idle_timeout_ms
        tied = params.on_disconnect or ("cancel" if rule.on_disconnect == "cancel" else None)
        return msgspec.structs.replace(params, timeout_ms=timeout, idle_timeout_ms=idle, on_disconnect=tied)

    def _check_free(self, rule: JobRule, params: wire.StartParams) -> None:
        key = exclusive_key(rule, dict(variables(rule, "params", _json(params.params))))
        holder = self._exclusive.get(key or "")
        if holder is not None and self._attendance(holder) is not None:
            raise errors.Busy(f"{holder} is at it; wait for it or cancel it", {"job": holder})

    def admitted(self, job: wire.Job) -> None:
        """A job is on its way into the store: if it is a turn, from now on it holds what only one may."""
        if job.kind != "turn":
            return
        rule = self._rule(job.method)
        key = exclusive_key(rule, dict(variables(rule, "params", _json(job.params))))
        if key is not None:
            self._exclusive[key] = job.id

    def _rule(self, method: str | None) -> JobRule:
        if self.backend is None:
            raise errors.InvalidParams("this broker has no backend to take a turn  -> jobctl backend list")
        return self.backend.profile.rule(method or "")

    def start(self, snapshot: Snapshot) -> bool:
        """Give a committed turn to the backend, which is started if need be; False if it is no turn."""
        if snapshot.job.kind != "turn":
            return False
        attendance = self._attendance(snapshot.job.id)
        if self.backend is None or attendance is None:
            self._fail(snapshot.job.id, "this broker has no backend any more")
        elif self._take_over(snapshot):
            self._begin(self.backend, snapshot, attendance)
        return True

    def _take_over(self, snapshot: Snapshot) -> bool:
        """From here on its record says that it may have begun, and its output is ours to write."""
        job = snapshot.job
        try:
            if not self._jobs.note_begun(job.id, os.getpid(), mono_ms()):
                self._fail(job.id, "it was begun before")
                return False
            directory = self._jobs.open(job.id)
        except (OSError, ValueError) as exc:
            self._fail(job.id, f"its directory cannot be used: {exc}")
            return False
        self._snapshots[job.id], self._directories[job.id] = snapshot, directory
        self._captures[job.id] = Capture(directory, snapshot.max_output)
        return True

    def _begin(self, backend: Backend, snapshot: Snapshot, attendance: Attendance) -> None:
        job = snapshot.job

        def cancel(reason: wire.Reason, grace_ms: int) -> None:
            if reason in ("user", "disconnect", "shutdown"):
                backend.cancel_turn(job.id, reason, grace_ms / 1000)

        attendance.turn = cancel
        seconds = {"timeout": job.timeout_ms / 1000, "idle": job.idle_timeout_ms / 1000, "grace": job.grace_ms / 1000}
        backend.start_turn(job.id, job.method or "", _json(job.params), **seconds)

    def _fail(self, name: str, why: str) -> None:
        self.hear(effects.TurnEnded(name, "failed", "spawn", why))

    # --- what becomes of it -----------------------------------------------------------------------------------------

    def hear(self, news: TurnNews) -> None:
        """The backend has news of a turn."""
        match news:
            case effects.TurnBegan(name):
                self._apply(name, life.Started(None, wall_ms(), mono_ms()))
            case effects.TurnOutput(name, stream, text):
                capture = self._captures.get(name)
                if capture is not None:
                    capture.store(STDOUT if stream == "stdout" else STDERR, text.encode("utf-8", "replace"))
            case effects.TurnEnded():
                self._ended.append(news)
                self._arrived.set()

    async def settled(self) -> None:
        """Wait until every end that was heard of is committed and told."""
        while self._ended:
            await self._settled.wait()

    async def _settle(self) -> None:
        """Committed, then told. A store that cannot be written does not keep a turn running."""
        group = list(self._ended)
        events = {ended.name: self._event(ended) for ended in group}
        promised: list[Snapshot] = []
        for name, event in events.items():
            snapshot = self._snapshots.get(name)
            if snapshot is not None and is_live(snapshot.job):
                copy = msgspec.structs.replace(snapshot, job=msgspec.structs.replace(snapshot.job))
                life.apply(copy, event)
                promised.append(copy)
        try:
            await self._store.commit(put=promised)
        except errors.StoreUnavailable as exc:
            log.warning("ends of turns not committed: %s", exc)
        for name, event in events.items():
            self._snapshots.pop(name, None)
            self._apply(name, event)
        del self._ended[: len(group)]
        self._settled.set()
        self._settled = trio.Event()

    def _event(self, ended: effects.TurnEnded) -> life.TurnEnded:
        out, err = self._close(ended.name)
        return life.TurnEnded(ended.status, ended.reason, ended.error, wall_ms(), mono_ms(), out, err)

    def _close(self, name: str) -> tuple[wire.Stream, wire.Stream]:
        """Write no more of its output; how much there is."""
        capture, directory = self._captures.pop(name, None), self._directories.pop(name, None)
        if capture is None or directory is None:
            return self._measure(name)
        capture.close()
        os.close(directory)
        size, dropped = capture.size, capture.dropped
        return (
            wire.Stream(size[STDOUT], dropped[STDOUT], closed=True),
            wire.Stream(size[STDERR], dropped[STDERR], closed=True),
        )

    def _measure(self, name: str) -> tuple[wire.Stream, wire.Stream]:
        """How much there is of the output that another broker wrote."""
        try:
            with self._jobs.opened(name) as directory, opened_output(directory) as reader:
                out, err = Totals().look(reader)
        except OSError:
            return wire.Stream(closed=True), wire.Stream(closed=True)
        return out, err

    def lose(self, snapshot: Snapshot) -> None:
        """A turn of a broker that is gone: it ended with the backend of that one."""
        self._snapshots[snapshot.job.id] = snapshot
        error = "the broker that ran it ended, and the backend with it"
        self.hear(effects.TurnEnded(snapshot.job.id, "failed", "backend_exit", error))

    def forget(self, job: wire.Job) -> None:
        """A turn has ended: what only one may be at is free."""
        for key, name in list(self._exclusive.items()):
            if name == job.id:
                del self._exclusive[key]


def _json(params: wire.JsonParams | None) -> Json:
    return cast("Json", params)  # it was read from JSON
