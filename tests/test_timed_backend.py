"""Timed jobs on the backend: each tick is a turn, with its limits and its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends import codex, completed, says
from harness import Home, Message, Wire, eventually
from schedules import entries, of_batch, show, tick, until_stage


@pytest.fixture
def wire(new_home: Callable[..., Home]) -> Wire:
    return codex(new_home).connect()


def ask(wire: Wire, name: str, *script: object, every: int = 0, **params: object) -> Message:
    turn = {"threadId": "T", "script": list(script)}
    found: Message = wire.call("timed/add", name=name, everyMs=every, method="turn/start", params=turn, **params)
    return found


def test_a_request_to_the_backend_is_a_turn_with_its_tick_as_parent(wire: Wire) -> None:
    added = ask(wire, "review", "respond", says("nothing new"), completed(), timeoutMs=60_000)["schedule"]
    (runner,) = added["runners"]
    assert (runner["kind"], runner["method"], runner["params"]["threadId"]) == ("backend", "turn/start", "T")
    answer = tick(wire, "review")
    assert (answer["decision"], answer["result"]) == ("scheduled", "scheduled")
    (job,) = wire.call("job/list", name="review")["jobs"]
    assert (job["kind"], job["status"], job["timeoutMs"]) == ("turn", "completed", 60_000)
    assert job["tick"] == {
        "schedule": "review", "runner": "review", "batchId": answer["batchId"], "trigger": "manual",
    }  # fmt: skip
    assert wire.output(job["id"], stream="stdout") == "nothing new"
    assert show(wire, "review")["runners"] == added["runners"]


def test_one_that_fails_or_takes_too_long_is_a_runner_that_failed(wire: Wire) -> None:
    ask(wire, "worse", "respond", completed("failed", error={"message": "high demand"}))
    ask(wire, "slow", "respond", "never", timeoutMs=200, graceMs=0)
    for name, result, error in (("worse", "failed", "high demand"), ("slow", "timed_out", "time limit")):
        answer = tick(wire, name)
        assert answer["result"] == "completed_with_failures"
        line = of_batch(entries(wire, name), answer["batchId"])[2]
        assert (line["stage"], line["result"], error in line["error"]) == ("runner_failed", result, True)


def test_a_turn_whose_broker_dies_closes_its_tick_and_the_next_one_runs(new_home: Callable[..., Home]) -> None:
    home = codex(new_home)
    wire = home.connect()
    ask(wire, "hangs", "respond", "never")
    batch = wire.call("timed/tick", name="hangs")["batchId"]
    eventually(lambda: wire.call("job/list", name="hangs", status="running")["jobs"], "its turn runs")
    home.kill()
    home.start()
    wire = home.connect()
    until_stage(wire, "hangs", "runner_failed", batch_id=batch)
    assert until_stage(wire, "hangs", "tick_failed", batch_id=batch)["error"] == "the broker died during the tick"
    assert wire.call("timed/tick", name="hangs")["decision"] == "scheduled"


def test_without_a_backend_nothing_is_promised(client: Wire) -> None:
    refused = client.refused("timed/add", name="none", everyMs=0, method="turn/start", params={})
    assert (refused.kind, "jobctl backend" in str(refused)) == ("invalid_params", True)
    mixed = client.refused("timed/add", name="both", everyMs=0, argv=["true"], params={})
    assert "`params`" in str(mixed)
