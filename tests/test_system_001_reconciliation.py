"""R094 to R099: no job is shown as running when it is dead, whoever asks, however he asks.

The ends nobody saw are made for real: the shim and its job are killed while the daemon is stopped, so that what it is
asked and what has happened reach it together.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import Home, Message, Wire, alive, eventually
from jobbroker.core import job as life
from jobbroker.identity import read_stat, start_time
from jobctl import Cli
from samples import snapshot

LOST = ("failed", "lost", None)


def ends(job: Message) -> tuple[object, ...]:
    return job["status"], job["reason"], job["exitCode"]


def shim_of(job: Message) -> int:
    stat = read_stat(job["pid"])
    assert stat is not None
    return int(stat[1])


@contextmanager
def stopped(home: Home) -> Generator[None]:
    """The daemon stands still."""
    assert home.process is not None
    pid = home.process.pid
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: (read_stat(pid) or [b""])[0] == b"T", "the daemon stands still")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def die_unseen(job: Message) -> None:
    """The shim and its job are killed; whoever inherits the job does not collect it, so it stays as a zombie."""
    shim = shim_of(job)
    for pid in (shim, job["pid"]):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(shim) and not alive(job["pid"]), "both are dead")


# --- R094: a pid that came back --------------------------------------------------------------------------------------


def test_r094_a_pid_that_came_back_does_not_keep_a_job_running(home: Home) -> None:
    """The record names a pid and a start time; the pid is alive, as another process."""
    wire = home.connect()
    job, other = wire.start("sleep", "60"), wire.start("sleep", "60")
    while start_time(other["pid"]) == start_time(job["pid"]):  # a clock tick is 10 ms
        other = wire.start("sleep", "60")
    wire.call("job/cleanup", dryRun=True)
    home.kill()
    die_unseen(job)
    path = home.state / "jobs" / job["id"] / "record"
    path.write_bytes(path.read_bytes().replace(f"S {job['pid']} ".encode(), f"S {other['pid']} ".encode()))
    home.start()
    wire = home.connect()
    assert ends(wire.get(job["id"])) == LOST
    assert wire.get(other["id"])["status"] == "running"
    assert alive(other["pid"])


# --- R095, R098: only what is still so --------------------------------------------------------------------------------


def test_r095_a_verdict_changes_only_a_job_that_is_live_and_only_once(home: Home) -> None:
    for status in life.STATUSES:
        made = snapshot(1, status)
        before = made.job.completed_at
        changed = life.apply(made, life.Lost("gone", 1_700_000_000_000))
        assert changed == (status in ("queued", "running", "stopped"))
        assert (made.job.status == "failed") == (changed or status == "failed")
        assert changed or made.job.completed_at == before
        assert not life.apply(made, life.Lost("gone again", 1_800_000_000_000))
        assert made.job.error != "gone again"
    wire = home.connect()
    job = wire.start("sleep", "60")
    die_unseen(job)
    told = wire.get(job["id"])
    assert ends(told) == LOST
    assert told["error"]
    assert told["completedAt"]
    assert wire.get(job["id"]) == told
    assert home.log_text().count(f"id={job['id']} event=Lost") == 1
    wire.call("job/cleanup", dryRun=True)
    home.restart()
    assert home.connect().get(job["id"]) == told


def test_r098_an_end_that_was_written_is_the_end_whoever_was_killed_after_it(home: Home) -> None:
    """The shim has written how it ended, and is killed before it could say so; the daemon hears both at once."""
    wire = home.connect()
    os.mkfifo(home.root / "gate")
    job = wire.shell(f"read line < {home.root}/gate; exit 7")
    shim = shim_of(job)
    with stopped(home):
        asked = wire.send("job/list", status=["running", "failed"])
        (home.root / "gate").write_text("go\n")
        eventually(lambda: b"\nX 1792 " in home.record(job["id"]), "its end is written")
        os.kill(shim, signal.SIGKILL)
        eventually(lambda: not alive(shim), "its shim is dead")
    assert [ends(each) for each in wire.answer(asked)["jobs"]] == [("failed", "exit", 7)]


def test_r099_who_watches_himself_knows_how_it_ended(home: Home) -> None:
    """The exit is the truth where a shim saw it; a pid is asked after only where nobody did."""
    wire = home.connect()
    own = wire.start("sleep", "60")
    os.kill(own["pid"], signal.SIGKILL)
    over = wire.ended(own["id"])
    assert (over["status"], over["reason"], over["signal"]) == ("failed", "signal", "SIGKILL")
    adopted = wire.shell("sleep 60; exit 3")
    home.restart()
    wire = home.connect()
    assert wire.get(adopted["id"])["status"] == "running"
    os.kill(adopted["pid"], signal.SIGTERM)
    over = wire.ended(adopted["id"])
    assert (over["reason"], over["signal"]) == ("signal", "SIGTERM")


# --- R096, R097: whoever asks -----------------------------------------------------------------------------------------

Look = Callable[[Wire, Message], object]


def listed(wire: Wire, job: Message) -> object:
    assert wire.call("job/list", status=["running", "queued", "stopped"])["jobs"] == []
    return ends(wire.call("job/list", status="failed")["jobs"][0])


def got(wire: Wire, job: Message) -> object:
    return ends(wire.get(job["id"]))


def by_name(wire: Wire, job: Message) -> object:
    """A name means a live job first: this one is none."""
    other = wire.start("sleep", "60", name="same")
    found = wire.get("same")
    assert found["id"] == other["id"]
    wire.call("job/cancel", id=other["id"], graceMs=0)
    return ends(wire.get(job["id"]))


def result(wire: Wire, job: Message) -> object:
    data = wire.refused("job/result", id=job["id"]).data
    return data["status"], data["reason"], data["exitCode"]


def output(wire: Wire, job: Message) -> object:
    assert wire.call("job/output", id=job["id"], waitMs=20_000, **{"from": "3"})["eof"] is True
    return ends(wire.get(job["id"]))


def waited(wire: Wire, job: Message) -> object:
    return ends(wire.call("job/wait", ids=[job["id"]], timeoutMs=0)["jobs"][0])


def waited_for_all(wire: Wire, job: Message) -> object:
    answer = wire.call("job/wait", all=True)
    assert answer["jobs"] == []
    return ends(wire.get(job["id"]))


def cancelled(wire: Wire, job: Message) -> object:
    answer = wire.call("job/cancel", id=job["id"])
    assert answer["changed"] is False
    return ends(answer["job"])


def signalled(wire: Wire, job: Message) -> object:
    assert wire.refused("job/signal", id=job["id"], signal="TERM").code == -31005
    return ends(wire.get(job["id"]))


def counted(wire: Wire, job: Message) -> object:
    counts = wire.call("broker/status")["counts"]
    assert (counts["running"], counts["stopped"]) == (0, 0)
    return ends(wire.get(job["id"]))


def subscribed(wire: Wire, job: Message) -> object:
    assert wire.call("events/subscribe")["jobs"] == []
    return ends(wire.get(job["id"]))


def cleaned(wire: Wire, job: Message) -> object:
    assert job["id"] in wire.call("job/cleanup", maxAgeMs=0)["removed"]
    return LOST


def removed(wire: Wire, job: Message) -> object:
    assert wire.call("job/remove", id=job["id"])["removed"] == [job["id"]]
    return LOST


def shut_down(wire: Wire, job: Message) -> object:
    """The gate of an exit: no live job is in its way."""
    wire.call("broker/shutdown")
    return LOST


LOOKS: list[Look] = [
    listed, got, by_name, result, output, waited, waited_for_all, cancelled, signalled, counted, subscribed, cleaned,
    removed, shut_down,
]  # fmt: skip


@pytest.mark.parametrize("adopted", [False, True], ids=["own", "adopted"])
@pytest.mark.parametrize("look", LOOKS)
def test_r096_on_every_path_that_reads(home: Home, look: Look, adopted: bool) -> None:
    """The request lies in the daemon's socket before it can know, and is the first thing it reads."""
    job = home.connect().shell("echo up; exec sleep 60", name="same")
    home.connect().until_output(job["id"], "up")
    if adopted:
        home.restart()
    wire = home.connect()
    assert wire.get(job["id"])["status"] == "running"
    asked = Ahead(wire)
    with stopped(home):
        die_unseen(job)
        asked.first = lambda: look(asked, job)
        asked.send_first()
    assert asked.finish() == LOST
    if look is shut_down:
        home.wait()


