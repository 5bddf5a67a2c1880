"""Ended jobs go: by age, number, size, state and name, on request or by themselves, whatever else goes on meanwhile.

R118, R119, R105, and what R033 to R037 ask for beyond the basics.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Failed, Home, Message, Wire, eventually
from jobbroker.core.job import timestamp

KIB = 1024


def many(wire: Wire, count: int, *argv: str, **params: object) -> list[str]:
    """The ids of so many jobs that have ended."""
    calls = [{"id": n, "method": "job/start", "params": {"argv": argv or ["true"], **params}} for n in range(count)]
    wire.write(calls)
    ids = [answer["result"]["job"]["id"] for answer in wire.read()]
    wire.call("job/wait", ids=ids)
    return ids


def writes(wire: Wire, size: int, **params: object) -> str:
    """A job that has written so much."""
    identity: str = wire.run("sh", "-c", f"head -c {size} /dev/zero", **params)["id"]
    return identity


def now() -> str:
    """The time as jobs have it."""
    return timestamp(time.time_ns() // 1_000_000)


def listed(wire: Wire) -> set[str]:
    return {job["id"] for job in wire.call("job/list", limit=1000)["jobs"]}


# --- which ------------------------------------------------------------------------------------------------------------


def test_r118_done_jobs_go_with_their_files_and_live_ones_stay(home: Home) -> None:
    wire = home.connect()
    done = many(wire, 3, "sh", "-c", "echo x; exit 1")
    running, stopped = wire.start("sleep", "60"), wire.start("sleep", "60")
    wire.call("job/signal", id=stopped["id"], signal="STOP")
    eventually(lambda: wire.get(stopped["id"])["status"] == "stopped", "it stops")
    assert set(wire.call("job/cleanup", maxAgeMs=0)["removed"]) == set(done)
    assert set(os.listdir(home.state / "jobs")) == {running["id"], stopped["id"]} == listed(wire)
    assert wire.refused("job/remove", id=stopped["id"]).code == -31005
    assert os.path.exists(f"/proc/{stopped['pid']}")


def test_r119_the_ones_that_ended_first_go_first_whatever_their_numbers(home: Home) -> None:
    wire = home.connect()
    os.mkfifo(home.root / "gate")
    late = wire.shell(f"read line < {home.root}/gate")["id"]
    early = [wire.run("true") for _ in range(3)]
    eventually(lambda: now() > early[-1]["completedAt"], "another millisecond: within one, numbers decide")
    (home.root / "gate").write_text("go\n")
    wire.ended(late)
    assert wire.call("job/cleanup", maxAgeMs=0, keep=1)["removed"] == [job["id"] for job in early]
    assert listed(wire) == {late}


def test_r119_pruned_at_ends_and_at_the_start_live_ones_never(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_KEEP_JOBS="10")
    home.start()
    wire = home.connect()
    live = wire.start("sleep", "60")["id"]
    jobs = many(wire, 130)
    eventually(lambda: len(listed(wire)) < 100, "some go")
    assert live in listed(wire)
    home.restart()
    wire = home.connect()
    eventually(lambda: len(listed(wire)) == 11, "all but ten go")
    assert live in listed(wire)
    assert len(listed(wire) & set(jobs)) == 10


def test_r105_a_thousand_jobs_none_lost_to_a_race(home: Home) -> None:
    """Two of twelve jobs were kept once, where every writer read, changed and wrote the whole list."""
    wires = [home.connect() for _ in range(8)]
    found: dict[int, list[str]] = {}

    def start(number: int) -> None:
        found[number] = many(wires[number], 125)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert listed(wires[0]) == {job for jobs in found.values() for job in jobs}


def test_by_size_the_oldest_go_until_the_rest_fits(home: Home) -> None:
    wire = home.connect()
    jobs = [writes(wire, 100 * KIB) for _ in range(6)]
    each = wire.call("broker/status")["totalOutput"] // 6
    assert 100 * KIB <= each <= 120 * KIB
    wanted = {"maxBytes": 3 * each + 1000}
    assert wire.call("job/cleanup", **wanted, dryRun=True)["removed"] == jobs[:3]
    assert wire.call("job/cleanup", **wanted, maxAgeMs=86_400_000)["removed"] == []
    assert wire.call("job/cleanup", **wanted, keep=5)["removed"] == jobs[:1]
    assert wire.call("job/cleanup", **wanted)["removed"] == jobs[1:3]
    assert wire.call("job/cleanup", **wanted)["removed"] == []
    assert wire.call("job/cleanup", maxBytes=0)["removed"] == jobs[3:]
    assert wire.call("broker/status")["totalOutput"] == 0


def test_by_state_name_label_and_directory(home: Home) -> None:
    wire = home.connect()
    good = wire.run("true", name="a", labels={"k": "v"})["id"]
    bad = wire.run("false", name="a")["id"]
    late = wire.run("sleep", "60", name="b", timeoutMs=50, cwd="/")["id"]
    again = wire.run("false", name="c", labels={"k": "v", "l": "w"})["id"]

    def going(**wanted: object) -> list[str]:
        removed: list[str] = wire.call("job/cleanup", maxAgeMs=0, dryRun=True, **wanted)["removed"]
        return removed

    assert going(status="failed") == [bad, again]
    assert going(status=["failed", "timed_out"]) == [bad, late, again]
    assert going(status=[]) == []
    assert going(name="a") == [good, bad]
    assert going(name="a", keep=1) == [good]
    assert going(label={"k": "v"}) == [good, again]
    assert going(label={"k": "v"}, keep=1) == [good]
    assert going(label={"k": "w"}) == []
    assert going(cwd="/") == [late]
    assert going(status="failed", keep=1) == [bad]
    assert going(name="a", status="completed", kind="command") == [good]
    assert going() == [good, bad, late, again]


@pytest.mark.parametrize("status", ["running", "queued", ["failed", "stopped"], "nonsense", 1])
def test_a_live_status_is_refused(home: Home, status: object) -> None:
    assert home.connect().refused("job/cleanup", status=status).code == -32602


# --- meanwhile --------------------------------------------------------------------------------------------------------


class Crowd:
    """Clients that do one thing over and over, each in a thread with a connection of its own, until told to stop."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.over = threading.Event()
        self.faults: list[Exception] = []
        self.threads: list[threading.Thread] = []

    def send(self, work: Callable[[Wire], None]) -> None:
        self.threads.append(threading.Thread(target=self._repeat, args=(work,)))
        self.threads[-1].start()

    def _repeat(self, work: Callable[[Wire], None]) -> None:
        with Wire(str(self.home.socket)) as wire:
            while not self.over.is_set():
                try:
                    work(wire)
                except Exception as exc:  # noqa: BLE001  # whatever it is, the test tells it
                    if not isinstance(exc, Failed) or exc.code != -31002:  # a job that has been removed meanwhile
                        self.faults.append(exc)
                        return

    def stop(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def read_all(wire: Wire) -> None:
    for job in wire.call("job/list", limit=20)["jobs"]:
        piece = wire.call("job/output", id=job["id"], waitMs=100)
        assert piece["dropped"] == 0


def test_readers_starts_ends_and_two_cleanups_at_once(home: Home) -> None:
    """Whoever reads gets the output or the word that the job is gone; never half, never a fault of ours."""
    wire = home.connect()
    removed: list[str] = []
    started: list[str] = []
    crowd = Crowd(home)
    live = wire.start("sleep", "60")["id"]
    for _ in range(2):
        crowd.send(lambda mine: started.extend(many(mine, 10, "sh", "-c", "head -c 30000 /dev/zero")))
        crowd.send(read_all)
        crowd.send(lambda mine: removed.extend(mine.call("job/cleanup", maxAgeMs=0, keep=5)["removed"]))
    eventually(lambda: crowd.faults or len(removed) > 300, "they come and go")
    crowd.stop()
    assert not crowd.faults
    assert len(removed) == len(set(removed)), "one job was removed twice"
    assert listed(wire) == set(started) - set(removed) | {live}
    assert sum(wire.call("broker/status")["counts"].values()) == len(listed(wire))
    assert set(os.listdir(home.state / "jobs")) == listed(wire)
    assert set(wire.call("job/cleanup", maxAgeMs=0)["removed"]) == set(started) - set(removed)
    assert wire.call("broker/status")["totalOutput"] == 0
    assert wire.get(live)["status"] == "running"


def test_a_key_of_a_removed_job_is_free(home: Home) -> None:
    wire = home.connect()
    first = wire.run("true", idempotencyKey="k")["id"]
    wire.call("job/cleanup", maxAgeMs=0)
    again = wire.call("job/start", argv=["true"], idempotencyKey="k")
    assert (again["created"], again["job"]["id"] != first) == (True, True)


def test_a_cleanup_whose_client_left_is_carried_out(home: Home) -> None:
    wire = home.connect()
    jobs = many(wire, 200)
    with Wire(str(home.socket)) as other:
        other.send("job/cleanup", maxAgeMs=0)
    eventually(lambda: not listed(wire) & set(jobs), "all go")


def test_killed_in_the_middle_of_a_cleanup(home: Home) -> None:
    """Each job is there whole, or without what it wrote, or gone; none comes back to life, none is lost."""
    wire = home.connect()
    jobs = many(wire, 300, "sh", "-c", "echo hello; exit 3")
    wire.send("job/cleanup", maxAgeMs=0)
    eventually(lambda: len(os.listdir(home.state / "jobs")) < 250, "some are gone")
    home.restart()
    wire = home.connect()
    left: list[Message] = wire.call("job/list", limit=1000)["jobs"]
    assert {job["id"] for job in left} <= set(jobs)
    assert {(job["status"], job["reason"], job["exitCode"]) for job in left} <= {("failed", "exit", 3)}
    wire.call("job/cleanup", maxAgeMs=0)
    assert (listed(wire), os.listdir(home.state / "jobs")) == (set(), [])


def test_r037_what_is_listed_is_what_the_daemon_knows_not_what_lies_about(home: Home) -> None:
    wire = home.connect()
    job = wire.run("true")["id"]
    place = home.state / "jobs" / job
    place.rename(Path(f"{place}-aside"))
    (home.state / "jobs" / "zzzzzz").mkdir()
    assert listed(wire) == {job}
