"""The broker: the one place where jobs change. It admits them, lets events act on them, ends and removes them.

Told is committed: what a record cannot prove is in the store before it is answered or acted on. Everything else is
proven by records, so a change is announced at once and written when the store gets to it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import trio
from msgspec import Struct

from jobbroker.admission import Admission, Admissions
from jobbroker.backend import Backend
from jobbroker.budget import Budget
from jobbroker.core import job as life, reference
from jobbroker.core.changes import Changes
from jobbroker.core.job import Snapshot, is_terminal
from jobbroker.core.record import DamagedRecord
from jobbroker.core.table import Table
from jobbroker.core.usage import Usage
from jobbroker.ending import Endings
from jobbroker.events import Events
from jobbroker.feeds import Feeds
from jobbroker.following import Following
from jobbroker.history import History
from jobbroker.inflow import Inflow
from jobbroker.jobdir import JobDirectories
from jobbroker.output import OutputReader, opened_output
from jobbroker.removal import Removals
from jobbroker.requests import ForTick, Surroundings
from jobbroker.searching import Searching
from jobbroker.settings import Settings
from jobbroker.store import Store
from jobbroker.supervision import Supervision
from jobbroker.ties import Ties
from jobbroker.timed import Timed
from jobbroker.totals import Totals
from jobbroker.turns import TurnJobs
from jobbroker.volatile import VolatileOutputs
from jobbroker.waiting import WaitingRoom
from jobclient.protocol import errors, wire

T = TypeVar("T")

PRUNE_EVERY = 100
"""Ends of jobs between two looks for jobs to prune."""

log = logging.getLogger("jobbroker.jobs")


class About(Struct, frozen=True):
    """Which broker this is, and where it keeps things."""

    instance: str
    epoch: str
    started_at: str
    started_mono_ms: int
    paths: wire.Places


class Leaving(Struct, frozen=True):
    """Why and how the broker ends."""

    reason: str
    cancel_jobs: bool = False
    grace_ms: int | None = None


class Broker:
    """All jobs of an instance.

    Attributes:
        table: the jobs in memory.
        events: who hears of changes.
        volatile: output that is kept in memory only.
        following: who waits for jobs to write more.
        searching: who waits for a line that matches.
        held: nothing is started yet, or any more.
        leaving: why the broker ends, None while it does not; `left` is set with it.
        connections: clients connected.
        active: set, and replaced, whenever something happens that an idle broker would not see.
        timed: schedules, and their ticks.
        turns: the jobs that run on the backend.
        backend: the process all clients share, None if this instance fronts none.
        usage: how much disk all output takes.
        overfull: set when more may be kept than the settings want: ended jobs, or their output.
    """

    def __init__(
        self,
        *,
        about: About,
        settings: Settings,
        store: Store,
        jobs: JobDirectories,
        table: Table,
        around: Surroundings,
    ) -> None:
        self.about = about
        self.settings = settings
        self.store = store
        self.jobs = jobs
        self.table = table
        self.volatile = VolatileOutputs()
        self.following = Following(self._output_size)
        feeds = Feeds(self.opened_output, self._output_size, self.following)
        self.events = Events(about.epoch, Changes(store.rev), feeds)
        self.searching = Searching(self.opened_output, self.following)
        self.history = History(store.rows)
        self.waiting = WaitingRoom()
        self.inflow = Inflow()
        self.supervision = Supervision(jobs, self.volatile, self.apply, self._requeue)
        self.admissions = Admissions(store, jobs, table, self.supervision, settings, around)
        self.endings = Endings(store, self.supervision, self.apply)
        self.timed: Timed
        self.usage = Usage()
        self.removals = Removals(
            store, jobs, self.volatile, table, self.events, self.usage, self._touch, self._announce
        )
        self.budget = Budget(settings.max_total_output, self.usage, store, jobs, table, self.removals)
        self.held = True
        self.leaving: Leaving | None = None
        self.left = trio.Event()
        self.connections = 0
        self.active = trio.Event()
        self.overfull = trio.Event()
        self.backend: Backend | None = None
        self.turns = TurnJobs(jobs, store, self.apply, self.supervision.live.get)
        self.troubles: list[str] = []
        self._ends = 0
        self._reconciled = False
        self._ties = Ties()
        self._nursery: trio.Nursery

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Own the tasks that must outlive a client's: admissions, and whatever `through` is given."""
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self.supervision.run)
            await self._nursery.start(self.following.run)
            await self._nursery.start(self.events.feeds.run)
            self._nursery.start_soon(self.turns.run)
            task_status.started()
            await self.admissions.run(self._accept, self.start_due)

    async def through(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something to its end even if whoever waits for it leaves."""
        done = trio.Event()
        result: list[T] = []
        failure: list[errors.JobBrokerError] = []

        async def carry_out() -> None:
            try:
                result.append(await work())
            except errors.JobBrokerError as exc:
                failure.append(exc)
            except Exception:
                log.exception("fault in work that outlives its client")
                failure.append(errors.InternalError("a fault of the broker's own; its log has the details"))
            finally:
                done.set()

        self._nursery.start_soon(carry_out)
        await done.wait()
        if failure:
            raise failure[0]
        return result[0]

    # --- starting ---------------------------------------------------------------------------------------------------

    def admit(
        self, params: wire.StartParams, origin: wire.Origin, owner: object, tick: ForTick | None = None
    ) -> tuple[Admission | Snapshot, bool]:
        """Take in a job: its number is given now, its promise comes with the commit.

        Returns:
            The admission to wait for, or the job its idempotency key already has; and whether this request made it.
        """
        if self.leaving is not None:
            raise errors.ShuttingDown("the broker is shutting down; ask again, the next one will take the job")
        if params.kind == "turn" or params.method is not None:
            params = self.turns.completed(params, self.admissions.has_key)
        found, created = self.admissions.admit(params, origin, tick)
        if created and isinstance(found, Admission):
            self.turns.admitted(found.snapshot.job)
            if params.on_disconnect == "cancel":
                self._ties.tie(found.snapshot.job.id, owner)
        return found, created

    def _accept(self, snapshot: Snapshot) -> None:
        """A job is committed: it is one of ours from now on."""
        self.table.add(snapshot)
        self._touch(snapshot, new=True)
        log.info("queued: id=%s number=%d", snapshot.job.id, snapshot.job.number)
        self._announce(snapshot)
        if snapshot.on_disconnect == "cancel" and self.leaving is None and not self._ties.is_tied(snapshot.job.id):
            self.cancel_soon(snapshot.job.id, "disconnect")  # its starter left before it was committed

    async def take_back(self, snapshot: Snapshot) -> None:
        """A job whose record proves it, and which has no row, is one of ours again. Its number stays, if it is free."""
        job, rows = snapshot.job, self.store.rows
        if not job.number or self.table.by_number(job.number) or rows.by_number(job.number):
            job.number = self.store.take_number()
        if snapshot.key is not None and self.admissions.has_key(snapshot.key):
            snapshot.key = None
        self._touch(snapshot, new=True)
        await self.store.commit(put=[snapshot])
        self.table.add(snapshot)
        if job.status in ("running", "stopped"):
            self.table.occupy(snapshot)
        log.warning("taken back, it had no row: id=%s number=%d status=%s", job.id, job.number, job.status)
        self._announce(snapshot)

    def start_due(self) -> None:
        """Hand over the jobs that have a slot now."""
        if self.held:
            return
        for snapshot in self.table.next_to_start(self.settings.max_running):
            if not self.turns.start(snapshot):
                self.supervision.start(snapshot.job.id)

    def _requeue(self, name: str) -> None:
        snapshot = self.table.get(name)
        if snapshot is not None:
            self.table.requeue(snapshot)
            self.start_due()

    def release(self) -> None:
        """Everything found at the start is known: let jobs start."""
        self.held = self.leaving is not None
        self.start_due()

    def leave(self, how: Leaving) -> None:
        """Begin to end the broker; the first reason counts."""
        if self.leaving is None:
            self.leaving = how
            self.held = True
            self.left.set()

    @property
    def live(self) -> int:
        """Jobs that have not ended, those on their way in included."""
        return self.table.live + self.admissions.under_way

    def stir(self) -> None:
        """Something happened that matters to whether the broker is idle."""
        self.active.set()
        self.active = trio.Event()

    # --- changing ---------------------------------------------------------------------------------------------------

    def apply(self, name: str, event: life.Event) -> None:
        """Let an event act on a job, and tell of it."""
        snapshot = self.table.get(name)
        if snapshot is None:
            return
        try:
            changed = life.apply(snapshot, event)
        except life.IllegalTransition as exc:
            log.error("illegal: %s", exc)
            return
        if not changed:
            return
        if isinstance(event, life.Lost):
            self._measure(snapshot.job)
        self._touch(snapshot)
        self.store.post(put=[snapshot])
        self.table.update(snapshot)
        self._log_change(snapshot.job, event)
        if is_terminal(snapshot.job):
            self.table.release(snapshot)
            self._ties.untie(name)
            self.turns.forget(snapshot.job)
            self.supervision.live.leave(name)
            self.volatile.end(name)
            self.following.end(name)
            self.start_due()
            self.stir()
            self._note_end(snapshot)
        elif isinstance(event, life.Started):
            attendance = self.supervision.live.get(name)
            if attendance is not None:
                attendance.begun.set()
        elif isinstance(event, life.Stopped | life.Continued | life.EndAsked | life.EndBegun):
            attendance = self.supervision.live.get(name)
            if attendance is not None:
                attendance.turned.set()
                attendance.turned = trio.Event()
        self._announce(snapshot)

    def _note_end(self, snapshot: Snapshot) -> None:
        """Pruning is done now and then, not at each end."""
        self._ends += 1
        if self.budget.note_end(snapshot) or self._ends % PRUNE_EVERY == 0:
            self.overfull.set()

    def _touch(self, snapshot: Snapshot, *, new: bool = False) -> None:
        changes, name = self.events.changes, snapshot.job.id
        snapshot.job.rev = changes.made(name) if new else changes.changed(name)

    def _announce(self, snapshot: Snapshot) -> None:
        self.waiting.tell(snapshot.job)
        self.events.updated(snapshot)

    @staticmethod
    def _log_change(job: wire.Job, event: life.Event) -> None:
        detail = f" reason={job.reason} exit={job.exit_code} signal={job.signal}" if is_terminal(job) else ""
        log.info("%s: id=%s event=%s%s", job.status, job.id, type(event).__name__, detail)

    def reconcile(self) -> None:
        """Take in what has happened by now. Called on every path that reads, before anything is sorted or cut."""
        if not self._reconciled:
            self._reconciled = True
            self.supervision.reconcile()

    def time_has_passed(self) -> None:
        """Requests were read: `reconcile` must look again, once for all that came together."""
        self._reconciled = False

    # --- reading ----------------------------------------------------------------------------------------------------

    def find(self, text: str) -> Snapshot:
        """The job a reference means, as it is now."""
        self.reconcile()
        return reference.find(text, self.table, self.history)

    def view(self, snapshot: Snapshot) -> wire.Job:
        """A job as clients see it; a live one with what it has written so far."""
        if snapshot.job.status in ("running", "stopped"):
            self._measure(snapshot.job)
        return snapshot.job

    def degraded(self) -> list[str]:
        """What is wrong with the broker, in sentences; nothing, as a rule."""
        store = self.store.degraded
        unwritten = [f"the store cannot be written: {store}"] if store is not None else []
        return [*self.troubles, *unwritten, *self.timed.degraded()]

    def environment(self, name: str) -> list[bytes]:
        """The environment a job was started with; its record is the only place it is kept in."""
        try:
            return self.jobs.read(name).head.env
        except (OSError, DamagedRecord) as exc:
            raise errors.JobNotFound(f"the record of {name} cannot be read: {exc}") from exc

    @contextmanager
    def opened_output(self, job: wire.Job) -> Generator[OutputReader]:
        """What a job has written, to be read in the block, in which nobody else has a turn.

        Raises:
            ResultUnavailable: it was kept in memory only, and is gone.
            OSError: its directory is gone, or was replaced by something else.
        """
        if job.persist:
            with self.jobs.opened(job.id) as directory, opened_output(directory) as reader:
                yield reader
        else:
            attendance = self.supervision.live.get(job.id)
            yield self.volatile.reader(job, attendance.claim if attendance is not None else None)

    def _output_size(self, name: str) -> int:
        size = self.volatile.size(name)
        return self.jobs.output_size(name) if size is None else size

    def _measure(self, job: wire.Job) -> None:
        attendance = self.supervision.live.get(job.id)
        totals = attendance.totals if attendance is not None else Totals()
        try:
            with self.opened_output(job) as output:
                out, err = totals.look(output)
        except (OSError, errors.ResultUnavailable):
            return
        over = is_terminal(job)
        job.stdout = wire.Stream(out.size, out.dropped, closed=over)
        job.stderr = wire.Stream(err.size, err.dropped, closed=over)

    # --- ending -----------------------------------------------------------------------------------------------------

    def disconnected(self, owner: object) -> None:
        """A connection is gone: jobs that were to end with it, end. If we end it, that is the next broker's to do."""
        for name in self._ties.cut(owner):
            if self.leaving is None:
                self.cancel_soon(name, "disconnect")

    def cancel_soon(self, name: str, reason: wire.Reason) -> None:
        """Begin to cancel a job."""
        snapshot = self.table.get(name)
        if snapshot is not None:
            self._nursery.start_soon(self.endings.cancel_quietly, snapshot, reason)

    def knows(self, name: str) -> bool:
        """Whether a job of that id was accepted, or is being."""
        return bool(name in self.supervision.live or self.table.get(name) or self.store.rows.get(name))
