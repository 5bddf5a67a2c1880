"""Recordings of real backends, played behind the broker: a client sees what the client that was recorded saw.

What is different is what ought to be: ids are the client's own, the handshake is the broker's, and what nobody waits
for any more does not arrive.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import Failed, Home, Message, Wire
from replay_backend import token_of

RECORDINGS = Path(__file__).with_name("recordings")
PLAYER = Path(__file__).with_name("replay_backend.py")
QUIET = ["codex-approval", "codex-interrupt", "codex-parallel", "codex-race-started-before-response",
         "mcp-progress", "mcp-serverreq"]  # fmt: skip
KILLED = {"codex-kill-eof": (0, None), "codex-kill-sigkill": (None, "SIGKILL"), "mcp-kill-sigkill": (None, "SIGKILL")}


def steps(name: str) -> list[Message]:
    return [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]


def playing(new_home: Callable[..., Home], name: str) -> Home:
    """A broker whose backend plays that recording."""
    home = new_home()
    command = json.dumps([sys.executable, str(PLAYER), str(RECORDINGS / f"{name}.jsonl")])
    profile = name.partition("-")[0]
    wait = "" if name in KILLED else 'env = { WAIT = "1" }\n'
    (home.root / "config.toml").write_text(
        f'[instances.default.backend]\nprofile = "{profile}"\ncommand = {command}\n{wait}'
    )
    home.start()
    return home


class Client:
    """Says what the recorded client said, and sees whether it hears the same."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.pending: dict[str, Any] = {}  # ids, with their tokens
        self.asked: dict[str, Any] = {}  # questions: their ids in the recording, and here

    def play(self, recording: list[Message]) -> None:
        for step in recording:
            if ">" in step:
                self.say(step[">"])
            elif "<" in step:
                self.hear(step["<"])

    def say(self, message: Message) -> None:
        if "method" in message:
            self.wire.write(message)
            if "id" in message:
                self.pending[json.dumps(message["id"])] = token_of(message)
            elif message["method"] == "notifications/cancelled":
                self.pending.pop(json.dumps(message["params"]["requestId"]), None)
        elif json.dumps(message["id"]) in self.asked:
            self.wire.write({**message, "id": self.asked[json.dumps(message["id"])]})

    def hear(self, expected: Message) -> None:
        params = expected.get("params", {})
        if "method" not in expected:
            del self.pending[json.dumps(expected["id"])]
        elif "progressToken" in params and params["progressToken"] not in self.pending.values():
            return  # nobody waits for that any more
        elif "id" in expected:
            if not self.pending and "threadId" not in params:
                return  # it concerns nobody: the broker answers
            read = self.wire.read()
            self.asked[json.dumps(expected["id"])] = read["id"]
            assert {**read, "id": expected["id"]} == {"jsonrpc": "2.0", **expected}
            return
        elif expected["method"] == "serverRequest/resolved":
            known = self.asked[json.dumps(params["requestId"])]
            expected = {**expected, "params": {**params, "requestId": known}}
        assert self.wire.read() == {"jsonrpc": "2.0", **expected}


@pytest.mark.parametrize("name", QUIET)
def test_rule_02_rule_05_rule_07_a_client_sees_what_the_recorded_one_saw(
    new_home: Callable[..., Home], name: str
) -> None:
    client = Client(playing(new_home, name).connect())
    client.play(steps(name))
    assert client.wire.call("broker/ping")["instance"] == "default"
    assert client.wire.notes == []


@pytest.mark.parametrize("name", KILLED)
def test_rule_13_what_was_under_way_when_it_was_killed_is_answered(new_home: Callable[..., Home], name: str) -> None:
    home = playing(new_home, name)
    client = Client(home.connect())
    client.play(steps(name))
    assert client.pending
    for identity in client.pending:
        with pytest.raises(Failed) as caught:
            client.wire.answer(json.loads(identity))
        assert caught.value.kind == "backend_gone"
    notice = client.wire.note("notifications/broker/shuttingDown")
    assert (notice["exitCode"], notice["signal"]) == KILLED[name]
    assert home.wait() == 1


def test_rule_06_r085_the_recorded_race_as_a_turn(new_home: Callable[..., Home]) -> None:
    name = "codex-race-started-before-response"
    wire = playing(new_home, name).connect()
    (request,) = [step[">"] for step in steps(name) if step.get(">", {}).get("method") == "turn/start"]
    job = wire.ended(wire.call("job/start", method="turn/start", params=request["params"])["job"]["id"])
    assert job["status"] == "failed"
    assert "high demand" in job["error"]
    told = [json.loads(line)["method"] for line in wire.output(job["id"], stream="stderr").splitlines()]
    assert told == ["item/started", "item/completed", "error"]


@pytest.mark.parametrize("name", ["codex-kill-eof", "codex-kill-sigkill"])
def test_r083_a_turn_in_the_middle_of_which_it_was_killed_has_failed(new_home: Callable[..., Home], name: str) -> None:
    home = playing(new_home, name)
    wire = home.connect()
    of = {step[">"]["method"]: step[">"]["params"] for step in steps(name) if step.get(">", {}).get("params")}
    wire.call("thread/start", **of["thread/start"])
    job = wire.call("job/start", method="turn/start", params=of["turn/start"])["job"]["id"]
    wire.send("command/exec", **of["command/exec"])
    assert wire.note("notifications/broker/shuttingDown")["lostJobs"] == [job]
    assert home.wait() == 1
    home.start()
    lost = home.connect().get(job)
    assert (lost["status"], lost["reason"]) == ("failed", "backend_exit")
