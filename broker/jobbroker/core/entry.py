"""Lines of the log of timed jobs: what each always has, and what is added, which can neither replace nor harm it.

Whatever is added, there is a line: logging never changes what becomes of a tick.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec
from msgspec import Struct

FRAMEWORK = "timed-jobs.framework"
"""The runner in whose name the broker's own lines are written."""
STAGES = (
    "started", "stopped", "tick_started", "tick_skipped_busy", "tick_skipped_no_runners", "tick_completed",
    "tick_failed", "runner_started", "runner_skipped", "runner_completed", "runner_failed",
)  # fmt: skip
"""The stages that are the broker's to write."""
MAX_DETAILS = 64 * 1024
"""Bytes of what is added to one line."""
_DEEPEST = 32
_NESTED = "details"
_NOTHING: Mapping[str, object] = {}


class Line(Struct, frozen=True, kw_only=True):
    """One line. `batch` is None where it is nobody's tick: then it takes a batch id of its own."""

    stage: str
    runner: str = FRAMEWORK
    batch: str | None = None
    result: str | None = None
    error: object = None
    duration_ms: int | None = None
    details: Mapping[str, object] = _NOTHING


def encode(line: Line, *, schedule: str | None, batch: str, ts: str) -> bytes:
    """The line as JSON, its own members first; `ts` says when it was written, and so to which day it belongs."""
    entry: dict[str, object] = {
        "batch_id": batch,
        "duration_ms": line.duration_ms,
        "error": error_text(line.error),
        "result": line.result,
        "runner": line.runner,
        "schedule": schedule,
        "stage": line.stage,
        "ts": ts,
    }
    added = harmless(line.details)
    if len(_encode(added)) > MAX_DETAILS:
        added = {"details_error": f"more than {MAX_DETAILS} bytes, left out"}
    taken = {key: value for key, value in added.items() if key in entry or key == _NESTED}
    entry |= {key: value for key, value in added.items() if key not in taken}
    if taken:
        entry[_NESTED] = taken
    return _encode(cast("dict[str, object]", _plain(entry, 0))) + b"\n"


def error_text(error: object) -> str | None:
    """What is said of an error: its message, or whatever text it has; None for none, and where there is no text."""
    if error is None:
        return None
    try:
        return str(error) or None
    except Exception:  # noqa: BLE001  # whatever it is, it must not stop the line
        return f"an error of type {type(error).__name__} that has no text"


def harmless(details: object) -> dict[str, object]:
    """What can be written of it as a JSON object."""
    try:
        found = _plain(details, 0)
    except Exception as exc:  # noqa: BLE001  # the same
        return {"details_error": f"cannot be written: {error_text(exc)}"}
    return cast("dict[str, object]", found) if isinstance(found, dict) else {"value": found}


def _plain(value: object, depth: int) -> object:
    """The value in terms of JSON; what has none becomes the text it has."""
    if depth > _DEEPEST:
        return "..."
    match value:
        case None | bool() | float():
            return value
        case int():
            return value if -(1 << 63) <= value < 1 << 64 else str(value) if abs(value) < 1 << 1024 else "..."
        case str():
            return value.encode("utf-8", "replace").decode()
        case Mapping():
            items = cast("Mapping[object, object]", value).items()
            return {str(key).encode("utf-8", "replace").decode(): _plain(each, depth + 1) for key, each in items}
        case list() | tuple() | set() | frozenset():
            return [_plain(each, depth + 1) for each in cast("list[object]", value)]
        case _:
            return (error_text(value) or "").encode("utf-8", "replace").decode()


def _encode(value: dict[str, object]) -> bytes:
    return msgspec.json.encode(value)
