"""What `AsyncClient` gives out as it comes: the output of a job, and the changes of jobs.

Iterators rather than generators: they may be left in the middle without being closed, and a step that was cancelled is
taken again with the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobclient import calls
from jobclient.event import event_of
from jobclient.protocol import errors
from jobclient.raw import FAREWELL
from jobclient.watch import Ask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from jobclient.asynclink import AsyncLink
    from jobclient.asyncraw import AsyncConnection
    from jobclient.event import Event
    from jobclient.protocol import wire
    from jobclient.raw import Message
    from jobclient.watch import Steps, Watch

    Request = Callable[[calls.Call[wire.Output]], Awaitable[wire.Output]]
    Identify = Callable[[str], Awaitable[wire.Job]]


class AsyncPieces:
    """The output of a job, piece by piece, until its end.

    Attributes:
        cursor: the place of what comes next; another one can begin there.
    """

    def __init__(
        self, request: Request, identify: Identify, job: str, stream: wire.StreamName, start: str | None
    ) -> None:
        """Ask by `request` for the output of a job that `identify` knows by that name."""
        self.cursor = start
        self._request = request
        self._identify = identify
        self._name = job
        self._job: str | None = None
        self._stream: wire.StreamName = stream
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._job is None:
            self._job = (await self._identify(self._name)).id
        while not self._over:
            piece = await self._request(calls.following(self._job, self._stream, self.cursor))
            self.cursor = piece.next
            self._over = piece.eof
            if piece.data:
                return calls.data_of(piece)
        raise StopAsyncIteration


class AsyncEvents:
    """The changes of jobs, by a connection of its own, which ends with it, or with the client at the latest."""

    def __init__(self, link: AsyncLink, watch: Watch, forget: Callable[[AsyncEvents], None]) -> None:
        """Watch by a link that is used by nobody else, and say so to `forget` at the end."""
        self._link = link
        self._forget = forget
        self._watch = watch
        self._on: AsyncConnection | None = None
        self._steps: Steps | None = None
        self._step: Message | Ask | None = None
        self._over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Hang up; nothing more comes."""
        self._over = True
        self._forget(self)
        await self._link.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._over:
            message = await self._next()
            if message["method"] == FAREWELL:
                await self.aclose()
            event = event_of(message)
            if event is not None:
                return event
        raise StopAsyncIteration

    async def _next(self) -> Message:
        while True:
            if self._on is None or self._steps is None:
                self._on = await self._link.connection()
                self._steps = self._watch.steps()
                self._step = next(self._steps)
            try:
                return await self._advance(self._on, self._steps)
            except errors.ConnectionLost as exc:
                await self._link.lost(self._on, exc)
            except errors.ShuttingDown:
                await self._link.leave(self._on)
            self._on = None

    async def _advance(self, on: AsyncConnection, steps: Steps) -> Message:
        """Take steps until there is something to tell. One that is cancelled was not taken."""
        while True:
            step = self._step
            if isinstance(step, Ask):
                try:
                    answer = await on.request(step.method, step.params, self._link.deadline())
                except errors.RemoteError as exc:
                    self._step = steps.throw(exc)
                else:
                    self._step = steps.send(answer)
            elif step is None:
                self._step = steps.send(await on.notice())
            else:
                self._step = steps.send({})
                return step
