"""From clients to the backend: rules R1 to R5, R9 to R11, R16, R21 of sharing one process (docs/backends.md)."""

from __future__ import annotations

import json

import pytest

from jobbroker.core.routing.effects import EndBackend, Start, ToClient
from routing import Desk, Message, running, shipped


def error(message: Message) -> tuple[int, str]:
    return message["error"]["code"], message["error"].get("data", {}).get("kind", "")


# --- R1: parse and write again --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        b"NaN", b'{"a":1e400}', b"{'a':1}", b'{"a":"\\ud800"}', b'{"a":"\xff"}', b"3", b'"text"',
        b"[" * 5000 + b"]" * 5000, b"[" * 102 + b"]" * 102,
    ],
)  # fmt: skip
def test_rule_01_what_would_end_a_backend_is_refused(params: bytes) -> None:
    desk = running()
    desk.take(desk.router.request(1, b"7", "m", params, desk.now))
    (answer,) = desk.got(1)
    assert (answer["id"], *error(answer)) == (7, -32600, "invalid_request")
    assert desk.sent() == []


def test_rule_01_whatever_else_there_is_passes_untouched() -> None:
    desk = running()
    params = {"deep": json.loads("[" * 90 + "]" * 90), "big": 2**70, "text": "\u2028\0é", "null": None, "float": -0.5}
    desk.ask(1, 7, "m", params)
    (sent,) = desk.sent()
    assert sent["params"] == params
    desk.ask(1, 8, "m", [1, "2"])
    assert desk.sent()[0]["params"] == [1, "2"]


def test_rule_01_a_request_without_parameters_gets_none() -> None:
    from jobclient.protocol.jsonrpc import NO_PARAMS

    desk = running()
    desk.take(desk.router.request(1, b"7", "m", NO_PARAMS, desk.now))
    desk.take(desk.router.request(1, b"8", "m", b"null", desk.now))
    assert all("params" not in sent for sent in desk.sent())


@pytest.mark.parametrize("identity", [b"1.5", b"null", b"1e400", b"1" * 5000])
def test_rule_01_an_id_that_some_never_answer_is_refused(identity: bytes) -> None:
    desk = running()
    found = desk.router.request(1, identity, "m", b"{}", desk.now)
    assert [type(effect) for effect in found] == [ToClient]
    (answer,) = found
    assert isinstance(answer, ToClient)
    assert identity in answer.message
    assert b"-32600" in answer.message


def test_rule_01_a_profile_may_want_no_version() -> None:
    desk = running(shipped("generic", jsonrpc=False))
    desk.ask(1, 7, "m")
    assert "jsonrpc" not in desk.sent()[0]
    desk = running()
    desk.ask(1, 7, "m")
    assert desk.sent()[0]["jsonrpc"] == "2.0"


# --- R2: our own ids ------------------------------------------------------------------------------------------------


def test_rule_02_ids_come_back_with_their_type() -> None:
    desk = running()
    for client, identity in ((1, 7), (2, 7), (1, "7"), (2, "x" * 300), (1, 2**60)):
        desk.ask(client, identity, "m", {"of": [client, identity]})
    sent = desk.sent()
    assert len({message["id"] for message in sent}) == 5
    assert all(isinstance(message["id"], int) for message in sent)
    for message in reversed(sent):
        desk.say(id=message["id"], result=message["params"]["of"])
    for client in (1, 2):
        for answer in desk.got(client):
            assert answer["result"] == [client, answer["id"]]
            assert type(answer["result"][1]) is type(answer["id"])


def test_rule_02_an_id_in_flight_is_not_given_twice() -> None:
    desk = running()
    desk.ask(1, 7, "m")
    desk.ask(1, 7, "m")
    desk.ask(1, "7", "m")
    assert [error(answer) for answer in desk.got(1)] == [(-32600, "invalid_request")]
    assert len(desk.sent()) == 2


def test_rule_02_late_and_unknown_answers_are_dropped_and_counted() -> None:
    desk = running()
    desk.ask(1, 7, "m")
    (sent,) = desk.sent()
    desk.say(id=sent["id"], result=1)
    before = desk.router.dropped
    for identity in (sent["id"], 999, "7", None, True, 1.0):
        desk.say(id=identity, result=2)
    assert desk.router.dropped == before + 6
    assert [answer["result"] for answer in desk.got(1)] == [1]


