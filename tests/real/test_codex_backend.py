"""Codex' app server behind the broker: two clients, parallel turns, permissions, cancels, its death and the next one.

`make test-backends` runs this. The model it talks to is on loopback.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from harness import Failed, Home, Message, Wire, alive, eventually
from jobbroker.tree import descendants
from jobctl import Cli
from real import programs
from real.asking_model import ASK, AskingModel
from real.model import HOLD

pytestmark = pytest.mark.slow

APPROVAL = "item/commandExecution/requestApproval"


@pytest.fixture(scope="module")
def installed() -> Path:
    return programs.install()


@pytest.fixture
def model() -> Generator[AskingModel]:
    with AskingModel() as model:
        yield model


@pytest.fixture
def home(installed: Path, model: AskingModel, new_home: Callable[..., Home], tmp_path: Path) -> Home:
    """A home where codex is on PATH and knows no other model, and its backend is codex."""
    environ = programs.settle(tmp_path / "theirs", model.port)
    made = new_home(**environ, PATH=f"{installed}:{programs.NODE}:{os.environ['PATH']}")
    made.start("--backend", "codex")
    return made


@pytest.fixture
def two(home: Home) -> tuple[Wire, Wire]:
    """Two clients that greet it as they would greet codex itself."""
    one, other = home.connect(), home.connect()
    for wire in (one, other):
        hello = wire.call("initialize", clientInfo={"name": "test", "title": "Test", "version": "0"}, capabilities=None)
        assert "codex" in hello["codexHome"]
        wire.write({"method": "initialized"})
    return one, other


def thread(wire: Wire, home: Home) -> str:
    identity: str = wire.call("thread/start", cwd=str(home.root))["thread"]["id"]
    return identity


def says(text: str, of: str) -> Message:
    return {"threadId": of, "input": [{"type": "text", "text": text}]}


def start_turn(wire: Wire, of: str, text: str) -> str:
    """Ask as a client of codex does; the turn's own id."""
    identity: str = wire.call("turn/start", **says(text, of))["turn"]["id"]
    return identity


def start_job(wire: Wire, of: str, text: str, **more: object) -> str:
    """The same as a job."""
    identity: str = wire.call("job/start", method="turn/start", params=says(text, of), **more)["job"]["id"]
    return identity


def until(wire: Wire, method: str, of: str) -> tuple[Message, list[Message]]:
    """The next message of that method about that thread, and what came before it."""
    before: list[Message] = []
    while True:
        message = wire.notes.pop(0) if wire.notes else wire.read()
        if message.get("method") == method and message["params"].get("threadId") == of:
            return message, before
        before.append(message)


def spoken_of(messages: list[Message]) -> set[str]:
    """The threads whose items somebody was told of."""
    return {message["params"]["threadId"] for message in messages if str(message.get("method", "")).startswith("item/")}


def test_two_clients_at_once(home: Home, two: tuple[Wire, Wire], model: AskingModel) -> None:
    threads = [thread(wire, home) for wire in two]
    turns = [
        start_turn(wire, of, f"{HOLD}{number}") for number, (wire, of) in enumerate(zip(two, threads, strict=True))
    ]
    eventually(lambda: len(model.prompts) == 2, "the model is asked by both, before either is answered")
    assert "data" in two[0].call("model/list"), "nobody is busy meanwhile"
    model.go.set()
    for number, (wire, of) in enumerate(zip(two, threads, strict=True)):
        end, before = until(wire, "turn/completed", of)
        assert (end["params"]["turn"]["id"], end["params"]["turn"]["status"]) == (turns[number], "completed")
        assert spoken_of(before) == {of}, "each hears of its own"
        deltas = [each["params"]["delta"] for each in before if each.get("method") == "item/agentMessage/delta"]
        assert "".join(deltas) == f"You said: {HOLD}{number}"


def test_who_is_asked_for_a_permission(home: Home, two: tuple[Wire, Wire]) -> None:
    threads = [thread(wire, home) for wire in two]
    for wire, of in zip(two, threads, strict=True):
        start_turn(wire, of, f"{ASK}echo permitted")
    for wire, of, decision in zip(two, threads, ("accept", "decline"), strict=True):
        asked, _ = until(wire, APPROVAL, of)
        assert "echo permitted" in asked["params"]["command"]
        wire.write({"id": asked["id"], "result": {"decision": decision}})
        settled, _ = until(wire, "serverRequest/resolved", of)
        assert settled["params"]["requestId"] == asked["id"], "the id by which this client knows it"
    for wire, of, status in zip(two, threads, ("completed", "declined"), strict=True):
        _, before = until(wire, "turn/completed", of)
        items = [each["params"]["item"] for each in before if each.get("method") == "item/completed"]
        assert [item["status"] for item in items if item["type"] == "commandExecution"] == [status]


