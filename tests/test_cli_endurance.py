"""The command line when brokers die, versions differ, keys are pressed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from harness import PATIENCE, alive, eventually
from jobctl import Cli

# --- when the broker dies -------------------------------------------------------------------------------------------


@pytest.fixture
def feed(cli: Cli) -> Generator[Callable[[str], None]]:
    """What is given to this appears as the output of a job that runs `cat fifo`."""
    path = cli.cwd / "fifo"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)  # never blocks, never ends on its own
    yield lambda text: (os.write(descriptor, text.encode()), None)[1]
    os.close(descriptor)


def kill_broker(cli: Cli) -> None:
    pid = cli.broker()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), "the broker is dead")


@pytest.mark.parametrize("split", [(), ("--split",)])
def test_no_byte_is_lost_or_doubled_when_the_broker_is_killed(
    cli: Cli, feed: Callable[[str], None], split: tuple[str, ...]
) -> None:
    process = cli.begin("run", *split, "sh", "-c", 'while read -r l && [ "$l" ]; do echo "$l"; done <fifo')
    assert process.stdout is not None
    seen: list[str] = []
    for turn in range(3):
        first, second = ([f"{turn}.{half}.{i}\n" for i in range(150)] for half in range(2))
        feed("".join(first))
        seen += [process.stdout.readline() for _ in first]
        kill_broker(cli)
        feed("".join(second))
        seen += [process.stdout.readline() for _ in second]
    feed("\n")
    out, err = process.communicate(timeout=PATIENCE)
    expected = [f"{turn}.{half}.{i}\n" for turn in range(3) for half in range(2) for i in range(150)]
    assert seen == expected
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("words", [("wait",), ("output", "-f", "--exit")])
def test_a_watcher_outlives_the_broker(cli: Cli, feed: Callable[[str], None], words: tuple[str, ...]) -> None:
    job = cli.start("--", "sh", "-c", "read -r l <fifo; echo $l; exit 5")
    process = cli.begin(*words, job)
    for _ in range(2):
        kill_broker(cli)
        eventually(lambda: cli("broker", "status").returncode == 0, "the watcher has started another")
    feed("done\n")
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5
    assert ("done" in out) == (words[0] == "output")


def test_many_at_once_start_one_broker(cli: Cli) -> None:
    waiting = [cli.popen(["start", "-q", "--", "true"], {}) for _ in range(12)]
    done = [finish(None) for finish in waiting]
    assert [each.returncode for each in done] == [0] * 12, done
    assert len(cli.json("list", "-a", "--json")["jobs"]) == 12
    said = (cli.home.state / "broker.log").read_text()
    assert f"{cli.broker()}" in cli.ok("broker", "status")
    assert "Traceback" not in said


def test_jobs_outlive_a_restart(cli: Cli, feed: Callable[[str], None]) -> None:
    job = cli.start("--", "sh", "-c", "read -r l <fifo; echo $l")
    before = cli.broker()
    cli.ok("broker", "restart")
    assert cli.broker() != before
    cli.ok("broker", "stop")
    assert cli("broker", "status").returncode == 5
    feed("still here\n")
    assert cli.ok("output", "-f", job) == "still here\n"
    assert cli.ok("broker", "logs")


def test_no_broker_is_stopped_for_one_that_could_not_start(cli: Cli) -> None:
    cli.start("true")
    before, settings = cli.broker(), Path(cli.home.environ["JOBBROKER_CONFIG"])
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("[limits\n")
    refused = cli("broker", "restart")
    assert refused.returncode == 1
    assert f"runs on, for another could not start: {settings}" in refused.stderr
    assert cli.broker() == before
    settings.unlink()


def test_advice_names_the_instance_that_was_named(cli: Cli) -> None:
    refused = cli("--instance", "two", "list", JOBBROKER_AUTOSPAWN="0")
    assert refused.stderr.endswith("  -> jobctl --instance two broker start\n")
    assert cli("list", JOBBROKER_AUTOSPAWN="0").stderr.endswith("  -> jobctl broker start\n")


STRANGER = """
import fcntl, json, os, signal, sys
from jobclient import paths
from jobclient.protocol.errors import MethodNotFound
from scripted import PING, Scripted, in_turn