# --- R4: the handshake ----------------------------------------------------------------------------------------------


def test_rule_04_the_handshake_is_said_once_and_answered_to_all() -> None:
    desk = Desk(shipped("mcp"))
    desk.join(1, 2, 3)
    desk.ask(1, "a", "initialize", {"capabilities": {}})
    assert desk.other == [Start()]
    desk.take(desk.router.started(desk.now))
    desk.ask(2, "b", "initialize", {})
    desk.ask(2, "c", "tools/list", {})
    (shake,) = desk.sent()
    assert shake["params"]["clientInfo"]["name"] == "jobbroker"
    desk.say(id=shake["id"], result={"server": "here"})
    assert [message["method"] for message in desk.sent()] == ["notifications/initialized", "tools/list"]
    desk.note(1, "notifications/initialized", {})
    desk.ask(3, "d", "initialize", {})
    assert desk.sent() == []
    for client, identity in ((1, "a"), (2, "b"), (3, "d")):
        assert desk.got(client) == [{"jsonrpc": "2.0", "id": identity, "result": {"server": "here"}}]


def test_rule_04_nothing_passes_before_the_handshake_is_answered() -> None:
    desk = Desk(shipped("lsp"))
    desk.join(1)
    desk.note(1, "textDocument/didOpen", {"textDocument": {"uri": "file:///a"}})
    desk.ask(1, 1, "textDocument/hover", {})
    desk.take(desk.router.started(desk.now))
    (shake,) = desk.sent()
    assert shake["method"] == "initialize"
    desk.say(id=shake["id"], result={})
    assert [message["method"] for message in desk.sent()] == [
        "initialized",
        "textDocument/didOpen",
        "textDocument/hover",
    ]


def test_rule_04_a_refused_handshake_reaches_who_asked_and_ends_the_start() -> None:
    desk = Desk(shipped("codex"))
    desk.join(1, 2)
    desk.ask(1, 1, "initialize", {})
    desk.ask(2, 2, "thread/start", {})
    desk.take(desk.router.started(desk.now))
    desk.say(id=desk.sent()[0]["id"], error={"code": -32603, "message": "no"})
    assert desk.got(1)[0]["error"]["message"] == "no"
    assert any(isinstance(effect, EndBackend) for effect in desk.other)
    desk.die("ended with exit status 1")
    (answer,) = desk.got(2)
    assert error(answer) == (-31008, "backend_gone")
    assert answer["error"]["data"]["stderrTail"] == "last words"
    assert desk.router.state == "down"


def test_rule_04_a_start_that_takes_too_long_is_given_up() -> None:
    desk = Desk(shipped("codex", start_timeout=5))
    desk.join(1)
    desk.ask(1, 1, "initialize", {})
    desk.take(desk.router.started(desk.now))
    desk.pass_time(4.9)
    assert not any(isinstance(effect, EndBackend) for effect in desk.other)
    desk.pass_time(0.2)
    assert any(isinstance(effect, EndBackend) for effect in desk.other)


def test_a_start_that_failed_is_tried_again_by_the_next_request() -> None:
    desk = Desk()
    desk.join(1)
    desk.ask(1, 1, "m")
    desk.die("could not be started: no such file")
    desk.ask(1, 2, "m")
    assert desk.other == [Start(), Start()]
    assert [error(answer) for answer in desk.got(1)] == [(-31008, "backend_gone")]


# --- R10, R11: busy, and codes of our own ---------------------------------------------------------------------------


def test_rule_10_r046_r047_nobody_is_busy_because_somebody_else_works() -> None:
    desk = running()
    for number in range(50):
        desk.ask(1 + number % 2, number, "m")
    assert len(desk.sent()) == 50


def test_rule_10_r058_a_serial_backend_has_a_queue_with_an_end() -> None:
    desk = running(shipped("generic", concurrency=1, queue=2))
    for number in range(4):
        desk.ask(1, number, "m", {"n": number})
    assert [message["params"]["n"] for message in desk.up] == [0]
    assert [(answer["id"], *error(answer)) for answer in desk.got(1)] == [(3, -31001, "busy")]
    for number in range(3):
        (sent,) = desk.sent()
        assert sent["params"]["n"] == number
        desk.say(id=sent["id"], result=number)
    assert [answer["result"] for answer in desk.got(1)] == [0, 1, 2]
    assert desk.sent() == []


