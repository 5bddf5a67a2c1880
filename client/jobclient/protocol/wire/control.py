"""`job/cancel`, `job/signal`, `job/processes`, `job/remove`, `job/cleanup`: act on jobs."""

from __future__ import annotations

from jobclient.protocol.wire.job import Amount, Encoding, Job, Target, Text
from jobclient.protocol.wire.look import Filter, JobParams
from jobclient.protocol.wire.message import Result


class CancelParams(JobParams):
    """`job/cancel`: `confirm` (the default) answers when everything is dead, else as soon as it is asked."""

    grace_ms: Amount | None = None
    confirm: bool | None = None


class Cancelled(Result):
    """`job/cancel`: `changed` is false if the job had already ended; `killed` processes of it took SIGKILL to end.

    `survivors` could not be killed.
    """

    job: Job
    changed: bool
    survivors: list[int]
    killed: int = 0


class SignalParams(JobParams):
    """`job/signal`: a name in any case, `SIG` optional, or a number; to the job's process group or its leader alone."""

    signal: str | Amount
    target: Target | None = None


class InputParams(JobParams):
    """`job/input`: bytes for a job that reads from a pipe; `close` is the end of all input."""

    data: str | None = None
    encoding: Encoding | None = None
    close: bool | None = None


class Process(Result):
    """A process of a job. `cpu` is its share of one core since it started, in percent, `rss` its memory in bytes."""

    pid: int
    ppid: int
    pgid: int
    command: Text
    state: str
    cpu: float
    rss: int


class Processes(Result):
    """`job/processes`: the job's process groups, its own first, and its processes, parents before children."""

    pgids: list[int]
    processes: list[Process]


class CleanupParams(Filter):
    """`job/cleanup`: ended jobs older than `max_age_ms`, never the newest `keep`; `dry_run` only lists.

    With `max_bytes` the oldest go until the output of those that are left takes no more. The default of `max_age_ms` is
    24 h, with `max_bytes` it is 0.
    """

    max_age_ms: Amount | None = None
    keep: Amount | None = None
    max_bytes: Amount | None = None
    dry_run: bool | None = None


class Removed(Result):
    """`job/remove`, `job/cleanup`: the ids of the jobs that are gone."""

    removed: list[str]
