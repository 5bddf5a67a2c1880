"""A record is proof: a job whose row is gone is a job all the same, and one that was removed never comes back."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import weather
from harness import Home, Message, Wire, alive, eventually
from jobbroker.core.record import encode_line
from jobbroker.recovery import tell_apart
from samples import snapshot


def copy(home: Home, to: str) -> Path:
    """A copy of the store as it is now, made while no broker runs."""
    place = home.root / to
    place.mkdir()
    for path in home.state.glob("store.db*"):
        shutil.copy(path, place)
    return place


def restore(home: Home, place: Path) -> None:
    for path in home.state.glob("store.db*"):
        path.unlink()
    for path in place.iterdir():
        shutil.copy(path, home.state)


def stop(home: Home, wire: Wire) -> None:
    wire.call("broker/shutdown", mode="keepJobs")
    home.wait()


def listed(wire: Wire) -> dict[str, Message]:
    return {job["id"]: job for job in wire.call("job/list", limit=1000)["jobs"]}


def ends(job: Message) -> tuple[object, ...]:
    return job["status"], job["reason"], job["exitCode"]


# --- a store restored from a copy -------------------------------------------------------------------------------------


@pytest.fixture
def older(home: Home) -> tuple[list[Message], Path]:
    """Jobs of all kinds, and a copy of the store from before all but the first of them."""
    wire = home.connect()
    os.mkfifo(home.root / "gate")
    jobs = [wire.run("true")]
    stop(home, wire)
    place = copy(home, "copy")
    home.start()
    wire = home.connect()
    jobs.append(wire.run("sh", "-c", "echo hello; exit 3", name="tests", idempotencyKey="key"))
    jobs.append(wire.start("sh", "-c", f"read line < {home.root}/gate; exit 4", name="waits"))
    jobs.append(wire.start("sleep", "60", graceMs=100))
    jobs.append(wire.run("sleep", "60", timeoutMs=50))
    jobs.append(wire.start("sleep", "60"))
    os.kill(jobs[5]["pid"], signal.SIGSTOP)
    eventually(lambda: wire.get(jobs[5]["id"])["status"] == "stopped", "it stops")
    stop(home, wire)
    restore(home, place)
    return jobs, place


def test_what_has_begun_is_taken_back_as_it_is(home: Home, older: tuple[list[Message], Path]) -> None:
    jobs = older[0]
    home.start()
    wire = home.connect()
    eventually(lambda: len(listed(wire)) == 6, "all are taken back")
    found = listed(wire)
    assert [found[job["id"]]["status"] for job in jobs] == [
        "completed", "failed", "running", "running", "timed_out", "stopped",
    ]  # fmt: skip
    assert [found[job["id"]]["number"] for job in jobs] == [1, 2, 3, 4, 5, 6]
    assert ends(found[jobs[1]["id"]]) == ("failed", "exit", 3)
    assert wire.output("tests") == "hello\n"
    assert wire.call("job/start", argv=["sh", "-c", "echo hello; exit 3"], name="tests", idempotencyKey="key") == {
        "job": found[jobs[1]["id"]], "created": False,
    }  # fmt: skip
    assert wire.start("true")["number"] == 7
    (home.root / "gate").write_text("go\n")
    assert ends(wire.ended("waits")) == ("failed", "exit", 4)
    assert ends(wire.call("job/cancel", id=jobs[3]["id"])["job"])[:2] == ("cancelled", "user")
    os.kill(jobs[5]["pid"], signal.SIGCONT)
    wire.call("job/cancel", id=jobs[5]["id"], graceMs=0)
    home.restart()
    wire = home.connect()
    assert {job["id"] for job in jobs} < set(listed(wire))
    assert {job["status"] for job in listed(wire).values()} <= {"completed", "failed", "timed_out", "cancelled"}


def test_numbers_and_keys_of_jobs_that_came_first_are_theirs(home: Home, older: tuple[list[Message], Path]) -> None:
    """The store gave them again before the jobs that had them were found; and it is rebuilt with both."""
    jobs = older[0]
    hidden = home.root / "hidden"
    hidden.mkdir()
    for job in jobs[1:3]:
        (home.state / "jobs" / job["id"]).rename(hidden / job["id"])
    wire = started(home, 4)
    wire.run("true")
    later = wire.run("echo", "later", idempotencyKey="key")
    taken = {job["number"] for job in listed(wire).values()}
    stop(home, wire)
    for job in jobs[1:3]:
        (hidden / job["id"]).rename(home.state / "jobs" / job["id"])
    wire = started(home, 8)
    found = listed(wire)
    numbers = {job["number"] for job in found.values()}
    assert (len(numbers), taken < numbers) == (8, True)
    assert wire.call("job/start", argv=["echo", "later"], idempotencyKey="key")["job"]["id"] == later["id"]
    assert ends(found[jobs[1]["id"]]) == ("failed", "exit", 3)
    stop(home, wire)
    for path in home.state.glob("store.db*"):
        path.unlink()
    wire = started(home, 8)
    assert len({job["number"] for job in listed(wire).values()}) == 8


def started(home: Home, count: int) -> Wire:
    """A connection to a new broker, once it knows so many jobs."""
    home.start()
    wire = home.connect()
    eventually(lambda: len(listed(wire)) == count, f"{count} jobs are known")
    return wire


def test_two_jobs_with_one_number_are_told_apart() -> None:
    found = [snapshot(1), snapshot(2, key="a"), snapshot(2, named="bbbbbb", key="a"), snapshot(3, key="b")]
    tell_apart(found)
    assert [each.job.number for each in found] == [1, 2, 4, 3]
    assert [each.key for each in found] == [None, "a", None, "b"]
    tell_apart([])


def test_one_that_was_decided_never_to_run_is_taken_back_as_that(home: Home) -> None:
    wire = home.connect()
    kept = wire.run("true")["id"]
    stop(home, wire)
    place = copy(home, "copy")
    home.start()
    wire = home.connect()
    other = wire.run("true")["id"]
    stop(home, wire)
    restore(home, place)
    record = home.state / "jobs" / other / "record"
    data = record.read_bytes()
    record.write_bytes(data[: data.rfind(b"\0") + 1] + encode_line(b"N", b"user", 1_700_000_000_000))
    home.start()
    wire = home.connect()
    eventually(lambda: len(listed(wire)) == 2, "it is taken back")
    assert listed(wire)[other]["status"] == "cancelled"
    assert kept in listed(wire)


def test_r106_a_damaged_store_is_kept_aside_and_nothing_of_it_is_removed(home: Home) -> None:
    wire = home.connect()
    jobs = [wire.run("echo", "x")["id"] for _ in range(5)]
    stop(home, wire)
    for path in home.state.glob("store.db-*"):
        path.unlink()
    (home.state / "store.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    home.start()
    wire = home.connect()
    (said,) = wire.call("broker/status")["degraded"]
    (aside,) = home.state.glob("store.db.damaged-*")
    assert str(aside) in said
    assert "rebuilt from their records" in said
    assert aside.read_bytes().endswith(b"\xff" * 5000)
    assert set(listed(wire)) == set(jobs)
    assert [wire.output(job) for job in jobs] == ["x\n"] * 5


# --- without a record -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shim", ["lives", "killed"])
def test_a_job_without_a_record_runs_as_long_as_it_runs(home: Home, shim: str) -> None:
    wire = home.connect()
    os.mkfifo(home.root / "gate")
    job = wire.shell(f"echo up; read line < {home.root}/gate")
    limited = wire.start("sleep", "60", timeoutMs=2000)
    wire.call("job/cleanup", dryRun=True)  # writes everything
    home.kill()
    for each in (job, limited):
        (home.state / "jobs" / each["id"] / "record").unlink()
        if shim == "killed":
            stat = Path(f"/proc/{each['pid']}/stat").read_text()
            os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    home.start()
    wire = home.connect()
    assert wire.get(job["id"])["status"] == "running"
    assert wire.call("job/list", status="running")["jobs"][-1]["id"] == job["id"]
    over = wire.ended(limited["id"])
    assert ends(over) == ("failed", "lost", None)
    assert not alive(limited["pid"])
    (home.root / "gate").write_text("go\n")
    over = wire.ended(job["id"])
    assert ends(over) == ("failed", "lost", None)
    assert over["error"] == "its record is gone: No such file or directory; how it ended was not seen"


def test_a_pid_that_came_back_is_not_taken_for_the_job(home: Home) -> None:
    """Its record is gone, and what has its pid now is somebody else."""
    wire = home.connect()
    job = wire.start("sleep", "60")
    other = wire.start("sleep", "60")
    wire.call("job/cleanup", dryRun=True)
    home.kill()
    os.kill(job["pid"], signal.SIGKILL)
    eventually(lambda: not alive(job["pid"]), "it is gone")
    path = home.state / "jobs" / job["id"] / "record"
    path.unlink()
    swap_pid(home, job, other["pid"])
    home.start()
    wire = home.connect()
    assert ends(wire.get(job["id"])) == ("failed", "lost", None)
    assert alive(other["pid"])


def swap_pid(home: Home, job: Message, pid: int) -> None:
    """Make the row say that the job has another pid."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(home.state / "store.db")) as db:
        db.execute(
            "UPDATE job SET snapshot = replace(snapshot, ?, ?) WHERE id = ?",
            (f'"pid":{job["pid"]}', f'"pid":{pid}', job["id"]),
        )
        db.commit()


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(new_home: Callable[..., Home]) -> Home:
    home = new_home()
    (home.root / "state").mkdir(mode=0o700)
    return home


