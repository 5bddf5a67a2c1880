"""The command line on a real broker: what it prints, what it ends with, and what it does when the broker dies."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import PATIENCE, Home, alive, eventually

JOBCTL = [sys.executable, "-P", "-c", "import sys; from jobclient.cli.main import main; sys.exit(main())"]
Done = subprocess.CompletedProcess[str]


class Cli:
    """`jobctl` in a home of its own; a broker it starts is stopped with the test."""

    def __init__(self, home: Home, cwd: Path) -> None:
        self.home = home
        self.cwd = cwd
        self.umask = 0o022

    def __call__(self, *words: str, **environ: str) -> Done:
        return self.popen(words, environ)(None)

    def popen(self, words: Sequence[str | bytes], environ: dict[str, str]) -> Callable[[str | None], Done]:
        process = self.begin(*words, **environ)

        def finish(stdin: str | None) -> Done:
            out, err = process.communicate(stdin, timeout=PATIENCE)
            return subprocess.CompletedProcess(words, process.returncode, out, err)

        return finish

    def begin(self, *words: str | bytes, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*JOBCTL, *words],
            env={**self.home.environ, **environ},
            cwd=self.cwd,
            umask=self.umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def ok(self, *words: str, **environ: str) -> str:
        done = self(*words, **environ)
        assert done.returncode == 0, done
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words))

    def start(self, *words: str) -> str:
        return self.ok("start", "-q", *words).strip()

    def broker(self) -> int:
        return int(self.ok("broker", "status", "-q"))


@pytest.fixture
def cli(new_home: Callable[..., Home], tmp_path: Path) -> Generator[Cli]:
    """Jobctl where no broker runs yet."""
    work = tmp_path / "work"
    work.mkdir()
    made = Cli(new_home(), work)
    yield made
    made.ok("broker", "stop", "--jobs", "cancel")


# --- starting and looking -------------------------------------------------------------------------------------------


def test_the_first_call_starts_a_broker_and_the_next_find_it(cli: Cli) -> None:
    assert cli("broker", "status").returncode == 5
    assert cli.ok("list") == ""
    pid = cli.broker()
    cli.ok("list")
    assert cli.broker() == pid
    assert cli.ok("socket-path").strip() == str(cli.home.socket)


def test_a_job_from_start_to_end(cli: Cli) -> None:
    said = cli.ok("start", "-n", "tests", "-l", "a=b", "--", "sh", "-c", "echo out; exit 3")
    identity, name, word = said.split()
    assert (name, word) == ("tests", "started")
    waited = cli("wait", "tests")
    assert waited.returncode == 3
    assert waited.stdout.startswith(f"tests ({identity})  failed after ")
    assert cli.ok("output", "@") == "out\n"
    listed = cli.ok("list", "-l", "a=b").splitlines()
    assert listed[0].split() == ["ID", "NAME", "STATE", "AGE", "ENDED", "COMMAND"]
    assert listed[1].split()[:4] == [identity, "tests", "failed", "3"]
    assert cli.json("list", "--json")["jobs"][0]["id"] == identity
    shown = cli.ok("status", "tests", "--env")
    assert f"directory  {cli.cwd}" in shown
    assert "sh -c 'echo out; exit 3'" in shown
    assert "JOBBROKER_RUNTIME_DIR=" in shown
    assert "removed" in cli.ok("remove", "tests")
    assert cli("status", "tests").returncode == 3


def test_what_a_job_takes_over(cli: Cli) -> None:
    cli.umask = 0o027
    script = "pwd; umask; ulimit -Sn; echo $A-$B-${HOME:+home}"
    assert cli.ok("run", "-e", "A=1", "-C", "..", "--sh", script).split() == [
        str(cli.cwd.parent), "0027", str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]), "1--home",
    ]  # fmt: skip
    assert cli.ok("run", "--env-clear", "-e", "B=2", "-e", "PATH", "--sh", script).split()[-1] == "-2-"


def test_words_that_are_not_text_come_through(cli: Cli) -> None:
    done = cli.popen([b"run", b"-e", b"X=\xfe", b"--", b"sh", b"-c", b'printf %s "$1$X"', b"sh", b"\xff\x01"], {})(None)
    assert os.fsencode(done.stdout) == b"\xff\x01\xfe"
    assert "'\\xff\\x01'" in cli.ok("status", "@")


def test_here_is_the_directory_a_job_was_started_from(cli: Cli, tmp_path: Path) -> None:
    first, second = cli.start("-n", "one", "true"), cli.start("true")
    cli.cwd = tmp_path
    third = cli.start("true")
    assert cli.json("status", "--json", "@")["job"]["id"] == third
    assert cli("status", "@2").returncode == 3
    assert cli.ok("list", "-q", "--here").split() == [third]
    cli.cwd = tmp_path / "work"
    assert cli.json("status", "--json", "@2")["job"]["id"] == first
    assert set(cli.ok("list", "-q", "--here").split()) == {first, second}


def test_one_key_one_job(cli: Cli) -> None:
    first = cli.json("start", "--json", "--key", "nightly", "true")
    second = cli.json("start", "--json", "--key", "nightly", "true")
    assert (first["created"], second["created"]) == (True, False)
    assert first["job"]["id"] == second["job"]["id"]


def test_a_default_time_limit_from_the_environment(cli: Cli) -> None:
    assert cli("run", "sleep", "60", JOBBROKER_JOB_TIMEOUT_MS="100").returncode == 124
    done = cli("run", "true", JOBBROKER_JOB_TIMEOUT_MS="soon")
    assert (done.returncode, "not a number of milliseconds" in done.stderr) == (0, True)


# --- exit codes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -KILL $$"], 137, "killed by SIGKILL"),
        (["no-such-program"], 127, "exec: ENOENT"),
        (["/etc/passwd"], 126, "exec: EACCES"),
        (["-C", "/nonexistent", "true"], 125, "cwd: ENOENT"),
        (["--timeout", "100ms", "sleep", "60"], 124, "time limit"),
        (["--idle-timeout", "100ms", "sleep", "60"], 124, "no output"),
        (["--nope", "true"], 125, "no option '--nope'"),
        ([], 125, "say what"),
    ],
)
def test_run_ends_as_the_job_did(cli: Cli, words: list[str], code: int, told: str) -> None:
    done = cli("run", *words)
    assert done.returncode == code, done
    assert (told in done.stderr) if told else done.stderr == ""
    assert "Traceback" not in done.stderr


def test_the_table_of_codes(cli: Cli) -> None:
    live, good, bad = cli.start("sleep", "60"), cli.start("true"), cli.start("sh", "-c", "exit 9")
    cli("wait", good, bad)
    for code, words in [
        (2, "list --nope"), (2, "nope"), (2, "cancel"), (3, "status nope"), (3, "cancel nope"), (4, f"result {live}"),
        (4, f"result {bad}"), (4, f"remove {live}"), (1, f"cancel {good} nope"), (0, f"result {good}"),
        (9, f"result --exit {bad}"), (125, f"result --exit {live}"), (9, f"output --exit {bad}"), (125, "wait nope"),
        (9, f"wait {good} {bad}"), (124, f"wait --timeout 50ms {live}"), (0, f"wait --any {good} {live}"),
        (0, f"cancel {good}"), (0, "version"), (0, "help exit-codes"), (0, "--version"), (125, "wait --nope"),
    ]:  # fmt: skip
        done = cli(*words.split())
        assert done.returncode == code, (words, done)
        assert "Traceback" not in done.stderr


def test_no_broker_and_none_allowed(cli: Cli) -> None:
    done = cli("list", JOBBROKER_AUTOSPAWN="0")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == (
        "jobctl: no broker is running, and JOBBROKER_AUTOSPAWN=0 forbids to start one  -> jobctl broker start\n"
    )
    assert cli("--version", JOBBROKER_AUTOSPAWN="0").returncode == 0
    assert cli("run", "true", JOBBROKER_AUTOSPAWN="0").returncode == 125


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("kill", "cancel"), ("stop", "cancel"), ("ps", "list"), ("tail", "output -f"), ("rm", "remove"), ("log", "output"),
     ("show", "status"), ("lst", "list"), ("restart", "broker restart")],
)  # fmt: skip
def test_guesses(cli: Cli, typed: str, hint: str) -> None:
    done = cli(typed, "x")
    assert done.returncode == 2
    assert f"did you mean: jobctl {hint}\n" in done.stderr


# --- output ---------------------------------------------------------------------------------------------------------


def test_streams_are_split_on_request(cli: Cli) -> None:
    done = cli("run", "--split", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert cli.ok("run", "sh", "-c", "echo out; echo err >&2") == "out\nerr\n"


def test_output_in_part(cli: Cli) -> None:
    job = cli.start("--split", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; done; echo err >&2")
    cli("wait", job)
    assert cli.ok("output", "--stream", "out", job) == "1\n2\n3\n4\n5\n"
    assert cli.ok("output", "--stream", "err", job) == "err\n"
    assert cli.ok("output", "--stream", "out", "--tail", "2", job) == "4\n5\n"
    assert cli.ok("output", "--stream", "out", "--head", "2", job) == "1\n2\n"
    assert cli.ok("output", "--stream", "out", "--max-bytes", "3", job) == "1\n2"
    piece = cli.json("output", "--stream", "out", "--max-bytes", "4", "--json", job)
    assert (piece["data"], piece["eof"]) == ("1\n2\n", False)
    assert cli.ok("output", "--stream", "out", "--from", piece["next"], job) == "3\n4\n5\n"


def test_bytes_come_through_as_they_are(cli: Cli) -> None:
    script = "import os; data = os.urandom(1 << 20); os.write(2, b''); import sys; sys.stdout.buffer.write(data * 3)"
    process = subprocess.run(
        [*JOBCTL, "run", "--", sys.executable, "-c", script], env=cli.home.environ, capture_output=True, check=True
    )
    job = json.loads(cli.ok("list", "--json"))["jobs"][0]["id"]
    again = subprocess.run([*JOBCTL, "output", job], env=cli.home.environ, capture_output=True, check=True)
    assert len(process.stdout) == 3 << 20
    assert hashlib.sha256(process.stdout).digest() == hashlib.sha256(again.stdout).digest()


def test_nobody_reads(cli: Cli) -> None:
    process = cli.begin("run", "sh", "-c", "echo ready; read x; while :; do echo more; done")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(PATIENCE) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


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
os.write(lock, json.dumps({"pid": os.getpid(), "socket": place, "version": "99"}).encode())
answers = {"broker_ping": lambda _: {**PING, "protocol": 99}, "broker_shutdown": in_turn(MethodNotFound("what?"))}
with Scripted(place, **answers):
    print("up", flush=True)
    signal.pause()
"""


