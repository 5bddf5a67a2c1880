"""The shapes of results as the command line sees them: plain JSON objects. Only type checkers read this file.

They follow `jobclient.protocol.wire`, which is too slow to import here; a test keeps the two equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from jobclient.raw import Text


class Stream(TypedDict):
    """`wire.Stream`."""

    size: int
    dropped: int
    closed: bool


class Origin(TypedDict):
    """`wire.Origin`."""

    pid: int
    client: str


class ParentTick(TypedDict):
    """`wire.ParentTick`."""

    schedule: str
    runner: str
    batchId: str
    trigger: str


class Job(TypedDict):
    """`wire.Job`."""

    id: str
    number: int
    kind: str
    status: str
    argv: list[Text]
    cwd: Text
    createdAt: str
    name: str | None
    labels: dict[str, str]
    agent: str | None
    prompt: str | None
    method: str | None
    params: object
    origin: Origin | None
    reason: str | None
    exitCode: int | None
    signal: str | None
    error: str | None
    pid: int | None
    pgid: int | None
    startedAt: str | None
    stoppedAt: str | None
    completedAt: str | None
    durationMs: int | None
    timeoutMs: int
    idleTimeoutMs: int
    graceMs: int
    cancelRequested: bool
    merged: bool
    stdin: str
    stdinFile: Text | None
    persist: bool
    stdout: Stream
    stderr: Stream
    tick: ParentTick | None
    rev: int
    env: list[Text]


class Process(TypedDict):
    """`wire.Process`."""

    pid: int
    ppid: int
    pgid: int
    command: Text
    state: str
    cpu: float
    rss: int