with_a_disk = pytest.mark.skipif(not weather.MAY_MOUNT, reason="a disk of its own takes root")


@with_a_disk
@pytest.mark.parametrize("how", ["remove", "clean"])
def test_on_a_full_disk_jobs_can_be_removed_which_makes_room(full: Home, how: str) -> None:
    with weather.mounted(full.root / "state", "3m"):
        os.chmod(full.root / "state", 0o700)
        full.start()
        wire = full.connect()
        small = wire.run("true")["id"]
        large = wire.run("sh", "-c", "head -c 1000000 /dev/zero")["id"]
        hog = wire.shell("cat /dev/zero")
        eventually(lambda: wire.get(hog["id"])["stdout"]["dropped"] > 0, "the disk is full")
        with weather.full(full.root / "state"):
            wire.call("job/cancel", id=hog["id"], graceMs=0)
            eventually(lambda: wire.call("broker/status")["degraded"], "it says so")
            assert wire.refused("job/start", argv=["true"]).code == -31014
            if how == "remove":
                assert wire.call("job/remove", id=hog["id"]) == {"removed": [hog["id"]]}
            else:
                removed = wire.call("job/cleanup", maxAgeMs=0)["removed"]
                assert {small, large} <= set(removed) <= {small, large, hog["id"]}
            eventually(lambda: not wire.call("broker/status")["degraded"], "there is room")
            assert wire.run("true")["status"] == "completed"
            full.restart()
            wire = full.connect()
            found = listed(wire)
            assert (hog["id"] if how == "remove" else large) not in found
            assert "lost" not in {job["reason"] for job in found.values()}
            assert "running" not in {job["status"] for job in found.values()}
        full.close()
        full.process = None


