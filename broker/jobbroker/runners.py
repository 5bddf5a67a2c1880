"""Runners of timed jobs at work: a job with its tick as parent, or what the broker does itself."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
import trio
from msgspec import Struct

from jobbroker.admission import Admission
from jobbroker.core.job import Snapshot, is_terminal
from jobbroker.core.schedule import Definition, Runner
from jobbroker.core.tickevents import Run, RunnerEnded, Trigger
from jobbroker.removal import Policy
from jobbroker.requests import ForTick
from jobclient.protocol import errors, wire
from jobclient.protocol.wire import StartParams as StartParams

DAY_MS = 24 * 60 * 60 * 1000
BUILTIN_TIMEOUT_MS = 10 * 60 * 1000
"""How long the broker's own runners may take if nothing is said."""
_PREFIX = "JOBBROKER_TICK_"


class Start(Protocol):
    """How a job is admitted."""

    def __call__(
        self, params: wire.StartParams, origin: wire.Origin, owner: object, tick: ForTick
    ) -> tuple[Admission | Snapshot, bool]:
        """Take it in."""
        ...


class Here(Struct, frozen=True):
    """Where runners run, and what they are told of it."""

    instance: str
    host: str
    log_dir: str
    socket: str

    @property
    def controller(self) -> str:
        """Which of the brokers that may run a schedule this is."""
        return f"{self.instance}@{self.host}"


class Handout(Struct, frozen=True, rename="camel"):
    """What a runner gets to know: in its environment, and as JSON on its stdin."""

    schedule: str
    runner: str
    batch_id: str
    trigger: Trigger
    term: int
    host: str
    controller_id: str
    instance: str
    interval_ms: int
    max_tasks_per_tick: int
    max_messages_per_tick: int
    settle_delay_ms: int
    log_dir: str
    socket: str

    def environment(self) -> tuple[bytes, ...]:
        """The same as variables: `JOBBROKER_TICK_BATCH_ID` and so on."""
        values = msgspec.structs.asdict(self)
        return tuple(os.fsencode(f"{_PREFIX}{name.upper()}={value}") for name, value in values.items())


def handout(definition: Definition, order: Run, trigger: Trigger, here: Here) -> Handout:
    """What a runner of a tick gets to know."""
    config = definition.config
    return Handout(
        schedule=definition.name,
        runner=order.runner,
        batch_id=order.batch,
        trigger=trigger,
        term=order.term,
        host=here.host,
        controller_id=here.controller,
        instance=here.instance,
        interval_ms=config.interval_ms,
        max_tasks_per_tick=config.max_tasks_per_tick,
        max_messages_per_tick=config.max_messages_per_tick,
        settle_delay_ms=config.settle_delay_ms,
        log_dir=here.log_dir,
        socket=here.socket,
    )


def admit(start: Start, params: wire.StartParams, given: Handout) -> Admission:
    """Take in the job of a runner. A command reads what it is to know; an agent would take it for a part of its task.

    Raises:
        RemoteError: it cannot be started.
    """
    reads = wire.StdinSource(text=msgspec.json.encode(given).decode() + "\n") if params.argv is not None else None
    parent = wire.ParentTick(given.schedule, given.runner, given.batch_id, given.trigger)
    asked = msgspec.structs.replace(params, stdin=reads, name=given.runner)
    origin = wire.Origin(pid=os.getpid(), client="timed")
    found, _ = start(asked, origin, None, ForTick(parent, given.environment()))
    assert isinstance(found, Admission)  # noqa: S101  # without a key it is always a new one
    return found


def outcome(snapshot: Snapshot) -> RunnerEnded:
    """What an ended job means for the tick it belongs to."""
    job = snapshot.job
    assert job.tick is not None  # noqa: S101  # it would not be asked
    assert is_terminal(job)  # noqa: S101  # the same
    ok = job.status == "completed"
    details: dict[str, object] = {"job": job.id, "exit_code": job.exit_code}
    if job.signal is not None:
        details["signal"] = job.signal
    return RunnerEnded(
        batch=job.tick.batch_id,
        runner=job.tick.runner,
        ok=ok,
        result=None if ok else ("lost" if job.reason == "lost" else job.status),
        error=job.error if ok or job.error else f"it was {job.status} ({job.reason})",
        details=details,
        job=job.id,
        duration_ms=job.duration_ms,
    )


# --- what the broker does itself ------------------------------------------------------------------------------------

Builtin = Callable[[], Awaitable[Mapping[str, object]]]
"""Does it, and returns what is to be said of it."""


def builtins(clean: Callable[[Policy], Awaitable[list[str]]]) -> dict[str, Builtin]:
    """What the broker does itself, by name."""

    async def cleanup() -> Mapping[str, object]:
        """Forget jobs that ended more than a day ago, as `job/cleanup` does."""
        return {"removed": len(await clean(Policy(age_ms=DAY_MS)))}

    return {"cleanup": cleanup}


async def do(work: Builtin, runner: Runner, batch: str) -> RunnerEnded:
    """Let the broker do something itself, for as long as it may take."""
    timeout = BUILTIN_TIMEOUT_MS if runner.timeout_ms is None else runner.timeout_ms
    with trio.move_on_after(timeout / 1000 if timeout else float("inf")):
        try:
            details = await work()
        except errors.JobBrokerError as exc:
            return RunnerEnded(batch=batch, runner=runner.name, ok=False, error=str(exc))
        return RunnerEnded(batch=batch, runner=runner.name, ok=True, details=details)
    error = f"time limit of {timeout} ms passed"
    return RunnerEnded(batch=batch, runner=runner.name, ok=False, result="timed_out", error=error)
