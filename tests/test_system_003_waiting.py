"""Waiting and looking as the table of jobs promises it, each promise by its number in the requirements."""

from __future__ import annotations

import os
import signal
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest

from harness import Failed, Home, Message, Wire, eventually

MIB = 1024 * 1024


def gated(wire: Wire, gate: Path, script: str = "", **params: object) -> Message:
    """A job that ends when somebody writes its exit code into the gate."""
    os.mkfifo(gate)
    return wire.shell(f"{script or ':'}; read code < {gate}; exit $code", **params)


def open_gate(gate: Path, code: int = 0) -> None:
    gate.write_text(f"{code}\n")


def stands(wire: Wire, job: str, status: str) -> bool:
    return bool(wire.get(job)["status"] == status)


def ids(jobs: list[Message]) -> list[str]:
    return [job["id"] for job in jobs]


# --- R113: an end can be waited for by anybody, at any time ---------------------------------------------------------


def test_r113_any_number_may_wait_and_all_get_the_same(client: Wire, shared: Home, tmp_path: Path) -> None:
    job = gated(client, tmp_path / "gate")["id"]
    others = [Wire(str(shared.socket)) for _ in range(5)]
    waits = [(wire, wire.send("job/wait", ids=[job])) for wire in [client, client, *others, *others]]
    for wire in others:
        wire.call("broker/ping")
    open_gate(tmp_path / "gate", 7)
    answers = [wire.answer(wait) for wire, wait in waits]
    assert answers[0]["jobs"][0]["exitCode"] == 7
    assert answers == [answers[0]] * len(waits)
    assert client.call("job/wait", ids=[job]) == answers[0], "who comes later is told the same"
    for wire in others:
        wire.close()


def test_r113_an_end_is_remembered_over_a_restart(home: Home) -> None:
    wire = home.connect()
    ended = wire.run("sh", "-c", "exit 3")
    home.restart()
    assert home.connect().call("job/wait", ids=[ended["id"]])["jobs"][0]["exitCode"] == 3


def test_r113_nobody_waits_for_a_job_that_is_not_there(client: Wire) -> None:
    job = client.run("true")["id"]
    client.call("job/remove", id=job)
    assert client.refused("job/wait", ids=[job]).kind == "job_not_found"


# --- R114: a wait is in nobody's way --------------------------------------------------------------------------------


def test_r114_everything_else_goes_on_during_a_wait(client: Wire, tmp_path: Path) -> None:
    job = gated(client, tmp_path / "gate")["id"]
    waits = [client.send("job/wait", ids=[job]), client.send("job/wait", all=True)]
    assert client.get(job)["status"] == "running"
    assert client.run("true")["status"] == "completed"
    assert client.call("job/list")["jobs"]
    client.call("job/cleanup", maxAgeMs=0)
    client.call("job/cancel", id=job, graceMs=0)
    assert [client.answer(wait)["jobs"][-1]["status"] for wait in waits] == ["cancelled"] * 2


def test_r114_who_leaves_takes_nothing_from_those_who_stay(client: Wire, shared: Home, tmp_path: Path) -> None:
    job = gated(client, tmp_path / "gate")["id"]
    with Wire(str(shared.socket)) as leaver:
        leaver.send("job/wait", ids=[job])
        leaver.call("broker/ping")
    gone = client.send("job/wait", ids=[job])
    stays = client.send("job/wait", ids=[job])
    assert client.call("job/wait", ids=[job], timeoutMs=0)["timedOut"]
    client.write({"method": "$/cancelRequest", "params": {"id": gone}})
    with pytest.raises(Failed) as cancelled:
        client.answer(gone)
    assert cancelled.value.kind == "request_cancelled"
    open_gate(tmp_path / "gate", 9)
    assert client.answer(stays)["jobs"][0]["exitCode"] == 9
    assert client.ended(job)["exitCode"] == 9


# --- R115: a stopped job does not end by itself ---------------------------------------------------------------------


