"""What travels: a job as clients see it, and the parameters and result of every method.

Python names are snake_case, wire names camelCase. A member that is null is absent. Unknown members of parameters are
refused, lest a client believe in an option this broker does not have; of results, clients ignore what they do not know.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from jobclient.protocol import PROTOCOL_VERSION as PROTOCOL_VERSION

MAX_NUMBER = 10**14
"""The most a parameter may ask for: every client's JSON keeps it exact, and our clocks, sums and store take it."""
Amount = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
ResourceLimit = Annotated[int, Meta(ge=-1, le=2**63 - 1)]  # as the kernel counts it, -1 for none
Kind = Literal["command"]
Status = Literal["queued", "running", "stopped", "completed", "failed", "timed_out", "cancelled"]
Reason = Literal[
    "exit", "signal", "spawn", "deadline", "idle", "user", "disconnect", "shutdown", "backend_exit", "lost", "internal"
]  # fmt: skip
StreamName = Literal["all", "stdout", "stderr"]
Encoding = Literal["utf-8", "base64"]
Target = Literal["group", "leader"]
ShutdownMode = Literal["ifIdle", "keepJobs", "cancelJobs"]

LIVE: frozenset[str] = frozenset({"queued", "running", "stopped"})
TERMINAL: frozenset[str] = frozenset({"completed", "failed", "timed_out", "cancelled"})


class Base64(Struct, frozen=True, rename="camel"):
    """Bytes that are not UTF-8, where text is usual: an element of argv, an environment entry, a directory."""

    base64: str


Text = str | Base64


class Origin(Struct, frozen=True, rename="camel"):
    """Who asked for a job: the process at the other end of the socket, as the kernel names it."""

    pid: int
    client: str


class Stream(Struct, frozen=True, rename="camel"):
    """One output stream: bytes the job wrote, how many of them were not kept, whether it can still grow."""

    size: int = 0
    dropped: int = 0
    closed: bool = False


class Job(Struct, kw_only=True, rename="camel", gc=False):
    """A job as clients see it. Times are RFC 3339 UTC with milliseconds, durations are milliseconds, 0 is no limit."""

    id: str
    number: int
    kind: Kind
    status: Status
    argv: list[Text]
    cwd: Text
    created_at: str
    name: str | None = None
    labels: dict[str, str] = {}
    origin: Origin | None = None
    reason: Reason | None = None
    exit_code: int | None = None
    signal: str | None = None
    error: str | None = None
    pid: int | None = None
    pgid: int | None = None
    started_at: str | None = None
    stopped_at: str | None = None
    completed_at: str | None = None
    duration_ms: int | None = None
    timeout_ms: int = 0
    idle_timeout_ms: int = 0
    grace_ms: int = 0
    cancel_requested: bool = False
    merged: bool = False
    stdout: Stream = Stream()
    stderr: Stream = Stream()
    rev: int = 0
    env: list[Text] | UnsetType = UNSET


