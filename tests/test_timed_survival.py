"""Timed jobs whose brokers die, share a leader lock, come back, or have nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Home, Wire, alive, eventually
from schedules import Gate, add, append, entries, of_batch, on_disk, show, stages, tick, until_entry, until_stage


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def end_of_log(wire: Wire) -> str:
    found: str = wire.call("timed/log", limit=1)["next"]
    return found


def stop(wire: Wire, name: str) -> None:
    """Remove a schedule, and end what goes on."""
    for job in wire.call("timed/remove", name=name, waitMs=0)["jobs"]:
        wire.call("job/cancel", id=job, graceMs=0)


# --- death ----------------------------------------------------------------------------------------------------------


def test_killed_in_mid_tick_the_job_lives_the_tick_is_closed_and_the_next_one_happens(home: Home, gate: Gate) -> None:
    wire = home.connect()
    add(wire, "work", *gate.argv, every=100)
    append(wire, "work", "never reached")
    batch = until_stage(wire, "work", "runner_started")["batch_id"]
    eventually(lambda: show(wire, "work")["jobs"], "its job is committed")
    (job,) = show(wire, "work")["jobs"]
    home.restart()
    wire = home.connect()
    assert until_stage(wire, "work", "tick_failed", batch_id=batch)["error"] == "the broker died during the tick"
    assert wire.get(job)["status"] == "running"
    until_entry(wire, "work", lambda each: each["stage"] == "tick_skipped_busy", end_of_log(wire))
    assert (show(wire, "work")["busy"], show(wire, "work")["jobs"]) == (True, [job])
    assert not wire.call("job/list", name="never reached")["jobs"]
    gate.open(3)
    line = until_stage(wire, "work", "runner_failed", batch_id=batch)
    assert (line["job"], line["exit_code"]) == (job, 3), "its end is told under the batch it belongs to"
    later = until_entry(wire, "work", lambda each: each["stage"] == "tick_started", end_of_log(wire))
    assert later["batch_id"] != batch
    stop(wire, "work")


def test_what_ended_while_nobody_was_there_is_told_as_it_ended(home: Home, gate: Gate) -> None:
    wire = home.connect()
    add(wire, "gone", *gate.argv)
    batch = wire.call("timed/tick", name="gone")["batchId"]
    until_stage(wire, "gone", "runner_started", batch_id=batch)
    eventually(lambda: show(wire, "gone")["jobs"], "its job is committed")
    (name,) = show(wire, "gone")["jobs"]
    eventually(lambda: wire.get(name)["status"] == "running", "it runs")
    pid = wire.get(name)["pid"]
    home.kill()
    gate.open(7)
    eventually(lambda: not alive(pid), "it has ended")
    home.start()
    wire = home.connect()
    assert until_stage(wire, "gone", "runner_failed", batch_id=batch)["exit_code"] == 7
    ends = [stage for stage, *_ in stages(of_batch(entries(wire, "gone"), batch))[2:]]
    assert sorted(ends) == ["runner_failed", "tick_failed"], "each once"
    assert tick_is_possible(wire, "gone", gate)


def tick_is_possible(wire: Wire, name: str, gate: Gate) -> bool:
    batch = wire.call("timed/tick", name=name)
    gate.open()
    until_stage(wire, name, "tick_completed", batch_id=batch["batchId"])
    return bool(batch["decision"] == "scheduled")


def test_killed_again_and_again_every_tick_has_one_end_and_no_two_runs_overlap(home: Home, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()
    script = (
        f"mkdir {ran}/here || touch {ran}/overlap; sleep 0.02; rmdir {ran}/here;"
        f" echo $JOBBROKER_TICK_BATCH_ID >> {ran}/batches"
    )
    add(home.connect(), "often", "sh", "-c", script, every=30)
    for _ in range(8):
        until_entry(home.connect(), "often", lambda each: each["stage"] == "runner_started", end_of_log(home.connect()))
        home.restart()
    wire = home.connect()
    until_entry(wire, "often", lambda each: each["stage"] == "tick_completed", end_of_log(wire))
    wire.call("timed/remove", name="often")
    eventually(lambda: not wire.call("job/list", status=["queued", "running"])["jobs"], "all have ended")
    wire.call("timed/log", limit=1)
    found = on_disk(home)
    started = [each["batch_id"] for each in found if each["stage"] == "tick_started"]
    ended = [each["batch_id"] for each in found if each["stage"] in ("tick_completed", "tick_failed")]
    assert set(started) <= set(ended), "none is left open"
    assert (len(set(started)), len(set(ended))) == (len(started), len(ended)), "and each has one end"
    batches = (ran / "batches").read_text().split()
    assert len(set(batches)) == len(batches), "no tick runs twice"
    assert set(batches) <= set(ended)
    assert not (ran / "overlap").exists()


def test_what_is_removed_stays_removed_whoever_changes_it_meanwhile(home: Home) -> None:
    wire = home.connect()
    for number in range(20):
        name = f"s{number}"
        add(wire, name)
        methods = ("timed/pause", "timed/remove", "timed/resume", "timed/pause")
        wire.write([{"id": method, "method": method, "params": {"name": name}} for method in methods])
        assert all("result" in each or each["error"]["data"]["kind"] == "job_not_found" for each in wire.read())
    assert wire.call("timed/list")["schedules"] == []
    home.restart()
    assert home.connect().call("timed/list")["schedules"] == []


# --- leaders --------------------------------------------------------------------------------------------------------


def test_of_two_brokers_that_share_a_lock_one_runs_and_the_other_takes_over(
    new_home: Callable[..., Home], tmp_path: Path
) -> None:
    lock, ran = str(tmp_path / "lock"), tmp_path / "ran"
    homes = [new_home("one"), new_home("two")]
    for home in homes:
        home.start()
        script = f"echo $JOBBROKER_TICK_TERM >> {ran}"
        add(home.connect(), "shared", "sh", "-c", script, every=100, leaderLock=lock)
    first, second = homes
    one, two = first.connect(), second.connect()
    until_stage(two, "shared", "tick_completed")
    if show(two, "shared")["leads"]:
        first, second, one, two = second, first, two, one
    skipped = until_stage(two, "shared", "tick_completed")
    assert skipped["result"] == "skipped_not_leader"
    until_stage(one, "shared", "runner_completed")
    assert (show(one, "shared")["leads"], show(two, "shared")["leads"]) == (True, False)
    assert show(one, "shared")["term"] == 1
    assert not two.call("job/list")["jobs"], "exactly one of them runs"
    first.kill()
    place = end_of_log(two)
    after = until_entry(two, "shared", lambda each: each["stage"] == "tick_completed", place)
    assert after["result"] == "scheduled", "the first tick after the death is its successor's"
    assert (show(two, "shared")["leads"], show(two, "shared")["term"]) == (True, 2)
    first.start()
    one = first.connect()
    back = until_entry(one, "shared", lambda each: each["stage"] == "tick_completed", end_of_log(one))
    assert back["result"] == "skipped_not_leader", "who comes back does not take it away"
    stop(one, "shared")
    stop(two, "shared")
    assert set(ran.read_text().split()) == {"1", "2"}


def test_a_lock_is_let_go_with_the_last_schedule_that_names_it(home: Home, new_home: Callable[..., Home]) -> None:
    lock = str(home.root / "lock")
    other = new_home("other")
    other.start()
    one, two = home.connect(), other.connect()
    for wire in (one, two):
        add(wire, "shared", leaderLock=lock)
    assert [tick(wire, "shared")["decision"] for wire in (one, two)] == ["scheduled", "skipped_not_leader"]
    one.call("timed/remove", name="shared")
    assert tick(two, "shared")["decision"] == "scheduled"


# --- nothing to do --------------------------------------------------------------------------------------------------


def switches(pid: int) -> int:
    """How often a process has gone to sleep so far: each time but the first it was woken up."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("voluntary_ctxt_switches:")[2].split()[0])


