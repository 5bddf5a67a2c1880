"""The life of a job: its states, the events that move it, and the table of what each does in each, no cell empty.

The table alone changes a job's status. Nothing leaves a terminal state: whichever end comes first is the truth, later
ones are ignored. This file knows no clock and no process: times and ids come in with the events.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from jobclient.protocol.wire import LIVE, TERMINAL, Job, Reason, Status, Stream


class IllegalTransition(Exception):
    """An event that cannot happen in that state: a fault of ours or a forged record, never of a client."""


class Started(Struct, frozen=True, tag="started"):
    """The shim reports that the job runs (S); or the request of a turn, which has no process, is on its way."""

    pid: int | None
    wall_ms: int
    mono_ms: int


class SpawnFailed(Struct, frozen=True, tag="spawn_failed"):
    """It could not be started (F), or no shim could be had, or the fault was ours; `missing` is its program."""

    error: str
    wall_ms: int
    reason: Reason = "spawn"
    missing: bool = False


class NeverRan(Struct, frozen=True, tag="never_ran"):
    """It was decided, and written, that it shall never run (N)."""

    reason: Reason
    wall_ms: int


class Stopped(Struct, frozen=True, tag="stopped"):
    """The kernel reports its leader stopped (T)."""

    wall_ms: int


class Continued(Struct, frozen=True, tag="continued"):
    """The kernel reports its leader continued (C)."""


class EndAsked(Struct, frozen=True, tag="end_asked"):
    """A cancellation was accepted; it is committed before anything is signalled."""

    reason: Reason
    grace_ms: int


class EndBegun(Struct, frozen=True, tag="end_begun"):
    """A limit or a cancellation is being carried out (L); its reason names the end that follows."""

    reason: Reason


class Ended(Struct, frozen=True, tag="ended"):
    """Its leader ended and its whole tree is gone (X). `status` is a wait status."""

    status: int
    wall_ms: int
    mono_ms: int
    stdout: Stream
    stderr: Stream


class Lost(Struct, frozen=True, tag="lost"):
    """It is gone and nobody saw how; no exit code is invented."""

    error: str
    wall_ms: int


class TurnEnded(Struct, frozen=True, tag="turn_ended"):
    """A turn is over, as its backend said, by a limit, or with the backend. It never began if it is still queued."""

    status: Literal["completed", "failed", "timed_out", "cancelled"]
    reason: Reason
    error: str | None
    wall_ms: int
    mono_ms: int
    stdout: Stream
    stderr: Stream


Event = Started | SpawnFailed | NeverRan | Stopped | Continued | EndAsked | EndBegun | Ended | Lost | TurnEnded
EVENTS: tuple[type[Event], ...] = (
    Started, SpawnFailed, NeverRan, Stopped, Continued, EndAsked, EndBegun, Ended, Lost, TurnEnded,
)  # fmt: skip
STATUSES: tuple[Status, ...] = ("queued", "running", "stopped", "completed", "failed", "timed_out", "cancelled")


class Snapshot(Struct, kw_only=True, gc=False):
    """A job as stored: what clients see, and what only the broker needs to know.

    Attributes:
        job: what clients see.
        ending: the reason of the limit or cancellation that has begun, None before that.
        asked: the reason of the cancellation that was accepted, with its grace, whether it has begun or not: a daemon
            that finds it unanswered asks again.
        started_mono_ms: monotonic start, for the duration; means nothing after a reboot.
        key: idempotency key, and `digest` of the parameters it came with.
        on_disconnect: whether the end of the starter's connection cancels it.
        max_output: bytes of output kept.
        result: the rule by which the last message of an agent is found, the one in force when it was started.
        remedy: what to do if its program is not there; empty for a command.
    """

    job: Job
    ending: Reason | None = None
    asked: Reason | None = None
    asked_grace_ms: int = 0
    started_mono_ms: int = 0
    key: str | None = None
    digest: str = ""
    on_disconnect: Literal["detach", "cancel"] = "detach"
    max_output: int = 0
    result: str = "stdout"
    remedy: str = ""


Change = Callable[[Snapshot, Event], Status]
_LAST_MS = 253_402_300_799_999  # the end of the year 9999


def _begin(snapshot: Snapshot, event: Event) -> Status:
    assert isinstance(event, Started)
    job = snapshot.job
    job.pid = job.pgid = event.pid
    job.started_at = timestamp(event.wall_ms)
    snapshot.started_mono_ms = event.mono_ms
    return "running"


def _fail_to_begin(snapshot: Snapshot, event: Event) -> Status:
    assert isinstance(event, SpawnFailed)
    remedy = f"; {snapshot.remedy}" if event.missing and snapshot.remedy else ""
    return _close(snapshot, "failed", event.reason, event.wall_ms, event.error + remedy)


def _never_run(snapshot: Snapshot, event: Event) -> Status:
    assert isinstance(event, NeverRan)
    if event.reason in ("user", "disconnect", "shutdown"):
        snapshot.job.cancel_requested = True
        return _close(snapshot, "cancelled", event.reason, event.wall_ms, None)
    return _close(snapshot, "failed", event.reason, event.wall_ms, f"it was never started ({event.reason})")


def _stop(snapshot: Snapshot, event: Event) -> Status:
    assert isinstance(event, Stopped)
    if snapshot.ending is not None:  # the ladder stops and continues for its own purposes
        return snapshot.job.status
    snapshot.job.stopped_at = timestamp(event.wall_ms)
    return "stopped"


def _resume(snapshot: Snapshot, _: Event) -> Status:
    snapshot.job.stopped_at = None
    return "running"


def _note_asked(snapshot: Snapshot, event: Event) -> Status:
    assert isinstance(event, EndAsked)
    snapshot.asked = snapshot.asked or event.reason
    snapshot.asked_grace_ms = event.grace_ms
    snapshot.job.cancel_requested = True
    return snapshot.job.status


def _note_begun(snapshot: Snapshot, event: Event) -> Status:
    assert isinstance(event, EndBegun)
    snapshot.ending = snapshot.ending or event.reason
    return snapshot.job.status


def _finish(snapshot: Snapshot, event: Event) -> Status:
    """The end the exit status and the reason asked for make together (CONTRACT section 5)."""
    assert isinstance(event, Ended)
    job = snapshot.job
    job.stdout, job.stderr = event.stdout, event.stderr
    number = event.status & 0x7F
    job.signal = signal_name(number) if number else None
    job.exit_code = None if number else event.status >> 8
    job.duration_ms = max(0, event.mono_ms - snapshot.started_mono_ms)
    how = f"killed by {job.signal}" if number else f"exit status {job.exit_code}"
    match snapshot.ending:
        case "internal":
            return _close(snapshot, "failed", "internal", event.wall_ms, f"a fault of the broker's shim; {how}")
        case "deadline":
            error = f"time limit of {job.timeout_ms} ms passed; {how}"
            return _close(snapshot, "timed_out", "deadline", event.wall_ms, error)
        case "idle":
            error = f"no output for {job.idle_timeout_ms} ms; {how}"
            return _close(snapshot, "timed_out", "idle", event.wall_ms, error)
        case _ if event.status == 0:
            return _close(snapshot, "completed", "exit", event.wall_ms, None)
        case None:
            return _close(snapshot, "failed", "signal" if number else "exit", event.wall_ms, how)
        case asked:
            return _close(snapshot, "cancelled", asked, event.wall_ms, None)


def _lose(snapshot: Snapshot, event: Event) -> Status:
    assert isinstance(event, Lost)
    return _close(snapshot, "failed", "lost", event.wall_ms, event.error)


def _finish_turn(snapshot: Snapshot, event: Event) -> Status:
    assert isinstance(event, TurnEnded)
    job = snapshot.job
    job.stdout, job.stderr = event.stdout, event.stderr
    if job.started_at is not None:
        job.duration_ms = max(0, event.mono_ms - snapshot.started_mono_ms)
    error = event.error
    if event.status == "timed_out":
        limit = job.timeout_ms if event.reason == "deadline" else job.idle_timeout_ms
        passed = f"time limit of {limit} ms passed" if event.reason == "deadline" else f"silent for {limit} ms"
        error = passed if error is None else f"{passed}; {error}"
    elif event.status == "failed":
        error = error or "the backend gave no reason"
    else:
        error = None
    return _close(snapshot, event.status, event.reason, event.wall_ms, error)


def _close(snapshot: Snapshot, status: Status, reason: Reason, wall_ms: int, error: str | None) -> Status:
    job = snapshot.job
    job.reason, job.error = reason, error
    job.completed_at = timestamp(wall_ms)
    job.stopped_at = None
    job.stdout = Stream(job.stdout.size, job.stdout.dropped, closed=True)
    job.stderr = Stream(job.stderr.size, job.stderr.dropped, closed=True)
    return status


def _ignore(snapshot: Snapshot, _: Event) -> Status:
    return snapshot.job.status


def _illegal(snapshot: Snapshot, event: Event) -> Status:
    raise IllegalTransition(f"{type(event).__name__} while {snapshot.job.status} ({snapshot.job.id})")


# Columns follow EVENTS.
TABLE: dict[Status, tuple[Change, ...]] = {
    #            Started   SpawnFailed     NeverRan    Stopped   Continued
    #            EndAsked     EndBegun     Ended      Lost   TurnEnded
    "queued":    (_begin,  _fail_to_begin, _never_run, _illegal, _illegal,
                  _note_asked, _note_begun, _illegal, _lose, _finish_turn),
    "running":   (_ignore, _illegal,       _illegal,   _stop,    _ignore,
                  _note_asked, _note_begun, _finish,  _lose, _finish_turn),
    "stopped":   (_ignore, _illegal,       _illegal,   _ignore,  _resume,
                  _note_asked, _note_begun, _finish,  _lose, _illegal),
    "completed": (_ignore,) * 10,
    "failed":    (_ignore,) * 10,
    "timed_out": (_ignore,) * 10,
    "cancelled": (_ignore,) * 10,
}  # fmt: skip

_CHANGES: dict[tuple[Status, type[Event]], Change] = {
    (status, event): change for status, row in TABLE.items() for event, change in zip(EVENTS, row, strict=True)
}


def apply(snapshot: Snapshot, event: Event) -> bool:
    """Let an event act on a job, in place.

    Returns:
        Whether anything changed, so whether there is something to store and to tell.

    Raises:
        IllegalTransition: for an event that cannot happen; the job is as it was.
    """
    change = _CHANGES[snapshot.job.status, type(event)]
    if change is _ignore:
        return False
    before = _moving_parts(snapshot)
    snapshot.job.status = change(snapshot, event)
    return before != _moving_parts(snapshot)


def _moving_parts(snapshot: Snapshot) -> tuple[object, ...]:
    return snapshot.job.status, snapshot.ending, snapshot.asked, snapshot.asked_grace_ms


def is_live(job: Job) -> bool:
    """Whether the job has not ended yet."""
    return job.status in LIVE


def is_terminal(job: Job) -> bool:
    """Whether the job has ended, for good."""
    return job.status in TERMINAL


@lru_cache(maxsize=1)  # jobs that come together have one text between them
def timestamp(wall_ms: int) -> str:
    """RFC 3339 UTC with milliseconds and Z, so that the order of texts is the order of times.

    Of a damaged record's absurd number the nearest year there is a text for.
    """
    wall_ms = min(max(wall_ms, 0), _LAST_MS)
    return datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{wall_ms % 1000:03d}Z"


def milliseconds(text: str) -> int:
    """The time a `timestamp` was made from."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def signal_name(number: int) -> str:
    """`SIGTERM` for 15; real-time signals count from SIGRTMIN."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else f"SIG{number}"
