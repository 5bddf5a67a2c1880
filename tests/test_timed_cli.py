"""`jobctl timed ...` as its own process."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from harness import eventually
from jobctl import JOBCTL, Cli


def test_from_the_first_schedule_to_its_removal(cli: Cli) -> None:
    assert cli("timed", "list").stdout == ""
    said = cli.ok("timed", "add", "backup", "--every", "1h", "--jitter", "5m", "--catch-up", "--timeout", "10m", "--",
                  "sh", "-c", "echo saved; exit 3")  # fmt: skip
    assert re.fullmatch(r"backup  every 1h, next in \S+\n", said)
    header, row = cli.ok("timed", "list").splitlines()
    assert header.split() == ["NAME", "EVERY", "NEXT", "LAST", "BUSY", "RUNS"]
    assert row.split()[:3] == ["backup", "every", "1h"]
    assert re.search(r"  -  +-  +sh -c 'echo saved; exit 3'$", row)
    ticked = cli("timed", "tick", "backup", "--wait")
    assert (ticked.returncode, ticked.stdout.split()[1]) == (1, "completed_with_failures")
    assert "completed with failures" in cli.ok("timed", "list")
    shown = cli.ok("timed", "show", "backup")
    for fact in (
        "ticks      every 1h",
        "jitter     5m",
        "catch-up   yes",
        "backup: sh -c 'echo saved; exit 3'  (time 10m)",
    ):
        assert fact in shown
    assert cli.ok("timed", "list", "-q") == "backup\n"
    assert cli.json("timed", "list", "--json")["schedules"][0]["jitterMs"] == 300_000
    (job,) = cli.json("list", "--json", "-a")["jobs"]
    assert (cli.ok("output", job["id"]), job["tick"]["trigger"]) == ("saved\n", "manual")
    stages = [line.split()[2] for line in cli.ok("timed", "log", "backup").splitlines()]
    assert stages == ["started", "tick_started", "runner_started", "runner_failed", "tick_completed"]
    cli.ok("timed", "remove", "backup")
    gone = cli("timed", "show", "backup")
    assert (gone.returncode, "jobctl timed list" in gone.stderr) == (3, True)


def test_more_runners_and_the_broker_s_own(cli: Cli) -> None:
    cli.ok("timed", "add", "night", "--every", "0", "--builtin", "cleanup")
    cli.ok("timed", "add", "second", "--to", "night", "--sh", "echo two words", "-e", "A=b")
    assert cli.ok("timed", "tick", "night", "--wait").split()[1] == "scheduled"
    assert "[cleanup]; sh -c 'echo two words'" in cli.ok("timed", "list")
    cli.ok("timed", "remove", "night", "--runner", "second")
    assert [each["name"] for each in cli.json("timed", "show", "night", "--json")["schedule"]["runners"]] == ["night"]


def test_a_paused_schedule_says_so_and_skips(cli: Cli) -> None:
    cli.ok("timed", "add", "held", "--every", "1h", "true")
    cli.ok("timed", "pause", "held")
    assert cli.ok("timed", "list").splitlines()[1].split()[3] == "paused"
    assert cli("timed", "tick", "held").stdout.split()[1] == "skipped_system_paused"
    cli.ok("timed", "resume", "held")
    cli.ok("timed", "pause")
    assert "jobctl timed resume" in cli("timed", "list").stderr
    cli.ok("timed", "resume")
    assert cli.ok("timed", "tick", "held", "--wait").split()[1] == "scheduled"


def test_the_log_is_followed_by_line_and_as_json(cli: Cli, tmp_path: Path) -> None:
    cli.ok("timed", "add", "seen", "--every", "0", "--", "sh", "-c",
           f"{tmp_path}/jobctl timed stage copied --result good --detail files=12")  # fmt: skip
    write_jobctl(tmp_path / "jobctl")
    process = cli.begin("timed", "log", "seen", "-f", "-n", "1", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["stage"] == "started"
    assert cli.ok("timed", "tick", "seen", "--wait").split()[1] == "scheduled"
    found = [json.loads(process.stdout.readline()) for _ in range(5)]
    process.terminate()
    process.communicate()
    assert [each["stage"] for each in found] == [
        "tick_started", "runner_started", "copied", "runner_completed", "tick_completed",
    ]  # fmt: skip
    assert (found[2]["result"], found[2]["files"], found[2]["runner"]) == ("good", "12", "seen")


def write_jobctl(path: Path) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(JOBCTL)} "$@"\n')
    path.chmod(0o755)


def test_mistakes_say_what_to_type(cli: Cli) -> None:
    for words, said in (
        (("add", "x", "true"), "--every"),
        (("add", "x", "--every", "1h", "--to", "y", "true"), "--every"),
        (("add", "x", "--every", "5ms", "true"), "everyMs"),
        (("add", "x", "--every", "1h"), "say what to run"),
        (("add", "x", "--every", "1h", "--builtin", "cleanup", "true"), "--builtin"),
        (("add", "x", "--every", "1h", "--builtin", "nope"), "cleanup"),
        (("add", "x", "--every", "1h", "--method", "m"), "backend"),
        (("add", "x", "--every", "1h", "--method", "m", "--params", "{"), "--params"),
        (("add", "x", "--every", "1h", "--jitter", "2h", "true"), "jitterMs"),
        (("tick", "nope"), "jobctl timed list"),
        (("stage", "x"), "JOBBROKER_TICK_BATCH_ID"),
    ):
        done = cli("timed", *words)
        assert (done.returncode != 0, said in done.stderr) == (True, True), (words, done)


def test_names_that_would_break_a_table_do_not(cli: Cli) -> None:
    name = "a/b\nc\x1b[31m\t✓"
    cli.ok("timed", "add", name, "--every", "0", "true")
    assert cli.ok("timed", "tick", name, "--wait").split()[1] == "scheduled"
    for words in (("list",), ("show", name), ("log", name)):
        shown = cli.ok("timed", *words)
        assert ("\x1b" in shown, "a/b\\nc" in shown) == (False, True), shown
    cli.ok("timed", "remove", name)


def test_a_schedule_keeps_its_broker_and_comes_back_with_the_next(cli: Cli) -> None:
    cli.ok("timed", "add", "kept", "--every", "100ms", "true")
    cli.ok("broker", "stop")
    eventually(lambda: cli("broker", "status", "-q", JOBBROKER_AUTOSPAWN="0").returncode != 0, "it is gone")
    eventually(lambda: cli.json("timed", "show", "kept", "--json")["schedule"]["last"], "it ticks at the next one's")