def test_a_broker_of_another_version_is_replaced_on_request(cli: Cli) -> None:
    environ = {**cli.home.environ, "PYTHONPATH": str(Path(__file__).parent)}
    stranger = subprocess.Popen([sys.executable, "-c", STRANGER], env=environ, stdout=subprocess.PIPE, text=True)
    assert stranger.stdout is not None
    assert stranger.stdout.readline() == "up\n"
    done = cli("list")
    assert done.returncode == 5
    assert "speaks protocol 99, this client needs protocol 1  -> jobctl broker restart" in done.stderr
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


# --- the rest -------------------------------------------------------------------------------------------------------


def test_changes_are_told(cli: Cli) -> None:
    cli.ok("list")
    watcher = cli.begin("events", "--json")
    assert watcher.stdout is not None
    live = cli.start("sleep", "60")
    told = json.loads(watcher.stdout.readline())
    assert (told["method"], told["params"]["job"]["id"]) == ("notifications/job/updated", live)
    cli.ok("cancel", "--now", live)
    while told["params"]["job"]["status"] != "cancelled":
        told = json.loads(watcher.stdout.readline())
    cli.ok("broker", "stop")
    last = json.loads(watcher.communicate(timeout=PATIENCE)[0].splitlines()[-1])
    assert last["method"] == "notifications/broker/shuttingDown"
    assert watcher.returncode == 0


