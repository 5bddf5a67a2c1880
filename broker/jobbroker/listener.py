"""The socket clients connect to: bound under the instance's lock, or passed on by a service manager that keeps it."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable, Coroutine

import trio
from msgspec import Struct

from jobclient.paths import ShortAddress

BACKLOG = 1024
RETRY_SECONDS = 0.2
"""How long accepting rests when there is no descriptor left for another client."""

log = logging.getLogger("jobbroker.listener")


class Peer(Struct, frozen=True):
    """The process at the other end of a connection, as the kernel names it."""

    pid: int
    uid: int
    command: str


class PlaceTaken(Exception):
    """Somebody listens where we would, though the instance's lock is ours: a socket unit, to be left where it is."""


class Listener:
    """The listening socket, with its place in the file system."""

    def __init__(self, path: str, activated: socket.socket | None = None) -> None:
        """Bind and listen. A socket left over from an earlier broker is replaced: its lock is ours now.

        Args:
            path: its place.
            activated: a socket that listens there already, and stays when we go: it is the service manager's.

        Raises:
            PlaceTaken: somebody else listens at the path.
        """
        self.path = path
        self._identity: tuple[int, int] | None = None  # of what is ours to remove
        self._socket = activated or socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        if activated is None:
            self._bind()

    def _bind(self) -> None:
        if os.path.lexists(self.path):
            if _somebody_listens(self.path):
                raise PlaceTaken(f"somebody listens at {self.path}, a socket unit perhaps")
            os.unlink(self.path)
        with ShortAddress(self.path) as address:
            self._socket.bind(address)
        os.chmod(self.path, 0o600)
        self._identity = _identity(self.path)
        self._socket.listen(BACKLOG)

    async def run(self, serve: Callable[[socket.socket, Peer], Coroutine[object, object, None]], room: int) -> None:
        """Serve clients, each in a task of its own, at most `room` at once; ends with its nursery."""
        places = trio.CapacityLimiter(room)
        async with trio.open_nursery() as nursery:

            async def serve_one(client: socket.socket, peer: Peer) -> None:
                async with places:
                    await serve(client, peer)

            while self._socket.fileno() >= 0:
                try:
                    await trio.lowlevel.wait_readable(self._socket)
                except trio.ClosedResourceError:
                    return  # once those who are connected have gone
                if places.available_tokens <= 0:
                    await trio.sleep(RETRY_SECONDS)
                    continue
                accepted = await self._accept()
                if accepted is not None:
                    nursery.start_soon(serve_one, *accepted)

    async def _accept(self) -> tuple[socket.socket, Peer] | None:
        try:
            client, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return None
        except OSError as exc:  # no descriptors, no memory: the clients wait in the backlog
            log.warning("cannot accept: %s", exc)
            await trio.sleep(RETRY_SECONDS)
            return None
        client.setblocking(False)
        peer = _peer(client)
        if peer.uid != os.geteuid():
            log.warning("refused, another user: uid=%d pid=%d command=%s", peer.uid, peer.pid, peer.command)
            client.close()
            return None
        return client, peer

    def close(self) -> None:
        """Listen no more, and take away what we bound, unless a successor has bound its own. Again, it does nothing.

        Who is on the way to an activated socket waits there for the next broker.
        """
        if self._socket.fileno() < 0:
            return
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        if self._identity is not None and self._identity == _identity(self.path):
            os.unlink(self.path)


def _somebody_listens(path: str) -> bool:
    """Whether a connection to it would be taken, now or when there is room."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock,
        ShortAddress(path) as address,
    ):
        try:
            sock.connect(address)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def _identity(path: str) -> tuple[int, int] | None:
    try:
        stat = os.lstat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _peer(client: socket.socket) -> Peer:
    pid, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            command = file.read().decode("utf-8", "replace").strip()
    except OSError:
        command = ""
    return Peer(pid, uid, command)
