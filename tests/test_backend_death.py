"""The backend dies: everybody hears of it, nothing is left of it, and the next broker knows."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backends import codex, farewell, generic, heard, turn
from harness import Failed, Home, Wire, alive, eventually

DEATHS: dict[str, dict[str, Any]] = {
    "exit 3": {"code": 3},
    "exit 0": {"code": 0},
    "SIGKILL": {"signal": "SIGKILL"},
    "SIGTERM": {"signal": "SIGTERM"},
}


@pytest.mark.parametrize("how", DEATHS)
def test_rule_12_rule_13_r072_r080_r081_r083_everybody_hears_how_it_died(
    new_home: Callable[..., Home], how: str
) -> None:
    home = codex(new_home)
    asking, killer, listening, silent = (home.connect() for _ in range(4))
    job = turn(asking, "respond", "never")
    command = asking.start("sleep", "1000")
    listening.call("broker/ping")
    waits = asking.send("silent")
    child = killer.call("spawn")["pid"]
    killer.send("die", **DEATHS[how])
    with pytest.raises(Failed) as caught:
        asking.answer(waits)
    exit_code, number = DEATHS[how].get("code"), DEATHS[how].get("signal")
    assert (caught.value.kind, caught.value.data["exitCode"], caught.value.data["signal"]) == (
        "backend_gone", exit_code, number,
    )  # fmt: skip
    for wire in (asking, killer, listening, silent):
        notice = farewell(wire)
        assert (notice["reason"], notice["exitCode"], notice["signal"]) == ("backend_exit", exit_code, number)
        assert notice["stderrTail"] == "fake: dying as told"
        assert notice["lostJobs"] == [job["id"]]
    assert home.wait() == 1
    assert not home.socket.exists()
    assert not home.socket.with_suffix(".pid").exists()
    assert not alive(child)
    assert alive(command["pid"])
    home.start()
    wire = home.connect()
    after = wire.get(job["id"])
    assert (after["status"], after["reason"]) == ("failed", "backend_exit")
    assert ("exit status" if number is None else number) in after["error"]
    assert wire.get(command["id"])["status"] == "running"
    assert wire.call("echo", a=1) == {"a": 1}


def test_rule_12_rule_13_the_end_of_its_stdout_is_its_end_and_the_listener_goes_first(
    new_home: Callable[..., Home],
) -> None:
    home = codex(new_home)
    wire = home.connect()
    job = turn(wire, "respond", "never")
    backend, child = heard(wire)["pid"], wire.call("spawn")["pid"]
    wire.send("eof")
    notice = wire.note("notifications/broker/shuttingDown")
    assert (notice["reason"], notice["lostJobs"]) == ("backend_exit", [job["id"]])
    assert not home.socket.exists(), "before anybody is told, nobody new is let in"
    assert home.wait() == 1
    assert not alive(backend)
    assert not alive(child)
    log = home.log_text()
    assert log.index("leaving: reason=backend_exit") < log.index("the backend closed its stdout")


def test_rule_12_one_that_closes_its_stdin_is_of_no_use(new_home: Callable[..., Home]) -> None:
    home = generic(new_home)
    wire, other = home.connect(), home.connect()
    backend = heard(wire)["pid"]
    wire.call("deafen")
    waits = wire.send("echo")
    with pytest.raises(Failed, match="closed its stdin"):
        wire.answer(waits)
    assert farewell(other)["reason"] == "backend_exit"
    assert home.wait() == 1
    assert not alive(backend)


def test_rule_12_a_backend_whose_last_word_is_its_first(new_home: Callable[..., Home]) -> None:
    home = new_home()
    answer = '{"jsonrpc":"2.0","id":1,"result":{}}'
    command = json.dumps(["sh", "-c", f"read line; echo '{answer}'; echo gone >&2; exit 3"])
    (home.root / "config.toml").write_text(f'[instances.default.backend]\nprofile = "mcp"\ncommand = {command}\n')
    home.start()
    wire, other = home.connect(), home.connect()
    assert wire.call("initialize") == {}
    for each in (wire, other):
        notice = farewell(each)
        assert (notice["reason"], notice["exitCode"], notice["stderrTail"]) == ("backend_exit", 3, "gone")
    assert home.wait() == 1


def test_rule_14_a_shim_that_is_stopped_does_not_keep_the_broker(new_home: Callable[..., Home]) -> None:
    home = generic(new_home)
    wire = home.connect()
    backend = heard(wire)["pid"]
    shim = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGSTOP)
    os.kill(backend, signal.SIGKILL)
    assert farewell(wire)["reason"] == "backend_exit"
    assert home.wait() == 1
    home.start()
    assert heard(home.connect())["pid"] != backend
    eventually(lambda: not alive(shim), "the shim is gone")


def test_r084_requests_on_the_way_when_it_dies_are_answered(new_home: Callable[..., Home]) -> None:
    home = generic(new_home)
    wire, killer = home.connect(), home.connect()
    backend = heard(killer)["pid"]
    before = [wire.send("silent") for _ in range(50)]
    killer.call("echo")
    os.kill(backend, signal.SIGKILL)
    after = [wire.send("echo") for _ in range(50)]
    kinds: list[str] = []
    try:
        for identity in (*before, *after):
            with pytest.raises(Failed) as caught:
                wire.answer(identity)
            kinds.append(caught.value.kind)
    except EOFError:  # the last ones came after the broker had read its last
        pass
    assert len(kinds) >= len(before)
    assert set(kinds) <= {"backend_gone", "shutting_down"}
    assert home.wait() == 1


def test_rule_12_last_words_that_are_still_in_the_pipe_are_heard(new_home: Callable[..., Home]) -> None:
    home = generic(new_home)
    wire, killer = home.connect(), home.connect()
    heard(killer)
    answers = [wire.send("big", size=500_000) for _ in range(3)]
    killer.send("die", code=5)
    outcomes: list[object] = []
    for identity in answers:
        try:
            outcomes.append(len(wire.answer(identity)["text"]))
        except Failed as exc:
            outcomes.append(exc.kind)
    assert set(outcomes) <= {500_000, "backend_gone"}
    assert home.wait() == 1


def test_rule_13_r082_what_is_told_has_been_written_down(new_home: Callable[..., Home]) -> None:
    home = codex(new_home)
    wire, deaf = home.connect(), home.connect()
    job = turn(wire, "respond", "never")
    deaf.write({"id": 1, "method": "big", "params": {"size": 3_000_000}})
    wire.call("echo")
    wire.send("die", code=3)
    assert wire.note("notifications/broker/shuttingDown")["lostJobs"] == [job["id"]]
    home.kill()  # it still waits for the one that does not read
    home.start()
    assert "exit status 3" in home.connect().get(job["id"])["error"], "and not what the next broker would conclude"


def test_rule_13_r081_a_client_that_does_not_read_does_not_keep_the_broker(new_home: Callable[..., Home]) -> None:
    home = generic(new_home)
    deaf, other = home.connect(), home.connect()
    heard(other)
    deaf.write({"id": 1, "method": "big", "params": {"size": 3_000_000}})
    other.call("echo")
    other.send("die", code=1)
    farewell(other)
    assert home.wait() == 1


def test_rule_15_a_hang_that_is_to_end_it_ends_it(new_home: Callable[..., Home]) -> None:
    more = "[instances.default.backend.probe]\nidle = 0.2\nwait = 0.1\nmisses = 2\nwhile_busy = true\nhung = 'kill'\n"
    home = generic(new_home, more=more)
    wire = home.connect()
    backend = heard(wire)["pid"]
    os.kill(backend, signal.SIGSTOP)
    wire.send("echo")
    notice = wire.note("notifications/broker/shuttingDown")
    assert notice["reason"] == "backend_exit"
    assert home.wait() == 1
    assert not alive(backend)


def test_r042_a_handshake_is_answered_though_the_backend_is_hung(new_home: Callable[..., Home]) -> None:
    home = codex(new_home)
    wire, other = home.connect(), home.connect()
    first = wire.call("initialize")
    backend = heard(wire)["pid"]
    os.kill(backend, signal.SIGSTOP)
    wire.send("echo")
    assert other.call("initialize") == first
    assert other.call("broker/ping")["instance"] == "default"
    os.kill(backend, signal.SIGCONT)


def test_rule_15_r063_a_hang_is_visible_and_passes(new_home: Callable[..., Home]) -> None:
    more = "[instances.default.backend.probe]\nidle = 0.2\nwait = 0.1\nmisses = 2\nwhile_busy = true\n"
    home = generic(new_home, more=more)
    wire, other = home.connect(), home.connect()
    backend = heard(wire)["pid"]
    os.kill(backend, signal.SIGSTOP)
    waits = wire.send("echo", a=1)
    eventually(lambda: other.call("backend/status")["backend"]["state"] == "hung", "the hang is seen")
    os.kill(backend, signal.SIGCONT)
    assert wire.answer(waits) == {"a": 1}
    assert other.call("backend/status")["backend"]["state"] == "up"


def test_rule_13_r080_r082_twenty_hear_of_it_and_twenty_who_come_meanwhile_are_served_by_the_next(
    new_home: Callable[..., Home],
) -> None:
    home = generic(new_home)
    there = [home.connect() for _ in range(20)]
    heard(there[0])
    dying = threading.Event()

    def come() -> int:
        """As a client library does: connect and ask, and again where the broker was on its way out."""
        dying.wait()
        while True:
            try:
                with Wire(str(home.socket)) as wire:
                    pid: int = wire.call("broker/ping")["pid"]
                    wire.call("echo")
                    return pid
            except (OSError, EOFError, Failed):
                continue

    with ThreadPoolExecutor(20) as pool:
        coming = [pool.submit(come) for _ in range(20)]
        there[0].send("die", code=1)
        assert there[1].note("notifications/broker/shuttingDown")["reason"] == "backend_exit"
        dying.set()
        assert all(farewell(wire)["reason"] == "backend_exit" for wire in (there[0], *there[2:]))
        assert home.wait() == 1
        next_one = home.start()
        served = [future.result() for future in coming]
    assert set(served) == {next_one}


def test_a_job_that_is_no_turn_runs_on_and_is_known(new_home: Callable[..., Home]) -> None:
    home = generic(new_home)
    wire = home.connect()
    heard(wire)
    job = wire.shell("echo before; read line < /dev/null; sleep 0.2; echo after; exit 4")
    wire.send("die", code=1)
    assert home.wait() == 1
    home.start()
    wire = home.connect()
    ended = wire.ended(job["id"])
    assert (ended["status"], ended["exitCode"]) == ("failed", 4)
    assert wire.output(job["id"]) == "before\nafter\n"
