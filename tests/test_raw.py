"""The raw connection: requests, batches, notifications, and every way a connection ends."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from jobclient import paths, raw
from jobclient.protocol import errors, framing
from jobclient.raw import RawConnection
from scripted import PING, HangUp, Notify, Scripted, Silent, in_turn

DEADLINE = 20.0


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "x.sock")


@pytest.fixture
def broker(place: str) -> Generator[Scripted]:
    with Scripted(place) as running:
        yield running


@pytest.fixture
def connection(place: str, broker: Scripted) -> Generator[RawConnection]:
    made = RawConnection(place, soon())
    yield made
    made.close()


def soon() -> float:
    return time.monotonic() + DEADLINE


# --- connecting -----------------------------------------------------------------------------------------------------


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RawConnection(str(tmp_path / "run" / "x.sock"), soon())


def test_a_socket_nobody_listens_at(place: str) -> None:
    with Scripted(place):
        pass
    with pytest.raises(ConnectionRefusedError):
        RawConnection(place, soon())


def test_a_directory_open_to_others_is_not_trusted(place: str, broker: Scripted) -> None:
    Path(place).parent.chmod(0o755)
    with pytest.raises(paths.PathError, match="chmod 700"):
        RawConnection(place, soon())


def test_a_path_longer_than_an_address(tmp_path: Path) -> None:
    place = str(tmp_path / ("d" * 150) / "x.sock")
    with Scripted(place):
        connection = raw.greet(place, soon())
        connection.close()


def test_r071_another_version_of_the_protocol(place: str, broker: Scripted) -> None:
    broker.answers["broker_ping"] = lambda _: {**PING, "protocol": 0}
    with pytest.raises(errors.VersionMismatch, match=r"speaks protocol 0.*jobctl broker restart"):
        raw.greet(place, soon())
    broker.answers["broker_ping"] = lambda _: {**PING, "protocol": 99}
    with pytest.raises(errors.VersionMismatch, match=r"speaks protocol 99.*is older.*update this client"):
        raw.greet(place, soon())


def test_another_protocol(place: str, broker: Scripted) -> None:
    broker.answers["broker_ping"] = in_turn(errors.MethodNotFound("no method"))
    with pytest.raises(errors.VersionMismatch, match="another protocol"):
        raw.greet(place, soon())


# --- requests -------------------------------------------------------------------------------------------------------


def test_a_result(connection: RawConnection, broker: Scripted) -> None:
    broker.answers["job_get"] = lambda params: {"job": params["id"]}
    assert connection.request("job/get", {"id": "ä\n"}, soon()) == {"job": "ä\n"}


def test_an_error(connection: RawConnection, broker: Scripted) -> None:
    broker.answers["job_get"] = in_turn(errors.AmbiguousReference("which?", {"candidates": ["a", "b"]}))
    with pytest.raises(errors.AmbiguousReference, match="which") as caught:
        connection.request("job/get", {"id": "x"}, soon())
    assert caught.value.data == {"candidates": ["a", "b"]}


def test_an_answer_to_another_request_is_passed_over(connection: RawConnection, broker: Scripted) -> None:
    broker.answers["job_get"] = lambda _: {"job": 1}
    broker.answers["job_list"] = lambda _: {"jobs": []}
    connection.send("job/get", {"id": "x"}, soon())
    assert connection.request("job/list", {}, soon()) == {"jobs": []}


def test_a_notification_on_the_way_is_kept_in_order(connection: RawConnection, broker: Scripted) -> None:
    lines = [json.dumps({"method": "n", "params": {"at": at}}).encode() for at in range(2)]
    answer = json.dumps({"id": 1, "result": {}}).encode()
    later = json.dumps({"method": "n", "params": {"at": 2}}).encode()
    broker.answers["job_get"] = in_turn(Notify(*lines, answer, later))
    connection.request("job/get", {"id": "x"}, soon())
    told = [connection.receive(soon()) for _ in range(3)]
    assert [message["params"]["at"] for message in told if isinstance(message, dict)] == [0, 1, 2]


def test_a_batch_answers_in_the_order_of_its_calls(connection: RawConnection, broker: Scripted) -> None:
    broker.answers["job_get"] = in_turn({"id": "a"}, errors.JobNotFound("gone"), {"id": "c"})
    answers = connection.batch([("job/get", {"id": each}) for each in "abc"], soon())
    assert answers[0] == {"id": "a"}
    assert isinstance(answers[1], errors.JobNotFound)
    assert answers[2] == {"id": "c"}


def test_a_batch_of_any_size(connection: RawConnection, broker: Scripted) -> None:
    broker.answers["job_get"] = lambda params: params
    answers = connection.batch([("job/get", {"id": str(each)}) for each in range(2500)], soon())
    assert [answer for answer in answers if isinstance(answer, dict)] == [{"id": str(each)} for each in range(2500)]


def test_an_empty_batch_is_not_sent(connection: RawConnection, broker: Scripted) -> None:
    assert connection.batch([], soon()) == []
    assert broker.seen == []


# --- the end of it --------------------------------------------------------------------------------------------------


def test_a_broker_that_hangs_up(connection: RawConnection, broker: Scripted) -> None:
    broker.answers["job_get"] = in_turn(HangUp())
    with pytest.raises(errors.ConnectionLost, match="hung up"):
        connection.request("job/get", {}, soon())


def test_a_broker_that_says_why(connection: RawConnection, broker: Scripted) -> None:
    farewell = {"method": raw.FAREWELL, "params": {"reason": "backend exited"}}
    broker.answers["job_get"] = in_turn(Notify(json.dumps(farewell).encode()))
    broker.answers["job_list"] = in_turn(HangUp())
    connection.send("job/get", {}, soon())
    with pytest.raises(errors.ConnectionLost, match="backend exited"):
        connection.request("job/list", {}, soon())
    assert connection.farewell == {"reason": "backend exited"}


@pytest.mark.parametrize("line", [b"HTTP/1.1 400 Bad Request", b"{", b"\xff\xfe"])
def test_something_that_is_no_broker(connection: RawConnection, broker: Scripted, line: bytes) -> None:
    broker.answers["job_get"] = in_turn(Notify(line))
    with pytest.raises(errors.ConnectionLost, match="no broker"):
        connection.request("job/get", {}, soon())


def test_a_broker_that_does_not_answer(connection: RawConnection, broker: Scripted) -> None:
    broker.answers["job_get"] = in_turn(Silent())
    with pytest.raises(errors.TimedOut):
        connection.request("job/get", {}, time.monotonic() + 0.05)


def test_a_message_over_the_limit_is_not_sent(connection: RawConnection, broker: Scripted) -> None:
    with pytest.raises(errors.TooLarge, match="over the limit"):
        connection.request("job/start", {"argv": ["x" * framing.MAX_MESSAGE]}, soon())
    assert broker.seen == []


def test_a_message_over_the_limit_is_not_taken(connection: RawConnection, broker: Scripted) -> None:
    broker.answers["job_get"] = in_turn(Notify(b'"' + b"x" * framing.MAX_MESSAGE + b'"'))
    with pytest.raises(errors.TooLarge):
        connection.request("job/get", {}, soon())


# --- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"plain", "größe".encode(), b"\xff\x00\xfe", b"caf\xe9", b"\xed\xa0\x80"])
def test_whatever_the_system_says_travels(data: bytes) -> None:
    word = os.fsdecode(data)
    sent = raw.text(word)
    assert isinstance(sent, dict) == (b"\xe9" in data or b"\xff" in data or b"\xed" in data)
    assert os.fsencode(raw.untext(json.loads(json.dumps(sent)))) == data
