"""Ticks whose end is missing in the log, or in what was kept of their schedule, since the broker died between the two.

Neither waits for the other, so either may be ahead. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from jobbroker.core.entry import Line
from jobbroker.core.tick import State
from jobbroker.core.tickevents import Tick

DIED = "the broker died during the tick"
_ENDS = ("tick_completed", "tick_failed")


def settle(
    entries: Iterable[Mapping[str, object]], states: Mapping[str, State]
) -> tuple[list[tuple[str, Line]], dict[str, State]]:
    """What is to be put right, by the last lines of the log and how schedules were left.

    Returns:
        Lines the log lacks, each with the name of its schedule; and how those schedules stand whose tick is over,
        by the log. A tick that is under way by both is closed by who takes it over.
    """
    begun: dict[str, str] = {}
    ended = set[str]()
    for entry in entries:
        batch, stage = str(entry["batch_id"]), entry["stage"]
        if stage == "tick_started":
            begun[batch] = str(entry["schedule"])
        elif stage in _ENDS:
            ended.add(batch)
    lines: list[tuple[str, Line]] = []
    for batch, name in begun.items():
        state = states.get(name, State())
        if batch not in ended and (state.flight is None or state.flight.batch != batch):
            lines.append((name, _end(batch, state.last)))
    over = {
        name: replace(state, flight=None)
        for name, state in states.items()
        if state.flight is not None and state.flight.batch in ended
    }
    return lines, over


def _end(batch: str, last: Tick | None) -> Line:
    if last is None or last.batch != batch or last.result is None:
        return Line(stage="tick_failed", batch=batch, result="failed", error=DIED)
    details = {
        "failed_runner_count": last.failed,
        "runner_count": last.runner_count,
        "successful_runner_count": last.runner_count - last.failed,
        "trigger": last.trigger,
    }
    if last.decision != "scheduled":
        details = {"runner_count": last.runner_count, "trigger": last.trigger}
    stage = "tick_failed" if last.decision == "failed" else "tick_completed"
    return Line(
        stage=stage, batch=batch, result=last.result, error=last.error, duration_ms=last.duration_ms, details=details
    )
