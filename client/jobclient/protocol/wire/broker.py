"""`broker/*`: who answers, how it is, when it ends."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from jobclient.protocol.wire.backend import Backend
from jobclient.protocol.wire.job import Amount, ShutdownMode
from jobclient.protocol.wire.message import Params, Result


class Ping(Result):
    """`broker/ping`: who answers. `started_at` and `pid` together tell one broker from the next."""

    pid: int
    version: str
    protocol: int
    instance: str
    started_at: str
    uptime_ms: int


class Limits(Result):
    """The limits in force. Sizes are bytes, 0 is no limit (`max_running` is never 0)."""

    max_running: int
    max_output: int
    max_total_output: int
    max_message: int
    timeout_ms: int
    grace_ms: int
    keep_jobs: int


class Places(Result):
    """Where this broker keeps things, as absolute paths."""

    socket: str
    state: str
    log: str
    settings: str


class BrokerStatus(Ping, kw_only=True):
    """`broker/status`: `counts` by job status, `connections` open now, `degraded` says what is wrong.

    `total_output` is what the output of all jobs takes on disk, in bytes.
    """

    counts: dict[str, int]
    connections: int
    total_output: int
    backend: Backend | None
    degraded: list[str]
    warnings: list[str]
    limits: Limits
    paths: Places


class ShutdownParams(Params):
    """`broker/shutdown`: `ifIdle` is refused while jobs are live, `keepJobs` leaves them, `cancelJobs` ends them."""

    mode: ShutdownMode | None = None
    grace_ms: Amount | None = None


Direction = Literal["in", "out"]
"""To the broker, or from it."""


class Connection(Struct, kw_only=True, frozen=True, rename="camel"):
    """A client that is connected. `framing` is null until it has said something."""

    number: int
    pid: int
    client: str
    framing: Literal["lines", "headers"] | None


class TraceParams(Params):
    """`broker/trace`: of one connection, or of all that do not trace; `on` false ends it."""

    connection: Amount | None = None
    on: bool | None = None


class Tracing(Result):
    """`broker/trace`: who is connected, whoever asks among them."""

    connections: list[Connection]


class Traced(Result):
    """`notifications/broker/trace`: a message, or its beginning; `dropped` messages before it did not come."""

    connection: int
    time: str
    direction: Direction
    text: str
    size: int
    dropped: int
