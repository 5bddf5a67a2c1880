"""`jobctl backend ...` and `jobbrokerd --backend`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from backends import FAKE, with_backend
from harness import PATIENCE, Home, eventually
from jobctl import Cli


@pytest.fixture
def fronting(cli: Cli) -> Cli:
    with_backend(cli.home, "generic")
    return cli


def test_profiles_are_listed_and_printed(fronting: Cli) -> None:
    listed = fronting.ok("backend", "list").splitlines()
    assert [line.split()[:2] for line in listed if line.startswith("*")] == [["*", "generic"]]
    assert {"codex", "lsp", "mcp"} <= {line.split()[0] for line in listed}
    assert 'start = "turn/start"' in fronting.ok("backend", "show", "codex")
    assert fronting("backend", "show", "nope").returncode == 1
    assert fronting.json("backend", "list", "--json")["profiles"]


def test_a_profile_with_a_mistake_is_shown_as_such(fronting: Cli) -> None:
    own = fronting.home.root / "profiles"
    own.mkdir()
    (own / "mine.toml").write_text("[backend]\ncomand = 1\n")
    assert "line 2: 'backend.comand' is unknown; did you mean command?" in fronting.ok("backend", "list")
    assert fronting("backend", "show", "mine").returncode == 1


def test_the_backend_is_shown_and_tested(fronting: Cli) -> None:
    assert "backend generic: down" in fronting.ok("backend", "show")
    assert FAKE in fronting.ok("backend", "show")
    said = fronting.ok("backend", "test")
    assert "backend generic: up" in said
    assert "an error, which will do: no method broker/ping" in said
    assert "an answer" in fronting.ok("backend", "test", "echo")
    assert fronting.json("backend", "show", "--json")["backend"]["state"] == "up"
    assert "backend generic: up" in fronting.ok("broker", "status")


def test_rule_15_one_that_is_hung_is_shown_as_such(cli: Cli) -> None:
    more = "[instances.default.backend.probe]\nidle = 0.2\nwait = 0.1\nmisses = 2\nwhile_busy = true\n"
    with_backend(cli.home, "generic", more=more)
    cli.ok("backend", "test")
    wire = cli.home.connect()
    backend = wire.call("backend/status")["backend"]["pid"]
    os.kill(backend, signal.SIGSTOP)
    waits = wire.send("echo", a=1)
    eventually(lambda: "backend generic: hung" in cli.ok("broker", "status"), "the hang is seen")
    assert f"hung, process {backend}, silent for" in cli.ok("backend", "show")
    os.kill(backend, signal.SIGCONT)
    assert wire.answer(waits) == {"a": 1}
    assert "backend generic: up" in cli.ok("backend", "show")


def test_one_that_does_not_start_is_a_failure(cli: Cli) -> None:
    (cli.home.root / "config.toml").write_text('[instances.default.backend]\ncommand = ["/nonexistent/x"]\n')
    done = cli("backend", "test")
    assert (done.returncode, "no such file" in done.stderr) == (1, True)
    assert "before   it could not be started" in cli.ok("backend", "show")


def test_without_a_backend_it_is_said_how_to_get_one(cli: Cli) -> None:
    assert "--backend PROFILE" in cli.ok("backend", "show")
    assert "no backend" in cli("backend", "test").stderr


def test_turns_are_in_the_list_by_their_method(fronting: Cli) -> None:
    fronting.ok("backend", "test")
    wire = fronting.home.connect()
    job = wire.call("job/start", method="echo", params={"a": 1})["job"]["id"]
    wire.ended(job)
    assert "echo" in fronting.ok("list", "-a")
    assert fronting.ok("output", job) == '{"a":1}'
    assert fronting("wait", job).returncode == 0
    assert "echo" in fronting.ok("status", job)


def test_the_next_call_starts_everything_again_and_shows_what_was_lost(fronting: Cli) -> None:
    wire = fronting.home
    fronting.ok("backend", "test")
    one = wire.connect()
    job = one.call("job/start", method="silent", name="turn")["job"]["id"]
    command = fronting.start("-n", "command", "--", "sleep", "1000")
    one.write({"id": "x", "method": "die", "params": {"code": 1}})
    one.note("notifications/broker/shuttingDown")
    shown = {line.split()[0]: line for line in fronting.ok("list", "-a").splitlines()}
    assert "failed" in shown[job]
    assert "running" in shown[command]
    assert "up" in fronting.ok("backend", "test")


def test_r080_twenty_calls_around_its_death_are_all_served(fronting: Cli) -> None:
    fronting.ok("backend", "test")
    wire = fronting.home.connect()
    job = wire.call("job/start", method="silent")["job"]["id"]
    calls = [fronting.begin("list", "-a", "--json") for _ in range(10)]
    wire.write({"id": "x", "method": "die", "params": {"signal": "SIGKILL"}})
    calls += [fronting.begin("list", "-a", "--json") for _ in range(10)]
    assert wire.note("notifications/broker/shuttingDown")["lostJobs"] == [job]
    for call in calls:
        said, complaint = call.communicate(timeout=2 * PATIENCE)
        assert call.returncode == 0, complaint
        assert [each["id"] for each in json.loads(said)["jobs"]] == [job]
    log = (fronting.home.state / "broker.log").read_text()
    assert log.count("listening: ") == 2, "one that died, and one for all"


def test_the_next_call_starts_the_same_profile_for_the_same_instance(cli: Cli) -> None:
    home = Home(cli.home.root, "tools")
    own = home.root / "profiles"
    own.mkdir()
    (own / "mine.toml").write_text(f'[backend]\ncommand = ["{sys.executable}", "{FAKE}"]\n')
    home.start("--backend", "mine")
    before = home.connect()
    before.call("echo")
    before.send("die", code=0)
    assert home.wait() == 1
    assert "backend mine: up" in cli.ok("--instance", "tools", "backend", "test")
    assert "no backend" in cli.ok("backend", "show"), "the other instance has none"
    home.close()
    cli.ok("--instance", "tools", "broker", "stop")


def test_the_command_line_of_the_daemon(new_home: Callable[..., Home]) -> None:
    home = new_home()
    for words, said in ((["--backend"], "needs a profile"), (["--backend", "nope"], "no profile 'nope'")):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "jobbroker", *words],
            env=home.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (2, 78)
        assert said in done.stderr
