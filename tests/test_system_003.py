"""A shell's job manager, R110-R112 and R120-R133: one test and more for each number, on real processes."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from harness import Home, Message, Wire, alive, eventually
from jobbroker.identity import read_stat
from jobbroker.tree import descendants
from jobctl import Cli
from test_pausing import begin, shim_of, states, status_of

UP = "echo up; sleep 1000"


# --- the table ------------------------------------------------------------------------------------------------------


def test_r110_numbers_count_from_one_and_never_come_back(home: Home) -> None:
    wire = home.connect()
    first = wire.run("true")
    assert wire.get("%1") == first
    wire.call("job/remove", id="%1")
    assert wire.refused("job/get", id="%1").kind == "job_not_found"
    assert wire.start("true")["number"] == 2
    home.restart()
    assert home.connect().start("true")["number"] == 3


def test_r110_a_job_is_visible_the_moment_its_start_is_answered(client: Wire) -> None:
    with Wire(client.sock.getpeername()) as other:
        for _ in range(20):
            job = client.start("true")
            assert other.get(job["id"])["number"] == job["number"]


def test_r111_r112_a_killed_shim_is_named_as_such_and_harms_no_other_job(home: Home) -> None:
    """The origin reported exit 1 for a supervisor that was gone; here no exit code is made up."""
    wire = home.connect()
    doomed, other = begin(wire, UP), begin(wire, UP)
    os.kill(shim_of(home, doomed), signal.SIGKILL)
    os.killpg(doomed["pid"], signal.SIGKILL)
    ended = wire.ended(doomed["id"])
    assert (ended["status"], ended["reason"], ended["exitCode"]) == ("failed", "lost", None)
    assert "shim was killed" in ended["error"]
    assert status_of(wire, other) == "running"


def test_r112_a_fault_of_ours_fails_one_job_and_is_in_the_log(home: Home) -> None:
    """An id that no record can hold stands in for a fault: the shim finds a directory without a record."""
    wire = home.connect()
    other = begin(wire, UP)
    queued = wire.start("sleep", "1000")
    assert queued["status"] == "running"
    (home.state / "jobs" / queued["id"] / "record").unlink()
    home.restart()
    wire = home.connect()
    lost = wire.get(queued["id"])
    assert (lost["status"], lost["reason"]) == ("failed", "lost")
    assert queued["id"] in home.log_text()
    assert status_of(wire, other) == "running"
    os.killpg(queued["pid"], signal.SIGKILL)


def test_r120_one_word_for_a_state(cli: Cli) -> None:
    """The wire, the table and the one-job view say the same."""
    job = cli.start("sh", "-c", "kill -STOP $$; exit 3")
    eventually(lambda: cli.json("status", "--json", job)["job"]["status"] == "stopped", "stopped")
    assert re.search(rf"^{job} .* stopped ", cli.ok("list"), re.MULTILINE)
    assert cli.ok("status", job).startswith(f"{job}  stopped\n")
    assert cli.json("broker", "status", "--json")["counts"]["stopped"] == 1
    cli.ok("resume", job)
    assert cli("wait", job).returncode == 3
    assert re.search(rf"^{job} .* failed 3 ", cli.ok("list"), re.MULTILINE)


# --- signals --------------------------------------------------------------------------------------------------------


def test_r121_the_last_stopped_is_the_latest_in_time(home: Home) -> None:
    wire = home.connect()
    assert wire.refused("job/lastStopped").kind == "job_not_found"
    first, second = begin(wire, UP), begin(wire, UP)
    wire.call("job/pause", id=second["id"])
    wire.call("job/pause", id=first["id"])  # the lower number, but later
    last = wire.call("job/lastStopped")["job"]
    assert (last["id"], last["status"]) == (first["id"], "stopped")
    assert last["pid"] == last["pgid"] == first["pid"]
    wire.call("job/resume", id=first["id"])
    assert wire.call("job/lastStopped")["job"]["id"] == second["id"]
    wire.call("job/cancel", id=second["id"])
    assert wire.refused("job/lastStopped").kind == "job_not_found"


def test_r122_the_groups_of_a_job_each_once_its_own_first(client: Wire) -> None:
    job = begin(client, "setsid sleep 1000 & setsid sh -c 'sleep 1000 & wait' & sleep 1000 & echo up; wait")
    answer: Message = {}

    def settled() -> bool:
        answer.update(client.call("job/processes", id=job["id"]))
        return len(answer["processes"]) == 5 and len(answer["pgids"]) == 3

    eventually(settled, "five processes in three groups")
    assert answer["pgids"][0] == job["pgid"]
    assert len(set(answer["pgids"])) == 3
    assert {process["pid"] for process in answer["processes"]} == {job["pid"], *descendants(job["pid"])}
    by_pid = {process["pid"]: process for process in answer["processes"]}
    assert by_pid[job["pid"]]["command"].startswith("sh -c setsid sleep")
    assert all(process["rss"] > 0 and process["cpu"] >= 0 for process in answer["processes"])
    seen = {by_pid[job["pid"]]["ppid"]}
    for process in answer["processes"]:
        assert process["ppid"] in seen
        seen.add(process["pid"])
    client.call("job/cancel", id=job["id"], graceMs=0)
    assert client.call("job/processes", id=job["id"]) == {"pgids": [], "processes": []}
    assert client.refused("job/processes", id="nobody").kind == "job_not_found"


def test_r122_what_a_process_is_called_is_told_at_no_more_than_some_length(client: Wire) -> None:
    words = ["word" + "ä" * 20_000] * 5
    job = client.start("sh", "-c", "sleep 1000", "sh", *words)
    command = client.call("job/processes", id=job["id"])["processes"][0]["command"]
    assert command.startswith("s")
    assert len(command) <= 1003
    client.call("job/cancel", id=job["id"], graceMs=0)


def test_r123_resumed_is_what_the_kernel_says_goes_on_and_it_may_be_stopped_again(client: Wire) -> None:
    job = begin(client, UP)
    for _ in range(3):
        assert client.call("job/pause", id=job["id"])["job"]["status"] == "stopped"
        assert states(job) == {"T"}
        assert client.call("job/resume", id=job["id"])["job"]["status"] == "running"
        assert states(job) == {"runs"}
    client.call("job/cancel", id=job["id"])


@pytest.mark.parametrize("name", ["TERM", "term", "SIGTERM", "sigTerm", 15, "15"])
def test_r124_a_signal_by_name_in_any_case_or_by_number(client: Wire, name: str | int) -> None:
    job = begin(client, UP)
    client.call("job/signal", id=job["id"], signal=name)
    assert client.ended(job["id"])["signal"] == "SIGTERM"


@pytest.mark.parametrize("name", ["", "SIG", "TERMINATE", "-9", "99999", 0x10000, "SIGSIGTERM", "KILL "])
def test_r124_an_unknown_signal_is_an_error_and_no_default(client: Wire, name: str | int) -> None:
    job = begin(client, UP)
    refused = client.refused("job/signal", id=job["id"], signal=name)
    assert (refused.kind, refused.code) == ("invalid_params", -32602)
    assert status_of(client, job) == "running"
    client.call("job/cancel", id=job["id"])


def test_r124_an_unknown_signal_names_the_candidates(client: Wire) -> None:
    job = begin(client, UP)
    assert "did you mean TERM" in str(client.refused("job/signal", id=job["id"], signal="SIGTREM"))
    everything = str(client.refused("job/signal", id=job["id"], signal="?" * 5000))
    assert all(f"{name}," in everything for name in ("HUP", "INT", "KILL", "USR1", "CONT"))
    assert len(everything) < 500
    client.call("job/cancel", id=job["id"])


def test_r124_a_real_time_signal_by_the_name_its_end_is_told_by(client: Wire) -> None:
    for name in ("RTMIN+3", "sigrtmin+3"):
        job = begin(client, UP)
        client.call("job/signal", id=job["id"], signal=name)
        assert client.ended(job["id"])["signal"] == "SIGRTMIN+3"
    job = begin(client, UP)
    for name in ("RTMIN+31", "RTMIN+", "RTMIN+-1", "TERM+1"):
        assert client.refused("job/signal", id=job["id"], signal=name).kind == "invalid_params"
    client.call("job/cancel", id=job["id"])


def test_r124_no_digit_of_another_script_is_a_number(cli: Cli) -> None:
    job = cli.start("sleep", "1000")
    done = cli("signal", job, "²")
    assert (done.returncode, "there is no signal" in done.stderr) == (1, True)
    assert cli("signal", job, "9").returncode == 0
    assert cli("wait", job).returncode == 137


def test_r125_all_of_an_id_is_that_job_and_all_of_a_name_all_that_live(cli: Cli) -> None:
    first, second, third = (cli.start("-n", name, "--", "sleep", "1000") for name in ("one", "two", "two"))
    refused = cli("cancel", "two")
    assert (refused.returncode, "ambiguous" in refused.stderr) == (3, True)
    assert cli("cancel", "--all", "-l", "no=such", "two").stderr == "jobctl: no such job is live\n"
    assert cli.ok("cancel", "--all", first).startswith(f"one ({first})  cancelled")
    assert cli("cancel", "--all", "nosuch").returncode == 3
    assert cli.ok("cancel", "--all", "two").count("cancelled") == 2
    assert {cli.json("status", "--json", job)["job"]["status"] for job in (second, third)} == {"cancelled"}


def test_r125_all_targets_are_tried(cli: Cli) -> None:
    ended = cli.start("true")
    cli.ok("wait", ended)
    first, last = cli.start("sleep", "1000"), cli.start("sleep", "1000")
    done = cli("signal", first, "nosuch", ended, last, "KILL")
    assert done.returncode == 1
    assert "no job matches 'nosuch'" in done.stderr
    assert f"{ended}  had already ended" in done.stdout
    for job in (first, last):
        assert cli("wait", job).returncode == 137
    assert cli("signal", ended, "TERM").returncode == 0


def test_r125_references_by_number(cli: Cli) -> None:
    job = cli.start("sleep", "1000")
    number = f"%{cli.json('status', '--json', job)['job']['number']}"
    cli.ok("pause", number)
    assert cli.json("status", "--json", number)["job"]["status"] == "stopped"
    cli.ok("resume", number)
    cli.ok("signal", number, "TERM")
    assert cli("wait", number).returncode == 143


def test_r126_a_signal_that_reaches_nobody_is_an_error(client: Wire) -> None:
    job = client.run("true")
    refused = client.refused("job/signal", id=job["id"], signal="USR1")
    assert (refused.kind, refused.data["status"]) == ("invalid_state", "completed")


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "KILL"])
@pytest.mark.parametrize("target", ["group", "leader"])
def test_r127_who_ends_a_stopped_job_lets_it_go_on(client: Wire, name: str, target: str) -> None:
    job = begin(client, "sleep 1000 & echo up; wait")
    client.call("job/pause", id=job["id"])
    client.call("job/signal", id=job["id"], signal=name, target=target)
    ended = client.ended(job["id"])
    assert (ended["status"], ended["signal"]) == ("failed", f"SIG{name}")


def test_r127_any_other_signal_leaves_it_stopped(client: Wire) -> None:
    job = begin(client, UP)
    client.call("job/pause", id=job["id"])
    assert client.call("job/signal", id=job["id"], signal="USR1")["job"]["status"] == "stopped"
    assert states(job) == {"T"}
    client.call("job/resume", id=job["id"])
    assert client.ended(job["id"])["signal"] == "SIGUSR1"


def test_r128_after_its_end_nobody_is_signalled_for_it(client: Wire) -> None:
    """The pid in a row may be a stranger's by now: nothing is sent, whatever is asked."""
    job = client.run("true")
    for method, params in (("job/signal", {"signal": "KILL"}), ("job/pause", {}), ("job/resume", {})):
        assert client.refused(method, id=job["id"], **params).kind == "invalid_state"
    assert client.call("job/cancel", id=job["id"])["changed"] is False


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_r129_cancel_says_whether_there_was_anything_to_cancel(client: Wire) -> None:
    job = begin(client, UP)
    assert client.call("job/cancel", id=job["id"])["changed"] is True
    assert client.call("job/cancel", id=job["id"])["changed"] is False
    assert client.refused("job/cancel", id="nobody").kind == "job_not_found"


