"""The `notify` socket: shims whose own daemon died say here that their record has news."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import trio

from jobclient.paths import ShortAddress

MAX_POKE = 64
MAX_AT_ONCE = 256
"""Pokes taken before everybody else has a turn; whoever floods us is read on later."""


class NotifySocket:
    """Receives pokes: datagrams that hold a job's id and nothing else."""

    def __init__(self, path: str) -> None:
        """Bind; a socket left over from an earlier daemon is replaced, since its lock is ours now."""
        if os.path.lexists(path):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with ShortAddress(path) as address:
            self._socket.bind(address)
        os.chmod(path, 0o600)

    async def run(self, poked: Callable[[str], None]) -> None:
        """Call `poked` with each id that comes; ends with its nursery."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            self.hear(poked)

    def hear(self, poked: Callable[[str], None]) -> None:
        """Call `poked` with the ids that have come by now, each once."""
        ids: dict[str, None] = {}
        for _ in range(MAX_AT_ONCE):
            try:
                message = self._socket.recv(MAX_POKE)
            except BlockingIOError:
                break
            ids[message.decode("ascii", "replace")] = None
        for each in ids:
            poked(each)

    def close(self) -> None:
        """Listen no more; the place stays for the next daemon to bind."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
