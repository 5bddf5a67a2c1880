"""Asynchronous jobs of AI clients, as the first of the four systems had them: starting, and how jobs end.

Each test is named after its requirement. What is decided otherwise here than there, its docstring says.
"""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import standins
from driver import Bell
from harness import Home, Message, Wire, alive, eventually
from jobbroker.core import record
from jobbroker.identity import read_stat
from jobctl import Cli
from standins import ask, asked

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def letters(home: Home, job: Message) -> list[bytes]:
    return [line.letter for line in record.decode(home.record(job["id"]))[1]]


def ends(job: Message) -> tuple[object, ...]:
    return job["status"], job["reason"], job["exitCode"], job["signal"]


# --- start ----------------------------------------------------------------------------------------------------------


def test_r001_start_answers_while_the_agent_works(talk: Wire, gate: Bell) -> None:
    job = ask(talk, f"read line <{gate.path}")
    assert (job["agent"], job["prompt"], job["status"]) == ("codex", f"read line <{gate.path}", "running")
    assert isinstance(job["id"], str)
    assert isinstance(job["pid"], int)
    assert TIME.fullmatch(job["startedAt"])
    assert (job["completedAt"], job["exitCode"]) == (None, None)
    assert alive(job["pid"])
    gate.ring()
    assert talk.ended(job["id"])["status"] == "completed"


def test_r002_every_job_has_an_id_of_its_own(agents: Home, talk: Wire) -> None:
    with Wire(str(agents.socket)) as other:
        sent = [(wire, wire.send("job/start", agent="codex", prompt=":")) for _ in range(20) for wire in (talk, other)]
        ids = [wire.answer(number)["job"]["id"] for wire, number in sent]
    assert all(ids)
    assert len(set(ids)) == 40
    talk.call("job/wait", ids=ids)


@pytest.mark.parametrize(
    ("agent", "words"),
    [("codex", ["codex", "exec", "--yolo"]), ("claude", ["claude", "-p"]), ("opencode", ["opencode", "run"])],
)
def test_r003_an_agent_is_a_command_with_the_prompt_as_its_last_word(talk: Wire, agent: str, words: list[str]) -> None:
    prompt = ":"
    if agent != "codex":
        prompt = "$(id) `id` 'one' \"two\" *\n\\ --yolo; exit 3 größe\t"
        left = talk.call("job/result", id=asked(talk, prompt, agent)["id"])["result"]
        assert json.loads(left["stdout"]) == [*words, prompt], "no shell has seen it"
    assert ask(talk, prompt, agent)["argv"] == [*words, prompt]
    refused = talk.refused("job/start", agent="gemini", prompt="x")
    assert refused.code == -32602
    assert "known are claude, codex, opencode" in str(refused)


def test_r004_what_was_asked_is_on_disk_when_start_answers(agents: Home, talk: Wire) -> None:
    """Our file is jobs/ID/record and not ID.json, and `pid` is the agent's own from the first answer on."""
    job = ask(talk, "sleep 60")
    head, _ = record.decode(agents.record(job["id"]))
    assert (head.id.decode(), head.argv[-1]) == (job["id"], b"sleep 60")
    stat = read_stat(job["pid"])
    assert stat is not None
    assert (Path("/proc") / stat[1].decode() / "comm").read_text().startswith("jobbroker-"), "its parent watches it"
    assert talk.call("job/cancel", id=job["id"], graceMs=0)["job"]["pid"] == job["pid"]


def test_r005_a_job_is_written_down_before_it_is_begun(tmp_path: Path) -> None:
    home = standins.home(tmp_path, "[limits]\nmaxRunning = 1\n")
    home.start()
    try:
        wire = home.connect()
        first = ask(wire, "sleep 60")
        second = ask(wire, "echo ran")
        assert (second["status"], second["pid"]) == ("queued", None)
        assert letters(home, second) == []
        home.restart()  # by SIGKILL: all that is known now is what was written down
        wire = home.connect()
        assert wire.get(second["id"])["status"] == "queued"
        wire.call("job/cancel", id=first["id"], graceMs=0)
        assert wire.ended(second["id"])["status"] == "completed"
        assert letters(home, second) == [b"A", b"S", b"X"]
    finally:
        home.close()


