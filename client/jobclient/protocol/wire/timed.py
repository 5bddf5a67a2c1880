"""`timed/*`: schedules, what they run, and what became of it."""

from __future__ import annotations

from typing import Any, Literal

from jobclient.protocol.wire.job import Amount, JsonParams, ResourceLimit, Text, Trigger
from jobclient.protocol.wire.message import Params, Result

Decision = Literal[
    "scheduled", "failed", "skipped_busy", "skipped_no_runners", "skipped_not_leader", "skipped_system_paused"
]
RunnerKind = Literal["command", "backend", "builtin"]


class ScheduleParams(Params):
    """A schedule by its name."""

    name: str


class AddParams(ScheduleParams):
    """`timed/add`: a schedule and its first runner, both of that name; with `schedule`, one more runner of that one.

    Every schedule says how often it ticks: `every_ms`, 0 for only when it is told to. A runner is a command (`argv`, or
    `agent` and `prompt`), a request to the backend (`method` and `params`), or a `builtin`. `cwd` to `max_output` are
    those of `job/start`. `max_tasks_per_tick`, `max_messages_per_tick` and `settle_delay_ms` are told to the runners.
    """

    schedule: str | None = None
    every_ms: Amount | None = None
    argv: list[Text] | None = None
    agent: str | None = None
    prompt: str | None = None
    method: str | None = None
    params: JsonParams | None = None
    builtin: str | None = None
    cwd: Text | None = None
    env: dict[str, Text] | list[Text] | None = None
    umask: Amount | None = None
    rlimits: dict[str, ResourceLimit] | None = None
    timeout_ms: Amount | None = None
    idle_timeout_ms: Amount | None = None
    grace_ms: Amount | None = None
    merged: bool | None = None
    max_output: Amount | None = None
    jitter_ms: Amount | None = None
    catch_up: bool | None = None
    max_tasks_per_tick: Amount | None = None
    max_messages_per_tick: Amount | None = None
    settle_delay_ms: Amount | None = None
    leader_lock: str | None = None


class Runner(Result):
    """What a schedule runs."""

    name: str
    kind: RunnerKind
    argv: list[Text] | None = None
    agent: str | None = None
    prompt: str | None = None
    method: str | None = None
    params: JsonParams | None = None
    builtin: str | None = None
    cwd: Text | None = None
    timeout_ms: int | None = None


class Tick(Result):
    """A tick. `result` is null while its runners run; then the decision once more, or `completed_with_failures`."""

    schedule: str
    batch_id: str
    trigger: Trigger
    decision: Decision
    runner_count: int
    result: str | None = None
    failed_runner_count: int = 0
    duration_ms: int | None = None
    error: str | None = None


class Schedule(Result):
    """A schedule as it stands.

    Attributes:
        next_at: when it ticks next.
        busy_streak: how many ticks in a row found it busy.
        missed: due times that passed without a tick: the machine slept, or no broker ran.
        last: the latest tick.
        jobs: its live jobs.
        leads: whether this broker runs it, as far as it knows; in which `term`.
    """

    name: str
    created_at: str
    every_ms: int
    jitter_ms: int
    catch_up: bool
    paused: bool
    max_tasks_per_tick: int
    max_messages_per_tick: int
    settle_delay_ms: int
    runners: list[Runner]
    next_at: str | None
    busy: bool
    busy_streak: int
    missed: int
    jobs: list[str]
    leads: bool
    term: int
    leader_lock: str | None = None
    last: Tick | None = None


class OneSchedule(Result):
    """`timed/add`, `timed/show`: a schedule."""

    schedule: Schedule


class SchedulesParams(Params):
    """`timed/list`: at most `limit`, from the one behind `after` on."""

    after: str | None = None
    limit: Amount | None = None


class Schedules(Result):
    """`timed/list`: in the order in which they were added; `paused` is for all, `log` where their log is.

    `next` is null on the last page. `dropped_lines` could not be written to the log since the broker started.
    """

    schedules: list[Schedule]
    paused: bool
    log: str
    dropped_lines: int
    next: str | None = None


class TimedRemoveParams(ScheduleParams):
    """`timed/remove`: a schedule, or one `runner` of it; a tick that is under way is waited for, but not for ever."""

    runner: str | None = None
    wait_ms: Amount | None = None


class TimedRemoved(Result):
    """`timed/remove`: `jobs` of it go on, since they took longer than was waited."""

    jobs: list[str]


class TickParams(ScheduleParams):
    """`timed/tick`: a tick now; answered when it is decided, with `wait` when it is over."""

    wait: bool | None = None


class PauseParams(Params):
    """`timed/pause`, `timed/resume`: one schedule, or timed jobs as a whole."""

    name: str | None = None


class Paused(Result):
    """`timed/pause`, `timed/resume`: whether that is paused now, and whether this request made it so."""

    paused: bool
    changed: bool


class LogParams(Params):
    """`timed/log`: what was written, of one schedule or all; the last lines, or those `since` a cursor or a time.

    With `wait_ms` it waits for lines if there are none yet.
    """

    name: str | None = None
    since: str | None = None
    limit: Amount | None = None
    wait_ms: Amount | None = None


class LogEntries(Result):
    """`timed/log`: lines as they were written, oldest first; ask again since `next`."""

    entries: list[dict[str, object]]
    next: str


class StageParams(Params):
    """`timed/stage`: a runner writes a line of its own into the log, under the batch it runs in.

    The stage `result` says what becomes the result of the runner if it ends well, and what is added to its last line.
    """

    batch_id: str
    runner: str
    stage: str
    result: str | None = None
    error: str | None = None
    duration_ms: Amount | None = None
    details: dict[str, Any] | None = None
