"""Who follows jobs is told that there is more, once for what is there; nobody looks at what nobody follows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from jobbroker.following import BUSY, CROWD, FIRST, QUIET, SLICE, Following, pause


class Files:
    """Sizes of the output of jobs, and every look at one of them."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.looks: list[str] = []

    def size(self, name: str) -> int:
        self.looks.append(name)
        return self.sizes.get(name, 0)


@pytest.fixture
def files() -> Files:
    return Files()


@asynccontextmanager
async def looking(files: Files) -> AsyncGenerator[Following]:
    async with trio.open_nursery() as nursery:
        following = Following(files.size)
        await nursery.start(following.run)
        yield following
        nursery.cancel_scope.cancel()


async def pass_time(clock: MockClock, milliseconds: int) -> None:
    for _ in range(milliseconds // FIRST):
        await wait_all_tasks_blocked()
        clock.jump(FIRST / 1000)
    await wait_all_tasks_blocked()


@given(st.lists(st.integers(0, 10_000), min_size=2).map(sorted), st.booleans())
def test_the_longer_a_job_is_silent_the_rarer_it_is_looked_at(silences: list[int], grown: bool) -> None:
    pauses = [pause(silent, grown=grown) for silent in silences]
    assert all(before <= after for before, after in pairwise(pauses))
    assert set(pauses) <= {FIRST, BUSY, QUIET}
    for crowd in (CROWD, CROWD + 1, 3 * CROWD, 4 * CROWD, 100 * CROWD):
        rarer = [pause(silent, grown=grown, crowd=crowd) for silent in silences]
        assert all(before <= after <= QUIET for before, after in zip(pauses, rarer, strict=True))
    assert pause(0, grown=True, crowd=4 * CROWD) == QUIET
    assert pause(0, grown=False) == FIRST
    assert pause(0, grown=True) == BUSY


async def test_nobody_is_looked_at_unless_followed(files: Files, mock_clock: MockClock) -> None:
    async with looking(files) as following:
        await pass_time(mock_clock, 1000)
        assert files.looks == []
        interest = following.follow("a", 0, lambda: None)
        await pass_time(mock_clock, 10_000)
        assert set(files.looks) == {"a"}
        assert len(files.looks) < 100, "the looks at a silent job are few"
        interest.drop()
        await pass_time(mock_clock, 1000)
        looks = len(files.looks)
        await pass_time(mock_clock, 10_000)
        assert len(files.looks) == looks


async def test_news_are_told_once(files: Files, mock_clock: MockClock) -> None:
    told: list[str] = []
    async with looking(files) as following:
        files.sizes["a"] = 5
        for who, seen in (("behind", 3), ("up to date", 5), ("new", 0)):
            following.follow("a", seen, partial(told.append, who))
        await pass_time(mock_clock, 300)
        assert told == ["behind", "new"]
        files.sizes["a"] = 6
        await pass_time(mock_clock, QUIET)
        assert told[2:] == ["behind", "up to date", "new"]
        await pass_time(mock_clock, 10_000)
        assert len(told) == 5


async def test_the_end_is_told_at_once_and_last(files: Files, mock_clock: MockClock) -> None:
    told: list[int] = []
    async with looking(files) as following:
        interests = [following.follow("a", 0, partial(told.append, n)) for n in range(3)]
        interests[1].drop()
        following.end("a")
        assert told == [0, 2]
        assert [interest.over for interest in interests] == [True, False, True]
        following.end("a")
        files.sizes["a"] = 1
        await pass_time(mock_clock, 1000)
        assert told == [0, 2]
        assert files.looks == []


async def test_a_fault_of_one_is_not_the_others(
    files: Files, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError

    async with looking(files) as following:
        for name in "ab":
            following.follow(name, 0, fail)
            following.follow(name, 0, partial(told.append, name))
            files.sizes[name] = 1
        await pass_time(mock_clock, 100)
        assert told == ["a", "b"]
        following.end("a")
        assert told == ["a", "b", "a"]
    assert "fault in telling of output" in caplog.text


async def test_who_is_told_may_drop_himself_and_others(files: Files, mock_clock: MockClock) -> None:
    told: list[str] = []
    async with looking(files) as following:

        def leave() -> None:
            told.append("leaves")
            first.drop()
            second.drop()

        first = following.follow("a", 0, leave)
        second = following.follow("a", 0, lambda: told.append("was in the same round"))
        files.sizes["a"] = 1
        await pass_time(mock_clock, 100)
        files.sizes["a"] = 2
        await pass_time(mock_clock, 1000)
        assert told[0] == "leaves"
        assert told.count("leaves") == 1
        assert told.count("was in the same round") <= 1


async def test_waiting_for_growth(files: Files, mock_clock: MockClock) -> None:
    seen: list[tuple[int, bool]] = []
    async with looking(files) as following, trio.open_nursery() as nursery:

        async def follow() -> None:
            with following.growth("a", 0) as growth:
                while not growth.over:
                    await growth.more()
                    seen.append((files.sizes["a"], growth.over))

        nursery.start_soon(follow)
        for size in (3, 7):
            files.sizes["a"] = size
            await pass_time(mock_clock, QUIET)
        files.sizes["a"] = 9
        following.end("a")
        await wait_all_tasks_blocked()
    assert seen == [(3, False), (7, False), (9, True)]


async def test_a_new_one_does_not_wait_for_the_old_ones_next_look(files: Files, mock_clock: MockClock) -> None:
    async with looking(files) as following:
        following.follow("old", 0, lambda: None)
        await pass_time(mock_clock, 10 * QUIET)
        files.looks.clear()
        following.follow("new", 0, lambda: None)
        await pass_time(mock_clock, FIRST)
        assert files.looks.count("new") == 1


async def test_many_do_not_hold_up_the_rest(files: Files, mock_clock: MockClock) -> None:
    turns: list[int] = []
    async with looking(files) as following, trio.open_nursery() as nursery:

        async def take_turns() -> None:
            while len(files.looks) < 10 * SLICE:
                turns.append(len(files.looks))
                await trio.lowlevel.checkpoint()

        for n in range(10 * SLICE):
            following.follow(str(n), 0, lambda: None)
        await wait_all_tasks_blocked()
        mock_clock.jump(FIRST / 1000)
        nursery.start_soon(take_turns)
    assert (
        max(after - before for before, after in pairwise([*turns, 10 * SLICE])) <= 2 * SLICE
    )  # whose turn is first is left to chance
