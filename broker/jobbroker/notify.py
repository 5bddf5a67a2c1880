"""The `notify` socket: shims whose own daemon died say here that their record has news."""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from jobclient.paths import bindable

MAX_POKE = 64


class NotifySocket:
    """Receives pokes: datagrams that hold a job's id and nothing else."""

    def __init__(self, path: str) -> None:
        """Bind; a socket left over from an earlier daemon is replaced, since its lock is ours now."""
        if os.path.lexists(path):
            os.unlink(path)
        self._socket = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM)
        with bindable(path) as address:
            self._socket._sock.bind(address)  # noqa: SLF001  # trio's own bind would resolve the address in a thread

    async def run(self, poked: Callable[[str], None]) -> None:
        """Call `poked` with each id that comes; ends with its nursery."""
        while True:
            message = await self._socket.recv(MAX_POKE)
            poked(message.decode("ascii", "replace"))

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
