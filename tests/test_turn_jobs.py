"""Turns as jobs: a real broker and a backend that plays scripts, the recorded races among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from backends import codex, completed, generic, says, turn, with_backend
from harness import Home, Message, Wire, eventually


@pytest.fixture
def wire(new_home: Callable[..., Home]) -> Wire:
    return codex(new_home).connect()


def test_a_turn_is_a_job_like_any_other(wire: Wire) -> None:
    job = turn(wire, "respond", says("half"), "go on", says("done: é"), completed(), name="fix", labels={"a": "b"})
    assert (job["kind"], job["method"], job["argv"], job["pid"]) == ("turn", "turn/start", [], None)
    assert job["params"]["threadId"] == "T"
    assert wire.call("job/list", kind="turn")["jobs"][0]["id"] == job["id"]
    wire.until_output("fix", "half")
    wire.write({"method": "open", "params": {"gate": "go on"}})
    ended = wire.ended("fix")
    assert (ended["status"], ended["reason"], ended["exitCode"], ended["error"]) == ("completed", "exit", None, None)
    result = wire.call("job/result", id="fix")["result"]
    assert (result["stdout"], result["exitCode"]) == ("done: é", None)
    texts = [json.loads(line)["params"]["item"]["text"] for line in result["stderr"].splitlines()]
    assert texts == ["half", "done: é"]
    assert ended["stdout"]["size"] == len("done: é".encode())


def test_rule_06_r053_an_end_that_comes_before_the_answer_is_not_lost(wire: Wire) -> None:
    started = {"method": "turn/started", "params": {"threadId": "T", "turn": {"id": "$turn", "status": "inProgress"}}}
    job = turn(wire, started, says("early"), completed(), "respond")
    assert wire.ended(job["id"])["status"] == "completed"
    assert wire.output(job["id"], stream="stdout") == "early"


@pytest.mark.parametrize(
    ("end", "status", "error"),
    [
        (completed("failed", error={"message": "high demand"}), "failed", "high demand"),
        (completed("interrupted"), "cancelled", None),
    ],
)
def test_r085_how_it_ended_is_what_the_backend_said(wire: Wire, end: Any, status: str, error: str | None) -> None:
    ended = wire.ended(turn(wire, "respond", end)["id"])
    assert (ended["status"], ended["error"]) == (status, error)


def test_r085_an_error_instead_of_an_answer_is_the_end(wire: Wire) -> None:
    ended = wire.ended(wire.call("job/start", method="nope")["job"]["id"])
    assert (ended["status"], ended["error"]) == ("failed", "no method nope")


def test_r055_r104_cancel_goes_the_backends_way(wire: Wire) -> None:
    job = turn(wire, "respond", "never")
    answer = wire.call("job/cancel", id=job["id"])
    assert (answer["job"]["status"], answer["job"]["reason"], answer["changed"]) == ("cancelled", "user", True)
    sent = [message for message in wire.call("heard")["messages"] if message["method"] == "turn/interrupt"]
    assert [message["params"]["threadId"] for message in sent] == ["T"]
    job = turn(wire, "respond", "never")
    assert wire.call("backend/interrupt", id=job["id"])["job"]["status"] == "cancelled"
    assert wire.refused("backend/interrupt", id=job["id"]).kind == "invalid_state"


def test_r104_a_cancel_before_the_backend_has_named_the_turn_is_remembered(wire: Wire) -> None:
    job = turn(wire, "name it", "respond", "never")
    waits = wire.send("job/cancel", id=job["id"])
    eventually(lambda: wire.get(job["id"])["cancelRequested"], "it is asked for")
    assert wire.get(job["id"])["status"] == "running"
    wire.write({"method": "open", "params": {"gate": "name it"}})
    assert wire.answer(waits)["job"]["status"] == "cancelled"


def test_r090_the_time_limit_holds_with_a_backend_that_is_deaf(wire: Wire) -> None:
    job = wire.ended(turn(wire, "never", timeoutMs=100, graceMs=100)["id"])
    assert (job["status"], job["reason"]) == ("timed_out", "deadline")
    assert job["error"].startswith("time limit of 100 ms passed")


def test_r092_the_idle_limit_too(wire: Wire) -> None:
    job = wire.ended(turn(wire, "respond", "never", idleTimeoutMs=100, graceMs=100)["id"])
    assert (job["status"], job["reason"]) == ("timed_out", "idle")


def test_r090_the_time_limit_of_a_turn_is_half_an_hour_unless_the_settings_say_otherwise(
    new_home: Callable[..., Home],
) -> None:
    assert turn(codex(new_home).connect(), "respond", completed())["timeoutMs"] == 30 * 60 * 1000
    other = with_backend(new_home("other", JOBBROKER_TURN_TIMEOUT="5s"), "codex", "--handshake", "--plain")
    other.start()
    wire = other.connect()
    assert turn(wire, "respond", completed())["timeoutMs"] == 5000
    assert turn(wire, "respond", completed(thread="U"), thread="U", timeoutMs=0)["timeoutMs"] == 0


def test_rule_10_r058_only_one_turn_on_a_thread(wire: Wire) -> None:
    job = turn(wire, "respond", "go", completed())
    refused = wire.refused("job/start", method="turn/start", params={"threadId": "T", "script": []})
    assert (refused.kind, refused.data["job"]) == ("busy", job["id"])
    assert wire.refused("turn/start", threadId="T", script=[]).data["job"] == job["id"]
    assert turn(wire, "respond", completed(thread="U"), thread="U")["status"] == "running"
    wire.write({"method": "open", "params": {"gate": "go"}})
    wire.ended(job["id"])
    assert wire.ended(turn(wire, "respond", completed())["id"])["status"] == "completed"


def test_what_it_is_asked_with_is_checked(wire: Wire, shared: Home) -> None:
    wrong: list[Message] = [
        {"method": "m", "argv": ["true"]}, {"kind": "turn"}, {"kind": "turn", "argv": ["true"]}, {"method": ""},
        {"method": "m", "kind": "command"}, {"argv": ["true"], "params": {}}, {"method": "m", "persist": False},
    ]  # fmt: skip
    for params in wrong:
        assert wire.refused("job/start", **params).kind == "invalid_params", params
    with Wire(str(shared.socket)) as plain:
        assert "no backend" in str(plain.refused("job/start", method="m"))


def test_it_has_no_process_to_signal(wire: Wire) -> None:
    job = turn(wire, "respond", "never")
    assert wire.refused("job/signal", id=job["id"], signal="TERM").kind == "invalid_state"
    for method in ("job/pause", "job/resume"):
        assert "no process" in str(wire.refused(method, id=job["id"]))
    assert wire.call("job/processes", id=job["id"])["processes"] == []
    assert wire.get(job["id"])["status"] == "running"


def test_r057_the_same_key_is_the_same_turn(wire: Wire) -> None:
    first = turn(wire, "respond", "never", idempotencyKey="k")
    assert turn(wire, "respond", "never", idempotencyKey="k")["id"] == first["id"]


def test_r051_it_runs_on_though_its_starter_leaves(new_home: Callable[..., Home]) -> None:
    home = codex(new_home)
    starter, other = home.connect(), home.connect()
    starter.call("initialize")
    job = turn(starter, "respond", "go", says("all of it"), completed())
    assert other.call("backend/status")["backend"]["clients"] == 1
    starter.close()
    eventually(lambda: other.call("backend/status")["backend"]["clients"] == 0, "the starter is gone")
    assert other.get(job["id"])["status"] == "running"
    other.write({"method": "open", "params": {"gate": "go"}})
    assert other.ended(job["id"])["status"] == "completed"
    assert other.output(job["id"], stream="stdout") == "all of it"


def test_r107_what_was_asked_is_kept(new_home: Callable[..., Home]) -> None:
    home = codex(new_home)
    wire = home.connect()
    wire.call("initialize", clientInfo={"name": "editor"})
    job = turn(wire, "respond", completed(), timeoutMs=9000, idleTimeoutMs=8000, graceMs=700, labels={"a": "b"})
    wire.ended(job["id"])
    home.restart()
    kept = home.connect().get(job["id"])
    assert (kept["method"], kept["params"]["threadId"], kept["labels"]) == ("turn/start", "T", {"a": "b"})
    assert [kept[limit] for limit in ("timeoutMs", "idleTimeoutMs", "graceMs")] == [9000, 8000, 700]
    assert (kept["origin"]["client"], kept["startedAt"] is None) == ("editor", False)


def test_r051_it_ends_with_its_starter_if_that_was_asked(new_home: Callable[..., Home]) -> None:
    home = codex(new_home)
    starter, other = home.connect(), home.connect()
    job = turn(starter, "respond", "never", onDisconnect="cancel")
    starter.close()
    ended = other.ended(job["id"])
    assert (ended["status"], ended["reason"]) == ("cancelled", "disconnect")


def test_who_waits_and_who_subscribed_hear_of_its_end(new_home: Callable[..., Home]) -> None:
    home = codex(new_home)
    wire, other = home.connect(), home.connect()
    other.call("events/subscribe")
    job = turn(wire, "respond", "go", completed())
    waits = wire.send("job/wait", ids=[job["id"]])
    other.write({"method": "open", "params": {"gate": "go"}})
    assert wire.answer(waits)["jobs"][0]["status"] == "completed"
    while (note := other.note("notifications/job/updated")["job"])["status"] != "completed":
        assert note["id"] == job["id"]


def test_r099_it_survives_as_a_row_and_never_as_running(new_home: Callable[..., Home]) -> None:
    home = codex(new_home)
    wire = home.connect()
    done = wire.ended(turn(wire, "respond", says("kept"), completed())["id"])
    running = turn(wire, "respond", says("half"), "never")
    wire.until_output(running["id"], "half")
    wire.call("job/start", method="echo", params={"late": True})
    home.restart()
    wire = home.connect()
    assert wire.get(done["id"])["status"] == "completed"
    assert wire.output(done["id"], stream="stdout") == "kept"
    lost = wire.get(running["id"])
    assert (lost["status"], lost["reason"]) == ("failed", "backend_exit")
    assert lost["stderr"]["size"] > 0
    assert "half" in wire.output(running["id"])


def test_one_that_waits_for_a_slot_waits_on_and_runs_once(new_home: Callable[..., Home]) -> None:
    home = generic(new_home, JOBBROKER_MAX_RUNNING="1")
    wire = home.connect()
    blocker = wire.start("sleep", "1000")
    job = wire.call("job/start", method="echo", params={"a": 1})["job"]
    assert job["status"] == "queued"
    home.restart()
    wire = home.connect()
    assert wire.get(job["id"])["status"] == "queued"
    wire.call("job/cancel", id=blocker["id"])
    assert wire.ended(job["id"])["status"] == "completed"
    assert wire.output(job["id"]) == '{"a":1}'


def test_r087_a_broker_that_is_stopped_says_what_became_of_them(new_home: Callable[..., Home]) -> None:
    home = codex(new_home)
    wire = home.connect()
    job = turn(wire, "respond", "never")
    assert wire.refused("broker/shutdown").kind == "jobs_active"
    wire.call("broker/shutdown", mode="keepJobs")
    assert wire.note("notifications/broker/shuttingDown")["lostJobs"] == [job["id"]]
    assert home.wait() == 0
    home.start()
    lost = home.connect().get(job["id"])
    assert (lost["status"], lost["reason"]) == ("failed", "backend_exit")


def test_a_turn_whose_backend_does_not_start_has_failed(new_home: Callable[..., Home]) -> None:
    home = new_home()
    (home.root / "config.toml").write_text('[instances.default.backend]\ncommand = ["/nonexistent/x"]\n')
    home.start()
    wire = home.connect()
    job = wire.call("job/start", method="m")["job"]
    ended = wire.ended(job["id"])
    assert (ended["status"], ended["startedAt"]) == ("failed", None)
    assert "no such file" in ended["error"]


def test_turns_by_the_hundred(new_home: Callable[..., Home]) -> None:
    wire = generic(new_home).connect()
    jobs = [wire.call("job/start", method="echo", params={"n": number})["job"]["id"] for number in range(100)]
    assert {wire.ended(job)["status"] for job in jobs} == {"completed"}
    assert wire.output(jobs[57]) == '{"n":57}'
    eventually(lambda: wire.call("backend/status")["backend"]["turns"] == 0, "all are over")
