"""The backend dies: everybody hears of it, nothing is left of it, and the next broker knows."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
def test_everybody_hears_how_it_died(new_home: Callable[..., Home], how: str) -> None:
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


def test_the_end_of_its_stdout_is_its_end(new_home: Callable[..., Home]) -> None:
    home = generic(new_home)
    wire = home.connect()
    backend = heard(wire)["pid"]
    wire.send("eof")
    assert wire.note("notifications/broker/shuttingDown")["reason"] == "backend_exit"
    assert home.wait() == 1
    assert not alive(backend)


def test_last_words_that_are_still_in_the_pipe_are_heard(new_home: Callable[..., Home]) -> None:
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


def test_a_client_that_does_not_read_does_not_keep_the_broker(new_home: Callable[..., Home]) -> None:
    home = generic(new_home)
    deaf, other = home.connect(), home.connect()
    heard(other)
    deaf.write({"id": 1, "method": "big", "params": {"size": 3_000_000}})
    other.call("echo")
    other.send("die", code=1)
    farewell(other)
    assert home.wait() == 1


def test_a_hang_that_is_to_end_it_ends_it(new_home: Callable[..., Home]) -> None:
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


def test_a_hang_is_visible_and_passes(new_home: Callable[..., Home]) -> None:
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


def test_twenty_hear_of_it_and_twenty_who_come_meanwhile_are_served_by_the_next(new_home: Callable[..., Home]) -> None:
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