def test_r130_cancel_confirms_the_death_and_keeps_job_and_output(client: Wire) -> None:
    job = begin(client, "trap '' TERM; echo up; sleep 1000 & wait; sleep 1000")
    mine = [job["pid"], *descendants(job["pid"])]
    dispatched = client.call("job/cancel", id=job["id"], graceMs=200, confirm=False)
    assert dispatched["job"]["status"] == "running"
    assert dispatched["job"]["cancelRequested"] is True
    confirmed = client.call("job/cancel", id=job["id"], graceMs=200)
    assert confirmed["job"]["status"] == "cancelled"
    assert not any(map(alive, mine))
    assert client.output(job["id"]) == "up\n"


def test_r131_a_job_that_succeeds_after_all_is_completed(client: Wire) -> None:
    job = begin(client, "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done")
    ended = client.call("job/cancel", id=job["id"])["job"]
    assert (ended["status"], ended["reason"], ended["cancelRequested"]) == ("completed", "exit", True)


def test_r132_the_end_of_the_broker_ends_all_jobs_together(home: Home) -> None:
    """Ten jobs that take half a second each to obey: one after the other they would outlast their own deadline."""
    wire = home.connect()
    slow = "trap 'sleep 0.5; exit 1' TERM; echo up; while :; do sleep 0.01; done"
    jobs = [begin(wire, slow, timeoutMs=1_000_000) for _ in range(10)]
    wire.call("broker/shutdown", mode="cancelJobs", graceMs=3000)
    assert home.wait() == 0
    home.start()
    wire = home.connect()
    ends = [wire.get(job["id"]) for job in jobs]
    assert {(job["status"], job["reason"], job["exitCode"]) for job in ends} == {("cancelled", "shutdown", 1)}
    first, last = min(job["completedAt"] for job in ends), max(job["completedAt"] for job in ends)
    begun = max(job["startedAt"] for job in ends)
    assert begun < first <= last


