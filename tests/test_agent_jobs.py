"""Agents as jobs: what is refused, where settings come in, and what the last message is."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

import standins
from driver import Bell
from harness import Home, Wire
from jobclient import Client
from standins import ask, asked

SETTINGS = """
[agents.json]
argv = ["codex"]
result = "json"
[agents.field]
argv = ["codex"]
result = "json:item.text"
timeout = "90s"
[agents.opencode]
timeout = 0
[agents.middle]
argv = ["claude", "--ask", "{prompt}", "--quietly"]
doubleDash = true
[agents.careful]
argv = ["claude"]
[agents.wrong]
argv = "claude"
"""


@pytest.fixture
def own(tmp_path: Path) -> Generator[Home]:
    home = standins.home(tmp_path, SETTINGS)
    home.start()
    yield home
    home.close()


@pytest.fixture
def wire(own: Home) -> Wire:
    return own.connect()


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({}, "`argv` is missing: name the program to run, or give `agent` and `prompt`"),
        ({"argv": []}, "`argv` is empty"),
        ({"agent": "codex", "prompt": "x", "argv": ["true"]}, "give either `argv` or `agent` and `prompt`"),
        ({"agent": "codex", "prompt": "x", "argv": []}, "give either `argv` or `agent` and `prompt`"),
        ({"agent": "codex"}, "`prompt` is missing"),
        ({"agent": "codex", "prompt": ""}, "`prompt` is empty"),
        ({"agent": "codex", "prompt": " \n"}, "`prompt` is empty"),
        ({"agent": "codex", "prompt": "a\0b"}, "`prompt` holds a NUL"),
        ({"prompt": "x"}, "`prompt` is for an agent"),
        ({"prompt": "x", "argv": ["true"]}, "`prompt` is for an agent"),
        ({"kind": "agent", "argv": ["true"]}, "`agent` is missing"),
        ({"kind": "agent", "prompt": "x"}, "`agent` is missing"),
        ({"kind": "command", "agent": "codex", "prompt": "x"}, "`kind` `command` runs `argv`"),
        ({"kind": "magic", "argv": ["true"]}, "`kind` 'magic' is not known to this broker"),
        ({"agent": "Codex", "prompt": "x"}, "no agent 'Codex'; known are claude, codex, opencode; add it to [agents."),
        ({"agent": "", "prompt": "x"}, "no agent ''"),
        ({"agent": "codex", "prompt": {"base64": "eA=="}}, "prompt"),
        ({"agent": ["codex"], "prompt": "x"}, "agent"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(talk: Wire, params: dict[str, object], complaint: str) -> None:
    refused = talk.refused("job/start", **params)
    assert refused.code == -32602
    assert complaint in str(refused)


def test_a_prompt_of_a_megabyte_is_a_job_that_failed_a_longer_one_is_none(talk: Wire) -> None:
    job = ask(talk, "x" * (1 << 20))
    assert (job["status"], job["reason"]) == ("failed", "spawn")
    assert talk.get(job["id"])["prompt"] == job["prompt"]
    refused = talk.refused("job/start", agent="codex", prompt="x" * ((1 << 20) + 1))
    assert (refused.code, refused.kind) == (-31013, "too_large")
    assert "put it into a file" in str(refused)


def test_the_kind_may_be_said(talk: Wire) -> None:
    assert asked(talk, ":", kind="agent")["kind"] == asked(talk, ":")["kind"] == "agent"
    job = talk.run("true", kind="command")
    assert (job["kind"], job["agent"], job["prompt"]) == ("command", None, None)


def test_one_key_one_agent(talk: Wire) -> None:
    first = ask(talk, ":", idempotencyKey="once")
    assert talk.call("job/start", agent="codex", prompt=":", idempotencyKey="once")["job"]["id"] == first["id"]
    assert talk.refused("job/start", agent="codex", prompt="true", idempotencyKey="once").code == -32602
    talk.ended(first["id"])


# --- settings -------------------------------------------------------------------------------------------------------


def test_the_settings_say_how_an_agent_is_run(own: Home, wire: Wire) -> None:
    job = asked(wire, "--help", "middle")
    assert job["argv"] == ["claude", "--ask", "--quietly", "--", "--help"]
    assert json.loads(wire.output(job["id"])) == job["argv"]
    refused = wire.refused("job/start", agent="careful", prompt="--help")
    assert "`prompt` begins with `-`" in str(refused)
    assert f"([agents.careful] of {own.root}/config.toml)" in str(refused)
    assert asked(wire, " --help", "careful")["argv"] == ["claude", " --help"]
    assert "known are careful, claude, codex, field, json, middle, opencode" in str(
        wire.refused("job/start", agent="wrong", prompt="x")
    )
    (warned,) = wire.call("broker/status")["warnings"]
    assert "agents.wrong.argv = 'claude' is ignored" in warned


@pytest.mark.parametrize(
    ("agent", "params", "limit"),
    [
        ("codex", {}, 600_000),
        ("field", {}, 90_000),
        ("opencode", {}, 0),
        ("field", {"timeoutMs": 5000}, 5000),
        ("field", {"timeoutMs": 0}, 0),
    ],
)
def test_the_time_limit_is_the_requests_or_the_settings(
    wire: Wire, agent: str, params: dict[str, object], limit: int
) -> None:
    assert asked(wire, ":", agent, **params)["timeoutMs"] == limit


def test_the_environment_of_the_client_comes_between(own: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in own.environ.items():
        monkeypatch.setenv(name, value)
    with Client() as client:
        assert client.start_agent("field", ":").job.timeout_ms == 90_000
        monkeypatch.setenv("JOBBROKER_JOB_TIMEOUT_MS", "7000")
        assert client.start_agent("field", ":").job.timeout_ms == 7000
        assert client.start_agent("field", ":", timeout_ms=0, name="last").job.timeout_ms == 0
        monkeypatch.setenv("JOBBROKER_JOB_TIMEOUT_MS", "soon")
        with pytest.warns(UserWarning, match="the default stays"):
            job = client.start_agent("field", 'echo \'{"item":{"text":"hi"}}\'').job
        assert job.timeout_ms == 90_000
        client.wait(all=True)
        assert client.result(job.id).result.message == "hi"


# --- the last message -----------------------------------------------------------------------------------------------

LINES = """printf '%s\\n' '{"item":{"text":"one"}}' noise '{"item":{"text":"two"}}' '{"usage":3}'"""


@pytest.mark.parametrize(
    ("agent", "prompt", "message"),
    [
        ("json", LINES, '{"usage":3}'),
        ("field", LINES, "two"),
        ("field", "echo nothing of the kind", None),
        ("codex", "echo one; echo two; echo; echo three >&2", "one\ntwo"),
        ("codex", ":", None),
        ("codex", "printf 'caf\\351\\0'", "caf\ufffd\ufffd"),
    ],
)
def test_the_last_message_is_where_the_settings_say(wire: Wire, agent: str, prompt: str, message: str | None) -> None:
    assert wire.call("job/result", id=asked(wire, prompt, agent)["id"])["result"]["message"] == message


def test_a_command_has_no_message(talk: Wire) -> None:
    result = talk.call("job/result", id=talk.run("echo", "hi")["id"])["result"]
    assert (result["stdout"], result["agent"], result["message"]) == ("hi\n", None, None)


def test_only_the_end_of_the_output_is_looked_at(wire: Wire) -> None:
    line = '{"item":{"text":"x"}}'
    padding = f"{sys.executable} -c 'print((\"y\" * 99 + chr(10)) * 11000)'"  # a little over 1 MiB
    far = wire.call("job/result", id=asked(wire, f"echo '{line}'; {padding}", "field")["id"])["result"]
    assert (far["message"], far["truncated"]) == (None, True)
    near = wire.call("job/result", id=asked(wire, f"{padding}; echo '{line}'", "field")["id"])["result"]
    assert (near["message"], near["truncated"]) == ("x", True)
    fits = f"printf %s 'half a line'; echo '{line}'; head -c {(1 << 20) - len(line) - 1} /dev/zero | tr '\\0' y"
    half = wire.call("job/result", id=asked(wire, fits, "field")["id"])["result"]
    assert half["stdout"].startswith(line), "as if it were a line of its own"
    assert half["message"] is None


def test_the_settings_of_the_start_count(own: Home, wire: Wire, gate: Bell) -> None:
    done = asked(wire, LINES, "field")["id"]
    live = ask(wire, f"read line <{gate.path}; {LINES}", "field")["id"]
    (own.root / "config.toml").write_text('[agents.field]\nargv = ["codex"]\nresult = "json"\n')
    own.restart()
    wire = own.connect()
    gate.ring()
    wire.ended(live)
    new = asked(wire, LINES, "field")["id"]
    messages = [wire.call("job/result", id=job)["result"]["message"] for job in (done, live, new)]
    assert messages == ["two", "two", '{"usage":3}']


def test_and_are_kept_where_the_store_is_lost(own: Home, wire: Wire) -> None:
    job = asked(wire, LINES, "field")
    wire.call("broker/shutdown", mode="keepJobs")
    own.wait()
    for path in own.state.glob("store.db*"):
        path.unlink()
    own.start()
    wire = own.connect()
    assert {**wire.get(job["id"]), "rev": 0} == {**job, "rev": 0}
    assert wire.call("job/result", id=job["id"])["result"]["message"] == "two"
