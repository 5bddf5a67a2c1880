"""`events/*`, and what is told without being asked each time."""

from __future__ import annotations

from msgspec import field

from jobclient.protocol.wire.job import Job
from jobclient.protocol.wire.look import Filter
from jobclient.protocol.wire.message import Params, Result


class SubscribeParams(Params):
    """`events/subscribe`: `jobs` restricts which; a second call replaces the first."""

    jobs: Filter | None = None


class Subscribed(Result):
    """`events/subscribe`: the live jobs the filter matches, as of `cursor`; every later change is notified."""

    cursor: str
    jobs: list[Job]
    reset: bool


class JobUpdated(Result):
    """`notifications/job/updated`."""

    job: Job


class JobRemoved(Result):
    """`notifications/job/removed`."""

    id: str


class BrokerShuttingDown(Result):
    """`notifications/broker/shuttingDown`, to every connection, before it is closed."""

    reason: str
    grace_ms: int = 0
    exit_code: int | None = None
    signal: str | None = None
    stderr_tail: str = ""
    lost_jobs: list[str] = field(default_factory=list[str])
