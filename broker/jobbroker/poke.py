"""Wake the daemon that came after ours: a datagram on the instance's `notify` socket that names the job.

It carries no news, only "look at this record again". A lost one costs nothing but time: the daemon also watches the
shim's pidfd. Standard library only: the shim loads this.
"""

from __future__ import annotations

import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket

RETRY_MS = 100
LAST_TRIES = 5


class Poke:
    """Pokes about one job; kept until delivered, while the loop goes on."""

    __slots__ = ("_address", "_id", "_retry_at", "_socket")

    def __init__(self, identity: bytes, directory: int) -> None:
        """Poke about the job of that id, whose directory is jobs/ID below the instance's."""
        self._id = identity
        self._address = f"/proc/self/fd/{directory}/../../notify"
        self._retry_at: int | None = None
        self._socket: socket | None = None

    def due(self) -> int | None:
        """When to try again, if a poke is still to be delivered."""
        return self._retry_at

    def send(self) -> bool:
        """Poke; whether it is delivered, or nobody is there to receive it, which is as good."""
        if self._socket is None:
            self._socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        try:
            self._socket.sendto(self._id, self._address)
        except BlockingIOError:
            self._retry_at = time.monotonic_ns() // 1_000_000 + RETRY_MS
            return False
        except OSError:  # no daemon now: the next one reads the record before anything else
            pass
        self._retry_at = None
        return True

    def send_last(self) -> None:
        """Poke about the end; a few tries, then the pidfd has to do."""
        for _ in range(LAST_TRIES):
            if self.send():
                return
            time.sleep(RETRY_MS / 1000)
