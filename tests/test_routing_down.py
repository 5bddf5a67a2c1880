"""From the backend to clients: rules R3, R5, R7, R8, R17, R18, R22 of sharing one process (docs/backends.md)."""

from __future__ import annotations

from typing import Any

import pytest

from jobbroker.core.profile import Profile
from jobbroker.core.routing.downward import MAX_GARBAGE
from jobbroker.core.routing.effects import EndBackend, Remark
from routing import Desk, Message, running, shipped


def starts(desk: Desk, client: int, thread: str) -> None:
    """A client starts a thread, and so cares for it."""
    desk.ask(client, f"start {thread}", "thread/start", {})
    (sent,) = desk.sent()
    desk.say(id=sent["id"], result={"thread": {"id": thread}})
    desk.got(client)


def methods(messages: list[Message]) -> list[str]:
    return [str(message.get("method", message.get("id"))) for message in messages]


# --- R5, R7: notifications ------------------------------------------------------------------------------------------


def test_rule_05_answers_and_notifications_keep_their_order() -> None:
    desk = running(shipped("mcp"))
    desk.ask(1, "call", "tools/call", {"_meta": {"progressToken": "A"}})
    (sent,) = desk.sent()
    token = sent["params"]["_meta"]["progressToken"]
    for number in range(3):
        desk.say(method="notifications/progress", params={"progressToken": token, "progress": number})
    desk.say(id=sent["id"], result={})
    assert methods(desk.got(1)) == [*["notifications/progress"] * 3, "call"]


@pytest.mark.parametrize("token", ["A", 1, "1"])
def test_rule_07_a_token_finds_its_owner_and_has_its_type(token: object) -> None:
    desk = running(shipped("mcp"))
    for client in (1, 2):
        desk.ask(client, 1, "tools/call", {"name": "t", "_meta": {"progressToken": token, "more": 1}})
    tokens = [message["params"]["_meta"]["progressToken"] for message in desk.sent()]
    assert len(set(tokens)) == 2
    desk.say(method="notifications/progress", params={"progressToken": tokens[1], "progress": 1})
    assert desk.got(1) == []
    (note,) = desk.got(2)
    assert note["params"]["progressToken"] == token
    assert type(note["params"]["progressToken"]) is type(token)


def test_rule_07_r050_progress_after_the_answer_or_the_cancel_finds_nobody() -> None:
    desk = running(shipped("mcp"))
    desk.ask(1, 1, "tools/call", {"_meta": {"progressToken": "A"}})
    desk.ask(1, 2, "tools/call", {"_meta": {"progressToken": "B"}})
    first, second = desk.sent()
    desk.say(id=first["id"], result={})
    desk.note(1, "notifications/cancelled", {"requestId": 2})
    desk.got(1)
    for message in (first, second):
        token = message["params"]["_meta"]["progressToken"]
        desk.say(method="notifications/progress", params={"progressToken": token})
    assert desk.got(1) == []


def test_rule_07_a_token_lives_as_long_as_its_profile_says() -> None:
    desk = running(shipped("codex"))
    desk.ask(1, 1, "fs/watch", {"watchId": "w", "path": "/a"})
    desk.ask(2, 1, "fs/watch", {"watchId": "w", "path": "/b"})
    one, two = desk.sent()
    for sent in (one, two):
        desk.say(id=sent["id"], result={})
    for client in (1, 2):
        desk.got(client)
    desk.say(method="fs/changed", params={"watchId": one["params"]["watchId"]})
    assert (desk.got(1)[0]["params"], desk.got(2)) == ({"watchId": "w"}, [])
    desk.ask(2, 2, "fs/unwatch", {"watchId": "w"})
    assert desk.sent()[0]["params"]["watchId"] == two["params"]["watchId"]
    desk.say(method="fs/changed", params={"watchId": two["params"]["watchId"]})
    assert desk.got(2) == []


def test_rule_07_who_names_a_key_hears_of_it_before_and_after_the_answer() -> None:
    desk = running(shipped("codex"))
    desk.ask(1, 1, "turn/start", {"threadId": "T"})
    desk.say(method="item/started", params={"threadId": "T"})
    assert (methods(desk.got(1)), desk.got(2)) == (["item/started"], [])
    desk.sent()
    starts(desk, 2, "U")
    desk.say(method="item/started", params={"threadId": "U"})
    assert (desk.got(1), methods(desk.got(2))) == ([], ["item/started"])


