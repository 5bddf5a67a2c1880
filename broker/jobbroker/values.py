"""What a person wrote in the settings, read: durations, sizes, numbers, sections. A mistake is told in a sentence.

A value that cannot be read raises `ValueError`, whose text says what it should be.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

import msgspec

Toml: TypeAlias = Mapping[str, object]
T = TypeVar("T")

_MINUTE = 60 * 1000
_MIB = 1024 * 1024
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_MILLISECONDS = {"ms": 1, "s": 1000, "m": _MINUTE, "h": 60 * _MINUTE, "d": 24 * 60 * _MINUTE}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG]?)(?:i?[bB])?", re.ASCII)
_BYTES = {"": 1, "k": 1024, "m": _MIB, "g": 1024 * _MIB}
_LARGEST = 1 << 53  # beyond it, JSON readers lose count


def duration(value: object) -> int:
    """Milliseconds, from seconds or from a text such as `30m`, `1h30m`, `500ms`."""
    if isinstance(value, str):
        text = value.replace(" ", "")
        if _NUMBER.fullmatch(text):
            return duration(float(text))
        if _DURATION.sub("", text) or not text:
            raise ValueError("a duration is a number of seconds, or a text such as 30m, 1h30m or 500ms")
        return _whole(sum(float(amount) * _MILLISECONDS[unit] for amount, unit in _DURATION.findall(text)))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a duration is a number of seconds, or a text such as 30m, 1h30m or 500ms")  # noqa: TRY004  # one kind of mistake
    return _whole(value * 1000)


def size(value: object) -> int:
    """Bytes, from a number or from a text such as `100M`; the units are powers of 1024."""
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.replace(" ", ""))
        if found is not None:
            return _whole(float(found[1]) * _BYTES[found[2].lower()])
    elif isinstance(value, int) and not isinstance(value, bool):
        return _whole(value)
    raise ValueError("a size is a number of bytes, or a text such as 100M")


def count(value: object) -> int:
    """A whole number that is not negative."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:20])
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("this is a whole number")  # noqa: TRY004  # one kind of mistake
    return _whole(value)


def at_least_one(value: object) -> int:
    """The same, but not 0."""
    number = count(value)
    if number < 1:
        raise ValueError("this is at least 1")
    return number


def _whole(value: float) -> int:
    if not math.isfinite(value) or not 0 <= value <= _LARGEST:
        raise ValueError("this is out of range")
    return round(value)


def section(parent: Toml, name: str, source: str, warnings: list[str], prefix: str = "") -> Toml:
    """A section within another, empty if it is not there, or is something else, of which a warning tells."""
    value = parent.get(name, {})
    if isinstance(value, Mapping):
        return msgspec.convert(value, dict[str, object])
    warnings.append(f"{source}: {prefix}{name} is not a section: write [{prefix}{name}]")
    return {}


def take(read: Callable[[object], T], value: object, where: str, warnings: list[str]) -> T | None:
    """A value as it is read, or None and a warning."""
    try:
        return read(value)
    except ValueError as exc:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:60] + "..."
        warnings.append(f"{where} = {shown} is ignored: {exc}")
        return None


def unknown(source: str, prefix: str, key: str, known: Iterable[str]) -> str:
    """The warning of a key that nobody knows, with the one that was perhaps meant."""
    return f"{source}: {prefix + key!r} is unknown and ignored{perhaps(prefix, key, known)}"


def perhaps(prefix: str, key: str, known: Iterable[str]) -> str:
    """`, did you mean limits.grace?`, if there is something like it."""
    near = difflib.get_close_matches(key, list(known), 1)
    return f", did you mean {prefix}{near[0]}?" if near else ""
