"""Turns: requests that are followed to their end, rules R6, R8, R13, R15 (docs/backends.md), and the race recorded."""

from __future__ import annotations

import pytest

from jobbroker.core.profile import Profile
from jobbroker.core.routing.effects import EndBackend, TurnEnded
from jobbroker.core.routing.turns import MAX_EARLY
from routing import Desk, Message, running, shipped

RACE = (
    # What one backend was seen to write in this order, once in 400 turns: the turn begins before it has a name.
    {"method": "warning", "params": {"threadId": "T", "message": "no metadata"}},
    {"method": "thread/status/changed", "params": {"threadId": "T", "status": {"type": "active"}}},
    {"method": "turn/started", "params": {"threadId": "T", "turn": {"id": "t", "status": "inProgress", "error": None}}},
)
TEXT: Message = {
    "method": "item/completed",
    "params": {"threadId": "T", "turnId": "t", "item": {"type": "agentMessage", "text": "done"}},
}
MERGED: Message = {
    "start": "turn/start",
    "vars": {"thread": "params.threadId", "turn": "result.turn.id"},
    "end": {"method": "turn/completed", "match": {"turn.id": "$turn"}, "status": "turn.status"},
}


def ended(status: str, turn: str = "t", thread: str = "T", error: object = None) -> Message:
    return {
        "method": "turn/completed",
        "params": {"threadId": thread, "turn": {"id": turn, "status": status, "error": error}},
    }


def hung(desk: Desk) -> bool:
    return desk.router.hung


def codex(**changes: object) -> Desk:
    return running(shipped("codex", **changes))


def begin(desk: Desk, name: str = "job", thread: str = "T", **limits: float) -> int:
    """Start a turn; the id of its request."""
    desk.turn(name, "turn/start", {"threadId": thread, "input": []}, **limits)
    (sent,) = [message for message in desk.sent() if message["method"] == "turn/start"]
    identity: int = sent["id"]
    return identity


def respond(desk: Desk, identity: int, turn: str = "t") -> None:
    desk.say(id=identity, result={"turn": {"id": turn, "status": "inProgress"}})


def test_a_turn_ends_by_its_notification_with_its_text() -> None:
    desk = codex()
    respond(desk, begin(desk))
    desk.say(**TEXT)
    desk.say(**ended("completed", turn="another"))
    desk.say(**ended("completed", thread="another"))
    assert not any(isinstance(each, TurnEnded) for each in desk.turns)
    desk.say(**ended("completed"))
    began, progress, text, end = desk.kinds()
    assert (began, text, end) == ("began", "done", "completed/exit")
    assert "item/completed" in progress
    assert desk.router.turns == 0


def test_rule_06_an_end_that_comes_before_the_answer_is_not_lost() -> None:
    desk = codex()
    identity = begin(desk)
    for message in (*RACE, TEXT, ended("failed", error={"message": "high demand"})):
        desk.say(**message)
    assert desk.kinds() == ["began"]
    respond(desk, identity)
    assert desk.kinds()[-1] == "failed/exit"
    assert isinstance(desk.turns[-1], TurnEnded)
    assert desk.turns[-1].error == "high demand"


def test_rule_06_only_so_much_is_kept_and_the_end_is_among_it() -> None:
    desk = codex()
    identity = begin(desk)
    desk.say(**ended("completed"))
    for _ in range(2 * MAX_EARLY):
        desk.say(**TEXT)
    respond(desk, identity)
    assert desk.kinds()[-1] == "completed/exit"


@pytest.mark.parametrize(
    ("said", "end"), [("interrupted", "cancelled/user"), ("weird", "failed/exit"), (None, "failed/exit")]
)
def test_what_the_backend_calls_an_end(said: str, end: str) -> None:
    desk = codex()
    respond(desk, begin(desk))
    desk.say(**ended(said))
    assert desk.kinds()[-1] == end


def test_an_error_instead_of_an_answer_is_the_end() -> None:
    desk = codex()
    desk.say(id=begin(desk), error={"code": -32600, "message": "thread not found"})
    assert isinstance(desk.turns[-1], TurnEnded)
    assert (desk.kinds()[-1], desk.turns[-1].error) == ("failed/exit", "thread not found")


def test_r085_a_note_of_an_error_is_no_end() -> None:
    desk = codex()
    respond(desk, begin(desk))
    desk.say(method="error", params={"threadId": "T", "turnId": "t", "willRetry": True, "error": {"message": "x"}})
    assert desk.router.turns == 1


# --- cancelling and limits ------------------------------------------------------------------------------------------


def test_r055_a_turn_is_cancelled_in_the_backends_way() -> None:
    desk = codex()
    respond(desk, begin(desk))
    desk.cancel("job")
    desk.cancel("job")
    (interrupt,) = desk.sent()
    assert (interrupt["method"], interrupt["params"]) == ("turn/interrupt", {"threadId": "T", "turnId": "t"})
    desk.say(id=interrupt["id"], result={})
    assert desk.router.turns == 1, "asked is not ended"
    desk.say(**ended("interrupted"))
    assert desk.kinds()[-1] == "cancelled/user"


