"""The wire trace: who wants to sees what others say, and nobody else notices."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness import PATIENCE, Home, Message, Wire, eventually
from jobbroker.tracing import SHOWN, Tracing
from jobclient.protocol import wire as types
from jobclient.protocol.errors import InvalidParams
from jobctl import Cli

NOTICE = "notifications/broker/trace"


# --- who is shown what ----------------------------------------------------------------------------------------------


class Ear:
    """A connection that keeps what it is offered, as long as it has room."""

    def __init__(self, tracing: Tracing) -> None:
        self.heard: list[Message] = []
        self.room = True
        self.number = tracing.join(self)

    def describe(self) -> types.Connection:
        return types.Connection(number=self.number, pid=1, client="ear", framing=None)

    def offer(self, job: str, message: bytes) -> bool:
        assert job == ""
        if self.room:
            self.heard.append(json.loads(message)["params"])
        return self.room


def test_all_or_one() -> None:
    tracing = Tracing()
    all_ears, one_ear, first, second = (Ear(tracing) for _ in range(4))
    before = tracing.active
    tracing.listen(all_ears, None)
    tracing.listen(one_ear, second.number)
    assert (before, tracing.active) == (False, True)
    for number, direction in ((first.number, "in"), (second.number, "out"), (one_ear.number, "in")):
        tracing.note(number, "in" if direction == "in" else "out", b"{}")
    assert [each["connection"] for each in all_ears.heard] == [first.number, second.number]
    assert [(each["connection"], each["direction"]) for each in one_ear.heard] == [(second.number, "out")]
    tracing.ignore(all_ears)
    tracing.leave(one_ear)
    assert not tracing.active
    assert [each.number for each in tracing.connections()] == [all_ears.number, first.number, second.number]


def test_who_does_not_read_is_told_how_much_he_missed() -> None:
    tracing = Tracing()
    ear, speaker = Ear(tracing), Ear(tracing)
    tracing.listen(ear, None)
    for room in (True, False, False, False, True, True):
        ear.room = room
        tracing.note(speaker.number, "in", b"{}")
    assert [each["dropped"] for each in ear.heard] == [0, 3, 0]


@pytest.mark.parametrize(
    ("framed", "start", "text", "size"),
    [
        (b"{}", 0, "{}", 2),
        (b"Content-Length: 2\r\n\r\n{}", 21, "{}", 2),
        (b"x" * SHOWN + b"yz", 0, "x" * SHOWN, SHOWN + 2),
        ("é".encode() * SHOWN, 0, "é" * (SHOWN // 2), SHOWN * 2),
        (b"\xff\x00", 0, "\ufffd\ufffd", 2),
    ],
    ids=["line", "headers", "long", "long and not ascii", "no text"],
)  # fmt: skip
def test_what_is_shown_of_a_message(framed: bytes, start: int, text: str, size: int) -> None:
    tracing = Tracing()
    ear, speaker = Ear(tracing), Ear(tracing)
    tracing.listen(ear, None)
    tracing.note(speaker.number, "in", framed, start)
    assert (ear.heard[0]["text"], ear.heard[0]["size"]) == (text, size)


def test_a_connection_that_is_not_there() -> None:
    tracing = Tracing()
    with pytest.raises(InvalidParams, match="7 does not exist"):
        tracing.listen(Ear(tracing), 7)
    assert not tracing.active


# --- on a real broker -----------------------------------------------------------------------------------------------


def mine(tracer: Wire, number: int) -> Any:
    while True:
        params = tracer.note(NOTICE)
        if params["connection"] == number:
            return params


def test_s24_both_directions_in_both_framings(shared: Home) -> None:
    with Wire(str(shared.socket)) as speaker, Wire(str(shared.socket)) as tracer:
        speaker.call("initialize", clientInfo={"name": "an editor"})
        found = tracer.call("broker/trace")["connections"]
        (number,) = [each["number"] for each in found if each["client"] == "an editor"]
        answer = speaker.call("job/list", name="nobody")
        asked, answered = mine(tracer, number), mine(tracer, number)
        assert (asked["direction"], json.loads(asked["text"])["method"]) == ("in", "job/list")
        assert (answered["direction"], json.loads(answered["text"])["result"]) == ("out", answer)
    with Wire(str(shared.socket)) as other, Wire(str(shared.socket)) as tracer:
        tracer.call("broker/trace")
        other.sock.sendall(b'Content-Length: 31\r\n\r\n{"id":8,"method":"broker/ping"}')
        other.lines.readline()
        number = tracer.call("broker/trace")["connections"][-2]["number"]
        assert [json.loads(mine(tracer, number)["text"])["id"] for _ in range(2)] == [8, 8]


def test_s24_one_connection_and_no_more(shared: Home) -> None:
    with Wire(str(shared.socket)) as first, Wire(str(shared.socket)) as second, Wire(str(shared.socket)) as tracer:
        for each in (first, second):
            each.call("broker/ping")
        numbers = [each["number"] for each in tracer.call("broker/trace")["connections"][-3:-1]]
        tracer.call("broker/trace", connection=numbers[1])
        first.call("broker/ping")
        second.call("job/list", name="second")
        assert tracer.note(NOTICE)["connection"] == numbers[1]
        tracer.call("broker/trace", on=False)
        tracer.notes.clear()
        second.call("broker/ping")
        assert tracer.call("broker/ping")
        assert tracer.notes == []
        assert tracer.refused("broker/trace", connection=10**9).kind == "invalid_params"


def test_s24_a_trace_that_is_not_read_slows_nobody(shared: Home) -> None:
    with Wire(str(shared.socket)) as tracer, Wire(str(shared.socket)) as speaker:
        tracer.call("broker/trace")
        for _ in range(2000):
            speaker.call("job/list", name="x" * 1500)
        seen = [tracer.note(NOTICE) for _ in range(500)]
        speaker.call("job/list", name="marker")
        while "marker" not in seen[-1]["text"]:
            seen.append(tracer.note(NOTICE))
        dropped = sum(each["dropped"] for each in seen)
        assert dropped > 1000, "what is not read is not kept without bound"
        assert dropped + len(seen) == 4001, "and it is told how much that was"


def traced_by(wire: Wire, others: int) -> None:
    """Wait until so many others are connected, and trace."""

    def all_there() -> bool:
        found = wire.call("broker/trace", on=False)["connections"]
        return len([each for each in found if each["framing"]]) == others + 1

    eventually(all_there, "they trace")
    wire.call("broker/ping")


def test_s24_on_the_command_line(cli: Cli) -> None:
    cli.ok("list")
    with cli.begin("broker", "trace", "--json") as trace, Wire(str(cli.home.socket)) as wire:
        traced_by(wire, 1)
        assert trace.stdout is not None
        wire.call("job/list", name="look at me")
        while "look at me" not in json.loads(trace.stdout.readline())["text"]:
            wire.call("job/list", name="look at me")
        trace.kill()
    listed = cli.ok("broker", "trace", "--list").split()
    assert listed[2] == "lines"
    assert cli("broker", "trace", "x").returncode == 2
    assert cli("broker", "trace", "1000000").returncode == 1
    with cli.begin("broker", "trace") as plain:
        with Wire(str(cli.home.socket)) as wire:
            traced_by(wire, 1)
        cli.ok("broker", "stop")
        out, _ = plain.communicate(timeout=PATIENCE)
    assert plain.returncode == 0
    assert "broker/shutdown" in out
