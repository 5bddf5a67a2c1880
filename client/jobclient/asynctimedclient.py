"""The part of `AsyncClient` that is about timed jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from jobclient import timedcalls

if TYPE_CHECKING:
    from jobclient.calls import Call
    from jobclient.protocol import wire

T = TypeVar("T")


class AsyncTimedClient:
    """Schedules, what they run, and what became of it."""

    async def timed_add(self, params: wire.AddParams) -> wire.Schedule:
        """Make a schedule with its first runner, or give one another runner; what is left out the broker decides."""
        return (await self._do(timedcalls.add(params))).schedule

    async def timed_list(self, *, after: str | None = None, limit: int | None = None) -> wire.Schedules:
        """Schedules in the order in which they were added; `after` goes on where the last page's `next` said."""
        return await self._do(timedcalls.page(after, limit))

    async def timed_show(self, name: str) -> wire.Schedule:
        """A schedule as it stands."""
        return (await self._do(timedcalls.show(name))).schedule

    async def timed_remove(
        self, name: str, *, runner: str | None = None, wait_ms: int | None = None
    ) -> wire.TimedRemoved:
        """Remove a schedule, or one runner of it; a tick that is under way is waited for, but not for ever."""
        return await self._do(timedcalls.remove(name, runner, wait_ms))

    async def timed_tick(self, name: str, *, wait: bool = False) -> wire.Tick:
        """Tick now; the answer comes when it is decided, with `wait` when it is over."""
        return await self._do(timedcalls.tick(name, wait=wait))

    async def timed_pause(self, name: str | None = None) -> wire.Paused:
        """Let one schedule tick no more, or none at all."""
        return await self._do(timedcalls.pause("timed/pause", name))

    async def timed_resume(self, name: str | None = None) -> wire.Paused:
        """Let one schedule tick again, or all."""
        return await self._do(timedcalls.pause("timed/resume", name))

    async def timed_log(
        self,
        name: str | None = None,
        *,
        since: str | None = None,
        limit: int | None = None,
        wait_ms: int | None = None,
    ) -> wire.LogEntries:
        """What ticks and runners wrote: the last lines, or those since a cursor or a time."""
        return await self._do(timedcalls.log(name, since, limit, wait_ms))

    async def timed_stage(self, params: wire.StageParams) -> None:
        """Write a line of a runner's own into the log, from within that runner."""
        await self._do(timedcalls.stage(params))

    async def _do(self, call: Call[T]) -> T:
        raise NotImplementedError