def test_signals_reach_a_job(cli: Cli) -> None:
    job = cli.start("sh", "-c", TRAPS)
    follower = cli.begin("output", "-f", "--exit", job)
    ready(follower)
    cli.ok("signal", job, "int")
    assert follower.communicate(timeout=PATIENCE)[0] == "got INT\n"
    assert follower.returncode == 9
    assert cli("signal", job, "int").returncode == 4


def test_cleaning(cli: Cli) -> None:
    jobs = [cli.start("true") for _ in range(3)]
    cli("wait", *jobs)
    assert set(cli.ok("clean", "--older", "0", "--dry-run").split()) == set(jobs)
    assert set(cli.ok("clean", "--older", "0", "--keep", "1").split()) == set(jobs[:2])
    assert cli.ok("list", "-q").split() == jobs[2:]


def test_control_characters_do_not_reach_the_terminal(cli: Cli) -> None:
    cli.start("-n", "\x1b]0;owned\x07", "--", "true", "\x1b[2J\n")
    for words in (["list"], ["status", "@"], ["wait", "@"]):
        said = cli.ok(*words)
        assert "\x1b" not in said
        assert "\\x1b" in said


def test_instances_are_apart(cli: Cli) -> None:
    cli.start("-n", "here", "true")
    assert cli.ok("--instance", "other", "list") == ""
    assert cli.ok("list", "--instance=other", "-q") == ""
    cli.ok("--instance", "other", "broker", "stop")
    assert cli("--instance", "No!", "list").returncode == 2


def test_ascii_where_the_locale_has_no_more(cli: Cli) -> None:
    cli.start("-n", "größe", "true")
    done = cli("list", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, "gr\\xf6\\xdfe" in done.stdout) == (0, True)
