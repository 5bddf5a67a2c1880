"""Schedules and ticks as clients see them, and a schedule as a client asks for it."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from jobbroker.clock import wall_ms
from jobbroker.core.job import timestamp
from jobbroker.core.schedule import MAX_RUNNERS, Config, Definition, Refused, Runner, name_of
from jobbroker.core.tickevents import Tick
from jobbroker.requests import MAX_MS, Surroundings, build
from jobbroker.scheduled import Scheduled
from jobbroker.settings import Settings
from jobclient.protocol import errors, wire

LEAST_EVERY_MS = 10
"""The shortest interval; what is shorter is taken for a mistake in the unit."""
_OF_THE_SCHEDULE = (
    "every_ms", "jitter_ms", "catch_up", "max_tasks_per_tick", "max_messages_per_tick", "settle_delay_ms",
    "leader_lock",
)  # fmt: skip
_OF_A_JOB = (
    "argv", "agent", "prompt", "method", "params", "cwd", "env", "umask", "rlimits", "timeout_ms", "idle_timeout_ms",
    "grace_ms", "merged", "max_output",
)  # fmt: skip


# --- as asked for ---------------------------------------------------------------------------------------------------


def definition_of(params: wire.AddParams, first: Runner) -> Definition:
    """The new schedule a request asks for.

    Raises:
        InvalidParams: naming the member and what is wrong with it.
    """
    every, jitter = params.every_ms, params.jitter_ms or 0
    if every is None:
        raise errors.InvalidParams(
            "`everyMs` is missing: say how often, 0 for when it is told to; or name a `schedule`"
        )
    if every and not LEAST_EVERY_MS <= every <= MAX_MS:
        raise errors.InvalidParams(f"`everyMs` must be 0 or between {LEAST_EVERY_MS} and {MAX_MS}")
    if jitter and jitter >= every:
        raise errors.InvalidParams("`jitterMs` must be less than `everyMs`, or ticks would overtake each other")
    return Definition(
        name=first.name,
        config=Config(
            interval_ms=every,
            max_tasks_per_tick=params.max_tasks_per_tick or 0,
            max_messages_per_tick=params.max_messages_per_tick or 0,
            settle_delay_ms=params.settle_delay_ms or 0,
        ),
        runners=(first,),
        created_at=timestamp(wall_ms()),
        jitter_ms=jitter,
        catch_up=bool(params.catch_up),
        leader_lock=_leader_lock(params.leader_lock),
    )


def check_addition(params: wire.AddParams, scheduled: Scheduled) -> None:
    """Whether one more runner can be had.

    Raises:
        InvalidParams: the request says what is the schedule's to say, or there are too many.
    """
    for name in _OF_THE_SCHEDULE:
        if getattr(params, name) is not None:
            member = "".join(part.capitalize() if at else part for at, part in enumerate(name.split("_")))
            raise errors.InvalidParams(f"`{member}` is the schedule's, and {scheduled.name!r} has one already")
    if len(scheduled.definition.runners) >= MAX_RUNNERS:
        raise errors.InvalidParams(f"`schedule` {scheduled.name!r} has {MAX_RUNNERS} runners, which is the most")


def runner_of(
    params: wire.AddParams, taken: list[str], settings: Settings, around: Surroundings, known: list[str]
) -> Runner:
    """The runner a request asks for; it can be started, as far as that can be known now.

    Args:
        params: the request.
        taken: names other runners of that schedule have.
        settings: those of a job.
        around: what a job gets where nothing is said.
        known: what the broker can do itself.

    Raises:
        InvalidParams: naming the member and what is wrong with it.
    """
    try:
        name = name_of(params.name, taken)
    except Refused as exc:
        raise errors.InvalidParams(f"`name` {exc}") from None
    kinds = [each for each in ("argv", "agent", "method", "builtin") if getattr(params, each) is not None]
    if len(kinds) != 1:
        raise errors.InvalidParams("say what to run by one of `argv`, `agent`, `method` and `builtin`")
    given = {each: value for each in _OF_A_JOB if (value := getattr(params, each)) is not None}
    if params.builtin is not None:
        return _builtin(params.builtin, name, given, known)
    start = wire.StartParams(**given, on_disconnect="detach")  # nobody is connected who could leave
    _try(msgspec.structs.replace(start, name=name), settings, around)
    return Runner(name=name, kind="command" if params.method is None else "backend", start=start)


def _builtin(builtin: str, name: str, given: dict[str, object], known: list[str]) -> Runner:
    if builtin not in known:
        raise errors.InvalidParams(f"`builtin` {builtin!r} is not known; there is {', '.join(known)}")
    timeout = given.pop("timeout_ms", None)
    if given:
        raise errors.InvalidParams(f"`{next(iter(given))}` is for commands; the broker does {builtin!r} itself")
    return Runner(name=name, kind="builtin", builtin=builtin, timeout_ms=timeout if isinstance(timeout, int) else None)


def _try(params: wire.StartParams, settings: Settings, around: Surroundings) -> None:
    """Make a job of it, and forget it again."""
    nobody = wire.Origin(pid=0, client="")
    build(params, identity="", number=0, now=0, origin=nobody, settings=settings, around=around)


def _leader_lock(path: str | None) -> str | None:
    if path is None:
        return None
    if not path.startswith("/") or "\0" in path:
        raise errors.InvalidParams("`leaderLock` must be an absolute path")
    return os.path.normpath(path)


# --- as shown -------------------------------------------------------------------------------------------------------


def as_tick(schedule: str, tick: Tick) -> wire.Tick:
    """A tick as clients see it."""
    return wire.Tick(
        schedule=schedule,
        batch_id=tick.batch,
        trigger=tick.trigger,
        decision=tick.decision,
        runner_count=tick.runner_count,
        result=tick.result,
        failed_runner_count=tick.failed,
        duration_ms=tick.duration_ms,
        error=tick.error,
    )


def as_schedule(
    scheduled: Scheduled, next_at: str | None, lead: tuple[bool, int], is_live: Callable[[str], bool]
) -> wire.Schedule:
    """A schedule as clients see it; of its jobs those that are committed, and have not ended."""
    definition, state = scheduled.definition, scheduled.state
    config = definition.config
    running = [] if state.flight is None or state.flight.job is None else [state.flight.job]
    return wire.Schedule(
        name=definition.name,
        created_at=definition.created_at,
        every_ms=config.interval_ms,
        jitter_ms=definition.jitter_ms,
        catch_up=definition.catch_up,
        paused=definition.paused,
        max_tasks_per_tick=config.max_tasks_per_tick,
        max_messages_per_tick=config.max_messages_per_tick,
        settle_delay_ms=config.settle_delay_ms,
        runners=[_as_runner(runner) for runner in definition.runners],
        next_at=next_at,
        busy=state.busy,
        busy_streak=state.streak,
        missed=scheduled.missed,
        jobs=[job for job in (*running, *state.left) if is_live(job)],
        leads=lead[0],
        term=lead[1],
        leader_lock=definition.leader_lock,
        last=None if state.last is None else as_tick(definition.name, state.last),
    )


def _as_runner(runner: Runner) -> wire.Runner:
    start = runner.start or wire.StartParams()
    return wire.Runner(
        name=runner.name,
        kind=runner.kind,
        argv=start.argv,
        agent=start.agent,
        prompt=start.prompt,
        method=start.method,
        params=start.params,
        builtin=runner.builtin,
        cwd=start.cwd,
        timeout_ms=runner.timeout_ms if runner.start is None else start.timeout_ms,
    )
