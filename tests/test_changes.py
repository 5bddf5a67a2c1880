"""What a cursor looks back on, against a mirror that follows every change."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from jobbroker.core.changes import Changes, Since

NAMES = "abcdefgh"
STEPS = st.lists(st.tuples(st.sampled_from(("touch", "remove")), st.sampled_from(NAMES)), max_size=40)


def play(changes: Changes, steps: list[tuple[str, str]]) -> list[dict[str, int]]:
    """Let jobs come, change and go; what there is after each change, with the place of the latest change of each."""
    there: dict[str, int] = {}
    gone: set[str] = set()  # ids are never used again
    states = [dict(there)]
    for step, name in steps:
        if name in gone:
            continue
        if step == "touch":
            there[name] = changes.changed(name) if name in there else changes.made(name)
        elif name in there:
            assert changes.removed(name) == changes.rev
            del there[name]
            gone.add(name)
        else:
            continue
        states.append(dict(there))
    return states


def test_nothing_has_changed_since_now() -> None:
    changes = Changes(7)
    assert (changes.rev, changes.since(7)) == (7, Since([], frozenset(), []))
    assert changes.since(6) is changes.since(8) is None


def test_changes_have_their_order_and_removals_are_among_them() -> None:
    changes = Changes(0)
    assert [changes.made("a"), changes.made("b"), changes.changed("a"), changes.removed("b")] == [1, 2, 3, 4]
    assert changes.since(2) == Since(["a"], frozenset(), ["b"])
    assert changes.since(0) == Since(["a"], frozenset("ab"), [])
    assert changes.since(1) == Since(["a"], frozenset("b"), [])


def test_a_job_from_before_is_not_new() -> None:
    changes = Changes(100)
    changes.changed("old")
    assert changes.since(100) == Since(["old"], frozenset(), [])
    changes.removed("older")
    assert changes.since(100) == Since(["old"], frozenset(), ["older"])


@given(STEPS, st.integers(1, 8))
def test_whoever_is_told_what_changed_knows_what_there_is(steps: list[tuple[str, str]], keep: int) -> None:
    changes = Changes(0, keep=keep)
    states = play(changes, steps)
    now = states[-1]
    for rev, mirror in enumerate(states):
        since = changes.since(rev)
        if since is None:
            assert changes.rev - rev > keep, "forgotten too early"
            continue
        assert [now[name] for name in since.changed] == sorted(now[name] for name in since.changed)
        assert not since.new & set(mirror)
        told = {name: value for name, value in mirror.items() if name not in since.removed}
        told |= {name: now[name] for name in since.changed}
        assert told == now
        assert set(since.removed) <= set(mirror), "of no job is it said that it is gone that was not there"


@given(STEPS)
def test_what_is_kept_is_bounded_by_jobs(steps: list[tuple[str, str]]) -> None:
    changes = Changes(0, keep=3)
    play(changes, steps)
    assert len(changes._latest) <= 3


@pytest.mark.parametrize("changes", [1, 3])
def test_many_changes_of_few_jobs_are_remembered(changes: int) -> None:
    kept = Changes(0, keep=changes)
    for _ in range(1000):
        for name in NAMES[:changes]:
            kept.changed(name)
    assert kept.since(0) == Since(list(NAMES[:changes]), frozenset(), [])
