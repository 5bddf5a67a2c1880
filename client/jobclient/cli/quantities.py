"""Durations, sizes and points in time: as people type them, as people read them."""

from __future__ import annotations

_DURATION_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MAX = 10**14
"""Larger numbers are slips of the finger, and the protocol has none (`wire.MAX_NUMBER`)."""


def parse_duration(text: str) -> int:
    """Milliseconds of `90` (seconds), `5m`, `1h30m`, `1.5h`, `500ms`; `0` is none.

    Raises:
        ValueError: it is no duration.
    """
    rest = text + "s" if text[-1:].isdigit() else text
    parts: dict[str, float] = {}
    while rest:
        number, rest = _split(rest, "0123456789.")
        unit, rest = _split(rest, "mshd")
        if unit not in _DURATION_UNITS or unit in parts:
            parts.clear()
            break
        parts[unit] = _number(number) * _DURATION_UNITS[unit]
    if not parts or not sum(parts.values()) <= _MAX:
        raise ValueError(f"{text!r} is not a duration, write 90, 5m, 1h30m or 500ms")
    return round(sum(parts.values()))


def parse_size(text: str) -> int:
    """Bytes of `4096`, `100M`, `1.5GiB`; units are powers of 1024.

    Raises:
        ValueError: it is no size.
    """
    number, unit = _split(text.lower(), "0123456789.")
    factor = None if unit in ("i", "ib") else _SIZE_UNITS.get(unit.removesuffix("b").removesuffix("i"))
    if factor is None or not _number(number) * factor <= _MAX:
        raise ValueError(f"{text!r} is not a size, write 4096, 64K, 100M or 2G")
    return round(_number(number) * factor)


def parse_count(text: str) -> int:
    """A whole number, not negative.

    Raises:
        ValueError: it is none.
    """
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX:
        raise ValueError(f"{text!r} is not a number")
    return int(text)


def _split(text: str, characters: str) -> tuple[str, str]:
    """The longest beginning of these characters, and the rest."""
    rest = text.lstrip(characters)
    return text[: len(text) - len(rest)], rest


def _number(text: str) -> float:
    """The number, or one that is over every limit: no unit stands alone, and there is one point at most."""
    try:
        return float(text)
    except ValueError:
        return float("inf")


def duration(ms: int) -> str:
    """`340ms`, `12s`, `4m12s`, `2h03m`, `3d04h`: two units at most."""
    if ms < 1000:
        return f"{max(ms, 0)}ms"
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h" if days < 10 else f"{days}d"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


def interval(ms: int) -> str:
    """`1h`, `1m30s`, `1s500ms`: all of it, as it may be typed again."""
    parts: list[str] = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, _DURATION_UNITS[unit])
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0"


def limit(ms: int) -> str:
    """A time limit, for which 0 is none."""
    return duration(ms) if ms else "none"


def size(count: int) -> str:
    """`512B`, `1.2K`, `212M`."""
    value, unit = float(count), "B"
    for larger in "KMGT":
        if value < 999.5:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}{unit}" if unit != "B" and value < 9.95 else f"{value:.0f}{unit}"


def epoch_ms(timestamp: str) -> int:
    """Milliseconds since 1970 of `2025-11-21T02:14:11.123Z`, without importing datetime (2 ms, three modules)."""
    year, month, day = int(timestamp[:4]), int(timestamp[5:7]), int(timestamp[8:10])
    hour, minute, second, fraction = (int(timestamp[a:b]) for a, b in ((11, 13), (14, 16), (17, 19), (20, 23)))
    year -= month < 3  # years that begin in March end with the leap day
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 719_469
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + fraction
