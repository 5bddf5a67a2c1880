"""One backend for all clients: a real broker, a real process behind it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends import codex, generic, heard, with_backend
from harness import Failed, Home, Wire, alive, eventually


@pytest.fixture
def two(fronting: Home) -> Iterator[tuple[Wire, Wire]]:
    with Wire(str(fronting.socket)) as one, Wire(str(fronting.socket)) as other:
        yield one, other


# --- many clients, one process --------------------------------------------------------------------------------------


def test_rule_02_all_speak_to_the_same_process_with_their_own_ids(two: tuple[Wire, Wire]) -> None:
    one, other = two
    for wire in two:
        wire.write({"id": "x", "method": "echo", "params": {"of": id(wire)}})
    assert [wire.read()["result"]["of"] for wire in two] == [id(one), id(other)]
    assert heard(one)["pid"] == heard(other)["pid"]


def test_r043_the_brokers_own_methods_stay_its_own(two: tuple[Wire, Wire]) -> None:
    one, other = two
    assert one.refused("job/nope").kind == "method_not_found"
    assert one.refused("backend/nope").kind == "method_not_found"
    assert one.call("initialize")["serverInfo"]["name"] == "jobbroker"
    assert one.refused("nope").code == -32601
    assert one.run("true")["status"] == "completed"
    assert not {"job/nope", "initialize", "job/start"} & {message["method"] for message in heard(other)["messages"]}


def test_methods_of_the_backend_are_not_for_batches(two: tuple[Wire, Wire]) -> None:
    one, _ = two
    one.write([{"id": 1, "method": "echo"}, {"id": 2, "method": "broker/ping"}])
    first, second = one.read()
    assert first["error"]["code"] == -32601
    assert "result" in second


def test_rule_01_r041_broken_text_of_one_leaves_the_others_served(two: tuple[Wire, Wire]) -> None:
    one, other = two
    for garbage in (b'{"id":1,"method":"echo","params":{"a":"\xff"}}', b'{"id":2,"method":"echo","params":{"a":NaN}}',
                    b'{"id":3,"method":"echo","params":{"a":"\\ud800"}}', b'{"id":1.5,"method":"echo"}'):  # fmt: skip
        one.sock.sendall(garbage + b"\n")
        assert one.read()["error"]["code"] in (-32700, -32600)
    assert other.call("echo", a="é\u2028") == {"a": "é\u2028"}


def test_rule_08_what_the_backend_asks_reaches_nobody_and_is_answered(two: tuple[Wire, Wire]) -> None:
    assert two[0].call("ask", what="q")["error"]["code"] == -32601


def test_rule_10_r046_r047_calls_run_side_by_side(two: tuple[Wire, Wire]) -> None:
    one, other = two
    waits = one.send("wait", gate="side by side")
    assert other.call("echo", a=1) == {"a": 1}
    other.write({"method": "open", "params": {"gate": "side by side"}})
    assert one.answer(waits) == {}


def test_a_request_is_taken_back(two: tuple[Wire, Wire]) -> None:
    one, _ = two
    waits = one.send("silent")
    one.write({"method": "$/cancelRequest", "params": {"id": waits}})
    with pytest.raises(Failed, match="cancelled"):
        one.answer(waits)


def test_rule_18_a_large_answer_arrives(two: tuple[Wire, Wire]) -> None:
    assert len(two[0].call("big", size=20_000_000)["text"]) == 20_000_000


def test_who_half_closes_still_gets_the_answer(fronting: Home) -> None:
    with Wire(str(fronting.socket)) as wire, Wire(str(fronting.socket)) as other:
        waits = wire.send("wait", gate="half")
        wire.sock.shutdown(1)
        heard(other)
        other.write({"method": "open", "params": {"gate": "half"}})
        assert wire.answer(waits) == {}
        assert wire.lines.readline() == b""


def test_rule_09_r051_who_leaves_takes_his_requests_along(two: tuple[Wire, Wire], fronting: Home) -> None:
    _, other = two
    with Wire(str(fronting.socket)) as wire:
        wire.send("silent")
        wire.call("echo")
        assert other.call("backend/status")["backend"]["clients"] >= 1
    eventually(lambda: other.call("backend/status")["backend"]["pending"] == 0, "the request is forgotten")
    assert other.call("echo", a=1) == {"a": 1}


def test_rule_17_r045_one_who_does_not_read_delays_nobody(fronting: Home) -> None:
    with Wire(str(fronting.socket)) as deaf, Wire(str(fronting.socket)) as other:
        deaf.write({"id": 1, "method": "deltas", "params": {"thread": "T", "count": 200_000}})
        for number in range(200):
            other.send("echo", n=number)
            answer = next(line for line in other.lines if b'"method":"delta"' not in line)  # unchecked: it keeps up
            assert json.loads(answer)["result"] == {"n": number}


# --- how it is ------------------------------------------------------------------------------------------------------


def test_r063_the_state_of_the_backend_is_visible(two: tuple[Wire, Wire]) -> None:
    one, _ = two
    one.call("echo")
    backend = one.call("backend/status")["backend"]
    assert (backend["profile"], backend["state"], backend["pid"]) == ("generic", "up", heard(one)["pid"])
    assert one.call("broker/status")["backend"]["starts"] == 1


def test_a_request_in_the_brokers_own_words(two: tuple[Wire, Wire]) -> None:
    one, _ = two
    assert one.call("backend/request", method="echo", params=[1])["result"] == [1]
    assert one.refused("backend/request", method="nope").code == -32601
    assert one.refused("backend/request", method="silent", timeoutMs=10).kind == "timeout"


def test_profiles_are_listed_and_shown(two: tuple[Wire, Wire], fronting: Home) -> None:
    own = fronting.root / "profiles"
    own.mkdir()
    (own / "broken.toml").write_text("[backend]\ncomand = 1\n")
    os.mkfifo(own / "pipe.toml")
    found = {profile["name"]: profile for profile in two[0].call("backend/profiles")["profiles"]}
    assert {name for name, profile in found.items() if profile["inUse"]} == {"generic"}
    assert "did you mean command?" in found["broken"]["error"]
    assert "no plain file" in found["pipe"]["error"], "and nobody has waited for the other end"
    (shown,) = two[0].call("backend/profiles", name="codex")["profiles"]
    assert 'start = "turn/start"' in shown["text"]
    assert two[0].refused("backend/profiles", name="nope").kind == "invalid_params"


# --- starting -------------------------------------------------------------------------------------------------------


def test_it_is_started_by_the_first_who_needs_it(new_home: Callable[..., Home]) -> None:
    home = generic(new_home)
    wire = home.connect()
    assert wire.run("true")["status"] == "completed"
    assert wire.call("backend/status")["backend"]["state"] == "down"
    wire.call("echo")
    assert wire.call("backend/status")["backend"]["state"] == "up"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/nonexistent/program"], "no such file"),
        (["sh", "-c", "echo no license >&2; exit 7"], "exit status 7"),
        (["sh", "-c", "kill -9 $$"], "killed by SIGKILL"),
        (["sh", "-c", "exec sleep 1000"], "did not answer in time"),
    ],
)
def test_r066_a_start_that_fails_is_told_and_the_broker_stays(
    new_home: Callable[..., Home], command: list[str], said: str
) -> None:
    home = new_home()
    text = f'profile = "codex"\ncommand = {json.dumps(command)}\nstart_timeout = 1\n'
    (home.root / "config.toml").write_text(f"[instances.default.backend]\n{text}")
    home.start()
    wire = home.connect()
    assert said in str(wire.refused("model/list"))
    refused = wire.refused("model/list")
    assert (refused.kind, said in str(refused)) == ("backend_gone", True)
    if "license" in str(command):
        assert (refused.data["exitCode"], refused.data["stderrTail"]) == (7, "no license")
    assert wire.run("true")["status"] == "completed"


def test_the_command_line_names_the_backend_and_it_is_kept(new_home: Callable[..., Home]) -> None:
    home = new_home()
    (home.root / "profiles").mkdir()
    with_backend(home, "generic")
    command = (home.root / "config.toml").read_text().partition("command = ")[2]
    (home.root / "profiles" / "mine.toml").write_text(f"[backend]\ncommand = {command}")
    (home.root / "config.toml").unlink()
    home.start("--backend", "mine")
    assert home.connect().call("echo", a=1) == {"a": 1}
    home.kill()
    home.start()
    assert home.connect().call("backend/status")["backend"]["profile"] == "mine"
    home.kill()
    home.start("--backend=none")
    assert home.connect().refused("echo").kind == "method_not_found"
    home.kill()
    home.start()
    assert home.connect().call("backend/status")["backend"] is None


@pytest.mark.parametrize("text", ['profile = "nope"', 'profile = "generic"', "profile = 3", 'profile = "codex"\nx = 1'])
def test_a_profile_that_cannot_be_used_is_no_start(new_home: Callable[..., Home], text: str) -> None:
    home = new_home()
    (home.root / "config.toml").write_text(f"[instances.default.backend]\n{text}\n")
    process = home.spawn()
    assert process.wait(30) == 78
    assert "profile" in home.log_text() or "'backend.x' is unknown" in home.log_text()


def test_rule_04_r042_the_handshake_comes_from_the_cache(new_home: Callable[..., Home]) -> None:
    home = codex(new_home)
    one, other = home.connect(), home.connect()
    asked = [wire.send("initialize", clientInfo={"name": "editor"}) for wire in (one, other)]
    first, second = one.answer(asked[0]), other.answer(asked[1])
    assert first == second
    assert first["got"]["clientInfo"]["name"] == "jobbroker"
    one.write({"method": "initialized"})
    assert heard(one)["handshakes"] == 1
    assert "initialized" in [message["method"] for message in heard(one)["messages"]]
    assert one.start("true")["origin"]["client"] == "editor"


def test_rule_08_rule_21_a_backend_with_headers(new_home: Callable[..., Home]) -> None:
    home = with_backend(new_home(), "lsp", "--headers", "--handshake")
    home.start()
    wire = home.connect()
    assert wire.call("echo", a="é\n") == {"a": "é\n"}
    waits = wire.send("ask", what="workspace/configuration", params={"items": [1, 2]})
    asked = wire.read()
    assert (asked["method"], asked["params"]) == ("workspace/configuration", {"items": [1, 2]})
    wire.write({"id": asked["id"], "result": ["a", "b"]})
    assert wire.answer(waits)["result"] == ["a", "b"]
    assert wire.call("shutdown") is None
    assert wire.call("echo", a=1) == {"a": 1}


# --- the end of the broker ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--deaf",)])
def test_rule_19_r086_a_broker_that_ends_ends_its_backend(
    new_home: Callable[..., Home], flags: tuple[str, ...]
) -> None:
    home = generic(new_home, *flags, more="stop = { eof = 0.1, term = 0.3 }\n")
    wire = home.connect()
    backend, child = heard(wire)["pid"], wire.call("spawn")["pid"]
    waits = wire.send("silent")
    wire.call("broker/shutdown")
    with pytest.raises(Failed, match="shutting down"):
        wire.answer(waits)
    assert home.wait() == 0
    assert not alive(backend)
    assert not alive(child)


def test_rule_20_r088_a_broker_nobody_needs_ends_with_its_backend(new_home: Callable[..., Home]) -> None:
    home = generic(new_home, JOBBROKER_IDLE_EXIT="300ms")
    wire = home.connect()
    backend = heard(wire)["pid"]
    wire.close()
    assert home.wait() == 0
    assert not alive(backend)


def test_rule_14_the_backend_of_a_killed_broker_is_ended_before_there_is_another(new_home: Callable[..., Home]) -> None:
    home = generic(new_home, "--deaf")
    wire = home.connect()
    backend, child = heard(wire)["pid"], wire.call("spawn")["pid"]
    home.kill()
    assert alive(backend)
    home.start()
    assert heard(home.connect())["pid"] != backend
    assert not alive(backend)
    eventually(lambda: not alive(child), "its children are gone too")


def test_rule_14_a_starting_broker_ends_it_though_it_needs_none(new_home: Callable[..., Home]) -> None:
    home = generic(new_home, "--deaf")
    backend = heard(home.connect())["pid"]
    home.kill()
    (home.root / "config.toml").unlink()
    home.start()
    eventually(lambda: not alive(backend), "the leftover is gone")


def test_rule_14_a_backend_whose_shim_was_killed_is_no_backend_any_more(new_home: Callable[..., Home]) -> None:
    home = generic(new_home, "--deaf")
    wire = home.connect()
    backend = heard(wire)["pid"]
    stat = Path(f"/proc/{backend}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    assert wire.note("notifications/broker/shuttingDown")["reason"] == "backend_exit"
    assert home.wait() == 1
    assert not alive(backend)