def test_rule_07_r050_all_who_care_hear_and_who_cares_no_more_does_not() -> None:
    desk = running(shipped("lsp"))
    for client in (1, 2):
        desk.note(client, "textDocument/didOpen", {"textDocument": {"uri": "u"}})
    desk.say(method="textDocument/publishDiagnostics", params={"uri": "u", "diagnostics": []})
    assert [len(desk.got(client)) for client in (1, 2)] == [1, 1]
    desk.note(1, "textDocument/didClose", {"textDocument": {"uri": "u"}})
    desk.say(method="textDocument/publishDiagnostics", params={"uri": "u", "diagnostics": []})
    assert [len(desk.got(client)) for client in (1, 2)] == [0, 1]


def test_rule_07_what_has_no_key_is_for_everybody() -> None:
    desk = running(shipped("codex"))
    desk.say(method="account/rateLimits/updated", params={"rateLimits": {}}, emittedAtMs=5)
    for client in (1, 2):
        assert desk.got(client)[0] == {
            "jsonrpc": "2.0", "method": "account/rateLimits/updated", "params": {"rateLimits": {}}, "emittedAtMs": 5,
        }  # fmt: skip


@pytest.mark.parametrize(("unclaimed", "heard"), [("drop", 0), ("broadcast", 2)])
def test_rule_07_r050_what_nobody_claimed_goes_where_the_profile_says(unclaimed: str, heard: int) -> None:
    desk = running(shipped("codex", route={"unclaimed": unclaimed}))
    desk.say(method="item/started", params={"threadId": "child"})
    assert sum(len(desk.got(client)) for client in (1, 2)) == heard


def test_rule_07_some_methods_are_for_everybody_whatever_they_speak_of() -> None:
    desk = running(shipped("codex"))
    starts(desk, 1, "T")
    desk.say(method="thread/status/changed", params={"threadId": "T"})
    assert [len(desk.got(client)) for client in (1, 2)] == [1, 1]


def test_rule_17_what_may_be_lost_is_marked() -> None:
    desk = running(shipped("codex"))
    starts(desk, 1, "T")
    desk.say(method="item/agentMessage/delta", params={"threadId": "T", "delta": "x"})
    desk.say(method="turn/completed", params={"threadId": "T", "turn": {}})
    assert methods(desk.lossy) == ["item/agentMessage/delta"]


def test_rule_17_a_backend_that_does_not_read_is_busy() -> None:
    desk = running()
    desk.router.congested(congested=True)
    desk.ask(1, 1, "m")
    desk.note(1, "n", {})
    assert desk.got(1)[0]["error"]["code"] == -31001
    assert desk.sent() == []
    desk.router.congested(congested=False)
    desk.ask(1, 2, "m")
    assert methods(desk.sent()) == ["m"]


# --- R3, R8: what the backend asks ----------------------------------------------------------------------------------

APPROVAL = "item/commandExecution/requestApproval"


def test_rule_08_all_who_care_are_asked_and_the_first_answer_counts() -> None:
    desk = running(shipped("codex"), 1, 2, 3)
    starts(desk, 1, "T")
    desk.ask(2, 1, "thread/resume", {"threadId": "T"})
    desk.say(id=desk.sent()[0]["id"], result={"thread": {"id": "T"}})
    desk.got(2)
    desk.say(id=0, method=APPROVAL, params={"threadId": "T", "turnId": "t"})
    (one,), (two,) = desk.got(1), desk.got(2)
    assert (one["method"], desk.got(3)) == (APPROVAL, [])
    desk.reply(2, id=two["id"], result={"decision": "accept"})
    desk.reply(1, id=one["id"], result={"decision": "decline"})
    assert desk.sent() == [{"id": 0, "result": {"decision": "accept"}}]


def test_rule_03_the_ids_of_questions_are_each_clients_own() -> None:
    desk = running(shipped("codex"))
    starts(desk, 1, "T")
    starts(desk, 2, "U")
    desk.say(id=0, method=APPROVAL, params={"threadId": "U"})
    desk.say(id=1, method=APPROVAL, params={"threadId": "T"})
    (one,), (two,) = desk.got(1), desk.got(2)
    assert one["id"] == two["id"] == 1
    desk.reply(1, id=one["id"], result="of one")
    desk.reply(2, id=two["id"], result="of two")
    assert desk.sent() == [{"id": 1, "result": "of one"}, {"id": 0, "result": "of two"}]
    desk.say(method="serverRequest/resolved", params={"threadId": "T", "requestId": 1})
    assert (desk.got(1)[0]["params"], desk.got(2)) == ({"threadId": "T", "requestId": one["id"]}, [])


