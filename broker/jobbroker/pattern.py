"""Regular expressions of clients, searched for in what jobs write: by RE2, in time that is linear in the text.

Whatever a pattern is, a search ends soon. It is done in a thread all the same, which does not hold the interpreter's
lock meanwhile: the worst pattern on the longest line takes a second, and nobody else shall wait for it.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

MAX_PATTERN = 1000
"""Characters in a pattern."""
_MEMORY = 1024 * 1024
"""Bytes one pattern may take, so that repetitions of repetitions are refused."""


class BadPattern(ValueError):
    """No regular expression, or too large a one; the text says why."""


class _Match(Protocol):
    def span(self) -> tuple[int, int]: ...


class _Compiled(Protocol):
    def search(self, text: bytes) -> _Match | None: ...


class _Options(Protocol):
    max_mem: int
    log_errors: bool
    never_nl: bool
    never_capture: bool


class _Re2(Protocol):
    error: type[Exception]

    def Options(self) -> _Options: ...  # noqa: N802  # the library's name

    def compile(self, pattern: str, options: _Options) -> _Compiled: ...


class Pattern:
    """A compiled pattern, which matches within lines: `^` and `$` are their ends."""

    def __init__(self, text: str) -> None:
        """Compile it. The library is loaded with the first one.

        Raises:
            BadPattern: it cannot be.
        """
        if len(text) > MAX_PATTERN:
            raise BadPattern(f"it has {len(text)} characters, and {MAX_PATTERN} are the most")
        re2 = cast("_Re2", importlib.import_module("re2"))
        options = re2.Options()
        options.max_mem = _MEMORY
        options.log_errors = False
        options.never_nl = True
        options.never_capture = True
        try:
            re2.compile(text, options)  # alone, so that what is no pattern is not made one by what is put before it
            self._compiled = re2.compile(f"(?m){text}", options)  # nothing behind it: \Q takes all for text
        except re2.error as exc:
            reason: object = exc.args[0] if exc.args else exc
            raise BadPattern(reason.decode() if isinstance(reason, bytes) else str(reason)) from None

    def line_of(self, block: bytes) -> tuple[int, int] | None:
        """Where the first line that matches begins and ends in a block of whole lines; its line feed is not of it."""
        found = self._compiled.search(block)
        if found is None:
            return None
        at = found.span()[0]
        begin = block.rfind(b"\n", 0, at) + 1
        end = block.find(b"\n", at)
        if begin == len(block) > 0:
            return None  # behind the last line feed there is no line
        return begin, len(block) if end < 0 else end
