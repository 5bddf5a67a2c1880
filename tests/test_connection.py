"""Clients that behave badly, or strangely: each gets a clear answer, and nobody else is disturbed."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import PATIENCE, Home, Message, Wire, eventually, lines

MIB = 1024 * 1024


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def pid_of(home: Home) -> int:
    assert home.process is not None
    return home.process.pid


@pytest.fixture
def other(shared: Home) -> Iterator[Wire]:
    """Somebody else, who must not notice."""
    with Wire(str(shared.socket)) as made:
        yield made
        begun = time.monotonic()
        assert made.call("broker/ping")["pid"] == pid_of(shared)
        assert time.monotonic() - begun < PATIENCE / 10


def errors(wire: Wire, *messages: bytes) -> list[int]:
    """Send lines, half-close, and return the codes of all errors that come back."""
    wire.sock.sendall(b"".join(message + b"\n" for message in messages))
    wire.sock.shutdown(socket.SHUT_WR)
    return [message["error"]["code"] for message in lines(wire)]


# --- what is no request ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage", [b"\x00\x01\x02", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe", b"\xef\xbb\xbf{}", b"\n \x94\x00\x01"]
)
def test_s01_another_language_is_hung_up_on(shared: Home, client: Wire, other: Wire, garbage: bytes) -> None:
    before = shared.log_text().count("closed, no framing we know")
    client.sock.sendall(garbage)
    assert list(lines(client)) == []
    assert shared.log_text().count("closed, no framing we know") == before + 1


@pytest.mark.parametrize("garbage", [b"Connection: x\r\n\r\n", b"c" * 9000, b"Content-Length: 1e3\r\n\r\n{}"])
def test_s02_headers_that_tell_no_length_are_answered_and_hung_up_on(client: Wire, other: Wire, garbage: bytes) -> None:
    good = b'{"id":7,"method":"broker/ping"}'
    client.sock.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(good), good) + garbage)
    said = b"".join(client.lines)
    answers = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in said.split(b"Content-Length: ")[1:]]
    assert [(answer["id"], answer.get("error", {}).get("code")) for answer in answers] == [(7, None), (None, -32700)]


def test_a_client_may_speak_with_headers(client: Wire) -> None:
    for text in (b'{"id":1,"method":"broker/ping"}', b'{"id":2,"method":"nope"}'):
        client.sock.sendall(b"Content-Type: x\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
        head = client.lines.readline()
        assert head.startswith(b"Content-Length: ")
        assert client.lines.readline() == b"\r\n"
        answer = json.loads(client.lines.read(int(head.split()[1])))
        assert answer["id"] in (1, 2)
    assert answer["error"]["code"] == -32601


def test_s03_whatever_is_sent_to_a_client_with_headers_has_them(shared: Home) -> None:
    asked = [
        {"id": 1, "method": "events/subscribe", "params": {"output": True}},
        {"id": 2, "method": "job/start", "params": {"argv": ["sh", "-c", "echo some output"]}},
        [{"id": 3, "method": "nope"}],
        {"id": 4, "method": "job/wait", "params": {"ids": ["@none"]}},
    ]
    with Wire(str(shared.socket)) as speaker:
        for each in asked:
            text = json.dumps(each).encode()
            speaker.sock.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        kinds: set[str] = set()
        while not {"notifications/job/output", "completed"} <= kinds:
            head = speaker.lines.readline()
            assert head.startswith(b"Content-Length: "), head
            assert speaker.lines.readline() == b"\r\n"
            message: Any = json.loads(speaker.lines.read(int(head.split()[1])))
            single: Message = {} if isinstance(message, list) else message
            kinds |= {single.get("method", ""), single.get("params", {}).get("job", {}).get("status", "")}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"{", -32700),
        (b'{"id":1,"method":"broker/ping"', -32700),
        (b"[" * 100_000, -32700),
        (b'{"id":1,"method":"broker/ping","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}", -32700),
        (b'{"id":1,"method":"job/list","params":{"limit":NaN}}', -32700),
        (b'{"id":1,"method":"broker/ping"} {}', -32700),
        (b'{"id":1,"method":"broker/ping"}\xff', -32700),
        (b'{"id":1,"method":"job/get","params":{"id":"\\ud800"}}', -32700),
        (b"[]", -32600),
        (b'{"id":1,"method":null}', -32600),
        (b'{"id":[1],"method":"broker/ping"}', -32600),
        (b'{"id":1}', -32600),
        (b'{"id":1,"method":"no/such"}', -32601),
        (b'{"id":1,"method":"broker/ping","params":{"x":1}}', -32602),
        (b'{"id":1,"method":"broker/ping","params":[1,2]}', -32602),
        (b'{"id":1,"method":"job/list","params":{"limit":1e99}}', -32602),
        (b'{"id":1,"method":"job/list","params":{"limit":"ten"}}', -32602),
        (b'{"id":1,"method":"job/get","params":"abc"}', -32602),
    ],
)
def test_r041_bad_messages_are_answered_and_the_connection_goes_on(
    client: Wire, other: Wire, message: bytes, code: int
) -> None:
    assert errors(client, message, b'{"id":2,"method":"no/such"}') == [code, -32601]


def test_r043_what_wants_no_answer_gets_none(client: Wire) -> None:
    client.sock.sendall(b'\r\n \n{"jsonrpc":"2.0","result":1,"id":7}\n{"method":"who/knows"}\n[{"method":"x"}]\n')
    assert client.call("broker/ping")


def test_ids_come_back_as_they_went(client: Wire) -> None:
    for identity in (b"0", b"-1", b'"a\\u00e9"', b'""', b"1.5", b"12345678901234567890", b"null"):
        client.sock.sendall(b'{"id":' + identity + b',"method":"broker/ping"}\n')
        assert b'"id":' + identity + b"," in client.lines.readline()


def test_a_last_line_without_its_end_counts(client: Wire) -> None:
    client.sock.sendall(b'{"id":1,"method":"broker/ping"}')
    client.sock.shutdown(socket.SHUT_WR)
    assert [message["id"] for message in lines(client)] == [1]


def test_a_batch_is_answered_as_one(client: Wire) -> None:
    client.write([
        {"id": 1, "method": "broker/ping"},
        {"method": "unknown/note"},
        7,
        {"id": 2, "method": "no/such"},
        {"id": 3, "method": "job/start", "params": {"argv": ["true"]}},
        {"id": 4, "method": "job/get", "params": {"id": "../x"}},
    ])  # fmt: skip
    answers = client.read()
    assert [answer["id"] for answer in answers] == [1, None, 2, 3, 4]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, -32600, -32601, None, -31002]
    client.write([{"id": n, "method": "broker/ping"} for n in range(10_001)])
    assert client.read()["error"]["code"] == -31013


# --- too much -------------------------------------------------------------------------------------------------------


def test_r045_a_line_without_end_is_thrown_away_as_it_comes(client: Wire, other: Wire, shared: Home) -> None:
    before = resident(pid_of(shared))
    block = b"x" * MIB
    most = 0
    client.sock.sendall(b'{"id":1,"method":"')
    for n in range(300):
        client.sock.sendall(block)
        if n % 20 == 0:
            most = max(most, resident(pid_of(shared)))
    client.sock.sendall(b'"}\n')
    answer = client.read()
    assert (answer["error"]["code"], answer["id"]) == (-31013, None)
    assert client.call("broker/ping")
    assert most - before < 64 * MIB


@pytest.mark.slow
def test_a_gigabyte_in_one_line(client: Wire, shared: Home) -> None:
    before = resident(pid_of(shared))
    block = b"x" * MIB
    client.sock.sendall(b'{"')
    for _ in range(1024):
        client.sock.sendall(block)
    assert client.read()["error"]["code"] == -31013
    assert resident(pid_of(shared)) - before < 64 * MIB


def test_thousands_of_unfinished_requests(client: Wire, other: Wire) -> None:
    job = client.start("sleep", "60")["id"]
    call = b'{"id":%d,"method":"job/wait","params":{"ids":["' + job.encode() + b'"]}}\n'
    client.sock.sendall(b"".join(call % n for n in range(1000, 6000)))
    refused = [client.read() for _ in range(5000 - 4096)]
    assert {message["error"]["code"] for message in refused} == {-31013}
    other.call("job/cancel", id=job, graceMs=0)
    assert len({client.read()["id"] for _ in range(4096)}) == 4096
    assert client.call("broker/ping")


def test_who_never_reads_is_not_read_from(client: Wire, other: Wire, shared: Home) -> None:
    job = other.run("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x")["id"]
    before = resident(pid_of(shared))
    call = b'{"id":1,"method":"job/output","params":{"id":"' + job.encode() + b'","limit":1000000}}\n'
    client.sock.settimeout(0.5)
    try:
        for _ in range(100):
            client.sock.sendall(call * 500)
    except TimeoutError:
        pass
    assert other.call("broker/ping")
    assert resident(pid_of(shared)) - before < 64 * MIB


def test_r045_who_never_reads_the_news_is_let_go(other: Wire, shared: Home) -> None:
    with Wire(str(shared.socket)) as deaf:
        deaf.call("events/subscribe")
        eventually(lambda: other.call("broker/status")["connections"] == 2, "earlier clients are gone")
        for _ in range(60):  # each is told twice, with its whole command
            other.start("/nonexistent", *["z" * 100_000] * 8)
            if other.call("broker/status")["connections"] == 1:
                break
        else:
            pytest.fail("it was never let go")


def test_a_batch_may_not_ask_for_more_than_a_message(client: Wire, other: Wire, shared: Home) -> None:
    job = other.run("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x")["id"]
    before = resident(pid_of(shared))
    client.write([{"id": n, "method": "job/output", "params": {"id": job, "limit": 1_000_000}} for n in range(1000)])
    answers = client.read()
    assert len(answers) == 1000
    codes = [answer.get("error", {}).get("code") for answer in answers]
    assert codes == [None] * codes.count(None) + [-31013] * codes.count(-31013)
    assert 10 <= codes.count(None) <= 16
    assert resident(pid_of(shared)) - before < 128 * MIB


def test_work_for_one_does_not_hold_up_others(client: Wire, other: Wire) -> None:
    other.write([{"id": n, "method": "job/start", "params": {"argv": ["/nonexistent"]}} for n in range(300)])
    other.read()
    client.write([{"id": n, "method": "job/list", "params": {"limit": 300}} for n in range(60)])
    begun = time.monotonic()
    other.call("broker/ping")
    waited = time.monotonic() - begun
    client.read()
    assert waited < (time.monotonic() - begun) / 2


# --- comings and goings ---------------------------------------------------------------------------------------------


def test_half_closed_clients_still_get_their_answers(client: Wire) -> None:
    client.send("job/start", argv=["sh", "-c", "sleep 0.1; echo done"], name="half")
    client.send("job/wait", all=True)
    client.send("no/such")
    client.write([{"id": 77, "method": "job/start", "params": {"argv": ["true"]}}])
    client.sock.shutdown(socket.SHUT_WR)
    said: list[Any] = list(lines(client))
    assert len(said) == 4
    assert [message[0]["id"] for message in said if isinstance(message, list)] == [77]


def test_a_hang_up_ends_the_wait_and_not_the_job(client: Wire, other: Wire) -> None:
    job = client.start("sleep", "60")["id"]
    client.send("job/wait", ids=[job])
    client.send("job/output", id=job, waitMs=60_000)
    client.call("broker/ping")
    assert other.call("broker/status")["connections"] == 2
    client.close()
    eventually(lambda: other.call("broker/status")["connections"] == 1, "it is noticed")
    assert other.get(job)["status"] == "running"
    other.call("job/cancel", id=job, graceMs=0)


def test_a_hang_up_after_the_half_close(client: Wire, other: Wire) -> None:
    job = client.start("sleep", "60")["id"]
    client.send("job/wait", ids=[job])
    client.sock.shutdown(socket.SHUT_WR)
    assert other.call("broker/status")["connections"] == 2
    client.close()
    eventually(lambda: other.call("broker/status")["connections"] == 1, "it is noticed")
    other.call("job/cancel", id=job, graceMs=0)


def test_two_hundred_at_once(shared: Home, other: Wire) -> None:
    wires = [Wire(str(shared.socket)) for _ in range(200)]
    for wire in wires:
        wire.send("job/start", argv=["true"])
    jobs = [wire.answer(1)["job"] for wire in wires]
    assert len({job["id"] for job in jobs}) == len({job["number"] for job in jobs}) == 200
    for wire in wires:
        wire.close()
    other.call("job/wait", all=True)


def test_byte_by_byte(client: Wire, other: Wire) -> None:
    for byte in b'{"id":"slow","method":"broker/ping"}\r\n':
        client.sock.sendall(bytes([byte]))
    assert client.answer("slow")["protocol"] == 1


def test_a_reset_in_the_middle_of_an_answer(shared: Home, other: Wire) -> None:
    job = other.run("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x")["id"]
    for _ in range(20):
        with Wire(str(shared.socket)) as wire:
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for _ in range(5):
                wire.send("job/output", id=job, limit=1_000_000)
            wire.sock.recv(10)


def test_connections_over_the_limit_wait(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_MAX_CONNECTIONS="3")
    home.start()
    wires = [home.connect() for _ in range(3)]
    for wire in wires:
        wire.call("broker/ping")
    late = home.connect()
    asked = late.send("broker/ping")
    wires[0].close()
    assert late.answer(asked)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_refused(home: Home) -> None:
    for path in [home.socket.parent, *home.socket.parents]:
        path.chmod(0o755)
    home.socket.chmod(0o666)
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setresuid(65534, 65534, 65534)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(home.socket))
                sock.sendall(b'{"id":1,"method":"broker/ping"}\n')
                status = 0 if sock.recv(100) == b"" else 2
        except ConnectionError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "another user" in home.log_text()
    assert home.connect().call("broker/ping")


def test_a_fault_is_one_clients_trouble(client: Wire, other: Wire) -> None:
    """Whatever is sent, at random but the same each time: nobody else notices, and the broker lives."""
    methods: list[str] = client.call("initialize")["methods"]
    values: list[Any] = [None, 0, -1, 1.5, 1e300, "", "x", "\0", [], [1], {}, {"a": None}, True, "9" * 5000, ["\ud800"]]
    members = ["id", "ids", "argv", "signal", "from", "limit", "env", "status", "maxAgeMs", "before", "jobs", "mode"]
    for method in sorted(set(methods) - {"broker/shutdown"}):
        calls: list[Message] = [
            {"id": f"{member}={value!r}", "method": method, "params": {member: value}}
            for member in members
            for value in values
        ]
        client.sock.sendall(b"".join(json.dumps(call).encode() + b"\n" for call in calls))
        for _ in calls:
            answer = client.read()
            assert answer.get("error", {}).get("code") != -32603, (method, answer)
