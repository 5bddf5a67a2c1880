"""SIGKILL at any moment, of the daemon, of shims, of fork servers: nothing is lost, run twice, or lied about."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Home, Message, alive, command, eventually
from jobbroker.core import record
from jobbroker.identity import read_stat
from jobbroker.tree import descendants


def parent(pid: int) -> int:
    stat = read_stat(pid)
    return int(stat[1]) if stat is not None else 0


def gone(*pids: int) -> None:
    """Wait until all of them have ended."""
    eventually(lambda: not any(map(alive, pids)), f"{pids} end")


def kill_shim(job: Message) -> None:
    """SIGKILL the shim of a running job."""
    shim = parent(job["pid"])
    os.kill(shim, signal.SIGKILL)
    gone(shim)


def fork_server(home: Home) -> int:
    assert home.process is not None
    mine = [pid for pid in descendants(home.process.pid) if parent(pid) == home.process.pid and alive(pid)]
    return next(pid for pid in mine if "forkserver" in command(pid))


def ends(job: Message) -> tuple[object, ...]:
    return job["status"], job["reason"], job["exitCode"]


def lines_of(home: Home, name: str) -> list[bytes]:
    return [line.letter for line in record.decode(home.record(name))[1]]


# --- the daemon -----------------------------------------------------------------------------------------------------


def test_ends_before_during_and_after_the_gap(home: Home) -> None:
    wire = home.connect()
    script = "i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; exit {}"
    before = wire.run("sh", "-c", "echo before; exit 3")["id"]
    during = wire.shell(script.format(4))["id"]
    os.mkfifo(home.root / "gate")
    after = wire.shell("echo up; read line < gate; echo down; exit 5", cwd=str(home.root))
    home.kill()
    pid = int(record.last(record.decode(home.record(during))[1], b"S").number(0))  # type: ignore[union-attr]
    gone(pid)
    home.start()
    wire = home.connect()
    assert wire.get(after["id"])["status"] == "running"
    assert ends(wire.get(before)) == ("failed", "exit", 3)
    assert ends(wire.ended(during)) == ("failed", "exit", 4)
    assert wire.output(during).splitlines() == [f"line {n}" for n in range(20)]
    (home.root / "gate").write_text("go\n")
    assert ends(wire.ended(after["id"])) == ("failed", "exit", 5)


def test_limits_and_cancellations_hold_without_a_daemon(home: Home) -> None:
    wire = home.connect()
    late = wire.start("sleep", "60", timeoutMs=300)
    silent = wire.start("sleep", "60", idleTimeoutMs=300)
    stubborn = wire.shell("trap '' TERM; echo up; while :; do sleep 0.01; done", graceMs=300)
    wire.until_output(stubborn["id"], "up")
    wire.call("job/cancel", id=stubborn["id"], confirm=False)
    eventually(lambda: b"L" in lines_of(home, stubborn["id"]), "the shim has begun")
    home.kill()
    for job in (late, silent, stubborn):
        gone(job["pid"])
    home.start()
    wire = home.connect()
    assert [ends(wire.ended(job["id"]))[:2] for job in (late, silent, stubborn)] == [
        ("timed_out", "deadline"), ("timed_out", "idle"), ("cancelled", "user"),
    ]  # fmt: skip


def test_a_cancellation_that_was_not_delivered_is_delivered_by_the_next_daemon(home: Home) -> None:
    wire = home.connect()
    job = wire.start("sleep", "60")
    shim = parent(job["pid"])
    os.kill(shim, signal.SIGSTOP)
    wire.call("job/cancel", id=job["id"], confirm=False)
    home.kill()
    (home.state / "jobs" / job["id"] / "ask").unlink()
    home.start()
    os.kill(shim, signal.SIGCONT)
    assert ends(home.connect().ended(job["id"]))[:2] == ("cancelled", "user")


def test_queued_jobs_wait_and_run_once(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_RUNNING="2")
    home.start()
    wire = home.connect()
    holders = [wire.start("sleep", "60")["id"] for _ in range(2)]
    queued = [wire.start("sh", "-c", f"echo {n} >> {home.root}/proof")["id"] for n in range(6)]
    wire.call("job/cancel", id=queued[2])
    home.restart()
    wire = home.connect()
    assert [wire.get(job)["status"] for job in queued] == ["queued"] * 2 + ["cancelled"] + ["queued"] * 3
    wire.call("job/cancel", id=queued[4])
    home.restart()
    wire = home.connect()
    for job in holders:
        wire.call("job/cancel", id=job, graceMs=0)
    wire.call("job/wait", all=True)
    assert sorted((home.root / "proof").read_text().split()) == ["0", "1", "3", "5"]


def test_tied_jobs_end_when_the_daemon_they_were_tied_to_is_gone(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_RUNNING="2")
    home.start()
    wire = home.connect()
    free = wire.start("sleep", "60")["id"]
    tied = wire.start("sleep", "60", onDisconnect="cancel")["id"]
    waiting = wire.start("touch", str(home.root / "ran"), onDisconnect="cancel")["id"]
    home.restart()
    wire = home.connect()
    for job in (tied, waiting):
        assert ends(wire.ended(job))[:2] == ("cancelled", "disconnect")
    assert wire.get(free)["status"] == "running"
    assert not (home.root / "ran").exists()


def test_a_stopped_job_is_still_stopped(home: Home) -> None:
    wire = home.connect()
    job = wire.start("sleep", "60", timeoutMs=500)
    os.kill(job["pid"], signal.SIGSTOP)
    eventually(lambda: wire.get(job["id"])["status"] == "stopped", "it stops")
    home.restart()
    wire = home.connect()
    assert wire.get(job["id"])["status"] == "stopped"
    os.kill(job["pid"], signal.SIGCONT)
    eventually(lambda: wire.get(job["id"])["status"] != "stopped", "it goes on")
    assert ends(wire.ended(job["id"]))[:2] == ("timed_out", "deadline")


def storm(home: Home, rounds: int, seed: int) -> None:
    """Batches of starts and some cancellations, the daemon killed in the middle of each; all keys asked for again."""
    chance = random.Random(seed)
    proof = home.root / "proof"
    proof.mkdir()
    asked: dict[str, Message] = {}
    cancelled: set[str] = set()
    for number in range(rounds):
        wire = home.connect()
        calls: list[Message] = []
        for n in range(12):
            key = f"{number}-{n}"
            script = f"echo ran >> {proof}/{key}; echo {key}; {chance.choice(['sleep 0.05; ', ''])}exit {n}"
            asked[key] = {"argv": ["sh", "-c", script], "idempotencyKey": key, "name": f"job-{key}"}
            calls.append({"id": key, "method": "job/start", "params": asked[key]})
        wire.write(calls if number % 2 else calls[0])
        for call in calls[1:] if not number % 2 else []:
            wire.write(call)
        if number:
            name = f"job-{number - 1}-{chance.randrange(12)}"
            cancelled.add(name[4:])
            wire.send("job/cancel", id=name, graceMs=0)
        time.sleep(chance.random() * 0.08)  # the moment of the kill is the point
        home.kill()
        home.start()
    wire = home.connect()
    jobs: dict[str, Message] = {key: wire.call("job/start", **params)["job"] for key, params in asked.items()}
    over = wire.call("job/wait", ids=[job["id"] for job in jobs.values()])["jobs"]
    assert len({job["id"] for job in over}) == len(asked) == len(wire.call("job/list", limit=1000)["jobs"])
    for job in over:
        key = job["name"][4:]
        ran = (proof / key).read_text() if (proof / key).exists() else ""
        if key in cancelled and job["reason"] == "user":
            assert ran in ("", "ran\n")
            continue
        wanted = int(key.partition("-")[2])
        assert (job["exitCode"], job["reason"], ran) == (wanted, "exit", "ran\n"), job
        assert wire.output(job["id"]) == f"{key}\n"


def test_killed_in_the_middle_of_everything(home: Home) -> None:
    storm(home, rounds=8, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_in_the_middle_of_everything_for_long(home: Home, seed: int) -> None:
    storm(home, rounds=60, seed=seed)


def test_killed_while_it_starts(home: Home) -> None:
    wire = home.connect()
    jobs = [wire.shell(f"sleep 0.{n}; exit {n}")["id"] for n in range(1, 8)]
    home.kill()
    for n in range(10):
        process = home.spawn()
        time.sleep(0.03 * n)  # the moment of the kill is the point
        process.kill()
        process.wait()
    home.start()
    wire = home.connect()
    assert [wire.ended(job)["exitCode"] for job in jobs] == list(range(1, 8))


# --- fork servers ---------------------------------------------------------------------------------------------------


def test_fork_servers_killed_again_and_again(home: Home) -> None:
    wire = home.connect()
    live = wire.start("sleep", "60")["id"]
    for n in range(5):
        os.kill(fork_server(home), signal.SIGKILL)
        # More than there are idle shims, so that a fork server is needed.
        jobs = [wire.start("sh", "-c", "sleep 0.1; exit 7")["id"] for _ in range(4 * n + 4)]
        assert {ends(wire.ended(job)) for job in jobs} == {("failed", "exit", 7)}
    assert wire.get(live)["status"] == "running"
    assert ends(wire.call("job/cancel", id=live, graceMs=0)["job"])[:2] == ("cancelled", "user")


def test_a_fork_server_that_hangs_is_replaced(home: Home) -> None:
    wire = home.connect()
    wire.run("true")
    os.kill(fork_server(home), signal.SIGSTOP)
    wire.write([{"id": n, "method": "job/start", "params": {"argv": ["true"]}} for n in range(5)])
    os.kill(fork_server(home), signal.SIGKILL)
    wire.read()
    assert wire.call("job/wait", all=True)["timedOut"] is False
    assert wire.call("broker/status")["counts"]["completed"] == 6


# --- shims ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [False, True])
def test_a_job_whose_shim_was_killed_is_watched_to_its_end(home: Home, gap: bool) -> None:
    wire = home.connect()
    os.mkfifo(home.root / "gate")
    job = wire.shell("read line < gate; exit 0", cwd=str(home.root))
    if gap:
        home.kill()
    kill_shim(job)
    if gap:
        home.start()
        wire = home.connect()
    assert wire.get(job["id"])["status"] == "running"
    assert alive(job["pid"])
    waiting = wire.send("job/wait", ids=[job["id"]])
    (home.root / "gate").write_text("go\n")
    over = wire.answer(waiting)["jobs"][0]
    assert ends(over) == ("failed", "lost", None)
    assert "shim" in over["error"]
    assert "watched without" in home.log_text()


@pytest.mark.parametrize("when", ["before", "after"])
def test_such_a_job_can_be_cancelled(home: Home, when: str) -> None:
    wire = home.connect()
    job = wire.shell("trap '' TERM; echo up; setsid sleep 60 & while :; do sleep 0.01; done")
    wire.until_output(job["id"], "up")
    if when == "before":
        wire.call("job/cancel", id=job["id"], graceMs=300, confirm=False)
    kill_shim(job)
    assert wire.get(job["id"])["status"] == "running"
    answer = wire.call("job/cancel", id=job["id"], graceMs=100)
    assert ends(answer["job"]) == ("failed", "lost", None)
    assert not alive(job["pid"])


def test_a_cancellation_is_remembered_though_the_shim_it_was_told_is_killed(home: Home) -> None:
    wire = home.connect()
    job = wire.shell("trap '' TERM; echo up; while :; do sleep 0.01; done")
    wire.until_output(job["id"], "up")
    waiting = wire.send("job/cancel", id=job["id"], graceMs=400)
    eventually(lambda: b"L" in lines_of(home, job["id"]), "the shim has begun")
    kill_shim(job)
    assert wire.answer(waiting)["job"]["status"] == "failed"
    assert not alive(job["pid"])


def test_the_deadline_of_such_a_job_holds(home: Home) -> None:
    wire = home.connect()
    job = wire.start("sleep", "60", timeoutMs=400)
    kill_shim(job)
    assert ends(wire.ended(job["id"])) == ("failed", "lost", None)
    assert not alive(job["pid"])


@pytest.mark.parametrize("gap", [False, True])
def test_reconciled_before_sorted_and_cut(home: Home, gap: bool) -> None:
    """One old running job among newer ended ones, its shim and its process killed: never shown as running again."""
    wire = home.connect()
    old = wire.start("sleep", "60")
    newer = [wire.run("true")["id"] for _ in range(9)]
    if gap:
        home.kill()
    shim = parent(old["pid"])
    os.kill(shim, signal.SIGKILL)
    os.kill(old["pid"], signal.SIGKILL)
    gone(shim, old["pid"])
    if gap:
        home.start()
        wire = home.connect()
    assert wire.call("job/list", status="running", limit=8)["jobs"] == []
    page = wire.call("job/list", limit=8)["jobs"]
    assert [job["id"] for job in page] == newer[:0:-1]
    assert wire.call("job/list", limit=8)["jobs"] == page
    failed = wire.call("job/list", status="failed", limit=8)["jobs"]
    assert [(job["id"], *ends(job)) for job in failed] == [(old["id"], "failed", "lost", None)]
    assert wire.call("broker/status")["counts"]["running"] == 0


def test_shim_and_job_killed_are_never_shown_as_running(home: Home) -> None:
    wire = home.connect()
    for look in ("job/get", "job/list", "job/wait", "job/cancel", "job/signal", "broker/status"):
        job = wire.start("sleep", "60")
        shim = parent(job["pid"])
        os.kill(shim, signal.SIGKILL)
        os.kill(job["pid"], signal.SIGKILL)
        gone(shim, job["pid"])
        if look == "job/list":
            assert wire.call(look, status="running")["jobs"] == []
        elif look == "broker/status":
            assert wire.call(look)["counts"]["running"] == 0
        elif look == "job/signal":
            assert wire.refused(look, id=job["id"], signal="TERM").code == -31005
        elif look == "job/wait":
            assert wire.call(look, ids=[job["id"]], timeoutMs=0)["timedOut"] is False
        else:
            assert ends(wire.call(look, id=job["id"])["job"]) == ("failed", "lost", None)


def test_idle_shims_killed_cost_nothing(home: Home) -> None:
    wire = home.connect()
    wire.write([{"id": n, "method": "job/start", "params": {"argv": ["true"]}} for n in range(8)])
    wire.read()
    wire.call("job/wait", all=True)
    assert home.process is not None
    for pid in descendants(home.process.pid):
        if parent(pid) == fork_server(home):
            os.kill(pid, signal.SIGKILL)
    assert [wire.run("true")["status"] for _ in range(8)] == ["completed"] * 8


def test_the_machine_was_restarted(home: Home) -> None:
    wire = home.connect()
    job = wire.start("sleep", "60")
    home.kill()
    os.kill(parent(job["pid"]), signal.SIGKILL)
    os.kill(job["pid"], signal.SIGKILL)
    path = home.state / "jobs" / job["id"] / "record"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().encode()
    path.write_bytes(path.read_bytes().replace(boot, b"0" * len(boot)))
    home.start()
    over = home.connect().get(job["id"])
    assert ends(over) == ("failed", "lost", None)
    assert "machine" in over["error"]


def test_flooded_with_pokes(home: Home) -> None:
    wire = home.connect()
    job = wire.start("sleep", "60")
    home.restart()
    wire = home.connect()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as flood:
        flood.connect(str(home.state / "notify"))
        for n in range(3000):
            try:
                flood.send([job["id"].encode(), b"", b"\xff" * 60, b"x" * 5000, b"nobody"][n % 5])
            except BlockingIOError:
                wire.call("broker/ping")
    assert wire.get(job["id"])["status"] == "running"
    assert wire.run("true")["status"] == "completed"
