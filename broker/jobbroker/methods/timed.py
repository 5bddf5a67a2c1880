"""`timed/*`: schedules, their ticks, and the log of both."""

from __future__ import annotations

import msgspec
import trio

from jobbroker import tickreading
from jobbroker.clock import wall_ms
from jobbroker.core.entry import MAX_DETAILS, STAGES, Line
from jobbroker.core.job import timestamp
from jobbroker.core.schedule import Definition, Runner
from jobbroker.core.tickevents import ResultSaid
from jobbroker.leadership import LeaderLock
from jobbroker.methods.call import Call, Method, Pending
from jobbroker.methods.pages import MAX_PAGE, ROOM
from jobbroker.scheduled import Scheduled, Waiting
from jobbroker.scheduleview import as_schedule, as_tick, check_addition, definition_of, runner_of
from jobbroker.tickreading import Found, Place, Wanted
from jobclient.protocol import errors, jsonrpc, wire

REMOVE_WAIT_MS = 10_000
"""How long a tick under way is waited for if nothing is said."""
LINES, MAX_LINES = 100, 10_000
"""Lines in an answer if nothing is said, and the most."""
MAX_STAGE = 200
"""Characters in the name of a runner's own stage."""
RESULT = "result"


def _view(call: Call, scheduled: Scheduled) -> wire.Schedule:
    timed = call.broker.timed
    lead = timed.ticking.leaders.leads(scheduled.definition.leader_lock)
    return as_schedule(scheduled, timed.next_at(scheduled), lead, timed.ticking.is_live)


# --- schedules ------------------------------------------------------------------------------------------------------


def add(call: Call, params: wire.AddParams) -> Pending:
    """A schedule with its first runner, or one more runner of a schedule."""
    timed = call.broker.timed
    if params.method is not None and call.broker.backend is None:
        raise errors.InvalidParams("`method` is for a backend, and this broker has none  -> jobctl backend list")
    scheduled = None if params.schedule is None else timed.find(params.schedule)
    taken: list[str] = []
    if scheduled is not None:
        check_addition(params, scheduled)
        taken = [runner.name for runner in scheduled.definition.runners]
    runner = runner_of(params, taken, call.broker.settings, call.broker.admissions.around, list(timed.ticking.builtins))
    if scheduled is not None:
        return Pending(_append(call, scheduled, runner))
    definition = definition_of(params, runner)
    _check_lock(definition.leader_lock)
    return Pending(_add(call, timed.reserve(definition)))


def _check_lock(path: str | None) -> None:
    if path is not None:
        try:
            LeaderLock(path, "").check()
        except OSError as exc:
            raise errors.InvalidParams(f"`leaderLock` cannot be used: {path}: {exc.strerror or exc}") from None


async def _add(call: Call, scheduled: Scheduled) -> wire.OneSchedule:
    await call.broker.through(lambda: call.broker.timed.add(scheduled))
    return wire.OneSchedule(schedule=_view(call, scheduled))


async def _append(call: Call, scheduled: Scheduled, runner: Runner) -> wire.OneSchedule:
    def appended(definition: Definition) -> Definition:
        if runner.name in [each.name for each in definition.runners]:  # another request was faster
            raise errors.InvalidParams(f"`name` {runner.name!r} is taken")
        return msgspec.structs.replace(definition, runners=(*definition.runners, runner))

    await call.broker.through(lambda: call.broker.timed.change(scheduled, appended))
    return wire.OneSchedule(schedule=_view(call, scheduled))


