"""Timed jobs, R150-R166: a test and more for each number, on a real broker. Their log has a file of its own."""

from __future__ import annotations

import fcntl
import json
import re
import time
from pathlib import Path

import pytest

from harness import Home, Message, Wire, eventually
from jobbroker.core.job import milliseconds
from schedules import FRAMEWORK, Gate, add, append, entries, of_batch, show, stages, tick, until_entry, until_stage

BATCH = re.compile(r"timed-jobs-(\d{13})-(\d+)")


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def variable(name: str) -> str:
    """`BATCH_ID` for `batchId`."""
    return re.sub("([A-Z])", r"_\1", name).upper()


def names(schedule: Message) -> list[str]:
    return [runner["name"] for runner in schedule["runners"]]


# --- registration ---------------------------------------------------------------------------------------------------


def test_r150_names_are_trimmed_kept_in_order_and_taken_once(client: Wire) -> None:
    assert add(client, "  order ")["name"] == "order"
    append(client, "order", " b ")
    assert names(append(client, " order ", "a")) == ["order", "b", "a"]
    for taken in ("b", " b", "order "):
        assert client.refused("timed/add", schedule="order", name=taken, argv=["true"]).kind == "invalid_params"
    for bad in ("", "  ", FRAMEWORK, f" {FRAMEWORK} ", "%3", "bcdfgh", "a\0b", "x" * 201):
        for params in ({"schedule": "order"}, {"everyMs": 0}):
            refused = client.refused("timed/add", name=bad, argv=["true"], **params)
            assert (refused.kind, "`name`" in str(refused)) == ("invalid_params", True)
    assert "already" in str(client.refused("timed/add", name=" order ", everyMs=0, argv=["true"]))
    refused = client.refused("timed/add", name="a\0b", everyMs=0, builtin="cleanup")
    assert refused.kind == "invalid_params", "it would be in the environment of the next runner"


def test_r150_a_runner_can_be_taken_out_again(client: Wire) -> None:
    add(client, "shrinks")
    append(client, "shrinks", "second")
    client.call("timed/remove", name="shrinks", runner=" shrinks ")
    assert names(show(client, "shrinks")) == ["second"]
    assert client.refused("timed/remove", name="shrinks", runner="shrinks").kind == "invalid_params"


def test_r151_what_is_shown_is_a_copy_and_a_tick_goes_by_what_it_began_with(client: Wire, gate: Gate) -> None:
    shown = add(client, "copied", *gate.argv, maxTasksPerTick=3)
    shown["maxTasksPerTick"] = 99
    append(client, "copied", "second", "sh", "-c", "cat")
    batch = client.call("timed/tick", name="copied")["batchId"]
    client.call("timed/remove", name="copied", runner="second")
    gate.open()
    until_stage(client, "copied", "tick_completed", batch_id=batch)
    job = client.call("job/list", name="second")["jobs"][0]
    assert json.loads(client.output(job["id"]))["maxTasksPerTick"] == 3
    assert show(client, "copied")["maxTasksPerTick"] == 3


def test_r152_the_first_tick_comes_a_whole_interval_after_the_start(client: Wire) -> None:
    before = time.time_ns() // 1_000_000
    add(client, "first", every=300)
    add(client, "by hand")
    started = until_stage(client, "first", "started")
    ticked = until_stage(client, "first", "tick_started")
    assert (started["result"], started["runner"]) == ("loop_enabled", FRAMEWORK)
    assert milliseconds(ticked["ts"]) - before >= 299, "two clocks, in whole milliseconds"
    assert until_stage(client, "by hand", "started")["result"] == "loop_disabled"
    assert tick(client, "by hand")["decision"] == "scheduled"
    assert client.refused("timed/add", name="first", everyMs=300, argv=["true"]).kind == "invalid_params"
    assert [each["stage"] for each in entries(client, "first")].count("started") == 1
    client.call("timed/remove", name="first")


