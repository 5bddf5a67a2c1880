"""`job/start`: what may be asked for."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from jobclient.protocol.wire.job import Amount, Job, JsonParams, ResourceLimit, Text
from jobclient.protocol.wire.message import Params, Result


class StdinSource(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a job reads: a file of the system, by its absolute path, or what is sent along as text or base64."""

    file: Text | None = None
    text: str | None = None
    base64: str | None = None


class StartParams(Params):
    """`job/start`. Needed is `argv`, or `agent` and `prompt`, or `method`; the rest has defaults of the broker's own.

    `env` is an object, or a list of `NAME=value` where a name or value may not be UTF-8. `rlimits` are soft limits by
    name (`NOFILE`), -1 for none. `stdin` is nothing by default; a "pipe" is fed by `job/input`. `merged` writes both
    streams through one pipe, in exact order. `max_output` bytes are kept, the rest is counted; `persist` false keeps
    them in memory only. The same `idempotency_key` names the same job for as long as that job exists.
    """

    argv: list[Text] | None = None
    agent: str | None = None
    prompt: str | None = None
    method: str | None = None
    params: JsonParams | None = None
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
    stdin: Literal["null", "pipe"] | StdinSource | None = None
    merged: bool | None = None
    max_output: Amount | None = None
    persist: bool | None = None
    on_disconnect: Literal["detach", "cancel"] | None = None
    idempotency_key: str | None = None


class Started(Result):
    """`job/start`: the job, and whether this request made it (false: its idempotency key already had one)."""

    job: Job
    created: bool
