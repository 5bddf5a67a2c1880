"""`rpc`: our stdin and stdout as a connection to the broker, byte for byte.

For what can start a program but not open a Unix socket: older editors, a shell, the far end of ssh.
"""

from __future__ import annotations

import os
import select

from jobclient import raw
from jobclient.cli import exits
from jobclient.cli.console import OUT
from jobclient.cli.options import Verb
from jobclient.protocol.failure import ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link

IN = 0
READ = 64 * 1024
ROOM = 256 * 1024
"""Bytes that wait in one direction before no more are taken: who does not read holds up nobody but himself."""
ATOMIC = select.PIPE_BUF
"""What a pipe that polls as writable takes without blocking. Our stdout blocks, and belongs to others too: writing more
at once, we could wait for a reader who waits for us to read."""
_FAREWELL = raw.FAREWELL.encode()
_EXITING = 0x4
"""PF_EXITING of the kernel: set before a dying process closes anything."""


def run(_: Given, link: Link, console: Console) -> int:
    """Pass on both ways until the broker hangs up, which it does once our stdin has ended and all is answered."""
    connection, broker = _connect(link)
    try:
        bridge = Bridge(connection)
        bridge.run()
    finally:
        connection.close()
    if bridge.said_goodbye or not _is_gone(broker):
        return exits.OK
    console.note("the broker was lost, without a word  -> jobctl broker logs")
    return exits.NO_BROKER


def _connect(link: Link) -> tuple[socket, int]:
    """A connection on which nobody has said anything yet, to a broker that has just answered on another; and its pid.

    Not the pid the kernel has for the other end: that is of whoever made the socket, systemd perhaps.
    """
    while True:
        broker: int = link.request("broker/ping")["pid"]
        try:
            connection = raw.dial(link.connection().path, link.deadline())
        except OSError as exc:
            link.lost(ConnectionLost(f"the connection broke: {exc.strerror or exc}"))
            continue
        link.close()
        connection.settimeout(0)
        return connection, broker


class Bridge:
    """Both directions between a connection and our stdin and stdout.

    Attributes:
        said_goodbye: whether the last it sent announced its end.
    """

    def __init__(self, connection: socket) -> None:
        self.said_goodbye = False
        self._socket = connection
        self._up = bytearray()  # to the broker
        self._down = bytearray()  # to stdout
        self._listening = True  # the broker takes more
        self._answering = True  # the broker has not hung up
        self._reading = True  # our stdin has not ended
        self._tail = b""

    def run(self) -> None:
        """Pass on until there is nothing left to pass down.

        Raises:
            BrokenPipeError: nobody reads our stdout any more.
        """
        while self._answering or self._down:
            for descriptor, event in self._wait():
                if descriptor == self._socket.fileno():
                    self._serve(event)
                elif descriptor == OUT:
                    self._write(event)
                else:
                    self._read()

    def _wait(self) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(OUT, select.POLLOUT if self._down else 0)
        if self._reading and len(self._up) < ROOM:
            poll.register(IN, select.POLLIN)
        events = select.POLLIN if self._answering and len(self._down) < ROOM else 0
        events |= select.POLLOUT if self._up else 0
        if events:
            poll.register(self._socket, events)
        return poll.poll()

    # --- up ---------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            chunk = os.read(IN, READ)
        except OSError:  # there is none, or its terminal has gone
            chunk = b""
        if not chunk:
            self._reading = False
            if not self._up:
                raw.end_sending(self._socket)
        elif self._listening:
            self._up += chunk
            self._send()

    def _send(self) -> None:
        try:
            del self._up[: self._socket.send(self._up)]
        except BlockingIOError:
            return
        except OSError:  # it listens no more; what it still has to say is read all the same
            self._listening = False
            self._up.clear()
        if not self._up and not self._reading:
            raw.end_sending(self._socket)

    # --- down -------------------------------------------------------------------------------------------------------

    def _serve(self, event: int) -> None:
        if event & select.POLLOUT and self._up:
            self._send()
        if event & ~select.POLLOUT and self._answering:
            self._receive()

    def _receive(self) -> None:
        try:
            chunk = self._socket.recv(READ)
        except BlockingIOError:
            return
        except OSError:  # it died with something of ours unread
            chunk = b""
        if not chunk:
            self._answering = self._reading = False
            self._up.clear()
            self.said_goodbye = _FAREWELL in self._tail
            return
        self._tail = (self._tail + chunk)[-READ:]
        self._down += chunk

    def _write(self, event: int) -> None:
        if event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            raise BrokenPipeError
        try:
            del self._down[: os.write(OUT, self._down[:ATOMIC])]
        except BlockingIOError:  # somebody else made it non-blocking, and it takes less than a pipe would
            pass


def _is_gone(pid: int) -> bool:
    """Whether a process has ended or is about to: killed, it is on its way out before its connections end."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return True
    return state in (b"Z", b"X") or bool(int(fields[5]) & _EXITING)


VERBS = (
    Verb(
        "rpc", run, "stdin and stdout as a connection to the broker; starts it if need be",
        examples="""printf '{"id":1,"method":"job/list"}' | jobctl rpc\n"""
        "ssh elsewhere jobctl rpc            # the broker of another machine",
    ),
)  # fmt: skip
