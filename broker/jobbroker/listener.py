"""The socket clients connect to: bound under the instance's lock, private, and checked for who is at the other end."""

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


class Listener:
    """The bound socket, with its place in the file system."""

    def __init__(self, path: str) -> None:
        """Bind and listen. A socket left over from an earlier broker is replaced: its lock is ours now."""
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        if os.path.lexists(path):
            os.unlink(path)
        with ShortAddress(path) as address:
            self._socket.bind(address)
        os.chmod(path, 0o600)
        self._identity = _identity(path)
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
        """Listen no more, and take the socket away, unless a successor has bound its own. Again, it does nothing."""
        if self._socket.fileno() < 0:
            return
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        if self._identity == _identity(self.path):
            os.unlink(self.path)


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