def test_r115_a_wait_for_one_stopped_job_is_refused(client: Wire) -> None:
    job = client.start("sleep", "60")
    waiting = client.send("job/wait", ids=[job["id"]])
    client.call("broker/ping")
    os.kill(job["pid"], signal.SIGSTOP)
    with pytest.raises(Failed) as refused:
        client.answer(waiting)
    assert (refused.value.code, refused.value.data["id"], refused.value.data["status"]) == (
        -31005,
        job["id"],
        "stopped",
    )
    assert client.refused("job/wait", ids=[job["id"]]).code == -31005, "also if it was stopped before"
    os.kill(job["pid"], signal.SIGCONT)
    eventually(lambda: client.get(job["id"])["status"] == "running", "it goes on")
    assert client.call("job/wait", ids=[job["id"]], timeoutMs=0)["timedOut"], "and is waited for again"
    client.call("job/cancel", id=job["id"], graceMs=0)


@pytest.mark.parametrize("how", ["ids", "all", "jobs"])
def test_r115_of_several_the_stopped_are_listed_and_not_waited_for(client: Wire, tmp_path: Path, how: str) -> None:
    label = {"of": how}
    before, during = (client.start("sleep", "60", labels=label) for _ in range(2))
    os.kill(before["pid"], signal.SIGSTOP)
    eventually(lambda: client.get(before["id"])["status"] == "stopped", "it is stopped")
    ending = gated(client, tmp_path / "gate", labels=label)["id"]
    asked = {"ids": [before["id"], ending, during["id"]], "all": True, "jobs": {"label": label}}
    waiting = client.send("job/wait", **{how: asked[how]})
    client.call("broker/ping")
    open_gate(tmp_path / "gate")
    client.ended(ending)
    os.kill(during["pid"], signal.SIGSTOP)
    answer = client.answer(waiting)
    assert (ids(answer["jobs"]), answer["timedOut"]) == ([ending], False)
    assert sorted(ids(answer["stopped"])) == sorted([before["id"], during["id"]])
    assert {job["status"] for job in answer["stopped"]} == {"stopped"}
    for job in (before, during):
        client.call("job/cancel", id=job["id"], graceMs=0)


def test_r115_one_stopped_job_that_a_filter_found_is_no_error(client: Wire) -> None:
    job = client.start("sleep", "60", labels={"of": "one"})
    os.kill(job["pid"], signal.SIGSTOP)
    eventually(lambda: client.get(job["id"])["status"] == "stopped", "it is stopped")
    answer = client.call("job/wait", jobs={"label": {"of": "one"}})
    assert (answer["jobs"], ids(answer["stopped"]), answer["timedOut"]) == ([], [job["id"]], False)
    client.call("job/cancel", id=job["id"], graceMs=0)


def test_r115_who_is_resumed_before_the_others_have_ended_is_waited_for(client: Wire, tmp_path: Path) -> None:
    held, ending = client.start("sleep", "60"), gated(client, tmp_path / "gate")["id"]
    waiting = client.send("job/wait", ids=[held["id"], ending])
    for number, status in ((signal.SIGSTOP, "stopped"), (signal.SIGCONT, "running")):
        os.kill(held["pid"], number)
        eventually(partial(stands, client, held["id"], status), status)
    open_gate(tmp_path / "gate")
    client.ended(ending)
    client.call("job/cancel", id=held["id"], graceMs=0)
    answer = client.answer(waiting)
    assert (ids(answer["jobs"]), answer["stopped"]) == ([ending, held["id"]], [])


# --- R116: order of completion --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_r116_several_come_in_the_order_in_which_they_ended(
    client: Wire, tmp_path: Path, order: tuple[int, ...]
) -> None:
    jobs = [gated(client, tmp_path / str(n), labels={"of": "order"})["id"] for n in range(3)]
    waits = [client.send("job/wait", ids=jobs), client.send("job/wait", jobs={"label": {"of": "order"}})]
    client.call("broker/ping")
    expected = [jobs[n] for n in order]
    for n in order:
        open_gate(tmp_path / str(n))
        client.ended(jobs[n])
    for wait in waits:
        assert ids(client.answer(wait)["jobs"]) == expected
    assert ids(client.call("job/wait", ids=jobs)["jobs"]) == expected, "also for who asks when all is over"
    assert ids(client.call("job/wait", ids=jobs, any=True)["jobs"])[0] == expected[0]


# --- which jobs a filter means --------------------------------------------------------------------------------------


