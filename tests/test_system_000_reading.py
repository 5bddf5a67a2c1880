"""The same system: looking at jobs, their results, cancelling, listing, cleaning up."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

import standins
from driver import Bell
from harness import Home, Message, Wire, alive, eventually
from jobbroker.clock import wall_ms
from jobbroker.core.job import timestamp
from jobbroker.identity import read_stat
from standins import ask, asked

HOUR_MS = 3_600_000


@pytest.fixture
def own(tmp_path: Path) -> Generator[Home]:
    """A home with a broker that a test may do harm to."""
    home = standins.home(tmp_path)
    home.start()
    yield home
    home.close()


def ids(jobs: list[Message]) -> list[str]:
    return [job["id"] for job in jobs]


def listed(wire: Wire, **params: object) -> list[str]:
    return ids(wire.call("job/list", **params)["jobs"])


def stop(home: Home) -> None:
    """End the broker; its jobs run on."""
    with Wire(str(home.socket)) as wire:
        wire.call("broker/shutdown", mode="keepJobs")
    home.wait()


def rewrite(home: Home, name: str, **members: object) -> None:
    """Change members of a job in the store of a broker that does not run."""
    with closing(sqlite3.connect(home.state / "store.db")) as db:
        for member, value in members.items():
            db.execute(
                f"UPDATE job SET snapshot = json_set(snapshot, '$.job.{member}', ?) WHERE id = ?",  # noqa: S608
                (value, name),
            )
            if member == "completedAt":
                db.execute("UPDATE job SET completed = CAST(strftime('%s', ?) AS INTEGER) * 1000 WHERE id = ?",
                           (value, name))  # fmt: skip
        db.commit()


def hours_ago(hours: float) -> str:
    return timestamp(wall_ms() - round(hours * HOUR_MS))


# --- get and result -------------------------------------------------------------------------------------------------


def test_r020_get_is_the_job_as_it_is_now(talk: Wire, gate: Bell) -> None:
    job = ask(talk, f"read line <{gate.path}")
    assert talk.get(job["id"]) == talk.get(job["id"]) == job
    gate.ring()
    ended = talk.ended(job["id"])
    assert talk.get(job["id"]) == talk.get(job["id"]) == ended
    assert (ended["status"], ended["prompt"]) == ("completed", job["prompt"])
    missing = talk.refused("job/get", id="missing")
    assert (missing.code, missing.kind) == (-31002, "job_not_found")


def test_r021_a_result_is_for_what_has_completed(talk: Wire) -> None:
    good, bad, live = asked(talk, "echo ok"), asked(talk, "exit 3"), ask(talk, "sleep 60")
    result = talk.call("job/result", id=good["id"])["result"]
    assert (result["stdout"], result["exitCode"], result["agent"]) == ("ok\n", 0, "codex")
    for job, status in ((bad, "failed"), (live, "running")):
        refused = talk.refused("job/result", id=job["id"])
        assert (refused.code, refused.kind, refused.data["status"]) == (-31003, "result_unavailable", status)
    assert talk.refused("job/result", id="missing").code == -31002
    talk.call("job/cancel", id=live["id"], graceMs=0)


def test_r022_nor_is_there_one_of_what_was_ended(talk: Wire) -> None:
    late = asked(talk, "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done", timeoutMs=1500)
    live = ask(talk, "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.01; done")
    talk.until_output(live["id"], "up")
    talk.call("job/cancel", id=live["id"])
    for job, status, code in ((late, "timed_out", 3), (live, "cancelled", 4)):
        refused = talk.refused("job/result", id=job["id"])
        assert (refused.code, refused.data["status"], refused.data["exitCode"]) == (-31003, status, code)
        assert talk.output(job["id"], stream="stdout") == "up\nbye\n"


# --- cancel ---------------------------------------------------------------------------------------------------------


def test_r023_cancel_sends_term_and_the_job_is_cancelled(talk: Wire) -> None:
    job = ask(talk, "trap 'echo term; exit 5' TERM; echo up; while :; do sleep 0.01; done")
    talk.until_output(job["id"], "up")
    answer = talk.call("job/cancel", id=job["id"])
    assert (answer["changed"], answer["job"]["status"], answer["job"]["exitCode"]) == (True, "cancelled", 5)
    assert talk.output(job["id"], stream="stdout") == "up\nterm\n"
    assert talk.refused("job/cancel", id="missing").code == -31002
    ended = asked(talk, "echo done")
    assert talk.call("job/cancel", id=ended["id"]) == {"job": ended, "changed": False, "survivors": [], "killed": 0}
    assert talk.get(ended["id"]) == ended


def test_r024_no_stranger_is_signalled_whatever_pid_is_stored(own: Home) -> None:
    job = ask(own.connect(), "sleep 60")
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        stop(own)
        rewrite(own, job["id"], pid=stranger.pid, pgid=stranger.pid)
        own.start()
        wire = own.connect()
        assert wire.get(job["id"])["pid"] == stranger.pid
        assert wire.call("job/cancel", id=job["id"], graceMs=0)["job"]["status"] == "cancelled"
        assert not alive(job["pid"])
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_r025_cancelling_what_is_already_gone_is_no_error(talk: Wire) -> None:
    for _ in range(20):
        job = ask(talk, "sleep 60")
        os.kill(job["pid"], signal.SIGKILL)
        answer = talk.call("job/cancel", id=job["id"])
        assert answer["job"]["status"] in ("failed", "cancelled")
        assert answer["job"]["signal"] == "SIGKILL"


def test_r025_nor_is_it_when_all_that_watched_it_is_gone(talk: Wire) -> None:
    job = ask(talk, "exec sleep 60")  # no child of it: nobody would be left to end that
    stat = read_stat(job["pid"])
    assert stat is not None
    for pid in (int(stat[1]), job["pid"]):
        os.kill(pid, signal.SIGKILL)
    answer = talk.call("job/cancel", id=job["id"])
    assert answer["job"]["status"] in ("failed", "cancelled")
    eventually(lambda: talk.get(job["id"])["completedAt"], "it has ended")


def test_r026_cancelled_is_said_when_it_is_so_and_kept_before(own: Home) -> None:
    """What was asked for is written at once (`cancelRequested`); that it is `cancelled` is said when nothing lives."""
    wire = own.connect()
    job = ask(wire, "trap 'echo term' TERM; echo up; while :; do sleep 0.01; done", graceMs=60_000)
    wire.until_output(job["id"], "up")
    asked_for = wire.call("job/cancel", id=job["id"], confirm=False)["job"]
    assert (asked_for["status"], asked_for["cancelRequested"]) == ("running", True)
    own.restart()
    wire = own.connect()
    again = wire.get(job["id"])
    assert (again["status"], again["cancelRequested"]) == ("running", True)
    confirmed = wire.call("job/cancel", id=job["id"], graceMs=0)["job"]
    assert (confirmed["status"], alive(job["pid"])) == ("cancelled", False)


# --- list -----------------------------------------------------------------------------------------------------------


def test_r030_list_is_newest_first_and_may_be_filtered(own: Home) -> None:
    wire = own.connect()
    assert listed(wire) == []
    done, failed, live = asked(wire, ":"), asked(wire, "exit 1"), ask(wire, "sleep 60")
    command = wire.run("true")
    assert listed(wire) == ids([command, live, failed, done])
    assert listed(wire, status="completed") == ids([command, done])
    assert listed(wire, status=["failed", "running"]) == ids([live, failed])
    assert listed(wire, kind="agent") == ids([live, failed, done])
    assert listed(wire, kind="command") == ids([command])
    assert wire.refused("job/list", status="complete").code == -32602


def test_r031_jobs_of_one_moment_have_an_order(talk: Wire) -> None:
    talk.write([{"id": n, "method": "job/start", "params": {"agent": "codex", "prompt": ":"}} for n in range(50)])
    jobs = [answer["result"]["job"] for answer in talk.read()]
    assert len({job["createdAt"] for job in jobs}) < 50, "some of them at the same millisecond"
    numbers = [job["number"] for job in jobs]
    assert numbers == sorted(set(numbers))
    assert listed(talk, limit=50) == ids(jobs)[::-1]
    talk.call("job/wait", ids=ids(jobs))


def lose_the_store(home: Home) -> None:
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (home.state / name).unlink(missing_ok=True)


def test_r032_a_record_that_cannot_be_read_is_told_of_and_kept(own: Home) -> None:
    """Records are read when there is no store. Every time there is none, what is unreadable is told, and stays."""
    wire = own.connect()
    good, bad = asked(wire, "echo good"), asked(wire, "echo bad")
    damaged = own.state / "jobs" / bad["id"] / "record"
    for times in (1, 2):
        stop(own)
        lose_the_store(own)
        damaged.write_bytes(b"no record")
        own.start()
        wire = own.connect()
        assert listed(wire) == [good["id"]]
        assert "1 of them cannot be read" in wire.call("broker/status")["degraded"][0]
        assert own.log_text().count(f"no record of a job: {bad['id']}") == times
    stop(own)
    own.start()
    assert own.connect().call("broker/status")["degraded"] == []
    assert damaged.read_bytes() == b"no record"
    assert (damaged.parent / "output").read_text() == "bad\n"


# --- cleanup --------------------------------------------------------------------------------------------------------


def test_r033_cleanup_removes_what_is_old(own: Home) -> None:
    """A day is the default. Without any jobs there is nothing to do, and nothing is made."""
    wire = own.connect()
    before = sorted(own.root.rglob("*"))
    assert wire.call("job/cleanup")["removed"] == []
    assert sorted(own.root.rglob("*")) == before
    jobs = ids([asked(wire, ":") for _ in range(4)])
    stop(own)
    for name, hours in zip(jobs, (50, 25, 23, 0), strict=True):
        rewrite(own, name, completedAt=hours_ago(hours))
    own.start()
    wire = own.connect()
    assert wire.call("job/cleanup", maxAgeMs=30 * HOUR_MS)["removed"] == jobs[:1]
    assert wire.call("job/cleanup")["removed"] == jobs[1:2]
    assert listed(wire) == jobs[:1:-1]


def test_r034_age_is_counted_from_the_end(own: Home) -> None:
    """Not from the start, nor by the times of files, which a backup or a copy changes."""
    wire = own.connect()
    young, old = asked(wire, "echo young")["id"], asked(wire, "echo old")["id"]
    stop(own)
    rewrite(own, young, createdAt=hours_ago(100), startedAt=hours_ago(100))
    for path in (own.state / "jobs" / young).iterdir():
        os.utime(path, (0, 0))
    rewrite(own, old, completedAt=hours_ago(25))
    own.start()
    wire = own.connect()
    assert wire.call("job/cleanup")["removed"] == [old]
    assert wire.call("job/result", id=young)["result"]["message"] == "young"


def test_r035_cleanup_leaves_what_lives(own: Home) -> None:
    wire = own.connect()
    live = ask(wire, "sleep 60")["id"]
    stop(own)
    rewrite(own, live, createdAt=hours_ago(100), startedAt=hours_ago(100))
    own.start()
    wire = own.connect()
    ended = asked(wire, ":")["id"]
    assert wire.call("job/cleanup", maxAgeMs=0)["removed"] == [ended]
    assert wire.get(live)["status"] == "running"
    assert wire.refused("job/remove", id=live).code == -31005


def test_r036_cleanup_removes_all_of_a_job_and_nothing_else(own: Home) -> None:
    wire = own.connect()
    job, linked = asked(wire, "echo out; echo err >&2")["id"], asked(wire, "echo out")["id"]
    directory = own.state / "jobs" / job
    assert {path.name for path in directory.iterdir()} == {"record", "output", "index"}
    outside = own.root / "outside"
    (own.state / "jobs" / linked).rename(outside)
    (own.state / "jobs" / linked).symlink_to(outside)
    for name in ("..", "../jobs", f"../jobs/{job}", f"{job}/output", "/etc"):
        assert wire.refused("job/remove", id=name).code == -31002
    wire.call("job/cleanup", maxAgeMs=0)
    assert not directory.exists()
    assert {path.name for path in outside.iterdir()} == {"record", "output", "index"}
    with closing(sqlite3.connect(own.state / "store.db")) as db:
        assert db.execute("SELECT count(*) FROM job WHERE id = ?", (job,)).fetchone() == (0,)


def test_r037_the_broker_answers_from_its_table(own: Home) -> None:
    wire = own.connect()
    first, second = asked(wire, "echo one"), asked(wire, "echo two")
    directory = own.state / "jobs"
    for path in (directory / first["id"]).iterdir():
        path.unlink()
    (directory / first["id"]).rmdir()
    (directory / "stranger").mkdir()
    (directory / "stranger" / "record").write_text(json.dumps(second))
    assert listed(wire) == ids([second, first])
    assert wire.get(first["id"]) == first
    own.restart()
    wire = own.connect()
    assert listed(wire) == ids([second, first])
    assert wire.refused("job/output", id=first["id"]).code == -31002, "what it wrote is gone, and that is said"
