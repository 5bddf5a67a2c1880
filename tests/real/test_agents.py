"""Real agents as jobs: Claude Code, Codex and opencode, talking to a model of our own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from harness import PATIENCE, Home, alive, eventually
from jobbroker.tree import descendants
from jobctl import Cli
from real import programs
from real.model import HOLD, RUN, Model

pytestmark = pytest.mark.slow
each = pytest.mark.parametrize("agent", ["claude", "codex", "opencode"])

SETTINGS = """
[agents.claude-json]
argv = ["claude", "-p", "--output-format", "json", "{prompt}"]
result = "json:result"
[agents.codex-json]
argv = ["codex", "exec", "--json", "--yolo", "{prompt}"]
result = "json:item.text"
[agents.opencode-json]
argv = ["opencode", "run", "--format", "json", "{prompt}"]
result = "json:part.text"
"""


@pytest.fixture(scope="module")
def installed() -> Path:
    return programs.install()


@pytest.fixture
def model() -> Generator[Model]:
    with Model() as model:
        yield model


@pytest.fixture
def cli(installed: Path, model: Model, new_home: Callable[..., Home], tmp_path: Path) -> Generator[Cli]:
    """`jobctl` where the agents are on PATH and know no other model."""
    environ = programs.settle(tmp_path / "theirs", model.port)
    home = new_home(**environ, PATH=f"{installed}:{programs.NODE}:{os.environ['PATH']}")
    (home.root / "config.toml").write_text(SETTINGS)
    work = tmp_path / "work"
    work.mkdir()
    made = Cli(home, work)
    yield made
    made.ok("broker", "stop", "--jobs", "cancel")


def ask(cli: Cli, agent: str, prompt: str) -> str:
    return cli.start("--agent", agent, "--", prompt)


def answer(cli: Cli, job: str) -> str:
    """What `jobctl result` prints, once the job has completed."""
    said, complaint = cli.begin("wait", job).communicate(timeout=10 * PATIENCE)
    assert "completed after" in said, (said, complaint, cli("output", job))
    return cli.ok("result", job)


def heard(agent: str, prompt: str) -> str:
    """A prompt as the model hears it: opencode joins its words again, and quotes those that hold spaces."""
    if not agent.startswith("opencode") or " " not in prompt:
        return prompt
    return '"' + prompt.replace('"', '\\"') + '"'


def tree(cli: Cli, job: str) -> list[int]:
    """The processes of a job, itself among them."""
    pid: int = cli.json("status", "--json", job)["job"]["pid"]
    return [pid, *descendants(pid)]


def runs(pids: list[int], word: str) -> bool:
    """Whether one of the processes has that word on its command line."""
    return any(word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in pids if alive(pid))


@each
@pytest.mark.parametrize("prompt", ["fix", "fix the 'flaky' \"$(test)\"; `now`\n  größer \\ *", "-p is no option"])
def test_a_prompt_arrives_as_it_was_typed_and_the_answer_comes_back(
    cli: Cli, model: Model, agent: str, prompt: str
) -> None:
    job = ask(cli, agent, prompt)
    assert answer(cli, job).strip() == f"You said: {heard(agent, prompt)}"
    assert model.prompts == [heard(agent, prompt)]
    assert cli.json("status", "--json", job)["job"]["timeoutMs"] == 600_000


@each
def test_the_answer_is_found_among_events(cli: Cli, agent: str) -> None:
    job = ask(cli, f"{agent}-json", "fix it")
    assert answer(cli, job) == f"You said: {heard(agent, 'fix it')}\n"
    assert all(json.loads(line) for line in cli.ok("output", "--stream", "out", job).splitlines())


@each
def test_cancelled_in_the_middle_of_an_answer_nothing_of_it_is_left(cli: Cli, model: Model, agent: str) -> None:
    job = ask(cli, agent, f"{HOLD}fix it")
    assert model.begun.wait(10 * PATIENCE)
    pids = tree(cli, job)
    assert runs(pids, HOLD + "fix it")
    assert "cancelled" in cli.ok("cancel", job)
    assert not any(map(alive, pids))
    assert cli("result", job).returncode == 4


@each
def test_nor_of_the_commands_it_runs(cli: Cli, agent: str) -> None:
    job = ask(cli, agent, f"{RUN}tail -s 97531 -f /dev/null")
    eventually(lambda: runs(tree(cli, job), "97531"), "the agent runs the command it was told to")
    pids = tree(cli, job)
    assert "cancelled" in cli.ok("cancel", job)
    assert not any(map(alive, pids))


@each
def test_it_survives_the_broker(cli: Cli, model: Model, agent: str) -> None:
    job = ask(cli, agent, f"{HOLD}fix it")
    assert model.begun.wait(10 * PATIENCE)
    broker = cli.broker()
    os.kill(broker, signal.SIGKILL)
    eventually(lambda: not alive(broker), "the broker is dead")
    model.go.set()
    assert answer(cli, job).strip() == f"You said: {heard(agent, HOLD + 'fix it')}"
    assert cli.broker() != broker
