"""An hour of timed jobs on a virtual clock: suspends, changed clocks, pauses, lost leaders, brokers that die."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec
from hypothesis import given, settings, strategies as st

from jobbroker.core.batch import Batches, time_of
from jobbroker.core.due import Beat, DueTimes, Moment, look, placed
from jobbroker.core.entry import Line
from jobbroker.core.schedule import Config, Definition, Runner, Standing
from jobbroker.core.tick import State, step
from jobbroker.core.tickevents import AskGate, Begin, Cut, Event, GateFailed, GateOpened, JobBegun, Run, RunnerEnded

HOUR = 60 * 60 * 1000
WALL = 10**12


class Plan(NamedTuple):
    """A schedule, and how long each of its runs takes in turn."""

    every: int
    jitter: int
    catch_up: bool
    runners: int
    durations: list[int]


class Trouble(NamedTuple):
    """Something that happens at a time."""

    at: int
    what: str
    much: int


class At(NamedTuple):
    """A runner at work, and when it will have ended."""

    end: int
    schedule: str
    batch: str
    runner: str
    job: str


class World:
    """The shell, without a system below it: the same core, driven by a clock of ours."""

    def __init__(self, plans: list[Plan]) -> None:
        self.boot, self.wall, self.boot_id = 1_000_000, WALL, "boot-0"
        self.plans = {f"s{number}": plan for number, plan in enumerate(plans)}
        self.definitions = {name: self.define(name, plan) for name, plan in self.plans.items()}
        self.standings = {name: Standing(anchor=self.moment()) for name in self.plans}
        self.at_work: list[At] = []
        self.lines: dict[str, list[tuple[int, Line]]] = {name: [] for name in self.plans}
        self.runs: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()
        self.batches: list[str] = []
        self.jobs = 0
        self.gate, self.fails = "scheduled", False
        self.wakes = 0
        self.start_broker()

    @staticmethod
    def define(name: str, plan: Plan) -> Definition:
        runners = tuple(Runner(f"r{number}", "command") for number in range(plan.runners))
        config = Config(interval_ms=plan.every)
        return Definition(
            name=name, config=config, runners=runners, created_at="", jitter_ms=plan.jitter, catch_up=plan.catch_up
        )

    def moment(self) -> Moment:
        return Moment(self.wall, self.boot, self.boot_id)

    def pass_time(self, ms: int) -> None:
        self.boot += ms
        self.wall += ms

    # --- the broker -------------------------------------------------------------------------------------------------

    def start_broker(self) -> None:
        """From what was written, and the jobs that live."""
        self.due = DueTimes()
        self.taking = Batches(max(map(time_of, self.batches), default=-1) + 1)
        for name, standing in self.standings.items():
            plan = self.plans[name]
            standing = msgspec.json.decode(msgspec.json.encode(standing), type=Standing)
            anchor, number = placed(standing.anchor, standing.number, plan.every, self.moment())
            self.standings[name] = msgspec.structs.replace(standing, anchor=anchor, number=number)
            flight = standing.state.flight
            if flight is not None:
                self.feed(name, Cut("died", () if flight.job is None else (flight.job,)))
            self.due.put(name, self.beat(name).at(number))

    def beat(self, name: str) -> Beat:
        plan = self.plans[name]
        return Beat(self.standings[name].anchor.boot_ms, plan.every, plan.jitter, name)

    def wake(self, name: str) -> None:
        standing, plan = self.standings[name], self.plans[name]
        beat = self.beat(name)
        found = look(beat, standing.number, self.boot, catch_up=plan.catch_up)
        assert found.number > standing.number, "nobody wakes up for nothing"
        self.standings[name] = msgspec.structs.replace(
            standing, number=found.number, missed=standing.missed + found.missed
        )
        self.due.put(name, beat.at(found.number))
        if found.fire:
            place = self.boot - found.late_ms - beat.anchor_ms
            assert 0 <= place - (found.number - 1) * plan.every <= plan.jitter, "no drift"
            self.begun[name] += 1
            self.begin(name, "interval")

    def begin(self, name: str, trigger: str) -> None:
        batch = self.taking.take(self.wall)
        self.batches.append(batch)
        names = tuple(runner.name for runner in self.definitions[name].runners)
        self.feed(name, Begin(batch, "manual" if trigger == "manual" else "interval", names))

    def feed(self, name: str, event: Event) -> None:
        standing = self.standings[name]
        state, effects = step(standing.state, event, self.boot)
        self.standings[name] = msgspec.structs.replace(standing, state=state)
        for effect in effects:
            match effect:
                case Line():
                    self.lines[name].append((self.boot, effect))
                case AskGate(batch):
                    self.feed(name, self.ask(batch))
                case Run(batch, runner):
                    self.run(name, batch, runner)
                case _:
                    pass

    def ask(self, batch: str) -> Event:
        if self.fails:
            return GateFailed(batch, "no")
        if self.gate == "skipped_not_leader":
            return GateOpened(batch, "skipped_not_leader")
        return GateOpened(batch, "skipped_system_paused" if self.gate != "scheduled" else "scheduled", 1)

    def run(self, name: str, batch: str, runner: str) -> None:
        durations = self.plans[name].durations
        takes = durations[self.runs[name] % len(durations)]
        self.runs[name] += 1
        self.jobs += 1
        job = f"job{self.jobs}"
        self.feed(name, JobBegun(batch, job))
        self.at_work.append(At(self.boot + takes, name, batch, runner, job))

    # --- the world --------------------------------------------------------------------------------------------------

    def until(self, end: int) -> None:
        """Let time pass, from one thing that happens to the next."""
        while True:
            due = self.due.next()
            upcoming = min([end, end if due is None else due, *(at.end for at in self.at_work)])
            if upcoming > self.boot:
                self.pass_time(upcoming - self.boot)
            for at in sorted(at for at in self.at_work if at.end <= self.boot):
                self.at_work.remove(at)
                ok = at.end % 7 != 0
                self.feed(at.schedule, RunnerEnded(batch=at.batch, runner=at.runner, ok=ok, job=at.job))
            while (name := self.due.pop(self.boot)) is not None:
                self.wakes += 1
                self.wake(name)
            if self.boot >= end:
                return

    def suffer(self, trouble: Trouble) -> None:
        match trouble.what:
            case "suspend":
                self.pass_time(trouble.much)
            case "clock":
                self.wall += trouble.much * (1 if trouble.much % 2 else -1)
            case "die":
                self.pass_time(trouble.much)  # jobs go on
                self.start_broker()
            case "reboot":
                self.at_work.clear()
                self.boot, self.boot_id = 5_000, self.boot_id + "'"
                self.wall += trouble.much
                self.start_broker()
                for name, standing in self.standings.items():
                    for job, (batch, runner) in standing.state.left.items():
                        self.feed(name, RunnerEnded(batch=batch, runner=runner, ok=False, result="lost", job=job))
            case "tick":
                self.begin(f"s{trouble.much % len(self.plans)}", "manual")
            case "gate":
                self.fails = not self.fails
            case gate:
                self.gate = "scheduled" if self.gate == gate else gate


def plan_of(every: int, part: float, catch_up: bool, runners: int, shares: list[float]) -> Plan:
    return Plan(every, int(part * (every - 1)), catch_up, runners, [int(share * every) for share in shares])


plans = st.builds(
    plan_of,
    st.sampled_from([1_000, 7_000, 60_000, 600_000]), st.sampled_from([0, 0, 0.5, 1]), st.booleans(),
    st.integers(0, 3), st.lists(st.floats(0, 3), min_size=1, max_size=5),
)  # fmt: skip
WHATS = ["suspend", "clock", "die", "reboot", "tick", "gate", "skipped_not_leader", "skipped_system_paused"]
troubles = st.builds(Trouble, st.integers(0, HOUR), st.sampled_from(WHATS), st.integers(0, HOUR // 4))


def check_lines(lines: list[tuple[int, Line]], state: State) -> None:
    """Every tick has one end, none begins before the last one has ended, runners are in order."""
    open_tick: str | None = None
    expected: list[str] = []
    for _, line in lines:
        if line.stage == "tick_started":
            assert open_tick is None
            open_tick = line.batch
            expected = [f"r{number}" for number in range(int(str(line.details["runner_count"])))]
        elif line.stage in ("tick_completed", "tick_failed"):
            assert line.batch == open_tick
            assert line.stage == "tick_failed" or not expected
            open_tick = None
        elif line.stage in ("runner_started", "runner_skipped"):
            assert line.runner == expected.pop(0)
    assert (open_tick is not None) == (state.flight is not None)


@settings(max_examples=40)
@given(st.lists(plans, min_size=1, max_size=3), st.lists(troubles, max_size=12))
def test_an_hour(plans: list[Plan], troubles: list[Trouble]) -> None:
    world = World(plans)
    passed, rebooted = 0, False
    for trouble in sorted(troubles):
        world.until(world.boot + trouble.at - passed)
        passed = trouble.at
        world.suffer(trouble)
        rebooted = rebooted or trouble.what == "reboot"
    world.until(world.boot + HOUR - passed)
    assert len(set(world.batches)) == len(world.batches)
    assert list(map(time_of, world.batches)) == sorted(map(time_of, world.batches))
    for name, standing in world.standings.items():
        stages = Counter(line.stage for _, line in world.lines[name])
        check_lines(world.lines[name], standing.state)
        ticks = stages["tick_started"] + stages["tick_skipped_busy"] + stages["tick_skipped_no_runners"]
        manual = sum(line.details.get("trigger") == "manual" for _, line in world.lines[name] if is_first(line))
        assert ticks - manual == world.begun[name], "every tick is in the log, once"
        if not rebooted:  # after a reboot with a wrong clock a schedule may begin anew
            assert standing.number - 1 == world.begun[name] + standing.missed, "every due time is accounted for"
            assert standing.anchor.wall_ms == WALL
    assert world.wakes <= sum(HOUR // plan.every + 1 for plan in plans) + sum(HOUR // 4 // 1000 for _ in troubles) * 3


def is_first(line: Line) -> bool:
    return line.stage in ("tick_started", "tick_skipped_busy", "tick_skipped_no_runners")


def test_a_quiet_hour_is_exact() -> None:
    world = World([Plan(7_000, 0, False, 2, [100, 200])])
    world.until(world.boot + HOUR)
    ticks = [at - 1_000_000 for at, line in world.lines["s0"] if line.stage == "tick_started"]
    assert ticks == list(range(7_000, HOUR + 1, 7_000)), "the last one is where it would be alone"
    assert world.wakes == len(ticks), "and nobody woke up in between"
