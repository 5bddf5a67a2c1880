"""`events/*`, and what is told without being asked each time."""

from __future__ import annotations

from msgspec import field

from jobclient.protocol.wire.job import Encoding, Job, OneStream
from jobclient.protocol.wire.look import Filter
from jobclient.protocol.wire.message import Params, Result


class SubscribeParams(Params):
    """`events/subscribe`: `jobs` restricts which, `output` is for what they write; `since` goes on at a cursor.

    `ticks` is for those of timed jobs.
    """

    jobs: Filter | None = None
    output: bool | None = None
    ticks: bool | None = None
    since: str | None = None


class Subscribed(Result):
    """`events/subscribe`: the jobs as of `cursor`; every later change is notified.

    With `reset`, all live jobs the filter matches, as far as they fit: at `next`, `job/list` goes on with the rest.
    Without, the jobs that have changed since the cursor that was given, and the ids of those that were removed.
    """

    cursor: str
    jobs: list[Job]
    removed: list[str]
    reset: bool
    next: str | None = None


class JobUpdated(Result):
    """`notifications/job/updated`."""

    job: Job
    cursor: str


class JobRemoved(Result):
    """`notifications/job/removed`."""

    id: str
    cursor: str


class JobOutput(Result):
    """`notifications/job/output`: a piece; `dropped` bytes of its stream right before it did not come."""

    id: str
    stream: OneStream
    start: str
    next: str
    data: str
    encoding: Encoding
    dropped: int


class BrokerShuttingDown(Result):
    """`notifications/broker/shuttingDown`, to every connection, before it is closed."""

    reason: str
    grace_ms: int = 0
    exit_code: int | None = None
    signal: str | None = None
    stderr_tail: str = ""
    lost_jobs: list[str] = field(default_factory=list[str])