def test_r153_a_removal_waits_for_the_tick_and_none_comes_after_it(client: Wire, gate: Gate) -> None:
    add(client, "drained", *gate.argv, every=30)
    until_stage(client, "drained", "runner_started")
    removal = client.send("timed/remove", name="drained")
    client.call("broker/ping")
    gate.open()
    assert client.answer(removal)["jobs"] == []
    found = entries(client, "drained")
    assert stages(found)[-3:] == [
        ("runner_completed", "drained", "ok"), ("tick_completed", "framework", "scheduled"),
        ("stopped", "framework", "stopped"),
    ]  # fmt: skip
    assert client.refused("timed/tick", name="drained").kind == "job_not_found"
    add(client, "drained", "true", every=30)
    until_entry(client, "drained", lambda each: each["stage"] == "tick_completed" and each["ts"] > found[-1]["ts"])
    client.call("timed/remove", name="drained")


def test_r154_two_removals_at_once_stop_it_once_and_a_runner_that_hangs_holds_up_neither(client: Wire) -> None:
    add(client, "hangs", "sleep", "1000")
    client.call("timed/tick", name="hangs")
    eventually(lambda: client.call("job/list", name="hangs", status="running")["jobs"], "it runs")
    client.sock.sendall(
        b'{"id":"one","method":"timed/remove","params":{"name":"hangs","waitMs":50}}\n'
        b'{"id":"two","method":"timed/remove","params":{"name":"hangs","waitMs":50}}\n'
    )
    (job,) = client.answer("one")["jobs"]
    assert client.answer("two")["jobs"] == [job]
    assert client.get(job)["status"] == "running", "it goes on, and is said"
    found = stages(entries(client, "hangs"))
    assert found[-2:] == [("tick_failed", "framework", "failed"), ("stopped", "framework", "stopped")]
    assert found.count(("stopped", "framework", "stopped")) == 1
    client.call("job/cancel", id=job, graceMs=0)


def test_r155_a_manual_tick_needs_no_interval_but_a_broker_that_stays(home: Home) -> None:
    wire = home.connect()
    add(wire, "by hand")
    assert tick(wire, "by hand")["decision"] == "scheduled"
    wire.sock.sendall(
        b'{"id":"end","method":"broker/shutdown"}\n{"id":"late","method":"timed/tick","params":{"name":"by hand"}}\n'
    )
    wire.answer("end")
    with pytest.raises(Exception, match="shutting down"):
        wire.answer("late")
    assert home.wait() == 0


# --- ticks ----------------------------------------------------------------------------------------------------------


def test_r156_one_tick_at_a_time_over_both_triggers(client: Wire, gate: Gate) -> None:
    add(client, "busy", *gate.argv, every=40)
    first = until_stage(client, "busy", "tick_started")["batch_id"]
    until_stage(client, "busy", "tick_skipped_busy", trigger="interval")
    answer = client.call("timed/tick", name="busy", wait=True)
    assert (answer["decision"], answer["runnerCount"]) == ("skipped_busy", 1)
    assert answer["batchId"] != first
    (line,) = of_batch(entries(client, "busy"), answer["batchId"])
    assert (line["stage"], line["trigger"], line["result"]) == ("tick_skipped_busy", "manual", "skipped_busy")
    gate.open()
    until_stage(client, "busy", "tick_completed", batch_id=first)
    assert client.call("timed/remove", name="busy", waitMs=0)["jobs"] is not None
    for job in client.call("job/list", name="busy", status="running")["jobs"]:
        client.call("job/cancel", id=job["id"], graceMs=0)


def test_r156_of_two_ticks_in_one_message_one_runs(client: Wire, gate: Gate) -> None:
    add(client, "race", *gate.argv)
    client.write([{"id": f"t{number}", "method": "timed/tick", "params": {"name": "race"}} for number in range(3)])
    assert [each["result"]["decision"] for each in client.read()] == ["scheduled", "skipped_busy", "skipped_busy"]
    gate.open()
    until_stage(client, "race", "tick_completed")


