"""The table of a job's life, cell by cell, and then by chance."""

from __future__ import annotations

import itertools
from copy import deepcopy

import msgspec
import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jobbroker.core import job as life
from jobbroker.core.job import (
    EVENTS,
    STATUSES,
    Continued,
    EndAsked,
    EndBegun,
    Ended,
    Event,
    IllegalTransition,
    Lost,
    NeverRan,
    Snapshot,
    SpawnFailed,
    Started,
    Stopped,
    TurnEnded,
)
from jobclient.protocol.wire import LIVE, TERMINAL, Reason, Status, Stream
from samples import snapshot

NOW = 1_700_000_001_234
SAMPLES: dict[type[Event], Event] = {
    Started: Started(4711, NOW, 5_000),
    SpawnFailed: SpawnFailed("no such file", NOW),
    NeverRan: NeverRan("user", NOW),
    Stopped: Stopped(NOW),
    Continued: Continued(),
    EndAsked: EndAsked("user", 5_000),
    EndBegun: EndBegun("user"),
    Ended: Ended(3 << 8, NOW, 9_000, Stream(10, 1), Stream(20, 2)),
    Lost: Lost("its shim is gone", NOW),
    TurnEnded: TurnEnded("failed", "backend_exit", "the backend is gone", NOW, 9_000, Stream(10, 1), Stream(20, 2)),
}
IGNORED, ILLEGAL, NOTED = "ignored", "illegal", "noted"
EXPECTED: dict[tuple[str, type[Event]], str] = {
    ("queued", Started): "running",
    ("queued", SpawnFailed): "failed",
    ("queued", NeverRan): "cancelled",
    ("queued", Stopped): ILLEGAL,
    ("queued", Continued): ILLEGAL,
    ("queued", EndAsked): NOTED,
    ("queued", EndBegun): NOTED,
    ("queued", Ended): ILLEGAL,
    ("queued", Lost): "failed",
    ("queued", TurnEnded): "failed",
    ("running", Started): IGNORED,
    ("running", SpawnFailed): ILLEGAL,
    ("running", NeverRan): ILLEGAL,
    ("running", Stopped): "stopped",
    ("running", Continued): IGNORED,
    ("running", EndAsked): NOTED,
    ("running", EndBegun): NOTED,
    ("running", Ended): "failed",
    ("running", Lost): "failed",
    ("running", TurnEnded): "failed",
    ("stopped", Started): IGNORED,
    ("stopped", SpawnFailed): ILLEGAL,
    ("stopped", NeverRan): ILLEGAL,
    ("stopped", Stopped): IGNORED,
    ("stopped", Continued): "running",
    ("stopped", EndAsked): NOTED,
    ("stopped", EndBegun): NOTED,
    ("stopped", Ended): "failed",
    ("stopped", Lost): "failed",
    ("stopped", TurnEnded): ILLEGAL,
}  # fmt: skip


def reach(status: Status) -> Snapshot:
    """A job that came to a status the regular way."""
    made = snapshot()
    way: dict[Status, tuple[type[Event], ...]] = {
        "queued": (),
        "running": (Started,),
        "stopped": (Started, Stopped),
        "completed": (Started,),
        "failed": (Started, Ended),
        "timed_out": (Started,),
        "cancelled": (NeverRan,),
    }
    for event in way[status]:
        life.apply(made, SAMPLES[event])
    if status == "timed_out":
        life.apply(made, EndBegun("deadline"))
    if status in ("completed", "timed_out"):
        life.apply(made, Ended(0, NOW, 9_000, Stream(), Stream()))
    assert made.job.status == status
    return made


def test_no_cell_is_missing() -> None:
    assert set(life.TABLE) == set(STATUSES) == LIVE | TERMINAL
    assert {len(row) for row in life.TABLE.values()} == {len(EVENTS)}
    assert set(EVENTS) == set(SAMPLES)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("status", STATUSES)
def test_every_cell(status: Status, event: type[Event]) -> None:
    made = reach(status)
    before = msgspec.json.encode(made)
    outcome = IGNORED if status in TERMINAL else EXPECTED[status, event]
    if outcome == ILLEGAL:
        with pytest.raises(IllegalTransition, match=made.job.id):
            life.apply(made, SAMPLES[event])
    else:
        assert life.apply(made, SAMPLES[event]) is (outcome != IGNORED)
    if outcome in (IGNORED, ILLEGAL):
        assert msgspec.json.encode(made) == before
    elif outcome == NOTED:
        assert made.job.status == status
        assert msgspec.json.encode(made) != before
    else:
        assert made.job.status == outcome


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("status", ["queued", "running", "stopped"])
def test_repeating_an_event_changes_nothing(status: Status, event: type[Event]) -> None:
    if EXPECTED[status, event] == ILLEGAL:
        return
    made = reach(status)
    life.apply(made, SAMPLES[event])
    once = msgspec.json.encode(made)
    assert not life.apply(made, SAMPLES[event])
    assert msgspec.json.encode(made) == once


