"""The sum of all output on disk, against a plain model; and the choice of the jobs that go, against a plain search."""

from __future__ import annotations

from hypothesis import given, strategies as st

from jobbroker.core.selection import Selection
from jobbroker.core.usage import Usage

NAMES = [f"job{number}" for number in range(6)]


class Disk:
    """Six jobs, each with an amount of output, live or ended; and a walk that may pass at any moment."""

    def __init__(self, sizes: list[int], ended: list[bool]) -> None:
        self.size = dict(zip(NAMES, sizes, strict=True))
        self.live = {name for name, over in zip(NAMES, ended, strict=True) if not over}
        self.usage = Usage()
        self.seen: dict[str, int] = {}
        self.unwalked = list(NAMES)

    def walk(self) -> None:
        """One step of it: what it measures may be old news when it is told."""
        if self.unwalked:
            name = self.unwalked.pop()
            if name not in self.live:
                self.usage.find(name, self.size[name])
            if not self.unwalked:
                self.usage.finish()

    def end(self, name: str) -> None:
        if name in self.live:
            self.live.discard(name)
            self.seen.pop(name, None)
            self.usage.end(name, self.size[name])

    def look(self, name: str) -> None:
        if name in self.live:
            self.size[name] += 7
            self.seen[name] = self.size[name]
            self.usage.live(name, self.size[name])

    def give_up(self, name: str) -> None:
        if name not in self.live:
            self.usage.give_up(name, self.size[name])
            self.size[name] = 0


STEPS = st.lists(st.tuples(st.sampled_from(["walk", "end", "look", "give_up"]), st.sampled_from(NAMES)), max_size=40)


@given(st.lists(st.integers(0, 100), min_size=6, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6), STEPS)
def test_the_sum_is_what_is_there(sizes: list[int], ended: list[bool], steps: list[tuple[str, str]]) -> None:
    disk = Disk(sizes, ended)
    for step, name in steps:
        if step == "walk":
            disk.walk()
        else:
            getattr(disk, step)(name)
    while disk.unwalked:
        disk.walk()
    there = sum(size for name, size in disk.size.items() if name not in disk.live)
    assert disk.usage.counted
    assert disk.usage.ended == there
    assert disk.usage.total == there + sum(disk.seen.values())


def test_a_walk_that_comes_late_counts_nothing_twice() -> None:
    usage = Usage()
    usage.end("a", 10)  # while the walk was measuring it
    usage.find("a", 10)
    usage.find("b", 5)
    usage.give_up("b", 5)
    usage.find("b", 5)
    usage.finish()
    assert (usage.ended, usage.total) == (10, 10)
    usage.give_up("a", 99)  # whatever the disk says: never below nothing
    assert (usage.ended, usage.total) == (0, 0)


@given(
    st.lists(st.integers(0, 9), max_size=30), st.integers(-2, 35), st.none() | st.integers(-3, 150), st.integers(1, 7)
)
def test_the_oldest_go_and_no_more_than_must(sizes: list[int], spare: int, excess: int | None, page: int) -> None:
    selection = Selection[int](spare=spare, excess=excess)
    chosen: list[int] = []
    for first in range(0, len(sizes), page):
        if selection.over:
            break
        chosen += selection.choose(list(enumerate(sizes))[first : first + page])
    expected = next(
        count
        for count in range(len(sizes) + 1)
        if count >= min(max(spare, 0), len(sizes)) or (excess is not None and sum(sizes[:count]) >= excess)
    )
    assert chosen == list(range(expected))