def test_a_turn_nobody_attends_is_not_allowed_what_it_wants(home: Home, two: tuple[Wire, Wire]) -> None:
    one, other = two
    of = thread(one, home)
    one.close()
    job = start_job(other, of, f"{ASK}touch {home.root}/wanted")
    assert other.ended(job)["status"] == "completed"
    assert not (home.root / "wanted").exists()
    assert '"status":"declined"' in other.output(job, stream="stderr")


def test_a_turn_is_a_job(home: Home, two: tuple[Wire, Wire], model: AskingModel) -> None:
    one, other = two
    of = thread(one, home)
    job = start_job(one, of, f"{HOLD}on", name="held")
    model.begun.wait()
    other.until_output(job, "item/agentMessage/delta")
    assert other.refused("job/start", method="turn/start", params=says("x", of)).data["job"] == job
    assert other.refused("turn/start", **says("x", of)).kind == "busy"
    model.go.set()
    assert other.ended(job)["status"] == "completed"
    assert other.output(job, stream="stdout") == f"You said: {HOLD}on"
    texts = [json.loads(line)["method"] for line in other.output(job, stream="stderr").splitlines()]
    assert {"item/started", "item/agentMessage/delta", "item/completed"} == set(texts)
    home.restart()
    wire = home.connect()
    assert wire.output("held", stream="stdout") == f"You said: {HOLD}on"


def test_cancels(home: Home, two: tuple[Wire, Wire], model: AskingModel) -> None:
    one, other = two
    of = thread(one, home)
    job = start_job(one, of, f"{HOLD}job")
    model.begun.wait()
    assert other.call("job/cancel", id=job)["job"]["status"] == "cancelled"
    end, _ = until(one, "turn/completed", of)
    assert end["params"]["turn"]["status"] == "interrupted"
    turn = start_turn(one, of, f"{HOLD}turn")
    eventually(lambda: len(model.prompts) == 2, "it is on its way")
    one.call("turn/interrupt", threadId=of, turnId=turn)
    end, _ = until(one, "turn/completed", of)
    assert (end["params"]["turn"]["id"], end["params"]["turn"]["status"]) == (turn, "interrupted")
    with pytest.raises(Failed) as caught:
        one.call("turn/interrupt", threadId=of, turnId=turn)
    assert caught.value.code == -32600, "codex' own words"
    early = start_job(other, of, f"{HOLD}early")
    assert other.call("job/cancel", id=early)["job"]["status"] == "cancelled"
    later = start_job(other, of, "later")
    assert other.ended(later)["status"] == "completed"


def test_killed_in_the_middle_of_a_turn(home: Home, two: tuple[Wire, Wire], tmp_path: Path) -> None:
    one, other = two
    listening = home.connect()
    of = thread(one, home)
    job = start_job(other, of, f"{ASK}setsid sleep 1000 & echo $! > {tmp_path}/pid; wait")
    asked, _ = until(one, APPROVAL, of)
    one.write({"id": asked["id"], "result": {"decision": "accept"}})
    eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), "the command runs")
    command = other.start("sleep", "1000")
    codex = other.call("backend/status")["backend"]["pid"]
    tree = [codex, *descendants(codex), int((tmp_path / "pid").read_text())]
    os.kill(codex, signal.SIGKILL)
    for wire in (one, other, listening):
        notice = wire.note("notifications/broker/shuttingDown")
        assert (notice["reason"], notice["signal"], notice["lostJobs"]) == ("backend_exit", "SIGKILL", [job])
    assert home.wait() == 1
    assert [pid for pid in tree if alive(pid)] == []
    work = tmp_path / "work"
    work.mkdir()
    cli = Cli(home, work)
    listed = {line.split()[0]: line for line in cli.ok("list", "-a").splitlines()}
    assert "failed" in listed[job]
    assert "running" in listed[command["id"]]
    wire = home.connect()
    assert wire.call("backend/status")["backend"]["profile"] == "codex", "as it was told the first time"
    resumed = wire.call("thread/resume", threadId=of)["thread"]
    assert resumed["id"] == of
    assert wire.ended(start_job(wire, of, "hello again"))["status"] == "completed"
    cli.ok("broker", "stop", "--jobs", "cancel")
