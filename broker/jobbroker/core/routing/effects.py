"""What the routing wants done. Whoever performs the effects keeps their order."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from jobclient.protocol.jsonrpc import Json

Client = int
"""A connection, by a number that is never used again."""
TurnStatus = Literal["completed", "failed", "timed_out", "cancelled"]
TurnReason = Literal["exit", "deadline", "idle", "user", "disconnect", "shutdown", "backend_exit", "spawn"]


class Exit(Struct, frozen=True):
    """How the backend ended.

    Attributes:
        reason: in words.
        code, signal: as the kernel tells it, where it does.
        stderr_tail: the last it said.
    """

    reason: str
    code: int | None = None
    signal: str | None = None
    stderr_tail: str = ""

    def data(self) -> dict[str, Json]:
        """As the `data` of an error."""
        return {"exitCode": self.code, "signal": self.signal, "stderrTail": self.stderr_tail}


class Start(Struct, frozen=True):
    """Somebody needs the backend: start it."""


class ToBackend(Struct, frozen=True):
    """Send it a message, not framed yet."""

    message: bytes


class ToClient(Struct, frozen=True):
    """Send a client a message, not framed yet; a `lossy` one may be left out if the client does not read."""

    client: Client
    message: bytes
    lossy: bool = False


class EndBackend(Struct, frozen=True):
    """It cannot be used any more: end it."""

    reason: str


class Remark(Struct, frozen=True):
    """A line for the log."""

    text: str


class Answered(Struct, frozen=True):
    """A request of the broker's own has its outcome, `result` or `error`."""

    ticket: int
    outcome: dict[str, Json]


class TurnBegan(Struct, frozen=True):
    """The request of a turn is on its way."""

    name: str


class TurnOutput(Struct, frozen=True):
    """A turn has said something: part of its result, or progress."""

    name: str
    stream: Literal["stdout", "stderr"]
    text: str


class TurnEnded(Struct, frozen=True):
    """A turn is over."""

    name: str
    status: TurnStatus
    reason: TurnReason
    error: str | None = None


Effect = Start | ToBackend | ToClient | EndBackend | Remark | Answered | TurnBegan | TurnOutput | TurnEnded
