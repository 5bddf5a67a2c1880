"""A tick of a schedule: every event in every state, and what each leads to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import msgspec
import pytest
from hypothesis import given, strategies as st

from jobbroker.core.entry import Line
from jobbroker.core.schedule import Config, Definition, Refused, name_of
from jobbroker.core.tick import TABLE, State, phase, step, with_left
from jobbroker.core.tickevents import (
    EVENTS,
    AskGate,
    Begin,
    Cut,
    Effect,
    Event,
    Gate,
    GateFailed,
    GateOpened,
    JobBegun,
    ResultSaid,
    Run,
    RunnerEnded,
    Tell,
)

TWO = ("one", "two")


class Played:
    """A schedule at play: events in, effects out, all lines kept. The clock goes on by a second with each event."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state or State()
        self.now = 0
        self.effects: list[Effect] = []

    def __call__(self, event: Event) -> list[Effect]:
        self.now += 1000
        self.state, effects = step(self.state, event, self.now)
        self.effects += effects
        return effects

    @property
    def lines(self) -> list[Line]:
        return [effect for effect in self.effects if isinstance(effect, Line)]

    def stages(self) -> list[tuple[str, str, str | None]]:
        return [(line.stage, line.runner.removeprefix("timed-jobs."), line.result) for line in self.lines]


def begin(batch: str = "b1", runners: tuple[str, ...] = TWO) -> Begin:
    return Begin(batch, "interval", runners, {"late_ms": 3})


def running() -> Played:
    played = Played()
    played(begin())
    played(GateOpened("b1", "scheduled", 7))
    return played


def ended(runner: str, *, ok: bool = True, batch: str = "b1", job: str | None = None) -> RunnerEnded:
    return RunnerEnded(batch=batch, runner=runner, ok=ok, error=None if ok else "it broke", job=job)


def test_the_table_is_full() -> None:
    assert set(TABLE) == {"idle", "left", "asking", "running"}
    assert all(len(row) == len(EVENTS) for row in TABLE.values())


# --- the life of a tick ---------------------------------------------------------------------------------------------


def test_r158_r159_runners_run_in_order_and_one_that_fails_does_not_keep_the_next_from_running() -> None:
    played = running()
    assert played.effects[-1] == Run("b1", "one", 7)
    assert played(ended("one", ok=False))[-1] == Run("b1", "two", 7)
    played(ended("two"))
    assert played.stages() == [
        ("tick_started", "framework", "running"),
        ("runner_started", "one", "running"),
        ("runner_failed", "one", "failed"),
        ("runner_started", "two", "running"),
        ("runner_completed", "two", "ok"),
        ("tick_completed", "framework", "completed_with_failures"),
    ]
    first, last = played.lines[0], played.lines[-1]
    assert first.details == {"late_ms": 3, "trigger": "interval", "runner_count": 2}
    assert last.details == {
        "failed_runner_count": 1, "runner_count": 2, "successful_runner_count": 1, "trigger": "interval",
    }  # fmt: skip
    assert [line.duration_ms for line in played.lines] == [None, None, 1000, None, 1000, 3000]
    assert played.lines[2].error == "it broke"
    tick = played.state.last
    assert tick is not None
    assert (tick.decision, tick.result, tick.failed) == ("scheduled", "completed_with_failures", 1)


def test_r156_a_busy_schedule_skips_and_asks_nobody() -> None:
    for played in (running(), Played(with_left(State(), {"job": ("b0", "one")}))):
        flight = played.state.flight
        for streak in (1, 2, 3):
            line, told = played(Begin(f"x{streak}", "manual", TWO))
            assert isinstance(line, Line)
            assert isinstance(told, Tell)
            assert (line.stage, line.batch, line.result) == ("tick_skipped_busy", f"x{streak}", "skipped_busy")
            assert line.details == {"trigger": "manual", "busy_streak": streak}
            assert (told.tick.decision, told.tick.runner_count) == ("skipped_busy", 2)
        assert (played.state.flight, played.state.streak) == (flight, 3)


def test_r165_the_streak_ends_with_the_first_tick_that_is_not_skipped() -> None:
    played = running()
    played(begin("b2"))
    played(ended("one"))
    played(ended("two"))
    assert played.state.streak == 1
    played(begin("b3"))
    played(GateOpened("b3", "scheduled", 7))
    assert played.state.streak == 0


def test_r157_without_runners_the_gate_is_not_asked() -> None:
    played = Played()
    line, told = played(begin(runners=()))
    assert played.stages() == [("tick_skipped_no_runners", "framework", "skipped_no_runners")]
    assert isinstance(line, Line)
    assert isinstance(told, Tell)
    assert (told.tick.decision, told.tick.runner_count) == ("skipped_no_runners", 0)
    assert not any(isinstance(effect, AskGate) for effect in played.effects)


@pytest.mark.parametrize("why", ["skipped_not_leader", "skipped_system_paused"])
def test_r160_a_closed_gate_skips_each_runner_and_runs_none(why: Gate) -> None:
    played = Played()
    played(begin())
    played(GateOpened("b1", why))
    assert played.stages() == [
        ("tick_started", "framework", "running"),
        ("runner_skipped", "one", why),
        ("runner_skipped", "two", why),
        ("tick_completed", "framework", why),
    ]
    assert [line.duration_ms for line in played.lines] == [None, 0, 0, 1000]
    assert not any(isinstance(effect, Run) for effect in played.effects)
    assert played.state.last is not None
    assert played.state.last.decision == why


