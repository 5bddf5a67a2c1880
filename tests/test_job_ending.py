"""`job/cancel`, `signal`, `remove`, `cleanup`, and the queue: how jobs end, and how they go."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Failed, Home, Message, Wire, alive, eventually


@pytest.fixture
def narrow(new_home: Callable[..., Home]) -> Home:
    """A broker that runs one job at a time."""
    home = new_home(JOBBROKER_MAX_RUNNING="1")
    home.start()
    return home


def ends(job: Message) -> tuple[object, ...]:
    return job["status"], job["reason"], job["exitCode"], job["signal"]


# --- cancel ---------------------------------------------------------------------------------------------------------


def test_r104_cancel_means_gone(client: Wire, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        f"setsid sleep 60 & echo $! >> {pids}; (sleep 60 & echo $! >> {pids}); echo up; trap '' TERM; wait; sleep 60"
    )
    job = client.shell(script)["id"]
    client.until_output(job, "up")
    answer = client.call("job/cancel", id=job, graceMs=50)
    assert (answer["changed"], answer["survivors"]) == (True, [])
    assert ends(answer["job"]) == ("cancelled", "user", None, "SIGKILL")
    assert answer["job"]["cancelRequested"] is True
    assert not [pid for pid in map(int, pids.read_text().split()) if alive(pid)]


def test_a_job_may_end_well_though_cancelled(client: Wire) -> None:
    job = client.shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done")["id"]
    client.until_output(job, "up")
    answer = client.call("job/cancel", id=job)
    assert ends(answer["job"]) == ("completed", "exit", 0, None)
    assert answer["job"]["cancelRequested"] is True
    assert client.output(job).endswith("bye\n")


def test_cancel_of_an_ended_job_changes_nothing(client: Wire) -> None:
    job = client.run("sh", "-c", "exit 3")
    assert client.call("job/cancel", id=job["id"]) == {
        "job": job,
        "changed": False,
        "survivors": [],
        "killed": 0,
    }


def test_cancel_without_confirmation_and_a_second_one_that_shortens_the_grace(client: Wire) -> None:
    job = client.shell("trap '' TERM; echo up; while :; do sleep 0.01; done")["id"]
    client.until_output(job, "up")
    first = client.call("job/cancel", id=job, graceMs=60_000, confirm=False)
    assert (first["changed"], first["job"]["status"], first["job"]["cancelRequested"]) == (True, "running", True)
    waiting = client.send("job/cancel", id=job)
    second = client.call("job/cancel", id=job, graceMs=0)
    assert ends(second["job"])[:2] == ("cancelled", "user")
    assert client.answer(waiting)["job"]["status"] == "cancelled"


def test_cancel_of_a_stopped_job(client: Wire) -> None:
    job = client.start("sleep", "60")
    client.call("job/signal", id=job["id"], signal="STOP")
    eventually(lambda: client.get(job["id"])["status"] == "stopped", "it stops")
    assert ends(client.call("job/cancel", id=job["id"])["job"]) == ("cancelled", "user", None, "SIGTERM")


def test_a_cancelled_queued_job_never_runs(narrow: Home, tmp_path: Path) -> None:
    wire = narrow.connect()
    first = wire.start("sleep", "60")
    second = wire.start("touch", str(tmp_path / "ran"))
    assert second["status"] == "queued"
    answer = wire.call("job/cancel", id=second["id"])
    assert ends(answer["job"]) == ("cancelled", "user", None, None)
    assert (answer["changed"], answer["job"]["cancelRequested"], answer["job"]["startedAt"]) == (True, True, None)
    wire.call("job/cancel", id=first["id"], graceMs=0)
    wire.run("true")
    assert not (tmp_path / "ran").exists()


def cancelled(wire: Wire, name: str) -> Message:
    """A job that is cancelled as soon as it is known."""
    while True:
        try:
            job: Message = wire.call("job/cancel", id=name, graceMs=0)["job"]
        except Failed as exc:
            if exc.code != -31002:
                raise
        else:
            return job


def test_r104_cancel_in_the_moment_of_the_start(client: Wire, tmp_path: Path) -> None:
    """Handed over, claimed, about to spawn, running: wherever the cancellation falls, it is one of two truths."""
    for n in range(60):
        proof = tmp_path / f"ran-{n}"
        argv = ["sh", "-c", f"touch {proof}; sleep 60"]
        client.send("job/start", argv=argv, name=f"moment-{n}")
        job = cancelled(client, f"moment-{n}")
        assert job["status"] == "cancelled"
        assert proof.exists() <= (job["startedAt"] is not None)
    assert client.call("job/list", status=["queued", "running"])["jobs"] == []


# --- signal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["USR1", "sigusr1", "SigUsr1", 10, "10"])
def test_signals_by_name_and_number(client: Wire, name: str | int) -> None:
    job = client.shell("trap 'echo got; exit 0' USR1; echo up; while :; do sleep 0.01; done")["id"]
    client.until_output(job, "up")
    assert client.call("job/signal", id=job, signal=name)["job"]["id"] == job
    assert client.ended(job)["status"] == "completed"
    assert client.output(job).endswith("got\n")


@pytest.mark.parametrize("name", ["", "FISH", "SIG", 0, 65, 99999, -1, "9" * 5000, "SIG_DFL", None, 1.5])
def test_signals_that_do_not_exist(client: Wire, name: object) -> None:
    job = client.start("sleep", "60")["id"]
    assert client.refused("job/signal", id=job, signal=name).code == -32602
    client.call("job/cancel", id=job, graceMs=0)


def test_a_signal_for_the_group_or_the_leader_alone(client: Wire) -> None:
    forever = "while :; do sleep 0.01; done"
    script = f"(trap 'echo child; exit' USR1; echo up; {forever}) & trap 'echo leader' USR1; {forever}"
    job = client.shell(script)["id"]
    client.until_output(job, "up")
    client.call("job/signal", id=job, signal="USR1", target="leader")
    assert "child" not in client.until_output(job, "leader")
    client.call("job/signal", id=job, signal="USR1")
    assert client.until_output(job, "child").count("leader") >= 1
    client.call("job/cancel", id=job, graceMs=0)


def test_a_signal_we_did_not_cause_is_a_failure(client: Wire) -> None:
    job = client.start("sleep", "60")
    client.call("job/signal", id=job["id"], signal="KILL")
    assert ends(client.ended(job["id"])) == ("failed", "signal", None, "SIGKILL")
    failed = client.refused("job/signal", id=job["id"], signal="TERM")
    assert (failed.code, failed.data["status"]) == (-31005, "failed")


def test_no_signal_for_a_queued_job(narrow: Home) -> None:
    wire = narrow.connect()
    first, second = wire.start("sleep", "60"), wire.start("true")
    assert wire.refused("job/signal", id=second["id"], signal="TERM").code == -31005
    wire.call("job/cancel", id=first["id"], graceMs=0)
    wire.ended(second["id"])


# --- the queue ------------------------------------------------------------------------------------------------------


def test_what_is_over_the_limit_waits_by_number(narrow: Home, tmp_path: Path) -> None:
    wire = narrow.connect()
    order = tmp_path / "order"
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    first = wire.start("sh", "-c", f"read line < {gate}")
    jobs = [wire.start("sh", "-c", f"echo {n} >> {order}") for n in range(12)]
    assert {job["status"] for job in jobs} == {"queued"}
    assert {job["pid"] for job in jobs} == {None}
    assert wire.call("broker/status")["counts"]["queued"] == 12
    gate.write_text("go\n")
    wire.call("job/wait", all=True)
    assert order.read_text().split() == [str(n) for n in range(12)]
    assert wire.get(first["id"])["status"] == "completed"


def test_a_stopped_job_keeps_its_slot(narrow: Home) -> None:
    wire = narrow.connect()
    first, second = wire.start("sleep", "60"), wire.start("true")
    os.kill(first["pid"], signal.SIGSTOP)
    eventually(lambda: wire.get(first["id"])["status"] == "stopped", "it stops")
    assert wire.get(second["id"])["status"] == "queued"
    wire.call("job/cancel", id=first["id"], graceMs=0)
    assert wire.ended(second["id"])["status"] == "completed"


# --- remove and cleanup ---------------------------------------------------------------------------------------------


def test_remove_takes_everything(client: Wire, shared: Home) -> None:
    job = client.run("echo", "hello", name="gone")["id"]
    assert (shared.state / "jobs" / job / "output").exists()
    assert client.call("job/remove", id=job) == {"removed": [job]}
    assert not (shared.state / "jobs" / job).exists()
    assert client.refused("job/get", id="gone").code == -31002
    assert client.refused("job/remove", id=job).code == -31002


def test_a_live_job_is_not_removed(client: Wire) -> None:
    job = client.start("sleep", "60")["id"]
    assert client.refused("job/remove", id=job).code == -31005
    assert client.call("job/cleanup", maxAgeMs=0)["removed"].count(job) == 0
    assert client.get(job)["status"] == "running"
    client.call("job/cancel", id=job, graceMs=0)


def codes(wire: Wire, identities: list[int]) -> list[int | None]:
    """The error codes of answers, None for those that are results."""
    found: list[int | None] = []
    for identity in identities:
        try:
            wire.answer(identity)
            found.append(None)
        except Failed as exc:
            found.append(exc.code)
    return found


def test_removed_many_times_at_once_it_is_gone_once(client: Wire, shared: Home) -> None:
    jobs = [client.run("true")["id"] for _ in range(5)]
    wires = [Wire(str(shared.socket)) for _ in range(4)]
    asked = [[wire.send("job/remove", id=job) for job in jobs] for wire in wires]
    for wire, identities in zip(wires, asked, strict=True):
        identities.append(wire.send("job/cleanup", maxAgeMs=0, keep=1))
    for wire, identities in zip(wires, asked, strict=True):
        assert set(codes(wire, identities)) <= {None, -31002}
        wire.close()
    counts = client.call("broker/status")["counts"]
    assert min(counts.values()) >= 0
    left = [job["id"] for job in client.call("job/list", limit=1000)["jobs"]]
    assert sum(counts.values()) == len(left)
    assert not set(left) & set(jobs)


def test_remove_while_somebody_reads(client: Wire, shared: Home) -> None:
    job = client.run("sh", "-c", "head -c 500000 /dev/zero")["id"]
    with Wire(str(shared.socket)) as other:
        asked = [client.send("job/output", id=job, limit=100_000) for _ in range(40)]
        other.call("job/remove", id=job)
        assert set(codes(client, asked)) <= {None, -31002}


def test_cleanup_by_age_and_number(home: Home) -> None:
    wire = home.connect()
    jobs = [wire.run("sh", "-c", "echo x")["id"] for _ in range(6)]
    live = wire.start("sleep", "60")["id"]
    assert wire.call("job/cleanup") == {"removed": []}
    assert wire.call("job/cleanup", maxAgeMs=0, keep=4, dryRun=True) == {"removed": jobs[:2]}
    assert len(os.listdir(home.state / "jobs")) == 7
    assert wire.call("job/cleanup", maxAgeMs=0, keep=4) == {"removed": jobs[:2]}
    assert wire.call("job/cleanup", maxAgeMs=0) == {"removed": jobs[2:]}
    assert os.listdir(home.state / "jobs") == [live]
    assert [job["id"] for job in wire.call("job/list")["jobs"]] == [live]
    for bad in ({"maxAgeMs": -1}, {"keep": -1}, {"dryRun": 1}):
        assert wire.refused("job/cleanup", **bad).code == -32602
    wire.call("job/cancel", id=live, graceMs=0)


def test_more_than_is_to_be_kept_goes_by_itself(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_KEEP_JOBS="20")
    home.start()
    wire = home.connect()
    wire.write([{"id": n, "method": "job/start", "params": {"argv": ["true"]}} for n in range(150)])
    wire.read()
    wire.call("job/wait", all=True)
    eventually(lambda: len(os.listdir(home.state / "jobs")) < 100, "old jobs go")
    left = [job["number"] for job in wire.call("job/list", limit=1000)["jobs"]]
    assert left[:20] == list(range(150, 130, -1))
    home.kill()
    home.start()
    eventually(lambda: len(os.listdir(home.state / "jobs")) == 20, "a new broker prunes")


def test_a_directory_that_cannot_be_removed_keeps_its_row(home: Home) -> None:
    wire = home.connect()
    job = wire.run("true")["id"]
    (home.state / "jobs" / job / "strange").mkdir()
    assert wire.call("job/remove", id=job) == {"removed": []}
    assert wire.get(job)["status"] == "completed"
    assert "cannot remove" in home.log_text()