def test_a_cancel_before_the_turn_has_a_name_is_remembered() -> None:
    desk = codex()
    identity = begin(desk)
    desk.cancel("job")
    assert desk.sent() == []
    respond(desk, identity)
    assert desk.sent()[0]["method"] == "turn/interrupt"
    desk.say(**ended("interrupted"))
    assert desk.kinds()[-1] == "cancelled/user"


def test_a_cancel_that_comes_too_late_changes_nothing() -> None:
    desk = codex()
    respond(desk, begin(desk))
    desk.cancel("job")
    desk.say(**ended("completed"))
    assert desk.kinds()[-1] == "completed/exit"


def test_r055_r104_a_cancel_nobody_confirms_ends_after_the_grace() -> None:
    desk = codex()
    respond(desk, begin(desk))
    desk.cancel("job", grace=10)
    desk.pass_time(9)
    assert desk.router.turns == 1
    desk.pass_time(2)
    assert desk.kinds()[-1] == "cancelled/user"
    desk.say(**ended("interrupted"))
    assert desk.kinds()[-1] == "cancelled/user", "its later end is nobody's"


def test_r104_a_turn_that_was_not_sent_yet_is_never_sent() -> None:
    desk = Desk(shipped("codex"))
    desk.join(1)
    desk.turn("job", "turn/start", {"threadId": "T"})
    desk.cancel("job")
    assert desk.kinds() == ["cancelled/user"]
    desk.take(desk.router.started(desk.now))
    desk.say(id=desk.sent()[0]["id"], result={})
    assert [message["method"] for message in desk.sent()] == ["initialized"]


def test_the_time_limit_asks_for_the_end_and_gives_it_a_grace() -> None:
    desk = codex()
    respond(desk, begin(desk, timeout=100, grace=5))
    desk.pass_time(101)
    assert desk.sent()[0]["method"] == "turn/interrupt"
    desk.say(**ended("interrupted"))
    assert desk.kinds()[-1] == "timed_out/deadline"


def test_the_time_limit_holds_with_a_backend_that_answers_nothing() -> None:
    desk = codex()
    begin(desk, timeout=100, grace=5)
    desk.pass_time(104)
    assert desk.router.turns == 1
    desk.pass_time(2)
    assert desk.kinds() == ["began", "timed_out/deadline"]
    assert desk.router.turns == 0


def test_the_idle_limit_is_put_off_by_progress() -> None:
    desk = codex()
    respond(desk, begin(desk, timeout=0, idle=10, grace=1))
    for _ in range(5):
        desk.pass_time(8)
        desk.say(**TEXT)
    assert desk.router.turns == 1
    desk.pass_time(12)
    assert desk.kinds()[-1] == "timed_out/idle"


def test_two_turns_that_were_merged_end_together() -> None:
    profile = shipped("codex")
    desk = running(shipped("codex", job=[MERGED]))
    for name in ("one", "two"):
        respond(desk, begin(desk, name))
    desk.say(**ended("completed"))
    assert [each.name for each in desk.turns if isinstance(each, TurnEnded)] == ["one", "two"]
    assert profile.rule("turn/start").exclusive == ("thread",), "which is why the profile forbids it"


# --- turns that end with their answer -------------------------------------------------------------------------------


def tool(desk: Desk, name: str = "job", **limits: float) -> Message:
    desk.turn(name, "tools/call", {"name": "t"}, **limits)
    (sent,) = desk.sent()
    return sent


def test_an_answer_is_an_end_where_the_profile_says_so() -> None:
    desk = running(shipped("mcp"))
    desk.say(id=tool(desk)["id"], result={"content": [1]})
    assert desk.kinds() == ["began", '{"content":[1]}', "completed/exit"]


def test_a_result_may_be_an_error() -> None:
    desk = running(shipped("mcp"))
    desk.say(id=tool(desk)["id"], result={"content": [], "isError": True})
    assert desk.kinds()[-1] == "failed/exit"


def test_a_turn_has_a_token_of_its_own_for_its_progress() -> None:
    desk = running(shipped("mcp"))
    sent = tool(desk)
    token = sent["params"]["_meta"]["progressToken"]
    desk.say(method="notifications/progress", params={"progressToken": token, "progress": 1})
    assert desk.got(1) == desk.got(2) == []
    assert '"progress":1' in desk.kinds()[1]
    assert token not in desk.kinds()[1]


def test_a_cancel_that_is_never_answered_ends_at_once() -> None:
    desk = running(shipped("mcp"))
    sent = tool(desk)
    desk.cancel("job")
    assert desk.sent()[0]["params"] == {"requestId": sent["id"]}
    assert desk.kinds()[-1] == "cancelled/user"
    desk.say(id=sent["id"], result={})
    assert len(desk.kinds()) == 2


