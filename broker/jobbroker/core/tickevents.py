"""What happens to a tick, and what is to be done about it: the words in which `tick` is spoken to, and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from jobbroker.core.entry import Line

Trigger: TypeAlias = Literal["interval", "manual"]
Decision: TypeAlias = Literal[
    "scheduled", "failed", "skipped_busy", "skipped_no_runners", "skipped_not_leader", "skipped_system_paused"
]
Gate: TypeAlias = Literal["scheduled", "skipped_not_leader", "skipped_system_paused"]
Details: TypeAlias = Mapping[str, object]
NOTHING: Details = {}
"""No details."""


class Tick(Struct, frozen=True, kw_only=True):
    """What became of a tick. `result` is None while its runners run."""

    batch: str
    trigger: Trigger
    decision: Decision
    runner_count: int
    result: str | None = None
    failed: int = 0
    duration_ms: int | None = None
    error: str | None = None


# --- events ---------------------------------------------------------------------------------------------------------


class Begin(Struct, frozen=True):
    """A tick is wanted. `details` go into its first line."""

    batch: str
    trigger: Trigger
    runners: tuple[str, ...]
    details: Details = NOTHING


class GateOpened(Struct, frozen=True):
    """The gate has an answer; `details` are what every runner gets to know."""

    batch: str
    decision: Gate
    term: int = 0
    details: Details = NOTHING


class GateFailed(Struct, frozen=True):
    """The gate has none."""

    batch: str
    error: str


class JobBegun(Struct, frozen=True):
    """The runner that runs is this job."""

    batch: str
    job: str


class ResultSaid(Struct, frozen=True):
    """The runner that runs says what its result is."""

    batch: str
    runner: str
    result: str | None
    details: Details = NOTHING


class RunnerEnded(Struct, frozen=True, kw_only=True):
    """A runner has ended; `duration_ms` only matters where nobody saw it begin."""

    batch: str
    runner: str
    ok: bool
    result: str | None = None
    error: str | None = None
    details: Details = NOTHING
    job: str | None = None
    duration_ms: int | None = None


class Cut(Struct, frozen=True):
    """The tick cannot go on; those of its jobs that still live are `left`, and keep the schedule busy."""

    error: str
    left: tuple[str, ...] = ()


Event = Begin | GateOpened | GateFailed | JobBegun | ResultSaid | RunnerEnded | Cut
EVENTS: tuple[type[Event], ...] = (Begin, GateOpened, GateFailed, JobBegun, ResultSaid, RunnerEnded, Cut)


# --- what is to be done ---------------------------------------------------------------------------------------------


class AskGate(Struct, frozen=True):
    """Ask whether the runners may run now."""

    batch: str


class Run(Struct, frozen=True):
    """Run a runner, and say when it has ended."""

    batch: str
    runner: str
    term: int


class Tell(Struct, frozen=True):
    """Tell what is known of the tick: at its decision, and again when it is over."""

    tick: Tick


Effect = Line | AskGate | Run | Tell