# What CONTRACT section 5 says of X, said again in other words.
def end_of(ending: Reason | None, status: int) -> tuple[Status, Reason]:
    if ending == "internal":
        return "failed", "internal"
    if ending in ("deadline", "idle"):
        return "timed_out", ending
    if status == 0:
        return "completed", "exit"
    if ending in ("user", "disconnect", "shutdown"):
        return "cancelled", ending
    return "failed", "exit" if status % 256 == 0 else "signal"


ENDINGS: tuple[Reason | None, ...] = (None, "user", "disconnect", "shutdown", "deadline", "idle", "internal")
EXITS = [code << 8 for code in range(256)]
KILLS = [number | core for number in range(1, 65) for core in (0, 0x80)]


@pytest.mark.parametrize("live", ["running", "stopped"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_wait_status_under_every_ending(ending: Reason | None, live: Status) -> None:
    for status in EXITS + KILLS:
        made = reach(live)
        if ending is not None:
            life.apply(made, EndBegun(ending))
        assert life.apply(made, Ended(status, NOW, 9_000, Stream(10, 1), Stream(20, 2)))
        job = made.job
        assert (job.status, job.reason) == end_of(ending, status)
        assert (job.exit_code is None) == (job.signal is not None) == (status % 256 != 0)
        assert job.exit_code in (None, status >> 8)
        assert (job.error is not None) == (job.status in ("failed", "timed_out"))
        assert job.duration_ms == 4_000
        assert job.completed_at == "2023-11-14T22:13:21.234Z"
        assert job.stopped_at is None
        assert (job.stdout, job.stderr) == (Stream(10, 1, closed=True), Stream(20, 2, closed=True))


@pytest.mark.parametrize(
    ("reason", "status"),
    [("user", "cancelled"), ("shutdown", "cancelled"), ("disconnect", "cancelled"), ("internal", "failed")],
)
def test_a_job_that_never_ran(reason: Reason, status: Status) -> None:
    made = snapshot()
    life.apply(made, NeverRan(reason, NOW))
    assert (made.job.status, made.job.reason) == (status, reason)
    assert (made.job.error is not None) == (status == "failed")
    assert [made.job.exit_code, made.job.signal, made.job.duration_ms, made.job.started_at] == [None] * 4


def test_the_first_reason_to_end_stays() -> None:
    for first, second in itertools.permutations(ENDINGS[1:], 2):
        assert first is not None
        assert second is not None
        made = reach("running")
        assert life.apply(made, EndBegun(first))
        assert not life.apply(made, EndBegun(second))
        assert made.ending == first


@pytest.mark.parametrize("live", ["running", "stopped"])
def test_stops_do_not_count_once_the_end_has_begun(live: Status) -> None:
    made = reach(live)
    life.apply(made, EndBegun("user"))
    assert not life.apply(made, Stopped(NOW))
    assert made.job.status == live


def test_the_first_cancellation_names_the_reason_and_the_last_the_grace() -> None:
    made = reach("running")
    assert life.apply(made, EndAsked("disconnect", 5_000))
    assert life.apply(made, EndAsked("user", 10))
    assert not life.apply(made, EndAsked("user", 10))
    assert (made.asked, made.asked_grace_ms, made.ending) == ("disconnect", 10, None)


@pytest.mark.parametrize(("reason", "said"), [("spawn", "spawn"), ("internal", "internal")])
def test_a_job_that_could_not_begin_says_whose_fault_it_was(reason: Reason, said: Reason) -> None:
    made = snapshot()
    life.apply(made, SpawnFailed("no luck", NOW, reason))
    assert (made.job.status, made.job.reason, made.job.error) == ("failed", said, "no luck")


def test_completed_after_a_cancel_remembers_that_it_was_asked() -> None:
    made = reach("running")
    life.apply(made, EndAsked("user", 5_000))
    life.apply(made, EndBegun("user"))
    life.apply(made, Ended(0, NOW, 0, Stream(), Stream()))
    assert (made.job.status, made.job.cancel_requested, made.job.duration_ms) == ("completed", True, 0)


def test_a_lost_job_has_no_invented_end() -> None:
    made = reach("running")
    life.apply(made, EndBegun("deadline"))
    life.apply(made, Lost("machine restarted", NOW))
    job = made.job
    assert (job.status, job.reason, job.error) == ("failed", "lost", "machine restarted")
    assert [job.exit_code, job.signal, job.duration_ms] == [None] * 3


# --- times and signals ----------------------------------------------------------------------------------------------

TIMES = st.integers(0, 253_402_300_799_999)


@given(TIMES, TIMES)
def test_the_order_of_timestamps_is_the_order_of_times(one: int, other: int) -> None:
    assert (life.timestamp(one) < life.timestamp(other)) == (one < other)


@given(TIMES)
def test_a_timestamp_can_be_read_back(wall_ms: int) -> None:
    text = life.timestamp(wall_ms)
    assert len(text) == len("2023-11-14T22:13:21.234Z")
    assert life.milliseconds(text) == wall_ms


@given(st.integers())
def test_an_absurd_time_breaks_nothing(wall_ms: int) -> None:
    assert life.timestamp(wall_ms).endswith("Z")


@pytest.mark.parametrize(
    ("number", "name"),
    [(1, "SIGHUP"), (9, "SIGKILL"), (15, "SIGTERM"), (32, "SIG32"), (35, "SIGRTMIN+1"), (63, "SIGRTMIN+29")],
)
def test_signal_names(number: int, name: str) -> None:
    assert life.signal_name(number) == name


# --- by chance ------------------------------------------------------------------------------------------------------

REASONS = st.sampled_from([reason for reason in ENDINGS if reason is not None])
WAIT_STATUSES = st.sampled_from(EXITS + KILLS)


class Life(RuleBasedStateMachine):
    """Any events in any order; a model that only knows what may never be otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.made = snapshot()
        self.end: bytes | None = None
        self.begun = False

    @initialize()
    def start(self) -> None:
        assert self.made.job.status == "queued"

    def tell(self, event: Event) -> None:
        before = deepcopy(self.made)
        try:
            changed = life.apply(self.made, event)
        except IllegalTransition:
            assert before == self.made
            assert before.job.status in LIVE
        else:
            assert changed == (before != self.made)
            self.begun = self.begun or (isinstance(event, Started) and before.job.status == "queued")
        if self.end is None and self.made.job.status in TERMINAL:
            self.end = msgspec.json.encode(self.made)

    @rule(pid=st.integers(1, 1 << 22), mono=st.integers(0, 1 << 40))
    def started(self, pid: int, mono: int) -> None:
        self.tell(Started(pid, NOW, mono))

    @rule()
    def not_started(self) -> None:
        self.tell(SpawnFailed("no such file", NOW))

    @rule(reason=REASONS)
    def never_ran(self, reason: Reason) -> None:
        self.tell(NeverRan(reason, NOW))

    @rule()
    def stopped(self) -> None:
        self.tell(Stopped(NOW))

    @rule()
    def continued(self) -> None:
        self.tell(Continued())

    @rule(reason=REASONS, grace_ms=st.integers(0, 9_999))
    def end_asked(self, reason: Reason, grace_ms: int) -> None:
        self.tell(EndAsked(reason, grace_ms))

    @rule(reason=REASONS)
    def end_begun(self, reason: Reason) -> None:
        self.tell(EndBegun(reason))

    @rule(status=WAIT_STATUSES, wall=st.integers(), mono=st.integers(0, 1 << 40))
    def ended(self, status: int, wall: int, mono: int) -> None:
        self.tell(Ended(status, wall, mono, Stream(5), Stream(6)))

    @rule()
    def lost(self) -> None:
        self.tell(Lost("gone", NOW))

    @invariant()
    def an_end_is_an_end(self) -> None:
        assert self.end is None or self.end == msgspec.json.encode(self.made)

    @invariant()
    def fields_fit_the_status(self) -> None:
        job = self.made.job
        ended = job.status in TERMINAL
        assert ended == (job.reason is not None) == (job.completed_at is not None)
        assert ended == job.stdout.closed == job.stderr.closed
        assert life.is_live(job) != life.is_terminal(job)
        assert (job.stopped_at is not None) == (job.status == "stopped")
        assert self.begun == (job.pid is not None) == (job.started_at is not None)
        assert job.error is not None if job.status in ("failed", "timed_out") else job.error is None
        assert job.exit_code is None or job.signal is None
        if job.status == "completed":
            assert job.exit_code == 0


TestLife = Life.TestCase
