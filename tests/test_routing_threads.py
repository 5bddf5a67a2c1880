"""Turns, threads and the clients that come and go: requirements R049 to R054 (docs/backends.md)."""

from __future__ import annotations

import json

import pytest

from jobbroker.core.routing.effects import TurnEnded
from routing import Desk, Message, running, shipped


def codex(*clients: int) -> Desk:
    return running(shipped("codex"), *clients)


def begin(desk: Desk, name: str = "job", method: str = "turn/start", thread: str = "T") -> int:
    """Start a turn; the id of its request."""
    desk.turn(name, method, {"threadId": thread})
    (sent,) = [message for message in desk.sent() if message["method"] == method]
    identity: int = sent["id"]
    return identity


def named(turn: str = "t") -> Message:
    return {"turn": {"id": turn, "status": "inProgress"}}


def ends(thread: str = "T", turn: str = "t") -> Message:
    return {"method": "turn/completed", "params": {"threadId": thread, "turn": {"id": turn, "status": "completed"}}}


def over(desk: Desk) -> list[str]:
    return [f"{each.name} {each.status}" for each in desk.turns if isinstance(each, TurnEnded)]


def test_r049_a_review_has_the_thread_its_answer_names() -> None:
    desk = codex()
    desk.say(id=begin(desk, method="review/start"), result={**named(), "reviewThreadId": "R"})
    empty: Message = {"method": "turn/completed", "params": {}}
    for foreign in (ends("T"), ends("R", "another"), empty):
        desk.say(**foreign)
    assert over(desk) == []
    desk.say(**ends("R"))
    assert over(desk) == ["job completed"]


def test_r049_who_asked_for_the_review_hears_of_its_thread() -> None:
    desk = codex()
    desk.ask(1, 1, "review/start", {"threadId": "T"})
    desk.say(id=desk.sent()[0]["id"], result={**named(), "reviewThreadId": "R"})
    desk.got(1)
    desk.say(method="item/started", params={"threadId": "R", "turnId": "t"})
    assert (len(desk.got(1)), desk.got(2)) == (1, [])


@pytest.mark.parametrize("answered", [True, False])
def test_r052_who_leaves_before_the_answer_keeps_nobody_from_the_thread(answered: bool) -> None:
    desk = codex()
    desk.ask(1, 1, "turn/start", {"threadId": "T"})
    (sent,) = desk.sent()
    desk.leave(1)
    if answered:
        desk.say(id=sent["id"], result=named())
    desk.ask(2, 1, "turn/start", {"threadId": "T"})
    (next_one,) = desk.sent()
    desk.say(id=next_one["id"], result=named("u"))
    assert desk.got(2)[0]["result"] == named("u")
    begin(desk)
    assert desk.kinds() == ["began"]


def test_r053_an_end_right_behind_the_answer_frees_the_thread() -> None:
    desk = codex()
    identity = begin(desk)
    for message in ({"id": identity, "result": named()}, ends()):
        desk.write(json.dumps(message).encode())
    assert over(desk) == ["job completed"]
    assert desk.router.holder("turn/start", {"threadId": "T"}) is None


def test_r054_a_request_that_is_refused_frees_nothing() -> None:
    desk = codex()
    desk.say(id=begin(desk), result=named())
    desk.ask(1, 1, "thread/read", {"threadId": "T"})
    desk.say(id=desk.sent()[0]["id"], error={"code": -32600, "message": "no"})
    desk.ask(1, 2, "turn/start", {"threadId": "T"})
    assert desk.router.holder("turn/start", {"threadId": "T"}) == "job"
    assert desk.sent() == []


def test_r054_a_turn_that_is_refused_frees_all_it_held() -> None:
    desk = codex()
    desk.say(id=begin(desk), error={"code": -32600, "message": "no such thread"})
    assert over(desk) == ["job failed"]
    assert desk.router.holder("turn/start", {"threadId": "T"}) is None
    assert (desk.router.pending, desk.router.turns) == (0, 0)


def test_r055_an_interrupt_that_is_lost_swallows_nothing() -> None:
    desk = codex()
    desk.say(id=begin(desk), result=named())
    desk.cancel("job", grace=5)
    desk.sent()
    desk.pass_time(6)
    assert over(desk) == ["job cancelled"]
    desk.say(id=begin(desk, "next"), result=named("u"))
    desk.say(**ends("T", "t"))
    assert over(desk) == ["job cancelled"], "the late end is that of the first"
    desk.say(**ends("T", "u"))
    assert over(desk) == ["job cancelled", "next completed"]
