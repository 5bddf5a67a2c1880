"""What the typed clients tell of jobs, and of which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from jobclient import watch
from jobclient.calls import convert
from jobclient.protocol import wire
from jobclient.raw import FAREWELL

if TYPE_CHECKING:
    from jobclient.raw import Message, Params


class Reset(msgspec.Struct, frozen=True):
    """What `Client.events` yields where it could not go on: forget what you know; all live jobs follow.

    Attributes:
        cursor: the place of what follows.
    """

    cursor: str


Event = wire.JobUpdated | wire.JobRemoved | wire.JobOutput | wire.Tick | wire.BrokerShuttingDown | Reset
"""What `Client.events` yields."""

_EVENTS: dict[str, type[Event]] = {
    watch.UPDATED: wire.JobUpdated,
    watch.REMOVED: wire.JobRemoved,
    watch.OUTPUT: wire.JobOutput,
    watch.TICK: wire.Tick,
    watch.RESET: Reset,
    FAREWELL: wire.BrokerShuttingDown,
}


def event_of(message: Message) -> Event | None:
    """A message of a watch as what it tells; None of what is a word between ourselves."""
    kind = _EVENTS.get(message["method"])
    return None if kind is None else convert(message["params"], kind)


def filter_of(jobs: wire.Filter | None) -> Params | None:
    """Which jobs, as it travels."""
    wanted: Params | None = None if jobs is None else msgspec.to_builtins(jobs)
    return wanted