def test_r006_an_agent_that_is_not_installed_is_a_failed_job(talk: Wire) -> None:
    job = ask(talk, "x", "claude", env={"PATH": "/usr/bin:/bin"})
    assert (job["status"], job["reason"], job["exitCode"]) == ("failed", "spawn", None)
    assert job["error"].startswith("exec: ENOENT: no such file or directory: 'claude'; install it: npm install -g ")
    assert "change argv in [agents.claude] of " in job["error"]
    assert TIME.fullmatch(job["completedAt"])
    assert talk.refused("job/result", id=job["id"]).code == -31003
    assert talk.call("job/output", id=job["id"])["data"] == ""


def test_r006_one_of_ones_own_says_what_its_settings_say(tmp_path: Path) -> None:
    settings = '[agents.mine]\nargv = ["no-such-agent"]\ninstall = "ask Ann"\n[agents.bare]\nargv = ["no-such-agent"]\n'
    home = standins.home(tmp_path, settings)
    home.start()
    try:
        wire = home.connect()
        where = f"change argv in [agents.mine] of {tmp_path}/config.toml"
        assert ask(wire, "x", "mine")["error"].endswith(f"'no-such-agent'; install it: ask Ann, or {where}")
        assert ask(wire, "x", "bare")["error"].endswith("'no-such-agent'; " + where.replace("mine", "bare"))
    finally:
        home.close()


NO_EXECUTABLE, NO_DIRECTORY, TOO_LONG, NO_PROGRAM = "EACCES", "cwd", "E2BIG", "ENOEXEC"
TO_A_FILE = "a prompt has less than 131072 bytes: put it into a file, and tell the agent to read that"


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (NO_EXECUTABLE, "exec: EACCES: permission denied: 'codex'; it is no program, or not executable: chmod +x"),
        (NO_DIRECTORY, "cwd: ENOENT: no such file or directory: '/no/such/place'"),
        (TOO_LONG, f"exec: E2BIG: argument list too long: 'codex'; {TO_A_FILE}"),
        (NO_PROGRAM, "exec: ENOEXEC: exec format error: 'codex'; a script needs a first line like #!/bin/sh"),
    ],
)  # fmt: skip
def test_r007_what_cannot_be_started_has_failed_and_says_why(talk: Wire, tmp_path: Path, what: str, error: str) -> None:
    params: dict[str, Any] = {}
    if what in (NO_EXECUTABLE, NO_PROGRAM):
        standins.program(tmp_path / "codex", "echo hello\n")
        (tmp_path / "codex").chmod(0o644 if what == NO_EXECUTABLE else 0o755)
        params["env"] = {"PATH": str(tmp_path)}
    if what == NO_DIRECTORY:
        params["cwd"] = "/no/such/place"
    job = ask(talk, "ü" * 65_536 if what == TOO_LONG else ":", **params)
    assert (job["status"], job["reason"], job["error"]) == ("failed", "spawn", error)
    assert TIME.fullmatch(job["completedAt"])


# --- completion -----------------------------------------------------------------------------------------------------


def test_r010_exit_0_is_completed_with_a_result(talk: Wire) -> None:
    """In the job `stdout` and `stderr` are sizes; the texts are in the result, and `client` is called `agent`."""
    job = asked(talk, "echo ok; echo err >&2")
    assert ends(job) == ("completed", "exit", 0, None)
    assert TIME.fullmatch(job["completedAt"])
    assert (job["stdout"]["size"], job["stderr"]["size"]) == (3, 4)
    result = talk.call("job/result", id=job["id"])["result"]
    assert result.pop("durationMs") == job["durationMs"] >= 0
    assert result == {
        "stdout": "ok\n", "stderr": "err\n", "exitCode": 0, "agent": "codex", "message": "ok", "truncated": False,
        "encoding": "utf-8",
    }  # fmt: skip


def test_r011_any_other_exit_has_failed(talk: Wire) -> None:
    """The exit code is in the job; there is no result, but what was written can be read."""
    job = asked(talk, "echo err >&2; exit 3")
    assert ends(job) == ("failed", "exit", 3, None)
    assert job["error"] == "exit status 3"
    assert talk.output(job["id"], stream="stderr") == "err\n"
    refused = talk.refused("job/result", id=job["id"])
    assert (refused.code, refused.data["exitCode"]) == (-31003, 3)