def test_r161_a_gate_that_fails_fails_the_tick() -> None:
    played = Played()
    played(begin())
    played(GateFailed("b1", "no such file"))
    line = played.lines[-1]
    assert (line.stage, line.result, line.error) == ("tick_failed", "failed", "no such file")
    assert phase(played.state) == "idle"
    assert played.state.last is not None
    assert played.state.last.decision == "failed"


def test_r162_only_what_ran_counts() -> None:
    """There is no way to a good end but through the end of each runner."""
    played = running()
    played(ended("two"))
    played(ended("one", batch="another"))
    assert phase(played.state) == "running"
    played(ended("one"))
    played(ended("one"))
    assert phase(played.state) == "running"
    played(ended("two"))
    assert played.lines[-1].details["successful_runner_count"] == 2


def test_r163_what_a_runner_says_of_itself_is_its_result_if_it_ends_well() -> None:
    played = running()
    played(ResultSaid("b1", "two", "not mine to say"))
    played(ResultSaid("b1", "one", "3 new", {"files": 3}))
    line = cast("Line", played(RunnerEnded(batch="b1", runner="one", ok=True, details={"job": "x"}))[0])
    assert (line.result, line.details) == ("3 new", {"files": 3, "job": "x"})
    played(ResultSaid("b1", "two", "all is well"))
    assert cast("Line", played(ended("two", ok=False))[0]).result == "failed"


# --- ticks that are cut ---------------------------------------------------------------------------------------------


def test_a_tick_that_is_cut_fails_and_its_job_keeps_the_schedule_busy() -> None:
    played = running()
    played(JobBegun("b1", "job"))
    played(Cut("the broker died", ("job",)))
    assert (played.lines[-1].stage, played.lines[-1].error) == ("tick_failed", "the broker died")
    assert (phase(played.state), played.state.left) == ("left", {"job": ("b1", "one")})
    played(begin("b2"))
    assert played.lines[-1].stage == "tick_skipped_busy"
    played(RunnerEnded(batch="b1", runner="one", ok=True, job="job", duration_ms=77))
    line = played.lines[-1]
    assert (line.stage, line.batch, line.duration_ms, line.result) == ("runner_completed", "b1", 77, "ok")
    assert phase(played.state) == "idle"
    played(begin("b3"))
    assert played.lines[-1].stage == "tick_started"


def test_a_tick_that_is_cut_before_its_job_leaves_nothing() -> None:
    played = Played()
    played(begin())
    played(Cut("the broker died"))
    assert phase(played.state) == "idle"


def test_the_next_broker_reads_what_this_one_wrote() -> None:
    played = running()
    played(JobBegun("b1", "job"))
    played(ResultSaid("b1", "one", "fine", {"a": [1, None]}))
    for state in (played.state, with_left(State(), {"job": ("b", "r")})):
        assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state


# --- all orders of all events ---------------------------------------------------------------------------------------

batches = st.sampled_from(["b1", "b2", "b3"])
names = st.sampled_from(["one", "two", "three"])
jobs = st.sampled_from(["j1", "j2"])
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Begin, batches, st.sampled_from(["interval", "manual"]), st.lists(names, unique=True).map(tuple)),
    st.builds(GateOpened, batches, st.sampled_from(["scheduled", "skipped_not_leader", "skipped_system_paused"])),
    st.builds(GateFailed, batches, st.just("why")),
    st.builds(JobBegun, batches, jobs),
    st.builds(ResultSaid, batches, names, st.none() | st.text()),
    st.builds(RunnerEnded, batch=batches, runner=names, ok=st.booleans(), job=st.none() | jobs),
    st.builds(Cut, st.just("why"), st.lists(jobs, unique=True).map(tuple)),
)


def closing(lines: list[Line]) -> Iterator[Line]:
    return (line for line in lines if line.stage in ("tick_completed", "tick_failed"))


@given(st.lists(events, max_size=60))
def test_whatever_comes_ticks_never_overlap_and_each_has_one_end(found: list[Event]) -> None:
    played = Played()
    open_tick, open_runner = None, None
    for event in found:
        for effect in played(event):
            if not isinstance(effect, Line):
                continue
            match effect.stage:
                case "tick_started":
                    assert open_tick is None
                    open_tick = effect.batch
                case "tick_completed" | "tick_failed":
                    assert open_tick == effect.batch
                    assert effect.stage == "tick_failed" or open_runner is None
                    open_tick = open_runner = None
                case "runner_started":
                    assert (open_tick, open_runner) == (effect.batch, None)
                    open_runner = effect.runner
                case "runner_completed" | "runner_failed" if open_tick == effect.batch == getattr(event, "batch", ""):
                    open_runner = None if open_runner == effect.runner else open_runner
                case _:
                    pass
    assert (open_tick is None) == (played.state.flight is None)
    started = [line for line in played.lines if line.stage == "tick_started"]
    assert len(started) == len(list(closing(played.lines))) + (open_tick is not None)


# --- names and settings ---------------------------------------------------------------------------------------------


def test_r150_names_are_trimmed_and_taken_once() -> None:
    assert name_of("  copy ") == "copy"
    for bad in ("", "  \t", "timed-jobs.framework", " timed-jobs.framework ", "a\0b", "x" * 201):
        with pytest.raises(Refused):
            name_of(bad)
    with pytest.raises(Refused, match="taken"):
        name_of(" copy ", ["copy"])


def test_r151_a_config_cannot_be_changed() -> None:
    config = Config(interval_ms=10, max_tasks_per_tick=1)
    definition = Definition(name="x", config=config, runners=(), created_at="")
    for struct, field in ((config, "max_tasks_per_tick"), (definition, "config")):
        with pytest.raises(AttributeError):
            setattr(struct, field, 5)
