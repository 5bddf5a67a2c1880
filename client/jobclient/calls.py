"""What `Client` and `AsyncClient` ask: each method of theirs as a value, without a connection.

A `Call` is one request and the type of its result. What takes several is a `Plan`: a generator that yields calls and is
sent their results, or has the error of one thrown in.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from jobclient.feeding import pieces
from jobclient.protocol import errors, wire
from jobclient.raw import text, unbase64
from jobclient.starting import start_parameters

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from typing import Literal

    from jobclient.raw import Params
    from jobclient.starting import StartOptions, Word

    Plan: TypeAlias = "Generator[Call[Any], Any, T]"

T = TypeVar("T")
FOLLOW_WAIT_MS = 60_000
PIECE = 256 * 1024
_LIVE: tuple[wire.Status, ...] = ("queued", "running", "stopped")


class Call(NamedTuple, Generic[T]):
    """A request.

    Attributes:
        kind: the type of its result.
        patience: seconds the broker may lawfully wait before it answers; None for as long as it likes.
    """

    method: str
    params: Params
    kind: type[T]
    patience: float | None = 0.0


def convert(answer: object, kind: type[T]) -> T:
    """What the broker said as the type it should have.

    Raises:
        JobBrokerError: it does not have it.
    """
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as exc:
        raise errors.JobBrokerError(f"the broker's answer is not understood: {exc}  -> upgrade this client") from exc


class JobFailed(errors.JobBrokerError):
    """A job that was to succeed has not.

    Attributes:
        job: that job, as it ended.
    """

    def __init__(self, job: wire.Job) -> None:
        super().__init__(f"{job.name or job.id} {job.status}: {job.error or job.reason}")
        self.job = job


# --- the broker -----------------------------------------------------------------------------------------------------

PING = Call[wire.Ping]("broker/ping", {}, wire.Ping)
STATUS = Call[wire.BrokerStatus]("broker/status", {}, wire.BrokerStatus)


def shutdown(mode: wire.ShutdownMode, grace_ms: int | None) -> Call[wire.Done]:
    """The end of the broker."""
    return Call("broker/shutdown", {"mode": mode, "graceMs": grace_ms}, wire.Done, None)


# --- starting -------------------------------------------------------------------------------------------------------


def start(argv: Sequence[Word], options: StartOptions) -> Call[wire.Started]:
    """The start of a command."""
    if isinstance(argv, str | bytes):
        raise TypeError("argv is a list of words, not one text; for a shell: ['sh', '-c', ...]")
    return _start({"argv": [text(os.fsdecode(word)) for word in argv]}, start_parameters(options))


def start_agent(agent: str, prompt: str, options: StartOptions) -> Call[wire.Started]:
    """The start of an agent."""
    return _start({"agent": agent, "prompt": prompt}, start_parameters(options))


def start_turn(method: str, params: wire.JsonParams | None, options: StartOptions) -> Call[wire.Started]:
    """The start of a turn: it has no process, so of what this one is it takes only what was asked for."""
    given = {name for name, value in options.items() if value is not None} | {"idempotency_key"}
    how = {name: value for name, value in start_parameters(options).items() if _python(name) in given}
    return _start({"method": method, "params": params}, how)


def _start(what: dict[str, object], how: dict[str, object]) -> Call[wire.Started]:
    return Call("job/start", {**what, **how}, wire.Started)


def _python(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


# --- looking --------------------------------------------------------------------------------------------------------


def get(job: str, *, env: bool = False) -> Call[wire.OneJob]:
    """A job."""
    return Call("job/get", {"id": job, "env": env}, wire.OneJob)


def list_jobs(
    *,
    status: wire.Status | Sequence[wire.Status] | None,
    kind: str | None,
    label: Mapping[str, str] | None,
    name: str | None,
    cwd: Word | None,
    limit: int | None,
    before: str | None,
    order: Literal["desc", "asc"] | None,
) -> Call[wire.JobList]:
    """A page of jobs."""
    params: dict[str, object] = {
        "status": status,
        "kind": kind,
        "label": None if label is None else dict(label),
        "name": name,
        "cwd": None if cwd is None else text(os.fsdecode(cwd)),
        "limit": limit,
        "before": before,
        "order": order,
    }
    return Call("job/list", params, wire.JobList)


def wait(
    jobs: Sequence[str],
    *,
    any: bool = False,  # noqa: A002  # the protocol's words
    all: bool = False,  # noqa: A002
    filter: wire.Filter | None = None,  # noqa: A002
    until_output: str | wire.UntilOutput | None = None,
    timeout_ms: int | None = None,
) -> Plan[wire.Waited]:
    """The end of jobs, which are looked up by id first: after a reconnect, "all" would mean others."""
    if [bool(jobs), all, filter is not None].count(True) != 1:
        raise TypeError("name jobs, or say all=True, or give a filter")
    if isinstance(until_output, str):
        until_output = wire.UntilOutput(pattern=until_output)
    params: dict[str, object] = {
        "any": any,
        "timeoutMs": timeout_ms,
        "untilOutput": None if until_output is None else msgspec.to_builtins(until_output),
    }
    return _wait(jobs, filter, params, None if timeout_ms is None else timeout_ms / 1000)


def _wait(
    jobs: Sequence[str], wanted: wire.Filter | None, params: dict[str, object], patience: float | None
) -> Plan[wire.Waited]:
    ids = tuple(jobs) or (yield from _live(wanted or wire.Filter()))
    waited: wire.Waited = yield Call("job/wait", {"ids": ids, **params}, wire.Waited, patience)
    return waited


def _live(wanted: wire.Filter) -> Plan[tuple[str, ...]]:
    asked = [wanted.status] if isinstance(wanted.status, str) else wanted.status
    status: list[wire.Status] = [each for each in _LIVE if asked is None or each in asked]
    ids: tuple[str, ...] = ()
    before: str | None = None
    while True:
        params = {**msgspec.to_builtins(wanted), "status": status, "before": before}
        page: wire.JobList = yield Call("job/list", params, wire.JobList)
        ids += tuple(job.id for job in page.jobs)
        before = page.next
        if before is None:
            return ids


def ended(job: wire.Job, *, check: bool) -> Plan[wire.Job]:
    """A job as it ended.

    Raises:
        JobFailed: it was to succeed, and has not.
    """
    waited: wire.Waited = yield from wait([job.id])
    if check and waited.jobs[0].status != "completed":
        raise JobFailed(waited.jobs[0])
    return waited.jobs[0]


def result(job: str) -> Call[wire.ResultResult]:
    """What a completed job left."""
    return Call("job/result", {"id": job}, wire.ResultResult)


def output(
    job: str,
    *,
    stream: wire.StreamName = "all",
    start: str | None = None,
    limit: int | None = None,
    tail: int | None = None,
    wait_ms: int = 0,
    times: bool = False,
) -> Call[wire.Output]:
    """A piece of output."""
    params: dict[str, object] = {
        "id": job,
        "stream": stream,
        "from": start,
        "limit": limit,
        "tail": tail,
        "waitMs": wait_ms,
        "times": times or None,
    }
    return Call("job/output", params, wire.Output, wait_ms / 1000)


def following(job: str, stream: wire.StreamName, start: str | None) -> Call[wire.Output]:
    """The next piece of output of a job that is followed; the cursor is held here, so any broker can be asked."""
    return output(job, stream=stream, start=start, limit=PIECE, wait_ms=FOLLOW_WAIT_MS)


def data_of(piece: wire.Output) -> bytes:
    """The bytes of a piece of output."""
    return unbase64(piece.data) if piece.encoding == "base64" else piece.data.encode()


# --- acting ---------------------------------------------------------------------------------------------------------


def cancel(job: str, grace_ms: int | None, *, confirm: bool) -> Call[wire.Cancelled]:
    """The end of a job."""
    return Call("job/cancel", {"id": job, "graceMs": grace_ms, "confirm": confirm}, wire.Cancelled, None)


def signal(job: str, signal: str | int, target: wire.Target) -> Call[wire.OneJob]:
    """A signal to a job."""
    return Call("job/signal", {"id": job, "signal": signal, "target": target}, wire.OneJob)


def feed(job: str, data: str | bytes, *, close: bool) -> Plan[None]:
    """Something to read for a job."""
    plan = pieces(job, data.encode() if isinstance(data, str) else data)
    try:
        params = next(plan)
        while True:
            try:
                yield Call("job/input", params, wire.Done, None)
            except errors.JobBrokerError as exc:
                params = plan.throw(exc)
            else:
                params = next(plan)
    except StopIteration:
        pass
    if close:
        yield Call("job/input", {"id": job, "close": True}, wire.Done)


def one(method: str, job: str) -> Call[wire.OneJob]:
    """What is done with one job, and tells how it is then: `job/pause`, say."""
    return Call(method, {"id": job}, wire.OneJob)


LAST_STOPPED = Call[wire.OneJob]("job/lastStopped", {}, wire.OneJob)


def processes(job: str) -> Call[wire.Processes]:
    """What a job consists of."""
    return Call("job/processes", {"id": job}, wire.Processes)


def remove(job: str) -> Call[wire.Removed]:
    """The removal of a job."""
    return Call("job/remove", {"id": job}, wire.Removed)


def cleanup(
    max_age_ms: int | None, keep: int | None, max_bytes: int | None, jobs: wire.Filter | None, *, dry_run: bool
) -> Call[wire.Removed]:
    """The removal of many."""
    wanted: dict[str, object] = {} if jobs is None else msgspec.to_builtins(jobs)
    sizes: dict[str, object] = {"maxAgeMs": max_age_ms, "keep": keep, "maxBytes": max_bytes, "dryRun": dry_run}
    return Call("job/cleanup", {**wanted, **sizes}, wire.Removed, None)


# --- the backend ----------------------------------------------------------------------------------------------------

BACKEND = Call[wire.BackendStatus]("backend/status", {}, wire.BackendStatus)


def backend_request(method: str, params: wire.JsonParams | None, timeout_ms: int | None) -> Call[wire.BackendResult]:
    """A request to the backend."""
    asked: dict[str, object] = {"method": method, "params": params, "timeoutMs": timeout_ms}
    return Call("backend/request", asked, wire.BackendResult, None if timeout_ms is None else timeout_ms / 1000)


def backend_profiles(name: str | None) -> Call[wire.BackendProfiles]:
    """The profiles there are."""
    return Call("backend/profiles", {"name": name}, wire.BackendProfiles)