@pytest.mark.parametrize("identity", [2, 0, "1", 1.0, None, True])
def test_rule_03_an_answer_to_nothing_goes_nowhere(identity: object) -> None:
    desk = running(shipped("codex"))
    starts(desk, 1, "T")
    desk.say(id=0, method=APPROVAL, params={"threadId": "T"})
    desk.reply(2, id=1, result="a stranger's")
    desk.reply(1, id=identity, result="x")
    assert desk.sent() == []


def test_rule_08_the_only_one_at_work_is_asked() -> None:
    desk = running(shipped("mcp"))
    desk.ask(1, 1, "tools/call", {})
    desk.sent()
    desk.say(id=5, method="sampling/createMessage", params={"messages": []})
    (asked,) = desk.got(1)
    desk.reply(1, id=asked["id"], result={"role": "assistant"})
    assert desk.sent() == [{"jsonrpc": "2.0", "id": 5, "result": {"role": "assistant"}}]


def test_rule_08_of_two_at_work_none_is_guessed() -> None:
    desk = running(shipped("mcp"))
    for client in (1, 2):
        desk.ask(client, 1, "tools/call", {})
    desk.sent()
    desk.say(id=5, method="elicitation/create", params={})
    assert desk.got(1) == desk.got(2) == []
    assert desk.sent()[0]["result"] == {"action": "decline"}


NOBODY: list[tuple[str, str, Any, Any]] = [
    ("lsp", "workspace/configuration", {"items": [{}, {}]}, {"result": [None, None]}),
    ("lsp", "workspace/configuration", {}, {"result": []}),
    ("lsp", "client/registerCapability", {"registrations": []}, {"result": None}),
    ("mcp", "roots/list", None, {"result": {"roots": []}}),
    ("mcp", "elicitation/create", {}, {"result": {"action": "decline"}}),
    ("codex", APPROVAL, {"threadId": "?"}, {"result": {"decision": "decline"}}),
    ("codex", "attestation/generate", {}, -32601),
    ("generic", "anything", {}, -32601),
]


@pytest.mark.parametrize(("profile", "method", "params", "answer"), NOBODY)
def test_rule_08_without_anybody_the_profile_answers_and_never_allows(
    profile: str, method: str, params: Any, answer: Any
) -> None:
    desk = running(shipped(profile))
    desk.say(id="q", method=method, params=params)
    (sent,) = desk.sent()
    assert sent["id"] == "q"
    if isinstance(answer, int):
        assert sent["error"]["code"] == answer
    else:
        assert {"result": sent["result"]} == answer
    assert desk.got(1) == desk.got(2) == []


def test_rule_08_who_cannot_answer_is_no_answer_while_others_may() -> None:
    desk = running(shipped("codex"))
    starts(desk, 1, "T")
    desk.ask(2, 1, "turn/start", {"threadId": "T"})
    desk.sent()
    desk.say(id=0, method=APPROVAL, params={"threadId": "T"})
    (one,), (two,) = desk.got(1), desk.got(2)
    desk.reply(1, id=one["id"], error={"code": -32601, "message": "no handler"})
    assert desk.sent() == []
    desk.reply(2, id=two["id"], error={"code": -32601, "message": "no handler"})
    assert desk.sent() == [{"id": 0, "result": {"decision": "decline"}}]


def test_rule_08_with_the_last_who_could_answer_gone_the_profile_answers_at_once() -> None:
    desk = running(shipped("codex"))
    starts(desk, 1, "T")
    desk.say(id=0, method=APPROVAL, params={"threadId": "T"})
    desk.leave(1)
    assert desk.sent() == [{"id": 0, "result": {"decision": "decline"}}]


