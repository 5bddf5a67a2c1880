"""A link that does not block: `link.Link` for the tasks of one event loop, which may all ask at once."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from jobclient import asyncraw, launch, paths
from jobclient.link import MAX_SHORT, REPEATABLE, SHORT, SHUTTING_DOWN, TIMED_OUT, as_of_now
from jobclient.protocol.failure import ConnectionLost, NotSent, RemoteError

if TYPE_CHECKING:
    from jobclient.asyncraw import AsyncConnection
    from jobclient.raw import Message, Params


class AsyncLink:
    """A way to the broker of one instance. Connects with the first request.

    Attributes:
        instance: the instance's name.
    """

    def __init__(self, instance: str = paths.DEFAULT_INSTANCE, *, timeout: float, autospawn: bool) -> None:
        """Prepare a link; the arguments are those of `link.Link`."""
        self.instance = paths.check_instance(instance)
        self._timeout = timeout
        self._autospawn = autospawn
        self._connecting = anyio.Lock()
        self._connection: AsyncConnection | None = None
        self._connected_at = 0.0
        self._short_lived = 0

    async def aclose(self) -> None:
        """Hang up. The next request would connect again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    def deadline(self) -> float:
        """When what needs no waiting and is asked for now must have been answered."""
        return monotonic() + self._timeout

    async def connection(self) -> AsyncConnection:
        """The connection, made if there is none.

        Raises:
            BrokerUnavailable: no broker answers and none could be started.
            VersionMismatch: one answers, in another version of the protocol.
        """
        async with self._connecting:
            if self._connection is None:
                self._connection = await self._connect(self.deadline())
                self._connected_at = monotonic()
            return self._connection

    async def request(self, method: str, params: Params, *, patience: float | None) -> Message:
        """Call a method, on another connection if this one is lost and the call may be repeated; see `link.Link`."""
        begun = monotonic()
        deadline = None if patience is None else begun + self._timeout + patience
        while True:
            connection = await self.connection()
            try:
                return await connection.request(method, as_of_now(method, params, begun), deadline)
            except ConnectionLost as exc:
                await self.lost(connection, exc)
                if method not in REPEATABLE and not isinstance(exc, NotSent):
                    raise
            except RemoteError as exc:
                if exc.kind != SHUTTING_DOWN or method == "broker/shutdown":
                    raise
                await self.leave(connection)
                if exc.data.get("written"):
                    raise  # some of it was carried out: the caller knows what is left

    async def lost(self, connection: AsyncConnection, error: ConnectionLost) -> None:
        """Give up a connection that broke, so that the next request makes another; the first who notices counts it.

        Raises:
            ConnectionLost: connections break again and again as soon as they are made.
        """
        if self._connection is not connection:
            return
        await self.aclose()
        if monotonic() - self._connected_at > SHORT:
            self._short_lived = 0
            return
        self._short_lived += 1
        if self._short_lived > MAX_SHORT:
            raise error
        await anyio.sleep(0.05 * self._short_lived)

    async def leave(self, connection: AsyncConnection) -> None:
        """Give up the connection to a broker that said it is going: once it hangs up, or we should find it again."""
        with anyio.move_on_after(SHORT):
            await connection.ended()
        await self.lost(connection, ConnectionLost("the broker is going down"))

    async def _connect(self, deadline: float) -> AsyncConnection:
        path = paths.socket_path(self.instance)
        while True:
            try:
                return await asyncraw.greet(path, deadline)
            except (OSError, ConnectionLost, RemoteError) as exc:
                if isinstance(exc, RemoteError) and exc.kind not in (SHUTTING_DOWN, TIMED_OUT):
                    raise
            may_start = self._autospawn and launch.allowed()
            path = await to_thread.run_sync(_reach, self.instance, deadline, may_start, abandon_on_cancel=True)


def _reach(instance: str, deadline: float, may_start: bool) -> str:
    """Where a broker listens that has just answered; started if there was none."""
    connection = launch.reach(instance, deadline, may_start=may_start)
    connection.close()
    return connection.path
