"""What may happen while a tree is being stopped: it ends, its shim takes the next job, its end is asked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from harness import Home, Message, Wire, alive, command, eventually
from jobbroker import pausing
from jobbroker.core import record
from jobbroker.identity import read_stat, start_time
from jobbroker.tree import descendants
from test_pausing import begin, shim_of, states, status_of

TWO_JOBS = """
import subprocess, sys
for _ in range(2):
    job = subprocess.Popen(["sleep", "1000"])
    print(job.pid, flush=True)
    sys.stdin.readline()
    job.kill()
    job.wait()
"""


def stands(wire: Wire, name: str, status: str) -> bool:
    return bool(wire.get(name)["status"] == status)


def runs(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat[0] not in (b"T", b"Z")


async def test_the_next_job_of_the_same_shim_is_not_touched() -> None:
    """A shim serves one job after another: what is below it belongs to the job whose leader it has not reaped."""
    with subprocess.Popen([sys.executable, "-c", TWO_JOBS], stdin=-1, stdout=-1, text=True) as shim:
        assert shim.stdin is not None
        assert shim.stdout is not None
        first = int(shim.stdout.readline())
        root = pausing.Root(shim.pid, first, start_time(first) or 0)
        assert await pausing.stop(root, lambda: True) == []
        assert not runs(first)
        print(file=shim.stdin, flush=True)
        second = int(shim.stdout.readline())
        assert (root.first(), root.members()) == ([], [])
        assert await pausing.stop(root, lambda: True) == []
        assert not pausing._tell(second, signal.SIGSTOP, root, {second})
        assert runs(second)
        os.kill(second, signal.SIGSTOP)
        eventually(lambda: not runs(second), "it stands still")
        assert await pausing.go_on(root) == []
        assert not runs(second)
        print(file=shim.stdin, flush=True)


async def test_what_is_wanted_no_more_is_not_begun() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        root = pausing.Root(process.pid, process.pid, start_time(process.pid) or 0)
        assert await pausing.stop(root, lambda: False) == [process.pid]
        assert runs(process.pid)
        process.kill()


MANY = "n=0; while [ $n -lt 300 ]; do sleep 1000 & n=$((n+1)); done"


def begin_many(wire: Wire, before: str, after: str) -> Message:
    """A job with three hundred children; each is what it is to be, and no shell any more that would take a SIGTERM."""
    job = begin(wire, f"{before}; {MANY}; echo up; {after}")
    eventually(lambda: sum(command(pid) == "sleep 1000" for pid in descendants(job["pid"])) == 300, "all sleep")
    return job


def test_many_processes_stand_still_and_nobody_else_has_to_wait(client: Wire, shared: Home) -> None:
    job = begin_many(client, ":", "wait")
    pausing_it = client.send("job/pause", id=job["id"])
    with Wire(str(shared.socket)) as other:
        assert other.call("broker/ping")["pid"]
    assert client.answer(pausing_it)["job"]["status"] == "stopped"
    assert states(job) == {"T"}
    client.call("job/resume", id=job["id"])
    assert states(job) == {"runs"}
    client.call("job/cancel", id=job["id"], graceMs=0)


def test_a_pause_does_not_hold_up_the_end_that_is_asked_for_meanwhile(client: Wire) -> None:
    """The leader takes a moment to obey. Stopped in that moment, it would be killed when the grace is over."""
    for _ in range(5):
        job = begin_many(client, "trap 'sleep 0.1; exit 7' TERM", "while :; do wait; done")
        paused = client.send("job/pause", id=job["id"])
        cancelled = client.send("job/cancel", id=job["id"], graceMs=20_000)
        answer = client.answer(cancelled)
        ended = answer["job"]
        assert (ended["status"], ended["exitCode"], ended["signal"]) == ("cancelled", 7, None)
        assert answer["killed"] == 0, "nobody stood still when the SIGTERM came"
        assert "being ended" in client.answers[paused]["error"]["message"]


ELSEWHERE = """
setsid sh -c 'trap "exit 0" TERM; echo $$; while :; do sleep 0.01; done' > {0} & wait_for=$!
trap 'kill $(cat {0}); wait $wait_for; exit 0' TERM
until [ -s {0} ]; do sleep 0.01; done
echo up
while :; do sleep 0.01; done
"""


def test_r127_what_left_the_group_goes_on_as_well_when_a_paused_job_is_ended(client: Wire, tmp_path: Path) -> None:
    """It obeys by waiting for a child in a session of its own, which hears no SIGTERM while it stands still."""
    for how in ("job/cancel", "job/signal"):
        job = begin(client, ELSEWHERE.format(tmp_path / how.replace("/", "-")))
        client.call("job/pause", id=job["id"])
        more = {"graceMs": 20_000, "confirm": False} if how == "job/cancel" else {"signal": "TERM"}
        client.call(how, id=job["id"], **more)
        ended = client.ended(job["id"])
        assert (ended["status"], ended["exitCode"]) == ("completed", 0), how


def test_a_child_that_somebody_stopped_is_resumed_with_its_job(client: Wire) -> None:
    job = begin(client, "sleep 1000 & echo up $!; wait")
    child = int(client.output(job["id"]).split()[1])
    os.kill(child, signal.SIGSTOP)
    eventually(lambda: not runs(child), "it stands still")
    assert client.call("job/resume", id=job["id"])["job"]["status"] == "running"
    assert runs(child)
    client.call("job/cancel", id=job["id"], graceMs=0)


# --- without a shim, or a record --------------------------------------------------------------------------------------


def orphaned(home: Home, wire: Wire, **params: object) -> dict[str, object]:
    job = begin(wire, "echo up; sleep 1000 & wait", **params)
    os.kill(shim_of(home, job), signal.SIGKILL)
    eventually(lambda: f"watched without it: id={job['id']}" in home.log_text(), "orphan")
    return job


def test_without_a_shim_stopped_time_does_not_count_either(home: Home) -> None:
    """A limit of a second and a half; what is paused is past it three times over."""
    wire = home.connect()
    job = orphaned(home, wire, timeoutMs=1500)
    name, pid = str(job["id"]), int(str(job["pid"]))
    assert wire.call("job/pause", id=name)["job"]["status"] == "stopped"
    wire.run("sleep", "2.5")
    assert (wire.get(name)["status"], alive(pid)) == ("stopped", True)
    home.restart()
    wire = home.connect()
    wire.run("sleep", "2")
    assert (wire.get(name)["status"], alive(pid)) == ("stopped", True)
    assert wire.call("job/resume", id=name)["job"]["status"] == "running"
    assert wire.ended(name)["reason"] == "lost"


def test_without_a_shim_a_stop_by_somebody_else_is_seen(home: Home) -> None:
    wire = home.connect()
    job = orphaned(home, wire)
    name, pid = str(job["id"]), int(str(job["pid"]))
    for number, status in ((signal.SIGSTOP, "stopped"), (signal.SIGCONT, "running")):
        os.kill(pid, number)
        eventually(partial(stands, wire, name, status), status)
    wire.call("job/cancel", id=name, graceMs=0)


def test_without_a_record_it_is_paused_and_signalled_all_the_same(home: Home) -> None:
    wire = home.connect()
    job = begin(wire, "trap 'exit 0' USR1; echo up; sleep 1000 & while :; do sleep 0.01; done")
    wire.call("broker/shutdown", mode="keepJobs")
    home.wait()
    os.kill(shim_of(home, job), signal.SIGKILL)
    shutil.rmtree(home.state / "jobs" / job["id"])
    home.start()
    wire = home.connect()
    assert status_of(wire, job) == "running"
    assert wire.call("job/pause", id=job["id"])["job"]["status"] == "stopped"
    assert states(job) == {"T"}
    assert [each["state"] for each in wire.call("job/processes", id=job["id"])["processes"]][:1] == ["stopped"]
    assert wire.call("job/resume", id=job["id"])["job"]["status"] == "running"
    wire.call("job/signal", id=job["id"], signal="USR1", target="leader")
    assert wire.ended(job["id"])["reason"] == "lost"
    assert not alive(job["pid"])
    assert wire.call("job/processes", id=job["id"]) == {"pgids": [], "processes": []}
    os.killpg(job["pid"], signal.SIGKILL)


def test_how_long_it_stood_still_by_its_record() -> None:
    def lines(*stops: tuple[bytes, int]) -> list[record.Line]:
        return record.decode_lines(b"".join(record.encode_line(letter, 0, mono) for letter, mono in stops))

    assert (record.stood_still([], 1000), record.is_stopped([])) == (0, False)
    assert not record.is_stopped(lines((b"T", 100), (b"C", 300), (b"X", 0)))
    assert record.is_stopped(lines((b"C", 100), (b"T", 300)))
    assert record.stood_still(lines((b"T", 100), (b"C", 300)), 1000) == 200
    assert record.stood_still(lines((b"T", 100), (b"T", 200), (b"C", 300), (b"C", 400)), 1000) == 200
    assert record.stood_still(lines((b"C", 50), (b"T", 100), (b"C", 300), (b"T", 900)), 1000) == 300
