"""Places in JSON values, as profiles name them: dotted keys, `each` for all elements of an array, `$name` to fill in.

    threadId                 the member of that name
    turn.id                  a member of a member
    items.each.uri           of every element of an array
    {"threadId": "$thread"}  a value with something to fill in; equality is the only comparison there is

A member whose own name has a dot in it cannot be named, and need not be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from jobclient.protocol.jsonrpc import Json

EACH = "each"
Values: TypeAlias = Mapping[str, Json]


class Absent:
    """What stands at a place that is not there; `null` is something else."""

    __slots__ = ()


ABSENT = Absent()


def find(value: Json, path: str) -> Json | Absent:
    """The first value at a place."""
    for found in find_all(value, path):
        return found
    return ABSENT


def find_all(value: Json, path: str) -> list[Json]:
    """All values at a place: more than one only where the path says `each`."""
    found: list[Json] = [value]
    for key in path.split("."):
        found = [below for each in found for below in _step(each, key)]
    return found


def _step(value: Json, key: str) -> list[Json]:
    if isinstance(value, dict):
        return [value[key]] if key in value else []
    if isinstance(value, list) and key == EACH:
        return value
    return []


def put(value: Json, path: str, new: Json) -> Json:
    """A copy with another value at a place; objects on the way there that are missing are made.

    Only what leads to the place is copied. Where something else than an object is in the way nothing is changed.
    """
    key, _, rest = path.partition(".")
    if isinstance(value, list) and key == EACH:
        return [put(each, rest, new) if rest else new for each in value]
    if not isinstance(value, dict):
        return value
    return {**value, key: put(value.get(key, {}), rest, new) if rest else new}


def matches(value: Json, wanted: Values, names: Values) -> bool:
    """Whether a value has, at every wanted place, what is wanted there; what is not known yet matches nothing."""
    for path, text in wanted.items():
        expected = fill(text, names)
        if isinstance(expected, Absent) or not same(find(value, path), expected):
            return False
    return True


def same(one: Json | Absent, other: Json | Absent) -> bool:
    """Equality as JSON has it: 1 is neither true nor "1"."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def fill(template: Json, names: Values) -> Json | Absent:
    """A value with each `$name` replaced by what it stands for; absent if one of them is not known."""
    if isinstance(template, str) and template.startswith("$"):
        return names.get(template[1:], ABSENT)
    if isinstance(template, dict):
        members: dict[str, Json] = {}
        for key, member in template.items():
            if isinstance(filled := fill(member, names), Absent):
                return ABSENT
            members[key] = filled
        return members
    if isinstance(template, list):
        elements: list[Json] = []
        for each in template:
            if isinstance(filled := fill(each, names), Absent):
                return ABSENT
            elements.append(filled)
        return elements
    return template


def expand(template: Json, params: Json) -> Json:
    """An answer made from a template: `{"$each": "items", "$value": X}` is a list with an X for every element there."""
    if isinstance(template, dict):
        place, value = template.get("$each"), template.get("$value")
        if isinstance(place, str):
            found = find(params, place)
            return [expand(value, params) for _ in found] if isinstance(found, list) else []
        return {key: expand(member, params) for key, member in template.items()}
    if isinstance(template, list):
        return [expand(each, params) for each in template]
    return template


def key_of(value: Json) -> str:
    """A value as a key of a dictionary, with its type: 1 and "1" are two."""
    return msgspec.json.encode(value, order="deterministic").decode(errors="replace")


def value_of(key: str) -> Json:
    """The value of such a key."""
    value: Json = msgspec.json.decode(key)
    return value
