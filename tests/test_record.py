"""The record: what is written can be read, whatever is cut off; and a shim killed anywhere leaves the truth.

`World` says what really happened, without looking at the record; the walk holds the record against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from jobbroker.core import job as life, record
from jobbroker.core.job import (
    Continued,
    EndBegun,
    Ended,
    Event,
    NeverRan,
    SpawnFailed,
    Started,
    Stopped,
)
from jobbroker.core.record import DamagedRecord, Head, Line, decode, decode_lines, encode_line, verdict
from jobclient.protocol.wire import Reason, Stream
from samples import snapshot

BOOT, OTHER_BOOT = b"5c3a90a4", b"77777777"

# --- grammar --------------------------------------------------------------------------------------------------------

FIELDS = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"\xff"))
NAMES = FIELDS.map(lambda raw: raw.replace(b"=", b"-"))
HEADS = st.builds(
    Head,
    FIELDS,
    st.integers(1, 1 << 60),
    FIELDS,
    FIELDS,
    st.lists(FIELDS, max_size=5),
    st.lists(FIELDS, max_size=5),
    st.dictionaries(NAMES, FIELDS, max_size=5),
)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=36).map(str.encode)
SHAPES = record._SHAPES


def fields_of(letter: bytes) -> st.SearchStrategy[tuple[bytes | int, ...]]:
    fields = [st.integers(0, 10**digits - 1) if digits else WORDS for digits in SHAPES[letter]]
    return st.tuples(st.just(letter), *fields)


LINES = st.sampled_from(sorted(SHAPES)).flatmap(fields_of)


def parts(head: Head) -> tuple[object, ...]:
    return (head.id, head.number, head.kind, head.cwd, head.argv, head.env, head.more)


def written(lines: list[Line]) -> list[bytes]:
    return [encode_line(line.letter, *line.fields) for line in lines]


def as_lines(data: list[tuple[bytes | int, ...]]) -> list[bytes]:
    return [encode_line(cast("bytes", letter), *fields) for letter, *fields in data]


@given(HEADS, st.lists(LINES, max_size=8))
def test_what_is_written_can_be_read(head: Head, data: list[tuple[bytes | int, ...]]) -> None:
    lines = as_lines(data)
    again, found = decode(head.encode() + b"".join(lines))
    assert parts(again) == parts(head)
    assert written(found) == lines


@given(HEADS, st.lists(LINES, max_size=4))
def test_every_beginning_is_a_prefix_or_damaged(head: Head, data: list[tuple[bytes | int, ...]]) -> None:
    lines = as_lines(data)
    start = head.encode()
    whole = start + b"".join(lines)
    for length in range(len(whole) + 1):
        if length < len(start):
            with pytest.raises(DamagedRecord):
                decode(whole[:length])
        else:
            again, found = decode(whole[:length])
            assert parts(again) == parts(head)
            assert written(found) == lines[: len(found)]
            assert (
                len(b"".join(written(found))) == whole[:length].rfind(b"\n", len(start)) + 1 - len(start) or not found
            )


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_damaged(data: bytes) -> None:
    for text in (data, record.MAGIC + b"\0" + data, record.MAGIC + b"\0id\x007\0command\0/\0" + data):
        try:
            head, lines = decode(text)
        except DamagedRecord:
            continue
        assert all(len(line.fields) == len(SHAPES[line.letter]) for line in lines)
        assert isinstance(head.number, int)


@given(st.binary(max_size=200))
def test_strange_lines_say_nothing(data: bytes) -> None:
    start = encode_line(b"S", 1, 2, BOOT, 3, 4)
    assert written(decode_lines(start + data + b"\n" + start))[0] == start
    assert written(decode_lines(start + data))[:1] == [start]


@pytest.mark.parametrize(
    "text",
    [
        b"S x 1 boot 2 3",
        b"S 99999999 1 boot 2 3",
        b"X -1 1 2 0 0 0 0 ",
        b"T 1",
        b"L user 1 2 3",
        b"F exec two 3",
        b"N user \xb2",
        b"T 1234567890123456789 1",
    ],
)
def test_a_line_whose_numbers_are_none_or_overflow_is_no_line(text: bytes) -> None:
    assert decode_lines(text + b"\n") == []


@pytest.mark.parametrize("bad", [{b"a": b"x\0y"}, {b"a=b": b"c"}, {b"a\0": b""}])
def test_what_would_be_read_as_something_else_is_not_written(bad: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        Head(b"id", 1, b"command", b"/", [b"true"], [], bad).encode()
    with pytest.raises(ValueError, match="NUL"):
        Head(b"id", 1, b"command", b"/", [b"tr\0ue"], [], {}).encode()


def test_amounts() -> None:
    head = Head(b"id", 1, b"command", b"/", [b"true"], [], {b"timeoutMs": b"500"})
    assert (head.amount(b"timeoutMs"), head.amount(b"graceMs")) == (500, 0)


def test_the_end_always_fits() -> None:
    widest = (1 << 63) - 1
    before = [encode_line(b"L", b"disconnect", widest, widest), encode_line(b"X", *[widest] * 8)]
    assert len(b"".join(before)) < record.ROOM - record.ROOM_FOR_STOPS


# --- the walk -------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """What really happened to one job, as an all-seeing witness would tell it."""

    holder: bool = False
    """Somebody who claimed the job lives."""
    decided_never: bool = False
    may_have_spawned: bool = False
    failure_is_known: bool = False
    """The spawn failed, and this was written down."""
    job_runs: bool = False
    began: bool = False
    """It ran, and this was written down."""
    wait_status: int | None = None
    end_is_known: bool = False
    """The end was written down before the leader was reaped."""
    file: bytes = b""


class Step:
    """One thing a shim or a daemon does; `line` is written, then `after` has come true."""

    def __init__(self, line: bytes = b"", **after: Any) -> None:
        self.line = line
        self.after = after


CLAIM = Step(holder=True)
RELEASE = Step(holder=False)
ATTEMPT = Step(encode_line(b"A", 900, 1, BOOT, b"77,78"), may_have_spawned=True)
SPAWN = Step(job_runs=True)
START = Step(encode_line(b"S", 901, 2, BOOT, 1_000, 2_000), began=True)
STOP = Step(encode_line(b"T", 1_100, 2_100))
CONTINUE = Step(encode_line(b"C", 1_200, 2_200))


def fail(stage: bytes = b"exec") -> list[Step]:
    return [Step(encode_line(b"F", stage, 2, 1_050), failure_is_known=True)]


def begin_end(reason: bytes) -> Step:
    return Step(encode_line(b"L", reason, 1_300, 2_300))


def end(status: int) -> list[Step]:
    line = encode_line(b"X", status, 1_500, 2_500, 10, 0, 20, 5, 0)
    return [Step(job_runs=False, wait_status=status), Step(line, end_is_known=True)]


def never(reason: bytes) -> list[Step]:
    return [Step(encode_line(b"N", reason, 1_050), decided_never=True)]


RUN = [CLAIM, ATTEMPT, SPAWN, START]
SCENARIOS: dict[str, list[Step]] = {
    "exit 0": [*RUN, *end(0), RELEASE],
    "exit 3": [*RUN, *end(3 << 8), RELEASE],
    "killed": [*RUN, *end(9), RELEASE],
    "stopped and continued": [*RUN, STOP, CONTINUE, STOP, CONTINUE, *end(0), RELEASE],
    "stopped twice, killed": [*RUN, STOP, STOP, *end(9), RELEASE],
    "cancelled": [*RUN, begin_end(b"user"), *end(15), RELEASE],
    "cancelled while stopped": [*RUN, STOP, begin_end(b"user"), CONTINUE, *end(15), RELEASE],
    "cancelled, exit 0 all the same": [*RUN, begin_end(b"user"), *end(0), RELEASE],
    "over its time": [*RUN, begin_end(b"deadline"), *end(9), RELEASE],
    "silent for too long": [*RUN, begin_end(b"idle"), begin_end(b"user"), *end(0), RELEASE],
    "cancelled between claim and spawn": [CLAIM, *never(b"user"), RELEASE],
    "no such program": [CLAIM, ATTEMPT, *fail(), RELEASE],
    "no such directory": [CLAIM, *fail(b"chdir"), RELEASE],
    "cancelled while queued": [CLAIM, *never(b"user"), RELEASE],
    "shut down while queued": [CLAIM, *never(b"shutdown"), RELEASE],
    "a fault of the shim before the spawn": [CLAIM, *never(b"internal"), RELEASE],
    "a fault of the shim later": [*RUN, begin_end(b"internal"), *end(9), RELEASE],
    "handed over twice": [CLAIM, RELEASE, *RUN, *end(0), RELEASE],
    "handed over three times": [CLAIM, RELEASE, CLAIM, RELEASE, *RUN, *end(1 << 8), RELEASE],
}
ENDS: dict[str, tuple[str, str]] = {
    "exit 0": ("completed", "exit"),
    "exit 3": ("failed", "exit"),
    "killed": ("failed", "signal"),
    "stopped and continued": ("completed", "exit"),
    "stopped twice, killed": ("failed", "signal"),
    "cancelled": ("cancelled", "user"),
    "cancelled while stopped": ("cancelled", "user"),
    "cancelled, exit 0 all the same": ("completed", "exit"),
    "over its time": ("timed_out", "deadline"),
    "silent for too long": ("timed_out", "idle"),
    "cancelled between claim and spawn": ("cancelled", "user"),
    "no such program": ("failed", "spawn"),
    "no such directory": ("failed", "spawn"),
    "cancelled while queued": ("cancelled", "user"),
    "shut down while queued": ("cancelled", "shutdown"),
    "a fault of the shim before the spawn": ("failed", "internal"),
    "a fault of the shim later": ("failed", "internal"),
    "handed over twice": ("completed", "exit"),
    "handed over three times": ("failed", "exit"),
}


def written_over(file: bytes, line: bytes) -> bytes:
    """A file after one more write."""
    at = record.end_of_lines(file)
    return file[:at] + line + file[at + len(line) :]


def moments(steps: list[Step], world: World | None = None) -> Iterator[World]:
    """The world after every step, and at every byte of every line while it is written."""
    world = world or World()
    yield replace(world)
    for step in steps:
        for length in range(1, len(step.line)):
            yield replace(world, file=written_over(world.file, step.line[:length]))
        world = replace(world, file=written_over(world.file, step.line), **step.after)
        yield replace(world)


def truth(world: World, *, killed: bool, rebooted: bool) -> str:
    """What may be said of the job in that moment, from what happened rather than from what was written."""
    if world.holder and not killed:
        return "live"
    if world.end_is_known:
        return "ended"
    if world.decided_never:
        return "never"
    if world.failure_is_known:
        return "unspawned"
    if world.began:
        return "rebooted" if rebooted else "orphaned"
    return "unknown" if world.may_have_spawned else "unbegun"


@pytest.mark.parametrize("rebooted", [False, True], ids=["same boot", "other boot"])
@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_walk(name: str, *, killed: bool, rebooted: bool) -> None:
    """For every moment of every life: what a reader says is what happened, and no more than can be known."""
    boot = OTHER_BOOT if rebooted else BOOT
    for world in moments(SCENARIOS[name]):
        lines = decode_lines(world.file)
        locked = world.holder and not killed
        said = verdict(lines, locked=locked, boot=boot)
        assert said == truth(world, killed=killed, rebooted=rebooted), world
        if said == record.UNBEGUN:  # it will be handed over again
            assert not world.may_have_spawned
        if said in (record.UNSPAWNED, record.NEVER):
            assert not world.job_runs
            assert world.wait_status is None
        if said == record.ENDED:
            last = record.last(lines, b"X")
            assert last is not None
            assert last.number(0) == world.wait_status
        if world.job_runs and not locked:  # never called ended, and never run twice
            assert said in (record.UNKNOWN, record.ORPHANED, record.REBOOTED)


@pytest.mark.parametrize("name", ["exit 3", "cancelled while queued", "no such program"])
def test_an_unfinished_line_does_not_spoil_the_next(name: str) -> None:
    """A shim killed in the middle of its first line leaves a job to be handed over, and the next one's lines count."""
    for torn in range(1, len(ATTEMPT.line)):
        start = World(file=ATTEMPT.line[:torn])
        for world in moments(SCENARIOS[name], start):
            said = verdict(decode_lines(world.file), locked=False, boot=BOOT)
            assert said == truth(world, killed=True, rebooted=False)


