"""A connection to the broker for the tasks of one event loop: any number of them may ask at once.

No task of its own reads: one of those that wait for something does, for all of them. So there is nothing to be started
or ended, and nothing happens that nobody waits for.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from jobclient import paths, rawjson
from jobclient.protocol import errors
from jobclient.protocol.failure import NotSent
from jobclient.protocol.framing import MAX_MESSAGE, LineReader, Oversized
from jobclient.raw import FAREWELL, READ, check_version, result_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import ByteStream

    from jobclient.raw import Message, Params

SEND_SECONDS = 30.0
"""How long a broker may take to take in a message. Sending is not cut off by a cancellation: half a message on its way
would be the end of everybody else's requests, too."""
_NO_PARAMS: Params = {}


class _Waiting:
    """A task that waits for an answer, or for whatever comes."""

    __slots__ = ("answer", "woken")

    def __init__(self) -> None:
        self.answer: Message | None = None
        self.woken = anyio.Event()

    def wake(self) -> None:
        self.woken.set()
        self.woken = anyio.Event()


class AsyncConnection:
    """A connection to the broker that listens at one path. Deadlines are `time.monotonic` seconds, None is never.

    Attributes:
        farewell: what the broker said when it announced its end, if it did.
    """

    def __init__(self, stream: ByteStream) -> None:
        """Speak on a stream; see `dial`."""
        self.farewell: Message | None = None
        self._stream = stream
        self._reader = LineReader()
        self._sending = anyio.Lock()
        self._last_id = 0
        self._asked: dict[int, _Waiting] = {}
        self._idle: list[_Waiting] = []
        self._reading = False
        self._notices: deque[Message] = deque()
        self._taken_back: list[int] = []
        self._broken: str | None = None

    async def aclose(self) -> None:
        """Hang up."""
        self._break("the connection was closed")
        await anyio.aclose_forcefully(self._stream)

    async def request(self, method: str, params: Params = _NO_PARAMS, deadline: float | None = None) -> Message:
        """Call a method and wait for its result. A request that is cancelled is taken back from the broker, too.

        Raises:
            RemoteError: the broker answered with an error; the class says which.
            ConnectionLost: no answer came, and none will.
            TimedOut: no answer came before the deadline.
        """
        self._last_id += 1
        identity = self._last_id
        waiting = self._asked[identity] = _Waiting()
        try:
            with anyio.fail_after(_left(deadline)):
                await self._send(identity, method, params)
                await self._until(lambda: waiting.answer is not None, waiting)
        except TimeoutError:
            raise errors.TimedOut("the broker has not answered in time") from None
        finally:
            if self._asked.pop(identity, None) is not None and waiting.answer is None:
                self._taken_back.append(identity)  # said with the next request, which costs no wait here
        assert waiting.answer is not None  # noqa: S101  # for the type checker
        return result_of(waiting.answer)

    async def notice(self) -> Message:
        """The next notification."""
        await self._until(lambda: bool(self._notices), None)
        return self._notices.popleft()

    async def ended(self) -> None:
        """Wait until the broker has hung up."""
        try:
            await self._until(lambda: False, None)
        except errors.ConnectionLost:
            pass

    # --- sending ----------------------------------------------------------------------------------------------------

    async def _send(self, identity: int, method: str, params: Params) -> None:
        line = rawjson.encode({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})
        if len(line) > MAX_MESSAGE:
            raise errors.TooLarge(f"{method}: {len(line)} bytes are over the limit of {MAX_MESSAGE} for one message")
        async with self._sending:
            if self._broken is not None:
                raise NotSent(self._broken)
            taken_back, self._taken_back = self._taken_back, []
            data = b"".join(map(_cancel, taken_back)) + line + b"\n"
            try:
                with anyio.fail_after(SEND_SECONDS, shield=True):
                    await self._stream.send(data)
            except TimeoutError as exc:
                self._break("the broker does not read what is sent to it")
                raise errors.ConnectionLost("the broker does not read what is sent to it") from exc
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as exc:
                self._break(f"the connection broke: {exc.__cause__ or exc}")
                raise NotSent(f"the connection broke: {exc.__cause__ or exc}") from exc

    # --- receiving --------------------------------------------------------------------------------------------------

    async def _until(self, done: Callable[[], bool], waiting: _Waiting | None) -> None:
        """Wait for something to be so: as the one who reads for all, or until somebody else has read it."""
        if waiting is None:
            waiting = _Waiting()
            self._idle.append(waiting)
        try:
            while not done():
                if self._broken is not None:
                    raise errors.ConnectionLost(self._broken)
                if self._reading:
                    await waiting.woken.wait()
                else:
                    await self._read(done)
        finally:
            if waiting in self._idle:
                self._idle.remove(waiting)
            if not self._reading:
                self._wake_another(waiting)

    async def _read(self, done: Callable[[], bool]) -> None:
        self._reading = True
        try:
            while not done() and self._broken is None:
                await self._fill()
        finally:
            self._reading = False

    async def _fill(self) -> None:
        try:
            chunk = await self._stream.receive(READ)
        except anyio.EndOfStream:
            self._break(self._last_words())
            return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as exc:
            self._break(f"the connection broke: {exc.__cause__ or exc}")
            return
        for line in self._reader.feed(chunk):
            self._take(line)
        for waiting in self._idle:
            waiting.wake()

    def _take(self, line: bytes | Oversized) -> None:
        if isinstance(line, Oversized):
            self._break(f"the broker sent a message of more than {MAX_MESSAGE} bytes")
            return
        try:
            message: Message = rawjson.decode(line)
        except rawjson.BadJson as exc:
            self._break(f"what came from the socket is no broker's: {exc}")
            return
        if "method" in message:
            if message["method"] == FAREWELL:
                self.farewell = message["params"]
            self._notices.append(message)
            return
        waiting = self._asked.pop(message["id"], None)
        if waiting is not None:
            waiting.answer = message
            waiting.wake()

    def _wake_another(self, one: _Waiting) -> None:
        """This one waits no more, he has what he wanted or was cancelled, and nobody reads: somebody else has to."""
        other = next((each for each in chain(self._asked.values(), self._idle) if each is not one), None)
        if other is not None:
            other.wake()

    def _break(self, why: str) -> None:
        if self._broken is None:
            self._broken = why
        for waiting in (*self._asked.values(), *self._idle):
            waiting.wake()

    def _last_words(self) -> str:
        if self.farewell is None:
            return "the broker hung up before it answered"
        return f"the broker is going down ({self.farewell.get('reason', 'no reason given')})"


async def greet(path: str, deadline: float | None) -> AsyncConnection:
    """Connect to the broker at a path and see that it answers and speaks our version of the protocol.

    Raises:
        VersionMismatch: it speaks another one.
        OSError: nobody listens there, or nobody answers (`TimeoutError`).
        PathError: the socket's directory is not private to us.
        ConnectionLost, TimedOut: as `AsyncConnection.request` does.
    """
    paths.check_private_dir(os.path.dirname(path))
    with anyio.fail_after(_left(deadline)), paths.short_address(path) as address:
        connection = AsyncConnection(await anyio.connect_unix(address))
    try:
        check_version(await connection.request("broker/ping", deadline=deadline))
    except BaseException:
        await connection.aclose()
        raise
    return connection


def _cancel(identity: int) -> bytes:
    return rawjson.encode({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": identity}}) + b"\n"


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - monotonic(), 0.001)
