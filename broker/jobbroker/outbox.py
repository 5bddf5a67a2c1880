"""What is still to be sent to one client: sent at once where the socket takes it, kept within bounds where not.

`post` may be called from any task: it never waits, and it puts whole messages into one order. Only what the socket did
not take at once is left to the one task that waits for the client.
"""

from __future__ import annotations

import socket

import trio

from jobclient.protocol.framing import MAX_MESSAGE

PLENTY = 1024 * 1024
"""Bytes unsent after which a connection takes no new requests."""
TOO_MUCH = 2 * MAX_MESSAGE
"""Bytes unsent after which a client that does not read is let go: it may be owed one full message, not ever more."""


class Outbox:
    """The sending side of a connection.

    Attributes:
        broken: the client is gone, or was let go because it does not read.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unsent = bytearray()
        self._corked = False
        self._more = trio.Event()
        self._less = trio.Event()
        self.broken = False

    @property
    def unsent(self) -> int:
        """Bytes the socket has not taken yet."""
        return len(self._unsent)

    def post(self, message: bytes) -> None:
        """Send a framed message, now or as soon as the client reads."""
        if self.broken:
            return
        if self._corked or self._unsent:
            self._unsent += message
        else:
            self._send_at_once(message)
        if self._corked:
            return
        if len(self._unsent) - len(message) > TOO_MUCH:
            self.break_off()
        elif self._unsent:
            self._more.set()

    def cork(self) -> None:
        """Collect what is posted until `uncork`, to send it as one."""
        self._corked = True

    def uncork(self) -> None:
        """Send what was collected."""
        self._corked = False
        collected = bytes(self._unsent)
        if collected and not self._more.is_set():
            self._unsent.clear()
            self.post(collected)

    def break_off(self) -> None:
        """Send nothing more; the connection ends."""
        self.broken = True
        self._unsent.clear()
        self._more.set()
        self._tell_less()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the reader too
        except OSError:
            pass

    @property
    def crowded(self) -> bool:
        """Whether so much is unsent that nothing more should be asked for."""
        return len(self._unsent) > PLENTY

    async def room(self) -> None:
        """Wait until the client has read enough to be asked for more."""
        while self.crowded and not self.broken:
            await self._less.wait()

    async def flushed(self) -> None:
        """Wait until all is sent, or cannot be."""
        while self._unsent and not self.broken:
            await self._less.wait()

    async def run(self) -> None:
        """Send what the socket did not take at once; ends with the connection's nursery."""
        while True:
            await self._more.wait()
            while self._unsent and not self.broken:
                await trio.lowlevel.wait_writable(self._socket)
                self._send()
                self._tell_less()
            self._more = trio.Event()
            if self.broken:
                return

    def _tell_less(self) -> None:
        self._less.set()
        self._less = trio.Event()

    def _send_at_once(self, message: bytes) -> None:
        """The usual case, and what a hundred subscribers cost: the socket takes it all."""
        try:
            sent = self._socket.send(message)
        except BlockingIOError:
            sent = 0
        except OSError:  # see `_send`
            self.break_off()
            return
        if sent < len(message):
            self._unsent += message[sent:]

    def _send(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:  # the client is gone; its own end of the connection tells the reader
            self.break_off()
            return
        del self._unsent[:sent]
