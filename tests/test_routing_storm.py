"""Anything in any order: every request gets exactly one answer, under its own id, and nothing goes to a stranger."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from jobbroker.core.routing.effects import TurnBegan, TurnEnded
from routing import Desk, shipped

METHODS = ("thread/start", "turn/start", "tools/call", "resources/subscribe", "resources/unsubscribe", "shutdown", "m")
client = st.integers(1, 3)
identity = st.sampled_from([1, 2, "1", "2"])
thread = st.sampled_from(["T", "U", 1])
which = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("ask"), client, identity, st.sampled_from(METHODS), thread),
    st.tuples(st.just("cancel"), client, identity, st.booleans()),
    st.tuples(st.just("leave"), client),
    st.tuples(st.just("join"), client),
    st.tuples(st.just("answer"), which, thread, st.booleans()),
    st.tuples(st.just("note"), st.sampled_from(["item/started", "turn/completed", "other"]), thread),
    st.tuples(st.just("question"), which, thread),
    st.tuples(st.just("reply"), client, which, st.booleans()),
    st.tuples(st.just("turn"), st.sampled_from(["turn/start", "tools/call", "m"]), thread),
    st.tuples(st.just("stop turn"), which),
    st.tuples(st.just("time"), st.sampled_from([0.0, 5.0, 130.0, 4000.0])),
    st.tuples(st.just("die")),
    st.tuples(st.just("start")),
    st.tuples(st.just("full"), st.booleans()),
)


class Storm(Desk):
    """A desk that keeps the books of what is owed to whom."""

    def __init__(self, profile: str) -> None:
        super().__init__(shipped(profile, concurrency=4, queue=3) if profile == "generic" else shipped(profile))
        self.owed: Counter[tuple[int, str]] = Counter()
        self.waiting: list[Any] = []
        self.asked: dict[int, list[Any]] = {}
        self.begun = 0
        self.process = False
        self.duplicates: Counter[tuple[int, str]] = Counter()

    def settle(self) -> None:
        """Check what clients were sent against what they are owed."""
        for member in list(self.down):
            for message in self.got(member):
                if "method" in message and "id" in message:
                    self.asked.setdefault(member, []).append(message["id"])
                elif "id" in message:
                    key = member, repr(message["id"])
                    assert ("result" in message) != ("error" in message), message
                    if message.get("error", {}).get("code") == -32600:
                        self.duplicates[key] -= 1
                        assert self.duplicates[key] >= 0, message
                        continue
                    self.owed[key] -= 1
                    assert self.owed[key] >= 0, f"answered twice: {message}"
        for message in self.sent():
            if "method" in message and "id" in message:
                self.waiting.append(message)

    def step(self, step: tuple[Any, ...]) -> None:
        if step[0] in ("ask", "cancel", "leave", "join"):
            self.client(step)
        elif step[0] in ("turn", "stop turn", "time", "full", "start"):
            self.broker(step)
        elif self.process:
            self.backend(step)

    def client(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("ask", int(member), known, method, name) if member in self.down:
                params = {"threadId": name, "uri": name, "_meta": {"progressToken": name}}
                key = member, repr(known)
                under_way = self.router._desk.calls.of_client(member, known) is not None
                (self.duplicates if under_way else self.owed)[key] += 1
                self.ask(member, known, method, params)
            case ("cancel", int(member), known, bool(own_way)) if member in self.down:
                self.cancel_request(member, known, own_way=own_way)
            case ("leave", int(member)) if member in self.down:
                self.leave(member)
                for key in [key for key in self.owed if key[0] == member]:
                    del self.owed[key]
                self.asked.pop(member, None)
            case ("join", int(member)) if member not in self.down:
                self.join(member)
            case _:
                pass

    def cancel_request(self, member: int, known: Any, *, own_way: bool) -> None:
        """Take a request back, in the general way or in the backend's own, which may want no answer."""
        rule = self.profile.request_cancel
        if not own_way or rule is None:
            self.note(member, "$/cancelRequest", {"id": known})
            return
        if not rule.answered and self.router._desk.calls.of_client(member, known) is not None:
            self.owed[member, repr(known)] -= 1
        self.note(member, rule.notify, {rule.id: known})

    def broker(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("turn", method, name):
                self.begun += 1
                self.turn(f"job{self.begun}", method, {"threadId": name}, timeout=1000, grace=10)
            case ("stop turn", number):
                self.cancel(f"job{number}")
            case ("time", float(seconds)):
                self.pass_time(seconds)
            case ("full", bool(full)):
                self.router.congested(congested=full)
            case ("start",) if not self.process and self.router.state == "starting":
                self.process = True
                self.take(self.router.started(self.now))
            case _:
                pass

    def backend(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("answer", int(number), name, bool(good)) if self.waiting:
                message = self.waiting.pop(number % len(self.waiting))
                result = {"thread": {"id": name}, "turn": {"id": name}}
                if good or message["method"] == "initialize":
                    self.say(id=message["id"], result=result)
                else:
                    self.say(id=message["id"], error={"code": -1, "message": "no"})
            case ("note", method, name):
                self.say(method=method, params={"threadId": name, "turn": {"id": name, "status": "completed"}})
            case ("question", int(number), name):
                self.say(id=number, method="item/commandExecution/requestApproval", params={"threadId": name})
            case ("reply", int(member), int(number), bool(good)) if self.asked.get(member):
                known = self.asked[member][number % len(self.asked[member])]
                if good:
                    self.reply(member, id=known, result={})
                else:
                    self.reply(member, id=known, error={"code": -32601, "message": "?"})
            case ("die",):
                self.die()
                self.process = False
                self.waiting.clear()
            case _:
                pass


@pytest.mark.parametrize("profile", ["generic", "codex", "mcp", "lsp"])
@given(steps=st.lists(STEPS, max_size=60))
@settings(max_examples=150)
def test_rule_02_rule_08_rule_09_every_request_is_answered_once_and_nothing_goes_astray(
    profile: str, steps: list[tuple[Any, ...]]
) -> None:
    storm = Storm(profile)
    storm.join(1, 2)
    for step in steps:
        storm.step(step)
        storm.settle()
        questions = [asked for asked in storm.router._desk.asking.open() if not asked.waiting and not asked.patient]
        assert questions == [], "what the backend asks is put to somebody, or answered"
    storm.die()
    storm.settle()
    left = {key: count for key, count in storm.owed.items() if count > 0}
    assert left == {}, "owed and never answered"
    assert storm.router.pending == storm.router.turns == 0
    ends = [each.name for each in storm.turns if isinstance(each, TurnEnded)]
    begins = [each.name for each in storm.turns if isinstance(each, TurnBegan)]
    assert sorted(ends) == sorted(f"job{number + 1}" for number in range(storm.begun)), "a turn ends once"
    assert len(begins) == len(set(begins))
    storm.pass_time(10_000)
