"""What a method gets to know of the call it answers, and how a method is declared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from jobbroker.broker import Broker
from jobbroker.events import Subscriber
from jobclient.protocol import wire


class Pending:
    """A result that is still to come.

    Attributes:
        rest: waits for it. What decides on the order of things was done before.
        so_far: what was done already; if the rest is cut off, that is in the `data` of the error.
    """

    __slots__ = ("rest", "so_far")

    def __init__(self, rest: Awaitable[wire.Result], so_far: Mapping[str, object] | None = None) -> None:
        self.rest = rest
        self.so_far = so_far


Outcome = wire.Result | Pending | None


class Caller(Subscriber, Protocol):
    """The connection a call came by."""

    broker: Broker
    origin: wire.Origin
    methods: tuple[str, ...]
    number: int

    def describe(self) -> wire.Connection:
        """Who is at the other end."""
        ...

    def hold(self, job: str) -> None:
        """Keep notifications of that job back until the call is answered."""
        ...


class Call:
    """One call, or all calls of one batch.

    Attributes:
        caller: the connection it came by.
        held: jobs whose notifications wait for the answer.
    """

    __slots__ = ("caller", "held")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.held: list[str] = []

    @property
    def broker(self) -> Broker:
        """Whom to ask."""
        return self.caller.broker

    def hold(self, job: str) -> None:
        """Keep notifications of that job back until this call is answered (editors.md S16)."""
        self.held.append(job)
        self.caller.hold(job)


class Method:
    """A method: the type of its parameters, its handler, and the members an array of parameters stands for."""

    __slots__ = ("handler", "params", "positional")

    def __init__(
        self, params: type[Any], handler: Callable[[Call, Any], Outcome], *, positional: tuple[str, ...] = ()
    ) -> None:
        self.params: msgspec.json.Decoder[Any] = msgspec.json.Decoder(params)
        self.handler = handler
        self.positional = positional