@given(HEADS, st.lists(LINES, max_size=3), FIELDS)
def test_the_next_line_belongs_behind_the_last_whole_one(
    head: Head, data: list[tuple[bytes | int, ...]], rest: bytes
) -> None:
    whole = head.encode() + b"".join(as_lines(data))
    assert record.end_of_lines(whole + rest.replace(b"\n", b"")) == len(whole)


@pytest.mark.parametrize("name", SCENARIOS)
def test_verdicts_only_go_forward(name: str) -> None:
    """A dead shim's record never says less later, so two readers at different times cannot contradict each other."""
    order = [record.UNBEGUN, record.UNKNOWN, record.ORPHANED]
    reached = 0
    for world in moments(SCENARIOS[name]):
        said = verdict(decode_lines(world.file), locked=False, boot=BOOT)
        rank = order.index(said) if said in order else len(order)
        assert rank >= reached
        reached = rank


def events(lines: list[Line]) -> Iterator[Event]:
    """What the lines mean to the table of a job's life."""
    for line in lines:
        match line.letter:
            case b"S":
                yield Started(line.number(0), line.number(3), line.number(4))
            case b"F":
                yield SpawnFailed("no such file", line.number(2))
            case b"T":
                yield Stopped(line.number(0))
            case b"C":
                yield Continued()
            case b"L":
                yield EndBegun(cast("Reason", line.text(0)))
            case b"N":
                yield NeverRan(cast("Reason", line.text(0)), line.number(1))
            case b"X":
                out, err = Stream(line.number(3), line.number(4)), Stream(line.number(5), line.number(6))
                yield Ended(line.number(0), line.number(1), line.number(2), out, err)
            case _:
                pass


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_record_is_a_legal_life(name: str) -> None:
    """Whatever has been seen of a record before, reading all of it again leads to the same job."""
    final = [*moments(SCENARIOS[name])][-1].file
    for world in moments(SCENARIOS[name]):
        made = snapshot()
        for event in events(decode_lines(world.file)):
            life.apply(made, event)
        for event in events(decode_lines(final)):
            life.apply(made, event)
        assert (made.job.status, made.job.reason) == ENDS[name]


# --- by chance: the same for lives nobody thought of ----------------------------------------------------------------

MIDDLES = st.lists(st.sampled_from([STOP, CONTINUE, begin_end(b"user"), begin_end(b"deadline")]), max_size=6)


@given(st.integers(0, 3), MIDDLES, st.sampled_from([0, 9, 3 << 8]), st.data())
def test_any_life(tries: int, middle: list[Step], status: int, data: st.DataObject) -> None:
    steps = [*[CLAIM, RELEASE] * tries, *RUN, *middle, *end(status), RELEASE]
    world = data.draw(st.sampled_from([*moments(steps)]))
    killed, rebooted = data.draw(st.booleans()), data.draw(st.booleans())
    boot = OTHER_BOOT if rebooted else BOOT
    said = verdict(decode_lines(world.file), locked=world.holder and not killed, boot=boot)
    assert said == truth(world, killed=killed, rebooted=rebooted)
