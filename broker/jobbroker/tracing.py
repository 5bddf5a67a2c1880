"""What connections say and are told, shown to those who ask: for whoever writes a client and wonders.

While nobody traces it costs a look at a flag. Who traces and does not read goes without, and is told how much.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from jobbroker.clock import wall_ms
from jobbroker.core.job import timestamp
from jobclient.protocol import jsonrpc, wire
from jobclient.protocol.errors import InvalidParams

NOTICE = "notifications/broker/trace"
SHOWN = 4096
"""Bytes of a message that are shown."""


class Speaker(Protocol):
    """A connection, as far as traces are concerned.

    Attributes:
        number: its own among all connections of this broker.
    """

    number: int

    def describe(self) -> wire.Connection:
        """Who is at the other end."""
        ...

    def offer(self, job: str, message: bytes) -> bool:
        """Send a notification if there is room for it; whether there was."""
        ...


class _Trace:
    """What one of those who trace wants to see, and how many messages he has missed since the last."""

    __slots__ = ("missed", "number")

    def __init__(self, number: int | None) -> None:
        self.number = number
        self.missed = 0


class Tracing:
    """All connections of a broker, and who traces them.

    Attributes:
        active: whether anybody does.
    """

    def __init__(self) -> None:
        self.active = False
        self._last = 0
        self._speakers: dict[int, Speaker] = {}
        self._traces: dict[int, _Trace] = {}

    def join(self, speaker: Speaker) -> int:
        """A new connection: its number."""
        self._last += 1
        self._speakers[self._last] = speaker
        return self._last

    def leave(self, speaker: Speaker) -> None:
        """It has ended."""
        self.ignore(speaker)
        self._speakers.pop(speaker.number, None)

    def listen(self, speaker: Speaker, number: int | None) -> None:
        """Show it what the connection of that number says from now on, or what all do that do not trace themselves.

        Raises:
            InvalidParams: there is no such connection.
        """
        if number is not None and number not in self._speakers:
            raise InvalidParams(f"`connection` {number} does not exist (any more)")
        self._traces[speaker.number] = _Trace(number)
        self.active = True

    def ignore(self, speaker: Speaker) -> None:
        """Show it no more."""
        self._traces.pop(speaker.number, None)
        self.active = bool(self._traces)

    def connections(self) -> list[wire.Connection]:
        """Everybody who is connected, the longest first."""
        return [speaker.describe() for speaker in self._speakers.values()]

    def note(self, number: int, direction: wire.Direction, framed: bytes, start: int = 0) -> None:
        """A message has come or goes out; it begins at `start`. Those of somebody who traces are shown to nobody."""
        if number in self._traces:
            return
        wanted = [(who, trace) for who, trace in self._traces.items() if trace.number in (None, number)]
        if not wanted:
            return
        shown = wire.Traced(
            connection=number,
            time=timestamp(wall_ms()),
            direction=direction,
            text=framed[start : start + SHOWN].decode(errors="replace").removesuffix("\n"),
            size=len(framed) - start,
            dropped=0,
        )
        encoded = jsonrpc.encode_notification(NOTICE, shown)
        for who, trace in wanted:
            own = encoded
            if trace.missed:
                own = jsonrpc.encode_notification(NOTICE, msgspec.structs.replace(shown, dropped=trace.missed))
            trace.missed = 0 if self._speakers[who].offer("", own) else trace.missed + 1
