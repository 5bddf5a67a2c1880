"""One client: read its messages, answer them in order or when they are done, tell it of what it subscribed to.

A connection owns the tasks of its unfinished requests and ends them with itself; jobs are never among them.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Awaitable, Generator
from contextlib import contextmanager

import msgspec
import trio

from jobbroker.broker import Broker
from jobbroker.listener import Peer
from jobbroker.methods import METHODS
from jobbroker.methods.call import Call, Outcome, Pending
from jobbroker.outbox import Outbox
from jobclient.protocol import errors, jsonrpc, wire
from jobclient.protocol.framing import MAX_MESSAGE, LineReader, Oversized, encode_line, is_line_framing

READ = 64 * 1024
MAX_UNFINISHED = 4096
"""Requests one client may have unfinished: waits, starts and so on; a batch counts with all its calls."""

log = logging.getLogger("jobbroker.connection")


_CANCEL = msgspec.json.Decoder(wire.CancelRequestParams)


@contextmanager
def _translated(where: str) -> Generator[None]:
    """Turn what may go wrong in carrying out a request into an error for the client."""
    try:
        yield
    except errors.RemoteError:
        raise
    except errors.JobBrokerError as exc:  # the store's
        raise errors.StoreUnavailable(str(exc)) from exc
    except Exception as exc:
        log.exception("fault in %s", where)
        raise errors.InternalError(f"a fault of the broker's own in {where}; its log has the details") from exc


class Connection:
    """The state of one client's connection."""

    def __init__(self, broker: Broker, sock: socket.socket, peer: Peer) -> None:
        self.broker = broker
        self.peer = peer
        self.name = peer.command
        self.methods: tuple[str, ...] = tuple(METHODS)
        self._socket = sock
        self._reader = LineReader()
        self._outbox = Outbox(sock)
        self._unfinished: dict[bytes, list[trio.CancelScope]] = {}
        self._count = 0
        self._refused = False
        self._idle = trio.Event()
        self._held: dict[str, list[bytes]] = {}
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
            self.broker.events.unsubscribe(self)
            self.broker.disconnected(self)
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def notify(self, job: str | None, message: bytes) -> None:
        """Send a notification; one of a job whose start is not answered yet waits for that answer (editors.md S16)."""
        framed = encode_line(message)
        held = self._held.get(job) if job is not None else None
        if held is not None:
            held.append(framed)
        else:
            self._outbox.post(framed)

    async def flush(self) -> None:
        """Wait until the client has got everything sent so far."""
        await self._outbox.flushed()

    def refuse_unfinished(self) -> None:
        """The broker ends: answer all that is unfinished with that."""
        self._refused = True
        for scopes in self._unfinished.values():
            for scope in scopes:
                scope.cancel()

    def end(self) -> None:
        """Close the connection once what is on its way has been sent."""
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        first = True
        while chunk := await self._receive():
            if first and not is_line_framing(chunk[0]):
                log.warning("closed, not json lines: peer=%s first=%r", self.peer.pid, chunk[:16])
                return
            first = False
            self._take(self._reader.feed(chunk))
            await self._outbox.room()
        self._take(self._reader.finish())

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
        if not self._count or self._outbox.broken:
            await self._outbox.flushed()
            return
        with select.epoll() as gone:
            gone.register(self._socket, 0)  # the end of both halves is always reported
            async with trio.open_nursery() as nursery:

                async def stop_when_gone() -> None:
                    await trio.lowlevel.wait_readable(gone.fileno())
                    nursery.cancel_scope.cancel()

                nursery.start_soon(stop_when_gone)
                while self._count:
                    self._idle = trio.Event()
                    await self._idle.wait()
                await self._outbox.flushed()
                nursery.cancel_scope.cancel()

    def _take(self, messages: list[bytes | Oversized]) -> None:
        """Answer what can be answered now with one send."""
        self._outbox.cork()
        for message in messages:
            if isinstance(message, Oversized):
                error = errors.TooLarge(f"a message may have {MAX_MESSAGE} bytes; split it")
                self._answer(jsonrpc.encode_error(b"null", error))
                continue
            call = jsonrpc.decode(message)
            if isinstance(call, jsonrpc.Batch):
                self._take_batch(call)
            else:
                self._take_call(call)
        self._outbox.uncork()

    # --- answering --------------------------------------------------------------------------------------------------

    def _take_call(self, call: jsonrpc.Call) -> None:
        context = Call(self)
        outcome = self._begin(call, context)
        if isinstance(outcome, bytes):
            self._answer(outcome, context)
        else:
            self._nursery.start_soon(self._complete_one, outcome, context)

    def _take_batch(self, batch: jsonrpc.Batch) -> None:
        context = Call(self)
        outcomes = [self._begin(call, context) for call in batch.calls]
        if all(isinstance(outcome, bytes) for outcome in outcomes):
            self._answer(jsonrpc.encode_batch([o for o in outcomes if isinstance(o, bytes) and o]), context)
        else:
            self._nursery.start_soon(self._complete_batch, outcomes, context)

    def _begin(self, call: jsonrpc.Call, context: Call) -> bytes | Awaitable[bytes]:
        """The answer to a call, empty if it wants none, or what will become the answer.

        Whatever decides on the order of things (numbers of jobs, say) happens here, in the order of the calls.
        """
        match call:
            case jsonrpc.Malformed(identity, error):
                return jsonrpc.encode_error(identity, error)
            case jsonrpc.Stray():
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
                    self._count += 1
                    return self._watch(identity, outcome.rest)
                return jsonrpc.encode_result(identity, outcome)

    def _call(self, name: str, params: bytes, context: Call) -> Outcome:
        method = METHODS.get(name)
        if method is None:
            raise errors.MethodNotFound(f"no method {name!r}")
        if self._count >= MAX_UNFINISHED:
            raise errors.TooLarge(f"{MAX_UNFINISHED} requests are unfinished on this connection; wait for some")
        typed = jsonrpc.decode_params(params, method.params, method.positional)
        with _translated(name):
            return method.handler(context, typed)

    async def _watch(self, identity: bytes, outcome: Awaitable[object]) -> bytes:
        """Wait for an outcome, within a scope that `$/cancelRequest` can cancel."""
        scope = trio.CancelScope()
        scopes = self._unfinished.setdefault(identity, [])
        scopes.append(scope)
        try:
            with scope, _translated("a request"):
                return jsonrpc.encode_result(identity, await outcome)
            return jsonrpc.encode_error(identity, self._why_cancelled())
        except errors.RemoteError as exc:
            return jsonrpc.encode_error(identity, exc)
        finally:
            scopes.remove(scope)
            if not scopes:
                self._unfinished.pop(identity, None)
            self._count -= 1

    def _why_cancelled(self) -> errors.RemoteError:
        if self._refused:
            return errors.ShuttingDown("the broker is shutting down; ask again, the next one will know")
        return errors.RequestCancelled("the request was cancelled; its job was not")

    async def _complete_one(self, outcome: Awaitable[bytes], context: Call) -> None:
        self._answer(await outcome, context)
        self._note_idle()

    async def _complete_batch(self, outcomes: list[bytes | Awaitable[bytes]], context: Call) -> None:
        answers: list[bytes] = [outcome if isinstance(outcome, bytes) else b"" for outcome in outcomes]

        async def complete(place: int, outcome: Awaitable[bytes]) -> None:
            answers[place] = await outcome

        async with trio.open_nursery() as nursery:
            for place, outcome in enumerate(outcomes):
                if not isinstance(outcome, bytes):
                    nursery.start_soon(complete, place, outcome)
        self._answer(jsonrpc.encode_batch([answer for answer in answers if answer]), context)
        self._note_idle()

    def _answer(self, answer: bytes, context: Call | None = None) -> None:
        if answer:
            self._outbox.post(encode_line(answer))
        for job in context.held if context is not None else ():
            for message in self._held.pop(job, ()):
                self._outbox.post(message)

    def hold(self, job: str) -> None:
        """Keep notifications of that job back until the call that started it is answered."""
        self._held.setdefault(job, [])

    def _note_idle(self) -> None:
        if not self._count:
            self._idle.set()

    def _take_notification(self, method: str, params: bytes, identity: bytes) -> None:
        """Notifications are few, and unknown ones are ignored (editors.md S13)."""
        if method == "exit":
            self.end()
        elif method == "$/cancelRequest":
            try:
                given = bytes(jsonrpc.decode_params(params, _CANCEL).id)
            except errors.InvalidParams:
                return
            for scope in self._unfinished.get(given if given != b"null" else identity, ()):
                scope.cancel()
