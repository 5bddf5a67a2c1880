"""References: ids are made and told apart, and no guess is ever made between two jobs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st

from jobbroker.core import reference
from jobbroker.core.job import Snapshot
from jobbroker.core.reference import ALPHABET, ID_LENGTH, LETTERS, RANDOM_BYTES, decide, find, new_id
from jobclient.protocol.errors import AmbiguousReference, InvalidParams, JobNotFound
from jobclient.protocol.wire import LIVE, Status
from samples import snapshot

# --- ids ------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=RANDOM_BYTES, max_size=40))
def test_any_random_bytes_make_an_id(random: bytes) -> None:
    made = new_id(random)
    assert reference.is_id(made)
    assert reference.is_prefix(made)
    assert made == new_id(random)
    assert not set(made) & set("aeiou01l")
    assert made[0].isalpha()


def test_every_id_can_come_up() -> None:
    """Counting up walks all first letters, then all second ones, as a number is written."""
    firsts = [new_id(value.to_bytes(RANDOM_BYTES, "big")) for value in range(len(LETTERS) * len(ALPHABET))]
    assert [made[0] for made in firsts[: len(LETTERS)]] == list(LETTERS)
    assert len(set(firsts)) == len(firsts)
    assert {made[1] for made in firsts} == set(ALPHABET)


def test_too_few_random_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="random bytes"):
        new_id(b"1234567")


@pytest.mark.parametrize("text", ["k7f3qm", "zzzzzz", "b22222"])
def test_ids(text: str) -> None:
    assert reference.is_id(text)


@pytest.mark.parametrize(
    "text",
    ["", "k7f3q", "k7f3qmm", "77f3qm", "k7f3qa", "k7f3q1", "K7F3QM", "k7/3qm", "../../", "..", "k7f3q\0", "k7f3q\n",
     "k7f3q ", "kéééé3", "%12", "k7f3q\ud800", "\u1d4d7f3qm"],
)  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    assert not reference.is_id(text)
    if text:
        with pytest.raises(JobNotFound):
            decide(text, [])


@pytest.mark.parametrize(
    ("text", "number"),
    [("%12", 12), ("%0", 0), ("12", None), ("%", None), ("%-1", None), ("%1x", None), ("%\u0661", None), ("", None),
     ("% 1", None), ("%" + "9" * 18, 10**18 - 1), ("%" + "9" * 19, None), ("%" + "9" * 5000, None)],
)  # fmt: skip
def test_numbers(text: str, number: int | None) -> None:
    assert reference.number_of(text) == number


# --- deciding -------------------------------------------------------------------------------------------------------


def jobs(*given: tuple[str, int, str | None, Status]) -> list[Snapshot]:
    return [snapshot(number, status, named=identity, name=name) for identity, number, name, status in given]


def candidates(error: AmbiguousReference) -> list[dict[str, str | None]]:
    return msgspec.convert(error.data["candidates"], list[dict[str, str | None]])


POOL = jobs(
    ("k7f3qm", 1, "tests", "completed"),
    ("k7wwww", 2, "tests", "running"),
    ("kc4wds", 3, "build", "failed"),
    ("m2qxcd", 4, "build", "completed"),
    ("p8wsrt", 5, "sync", "running"),
    ("t9zzvb", 6, "sync", "queued"),
    ("zzzzzz", 7, "k7f3qm", "running"),
    ("vvvvvv", 8, "%3", "running"),
    ("wwwwww", 9, "m2", "completed"),
    ("xxxxxx", 10, None, "running"),
)


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("k7f3qm", "k7f3qm"),  # an id before the name of another job
        ("%4", "m2qxcd"),
        ("%3", "kc4wds"),  # a number before a name
        ("tests", "k7wwww"),  # live before ended
        ("build", "m2qxcd"),  # newest of the ended
        ("m2", "wwwwww"),  # a name before the beginning of an id
        ("m2q", "m2qxcd"),
        ("kc", "kc4wds"),
        ("x", "xxxxxx"),
        ("xxxxxx", "xxxxxx"),
    ],
)
def test_r101_the_job_that_is_meant(text: str, identity: str) -> None:
    for pool in (POOL, POOL[::-1], [*POOL, *POOL]):
        assert decide(text, pool).job.id == identity


@pytest.mark.parametrize(("text", "found"), [("k7", ["k7wwww", "k7f3qm"]), ("sync", ["t9zzvb", "p8wsrt"])])
def test_r101_several_are_listed_live_and_newest_first(text: str, found: list[str]) -> None:
    with pytest.raises(AmbiguousReference, match="ambiguous") as caught:
        decide(text, POOL)
    listed = candidates(caught.value)
    assert [entry["id"] for entry in listed] == found
    assert all(set(entry) == {"id", "name", "status"} for entry in listed)
    assert all(identity in caught.value.message for identity in found)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("12", "%12"), ("%99", "number"), ("nosuch", "id or name"), ("bb", "begins"), ("../x", "id or name")],
)
def test_nothing_found_says_what_was_looked_for(text: str, hint: str) -> None:
    with pytest.raises(JobNotFound, match=hint):
        decide(text, POOL)


def test_a_reference_is_never_empty() -> None:
    with pytest.raises(InvalidParams, match="empty"):
        decide("", POOL)


@given(st.text(min_size=1))
def test_messages_are_short_and_safe_to_print(text: str) -> None:
    with pytest.raises(JobNotFound) as caught:
        decide(text, [])
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


def test_a_crowd_is_cut_short() -> None:
    crowd = [snapshot(number, "running", name="same") for number in range(1, 500)]
    with pytest.raises(AmbiguousReference, match="and more") as caught:
        decide("same", crowd)
    listed = candidates(caught.value)
    assert len(listed) == reference.MOST_CANDIDATES


STATUSES: tuple[Status, ...] = ("queued", "running", "stopped", "completed", "failed")
IDS = st.sampled_from(["bbbbbb", "bbbbbc", "bbbccc", "cbbbbb", "ccbbbb", "c2bbbb", "dddddd"])
NAMES = st.sampled_from([None, "a", "bb", "b", "bbbbbb", "%2", "c"])
POOLS = st.lists(st.tuples(IDS, NAMES, st.sampled_from(STATUSES)), unique_by=lambda entry: entry[0], max_size=7)
TEXTS = st.sampled_from(["b", "bb", "bbbbb", "bbbbbb", "a", "c", "c2", "dddddd", "%1", "%2", "%9", "2", "zz"])


def meant(pool: list[Snapshot], text: str) -> set[str]:
    """The ids of all jobs a reference could mean, by the first rule that applies."""
    named = [s.job for s in pool if s.job.name == text and text[0] != "%"]
    rules: list[list[str]] = [
        [s.job.id for s in pool if s.job.id == text],
        [s.job.id for s in pool if f"%{s.job.number}" == text],
        [job.id for job in named if job.status in LIVE],
        [job.id for job in named if job.number == max(other.number for other in named)],
        [s.job.id for s in pool if s.job.id.startswith(text)],
    ]
    return {identity for found in [found for found in rules if found][:1] for identity in found}


@given(POOLS, TEXTS, st.data())
def test_against_the_rules_one_by_one(
    entries: list[tuple[str, str | None, Status]], text: str, data: st.DataObject
) -> None:
    pool = data.draw(
        st.permutations(
            [snapshot(at, status, named=identity, name=name) for at, (identity, name, status) in enumerate(entries)]
        )
    )
    expected = meant(pool, text)
    if len(expected) == 1:
        assert {decide(text, pool).job.id} == expected
    else:
        with pytest.raises(AmbiguousReference if expected else JobNotFound) as caught:
            decide(text, pool)
        if isinstance(caught.value, AmbiguousReference):
            assert {entry["id"] for entry in candidates(caught.value)} == expected


# --- gathering ------------------------------------------------------------------------------------------------------


class Known:
    """A source that notes what it was asked."""

    def __init__(self, *known: Snapshot) -> None:
        self.known = known
        self.asked: list[str] = []

    def get(self, identity: str) -> Snapshot | None:
        self.asked.append("get")
        return next((s for s in self.known if s.job.id == identity), None)

    def by_number(self, number: int) -> Snapshot | None:
        self.asked.append("number")
        return next((s for s in self.known if s.job.number == number), None)

    def by_name(self, name: str, limit: int) -> list[Snapshot]:
        self.asked.append("name")
        return [s for s in self.known if s.job.name == name][:limit]

    def by_prefix(self, prefix: str, limit: int) -> list[Snapshot]:
        self.asked.append("prefix")
        return [s for s in self.known if s.job.id.startswith(prefix)][:limit]


def test_an_exact_reference_found_in_memory_costs_the_store_nothing() -> None:
    store = Known(*POOL)
    for text in ("k7f3qm", "%1"):
        assert find(text, Known(*POOL), store).job.number == 1
    assert store.asked == []


def test_memory_is_believed_before_the_store() -> None:
    ended = snapshot(1, "completed", named="k7f3qm", name="tests")
    stale = snapshot(1, "running", named="k7f3qm", name="tests")
    for text in ("k7f3qm", "%1", "tests", "k7"):
        assert find(text, Known(ended), Known(stale)) is ended


def test_the_store_is_asked_for_what_memory_does_not_know() -> None:
    old = snapshot(1, "completed", named="k7f3qm", name="tests")
    for text in ("k7f3qm", "%1", "tests", "k7"):
        assert find(text, Known(), Known(old)) is old
    with pytest.raises(AmbiguousReference):
        find("k7", Known(snapshot(2, "running", named="k7wwww")), Known(old))


def test_only_what_could_be_an_id_is_looked_up_as_one() -> None:
    source = Known()
    for text in ("../../etc", "a\0b", "%7", "no such"):
        with pytest.raises(JobNotFound):
            find(text, source)
    assert "get" not in source.asked
    assert "prefix" not in source.asked


def test_ids_have_one_length() -> None:
    assert {len(entry.job.id) for entry in POOL} == {ID_LENGTH}
