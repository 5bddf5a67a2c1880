"""The command line on a real broker: what it prints, and what it ends with."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness import PATIENCE
from jobctl import JOBCTL, Cli

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


def test_a_directory_whose_name_is_no_text(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"odd\xff")
    place.mkdir()
    elsewhere = cli.start("true")
    cli.cwd = place
    here = cli.start("true")
    assert here != elsewhere
    assert cli.ok("list", "-q", "--here").split() == [here]
    assert cli.json("status", "--json", "@")["job"]["id"] == here


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
        (["ls | wc -l"], 127, "  -> jobctl start --sh 'ls | wc -l'"),
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
    assert process.stderr.read().endswith(f"goes on  -> jobctl cancel {cli.json('list', '--json')['jobs'][0]['id']}\n")
    process.stderr.close()


def test_what_stdout_goes_to_is_full(cli: Cli) -> None:
    cli.start("true")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*JOBCTL, "list"], env=cli.home.environ, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "jobctl: the output cannot be written: no space left on device\n")


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


def test_cleaning(cli: Cli) -> None:
    jobs = [cli.start("true") for _ in range(3)]
    cli("wait", *jobs)
    assert set(cli.ok("clean", "--older", "0", "--dry-run", "-q").split()) == set(jobs)
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
