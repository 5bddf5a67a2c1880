"""Ticks at work: what `core/tick.py` decides is done here, line by line and runner by runner.

A tick under way is a state, and a task for the runner that runs. What the next broker must know of it is on its way
into the store before its job is.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping

import trio

from jobbroker import runners
from jobbroker.admission import Admission
from jobbroker.clock import mono_ms, wall_ms
from jobbroker.core import entry
from jobbroker.core.batch import Batches
from jobbroker.core.entry import Line
from jobbroker.core.job import Snapshot, is_live, timestamp
from jobbroker.core.schedule import Runner
from jobbroker.core.table import Table
from jobbroker.core.tick import State, step, with_left
from jobbroker.core.tickevents import (
    AskGate,
    Begin,
    Cut,
    Details,
    Effect,
    Event,
    GateFailed,
    GateOpened,
    JobBegun,
    ResultSaid,
    Run,
    RunnerEnded,
    Tell,
    Tick,
    Trigger,
)
from jobbroker.core.unclosed import DIED
from jobbroker.history import History
from jobbroker.leadership import Leaders
from jobbroker.runners import Builtin, Here, Start
from jobbroker.scheduled import Scheduled, Waiting
from jobbroker.schedulefacts import ScheduleFacts
from jobbroker.supervision import Supervision
from jobbroker.ticklog import TickLog
from jobclient.protocol import errors

log = logging.getLogger("jobbroker.timed")


class Jobs:
    """What ticks have to do with jobs.

    Attributes:
        start: takes one in.
    """

    def __init__(self, start: Start, table: Table, history: History, supervision: Supervision) -> None:
        self.start = start
        self._table = table
        self._history = history
        self._supervision = supervision

    def find(self, job: str) -> Snapshot | None:
        """The job with that id."""
        return self._table.get(job) or self._history.get(job)

    def end_of(self, job: str) -> trio.Event | None:
        """What is set at the end of a live job; None if it has ended."""
        attendance = self._supervision.live.get(job)
        return None if attendance is None else attendance.ended


class Ticking:
    """The ticks of all schedules.

    Attributes:
        paused: none may run anything now.
        batches: gives out batch ids.
        leaders: who may run what.
        builtins: what the broker does itself, by name.
    """

    def __init__(
        self,
        *,
        facts: ScheduleFacts,
        here: Here,
        log_file: TickLog,
        jobs: Jobs,
        builtins: Mapping[str, Builtin],
        tell: Callable[[str, Tick], None],
        leaving: Callable[[], bool],
    ) -> None:
        """`tell` hears of ticks, each with its schedule's name; `leaving`: the broker ends, nothing more is begun."""
        self.leaving = leaving
        self.paused = False
        self.batches = Batches()
        self.leaders = Leaders(here.controller, facts.term, facts.post_term)
        self._facts = facts
        self._here = here
        self._log = log_file
        self._jobs = jobs
        self.builtins = builtins
        self._tell = tell
        self._waiting: dict[str, Waiting] = {}
        self._events: deque[tuple[Scheduled, Event]] = deque()
        self._feeding = False
        self._changed: dict[str, Scheduled] = {}
        self._of_batch: dict[str, Scheduled] = {}
        self._nursery: trio.Nursery

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Own the tasks of runners; ends when it is cancelled, which ends no job."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    # --- from outside -----------------------------------------------------------------------------------------------

    def begin(self, scheduled: Scheduled, trigger: Trigger, details: Details) -> Waiting:
        """Let a schedule tick now; what is decided is known when this returns."""
        batch = self.batches.take(wall_ms())
        waiting = self._waiting[batch] = Waiting()
        names = tuple(runner.name for runner in scheduled.definition.runners)
        if scheduled.state.flight is None:
            scheduled.flying = scheduled.definition
        self._feed(scheduled, Begin(batch, trigger, names, details))
        return waiting

    def say_result(self, scheduled: Scheduled, said: ResultSaid) -> None:
        """The runner that runs says what its result is."""
        self._feed(scheduled, said)

    def cut(self, scheduled: Scheduled, why: str) -> None:
        """End the tick that is under way, if there is one, without its job."""
        flight = scheduled.state.flight
        if flight is not None:
            left = (flight.job,) if flight.job is not None and self.is_live(flight.job) else ()
            self._feed(scheduled, Cut(why, left))

    def adopt(self, scheduled: Scheduled, live: list[Snapshot]) -> None:
        """Take over from a broker that died: its tick is over; jobs of it that live keep the schedule busy."""
        flight = scheduled.state.flight
        known = {*scheduled.state.left, *([flight.job] if flight is not None else [])}
        scheduled.state = with_left(
            scheduled.state, {snapshot.job.id: _whose(snapshot) for snapshot in live if snapshot.job.id not in known}
        )
        if flight is not None:
            left = (flight.job,) if flight.job is not None and self._jobs.find(flight.job) is not None else ()
            self._feed(scheduled, Cut(DIED, left))
        self._note_change(scheduled, scheduled.state)
        for job, (batch, runner) in scheduled.state.left.items():
            self._nursery.start_soon(self._await_left, scheduled, job, batch, runner)

    def at_work(self, batch: str, runner: str) -> Scheduled | None:
        """The schedule in whose tick that runner runs now, or its job still does; None if it runs in none."""
        scheduled = self._of_batch.get(batch)
        if scheduled is None:
            return None
        flight = scheduled.state.flight
        runs = flight is not None and flight.at >= 0 and (flight.batch, flight.runners[flight.at]) == (batch, runner)
        return scheduled if runs or (batch, runner) in scheduled.state.left.values() else None

    def note(self, line: Line, schedule: str | None) -> None:
        """Write a line into the log."""
        now = wall_ms()
        ts = timestamp(now)
        batch = line.batch
        if batch is None:
            batch = self.batches.take(now)
            self._facts.post_batches(self.batches.floor_ms)
        self._log.write(entry.encode(line, schedule=schedule, batch=batch, ts=ts), ts)

    def is_live(self, job: str) -> bool:
        """Whether a job of that id has not ended."""
        snapshot = self._jobs.find(job)
        return snapshot is not None and is_live(snapshot.job)

    # --- events and what follows ------------------------------------------------------------------------------------

    def _feed(self, scheduled: Scheduled, event: Event) -> None:
        """Let an event act on the tick of a schedule, and do what follows; what that brings about comes behind it."""
        self._events.append((scheduled, event))
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                self._act(*self._events.popleft())
        finally:
            self._feeding = False  # whatever happened here, it must not be the end of all ticks
        self._save()

    def _act(self, scheduled: Scheduled, event: Event) -> None:
        before = scheduled.state
        scheduled.state, effects = step(before, event, mono_ms())
        self._note_change(scheduled, before)
        for effect in effects:
            self._perform(scheduled, effect)
        if scheduled.state.flight is None:
            scheduled.idle.set()
        elif scheduled.idle.is_set():
            scheduled.idle = trio.Event()

    def _note_change(self, scheduled: Scheduled, before: State) -> None:
        self._changed[scheduled.name] = scheduled
        now = scheduled.state.batches
        for batch in before.batches - now:
            self._of_batch.pop(batch, None)
        for batch in now:
            self._of_batch[batch] = scheduled

    def _save(self) -> None:
        """What changed, for the next broker: with what is committed from now on, or before it."""
        for scheduled in self._changed.values():
            if not scheduled.going:
                self._facts.post(scheduled.name, scheduled.standing)
        self._changed.clear()

    def _perform(self, scheduled: Scheduled, effect: Effect) -> None:
        match effect:
            case Line():
                self.note(effect, scheduled.name)
            case AskGate(batch):
                self._feed(scheduled, self._ask_gate(scheduled, batch))
            case Run():
                self._run(scheduled, effect)
            case Tell(tick):
                waiting = self._waiting.get(tick.batch)
                if waiting is not None:
                    waiting.tick = tick
                    if tick.result is not None:
                        self._waiting.pop(tick.batch).over.set()
                self._tell(scheduled.name, tick)

    def _ask_gate(self, scheduled: Scheduled, batch: str) -> Event:
        """Whether this broker may run the runners now."""
        try:
            term = self.leaders.lead(scheduled.flying.leader_lock)
        except OSError as exc:
            return GateFailed(batch, f"leaderLock cannot be used: {exc.strerror or exc}")
        if term is None:
            return GateOpened(batch, "skipped_not_leader")
        if self.paused or scheduled.definition.paused:
            return GateOpened(batch, "skipped_system_paused")
        config = scheduled.flying.config
        context: dict[str, object] = {
            "controller_id": self._here.controller,
            "host": self._here.host,
            "max_messages_per_tick": config.max_messages_per_tick,
            "max_tasks_per_tick": config.max_tasks_per_tick,
            "settle_delay_ms": config.settle_delay_ms,
        }
        return GateOpened(batch, "scheduled", term, context)

    # --- runners ----------------------------------------------------------------------------------------------------

    def _run(self, scheduled: Scheduled, order: Run) -> None:
        runner = next(each for each in scheduled.flying.runners if each.name == order.runner)
        if self.leaving():
            self._end(scheduled, order, "the broker ended during the tick")
        elif runner.start is None:
            self._nursery.start_soon(self._do, scheduled, order, runner)
        else:
            self._start(scheduled, order, runner.start)

    def _end(self, scheduled: Scheduled, order: Run, error: str) -> None:
        self._feed(scheduled, RunnerEnded(batch=order.batch, runner=order.runner, ok=False, error=error))

    def _start(self, scheduled: Scheduled, order: Run, params: runners.StartParams) -> None:
        flight, flying = scheduled.state.flight, scheduled.flying
        assert flight is not None  # noqa: S101  # it asked for this
        given = runners.handout(flying, order, flight.trigger, self._here)
        self._save()  # the tick first, then its job
        try:
            admission = runners.admit(self._jobs.start, params, given)
        except errors.RemoteError as exc:
            self._end(scheduled, order, exc.message)
            return
        except Exception:
            log.exception("fault in starting a runner: schedule=%s runner=%s", scheduled.name, order.runner)
            self._end(scheduled, order, "a fault of the broker; see its log")
            return
        self._feed(scheduled, JobBegun(order.batch, admission.snapshot.job.id))
        self._nursery.start_soon(self._await_job, scheduled, order, admission)

    async def _await_job(self, scheduled: Scheduled, order: Run, admission: Admission) -> None:
        await admission.settled.wait()
        if admission.failure is not None:
            self._end(scheduled, order, admission.failure.message)
            return
        end = self._jobs.end_of(admission.snapshot.job.id)
        if end is not None:
            await end.wait()
        self._feed(scheduled, runners.outcome(admission.snapshot))

    async def _await_left(self, scheduled: Scheduled, job: str, batch: str, runner: str) -> None:
        """The job of a tick that was cut keeps its schedule busy, until it ends."""
        end = self._jobs.end_of(job)
        if end is not None:
            await end.wait()
        snapshot = self._jobs.find(job)
        if snapshot is None or is_live(snapshot.job):
            error = "its job is not there any more"
            self._feed(scheduled, RunnerEnded(batch=batch, runner=runner, ok=False, error=error, job=job))
        else:
            self._feed(scheduled, runners.outcome(snapshot))

    async def _do(self, scheduled: Scheduled, order: Run, runner: Runner) -> None:
        work = self.builtins.get(runner.builtin or "")
        if work is None:
            self._end(scheduled, order, f"this broker has no {runner.builtin!r} of its own")
        else:
            self._feed(scheduled, await runners.do(work, runner, order.batch))


def _whose(snapshot: Snapshot) -> tuple[str, str]:
    tick = snapshot.job.tick
    assert tick is not None  # noqa: S101  # it would not be among them
    return tick.batch_id, tick.runner
