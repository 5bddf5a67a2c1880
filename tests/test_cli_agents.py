"""`jobctl` and agents: started by name, shown by what they were asked, their answer printed."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

import standins
from jobctl import Cli

FLAKY = "echo fixed; echo warn >&2"


@pytest.fixture
def cli(tmp_path: Path) -> Generator[Cli]:
    work = tmp_path / "work"
    work.mkdir()
    made = Cli(standins.home(tmp_path, '[agents.field]\nargv = ["codex"]\nresult = "json:a"\n'), work)
    yield made
    made.ok("broker", "stop", "--jobs", "cancel")


def test_an_agent_from_start_to_answer(cli: Cli) -> None:
    identity, name, word = cli.ok("start", "-n", "flaky", "--agent", "codex", "--", FLAKY).split()
    assert (name, word) == ("flaky", "started")
    assert cli("wait", "flaky").returncode == 0
    assert cli.ok("result", "flaky") == "fixed\n"
    answer = cli.json("result", "--json", "flaky")
    assert (answer["job"]["id"], answer["result"]["message"]) == (identity, "fixed")
    assert answer["job"]["argv"] == ["codex", "exec", "--yolo", FLAKY]
    assert (answer["job"]["merged"], answer["result"]["stderr"]) == (False, "warn\n")


def test_run_shows_both_streams_apart(cli: Cli) -> None:
    done = cli("run", "--agent", "codex", FLAKY + "; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "fixed\n", "warn\n")
    assert cli("run", "--agent", "claude", "-e", "PATH=/usr/bin:/bin", "x").returncode == 127


def test_what_agents_were_asked_is_what_is_shown(cli: Cli) -> None:
    prompt = "echo 'it is\n\n  fixed'\x1b"
    agent, command = cli.start("--agent", "codex", "--", prompt), cli.start("true")
    cli("wait", agent, command)
    rows = {line.split()[0]: line for line in cli.ok("list").splitlines()}
    assert rows[agent].endswith("codex: echo 'it is fixed'\\x1b")
    long = cli.start("--agent", "codex", "--", ": " + "word " * 1000)
    shown = cli.ok("list").splitlines()[1].partition("codex: ")[2]
    assert (len(shown), shown[:10], shown[-6:]) == (203, ": word wor", "wor...")
    shown = cli.ok("status", agent)
    assert "agent      codex\n" in shown
    assert "prompt     echo 'it is\\n\\n  fixed'\\x1b\n" in shown
    assert "command    codex exec --yolo PROMPT\n" in shown
    assert "limits     time 10m00s" in shown
    assert set(cli.ok("list", "--kind", "agent", "-q").split()) == {agent, long}
    assert cli.ok("list", "--kind", "command", "-q").split() == [command]
    assert cli("list", "--kind", "turns").returncode == 2


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["codex", "--", "fix", "the", "test"], "so quote it: jobctl start --agent codex -- 'fix the test'"),
        (["codex"], "say what codex is to do: jobctl start --agent codex -- 'fix the flaky test'"),
        (["codex", "--sh", "x"], "either --agent or --sh"),
    ],
)
def test_a_prompt_is_one_word(cli: Cli, words: list[str], hint: str) -> None:
    done = cli("start", "--agent", *words)
    assert done.returncode == 2
    assert hint in done.stderr


def test_a_prompt_that_is_no_text(cli: Cli) -> None:
    done = cli.popen([b"start", b"--agent", b"codex", b"caf\xe9"], {})(None)
    assert (done.returncode, "the prompt is not UTF-8" in done.stderr) == (2, True)


def test_an_agent_nobody_knows(cli: Cli) -> None:
    done = cli("start", "--agent", "codx", "x")
    assert done.returncode == 1
    assert done.stderr == (
        "jobctl: no agent 'codx'; known are claude, codex, field, opencode; add it to [agents.codx] of "
        f"{cli.home.root}/config.toml\n"
    )


def test_an_agent_that_left_no_message(cli: Cli) -> None:
    job = cli.start("--agent", "field", "echo nothing")
    cli("wait", job)
    done = cli("result", job)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"jobctl: {job} left no message  -> jobctl output {job}\n"
    assert cli("result", job, "--exit").returncode == 1
    assert cli.json("result", "--json", job)["result"]["message"] is None


def test_the_end_of_a_long_answer(cli: Cli) -> None:
    job = cli.start("--agent", "codex", "--", "head -c 2000000 /dev/zero | tr '\\0' x")
    cli("wait", job)
    done = cli("result", job)
    assert done.stdout == "x" * (1 << 20) + "\n"
    assert f"only the end of the output is shown  -> jobctl output {job}" in done.stderr


def test_the_time_limit_of_the_environment(cli: Cli) -> None:
    cli.ok("start", "--agent", "codex", ":", JOBBROKER_JOB_TIMEOUT_MS="5000")
    assert cli.json("status", "--json", "@")["job"]["timeoutMs"] == 5000
    cli.ok("start", "--agent", "codex", "--timeout", "0", ":", JOBBROKER_JOB_TIMEOUT_MS="5000")
    assert json.loads(cli.ok("list", "--json"))["jobs"][0]["timeoutMs"] == 0