def test_rule_08_nobody_is_waited_for_for_ever() -> None:
    desk = running(shipped("codex"))
    starts(desk, 1, "T")
    desk.say(id=0, method=APPROVAL, params={"threadId": "T"})
    desk.pass_time(599)
    assert desk.sent() == []
    desk.pass_time(2)
    assert desk.sent() == [{"id": 0, "result": {"decision": "decline"}}]
    asked = desk.got(1)[0]
    desk.reply(1, id=asked["id"], result={"decision": "accept"})
    assert desk.sent() == [], "it was answered, once"


def test_rule_08_others_hear_that_they_need_not_answer() -> None:
    profile = shipped(
        "lsp", server_requests={"sole_inflight": False}, key=[{"name": "d", "param": "u", "notify": ["u"]}]
    )
    desk = running(profile)
    for client in (1, 2):
        desk.note(client, "look", {"u": "a"})
    desk.sent()
    desk.say(id="q", method="choose", params={"u": "a"})
    (one,), (two,) = desk.got(1), desk.got(2)
    desk.reply(1, id=one["id"], result=1)
    assert desk.got(2) == [{"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": two["id"]}}]


def test_rule_03_a_question_taken_back_is_taken_back_from_who_was_asked() -> None:
    desk = running(shipped("mcp"))
    desk.ask(1, 1, "tools/call", {})
    desk.sent()
    desk.say(id=5, method="sampling/createMessage", params={})
    (asked,) = desk.got(1)
    desk.say(method="notifications/cancelled", params={"requestId": 5, "reason": "no need"})
    (note,) = desk.got(1)
    assert (note["params"], desk.got(2)) == ({"requestId": asked["id"], "reason": "no need"}, [])
    desk.reply(1, id=asked["id"], result={})
    assert desk.sent() == []


# --- R18, R22: what is no message -----------------------------------------------------------------------------------


def test_rule_22_what_is_no_message_is_no_end_unless_there_is_nothing_else() -> None:
    desk = running()
    for text in (b"Listening on port 3", b"[]", b"3", b"{}", b'{"method":3}', b"\xff", b"{" * 2000):
        desk.write(text)
    desk.ask(1, 1, "m")
    desk.say(id=desk.sent()[0]["id"], result=1)
    assert desk.got(1)[0]["result"] == 1
    for _ in range(MAX_GARBAGE - 1):
        desk.write(b"garbage")
    assert not any(isinstance(effect, EndBackend) for effect in desk.other)
    desk.write(b"garbage")
    assert any(isinstance(effect, EndBackend) for effect in desk.other)


def test_rule_22_what_is_lost_is_told_of_ever_more_rarely() -> None:
    desk = running()
    for _ in range(1000):
        desk.write(b"garbage")
        desk.say(method="n")
    told = [effect.text.rpartition("(")[2] for effect in desk.other if isinstance(effect, Remark)]
    assert told == ["1 so far)", "10 so far)", "100 so far)", "1000 so far)"]


def test_rule_22_half_a_surrogate_costs_a_character_not_the_message() -> None:
    desk = running()
    desk.ask(1, 1, "m")
    desk.write(b'{"id":%d,"result":"a\\ud800b \\ud83d\\ude00"}' % desk.sent()[0]["id"])
    assert desk.got(1)[0]["result"] == "a\ufffdb \U0001f600"


def test_rule_18_a_message_that_is_too_long_is_said_and_its_request_ends_by_its_deadline() -> None:
    desk = running()
    desk.ask(1, 1, "m")
    desk.take(desk.router.oversized())
    assert any(isinstance(effect, Remark) for effect in desk.other)
    desk.pass_time(121)
    assert desk.got(1)[0]["error"]["code"] == -31011


def test_an_answer_without_result_or_error_is_an_answer() -> None:
    desk = running()
    desk.ask(1, 1, "m")
    desk.say(id=desk.sent()[0]["id"])
    assert desk.got(1)[0]["result"] is None


def test_a_profile_without_keys_tells_everybody_everything() -> None:
    desk = running(Profile(name="x"))
    desk.say(method="n", params={"threadId": "T"})
    assert [len(desk.got(client)) for client in (1, 2)] == [1, 1]


def test_what_was_answered_leaves_nothing_behind() -> None:
    desk = running()
    desk.ask(1, "first", "m")
    for number in range(2000):
        desk.ask(2, number, "m")
        desk.say(id=desk.sent()[-1]["id"], result=1)
    assert len(desk.router._desk.calls._deadlines) < 200
    desk.pass_time(121)
    assert [answer["id"] for answer in desk.got(1)] == ["first"]