def test_a_filter_means_the_live_jobs_of_now(client: Wire, tmp_path: Path) -> None:
    client.run("true", labels={"of": "now"})
    job = gated(client, tmp_path / "gate", labels={"of": "now"})["id"]
    waiting = client.send("job/wait", jobs={"label": {"of": "now"}, "status": "running"})
    client.call("broker/ping")
    later = client.start("sleep", "60", labels={"of": "now"})["id"]
    open_gate(tmp_path / "gate")
    assert ids(client.answer(waiting)["jobs"]) == [job]
    nobody = client.call("job/wait", jobs={"name": "nobody"})
    assert nobody == {"jobs": [], "stopped": [], "timedOut": False, "match": None}
    client.call("job/cancel", id=later, graceMs=0)
    bads: list[Message] = [
        {"jobs": {}, "all": True},
        {"jobs": {}, "ids": [job]},
        {"jobs": {"nonsense": 1}},
        {"all": False},
    ]
    for bad in bads:
        assert client.refused("job/wait", **bad).code == -32602


# --- R117: what is listed has an order, and both numbers are told ---------------------------------------------------


def test_r117_lists_are_ordered_by_start_and_running_and_stopped_are_counted_apart(home: Home) -> None:
    wire = home.connect()
    jobs = [wire.start("sleep", "60") for _ in range(12)]
    assert ids(wire.call("job/list")["jobs"]) == ids(jobs[::-1])
    assert ids(wire.call("job/list", order="asc")["jobs"]) == ids(jobs)
    assert ids(wire.call("events/subscribe")["jobs"]) == ids(jobs)
    for job in jobs[:5]:
        os.kill(job["pid"], signal.SIGSTOP)
    counts = ("running", "stopped")
    eventually(lambda: wire.call("broker/status")["counts"]["stopped"] == 5, "five are stopped")
    assert [wire.call("broker/status")["counts"][each] for each in counts] == [7, 5]
    home.restart()
    wire = home.connect()
    assert ids(wire.call("job/list")["jobs"]) == ids(jobs[::-1])
    assert [wire.call("broker/status")["counts"][each] for each in counts] == [7, 5]


# --- R136: what is waited for is more than was seen -----------------------------------------------------------------


def test_r136_a_wait_for_output_ends_with_more_than_was_seen_or_with_the_job(client: Wire, tmp_path: Path) -> None:
    job = gated(client, tmp_path / "a", "echo one", merged=True)["id"]
    client.until_output(job, "one\n")
    waiting = client.send("job/output", id=job, waitMs=60_000, **{"from": "4"})
    client.call("broker/ping")
    open_gate(tmp_path / "a")
    piece = client.answer(waiting)
    assert (piece["data"], piece["start"], piece["next"], piece["eof"]) == ("", "4", "4", True)
    at_once = client.call("job/output", id=job, waitMs=60_000, **{"from": "4"})
    assert at_once == piece, "a closed stream keeps nobody waiting, however often he asks"


def test_r136_nothing_written_between_the_look_and_the_wait_is_missed(client: Wire) -> None:
    script = "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done"
    job = client.shell(script, merged=True)["id"]
    seen, cursor, over = "", "0", False
    while not over:
        piece = client.call("job/output", id=job, waitMs=60_000, limit=97, **{"from": cursor})
        assert piece["start"] == cursor
        seen, cursor, over = seen + piece["data"], piece["next"], piece["eof"]
    assert seen == "".join(f"{n}\n" for n in range(2000))


def test_r136_a_cursor_before_what_is_kept_jumps_and_one_beyond_the_end_is_refused(client: Wire) -> None:
    script = f"head -c {4 * MIB} /dev/zero | tr '\\0' x"
    job = client.run("sh", "-c", script, maxOutput=MIB, merged=True)
    piece = client.call("job/output", id=job["id"], **{"from": str(MIB)})
    assert piece["dropped"] > 0
    assert int(piece["start"]) == MIB + piece["dropped"]
    size = job["stdout"]["size"]
    assert client.call("job/output", id=job["id"], **{"from": str(size)})["eof"] is True
    assert client.refused("job/output", id=job["id"], **{"from": str(size + 1)}).code == -32602
