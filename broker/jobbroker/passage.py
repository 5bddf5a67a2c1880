"""A connection's way to the backend: what is for it goes there, in its order, and what comes back is counted.

A connection is a client of the backend from its first word to it: who only manages jobs never hears of it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from jobbroker.backend import Backend
from jobbroker.methods import METHODS
from jobclient.protocol import errors, jsonrpc, wire

OURS = frozenset(("broker", "job", "events", "timed", "backend"))
"""The namespaces of the broker; methods in them never reach a backend."""
SESSION = frozenset(("shutdown", "exit", "initialize", "initialized"))
"""What belongs to a connection, and not to what is behind it."""
CANCEL = "$/cancelRequest"
_INTRODUCTION = msgspec.json.Decoder(wire.InitializeParams)


class Passage:
    """Between one connection and the backend."""

    def __init__(self, backend: Backend, send: Callable[[bytes, bool], None], introduce: Callable[[str], None]) -> None:
        """Send with `send` what the backend has for the client; `introduce` takes the name it gives itself."""
        self._backend = backend
        self._send = send
        self._introduce = introduce
        self._client: int | None = None
        self._answered = trio.Event()

    def take(self, call: jsonrpc.Call) -> bool:
        """Pass a call on, if it is for the backend; whether it was."""
        match call:
            case jsonrpc.Request(identity, method, params) if self._is_theirs(method):
                self._note_name(method, params)
                self._backend.request(self._number(), identity, method, params)
            case jsonrpc.Notification(method, params) if self._is_theirs(method):
                self._backend.notification(self._number(), method, params)
            case jsonrpc.Response(message):
                if self._client is not None:
                    self._backend.response(self._client, message)
            case _:
                return False
        return True

    def cancel(self, identity: bytes) -> None:
        """The client takes a request back that may be the backend's."""
        if self._client is not None:
            self._backend.notification(self._client, CANCEL, b'{"id":' + identity + b"}")

    def _is_theirs(self, method: str) -> bool:
        handshake = self._backend.profile.handshake
        if handshake is not None and method in (handshake.request, handshake.notify):
            return True
        return not (method in METHODS or method in SESSION or method == CANCEL or method.partition("/")[0] in OURS)

    def _note_name(self, method: str, params: bytes) -> None:
        """The backend's handshake has the client's name where ours has it, or nowhere."""
        handshake = self._backend.profile.handshake
        if handshake is None or method != handshake.request:
            return
        try:
            info = jsonrpc.decode_params(params, _INTRODUCTION).client_info
        except errors.InvalidParams:
            return
        if info is not None and info.name:
            self._introduce(info.name)

    def _number(self) -> int:
        if self._client is None:
            self._client = self._backend.connect(self)
        return self._client

    def deliver(self, message: bytes, *, lossy: bool) -> None:
        """The backend has something for the client."""
        self._send(message, lossy)
        self._answered.set()
        self._answered = trio.Event()

    async def room(self) -> None:
        """Wait until the backend has read enough to be told more."""
        if self._client is not None:
            await self._backend.room()

    async def none_left(self) -> None:
        """Wait until the backend has answered everything."""
        while self.under_way:
            await self._answered.wait()

    @property
    def under_way(self) -> int:
        """How many answers of the backend the client waits for."""
        return 0 if self._client is None else self._backend.under_way(self._client)

    def close(self) -> None:
        """The connection has ended."""
        if self._client is not None:
            self._backend.disconnect(self._client)
            self._client = None