def test_r012_killed_by_a_signal_has_failed_with_its_name(talk: Wire) -> None:
    """There is no exit code then, and none is made up."""
    job = ask(talk, "sleep 60")
    os.kill(job["pid"], signal.SIGKILL)
    assert ends(talk.ended(job["id"])) == ("failed", "signal", None, "SIGKILL")


def test_r013_a_deadline_that_passes_is_timed_out(talk: Wire) -> None:
    """Without an exit code: it was ended by a signal, and -1 is what nobody exited with."""
    job = asked(talk, "sleep 60", timeoutMs=100)
    assert ends(job) == ("timed_out", "deadline", None, "SIGTERM")
    assert TIME.fullmatch(job["completedAt"])
    assert job["durationMs"] >= 100
    assert asked(talk, ":")["timeoutMs"] == 600_000
    assert asked(talk, ":", timeoutMs=0)["timeoutMs"] == 0
    assert talk.run("true")["timeoutMs"] == 0, "of a command there is none"


def test_r014_at_the_deadline_all_of_it_is_ended(talk: Wire) -> None:
    child = "sh -c 'trap \"\" TERM; echo $$ up; while :; do sleep 0.01; done' &"
    job = ask(talk, f"trap '' TERM; {child} setsid {child} wait; wait", timeoutMs=1500, graceMs=100)
    talk.until_output(job["id"], "up")
    ended = talk.ended(job["id"])
    assert ends(ended) == ("timed_out", "deadline", None, "SIGKILL")
    children = [int(line.split()[0]) for line in talk.output(job["id"]).splitlines()]
    assert len(children) == 2
    assert not any(map(alive, [job["pid"], *children]))


def test_r015_a_deadline_that_passes_after_the_end_changes_nothing(talk: Wire) -> None:
    before = asked(talk, ":", timeoutMs=100)
    assert asked(talk, "sleep 60", timeoutMs=200)["status"] == "timed_out", "so the other deadline has passed as well"
    assert talk.get(before["id"]) == before
    assert before["status"] == "completed"


def test_r016_the_first_end_counts_and_later_news_only_add_to_it(talk: Wire, gate: Bell) -> None:
    job = ask(talk, f"trap 'exit 3' TERM; echo up; while :; do read line <{gate.path}; done")
    talk.until_output(job["id"], "up")
    cancelled = talk.call("job/cancel", id=job["id"])["job"]
    assert ends(cancelled) == ("cancelled", "user", 3, None)
    assert talk.call("job/cancel", id=job["id"])["changed"] is False
    late = asked(talk, "sleep 60", timeoutMs=100)
    assert talk.call("job/cancel", id=late["id"])["job"] == late
    assert ends(late)[0] == "timed_out"


def test_r017_the_starter_does_not_matter(agents: Home, talk: Wire, gate: Bell, tmp_path: Path) -> None:
    cli = Cli(agents, tmp_path)
    starter = cli.begin("run", "-n", "left", "--agent", "codex", "--", f"echo up; read line <{gate.path}; echo done")
    assert starter.stdout is not None
    assert starter.stdout.readline() == "up\n"
    starter.kill()
    starter.communicate()
    assert talk.get("left")["status"] == "running"
    gate.ring()
    assert talk.ended("left")["status"] == "completed"
    assert talk.call("job/result", id="left")["result"]["message"] == "up\ndone"


def test_r018_what_was_written_is_kept_in_its_order(talk: Wire, gate: Bell) -> None:
    job = ask(talk, f"echo 1; echo a >&2; echo 2; echo b >&2; read line <{gate.path}; echo 3; echo c >&2")
    for stream, text in (("stdout", "1\n2\n"), ("stderr", "a\nb\n")):
        eventually(lambda: talk.output(job["id"], stream=stream) == text, "what it wrote can be read while it runs")  # noqa: B023  # called in this turn
    assert talk.get(job["id"])["status"] == "running"
    gate.ring()
    assert talk.ended(job["id"])["status"] == "completed"
    result = talk.call("job/result", id=job["id"])["result"]
    assert (result["stdout"], result["stderr"]) == ("1\n2\n3\n", "a\nb\nc\n")
