"""What clients and the backend can make the routing keep, and how much of it: rules R16 to R18 (docs/backends.md)."""

from __future__ import annotations

from typing import Any

from jobbroker.core.routing.asking import MAX_OPEN
from jobbroker.core.routing.desk import MAX_HELD, MAX_UNSENT
from jobbroker.core.routing.interests import MAX_KEY, MAX_KEYS
from jobbroker.core.routing.tokens import MAX_TOKENS
from jobbroker.core.routing.upward import MAX_UNDER_WAY
from routing import Desk, Message, running, shipped

APPROVAL = "item/commandExecution/requestApproval"
MIB = 1024 * 1024


def kind(message: Message) -> str:
    found: str = message["error"]["data"]["kind"]
    return found


# --- before the backend takes it ------------------------------------------------------------------------------------


def test_rule_17_what_waits_for_the_start_is_bounded_in_bytes() -> None:
    desk = Desk(shipped("mcp"))
    desk.join(1)
    large = {"text": "x" * MIB}
    for number in range(20):
        desk.ask(1, number, "m", large)
    refused = desk.got(1)
    assert {kind(message) for message in refused} == {"busy"}
    assert 3 <= len(refused) <= 5
    assert MAX_UNSENT < desk.router.unsent < MAX_UNSENT + 2 * MIB
    desk.note(1, "note", large)
    assert desk.router.dropped == 1
    desk.start()
    assert desk.router.unsent == 0
    desk.ask(1, "more", "m", large)
    assert desk.got(1) == []


def test_rule_17_and_in_number() -> None:
    desk = Desk(shipped("mcp"))
    desk.join(1, 2)
    for _ in range(MAX_HELD + 5):
        desk.note(1, "note", {})
    desk.ask(2, 1, "m")
    assert [kind(message) for message in desk.got(2)] == ["busy"]
    assert desk.router.dropped == 5


def test_rule_17_what_a_serial_backend_has_not_taken_is_bounded_too() -> None:
    desk = running(shipped("generic", concurrency=1, queue=1000))
    for number in range(30):
        desk.ask(1, number, "m", {"text": "x" * MIB})
    assert {kind(message) for message in desk.got(1)} == {"busy"}
    held = desk.router.unsent
    assert held > MAX_UNSENT
    desk.leave(1)
    assert desk.router.unsent == 0


def test_rule_17_one_who_asks_without_end_is_refused_alone() -> None:
    desk = running()
    for number in range(MAX_UNDER_WAY + 3):
        desk.ask(1, number, "m")
    assert [kind(message) for message in desk.got(1)] == ["busy"] * 3
    desk.ask(2, 1, "m")
    assert desk.got(2) == []
    desk.say(id=desk.sent()[0]["id"], result=1)
    desk.got(1)
    desk.ask(1, "again", "m")
    assert desk.got(1) == []


# --- what is remembered ---------------------------------------------------------------------------------------------


def test_rule_17_a_key_longer_than_any_is_none() -> None:
    desk = running(shipped("codex", route={"unclaimed": "drop"}))
    for client, thread in ((1, "T" * MAX_KEY), (2, "U" * (MAX_KEY + 1))):
        desk.ask(client, 1, "thread/resume", {"threadId": thread})
        desk.say(method="turn/started", params={"threadId": thread})
    assert len(desk.got(1)) == 2, "its own, and what speaks of nothing"
    assert len(desk.got(2)) == 1


def test_rule_17_of_too_many_keys_the_oldest_are_forgotten() -> None:
    desk = running(shipped("codex", route={"unclaimed": "drop"}))
    for number in range(MAX_KEYS + 1):
        desk.note(1, "thread/resume", {"threadId": number})
    desk.say(method="turn/started", params={"threadId": 0})
    assert desk.got(1) == []
    desk.say(method="turn/started", params={"threadId": 1})
    assert len(desk.got(1)) == 1


def test_rule_21_who_opens_without_end_is_passed_on_uncounted() -> None:
    desk = running(shipped("lsp"))

    def opens(client: int, number: int) -> int:
        document = {"uri": f"file:///{number}", "text": "x" * 1000}
        desk.note(client, "textDocument/didOpen", {"textDocument": document})
        return len(desk.sent())

    assert all(opens(1, number) for number in range(MAX_KEYS))
    assert opens(1, MAX_KEYS) == opens(1, MAX_KEYS) == 1
    assert (opens(2, 5), opens(2, MAX_KEYS)) == (0, 1)
    desk.leave(1)
    closed = [message["params"]["textDocument"]["uri"] for message in desk.sent()]
    assert len(set(closed)) == len(closed) == MAX_KEYS - 1
    assert "file:///5" not in closed, "somebody else has it open"


