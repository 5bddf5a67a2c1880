"""The table of jobs in memory, against a plain list that is searched from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobbroker.core.job import STATUSES, Snapshot
from jobbroker.core.table import Table, matcher, statuses
from jobclient.protocol.errors import InvalidParams
from jobclient.protocol.wire import LIVE, TERMINAL, Base64, Filter, Status
from samples import EPOCH, identity, snapshot


def nothing(low: int, high: int) -> Iterator[Snapshot]:
    yield from ()


def numbers(found: list[Snapshot]) -> list[int]:
    return [each.job.number for each in found]


def everything(_: Snapshot) -> bool:
    return True


# --- one by one -----------------------------------------------------------------------------------------------------


def test_an_empty_table() -> None:
    table = Table()
    assert (table.live, table.in_memory, table.slots_taken, table.floor) == (0, 0, 0, 0)
    assert list(table.counts) == list(STATUSES)
    assert set(table.counts.values()) == {0}
    assert table.next_to_start(10) == []
    assert table.page(everything, older=nothing, limit=10) == ([], None)
    assert table.get("k7f3qm") is table.by_number(1) is table.by_key("k") is None


def test_a_job_is_found_by_all_its_names() -> None:
    table = Table()
    made = snapshot(7, name="tests", key="once")
    table.add(made)
    assert table.get(made.job.id) is table.by_number(7) is table.by_key("once") is made
    assert table.by_name("tests", 5) == table.by_prefix(made.job.id[:2], 5) == table.all_live() == [made]


def test_live_names_come_before_the_newest_ended_ones() -> None:
    table = Table()
    known: tuple[Status, ...] = ("completed", "running", "failed", "queued", "completed")
    for number, status in enumerate(known, 1):
        table.add(snapshot(number, status, name="same"))
    assert numbers(table.by_name("same", 9)) == [2, 4, 5, 3, 1]
    assert numbers(table.by_name("same", 3)) == [2, 4, 5]
    assert numbers(table.by_name("same", 1)) == [2]


def test_two_jobs_cannot_be_one() -> None:
    table = Table()
    table.add(snapshot(1))
    for twin in (snapshot(1), snapshot(2, named=identity(1)), snapshot(1, named="zzzzzz")):
        with pytest.raises(ValueError, match="already"):
            table.add(twin)
    assert table.counts["queued"] == 1


def test_starts_may_overtake_each_other() -> None:
    table = Table()
    for number in (3, 1, 2, 5, 4):
        table.add(snapshot(number))
    assert numbers(table.page(everything, older=nothing, limit=9)[0]) == [5, 4, 3, 2, 1]
    assert numbers(table.next_to_start(3)) == [1, 2, 3]


def test_slots() -> None:
    table = Table()
    made = [snapshot(number) for number in range(1, 7)]
    for each in made:
        table.add(each)
    assert numbers(table.next_to_start(2)) == [1, 2]
    assert table.next_to_start(2) == []  # each handed out once
    made[2].job.status = "cancelled"
    table.update(made[2])
    table.release(made[0])
    assert numbers(table.next_to_start(2)) == [4]  # 3 does not wait any more
    table.requeue(made[1])
    assert numbers(table.next_to_start(2)) == [2]  # back in its place
    assert numbers(table.next_to_start(9)) == [5, 6]
    assert table.slots_taken == 4


def test_a_job_that_ended_meanwhile_is_not_queued_again() -> None:
    table = Table()
    made = snapshot(1)
    table.add(made)
    table.next_to_start(1)
    made.job.status = "cancelled"
    table.update(made)
    table.requeue(made)
    table.remove(made)
    table.requeue(made)
    assert table.next_to_start(1) == []


def test_jobs_found_at_the_start_hold_their_slots_and_are_counted_once() -> None:
    stored = {"queued": 2, "running": 1, "stopped": 1, "completed": 5}
    table = Table(floor=9, counts={status: stored.get(status, 0) for status in STATUSES})
    table.load([snapshot(2), snapshot(4, "running"), snapshot(5, "stopped"), snapshot(9)])
    assert (table.live, table.slots_taken, table.counts["completed"]) == (4, 2, 5)
    assert numbers(table.next_to_start(3)) == [2]
    under_way = table.by_number(9)
    assert under_way is not None
    table.occupy(under_way)
    assert table.next_to_start(9) == []


def test_memory_is_bounded_and_forgets_the_lowest_numbers() -> None:
    table = Table(keep=3)
    for number in range(1, 11):
        table.add(snapshot(number, "completed", name="same", key=f"key {number}"))
    assert table.in_memory == 3
    assert table.floor == 7
    assert table.counts["completed"] == 10
    assert table.by_number(7) is table.by_key("key 7") is table.get(identity(7)) is None
    assert numbers(table.by_name("same", 9)) == [10, 9, 8]


def test_nothing_leaves_memory_before_it_is_stored() -> None:
    stored: set[str] = set()
    table = Table(keep=1, is_stored=stored.__contains__)
    made = [snapshot(number, "completed") for number in range(1, 6)]
    for each in made[:4]:
        table.add(each)
    assert (table.in_memory, table.floor) == (4, 0)
    stored.update(each.job.id for each in made[:2])
    table.add(made[4])
    assert (table.in_memory, table.floor) == (3, 2)


def test_a_long_job_that_ends_stays_until_its_end_can_be_stored() -> None:
    """It is the oldest, but its row still says that it runs: whoever tells the table first tells the store next."""
    table = Table(keep=2)
    old = snapshot(1, "running", name="same")
    table.add(old)
    for number in (2, 3, 4):
        table.add(snapshot(number, "completed"))
    assert (table.floor, table.in_memory) == (2, 3)
    old.job.status = "completed"
    table.update(old)
    assert table.get(old.job.id) is old
    table.add(snapshot(5, "completed"))
    assert (table.floor, table.in_memory) == (3, 2)
    assert table.by_name("same", 1) == []


@pytest.mark.parametrize("before", ["", "x", "-1", "1.5", "\u0661", "9" * 19, " 1"])
def test_a_cursor_nobody_gave_is_refused(before: str) -> None:
    with pytest.raises(InvalidParams, match="before"):
        Table().page(everything, older=nothing, limit=1, before=before)


def test_the_store_is_not_asked_while_memory_fills_the_page() -> None:
    asked: list[tuple[int, int]] = []

    def older(low: int, high: int) -> Iterator[Snapshot]:
        asked.append((low, high))
        yield from ()

    table = Table(keep=5)
    for number in range(1, 20):
        table.add(snapshot(number, "completed"))
    page, following = table.page(everything, older=older, limit=4)
    assert (numbers(page), following) == ([19, 18, 17, 16], "16")
    assert asked == []
    table.page(everything, older=older, limit=4, before=following)
    assert asked == [(0, 14)]


def test_stale_numbers_do_not_pile_up() -> None:
    table = Table()
    survivor = snapshot(1)
    table.add(survivor)
    for number in range(2, 5_000):
        made = snapshot(number)
        table.add(made)
        made.job.status = "cancelled"
        table.update(made)
        table.remove(made)
    assert (table.in_memory, table.live) == (1, 1)
    assert max(len(table._order), len(table._queue._heap), len(table._ended._heap)) < 200
    assert table.next_to_start(1) == [survivor]


# --- filters --------------------------------------------------------------------------------------------------------

FILTERS = st.builds(
    Filter,
    status=st.one_of(
        st.none(), st.sampled_from(STATUSES), st.lists(st.sampled_from(STATUSES), max_size=3)
    ),
    kind=st.sampled_from([None, None, "command", "turn"]),
    label=st.sampled_from([None, None, {}, {"a": "1"}, {"a": "1", "b": "2"}]),
    name=st.sampled_from([None, None, "tests", "build"]),
    cwd=st.sampled_from([None, None, "/work", "/home", Base64("L3dvcms=")]),
)  # fmt: skip
LABELS = st.sampled_from([{}, {"a": "1"}, {"a": "2"}, {"a": "1", "b": "2"}, {"b": "2"}])
CWDS = st.sampled_from(["/work", "/home", Base64("L3dvcms=")])


def wanted_by(wanted: Filter, each: Snapshot) -> bool:
    job = each.job
    if isinstance(wanted.status, str) and job.status != wanted.status:
        return False
    if isinstance(wanted.status, list) and job.status not in wanted.status:
        return False
    if wanted.name not in (None, job.name) or wanted.kind not in (None, job.kind):
        return False
    if wanted.cwd is not None and job.cwd != wanted.cwd:
        return False
    return all(job.labels.get(key) == value for key, value in (wanted.label or {}).items())


@given(FILTERS, st.sampled_from(STATUSES), LABELS, CWDS, st.sampled_from([None, "tests", "build"]))
def test_filters(wanted: Filter, status: Status, labels: dict[str, str], cwd: str | Base64, name: str | None) -> None:
    each = snapshot(1, status, labels=labels, cwd=cwd, name=name)
    assert matcher(wanted)(each) == wanted_by(wanted, each)


def test_no_status_at_all_is_not_any_status() -> None:
    assert statuses(Filter()) is None
    assert statuses(Filter(status="queued")) == frozenset(["queued"])
    assert statuses(Filter(status=[])) == frozenset()


# --- by chance ------------------------------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """Jobs come, change and go, in memory and in a store that is written late."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, Snapshot] = {}
        self.stored: dict[str, Snapshot] = {}
        self.unwritten: set[str] = set()
        self.handed_out: set[str] = set()
        self.number = 0
        self.table = Table(keep=3, is_stored=lambda identity: identity not in self.unwritten)

    def older(self, low: int, high: int) -> Iterator[Snapshot]:
        yield from sorted(
            (each for each in self.stored.values() if low <= each.job.number <= high),
            key=lambda each: -each.job.number,
        )

    @rule(
        name=st.sampled_from([None, "tests", "build"]),
        labels=LABELS,
        status=st.sampled_from(["queued", "queued", "completed"]),
        skip=st.integers(1, 2),
        keyed=st.booleans(),
    )
    def add(self, name: str | None, labels: dict[str, str], status: Status, skip: int, *, keyed: bool) -> None:
        self.number += skip
        made = snapshot(self.number, status, name=name, labels=labels, key=f"key {self.number}" if keyed else None)
        self.jobs[self.number] = made
        self.stored[made.job.id] = deepcopy(made)  # what is told is committed
        self.table.add(made)

    @precondition(lambda self: any(each.job.status in LIVE for each in self.jobs.values()))
    @rule(data=st.data(), status=st.sampled_from(["running", "stopped", "completed", "failed", "cancelled"]))
    def change(self, data: st.DataObject, status: Status) -> None:
        made = data.draw(st.sampled_from([each for each in self.jobs.values() if each.job.status in LIVE]))
        made.job.status = status
        self.unwritten.add(made.job.id)
        self.table.update(made)

    @rule()
    def write(self) -> None:
        for made in self.jobs.values():
            if made.job.id in self.unwritten:
                self.stored[made.job.id] = deepcopy(made)
        self.unwritten.clear()

    @precondition(lambda self: bool(self.jobs))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        made = self.jobs.pop(data.draw(st.sampled_from(sorted(self.jobs))))
        in_memory = self.table.get(made.job.id)
        self.table.remove(in_memory or self.stored[made.job.id])
        del self.stored[made.job.id]
        self.unwritten.discard(made.job.id)
        self.handed_out.discard(made.job.id)

    @rule(slots=st.integers(0, 4))
    def start(self, slots: int) -> None:
        waiting = [
            number for number, each in sorted(self.jobs.items())
            if each.job.status == "queued" and each.job.id not in self.handed_out
        ]  # fmt: skip
        ready = self.table.next_to_start(slots)
        assert numbers(ready) == waiting[: max(0, slots - len(self.handed_out))]
        self.handed_out.update(each.job.id for each in ready)

    @precondition(lambda self: bool(self.handed_out))
    @rule(data=st.data(), again=st.booleans())
    def free(self, data: st.DataObject, *, again: bool) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.handed_out)))
        made = next(each for each in self.jobs.values() if each.job.id == chosen)
        if again or made.job.status == "queued":
            self.table.requeue(made)
        else:
            self.table.release(made)
        self.handed_out.discard(chosen)

    @rule(wanted=FILTERS, limit=st.integers(1, 4), descending=st.booleans())
    def walk_all_pages(self, wanted: Filter, limit: int, *, descending: bool) -> None:
        def older(low: int, high: int) -> Iterator[Snapshot]:
            found = list(self.older(low, high))
            yield from found if descending else found[::-1]

        seen: list[Snapshot] = []
        cursor: str | None = None
        while True:
            page, cursor = self.table.page(
                matcher(wanted), older=older, limit=limit, before=cursor, descending=descending
            )
            seen += page
            if cursor is None:
                break
            assert len(page) == limit
        expected = [each for _, each in sorted(self.jobs.items()) if wanted_by(wanted, each)]
        assert numbers(seen) == numbers(expected[::-1] if descending else expected)
        assert [each.job.status for each in seen] == [self.jobs[each.job.number].job.status for each in seen]

    @invariant()
    def counts_are_true(self) -> None:
        for status in STATUSES:
            assert self.table.counts[status] == sum(each.job.status == status for each in self.jobs.values())
        assert self.table.slots_taken == len(self.handed_out)

    @invariant()
    def memory_holds_what_it_must(self) -> None:
        live = [number for number, each in sorted(self.jobs.items()) if each.job.status in LIVE]
        assert numbers(self.table.all_live()) == live
        assert self.table.live == len(live)
        for number, each in self.jobs.items():
            if each.job.status in TERMINAL and number > self.table.floor:
                assert self.table.by_number(number) is each
            here = self.table.get(each.job.id)
            assert here is None or here is self.table.by_number(number) is each
            assert here is not None or each.job.id not in self.unwritten
            if each.key is not None:
                assert self.table.by_key(each.key) is here

    @invariant()
    def names_lead_to_jobs(self) -> None:
        for name in ("tests", "build"):
            here = [each for each in self.jobs.values() if each.job.name == name and self.table.get(each.job.id)]
            found = self.table.by_name(name, 100)
            assert sorted(numbers(found)) == sorted(numbers(here))
            assert [each.job.status in LIVE for each in found] == sorted(
                (each.job.status in LIVE for each in found), reverse=True
            )


TestLife = Life.TestCase


def test_samples_tell_when_they_ended() -> None:
    assert snapshot(5, "completed").job.completed_at == "2023-11-14T22:13:20.005Z"
    assert EPOCH == 1_700_000_000_000
