"""What `Client` and `AsyncClient` ask about timed jobs: `timed/*` as values, see `calls`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from jobclient.calls import Call
from jobclient.protocol import wire

if TYPE_CHECKING:
    from jobclient.raw import Params


def add(params: wire.AddParams) -> Call[wire.OneSchedule]:
    """A schedule, or one more runner of one."""
    return Call("timed/add", _given(params), wire.OneSchedule)


def page(after: str | None, limit: int | None) -> Call[wire.Schedules]:
    """Schedules."""
    return Call("timed/list", {"after": after, "limit": limit}, wire.Schedules)


def show(name: str) -> Call[wire.OneSchedule]:
    """A schedule."""
    return Call("timed/show", {"name": name}, wire.OneSchedule)


def remove(name: str, runner: str | None, wait_ms: int | None) -> Call[wire.TimedRemoved]:
    """The removal of a schedule, or of a runner; with time for a tick that is under way."""
    params: dict[str, object] = {"name": name, "runner": runner, "waitMs": wait_ms}
    return Call("timed/remove", params, wire.TimedRemoved, None)


def tick(name: str, *, wait: bool) -> Call[wire.Tick]:
    """A tick now."""
    return Call("timed/tick", {"name": name, "wait": wait}, wire.Tick, None if wait else 0.0)


def pause(method: str, name: str | None) -> Call[wire.Paused]:
    """`timed/pause` or `timed/resume`, of one or of all."""
    return Call(method, {"name": name}, wire.Paused)


def log(name: str | None, since: str | None, limit: int | None, wait_ms: int | None) -> Call[wire.LogEntries]:
    """Lines of the log."""
    params: dict[str, object] = {"name": name, "since": since, "limit": limit, "waitMs": wait_ms}
    return Call("timed/log", params, wire.LogEntries, (wait_ms or 0) / 1000)


def stage(params: wire.StageParams) -> Call[wire.Done]:
    """A line of a runner's own."""
    return Call("timed/stage", _given(params), wire.Done)


def _given(params: wire.Params) -> Params:
    """What was said of it; the rest is the broker's to decide."""
    said: dict[str, object] = msgspec.to_builtins(params)
    return {name: value for name, value in said.items() if value is not None}
