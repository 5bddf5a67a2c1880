"""Pause, resume, stops by others: what the kernel says of a job, whoever caused it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pytest

from harness import Home, Message, Wire, eventually
from jobbroker.identity import read_stat
from jobbroker.tree import descendants

FAMILY = "sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & (sleep 1000 & sleep 1000) & echo up; wait"
"""Seven processes and more, two of them in a session of their own."""


def states(job: Message) -> set[str]:
    """In which states the processes of a job are."""
    found: set[str] = set()
    for pid in [job["pid"], *descendants(job["pid"])]:
        stat = read_stat(pid)
        if stat is not None and stat[0] != b"Z":
            found.add("T" if stat[0] == b"T" else "runs")
    return found


def begin(wire: Wire, script: str, **params: object) -> Message:
    job = wire.shell(script, **params)
    wire.until_output(job["id"], "up")
    return wire.get(job["id"])


def status_of(wire: Wire, job: Message) -> str:
    found: str = wire.get(job["id"])["status"]
    return found


def test_all_of_a_tree_stands_still_and_goes_on(client: Wire) -> None:
    job = begin(client, FAMILY)
    assert states(job) == {"runs"}
    paused = client.call("job/pause", id=job["id"])["job"]
    assert paused["status"] == "stopped"
    assert paused["stoppedAt"] is not None
    assert states(job) == {"T"}
    resumed = client.call("job/resume", id=job["id"])["job"]
    assert (resumed["status"], resumed["stoppedAt"]) == ("running", None)
    assert states(job) == {"runs"}
    assert client.call("job/cancel", id=job["id"], graceMs=0)["survivors"] == []


def test_what_is_done_twice_changes_nothing(client: Wire) -> None:
    job = begin(client, "echo up; sleep 1000")
    assert client.call("job/resume", id=job["id"])["job"]["status"] == "running"
    first = client.call("job/pause", id=job["id"])["job"]
    assert client.call("job/pause", id=job["id"])["job"] == first
    client.call("job/cancel", id=job["id"])


RESTLESS = """
import os, sys, time
os.write(1, b"up\\n")
while True:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("attempt", range(5))
def test_a_tree_that_never_rests_is_stopped_all_the_same(client: Wire, attempt: int) -> None:
    """It is nearly always within a vfork, where to stop the child alone would leave the parent waiting for it."""
    job = client.start(sys.executable, "-S", "-c", RESTLESS)
    client.until_output(job["id"], "up")
    job = client.get(job["id"])
    assert client.call("job/pause", id=job["id"])["job"]["status"] == "stopped"
    assert states(job) == {"T"}
    client.call("job/cancel", id=job["id"], graceMs=0)


def test_only_what_runs_can_be_paused(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_RUNNING="1")
    home.start()
    wire = home.connect()
    first, second = begin(wire, "echo up; sleep 1000"), wire.start("true")
    for method in ("job/pause", "job/resume"):
        refused = wire.refused(method, id=second["id"])
        assert (refused.kind, refused.data["status"]) == ("invalid_state", "queued")
    wire.call("job/cancel", id=first["id"])
    wire.ended(second["id"])
    for method in ("job/pause", "job/resume"):
        refused = wire.refused(method, id=second["id"])
        assert (refused.kind, refused.data["status"]) == ("invalid_state", "completed")


def test_a_job_that_is_being_ended_is_not_held_up(client: Wire) -> None:
    job = begin(client, "trap '' TERM; echo up; while :; do sleep 0.01; done")
    client.call("job/cancel", id=job["id"], graceMs=300_000, confirm=False)
    assert client.refused("job/pause", id=job["id"]).kind == "invalid_state"
    assert client.call("job/cancel", id=job["id"], graceMs=0)["job"]["status"] == "cancelled"


def test_a_paused_job_is_cancelled_as_fast_as_any(client: Wire) -> None:
    job = begin(client, "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done")
    client.call("job/pause", id=job["id"])
    ended = client.call("job/cancel", id=job["id"])["job"]
    assert (ended["status"], ended["exitCode"]) == ("completed", 0)
    assert client.output(job["id"]).endswith("bye\n")