NASTY = """
trap '' TERM
sleep 1000 &
(trap - TERM; exec sleep 1000) &
setsid sleep 1000 &
setsid sh -c 'trap "" TERM; sleep 1000 & wait; sleep 1000' &
(sh -c 'setsid sh -c "trap \\"\\" TERM; sleep 1000; sleep 1000" &') &
sh -c 'while :; do sh -c "trap \\"\\" TERM; sleep 1000" & wait; done' &
sleep 0.2
echo up
wait
"""


def test_r133_nothing_is_left_of_nine_nasty_processes_and_cancel_says_how_many_took_sigkill(client: Wire) -> None:
    job = begin(client, NASTY)
    shim = int((read_stat(job["pid"]) or [])[1])
    before = {pid for pid in descendants(shim) if alive(pid)}
    assert len(before) >= 9
    answer = client.call("job/cancel", id=job["id"], graceMs=300)
    assert answer["survivors"] == []
    assert answer["killed"] >= 7
    assert not [pid for pid in before if alive(pid)]
    assert not descendants(shim)


def test_r133_an_obedient_tree_needs_no_sigkill(client: Wire) -> None:
    job = begin(client, "sleep 1000 & echo up; wait")
    answer = client.call("job/cancel", id=job["id"])
    assert (answer["killed"], answer["survivors"]) == (0, [])