paths.make_private_dir(paths.state_dir())
paths.make_private_dir(paths.instance_dir("default"))
lock = os.open(paths.lock_path("default"), os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
place = paths.socket_path("default")
os.write(lock, json.dumps({"pid": os.getpid(), "socket": place, "version": "0"}).encode())
answers = {"broker_ping": lambda _: {**PING, "protocol": 0}, "broker_shutdown": in_turn(MethodNotFound("what?"))}
with Scripted(place, **answers):
    print("up", flush=True)
    signal.pause()
"""


def test_a_broker_of_an_older_version_is_replaced_on_request(cli: Cli) -> None:
    environ = {**cli.home.environ, "PYTHONPATH": str(Path(__file__).parent)}
    stranger = subprocess.Popen([sys.executable, "-c", STRANGER], env=environ, stdout=subprocess.PIPE, text=True)
    assert stranger.stdout is not None
    assert stranger.stdout.readline() == "up\n"
    done = cli("list")
    assert done.returncode == 5
    assert "is newer and needs protocol 1  -> jobctl broker restart" in done.stderr
    cli.ok("broker", "restart")
    assert stranger.wait(PATIENCE) == -signal.SIGTERM
    stranger.stdout.close()
    assert cli.ok("list") == ""


def test_stopping_may_take_the_jobs_along(cli: Cli) -> None:
    job = cli.start("sleep", "60")
    cli.ok("broker", "stop", "--jobs", "cancel")
    assert cli.json("status", "--json", job)["job"]["status"] == "cancelled"


# --- keys -----------------------------------------------------------------------------------------------------------

TRAPS = """trap 'echo got INT; exit 9' INT; echo ready; while :; do sleep 0.05; done"""
DEAF = """trap '' INT TERM; echo ready; while :; do sleep 0.05; done"""


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_the_first_interrupt_is_the_job_s(cli: Cli) -> None:
    process = cli.begin("run", "sh", "-c", TRAPS)
    ready(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (9, "got INT\n", "")


def test_the_second_interrupt_cancels(cli: Cli) -> None:
    process = cli.begin("run", "--grace", "100ms", "sh", "-c", DEAF)
    ready(process)
    process.send_signal(signal.SIGINT)
    job = cli.json("list", "--json")["jobs"][0]["id"]  # by now the first has been taken
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 137
    assert f"cancelling {job}" in err


@pytest.mark.parametrize(("number", "code", "told"), [(signal.SIGQUIT, 130, True), (signal.SIGHUP, 129, False)])
def test_leaving_a_job_alone(cli: Cli, number: signal.Signals, code: int, told: bool) -> None:
    process = cli.begin("run", "sh", "-c", DEAF)
    ready(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    job = cli.json("list", "--json")["jobs"][0]
    assert (process.returncode, job["status"]) == (code, "running")
    assert err == (f"jobctl: detached, {job['id']} goes on  -> jobctl output -f {job['id']}\n" if told else "")
    cli.ok("cancel", "--now", job["id"])


def test_an_interrupt_ends_the_watching_only(cli: Cli) -> None:
    job = cli.start("sh", "-c", DEAF)
    process = cli.begin("output", "-f", job)
    ready(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, f"jobctl: still running: jobctl output -f {job}\n")
    assert "cancelled" in cli.ok("cancel", "--now", job)


def test_signals_reach_a_job(cli: Cli) -> None:
    job = cli.start("sh", "-c", TRAPS)
    follower = cli.begin("output", "-f", "--exit", job)
    ready(follower)
    cli.ok("signal", job, "int")
    assert follower.communicate(timeout=PATIENCE)[0] == "got INT\n"
    assert follower.returncode == 9
    assert cli.ok("signal", job, "int").startswith(f"{job}  had already ended: failed")
