"""Tell the service manager, if there is one, how we are (sd_notify(3)); without one, nothing happens."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, MutableMapping

import trio

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
PINGS = 3
"""Signs of life in the time the manager waits for one: the loop may be late by most of it."""

RETRY_SECONDS = 0.1
"""How long a manager that is behind is left alone."""


class Manager:
    """The service manager, as far as it wants to hear from us.

    Attributes:
        address: where it listens, as the kernel takes it; empty if nowhere.
        watchdog_seconds: how long it waits for a sign of life before it ends us, 0 for ever.
    """

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        self.address = address
        self.watchdog_seconds = watchdog_seconds

    def tell(self, *assignments: str) -> bool:
        """Send `STATUS=...` and the like; False if it has not come to reading what was sent before.

        That it does not listen at all is none of our troubles.
        """
        if not self.address:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.sendto("\n".join(assignments).encode(), self.address)
            except BlockingIOError:
                return False
            except OSError:
                pass
        return True

    async def insist(self, *assignments: str) -> None:
        """Send what it must hear: who is not said to be ready is ended."""
        while not self.tell(*assignments):  # noqa: ASYNC110  # nothing says when it has read on
            await trio.sleep(RETRY_SECONDS)

    async def keep_watched(self, status: Callable[[], str]) -> None:
        """Give signs of life from the loop that everything runs on, each with the status, until cancelled."""
        while self.watchdog_seconds:
            self.tell("WATCHDOG=1", f"STATUS={status()}")
            await trio.sleep(self.watchdog_seconds / PINGS)


def manager(environ: MutableMapping[str, str], pid: int) -> Manager:
    """The manager the environment speaks of, which says nothing of it afterwards: none of our children is to answer."""
    found = Manager(_address(environ.get("NOTIFY_SOCKET", "")), _watchdog_seconds(environ, pid))
    for name in VARIABLES:
        environ.pop(name, None)
    return found


def _address(place: str) -> str:
    if place[:1] == "@":
        return "\0" + place[1:]
    return place if place[:1] == "/" else ""


def _watchdog_seconds(environ: Mapping[str, str], pid: int) -> float:
    length, whom = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if whom not in ("", str(pid)) or not (length.isdecimal() and length.isascii()):
        return 0.0
    return int(length) / 1_000_000