def test_r133_cancel_counts_on_the_command_line(cli: Cli, tmp_path: Path) -> None:
    flag = tmp_path / "up"
    job = cli.start("sh", "-c", f"trap '' TERM; touch {flag}; sleep 1000; exit 1")
    eventually(flag.exists, "up")
    assert cli.ok("cancel", "--grace", "0.1", job) == f"{job}  cancelled, 2 processes took SIGKILL\n"


def test_r133_a_repeated_term_neither_restarts_nor_skips_the_escalation(client: Wire) -> None:
    job = begin(client, "trap '' TERM; echo up; while :; do sleep 0.01; done")
    client.call("job/cancel", id=job["id"], graceMs=500, confirm=False)
    for _ in range(5):
        client.call("job/signal", id=job["id"], signal="TERM")
        client.call("job/cancel", id=job["id"], graceMs=100_000, confirm=False)
    assert client.ended(job["id"])["signal"] == "SIGKILL"


def test_the_python_client(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobclient import Client

    for name, value in home.environ.items():
        monkeypatch.setenv(name, value)
    with Client() as broker:
        job = broker.start([sys.executable, "-c", "import time; time.sleep(1000)"]).job
        assert broker.pause(job.id).status == "stopped"
        assert broker.last_stopped().id == job.id
        assert broker.resume(job.id).status == "running"
        found = broker.processes(job.id)
        assert [process.pid for process in found.processes] == [job.pid]
        assert found.pgids == [job.pgid]
        assert broker.cancel(job.id).killed == 0