def test_r157_a_tick_runs_what_there_was_when_it_began(client: Wire, gate: Gate) -> None:
    add(client, "grows", *gate.argv)
    batch = client.call("timed/tick", name="grows")["batchId"]
    append(client, "grows", "late")
    gate.open()
    until_stage(client, "grows", "tick_completed", batch_id=batch)
    assert not client.call("job/list", name="late")["jobs"]
    client.call("timed/remove", name="grows", runner="grows")
    tick(client, "grows")
    assert len(client.call("job/list", name="late")["jobs"]) == 1


def test_r157_without_runners_there_is_nothing_to_run(client: Wire) -> None:
    add(client, "empty")
    client.call("timed/remove", name="empty", runner="empty")
    answer = tick(client, "empty")
    assert (answer["decision"], answer["runnerCount"]) == ("skipped_no_runners", 0)
    assert stages(of_batch(entries(client, "empty"), answer["batchId"])) == [
        ("tick_skipped_no_runners", "framework", "skipped_no_runners")
    ]


def test_r158_runners_run_one_after_another_in_the_order_in_which_they_were_added(client: Wire, tmp_path: Path) -> None:
    script = f"echo begin $0 >> {tmp_path}/order; echo end $0 >> {tmp_path}/order"
    add(client, "row", "sh", "-c", script, "one")
    append(client, "row", "a", "sh", "-c", script, "two")
    append(client, "row", "0", "sh", "-c", script, "three")
    batch = tick(client, "row")["batchId"]
    words = [f"{what} {which}" for which in ("one", "two", "three") for what in ("begin", "end")]
    assert (tmp_path / "order").read_text().splitlines() == words
    found = of_batch(entries(client, "row"), batch)
    assert (found[0]["stage"], found[0]["runner_count"], found[0]["trigger"]) == ("tick_started", 3, "manual")
    assert [each["runner"] for each in found[1:-1]] == ["row", "row", "a", "a", "0", "0"]
    jobs = client.call("job/list", order="asc", limit=1000)["jobs"]
    parents = [job["tick"] for job in jobs if job["tick"] is not None and job["tick"]["batchId"] == batch]
    assert [each["runner"] for each in parents] == ["row", "a", "0"]
    assert parents[0] == {"schedule": "row", "runner": "row", "batchId": batch, "trigger": "manual"}


def test_r159_one_that_fails_does_not_keep_the_next_from_running(client: Wire) -> None:
    add(client, "mixed", "sh", "-c", "exit 3")
    append(client, "mixed", "missing", "no-such-program")
    append(client, "mixed", "good")
    answer = tick(client, "mixed")
    assert (answer["decision"], answer["result"]) == ("scheduled", "completed_with_failures")
    found = of_batch(entries(client, "mixed"), answer["batchId"])
    assert stages(found)[1:] == [
        ("runner_started", "mixed", "running"), ("runner_failed", "mixed", "failed"),
        ("runner_started", "missing", "running"), ("runner_failed", "missing", "failed"),
        ("runner_started", "good", "running"), ("runner_completed", "good", "ok"),
        ("tick_completed", "framework", "completed_with_failures"),
    ]  # fmt: skip
    assert (found[2]["exit_code"], found[2]["error"]) == (3, "exit status 3")
    assert "ENOENT" in found[4]["error"]
    counts = [found[-1][f"{which}runner_count"] for which in ("failed_", "successful_", "")]
    assert counts == [2, 1, 3]