def test_nothing_wakes_up_while_nothing_is_due(home: Home) -> None:
    assert home.process is not None
    wire = home.connect()
    for number in range(20):
        add(wire, f"later {number}", every=3_600_000 + number, jitterMs=1000)
    tick(wire, "later 0")
    entries(wire)
    time.sleep(0.3)  # the store's last group
    before = switches(home.process.pid)
    time.sleep(1)  # that nothing happens can only be seen by letting time pass
    assert switches(home.process.pid) == before


def test_ten_thousand_schedules_are_one_heap_and_come_back(home: Home) -> None:
    assert home.process is not None
    wire = home.connect()
    tasks = len(list(Path(f"/proc/{home.process.pid}/task").iterdir()))
    for page in range(10):
        names = [f"s{page * 1000 + number}" for number in range(1000)]
        add_all = [
            {"id": name, "method": "timed/add", "params": {"name": name, "everyMs": 3_600_000, "argv": ["true"]}}
            for name in names
        ]
        wire.write(add_all)
        assert all("result" in answer for answer in wire.read())
    assert len(list(Path(f"/proc/{home.process.pid}/task").iterdir())) <= tasks + 1
    home.restart()
    wire = home.connect()
    names, after = list[str](), None
    while True:
        page_of = wire.call("timed/list", after=after)
        names += [schedule["name"] for schedule in page_of["schedules"]]
        after = page_of["next"]
        if after is None:
            break
    assert names == [f"s{number}" for number in range(10_000)], "in the order in which they were added"
    assert tick(wire, "s9999")["decision"] == "scheduled"
