"""When schedules are due: never a drift, never two at once, and one heap for all of them."""

from __future__ import annotations

from hypothesis import given, strategies as st

from jobbroker.core.due import LATE_MS, Beat, DueTimes, Moment, look, placed

DAY = 24 * 60 * 60 * 1000


def beat_of(anchor: int, every: int, part: float) -> Beat:
    return Beat(anchor, every, int(part * (every - 1)), "salt")


beats = st.builds(beat_of, st.integers(0, 10**12), st.integers(10, 7 * DAY), st.floats(0, 1))


# --- due times ------------------------------------------------------------------------------------------------------


@given(beats, st.integers(1, 10**6))
def test_the_place_of_a_due_time_depends_on_nothing_but_its_number(beat: Beat, number: int) -> None:
    place = beat.anchor_ms + number * beat.every_ms
    assert place <= beat.at(number) <= place + beat.jitter_ms
    assert beat.at(number) < beat.at(number + 1)


def test_jitter_spreads_and_is_another_for_each_schedule() -> None:
    one, other = (Beat(0, 1000, 999, salt) for salt in ("a/x", "b/x"))
    offsets = [one.at(number) - number * 1000 for number in range(1, 1001)]
    assert len(set(offsets)) > 300
    assert min(offsets) < 50
    assert max(offsets) > 950
    assert offsets != [other.at(number) - number * 1000 for number in range(1, 1001)]


@given(beats, st.integers(1, 1000), st.integers(-DAY, 30 * DAY), st.booleans())
def test_a_look_leaves_nothing_out_and_comes_to_rest(beat: Beat, number: int, later: int, catch_up: bool) -> None:
    now = max(0, beat.at(number) + later)
    found = look(beat, number, now, catch_up=catch_up)
    assert found.number - number == found.missed + found.fire, "each due time is a tick, or was missed"
    assert beat.at(found.number) > now, "the next one is yet to come"
    assert found.number == number or beat.at(found.number - 1) <= now
    assert not look(beat, found.number, now, catch_up=catch_up).fire, "at one moment there is one tick at most"
    if now < beat.at(number):
        assert found == (False, 0, 0, number)
    elif found.fire:
        assert found.late_ms == now - beat.at(found.number - 1)
        assert catch_up or found.late_ms <= LATE_MS


def test_catching_up_is_one_tick_however_many_were_missed() -> None:
    beat = Beat(0, 60_000)
    assert look(beat, 1, 10 * 60_000 + 30_000, catch_up=True) == (True, 30_000, 9, 11)
    assert look(beat, 1, 10 * 60_000 + 30_000, catch_up=False) == (False, 0, 10, 11)


def test_a_little_late_is_not_missed() -> None:
    assert look(Beat(0, 60_000), 1, 60_000 + LATE_MS, catch_up=False).fire
    assert not look(Beat(0, 60_000), 1, 60_001 + LATE_MS, catch_up=False).fire
    assert look(Beat(0, 100), 1, 350, catch_up=False) == (True, 50, 2, 4), "a broker that was busy for a moment"


# --- clocks ---------------------------------------------------------------------------------------------------------


def test_within_a_boot_the_time_of_day_does_not_matter() -> None:
    anchor = Moment(wall_ms=10**12, boot_ms=5_000, boot="a")
    for wall in (0, 10**12 - DAY, 10**12 + 400 * DAY):
        assert placed(anchor, 3, 1000, Moment(wall, 7_500, "a")) == (anchor, 3)


def test_over_a_reboot_the_time_of_day_carries_on() -> None:
    anchor = Moment(wall_ms=10**12, boot_ms=900_000, boot="a")
    moved, number = placed(anchor, 3, 60_000, Moment(10**12 + 3 * 60_000 - 10_000, 20_000, "b"))
    assert (moved.boot, number) == ("b", 3)
    assert Beat(moved.boot_ms, 60_000).at(3) == 30_000, "ten seconds from then"
    assert placed(moved, 3, 60_000, Moment(0, 29_000, "b")) == (moved, 3), "and from then on by this boot's clock"


def test_a_time_of_day_that_cannot_be_right_begins_the_schedule_anew() -> None:
    now = Moment(wall_ms=10**12, boot_ms=20_000, boot="b")
    assert placed(Moment(10**12 + 400 * DAY, 5_000, "a"), 1, 60_000, now) == (now, 1)


@given(st.integers(0, 10**13), st.integers(0, 10**10), st.integers(1, 10**6), st.integers(10, DAY))
def test_the_next_tick_is_never_further_away_than_an_interval(wall: int, boot: int, number: int, every: int) -> None:
    now = Moment(10**12, 10**7, "b")
    for name in ("a", "b"):
        anchor, found = placed(Moment(wall, boot, name), number, every, now)
        assert anchor.boot_ms + found * every <= now.boot_ms + every


# --- the heap -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.none() | st.integers(0, 50)), max_size=200))
def test_the_heap_gives_what_a_sorted_list_would(orders: list[tuple[str, int | None]]) -> None:
    due, model = DueTimes(), dict[str, int]()
    for name, at in orders:
        if at is None:
            due.drop(name)
            model.pop(name, None)
        else:
            due.put(name, at)
            model[name] = at
        assert due.next() == min(model.values(), default=None)
        assert (len(due), due.get(name)) == (len(model), model.get(name))
    for now in range(51):
        popped = set[str]()
        while (first := due.pop(now)) is not None:
            popped.add(first)
        assert popped == {name for name, at in model.items() if at == now}


def test_a_schedule_that_is_put_off_again_and_again_costs_no_memory() -> None:
    due = DueTimes()
    for at in range(100_000):
        due.put("a", at)
    assert len(due._heap) < 100