@pytest.mark.parametrize("name", [None, "held"])
def test_r160_what_is_paused_is_skipped_line_by_line_also_after_a_restart(home: Home, name: str | None) -> None:
    wire = home.connect()
    add(wire, "held")
    append(wire, "held", "second")
    assert wire.call("timed/pause", name=name) == {"paused": True, "changed": True}
    assert wire.call("timed/pause", name=name) == {"paused": True, "changed": False}
    home.restart()
    wire = home.connect()
    assert (wire.call("timed/list")["paused"], show(wire, "held")["paused"]) == (name is None, name is not None)
    answer = tick(wire, "held")
    why = "skipped_system_paused"
    assert (answer["decision"], answer["runnerCount"]) == (why, 2)
    found = of_batch(entries(wire, "held"), answer["batchId"])
    assert stages(found) == [
        ("tick_started", "framework", "running"), ("runner_skipped", "held", why), ("runner_skipped", "second", why),
        ("tick_completed", "framework", why),
    ]  # fmt: skip
    assert [each["duration_ms"] for each in found[1:3]] == [0, 0]
    assert not wire.call("job/list")["jobs"], "nothing has run"
    wire.call("timed/resume", name=name)
    assert tick(wire, "held")["decision"] == "scheduled"


def test_r160_who_does_not_hold_the_leader_lock_runs_nothing(client: Wire, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    add(client, "follows", leaderLock=str(lock))
    with lock.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        answer = tick(client, "follows")
        assert (answer["decision"], answer["result"]) == ("skipped_not_leader", "skipped_not_leader")
        assert not show(client, "follows")["leads"]
    assert tick(client, "follows")["decision"] == "scheduled"
    assert (show(client, "follows")["leads"], show(client, "follows")["term"]) == (True, 1)


def test_r161_a_gate_that_cannot_be_asked_fails_the_tick_and_nothing_else(client: Wire, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    add(client, "gateless", leaderLock=str(lock))
    lock.unlink()
    lock.mkdir()
    answer = tick(client, "gateless")
    assert (answer["decision"], "leaderLock" in answer["error"]) == ("failed", True)
    found = of_batch(entries(client, "gateless"), answer["batchId"])
    assert stages(found) == [("tick_started", "framework", "running"), ("tick_failed", "framework", "failed")]
    assert found[-1]["error"] == answer["error"]
    lock.rmdir()
    assert tick(client, "gateless")["decision"] == "scheduled"


def test_r161_the_end_of_the_broker_is_no_failure_of_a_runner(home: Home) -> None:
    wire = home.connect()
    add(wire, "cut", "sleep", "1000")
    wire.call("timed/tick", name="cut")
    wire.call("broker/shutdown", mode="keepJobs")
    assert home.wait() == 0
    home.start()
    found = stages(entries(home.connect()))
    assert ("tick_failed", "framework", "failed") in found
    assert ("stopped", "framework", "stopped") in found
    assert all(stage != "runner_failed" for stage, *_ in found)


def test_r163_a_runner_knows_its_tick_by_environment_and_stdin_and_says_its_result(shared: Home, client: Wire) -> None:
    script = "env | grep ^JOBBROKER_TICK_ | sort; echo; cat"
    limits = {"maxTasksPerTick": 5, "maxMessagesPerTick": 6, "settleDelayMs": 7}
    add(client, "told", "sh", "-c", script, env={"PATH": "/usr/bin:/bin"}, **limits)
    answer = tick(client, "told")
    job = client.call("job/list", name="told")["jobs"][0]
    variables, _, text = client.output(job["id"]).partition("\n\n")
    told = json.loads(text)
    expected = {
        "schedule": "told", "runner": "told", "batchId": answer["batchId"], "trigger": "manual", "intervalMs": 0,
        "instance": "default", "logDir": str(shared.state / "timed"), "socket": str(shared.socket), **limits,
    }  # fmt: skip
    assert expected.items() <= told.items()
    assert told["term"] >= 1
    assert told["controllerId"] == f"default@{told['host']}"
    spelled = {f"JOBBROKER_TICK_{variable(name)}={value}" for name, value in told.items()}
    assert set(variables.splitlines()) == spelled
    (line,) = [
        each for each in of_batch(entries(client, "told"), answer["batchId"]) if each["stage"] == "runner_started"
    ]
    assert (line["max_tasks_per_tick"], line["max_messages_per_tick"], line["settle_delay_ms"]) == (5, 6, 7)
    assert (line["controller_id"], line["host"], line["term"]) == (told["controllerId"], told["host"], told["term"])


def test_r163_a_runner_says_its_own_result(client: Wire, gate: Gate) -> None:
    add(client, "says", *gate.argv)
    batch = client.call("timed/tick", name="says")["batchId"]
    said = {"batchId": batch, "runner": "says", "stage": "result", "result": "2 new", "details": {"files": 2}}
    client.call("timed/stage", **said)
    gate.open()
    line = until_stage(client, "says", "runner_completed", batch_id=batch)
    assert (line["result"], line["files"]) == ("2 new", 2)
    assert until_stage(client, "says", "tick_completed", batch_id=batch)["result"] == "scheduled"


def test_r164_every_line_has_a_batch_of_its_own_or_that_of_its_tick(home: Home) -> None:
    wire = home.connect()
    add(wire, "one", every=20)
    add(wire, "two")
    tick(wire, "two")
    until_stage(wire, "one", "tick_completed")
    wire.call("timed/remove", name="one")
    home.restart()
    tick(home.connect(), "two")
    found = entries(home.connect())
    order = list(dict.fromkeys(each["batch_id"] for each in found))
    parts = [BATCH.fullmatch(each) for each in order]
    assert all(parts)
    times = [int(part[1]) for part in parts if part is not None]
    assert times == sorted(times)
    alone = [each["batch_id"] for each in found if each["stage"] in ("started", "stopped")]
    assert len(set(alone)) == len(alone) == 4
    assert all(len(of_batch(found, batch)) == 1 for batch in alone)
    sequence = [int(part[2]) for part in parts if part is not None]
    restart = sequence.index(1, 1)
    assert (sequence[:restart], sequence[restart:]) == (
        [*range(1, restart + 1)],
        [*range(1, len(sequence) - restart + 1)],
    )


def test_r165_a_runner_that_hangs_is_ended_in_time_and_the_next_tick_runs(client: Wire) -> None:
    add(client, "slow", "sleep", "1000", every=50, timeoutMs=400, graceMs=0)
    line = until_stage(client, "slow", "runner_failed")
    assert (line["result"], "time limit" in line["error"]) == ("timed_out", True)
    until_entry(client, "slow", lambda each: each["stage"] == "tick_started" and each["ts"] > line["ts"])
    eventually(lambda: show(client, "slow")["busyStreak"] >= 2, "ticks were skipped, and are counted")
    assert show(client, "slow")["last"]["decision"] == "skipped_busy"
    client.call("timed/remove", name="slow")


def test_r165_so_is_one_of_the_broker_s_own(client: Wire) -> None:
    client.call("timed/add", name="tidy", everyMs=0, builtin="cleanup", timeoutMs=60_000)
    client.run("true")
    answer = tick(client, "tidy")
    (line,) = [each for each in of_batch(entries(client, "tidy"), answer["batchId"]) if each["runner"] == "tidy"][1:]
    assert (line["stage"], line["removed"]) == ("runner_completed", 0)


def test_r166_durations_are_those_of_a_clock_that_only_grows(client: Wire, gate: Gate) -> None:
    add(client, "timed", *gate.argv)
    append(client, "timed", "second")
    batch = client.call("timed/tick", name="timed")["batchId"]
    gate.open()
    last = until_stage(client, "timed", "tick_completed", batch_id=batch)
    each = [line["duration_ms"] for line in of_batch(entries(client, "timed"), batch) if line["runner"] != FRAMEWORK]
    assert [duration is None for duration in each] == [True, False, True, False]
    assert sum(filter(None, each)) <= last["duration_ms"]