@with_a_disk
def test_where_removal_makes_no_room_nothing_is_lost(full: Home) -> None:
    """What was not told as removed is there after a kill, as it ended."""
    with weather.mounted(full.root / "state", "3m"):
        os.chmod(full.root / "state", 0o700)
        full.start()
        wire = full.connect()
        os.mkfifo(full.root / "gate")
        job = wire.shell(f"read line < {full.root}/gate; exit 4")["id"]
        with weather.full(full.root / "state"):
            (full.root / "gate").write_text("go\n")
            assert ends(wire.ended(job)) == ("failed", "exit", 4)
            eventually(lambda: wire.call("broker/status")["degraded"], "it says so")
            assert wire.refused("job/remove", id=job).code == -31014
            assert ends(wire.get(job)) == ("failed", "exit", 4)
            full.kill()
        full.start()
        wire = full.connect()
        assert ends(wire.get(job)) == ("failed", "exit", 4)
        assert wire.call("job/remove", id=job) == {"removed": [job]}
        full.close()
        full.process = None


@with_a_disk
def test_the_first_call_after_a_kill_on_a_full_disk_is_answered(full: Home) -> None:
    with weather.mounted(full.root / "state", "3m"):
        os.chmod(full.root / "state", 0o700)
        full.start()
        wire = full.connect()
        done = wire.run("sh", "-c", "echo hello; exit 3")["id"]
        job = wire.start("sleep", "60")
        wire.call("job/cleanup", dryRun=True)
        with weather.full(full.root / "state"):
            full.restart()
            wire = full.connect()
            assert ends(wire.get(done)) == ("failed", "exit", 3)
            assert wire.output(done) == "hello\n"
            assert wire.get(job["id"])["status"] == "running"
            assert wire.refused("job/start", argv=["true"]).code == -31014
            assert ends(wire.call("job/cancel", id=job["id"])["job"])[:2] == ("cancelled", "user")
        full.close()
        full.process = None
