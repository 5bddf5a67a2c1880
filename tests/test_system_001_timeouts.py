"""R090 to R094: limits of time and of silence, wherever they come from; which process is alive, and which is meant."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import Home, Message, alive, eventually
from jobbroker.identity import open_checked, open_process, start_time
from jobbroker.orphan import is_over, open_marked
from jobctl import Cli


def ends(job: Message) -> tuple[object, ...]:
    return job["status"], job["reason"], job["exitCode"]


# --- R090 to R092: timeouts -------------------------------------------------------------------------------------------


def test_r090_a_hard_timeout_ends_the_work_itself_and_says_so(home: Home) -> None:
    wire = home.connect()
    job = wire.shell("sleep 61 & echo $!; sleep 60", timeoutMs=300, graceMs=100)
    child = int(wire.until_output(job["id"], "\n"))
    over = wire.ended(job["id"])
    assert (over["status"], over["reason"]) == ("timed_out", "deadline")
    assert "time limit of 300 ms passed" in over["error"]
    assert not alive(job["pid"])
    assert not alive(child)
    quick = wire.run("echo", "fast", timeoutMs=60_000)
    assert ends(quick) == ("completed", "exit", 0)


def test_r090_by_the_environment_or_by_an_option_which_wins(cli: Cli) -> None:
    assert cli("run", "sleep", "60", JOBBROKER_JOB_TIMEOUT_MS="200").returncode == 124
    assert cli("run", "--timeout", "5m", "true", JOBBROKER_JOB_TIMEOUT_MS="1").returncode == 0


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "", " ", "1e3", "0x10"])
def test_r091_an_environment_that_makes_no_sense_warns_and_changes_nothing(cli: Cli, value: str) -> None:
    done = cli("run", "sleep", "0.05", JOBBROKER_JOB_TIMEOUT_MS=value)
    assert done.returncode == 0
    assert ("JOBBROKER_JOB_TIMEOUT_MS" in done.stderr) == bool(value.strip())
    assert cli.json("status", "--json", "@")["job"]["timeoutMs"] == 0


def test_r091_zero_is_no_limit_and_not_the_default(new_home: Callable[..., Home], tmp_path: Path) -> None:
    home = new_home(JOBBROKER_TIMEOUT="1h")
    home.start()
    cli = Cli(home, tmp_path)
    ids = [
        cli.start("true"),
        cli.popen(["start", "-q", "true"], {"JOBBROKER_JOB_TIMEOUT_MS": "0"})(None).stdout.strip(),
    ]
    assert [cli.json("status", "--json", each)["job"]["timeoutMs"] for each in ids] == [3_600_000, 0]


def test_r092_silence_is_limited_apart_from_time(home: Home) -> None:
    wire = home.connect()
    silent = wire.start("sleep", "60", timeoutMs=60_000, idleTimeoutMs=200)
    talks = wire.shell("for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done", idleTimeoutMs=2000, timeoutMs=60_000)
    over = wire.ended(silent["id"])
    assert (over["status"], over["reason"]) == ("timed_out", "idle")
    assert "no output for 200 ms" in over["error"]
    assert ends(wire.ended(talks["id"])) == ("completed", "exit", 0)


# --- R093, R094: who is alive -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pid", [0, -1, -(2**31), 4_194_305, 2**31 - 1])
def test_r093_what_is_no_process_is_not_alive(pid: int) -> None:
    assert open_process(pid) is None
    assert open_checked(pid, 1) is None
    assert open_marked(pid, "bbbbbb") is None


def test_r093_ours_is_alive_a_reaped_child_is_not_and_a_strangers_is() -> None:
    for pid in (os.getpid(), 1):  # the second may well be somebody else's, whom we may not signal
        handle = open_process(pid)
        assert handle is not None
        assert not is_over(handle)
        os.close(handle)
    child = ended_child()
    os.waitpid(child, 0)
    assert open_process(child) is None


def test_rule_23_r094_alive_and_the_same_are_two_things() -> None:
    mine = os.getpid()
    began = start_time(mine)
    assert began is not None
    assert open_checked(mine, began - 1) is None
    handle = open_checked(mine, began)
    assert handle is not None
    os.close(handle)


def ended_child() -> int:
    """A child of ours that has ended, and that nobody has collected."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    eventually(lambda: not alive(child), "it has ended")
    return child


def test_rule_23_r094_a_zombie_is_dead() -> None:
    child = ended_child()
    handle = open_process(child)
    assert handle is not None
    assert is_over(handle)
    began = start_time(child)
    assert began is not None
    found = open_checked(child, began)
    assert found is None or is_over(found)
    for each in (handle, found):
        if each is not None:
            os.close(each)
    os.waitpid(child, 0)
