"""A tick of a schedule: the states it goes through, the events that move it, what is to be done. Pure and total.

One tick at a time, whatever triggers it: whether there is one is decided before anybody else has a turn. The gate,
which says whether this broker may run the runners now, is only asked where there are runners. They run one after
another; one that fails does not keep the next from running.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from jobbroker.core.entry import Line
from jobbroker.core.tickevents import (
    EVENTS,
    NOTHING,
    AskGate,
    Begin,
    Cut,
    Decision,
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

# --- states ---------------------------------------------------------------------------------------------------------


class Flight(Struct, frozen=True, kw_only=True):
    """A tick under way.

    Attributes:
        begun_ms: on the clock of this boot, as `runner_begun_ms`.
        at: which of its runners runs, -1 while the gate is asked.
        failed: runners that failed.
        job: the one that runs.
        result, details: what the runner that runs said of itself.
    """

    batch: str
    trigger: Trigger
    runners: tuple[str, ...]
    begun_ms: int
    at: int = -1
    term: int = 0
    context: Details = NOTHING
    runner_begun_ms: int = 0
    failed: int = 0
    job: str | None = None
    result: str | None = None
    details: Details = NOTHING


class State(Struct, frozen=True, kw_only=True):
    """The tick of a schedule.

    Attributes:
        flight: the one under way.
        left: live jobs of ticks that were cut, with their batch and runner.
        streak: how many ticks in a row found it busy.
        last: the latest tick that was decided.
    """

    flight: Flight | None = None
    left: dict[str, tuple[str, str]] = {}
    streak: int = 0
    last: Tick | None = None

    @property
    def busy(self) -> bool:
        """Whether a tick would be skipped for that."""
        return self.flight is not None or bool(self.left)

    @property
    def batches(self) -> set[str]:
        """The batches of which something still runs."""
        under_way = {batch for batch, _ in self.left.values()}
        return under_way if self.flight is None else {*under_way, self.flight.batch}


Phase: TypeAlias = Literal["idle", "left", "asking", "running"]
Outcome: TypeAlias = tuple[State, list[Effect]]
Change: TypeAlias = Callable[[State, Event, int], Outcome]


def phase(state: State) -> Phase:
    """Where a schedule stands."""
    if state.flight is not None:
        return "asking" if state.flight.at < 0 else "running"
    return "left" if state.left else "idle"


def _decided(state: State, tick: Tick) -> State:
    return replace(state, streak=state.streak + 1 if tick.decision == "skipped_busy" else 0, last=tick)


def _begin(state: State, event: Event, now_ms: int) -> Outcome:
    assert isinstance(event, Begin)
    details = {**event.details, "trigger": event.trigger}
    if not event.runners:
        why: Decision = "skipped_no_runners"
        tick = Tick(batch=event.batch, trigger=event.trigger, decision=why, runner_count=0, result=why)
        line = Line(stage="tick_skipped_no_runners", batch=event.batch, result=why, details=details)
        return _decided(state, tick), [line, Tell(tick)]
    flight = Flight(batch=event.batch, trigger=event.trigger, runners=event.runners, begun_ms=now_ms)
    details |= {"runner_count": len(event.runners)}
    line = Line(stage="tick_started", batch=event.batch, result="running", details=details)
    return replace(state, flight=flight), [line, AskGate(event.batch)]


def _skip(state: State, event: Event, _: int) -> Outcome:
    """Busy: this decides before anything else, the gate included."""
    assert isinstance(event, Begin)
    tick = Tick(
        batch=event.batch,
        trigger=event.trigger,
        decision="skipped_busy",
        runner_count=len(event.runners),
        result="skipped_busy",
    )
    state = _decided(state, tick)
    details = {**event.details, "trigger": event.trigger, "busy_streak": state.streak}
    line = Line(stage="tick_skipped_busy", batch=event.batch, result="skipped_busy", details=details)
    return state, [line, Tell(tick)]


def _pass_gate(state: State, event: Event, now_ms: int) -> Outcome:
    assert isinstance(event, GateOpened)
    flight = state.flight
    if flight is None or flight.batch != event.batch:
        return state, []
    if event.decision == "scheduled":
        tick = _tick(flight, "scheduled")
        flight = replace(flight, term=event.term, context=event.details)
        state, effects = _run(_decided(state, tick), flight, 0, now_ms)
        return state, [Tell(tick), *effects]
    why = event.decision
    tick = _tick(flight, why, result=why, duration_ms=now_ms - flight.begun_ms)
    trigger = {"trigger": flight.trigger}
    skipped = [
        Line(stage="runner_skipped", runner=name, batch=flight.batch, result=why, duration_ms=0, details=trigger)
        for name in flight.runners
    ]
    details = {**trigger, "runner_count": len(flight.runners)}
    line = _framework(flight, "tick_completed", why, tick.duration_ms, details)
    return _decided(replace(state, flight=None), tick), [*skipped, line, Tell(tick)]


def _fail(state: State, event: Event, now_ms: int) -> Outcome:
    assert isinstance(event, GateFailed)
    flight = state.flight
    if flight is None or flight.batch != event.batch:
        return state, []
    return _close_failed(state, flight, event.error, now_ms)


def _close_failed(state: State, flight: Flight, error: str, now_ms: int | None) -> Outcome:
    duration = None if now_ms is None else now_ms - flight.begun_ms
    tick = _tick(flight, "failed", result="failed", duration_ms=duration, error=error)
    details = {"runner_count": len(flight.runners), "trigger": flight.trigger}
    line = _framework(flight, "tick_failed", "failed", duration, details, error)
    return _decided(replace(state, flight=None), tick), [line, Tell(tick)]


def _note_job(state: State, event: Event, _: int) -> Outcome:
    assert isinstance(event, JobBegun)
    flight = state.flight
    if flight is None or flight.batch != event.batch:
        return state, []
    return replace(state, flight=replace(flight, job=event.job)), []


def _note_result(state: State, event: Event, _: int) -> Outcome:
    assert isinstance(event, ResultSaid)
    flight = state.flight
    if flight is None or (flight.batch, flight.runners[flight.at]) != (event.batch, event.runner):
        return state, []
    return replace(state, flight=replace(flight, result=event.result, details=event.details)), []


def _go_on(state: State, event: Event, now_ms: int) -> Outcome:
    """A runner has ended: the next one, or the end of the tick. Only those count that ran."""
    assert isinstance(event, RunnerEnded)
    flight = state.flight
    if flight is None or (flight.batch, flight.runners[flight.at]) != (event.batch, event.runner):
        return _forget(state, event, now_ms)
    said = (event.result or flight.result or "ok") if event.ok else (event.result or "failed")
    line = Line(
        stage="runner_completed" if event.ok else "runner_failed",
        runner=event.runner,
        batch=flight.batch,
        result=said,
        error=event.error,
        duration_ms=now_ms - flight.runner_begun_ms,
        details={**flight.details, **event.details},
    )
    flight = replace(flight, failed=flight.failed + (not event.ok), job=None, result=None, details=NOTHING)
    if flight.at + 1 < len(flight.runners):
        state, effects = _run(state, flight, flight.at + 1, now_ms)
        return state, [line, *effects]
    count = len(flight.runners)
    result = "completed_with_failures" if flight.failed else "scheduled"
    tick = _tick(flight, "scheduled", result=result, duration_ms=now_ms - flight.begun_ms)
    details = {
        "failed_runner_count": flight.failed,
        "runner_count": count,
        "successful_runner_count": count - flight.failed,
        "trigger": flight.trigger,
    }
    last = _framework(flight, "tick_completed", result, tick.duration_ms, details)
    return replace(state, flight=None, last=tick), [line, last, Tell(tick)]


def _run(state: State, flight: Flight, at: int, now_ms: int) -> Outcome:
    name = flight.runners[at]
    flight = replace(flight, at=at, runner_begun_ms=now_ms)
    details = {**flight.context, "term": flight.term, "trigger": flight.trigger}
    line = Line(stage="runner_started", runner=name, batch=flight.batch, result="running", details=details)
    return replace(state, flight=flight), [line, Run(flight.batch, name, flight.term)]


def _cut(state: State, event: Event, _: int) -> Outcome:
    """How long it took is not said: who cuts it may not be who began it."""
    assert isinstance(event, Cut)
    flight = state.flight
    if flight is None:
        return state, []
    runner = flight.runners[max(flight.at, 0)]
    left = {**state.left, **dict.fromkeys(event.left, (flight.batch, runner))}
    return _close_failed(replace(state, left=left), flight, event.error, None)


def _forget(state: State, event: Event, _: int) -> Outcome:
    """The job of a tick that was cut has ended. It is said under the batch it belongs to."""
    assert isinstance(event, RunnerEnded)
    if event.job not in state.left:
        return state, []
    left = {job: whose for job, whose in state.left.items() if job != event.job}
    line = Line(
        stage="runner_completed" if event.ok else "runner_failed",
        runner=event.runner,
        batch=event.batch,
        result=event.result or ("ok" if event.ok else "failed"),
        error=event.error,
        duration_ms=event.duration_ms,
        details=event.details,
    )
    return replace(state, left=left), [line]


def _ignore(state: State, _event: Event, _now_ms: int) -> Outcome:
    return state, []


def _tick(
    flight: Flight,
    decision: Decision,
    *,
    result: str | None = None,
    duration_ms: int | None = None,
    error: str | None = None,
) -> Tick:
    return Tick(
        batch=flight.batch,
        trigger=flight.trigger,
        decision=decision,
        runner_count=len(flight.runners),
        result=result,
        failed=flight.failed,
        duration_ms=duration_ms,
        error=error,
    )


def _framework(
    flight: Flight, stage: str, result: str, duration_ms: int | None, details: Details, error: str | None = None
) -> Line:
    return Line(stage=stage, batch=flight.batch, result=result, error=error, duration_ms=duration_ms, details=details)


# Columns follow EVENTS.
TABLE: dict[Phase, tuple[Change, ...]] = {
    #           Begin   GateOpened  GateFailed JobBegun   ResultSaid    RunnerEnded Cut
    "idle":    (_begin, _ignore,    _ignore,   _ignore,   _ignore,      _ignore,    _ignore),
    "left":    (_skip,  _ignore,    _ignore,   _ignore,   _ignore,      _forget,    _ignore),
    "asking":  (_skip,  _pass_gate, _fail,     _ignore,   _ignore,      _ignore,    _cut),
    "running": (_skip,  _ignore,    _ignore,   _note_job, _note_result, _go_on,     _cut),
}  # fmt: skip
_CHANGES: dict[tuple[Phase, type[Event]], Change] = {
    (where, event): change for where, row in TABLE.items() for event, change in zip(EVENTS, row, strict=True)
}


def with_left(state: State, jobs: Mapping[str, tuple[str, str]]) -> State:
    """Jobs of it, with batch and runner, were found to live: it is busy until they end."""
    return replace(state, left={**state.left, **jobs}) if jobs else state


def step(state: State, event: Event, now_ms: int) -> Outcome:
    """Let an event act on the tick of a schedule: how it stands then, and what is to be done, in this order."""
    return _CHANGES[phase(state), type(event)](state, event, now_ms)