def test_rule_07_of_too_many_lasting_tokens_the_oldest_are_forgotten() -> None:
    desk = running(shipped("codex"))
    unique: list[str] = []
    for number in range(MAX_TOKENS + 1):
        desk.note(1, "fs/watch", {"watchId": number})
        unique.append(desk.sent()[0]["params"]["watchId"])
    desk.say(method="fs/changed", params={"watchId": unique[0]})
    assert desk.got(1) == []
    desk.say(method="fs/changed", params={"watchId": unique[1]})
    assert desk.got(1)[0]["params"] == {"watchId": 1}


def test_rule_07_a_token_given_twice_is_that_of_the_later_request() -> None:
    desk = running(shipped("codex"))
    desk.ask(1, 1, "command/exec", {"processId": "p"})
    desk.ask(1, 2, "command/exec", {"processId": "p"})
    first, second = desk.sent()
    desk.say(id=first["id"], result={})
    desk.ask(1, 3, "command/exec/write", {"processId": "p"})
    assert desk.sent()[0]["params"] == {"processId": second["params"]["processId"]}


def test_rule_07_what_is_no_token_passes_as_it_is() -> None:
    desk = running(shipped("mcp"))
    for value in ({"a": 1}, [1], None, 1.5, "x" * (MAX_KEY + 1)):
        params: Any = {"_meta": {"progressToken": value}}
        desk.ask(1, str(value), "tools/call", params)
        assert desk.sent()[0]["params"] == params


# --- what the backend asks ------------------------------------------------------------------------------------------


def cares(desk: Desk) -> None:
    desk.note(1, "thread/resume", {"threadId": "T"})
    desk.sent()


def test_rule_08_of_too_many_questions_the_rest_is_answered_without_asking() -> None:
    desk = running(shipped("codex"))
    cares(desk)
    for number in range(MAX_OPEN + 2):
        desk.say(id=number, method=APPROVAL, params={"threadId": "T"})
    asked = desk.got(1)
    assert (len(asked), desk.router.asking) == (MAX_OPEN, MAX_OPEN)
    assert [message["id"] for message in desk.sent()] == [MAX_OPEN, MAX_OPEN + 1]
    desk.reply(1, id=asked[0]["id"], result={"decision": "accept"})
    desk.say(id="one more", method=APPROVAL, params={"threadId": "T"})
    assert len(desk.got(1)) == 1


def test_rule_03_a_question_asked_again_under_its_id_is_another() -> None:
    desk = running(shipped("codex"))
    cares(desk)
    for text in ("first", "second"):
        desk.say(id=0, method=APPROVAL, params={"threadId": "T", "text": text})
    first, second = desk.got(1)
    assert desk.router.asking == 1
    desk.reply(1, id=first["id"], result="too late")
    assert desk.sent() == []
    desk.reply(1, id=second["id"], result="in time")
    assert [message["result"] for message in desk.sent()] == ["in time"]
    desk.leave(1)
    assert desk.router._desk.asking._by_client == {}


def test_rule_03_a_question_the_backend_calls_settled_wants_no_answer() -> None:
    desk = running(shipped("codex"))
    cares(desk)
    desk.say(id=0, method=APPROVAL, params={"threadId": "T"})
    (asked,) = desk.got(1)
    desk.say(method="serverRequest/resolved", params={"threadId": "T", "requestId": 0})
    assert (desk.got(1)[0]["params"]["requestId"], desk.router.asking) == (asked["id"], 0)
    desk.reply(1, id=asked["id"], result="too late")
    desk.pass_time(3600)
    assert desk.sent() == []


# --- answers that say too much --------------------------------------------------------------------------------------


def test_rule_11_an_error_that_is_null_is_none() -> None:
    desk = running(shipped("codex"))
    desk.turn("job", "anything", {})
    desk.ask(1, 1, "m")
    turn, request = desk.sent()
    desk.say(id=turn["id"], result={"a": 1}, error=None)
    desk.say(id=request["id"], result={"b": 1}, error=None)
    assert desk.kinds() == ["began", '{"a":1}', "completed/exit"]
    assert desk.got(1) == [{"jsonrpc": "2.0", "id": 1, "result": {"b": 1}}]
    cares(desk)
    desk.say(id=0, method=APPROVAL, params={"threadId": "T"})
    desk.reply(1, id=desk.got(1)[0]["id"], result={"decision": "accept"}, error=None)
    assert desk.sent() == [{"id": 0, "result": {"decision": "accept"}}]