def test_rule_10_r048_a_turn_keeps_others_from_its_thread_but_not_from_its_interrupt() -> None:
    desk = running(shipped("codex"))
    desk.turn("job1", "turn/start", {"threadId": "T"})
    desk.ask(1, 1, "turn/start", {"threadId": "T"})
    desk.ask(1, 2, "turn/start", {"threadId": "U"})
    desk.ask(1, 3, "turn/interrupt", {"threadId": "T", "turnId": "t"})
    (refused,) = desk.got(1)
    assert (refused["id"], *error(refused), refused["error"]["data"]["job"]) == (1, -31001, "busy", "job1")
    assert [message["method"] for message in desk.sent()] == ["turn/start", "turn/start", "turn/interrupt"]


def test_rule_11_r044_errors_of_the_backend_keep_their_codes() -> None:
    desk = running()
    desk.ask(1, 1, "m")
    desk.say(id=desk.sent()[0]["id"], error={"code": -32001, "message": "overloaded", "data": [1]})
    assert desk.got(1)[0]["error"] == {"code": -32001, "message": "overloaded", "data": [1]}


# --- R16: deadlines -------------------------------------------------------------------------------------------------


def test_rule_16_a_request_that_is_never_answered_ends_by_its_deadline() -> None:
    desk = running(shipped("lsp"))
    desk.ask(1, 1, "slow", {})
    (sent,) = desk.sent()
    desk.pass_time(119)
    assert desk.got(1) == []
    desk.pass_time(2)
    assert error(desk.got(1)[0]) == (-31011, "timeout")
    assert {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": sent["id"]}} in desk.sent()
    desk.say(id=sent["id"], result="late")
    assert desk.got(1) == []


def test_rule_16_a_method_may_take_longer_by_its_profile() -> None:
    desk = running(shipped("generic", client_methods={"timeout": {"long": 1000, "*": 10}}))
    desk.ask(1, 1, "long")
    desk.ask(1, 2, "short")
    desk.pass_time(11)
    assert [answer["id"] for answer in desk.got(1)] == [2]


# --- R21: methods that would change it for all ----------------------------------------------------------------------


def test_rule_21_what_would_change_it_for_all_is_denied_or_answered_here() -> None:
    desk = running(shipped("codex"))
    desk.ask(1, 1, "thread/unsubscribe", {"threadId": "T"})
    assert error(desk.got(1)[0]) == (-31012, "denied")
    desk = running(shipped("mcp"))
    desk.ask(1, 1, "logging/setLevel", {"level": "debug"})
    assert desk.got(1)[0]["result"] == {}
    desk.note(1, "notifications/roots/list_changed", {})
    assert desk.sent() == []


def test_rule_21_the_first_subscribes_and_the_last_unsubscribes() -> None:
    desk = running(shipped("mcp"))
    desk.ask(1, 1, "resources/subscribe", {"uri": "a"})
    desk.ask(2, 1, "resources/subscribe", {"uri": "a"})
    desk.ask(2, 2, "resources/subscribe", {"uri": "b"})
    first, other = desk.sent()
    assert (first["params"]["uri"], other["params"]["uri"]) == ("a", "b")
    desk.say(id=first["id"], result={})
    assert [desk.got(client)[0]["id"] for client in (1, 2)] == [1, 1], "the second hears when the first does"
    desk.ask(1, 3, "resources/unsubscribe", {"uri": "a"})
    assert desk.got(1)[0]["result"] == {}
    assert desk.sent() == []
    desk.ask(2, 3, "resources/unsubscribe", {"uri": "a"})
    assert desk.sent()[0]["method"] == "resources/unsubscribe"


def test_rule_21_what_could_not_be_begun_is_begun_again() -> None:
    desk = running(shipped("mcp"))
    desk.ask(1, 1, "resources/subscribe", {"uri": "a"})
    desk.say(id=desk.sent()[0]["id"], error={"code": 1, "message": "no"})
    desk.ask(2, 1, "resources/subscribe", {"uri": "a"})
    assert desk.sent()[0]["method"] == "resources/subscribe"


def test_rule_21_two_editors_open_a_file_once() -> None:
    desk = running(shipped("lsp"))
    document = {"textDocument": {"uri": "file:///a"}}
    for client in (1, 2, 1):
        desk.note(client, "textDocument/didOpen", document)
    assert [message["method"] for message in desk.sent()] == ["textDocument/didOpen"]
    desk.note(1, "textDocument/didClose", document)
    assert desk.sent() == []
    desk.leave(2)
    (sent,) = desk.sent()
    assert (sent["method"], sent["params"]) == ("textDocument/didClose", document)


# --- R9: a client that leaves ---------------------------------------------------------------------------------------


def test_rule_09_who_leaves_loses_his_requests_and_nobody_elses() -> None:
    desk = running(shipped("mcp"))
    desk.ask(1, 1, "tools/call", {"name": "a"})
    desk.ask(2, 1, "tools/call", {"name": "b"})
    gone, other = desk.sent()
    desk.leave(1)
    (cancel,) = desk.sent()
    assert (cancel["method"], cancel["params"]) == ("notifications/cancelled", {"requestId": gone["id"]})
    desk.say(id=gone["id"], result="for nobody")
    desk.say(id=other["id"], result="for two")
    assert [answer["result"] for answer in desk.got(2)] == ["for two"]


def test_rule_09_what_a_leaver_asked_before_the_start_is_never_asked() -> None:
    desk = Desk()
    desk.join(1, 2)
    desk.ask(1, 1, "m", {"of": 1})
    desk.ask(2, 1, "m", {"of": 2})
    desk.leave(1)
    desk.start()
    assert [message["params"] for message in desk.sent()] == [{"of": 2}]


def test_rule_09_the_last_one_takes_leave_of_what_he_subscribed_to() -> None:
    desk = running(shipped("mcp"))
    for client in (1, 2):
        desk.ask(client, 1, "resources/subscribe", {"uri": "a"})
    desk.say(id=desk.sent()[0]["id"], result={})
    desk.leave(1)
    assert desk.sent() == []
    desk.leave(2)
    (sent,) = desk.sent()
    assert (sent["method"], sent["params"]) == ("resources/unsubscribe", {"uri": "a"})
    assert "id" in sent


# --- cancelling -----------------------------------------------------------------------------------------------------


def test_rule_03_a_cancelled_request_waits_for_the_answer_where_there_is_one() -> None:
    desk = running(shipped("lsp"))
    desk.ask(1, "x", "slow", {})
    (sent,) = desk.sent()
    desk.note(1, "$/cancelRequest", {"id": "x"})
    assert desk.sent() == [{"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": sent["id"]}}]
    assert desk.got(1) == []
    desk.say(id=sent["id"], error={"code": -32800, "message": "cancelled"})
    assert desk.got(1)[0]["error"]["code"] == -32800


