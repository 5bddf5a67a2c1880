"""The path language of profiles: dotted keys, `each`, `$name`, equality."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from jobbroker.core.dotted import ABSENT, Absent, expand, fill, find, find_all, key_of, matches, put, same
from jobclient.protocol.jsonrpc import Json

VALUE: Json = {"a": {"b": [{"c": 1}, {"c": 2}, {"d": 3}], "n": None}, "x.y": 1}
keys = st.text("abe", min_size=1, max_size=4)
paths = st.lists(keys, min_size=1, max_size=4).map(".".join)
values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("path", "found"),
    [("a.n", [None]), ("a.b.each.c", [1, 2]), ("a.c", []), ("a.b.c", []), ("a.n.x", []), ("each", []), ("x", [])],
)
def test_what_is_at_a_place(path: str, found: list[Json]) -> None:
    assert find_all(VALUE, path) == found
    assert find(VALUE, path) == (found[0] if found else ABSENT)


@given(path=paths, value=values, new=values)
def test_what_was_put_is_found_and_the_original_is_as_it_was(path: str, value: Json, new: Json) -> None:
    before = key_of(value)
    changed = put(value, path, new)
    assert key_of(value) == before
    if isinstance(value, dict) and "each" not in path.split("."):
        found = find(changed, path)
        assert found == new or (isinstance(found, Absent) and changed == value | {k: changed[k] for k in value})  # type: ignore[index,call-overload]


def test_all_of_a_list_is_changed() -> None:
    assert find_all(put(VALUE, "a.b.each.c", 9), "a.b.each.c") == [9, 9, 9]


@given(one=values)
def test_a_value_is_its_own_key_and_no_other(one: Json) -> None:
    assert same(one, one)
    assert key_of(1) != key_of("1") != key_of(True) != key_of(1)


def test_true_is_not_one() -> None:
    assert not same(1, True)
    assert not same(0, False)
    assert same(1, 1.0)


def test_what_is_not_known_matches_nothing() -> None:
    assert matches({"a": {"b": 1}}, {"a.b": "$x"}, {"x": 1})
    assert not matches({"a": {"b": 1}}, {"a.b": "$x"}, {})
    assert not matches({}, {"a.b": "$x"}, {"x": None})
    assert not matches({"a": 1}, {"a": "1"}, {})
    assert matches({}, {}, {})


def test_names_are_filled_in_or_nothing_is() -> None:
    assert fill({"a": ["$x", {"b": "$y"}], "c": "$"}, {"x": 1, "y": None, "": 2}) == {"a": [1, {"b": None}], "c": 2}
    assert isinstance(fill({"a": ["$x"]}, {}), Absent)
    assert isinstance(fill("$x", {}), Absent)


def test_an_answer_for_every_element() -> None:
    template: Json = {"list": {"$each": "items", "$value": {"v": None}}, "plain": [1]}
    assert expand(template, {"items": [1, 2]}) == {"list": [{"v": None}, {"v": None}], "plain": [1]}
    assert expand(template, {"items": 3}) == expand(template, None) == {"list": [], "plain": [1]}
