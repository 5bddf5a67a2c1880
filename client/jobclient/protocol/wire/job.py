"""A job as clients see it, and the words it is described with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

MAX_NUMBER = 10**14
"""The most a parameter may ask for: every client's JSON keeps it exact, and our clocks, sums and store take it."""
Amount = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
ResourceLimit = Annotated[int, Meta(ge=-1, le=2**63 - 1)]  # as the kernel counts it, -1 for none
Kind = Literal["command", "agent", "turn"]
JsonParams = dict[str, Any] | list[Any]
Status = Literal["queued", "running", "stopped", "completed", "failed", "timed_out", "cancelled"]
Reason = Literal[
    "exit", "signal", "spawn", "deadline", "idle", "user", "disconnect", "shutdown", "backend_exit", "lost", "internal"
]  # fmt: skip
StreamName = Literal["all", "stdout", "stderr"]
OneStream = Literal["stdout", "stderr"]
Encoding = Literal["utf-8", "base64"]
StdinKind = Literal["null", "pipe", "file", "data"]
Target = Literal["group", "leader"]
Trigger = Literal["interval", "manual"]
ShutdownMode = Literal["ifIdle", "keepJobs", "cancelJobs"]

LIVE: frozenset[str] = frozenset({"queued", "running", "stopped"})
TERMINAL: frozenset[str] = frozenset({"completed", "failed", "timed_out", "cancelled"})


class Base64(Struct, frozen=True, rename="camel"):
    """Bytes that are not UTF-8, where text is usual: an element of argv, an environment entry, a directory."""

    base64: str


Text = str | Base64


class Origin(Struct, frozen=True, rename="camel", gc=False):
    """Who asked for a job: the process at the other end of the socket, as the kernel names it."""

    pid: int
    client: str


class Stream(Struct, frozen=True, rename="camel", gc=False):
    """One output stream: bytes the job wrote, how many of them were not kept, whether it can still grow."""

    size: int = 0
    dropped: int = 0
    closed: bool = False


class ParentTick(Struct, frozen=True, rename="camel"):
    """The tick a job was run by."""

    schedule: str
    runner: str
    batch_id: str
    trigger: Trigger


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
    agent: str | None = None
    prompt: str | None = None
    method: str | None = None
    params: JsonParams | None = None
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
    stdin: StdinKind = "null"
    stdin_file: Text | None = None
    persist: bool = True
    stdout: Stream = Stream()
    stderr: Stream = Stream()
    tick: ParentTick | None = None
    rev: int = 0
    env: list[Text] | UnsetType = UNSET