class Ahead(Wire):
    """A connection whose first request is sent while nobody answers, and only then waited for."""

    def __init__(self, wire: Wire) -> None:
        self.__dict__ = wire.__dict__
        self.first: Callable[[], object] = lambda: None

    def send_first(self) -> None:
        """Run the first look up to where it would wait for its answer."""
        self.early: int | None = None
        try:
            self.first()
        except Waiting:
            pass

    def finish(self) -> object:
        """Run it again, with the answer of what was sent."""
        return self.first()

    def call(self, method: str, /, **params: object) -> Message:
        if not hasattr(self, "early"):
            return super().call(method, **params)
        if self.early is None:
            self.early = self.send(method, **params)
            raise Waiting
        early, self.early = self.early, 0
        return self.answer(early or self.send(method, **params))


class Waiting(Exception):
    """The request is sent; the daemon stands still."""


def test_r096_a_job_that_was_stopped_last(home: Home) -> None:
    wire = home.connect()
    job = wire.start("sleep", "60")
    os.kill(job["pid"], signal.SIGSTOP)
    eventually(lambda: wire.get(job["id"])["status"] == "stopped", "it stops")
    with stopped(home):
        die_unseen(job)
        asked = wire.send("job/lastStopped")
    with pytest.raises(Exception, match="no job is stopped"):
        wire.answer(asked)
    assert ends(wire.get(job["id"])) == LOST