def test_stopped_time_does_not_count_against_limits(client: Wire) -> None:
    """The pause, as long as another job takes, is longer than both limits."""
    job = begin(client, "echo up; kill -STOP $$; echo done", timeoutMs=900, idleTimeoutMs=800)
    eventually(lambda: status_of(client, job) == "stopped", "stopped")
    client.run("sleep", "1")
    assert client.call("job/resume", id=job["id"])["job"]["status"] in ("running", "completed")
    assert client.ended(job["id"])["status"] == "completed"


# --- whoever stops it -------------------------------------------------------------------------------------------------


def test_a_stop_by_somebody_else_is_seen(client: Wire) -> None:
    job = begin(client, "echo up; sleep 1000")
    os.kill(job["pid"], signal.SIGSTOP)
    eventually(lambda: status_of(client, job) == "stopped", "stopped")
    os.kill(job["pid"], signal.SIGCONT)
    eventually(lambda: status_of(client, job) == "running", "running")
    client.call("job/signal", id=job["id"], signal="STOP")
    eventually(lambda: status_of(client, job) == "stopped", "stopped")
    client.call("job/cancel", id=job["id"])


def test_adopted_jobs_are_paused_and_resumed_as_well(home: Home) -> None:
    wire = home.connect()
    first, second = begin(wire, FAMILY), begin(wire, "echo up; sleep 1000")
    wire.call("job/pause", id=second["id"])
    home.restart()
    wire = home.connect()
    assert status_of(wire, second) == "stopped"
    assert wire.call("job/resume", id=second["id"])["job"]["status"] == "running"
    assert wire.call("job/pause", id=first["id"])["job"]["status"] == "stopped"
    assert states(first) == {"T"}
    os.kill(second["pid"], signal.SIGSTOP)
    eventually(lambda: status_of(wire, second) == "stopped", "stopped")


def test_a_stop_in_a_gap_is_known_afterwards(home: Home) -> None:
    wire = home.connect()
    job = begin(wire, "echo up; sleep 1000")
    home.kill()
    os.kill(job["pid"], signal.SIGSTOP)
    eventually(lambda: b"\nT " in home.record(job["id"]), "T")
    home.start()
    assert status_of(home.connect(), job) == "stopped"


def test_without_a_shim(home: Home) -> None:
    """Its shim was killed: nobody is told of its stops, but we can see for ourselves."""
    wire = home.connect()
    job = begin(wire, "echo up; sleep 1000 & wait")
    os.kill(shim_of(home, job), signal.SIGKILL)
    eventually(lambda: "watched without" in home.log_text(), "orphan")
    assert wire.call("job/pause", id=job["id"])["job"]["status"] == "stopped"
    assert states(job) == {"T"}
    assert wire.call("job/resume", id=job["id"])["job"]["status"] == "running"
    assert states(job) == {"runs"}
    wire.call("job/cancel", id=job["id"], graceMs=0)


def shim_of(home: Home, job: Message) -> int:
    """The pid in the A of a record, its first line."""
    return int(home.record(job["id"]).rpartition(b"\0")[2].split()[1])


def test_more_stops_than_the_record_has_room_for(home: Home) -> None:
    """The end of a job must fit into its record, so stops are written only so often; they are true for ever."""
    wire = home.connect()
    job = begin(wire, "echo up; sleep 1000")
    for _ in range(70):
        assert wire.call("job/pause", id=job["id"])["job"]["status"] == "stopped"
        assert wire.call("job/resume", id=job["id"])["job"]["status"] == "running"
    assert len(home.record(job["id"]).rpartition(b"\0")[2]) < 3300
    home.restart()  # from now on it is not our shim
    wire = home.connect()
    assert wire.call("job/pause", id=job["id"])["job"]["status"] == "stopped"
    home.restart()
    wire = home.connect()
    assert status_of(wire, job) == "stopped"
    assert wire.call("job/resume", id=job["id"])["job"]["status"] == "running"
    assert wire.call("job/cancel", id=job["id"])["job"]["status"] == "cancelled"