def list_schedules(call: Call, params: wire.SchedulesParams) -> wire.Schedules:
    """The schedules, as many as fit."""
    timed = call.broker.timed
    limit = MAX_PAGE if params.limit is None else params.limit
    if not 1 <= limit <= MAX_PAGE:
        raise errors.InvalidParams(f"`limit` must be between 1 and {MAX_PAGE}")
    if params.after is not None and not (params.after.isascii() and params.after.isdecimal()):
        raise errors.InvalidParams("`after` is what `next` said")
    after = int(params.after or 0)
    wanted = [each for each in timed.schedules.values() if each.definition.order > after and not each.going]
    taken: list[wire.Schedule] = []
    room = ROOM
    for scheduled in wanted[:limit]:
        view = _view(call, scheduled)
        room -= len(jsonrpc.encode(view))
        if room < 0 and taken:
            break
        taken.append(view)
    more = len(taken) < len(wanted)
    return wire.Schedules(
        schedules=taken,
        paused=timed.ticking.paused,
        log=timed.log.folder,
        dropped_lines=timed.log.dropped,
        next=str(wanted[len(taken) - 1].definition.order) if more else None,
    )


def show(call: Call, params: wire.ScheduleParams) -> wire.OneSchedule:
    """One schedule as it stands."""
    return wire.OneSchedule(schedule=_view(call, call.broker.timed.find(params.name)))


def remove(call: Call, params: wire.TimedRemoveParams) -> Pending:
    """Forget a schedule, or a runner of it."""
    scheduled = call.broker.timed.find(params.name)
    if params.runner is not None:
        return Pending(_remove_runner(call, scheduled, params.runner.strip()))
    wait_ms = REMOVE_WAIT_MS if params.wait_ms is None else params.wait_ms
    return Pending(_remove(call, scheduled, wait_ms))


async def _remove(call: Call, scheduled: Scheduled, wait_ms: int) -> wire.TimedRemoved:
    timed = call.broker.timed
    return wire.TimedRemoved(jobs=await call.broker.through(lambda: timed.remove(scheduled, wait_ms)))


async def _remove_runner(call: Call, scheduled: Scheduled, name: str) -> wire.TimedRemoved:
    def shortened(definition: Definition) -> Definition:
        left = tuple(runner for runner in definition.runners if runner.name != name)
        if len(left) == len(definition.runners):
            raise errors.InvalidParams(f"`runner`: {definition.name!r} has no {name!r}")
        return msgspec.structs.replace(definition, runners=left)

    await call.broker.through(lambda: call.broker.timed.change(scheduled, shortened))
    return wire.TimedRemoved(jobs=[])


def pause(call: Call, params: wire.PauseParams) -> Pending:
    """Let ticks be skipped."""
    return Pending(_turn(call, params, paused=True))


def resume(call: Call, params: wire.PauseParams) -> Pending:
    """Let them be, no longer."""
    return Pending(_turn(call, params, paused=False))


async def _turn(call: Call, params: wire.PauseParams, *, paused: bool) -> wire.Paused:
    broker, timed = call.broker, call.broker.timed
    if params.name is None:
        before = timed.ticking.paused
        await broker.through(lambda: timed.pause(paused=paused))
    else:
        scheduled = timed.find(params.name)
        before = scheduled.definition.paused
        await broker.through(
            lambda: timed.change(scheduled, lambda definition: msgspec.structs.replace(definition, paused=paused))
        )
    return wire.Paused(paused=paused, changed=before != paused)


# --- ticks ----------------------------------------------------------------------------------------------------------


def tick(call: Call, params: wire.TickParams) -> Pending | wire.Tick:
    """A tick now."""
    scheduled = call.broker.timed.find(params.name)
    waiting = call.broker.timed.tick(scheduled)
    if params.wait:
        return Pending(_await_tick(scheduled, waiting))
    return _ticked(scheduled, waiting)


async def _await_tick(scheduled: Scheduled, waiting: Waiting) -> wire.Tick:
    await waiting.over.wait()
    return _ticked(scheduled, waiting)


def _ticked(scheduled: Scheduled, waiting: Waiting) -> wire.Tick:
    assert waiting.tick is not None  # noqa: S101  # what is decided is known at once
    return as_tick(scheduled.name, waiting.tick)


