"""Text for terminals: nothing that could command one, widths as they are seen, tables, colours."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36", "dim": "2", "bold": "1"}
_PLAIN_IN_SHELL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


class Cell:
    """A table's cell: its text, and the colour it has where there are colours."""

    __slots__ = ("colour", "text")

    def __init__(self, text: str, colour: str = "") -> None:
        self.text = text
        self.colour = colour


# --- safety ---------------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """The text with everything escaped that a terminal would not show: control and direction characters, odd bytes."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_lines(text: str) -> str:
    """The same for a text of several lines, which stay lines."""
    return "\n".join(map(escape, text.split("\n")))


def quote(word: str) -> str:
    """The word as one would type it in a shell, and safe to show."""
    if word and _PLAIN_IN_SHELL.issuperset(word):
        return word
    return "'" + escape(word.replace("'", "'\\''")) + "'"


# --- widths ---------------------------------------------------------------------------------------------------------


def width(text: str) -> int:
    """Columns the text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    from unicodedata import combining, east_asian_width  # a megabyte that ASCII does without

    return 0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1


def cut(text: str, room: int, ellipsis: str) -> str:
    """The text if it fits, else its beginning and an ellipsis, `room` columns at most."""
    if width(text) <= room:
        return text
    room -= len(ellipsis)
    if room < 0:
        return ""
    end = taken = 0
    while end < len(text) and taken + width(text[end]) <= room:
        taken += width(text[end])
        end += 1
    return text[:end] + ellipsis


# --- tables ---------------------------------------------------------------------------------------------------------


def paint(text: str, colour: str) -> str:
    """The text in that colour."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[m" if colour and text else text


def table(
    rows: Sequence[Sequence[Cell]],
    *,
    colour: bool = False,
    columns: int | None = None,
    ellipsis: str = "...",
) -> list[str]:
    """Rows as lines with aligned columns; the last column is cut where a line would be wider than `columns`."""
    widths = [max(width(cell.text) for cell in column) for column in zip(*rows, strict=True)]
    room = None if columns is None else max(columns - sum(widths[:-1]) - 2 * (len(widths) - 1), 8)
    lines: list[str] = []
    for row in rows:
        pieces: list[str] = []
        for cell, wide in zip(row[:-1], widths, strict=False):
            padding = " " * (wide - width(cell.text))
            pieces.append((paint(cell.text, cell.colour) if colour else cell.text) + padding)
        last = row[-1].text if room is None else cut(row[-1].text, room, ellipsis)
        pieces.append(paint(last, row[-1].colour) if colour else last)
        lines.append("  ".join(pieces).rstrip())
    return lines


# --- what the terminal can do ---------------------------------------------------------------------------------------


def wants_colour(when: str | None, environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether to use colours: as asked, else by NO_COLOR, FORCE_COLOR, and whether there is a terminal to speak of."""
    if when in ("always", "never"):
        return when == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return terminal and environ.get("TERM") != "dumb"


def terminal_columns(descriptor: int, environ: Mapping[str, str]) -> int | None:
    """The width of the terminal, None if that is none."""
    if not os.isatty(descriptor):
        return None
    given = environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80