def test_any_method_can_be_a_turn() -> None:
    desk = running()
    desk.turn("job", "m", [1])
    desk.say(id=desk.sent()[0]["id"], result="text")
    assert desk.kinds() == ["began", "text", "completed/exit"]


# --- R8, R13, R15 ---------------------------------------------------------------------------------------------------

APPROVAL = "item/commandExecution/requestApproval"


def patient() -> Profile:
    return shipped("codex", job=[{**MERGED, "attach_grace": 60}])


def test_rule_08_what_a_patient_turn_asks_waits_for_a_client() -> None:
    desk = running(patient())
    respond(desk, begin(desk))
    desk.say(id=0, method=APPROVAL, params={"threadId": "T", "turnId": "t"})
    assert desk.sent() == []
    desk.ask(2, 1, "thread/resume", {"threadId": "T"})
    (asked,) = [message for message in desk.got(2) if message.get("method") == APPROVAL]
    desk.reply(2, id=asked["id"], result={"decision": "accept"})
    assert {"id": 0, "result": {"decision": "accept"}} in desk.sent()


def test_rule_08_patience_has_an_end() -> None:
    desk = running(patient())
    respond(desk, begin(desk))
    desk.say(id=0, method=APPROVAL, params={"threadId": "T", "turnId": "t"})
    desk.pass_time(61)
    assert desk.sent() == [{"id": 0, "result": {"decision": "decline"}}]


def test_rule_13_r084_the_end_of_the_backend_ends_everything() -> None:
    desk = codex()
    respond(desk, begin(desk))
    desk.turn("two", "turn/start", {"threadId": "U"})
    desk.ask(1, "x", "model/list", {})
    desk.die("was killed by SIGKILL")
    (answer,) = desk.got(1)
    assert (answer["id"], answer["error"]["code"]) == ("x", -31008)
    assert answer["error"]["data"]["stderrTail"] == "last words"
    assert desk.kinds()[-2:] == ["failed/backend_exit"] * 2
    assert (desk.router.pending, desk.router.turns, desk.router.state) == (0, 0, "down")
    assert desk.router.due() is None


def test_rule_15_silence_is_asked_about_and_three_times_no_answer_is_a_hang() -> None:
    desk = codex(probe={"while_busy": True, "hung": "kill"})
    desk.ask(1, 1, "model/list", {})
    desk.sent()
    desk.pass_time(29)
    assert desk.sent() == []
    desk.pass_time(2)
    assert desk.sent()[0]["method"] == "broker/ping"
    desk.pass_time(28)
    assert not hung(desk)
    desk.pass_time(4)
    assert hung(desk)
    assert any(isinstance(effect, EndBackend) for effect in desk.other)


def test_rule_15_any_word_is_a_sign_of_life() -> None:
    desk = codex()
    desk.ask(1, 1, "model/list", {})
    desk.pass_time(75)
    desk.write(b"not even a message")
    desk.pass_time(29)
    assert not hung(desk)
    desk.pass_time(40)
    assert hung(desk)
    desk.write(b"after all")
    assert not hung(desk)


def test_rule_15_who_cannot_answer_at_work_is_not_asked_before_he_is_late() -> None:
    desk = running()
    desk.ask(1, 1, "m")
    desk.sent()
    desk.pass_time(119)
    assert desk.sent() == []
    desk.pass_time(2)
    assert desk.got(1)[0]["error"]["code"] == -31011
    desk.pass_time(31)
    assert desk.sent()[0]["method"] == "broker/ping"
    desk.pass_time(31)
    assert hung(desk)


def test_rule_15_silence_counts_from_the_request() -> None:
    desk = codex()
    desk.pass_time(1000)
    desk.ask(1, 1, "model/list", {})
    desk.pass_time(29)
    assert [message["method"] for message in desk.sent()] == ["model/list"]
    desk.pass_time(1)
    assert [message["method"] for message in desk.sent()] == ["broker/ping"]


def test_rule_15_a_client_that_comes_is_reason_to_look() -> None:
    desk = codex()
    desk.pass_time(1000)
    assert desk.sent() == []
    desk.ask(1, 1, "initialize", {})
    assert desk.got(1)[0]["result"] == {"server": "here"}
    desk.pass_time(0)
    (probe,) = desk.sent()
    assert probe["method"] == "broker/ping"
    desk.pass_time(30)
    assert hung(desk)
    desk.say(id=probe["id"], error={"code": -32601, "message": "?"})
    assert not hung(desk)
    desk.sent()
    desk.ask(2, 1, "initialize", {})
    desk.pass_time(29)
    assert desk.sent() == [], "it was heard just now"


def test_rule_15_nothing_is_due_while_nothing_is_owed() -> None:
    desk = codex()
    assert desk.router.due() is None
