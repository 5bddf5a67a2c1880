"""Ticks that a broker left open in its log, or in the store, when it died."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from jobbroker.core.entry import Line
from jobbroker.core.tick import State, step
from jobbroker.core.tickevents import Begin, Cut, Event, GateOpened, RunnerEnded
from jobbroker.core.unclosed import DIED, settle

EVENTS: list[Event] = [
    Begin("b1", "interval", ("one",)),
    GateOpened("b1", "scheduled", 1),
    RunnerEnded(batch="b1", runner="one", ok=False),
    Begin("b2", "interval", ("one",)),
    GateOpened("b2", "skipped_not_leader"),
    Begin("b3", "manual", ("one",)),
    GateOpened("b3", "scheduled", 1),
    RunnerEnded(batch="b3", runner="one", ok=True),
]


def played() -> list[tuple[State, list[Line]]]:
    """After each event: how the schedule stands, and all lines so far."""
    state, lines = State(), list[Line]()
    found = [(state, list(lines))]
    for now, event in enumerate(EVENTS):
        state, effects = step(state, event, now)
        lines += [each for each in effects if isinstance(each, Line)]
        found.append((state, list(lines)))
    return found


def entries(lines: list[Line], schedule: str = "s") -> list[dict[str, object]]:
    return [{"batch_id": line.batch, "stage": line.stage, "schedule": schedule} for line in lines]


MOMENTS = range(len(EVENTS) + 1)


@given(st.sampled_from(MOMENTS), st.sampled_from(MOMENTS))
def test_whichever_is_ahead_every_tick_that_was_begun_has_one_end(stored: int, logged: int) -> None:
    state, lines = played()[stored][0], played()[logged][1]
    missing, over = settle(entries(lines), {"s": state})
    assert all(name == "s" for name, _ in missing)
    lines = [*lines, *(line for _, line in missing)]
    state = over.get("s", state)
    if state.flight is not None:
        state, effects = step(state, Cut(DIED), 0)
        lines += [each for each in effects if isinstance(each, Line)]
    begun = [line.batch for line in lines if line.stage == "tick_started"]
    ended = [line.batch for line in lines if line.stage in ("tick_completed", "tick_failed")]
    assert set(begun) <= set(ended)
    assert len(ended) == len(set(ended))


@pytest.mark.parametrize(("moment", "result"), [(3, "completed_with_failures"), (5, "skipped_not_leader")])
def test_what_is_known_of_an_end_is_said(moment: int, result: str) -> None:
    state, lines = played()[moment]
    (closing,) = [line for line in lines if line.stage == "tick_completed"][-1:]
    missing, _ = settle(entries([line for line in lines if line is not closing]), {"s": state})
    assert missing == [("s", closing)]
    assert closing.result == result


def test_a_tick_of_a_schedule_that_is_gone_has_failed() -> None:
    ((name, line),), over = settle(entries(played()[1][1], "gone"), {})
    assert (name, line.stage, line.error, over) == ("gone", "tick_failed", DIED, {})
