"""The limit on the output of all jobs together: who loses it, what is said of it then, and what never happens."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from harness import Home, Message, Wire, eventually

KIB = 1024


def writes(wire: Wire, size: int, **params: object) -> str:
    identity: str = wire.run("sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x", **params)["id"]
    return identity


def kept(home: Home, jobs: list[str]) -> list[str]:
    """Those that still have their output."""
    return [job for job in jobs if (home.state / "jobs" / job / "output").exists()]


@pytest.fixture
def small(new_home: Callable[..., Home]) -> Home:
    """Room for the output of three jobs of 100 KiB, not for four."""
    home = new_home(JOBBROKER_MAX_TOTAL_OUTPUT="400K")
    home.start()
    return home


def test_the_oldest_give_up_what_they_wrote_and_say_so(small: Home) -> None:
    wire = small.connect()
    watcher = small.connect()
    jobs = [writes(wire, 100 * KIB, name=f"job{n}") for n in range(3)]
    assert kept(small, jobs) == jobs
    watcher.call("events/subscribe")
    jobs += [writes(wire, 100 * KIB) for _ in range(3)]
    eventually(lambda: kept(small, jobs) == jobs[3:], "the oldest give up theirs")
    assert os.listdir(small.state / "jobs" / jobs[0]) == ["record"]
    size = 100 * KIB
    told = watcher.note("notifications/job/updated")["job"]
    while told["id"] != jobs[2] or not told["stdout"]["dropped"]:
        told = watcher.note("notifications/job/updated")["job"]
    assert wire.get(jobs[2]) == told
    for job in jobs[:3]:
        found = wire.get(job)
        assert (found["status"], found["stdout"]) == ("completed", {"size": size, "dropped": size, "closed": True})
        assert wire.call("job/output", id=job) == {
            "data": "", "encoding": "utf-8", "start": str(size), "next": str(size), "dropped": size, "eof": True,
        }  # fmt: skip
        assert wire.call("job/output", id=job, **{"from": "1000"})["dropped"] == size - 1000
        assert wire.call("job/output", id=job, stream="stderr")["dropped"] == 0
        assert wire.call("job/output", id=job, tail=3)["dropped"] == size
        assert wire.refused("job/output", id=job, **{"from": str(size + 1)}).code == -32602
        result = wire.call("job/result", id=job)["result"]
        assert (result["stdout"], result["truncated"], result["exitCode"]) == ("", True, 0)
    assert len(wire.output(jobs[3], limit=1 << 20)) == size
    status = wire.call("broker/status")
    assert status["limits"]["maxTotalOutput"] == 400 * KIB
    assert 300 * KIB <= status["totalOutput"] <= 400 * KIB


def test_it_is_known_after_a_restart_and_counted_anew(small: Home) -> None:
    wire = small.connect()
    jobs = [writes(wire, 100 * KIB) for _ in range(5)]
    eventually(lambda: kept(small, jobs) == jobs[2:], "two give up theirs")
    before = wire.call("broker/status")["totalOutput"]
    small.restart()
    wire = small.connect()
    eventually(lambda: wire.call("broker/status")["totalOutput"] == before, "it has counted")
    assert wire.get(jobs[0])["stdout"]["dropped"] == 100 * KIB
    jobs.append(writes(wire, 100 * KIB))
    eventually(lambda: kept(small, jobs) == jobs[3:], "the next gives up its own")


def test_a_smaller_limit_holds_from_the_next_start(small: Home) -> None:
    wire = small.connect()
    jobs = [writes(wire, 100 * KIB) for _ in range(3)]
    small.environ["JOBBROKER_MAX_TOTAL_OUTPUT"] = "150K"
    small.restart()
    eventually(lambda: kept(small, jobs) == jobs[2:], "all but the newest")


def test_no_limit(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_TOTAL_OUTPUT="0")
    home.start()
    wire = home.connect()
    jobs = [writes(wire, 100 * KIB) for _ in range(4)]
    home.restart()
    wire = home.connect()
    writes(wire, 10)
    assert kept(home, jobs) == jobs


def test_live_jobs_count_and_keep_what_they_have(small: Home) -> None:
    wire = small.connect()
    old = writes(wire, 100 * KIB)
    live = wire.shell("head -c 500000 /dev/zero | tr '\\0' x; echo done; sleep 60")["id"]
    eventually(lambda: wire.get(live)["stdout"]["size"] == 500_005, "it has written")
    eventually(lambda: wire.call("broker/status")["totalOutput"] > 500_000, "it counts")
    eventually(lambda: wire.run("true") and not kept(small, [old]), "an end leads to a look at all")
    assert kept(small, [live]) == [live]
    assert wire.output(live, limit=1 << 20) == "x" * 500_000 + "done\n"
    wire.call("job/cancel", id=live, graceMs=0)
    eventually(lambda: not kept(small, [live]), "over the limit alone, it goes when it has ended")
    assert wire.get(live)["stdout"] == {"size": 500_005, "dropped": 500_005, "closed": True}


def test_whoever_reads_is_told_where_it_ends(small: Home) -> None:
    wire = small.connect()
    job = wire.run("sh", "-c", "head -c 102400 /dev/zero | tr '\\0' x; head -c 1000 /dev/zero | tr '\\0' y >&2")["id"]
    piece = wire.call("job/output", id=job, limit=1000)
    for _ in range(4):
        writes(wire, 100 * KIB)
    eventually(lambda: not kept(small, [job]), "it is gone")
    rest = wire.call("job/output", id=job, **{"from": piece["next"]})
    assert (rest["dropped"], rest["next"], rest["eof"]) == (102_400, "103400", True)
    assert wire.call("job/output", id=job, stream="stderr")["dropped"] == 1000
    assert wire.call("job/output", id=job, **{"from": rest["next"]})["dropped"] == 0


def test_files_that_are_missing_are_said_to_be(small: Home) -> None:
    """Whoever removed them: nobody is told that a job wrote nothing."""
    wire = small.connect()
    job = writes(wire, 100)
    (small.state / "jobs" / job / "output").unlink()
    piece = wire.call("job/output", id=job)
    assert (piece["data"], piece["dropped"], piece["eof"]) == ("", 100, True)


def test_nothing_is_given_up_after_a_loss(small: Home) -> None:
    wire = small.connect()
    jobs = [writes(wire, 100 * KIB) for _ in range(3)]
    small.environ["JOBBROKER_MAX_TOTAL_OUTPUT"] = "1K"
    small.kill()
    for path in small.state.glob("store.db*"):
        path.unlink()
    small.start()
    wire = small.connect()
    assert "rebuilt" in wire.call("broker/status")["degraded"][0]
    jobs.append(writes(wire, 100 * KIB))
    eventually(lambda: wire.call("broker/status")["totalOutput"] >= 400 * KIB, "it has counted")
    assert kept(small, jobs) == jobs


def test_removed_jobs_are_counted_no_more(small: Home) -> None:
    wire = small.connect()
    jobs = [writes(wire, 100 * KIB) for _ in range(3)]
    wire.call("job/remove", id=jobs[0])
    wire.call("job/cleanup", maxAgeMs=0, keep=1)
    jobs = [jobs[2], *(writes(wire, 100 * KIB) for _ in range(2))]
    found: list[Message] = wire.call("job/list")["jobs"]
    assert [job["stdout"]["dropped"] for job in found] == [0, 0, 0]
    assert kept(small, jobs) == jobs
