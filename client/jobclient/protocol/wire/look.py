"""`job/get`, `job/result`, `job/list`, `job/wait`, `job/output`: look at jobs, and wait for them."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from jobclient.protocol.wire.job import Amount, Encoding, Job, OneStream, Status, StreamName, Text
from jobclient.protocol.wire.message import Params, Result


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
    """What a completed job left: the last 1 MiB of each stream, base64 where that is not text; an agent's `message`."""

    stdout: str
    stderr: str
    exit_code: int | None
    duration_ms: int
    truncated: bool
    encoding: Encoding
    agent: str | None = None
    message: str | None = None


class ResultResult(OneJob):
    """`job/result`."""

    result: JobResult


class Filter(Params):
    """Which jobs are meant; members that are absent do not restrict."""

    status: Status | list[Status] | None = None
    kind: str | None = None
    label: dict[str, str] | None = None
    name: str | None = None
    cwd: Text | None = None


class ListParams(Filter):
    """`job/list`: `desc` (the default) is newest start first; `before` continues where the last page's `next` said."""

    limit: Amount | None = None
    before: str | None = None
    order: Literal["desc", "asc"] | None = None


class JobList(Result):
    """`job/list`: `next` is null on the last page."""

    jobs: list[Job]
    next: str | None = None


class UntilOutput(Params, rename={"from_": "from"}):
    """A line to wait for: one that matches a regular expression, from a cursor on."""

    pattern: str
    stream: StreamName | None = None
    from_: str | None = None


class WaitParams(Params):
    """`job/wait`: for `ids`, `all` jobs live now, or those of them a filter matches; `any`: for the first to end."""

    ids: list[str] | None = None
    all: bool | None = None
    jobs: Filter | None = None
    any: bool | None = None
    until_output: UntilOutput | None = None
    timeout_ms: Amount | None = None


class OutputMatch(Result):
    """A line that was waited for, and where it is."""

    stream: OneStream
    line: str
    encoding: Encoding
    start: str
    next: str


class Waited(Result):
    """`job/wait`: those that ended, in order of completion; stopped jobs are not waited for; the line that matched."""

    jobs: list[Job]
    stopped: list[Job]
    timed_out: bool
    match: OutputMatch | None = None


class OutputParams(JobParams, rename={"from_": "from", "wait_ms": "waitMs"}):
    """`job/output`: from a cursor, or the last `tail` lines; `wait_ms` waits for more when there is nothing yet.

    `times` asks for `marks`.
    """

    stream: StreamName | None = None
    from_: str | None = None
    limit: Amount | None = None
    tail: Amount | None = None
    wait_ms: Amount | None = None
    times: bool | None = None


class Mark(Struct, frozen=True, rename="camel"):
    """From byte `at` of a piece on, a stream wrote what is there, at that time."""

    at: int
    time: str
    stream: Literal["stdout", "stderr"]


class Output(Result):
    """`job/output`: a piece; ask again from `next`. `dropped` bytes before `start` were not kept, `eof` is the end."""

    data: str
    encoding: Encoding
    start: str
    next: str
    dropped: int
    eof: bool
    marks: list[Mark] | UnsetType = UNSET
