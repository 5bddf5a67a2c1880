"""One client: read its messages, answer them in order or when they are done, tell it of what it subscribed to.

A connection owns the tasks of its unfinished requests and ends them with itself; jobs are never among them.
"""

from __future__ import annotations

import logging
import select
import socket

import msgspec
import trio

from jobbroker.answers import BatchAnswer, Waiting, encode_answer, translated
from jobbroker.broker import Broker
from jobbroker.holding import Holding
from jobbroker.listener import Peer
from jobbroker.methods import METHODS
from jobbroker.methods.call import Call, Outcome, Pending
from jobbroker.outbox import TOO_MUCH, Outbox
from jobbroker.passage import Passage
from jobbroker.unfinished import Unfinished
from jobclient.protocol import errors, jsonrpc, wire
from jobclient.protocol.framing import MAX_MESSAGE, EitherReader, FramingLost, Oversized

READ = 64 * 1024
MAX_UNFINISHED = 4096
"""Requests one client may have unfinished: waits, starts and so on; a batch counts with all its calls."""
ROOM = 1024 * 1024
"""Bytes unsent up to which a client is sent output; states of jobs it is sent in any case."""
SLICE_SECONDS = 0.01
"""How long one client's requests are carried out before everybody else gets a turn."""

log = logging.getLogger("jobbroker.connection")


_CANCEL = msgspec.json.Decoder(wire.CancelRequestParams)


