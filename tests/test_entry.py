"""Lines of the log of timed jobs: whatever is put into one, it is a line, and its own members stay what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from jobbroker.core.batch import Batches, time_of
from jobbroker.core.entry import FRAMEWORK, MAX_DETAILS, Line, encode, error_text
from strategies import json_values

TS = "2030-01-02T03:04:05.678Z"
OWN = {"batch_id", "duration_ms", "error", "result", "runner", "schedule", "stage", "ts"}


def read(line: Line) -> dict[str, Any]:
    text = encode(line, schedule="nightly", batch="timed-jobs-1-2", ts=TS)
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    found: dict[str, Any] = json.loads(text)
    assert found.keys() >= OWN
    return found


class Odd:
    def __str__(self) -> str:
        raise RuntimeError


def test_a_line_with_nothing_has_all_its_members() -> None:
    assert read(Line(stage="started")) == {
        "batch_id": "timed-jobs-1-2", "duration_ms": None, "error": None, "result": None, "runner": FRAMEWORK,
        "schedule": "nightly", "stage": "started", "ts": TS,
    }  # fmt: skip


@given(st.dictionaries(st.sampled_from([*OWN, "details", "mine"]), json_values, max_size=9))
def test_r174_what_is_added_never_replaces_what_a_line_says_itself(details: dict[str, object]) -> None:
    found = read(Line(stage="hello", runner="me", details=details))
    assert {name: found[name] for name in OWN} == read(Line(stage="hello", runner="me"))
    taken = OWN | {"details"}
    assert found.get("details", {}).keys() == details.keys() & taken, "it is beside them, under a name of its own"
    assert ("mine" in found) == ("mine" in details)


CYCLE: dict[str, object] = {}
CYCLE["me"] = [CYCLE]


@pytest.mark.parametrize(
    "value",
    [object(), Odd(), {1, 2}, b"bytes", float("nan"), float("inf"), 10**400, 10**30, -(10**30), "\ud800", CYCLE,
     {("a", 1): 2}, {"\ud800": "\udfff"}, ValueError("no"), print, range(3), 1 + 2j],
)  # fmt: skip
def test_r175_what_cannot_be_written_is_written_as_well_as_it_can_be(value: object) -> None:
    found = read(Line(stage="runner_completed", result="ok", details={"odd": value, "even": 2}))
    assert (found["stage"], found["result"], found["even"]) == ("runner_completed", "ok", 2)
    assert "odd" in found


@pytest.mark.parametrize("details", [7, [1], "text", {Odd(): 1}])
def test_r175_details_that_are_none_are_no_reason_for_a_failure(details: object) -> None:
    assert read(Line(stage="hello", details=cast("Mapping[str, object]", details)))["stage"] == "hello"


def test_r175_details_too_large_for_a_line_are_left_out_and_it_says_so() -> None:
    found = read(Line(stage="hello", details={"much": "x" * MAX_DETAILS}))
    assert str(MAX_DETAILS) in found["details_error"]
    assert "much" not in found


@pytest.mark.parametrize(
    ("error", "text"),
    [(None, None), (ValueError("no room"), "no room"), (ValueError(), None), ("", None), ("why", "why"), (7, "7")],
)
def test_r177_the_text_of_an_error(error: object, text: str | None) -> None:
    assert error_text(error) == text
    assert read(Line(stage="tick_failed", error=error))["error"] == text


def test_r177_an_error_that_has_no_text_says_what_it_is() -> None:
    assert "Odd" in str(error_text(Odd()))


# --- batch ids ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=50), st.integers(0, 10**13))
def test_r164_batch_ids_are_unique_and_grow_whatever_the_time_of_day_does(walls: list[int], floor: int) -> None:
    batches = Batches(floor)
    found = [batches.take(wall) for wall in walls]
    parts = [each.rsplit("-", 2) for each in found]
    assert [int(number) for _, _, number in parts] == list(range(1, len(walls) + 1))
    times = [int(ms) for _, ms, _ in parts]
    assert times == sorted(times)
    assert times[0] >= floor
    assert [time_of(each) for each in found] == times
    assert {prefix for prefix, _, _ in parts} == {"timed-jobs"}


@pytest.mark.parametrize("text", ["", "timed-jobs", "timed-jobs-x-1", "other-5-1", "5-1"])
def test_a_text_that_is_no_batch_id_has_no_time(text: str) -> None:
    assert time_of(text) == 0