# --- the log --------------------------------------------------------------------------------------------------------


def log(call: Call, params: wire.LogParams) -> Pending:
    """Lines of the log."""
    limit = LINES if params.limit is None else params.limit
    if not 1 <= limit <= MAX_LINES:
        raise errors.InvalidParams(f"`limit` must be between 1 and {MAX_LINES}")
    schedule = None if params.name is None else params.name.strip()
    since = params.since
    place = None if since is None else tickreading.place_of(since)
    if since is not None and place is None:
        if not since[:4].isdecimal() or "T" not in since:
            raise errors.InvalidParams("`since` is what `next` said, or a time such as 2030-01-02T03:04:05.678Z")
        return Pending(_read(call, Place(since[:10], 0), Wanted(schedule, since), limit, params.wait_ms))
    return Pending(_read(call, place, Wanted(schedule), limit, params.wait_ms))


async def _read(call: Call, place: Place | None, wanted: Wanted, limit: int, wait_ms: int | None) -> wire.LogEntries:
    """With what is still to be written, given a moment; if there is nothing, what is written in the time there is."""
    ticklog = call.broker.timed.log
    with trio.move_on_after(1):
        await ticklog.flush()
    deadline = trio.current_time() + (wait_ms or 0) / 1000
    while True:
        written = ticklog.written
        found = await trio.to_thread.run_sync(_look, ticklog.folder, place, wanted, limit)
        if found.entries or trio.current_time() >= deadline:
            return wire.LogEntries(entries=found.entries, next=str(found.next))
        place = found.next
        with trio.move_on_at(deadline):
            await written.wait()


def _look(folder: str, place: Place | None, wanted: Wanted, limit: int) -> Found:
    if place is None:
        return tickreading.last(folder, timestamp(wall_ms())[:10], wanted, limit)
    return tickreading.onwards(folder, place, wanted, limit)


def stage(call: Call, params: wire.StageParams) -> wire.Done:
    """A line of a runner's own, under the batch it runs in."""
    name = params.stage.strip()
    if not name or len(name) > MAX_STAGE or name in STAGES:
        raise errors.InvalidParams(f"`stage` has 1 to {MAX_STAGE} characters, and is none of the broker's own")
    details = params.details or {}
    if len(jsonrpc.encode(params)) > MAX_DETAILS:
        raise errors.TooLarge(f"a stage may have {MAX_DETAILS} bytes; write the rest to your stdout")
    scheduled = _at_work(call, params.batch_id, params.runner)
    if name == RESULT:
        said = ResultSaid(params.batch_id, params.runner, params.result, details)
        call.broker.timed.ticking.say_result(scheduled, said)
    line = Line(
        stage=name,
        runner=params.runner,
        batch=params.batch_id,
        result=params.result,
        error=params.error,
        duration_ms=params.duration_ms,
        details=details,
    )
    call.broker.timed.ticking.note(line, scheduled.name)
    return wire.Done()


def _at_work(call: Call, batch: str, runner: str) -> Scheduled:
    """The schedule in whose tick that runner runs now, a tick that was cut included."""
    found = call.broker.timed.ticking.at_work(batch, runner)
    if found is None:
        raise errors.InvalidState(f"{runner!r} does not run in {batch!r}, or no longer", {"batchId": batch})
    return found


METHODS = {
    "timed/add": Method(wire.AddParams, add),
    "timed/list": Method(wire.SchedulesParams, list_schedules),
    "timed/show": Method(wire.ScheduleParams, show, positional=("name",)),
    "timed/remove": Method(wire.TimedRemoveParams, remove),
    "timed/tick": Method(wire.TickParams, tick),
    "timed/pause": Method(wire.PauseParams, pause),
    "timed/resume": Method(wire.PauseParams, resume),
    "timed/log": Method(wire.LogParams, log),
    "timed/stage": Method(wire.StageParams, stage),
}