class Connection:
    """The state of one client's connection."""

    def __init__(self, broker: Broker, sock: socket.socket, peer: Peer) -> None:
        self.broker = broker
        self.peer = peer
        self.origin = wire.Origin(pid=peer.pid, client=peer.command)
        self.methods: tuple[str, ...] = tuple(METHODS)
        self._socket = sock
        self._reader = EitherReader()
        self._outbox = Outbox(sock)
        self._unfinished = Unfinished()
        self._slice_end = 0.0
        self._holding = Holding(self._post)
        self._tracing = broker.events.tracing
        self.number = self._tracing.join(self)
        self._passage = None if broker.backend is None else Passage(broker.backend, self._deliver, self._introduce)
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Serve the client until it has gone and its last request is answered."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._outbox.run)
                await self._read()
                await self._finish()
                self._nursery.cancel_scope.cancel()
        finally:
            if self._passage is not None:
                self._passage.close()
            self.broker.events.unsubscribe(self)
            self._tracing.leave(self)
            self.broker.disconnected(self)
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def notify(self, job: str, message: bytes) -> None:
        """Send a notification; one of a job whose start is not answered yet waits for that answer (editors.md S16)."""
        self._holding.notify(job, self._reader.frame(message))
        if self._holding.size > TOO_MUCH:
            self._outbox.break_off()

    def offer(self, job: str, message: bytes) -> bool:
        """Send a notification that the client can do without, if it has read enough of what it was sent before."""
        if self._outbox.unsent + self._holding.size + len(message) > ROOM:
            return False
        self._holding.notify(job, self._reader.frame(message))
        return True

    def describe(self) -> wire.Connection:
        """Who is at the other end, for those who trace."""
        origin = self.origin
        return wire.Connection(number=self.number, pid=origin.pid, client=origin.client, framing=self._reader.framing)

    def _post(self, framed: bytes) -> None:
        if self._tracing.active:
            start = framed.index(b"\r\n\r\n") + 4 if self._reader.framing == "headers" else 0
            self._tracing.note(self.number, "out", framed, start)
        self._outbox.post(framed)

    async def say_goodbye(self, notice: bytes) -> None:
        """The broker ends: refuse what is unfinished, say so, and wait until the client has got all of it."""
        self._unfinished.refuse()
        await self._unfinished.none_left()
        self._post(self._reader.frame(notice))
        await self._outbox.flushed()

    def end(self) -> None:
        """Close the connection once what is on its way has been sent."""
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while chunk := await self._receive():
            try:
                messages = self._reader.feed(chunk)
            except FramingLost as exc:
                await self._lose(exc)
                return
            await self._take(messages)
            await self._outbox.room()
            if self._passage is not None:
                await self._passage.room()
        await self._take(self._reader.finish())

    async def _lose(self, lost: FramingLost) -> None:
        """No further message can be made out: say so, where it is known how, and hang up (editors.md S01, S02)."""
        log.warning("closed, %s: peer=%s", lost, self.peer.pid)
        await self._take(lost.before)
        if lost.spoken:
            self._answer(jsonrpc.encode_error(b"null", errors.ParseError(f"no message can be made out: {lost}")))

    async def _receive(self) -> bytes:
        while not self._outbox.broken:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(READ)
            except BlockingIOError:
                continue
            except OSError:
                break
        return b""

    async def _finish(self) -> None:
        """The client says no more. Who only closed the sending half still gets the answers."""
        behind = self._passage.under_way if self._passage is not None else 0
        if (not self._unfinished and not behind) or self._outbox.broken:
            await self._outbox.flushed()
            return
        with select.epoll() as gone:
            gone.register(self._socket, 0)  # the end of both halves is always reported
            async with trio.open_nursery() as nursery:

                async def stop_when_gone() -> None:
                    await trio.lowlevel.wait_readable(gone.fileno())
                    nursery.cancel_scope.cancel()

                nursery.start_soon(stop_when_gone)
                await self._unfinished.none_left()
                if self._passage is not None:
                    await self._passage.none_left()
                await self._outbox.flushed()
                nursery.cancel_scope.cancel()

    async def _take(self, messages: list[bytes | Oversized]) -> None:
        """Answer what can be answered now, with one send if it is not much."""
        self._begin_slice()
        for message in messages:
            if isinstance(message, Oversized):
                error = errors.TooLarge(f"a message may have {MAX_MESSAGE} bytes; split it")
                self._answer(jsonrpc.encode_error(b"null", error))
                continue
            if self._tracing.active:
                self._tracing.note(self.number, "in", message)
            call = jsonrpc.decode(message)
            if isinstance(call, jsonrpc.Batch):
                await self._take_batch(call)
            else:
                self._take_call(call)
            await self._give_way()
        self._outbox.uncork()

    def _begin_slice(self) -> None:
        self._outbox.cork()
        self._slice_end = trio.current_time() + SLICE_SECONDS
        self.broker.time_has_passed()

    async def _give_way(self) -> None:
        """Between two requests: wait for a client that does not read, and let others have their turn."""
        if self._outbox.crowded or trio.current_time() > self._slice_end:
            self._outbox.uncork()
            await self._outbox.room()
            await trio.lowlevel.checkpoint()
            self._begin_slice()

    # --- answering --------------------------------------------------------------------------------------------------

    def _introduce(self, name: str) -> None:
        self.origin = msgspec.structs.replace(self.origin, client=name)

    def _deliver(self, message: bytes, lossy: bool) -> None:
        """What the backend has for this client; what may be lost, is, rather than that the client is."""
        if not (lossy and self._outbox.crowded):
            self._post(self._reader.frame(message))

    def _take_call(self, call: jsonrpc.Call) -> None:
        if self._passage is not None and self._passage.take(call):
            return
        context = Call(self)
        outcome = self._begin(call, context)
        if isinstance(outcome, bytes):
            self._answer(outcome, context)
        else:
            self._nursery.start_soon(self._complete, outcome, context)

    async def _complete(self, waiting: Waiting, context: Call) -> None:
        try:
            self._answer(await waiting.answer(), context)
        finally:
            self._unfinished.leave(waiting.entry)

    async def _take_batch(self, batch: jsonrpc.Batch) -> None:
        context = Call(self)
        answers = BatchAnswer(len(batch.calls))
        for place, call in enumerate(batch.calls):
            outcome = answers.refuse(call) or self._begin(call, context)
            if isinstance(outcome, bytes):
                answers.put(place, call, outcome)
            else:
                answers.waiting.append((place, call, outcome))
            await self._give_way()
        if answers.waiting:
            self._nursery.start_soon(self._complete_batch, answers, context)
        else:
            self._answer(answers.encode(), context)

    async def _complete_batch(self, answers: BatchAnswer, context: Call) -> None:
        async def complete(place: int, call: jsonrpc.Call, waiting: Waiting) -> None:
            answers.put(place, call, await waiting.answer())

        try:
            async with trio.open_nursery() as nursery:
                for some in answers.waiting:
                    nursery.start_soon(complete, *some)
            self._answer(answers.encode(), context)
        finally:
            for _, _, waiting in answers.waiting:
                self._unfinished.leave(waiting.entry)

    def _begin(self, call: jsonrpc.Call, context: Call) -> bytes | Waiting:
        """The answer to a call, empty if it wants none, or what will become the answer.

        Whatever decides on the order of things (numbers of jobs, say) happens here, in the order of the calls.
        """
        match call:
            case jsonrpc.Malformed(identity, error):
                return jsonrpc.encode_error(identity, error)
            case jsonrpc.Response():
                return b""
            case jsonrpc.Notification(method, params):
                self._take_notification(method, params, b"null")
                return b""
            case jsonrpc.Request(identity, "$/cancelRequest", params):
                self._take_notification("$/cancelRequest", params, identity)
                return b""
            case jsonrpc.Request(identity, method, params):
                try:
                    outcome = self._call(method, params, context)
                except errors.RemoteError as exc:
                    return jsonrpc.encode_error(identity, exc)
                if isinstance(outcome, Pending):
                    return Waiting(self._unfinished, identity, outcome.rest, outcome.so_far)
                return encode_answer(identity, outcome)

    def _call(self, name: str, params: bytes, context: Call) -> Outcome:
        method = METHODS.get(name)
        if method is None:
            raise errors.MethodNotFound(f"no method {name!r}")
        if len(self._unfinished) >= MAX_UNFINISHED:
            raise errors.TooLarge(f"{MAX_UNFINISHED} requests are unfinished on this connection; wait for some")
        typed = jsonrpc.decode_params(params, method.params, method.positional)
        with translated(name):
            return method.handler(context, typed)

    def _answer(self, answer: bytes, context: Call | None = None) -> None:
        if answer:
            self._post(self._reader.frame(answer))
        for job in context.held if context is not None else ():
            self._holding.release(job)

    def hold(self, job: str) -> None:
        """Keep notifications of that job back until the call that started it is answered."""
        self._holding.hold(job)

    def _take_notification(self, method: str, params: bytes, identity: bytes) -> None:
        """Notifications are few, and unknown ones are ignored (editors.md S13)."""
        if method == "exit":
            self.end()
        elif method == "$/cancelRequest":
            try:
                given = bytes(jsonrpc.decode_params(params, _CANCEL).id)
            except errors.InvalidParams:
                return
            self._unfinished.cancel(given if given != b"null" else identity)
            if self._passage is not None and given != b"null":
                self._passage.cancel(given)