class Params(Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of all parameters."""


class Result(Struct, kw_only=True, rename="camel"):
    """Base of all results."""


class Nothing(Params):
    """No parameters."""


class Done(Result):
    """No result but that it is done."""


# --- broker ---------------------------------------------------------------------------------------------------------


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
    """`broker/status`: `counts` by job status, `connections` open now, `degraded` says what is wrong."""

    counts: dict[str, int]
    connections: int
    backend: None = None
    degraded: list[str]
    warnings: list[str]
    limits: Limits
    paths: Places


class ShutdownParams(Params):
    """`broker/shutdown`: `ifIdle` is refused while jobs are live, `keepJobs` leaves them, `cancelJobs` ends them."""

    mode: ShutdownMode | None = None
    grace_ms: Amount | None = None


# --- jobs -----------------------------------------------------------------------------------------------------------


class StartParams(Params):
    """`job/start`. Only `argv` is needed; the rest defaults to the broker's own surroundings and settings.

    `env` is an object, or a list of `NAME=value` where a name or value may not be UTF-8. `rlimits` are soft limits by
    name (`NOFILE`), -1 for none. `merged` writes both streams through one pipe, in exact order. `max_output` bytes are
    kept, the rest is counted. The same `idempotency_key` names the same job for as long as that job exists.
    """

    argv: list[Text]
    kind: str | None = None
    cwd: Text | None = None
    env: dict[str, Text] | list[Text] | None = None
    umask: Amount | None = None
    rlimits: dict[str, ResourceLimit] | None = None
    name: str | None = None
    labels: dict[str, str] | None = None
    timeout_ms: Amount | None = None
    idle_timeout_ms: Amount | None = None
    grace_ms: Amount | None = None
    merged: bool | None = None
    max_output: Amount | None = None
    on_disconnect: Literal["detach", "cancel"] | None = None
    idempotency_key: str | None = None


class Started(Result):
    """`job/start`: the job, and whether this request made it (false: its idempotency key already had one)."""

    job: Job
    created: bool


class JobParams(Params):
    """A job by reference: its id, `%number`, its name, or a unique prefix of its id."""

    id: str


class GetParams(JobParams):
    """`job/get`; `env` asks for the environment the job was started with."""

    env: bool | None = None


class OneJob(Result):
    """A job."""

    job: Job


class JobResult(Result):
    """What a completed job left: the last 1 MiB of each stream, base64 where that is not text."""

    stdout: str
    stderr: str
    exit_code: int
    duration_ms: int
    truncated: bool
    encoding: Encoding


class ResultResult(OneJob):
    """`job/result`."""

    result: JobResult


class Filter(Params):
    """Which jobs are meant; members that are absent do not restrict."""

    status: Status | list[Status] | None = None
    kind: str | None = None
    label: dict[str, str] | None = None
    name: str | None = None
    cwd: str | None = None


class ListParams(Filter):
    """`job/list`: `desc` (the default) is newest start first; `before` continues where the last page's `next` said."""

    limit: Amount | None = None
    before: str | None = None
    order: Literal["desc", "asc"] | None = None


class JobList(Result):
    """`job/list`: `next` is null on the last page."""

    jobs: list[Job]
    next: str | None = None


class WaitParams(Params):
    """`job/wait`: for `ids`, or for `all` jobs live now; `any` is content with the first to end."""

    ids: list[str] | None = None
    all: bool | None = None
    any: bool | None = None
    timeout_ms: Amount | None = None


class Waited(Result):
    """`job/wait`: those that ended, in order of completion; stopped jobs are not waited for."""

    jobs: list[Job]
    stopped: list[Job]
    timed_out: bool


class OutputParams(JobParams, rename={"from_": "from", "wait_ms": "waitMs"}):
    """`job/output`: from a cursor, or the last `tail` lines; `wait_ms` waits for more when there is nothing yet."""

    stream: StreamName | None = None
    from_: str | None = None
    limit: Amount | None = None
    tail: Amount | None = None
    wait_ms: Amount | None = None


class Output(Result):
    """`job/output`: a piece; ask again from `next`. `dropped` bytes before `start` were not kept, `eof` is the end."""

    data: str
    encoding: Encoding
    start: str
    next: str
    dropped: int
    eof: bool


class CancelParams(JobParams):
    """`job/cancel`: `confirm` (the default) answers when everything is dead, else as soon as it is asked."""

    grace_ms: Amount | None = None
    confirm: bool | None = None


class Cancelled(Result):
    """`job/cancel`: `changed` is false if the job had already ended; `survivors` could not be killed."""

    job: Job
    changed: bool
    survivors: list[int]


class SignalParams(JobParams):
    """`job/signal`: a name in any case, `SIG` optional, or a number; to the job's process group or its leader alone."""

    signal: str | Amount
    target: Target | None = None


class CleanupParams(Params):
    """`job/cleanup`: ended jobs older than `max_age_ms` (24 h), never the newest `keep`; `dry_run` only lists."""

    max_age_ms: Amount | None = None
    keep: Amount | None = None
    dry_run: bool | None = None


class Removed(Result):
    """`job/remove`, `job/cleanup`: the ids of the jobs that are gone."""

    removed: list[str]


# --- events ---------------------------------------------------------------------------------------------------------


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
    lost_jobs: list[str] = []


class ClientInfo(Struct, frozen=True, rename="camel"):
    """Who a client says it is."""

    name: str = ""
    version: str = ""


class InitializeParams(Struct, rename="camel"):
    """`initialize`, optional; whatever capabilities an editor sends are accepted and ignored."""

    client_info: ClientInfo | None = None


class Initialized(Result):
    """`initialize`."""

    capabilities: dict[str, object] = {}
    server_info: ClientInfo = ClientInfo()
    protocol_version: int = PROTOCOL_VERSION
    methods: list[str] = []
    limits: dict[str, int] = {}


class CancelRequestParams(Struct):
    """`$/cancelRequest`; the id as it was sent."""

    id: msgspec.Raw = msgspec.Raw(b"null")