def test_rule_03_a_cancelled_request_is_answered_here_where_there_is_none() -> None:
    desk = running(shipped("mcp"))
    desk.ask(1, 6, "tools/call", {})
    desk.ask(1, 7, "tools/call", {})
    six, seven = desk.sent()
    desk.note(1, "notifications/cancelled", {"requestId": 6, "reason": "test"})
    (cancel,) = desk.sent()
    assert cancel["params"] == {"requestId": six["id"], "reason": "test"}
    assert desk.got(1) == [], "as this protocol has it"
    desk.note(1, "$/cancelRequest", {"id": 7})
    assert desk.sent()[0]["params"] == {"requestId": seven["id"]}
    assert error(desk.got(1)[0]) == (-32800, "request_cancelled")


@pytest.mark.parametrize("identity", [4711, "6", None, 1.5, True, [6]])
def test_only_a_request_of_ones_own_can_be_cancelled(identity: object) -> None:
    desk = running(shipped("mcp"))
    desk.ask(1, 6, "tools/call", {})
    desk.sent()
    desk.note(2, "notifications/cancelled", {"requestId": 6})
    desk.note(1, "notifications/cancelled", {"requestId": identity})
    assert desk.sent() == []


def test_requests_of_the_brokers_own_are_answered_too() -> None:
    desk = running()
    ticket, found = desk.router.ask("m", {"a": 1}, desk.now, 5)
    desk.take(found)
    desk.say(id=desk.sent()[0]["id"], result=3)
    assert desk.answered[ticket] == {"result": 3}
    ticket, found = desk.router.ask("m", None, desk.now, 5)
    desk.take(found)
    desk.pass_time(6)
    assert desk.answered[ticket]["error"]["code"] == -31011
    ticket, found = desk.router.ask("m", None, desk.now, 5)
    desk.take(found)
    desk.die()
    assert desk.answered[ticket]["error"]["code"] == -31008