@pytest.mark.parametrize("adopted", [False, True], ids=["own", "adopted"])
def test_r097_reconciled_before_it_is_sorted_parted_and_cut(home: Home, tmp_path: Path, adopted: bool) -> None:
    """Nine newer jobs that have ended, an old one that runs with a dead process, one call with a limit of eight."""
    wire = home.connect()
    old = wire.start("sleep", "60", name="old")
    newer = [wire.run("true")["id"] for _ in range(9)]
    if adopted:
        home.restart()
    wire = home.connect()
    assert wire.get(old["id"])["status"] == "running"
    with stopped(home):
        die_unseen(old)
        first = wire.send("job/list", limit=8)
        live = wire.send("job/list", status="running", limit=8)
        failed = wire.send("job/list", status="failed", limit=8)
        asc = wire.send("job/list", limit=8, order="asc")
        again = wire.send("job/list", limit=8)
    page = wire.answer(first)
    assert [job["id"] for job in page["jobs"]] == newer[:0:-1]
    assert wire.answer(live)["jobs"] == []
    (found,) = wire.answer(failed)["jobs"]
    assert (found["id"], *ends(found)) == (old["id"], *LOST)
    assert [ends(job) for job in wire.answer(asc)["jobs"]][:2] == [LOST, ("completed", "exit", 0)]
    assert wire.answer(again) == page
    # As people see it, by ends: the one that was found dead ended last, and is shown first.
    shown = [Cli(home, tmp_path).json("list", "-n", "8", "--json")["jobs"] for _ in range(2)]
    assert shown[0] == shown[1]
    assert [job["id"] for job in shown[0]] == [old["id"], *newer[:1:-1]]
    assert ends(shown[0][0]) == LOST


def test_r097_a_queued_job_takes_the_slot_of_one_that_died_unseen(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_RUNNING="1")
    home.start()
    wire = home.connect()
    job = wire.start("sleep", "60")
    waits = wire.start("true")
    assert waits["status"] == "queued"
    with stopped(home):
        die_unseen(job)
        asked = wire.send("job/wait", ids=[waits["id"]])
    assert ends(wire.answer(asked)["jobs"][0]) == ("completed", "exit", 0)
