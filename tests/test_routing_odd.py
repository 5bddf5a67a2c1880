"""Values of any kind where the routing looks for others, from clients and from the backend; nothing of it stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from jobbroker.core.profile import Cancel, End, Profile, Take
from routing import Desk, shipped

WORDS = (
    "threadId", "turnId", "turn", "id", "uri", "token", "progressToken", "_meta", "requestId", "items", "textDocument",
    "status", "error", "item", "watchId", "processId", "sessionId", "thread", "workDoneToken", "each", "code",
)  # fmt: skip
atoms = st.one_of(
    st.sampled_from(["T", "t", "", "jobbroker-1", "jobbroker-2", "completed", "\u2028"]),
    st.sampled_from([0, 1, 2, 3, -1, 2**60, 2**70, 1.5, True, False, None]),
)
values: st.SearchStrategy[Any] = st.recursive(
    atoms,
    lambda below: st.dictionaries(st.sampled_from(WORDS), below, max_size=4) | st.lists(below, max_size=3),
    max_leaves=8,
)


def spoken(profile: Profile) -> list[str]:
    """Every method a profile knows, and some it does not."""
    rules = profile.client_methods
    found = {"m", "$/cancelRequest", *rules.deny, *rules.local, *profile.route.broadcast, *profile.route.lossy}
    found |= {method for pair in rules.refcount for method in (pair.subscribe, pair.unsubscribe)}
    found |= {method for key in profile.key for method in (*key.learn_from, *key.forget_on)}
    found |= {method for token in profile.token for method in (*token.learn_from, *token.notify, *token.requests)}
    asked = profile.server_requests
    found |= {*asked.answers, *asked.refuse, *asked.id_params}
    if profile.handshake is not None:
        found |= {profile.handshake.request, profile.handshake.notify or "m"}
    if profile.request_cancel is not None:
        found.add(profile.request_cancel.notify)
    for rule in profile.job:
        found.add(rule.start)
        found |= {each.method for each in (rule.end, rule.result) if isinstance(each, End | Take)}
        found |= set(rule.progress.methods) if rule.progress is not None else set()
        if isinstance(rule.cancel, Cancel):
            found.add(rule.cancel.request or "m")
    return sorted(found)


def steps(profile: Profile) -> st.SearchStrategy[tuple[Any, ...]]:
    client, method = st.integers(1, 3), st.sampled_from(spoken(profile))
    identity = st.sampled_from([1, 2, 3, "1"]) | values
    message = {"id": identity, "method": method | values, "params": values, "result": values, "error": values}
    return st.one_of(
        st.tuples(st.just("ask"), client, identity, method, values),
        st.tuples(st.just("note"), client, method, values),
        st.tuples(st.just("reply"), client, identity, st.sampled_from(["result", "error"]), values),
        st.tuples(st.just("turn"), method, values),
        st.tuples(st.just("time"), st.sampled_from([1.0, 200.0])),
        st.tuples(st.just("say"), st.fixed_dictionaries({}, optional=message)),
    )


def take(desk: Desk, step: tuple[Any, ...]) -> None:
    match step:
        case ("ask", client, identity, method, params):
            texts = json.dumps(identity).encode(), json.dumps(params).encode()
            desk.take(desk.router.request(client, texts[0], method, texts[1], desk.now))
        case ("note", client, method, params):
            desk.note(client, method, params)
        case ("reply", client, identity, kind, value):
            desk.reply(client, **{"id": identity, kind: value})
        case ("turn", method, params):
            desk.turn(f"job{len(desk.turns)}", method, params, timeout=100, grace=0)
        case ("time", seconds):
            desk.pass_time(seconds)
        case ("say", message):
            desk.say(**message)
        case _:
            raise AssertionError(step)


@pytest.mark.parametrize("name", ["generic", "codex", "mcp", "lsp"])
@given(data=st.data())
@settings(max_examples=60)
def test_rule_01_rule_09_rule_16_anything_may_be_said_and_nothing_stays(name: str, data: st.DataObject) -> None:
    profile = shipped(name)
    desk = Desk(profile)
    desk.join(1, 2, 3)
    desk.ask(1, "wake", "m", {})
    desk.start()
    for step in data.draw(st.lists(steps(profile), max_size=40)):
        take(desk, step)
    desk.pass_time(10_000)
    assert (desk.router.turns, desk.router.asking, desk.router.unsent) == (0, 0, 0)
    assert [call.method for call in desk.router._desk.calls if call.purpose == "client"] == []
    for client in (1, 2, 3):
        desk.leave(client)
    inner = desk.router._desk
    kept = (
        inner.calls._counts, inner.calls._by_client, inner.interests._clients, inner.interests._names,
        inner.refcounts._holders, inner.refcounts._counts, inner.tokens._own, inner.tokens._lasting,
        inner.asking._by_client, inner.asking._last, inner.turns._exclusive, inner.calls.waiting,
    )  # fmt: skip
    assert [each for each in kept if each] == []
    assert [holder for holder in inner.tokens._holders.values() if holder.client is not None] == []
