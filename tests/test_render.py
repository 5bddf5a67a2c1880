"""Text on its way to a terminal: safe, aligned, cut; coloured only where that was wanted."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, strategies as st

from jobclient.cli.render import Cell, cut, escape, escape_lines, paint, quote, table, wants_colour, width


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("größe 名前 🚀", "größe 名前 🚀"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x00\x07\x7f\x9b", "\\x00\\x07\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2028\u2066", "\\u2028\\u2066"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_nothing_commands_a_terminal(text: str, safe: str) -> None:
    assert escape(text) == safe


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_what_is_escaped_is_printable(text: str) -> None:
    assert escape(text).isprintable()
    assert escape(escape(text)) == escape(text)


def test_lines_stay_lines() -> None:
    assert escape_lines("a\x1b\nb") == "a\\x1b\nb"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_a_quoted_word_reads_as_itself_in_a_shell(word: str) -> None:
    assert shlex.split(quote(word)) == [word]


def test_quoting_is_safe_to_show() -> None:
    assert quote("a\x1bb") == "'a\\x1bb'"
    assert quote("") == "''"
    assert quote("-j8") == "-j8"


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("abc", 3), ("名前", 4), ("e\u0301", 1), ("\uff57", 2), ("é", 1)]
)
def test_widths(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(
    ("text", "room", "result"),
    [
        ("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc..."), ("名前名前", 8, "名前名前"), ("名前名前", 7, "名前..."),
        ("名前名前", 6, "名..."), ("abcdef", 2, ""), ("abcdef", 3, "..."),
    ],
)  # fmt: skip
def test_cutting(text: str, room: int, result: str) -> None:
    assert cut(text, room, "...") == result


@given(st.text(), st.integers(0, 30))
def test_what_is_cut_fits(text: str, room: int) -> None:
    assert width(cut(text, room, "...")) <= room


def rows(*lines: tuple[str, ...]) -> list[list[Cell]]:
    return [[Cell(text) for text in line] for line in lines]


def test_columns_line_up_whatever_is_in_them() -> None:
    lines = table(rows(("ID", "NAME", "X"), ("a", "名前", "1"), ("bcd", "-", "2")))
    assert lines == ["ID   NAME  X", "a    名前  1", "bcd  -     2"]


def test_the_last_column_is_cut_to_the_terminal() -> None:
    lines = table(rows(("ID", "COMMAND"), ("a", "x" * 50)), columns=20)
    assert lines[1] == "a   " + "x" * 13 + "..."
    assert all(width(line) <= 20 for line in lines)


def test_without_a_terminal_nothing_is_cut() -> None:
    assert table(rows(("a", "x" * 500)))[0].endswith("x" * 500)


def test_colours_do_not_disturb_the_columns() -> None:
    plain = table([[Cell("failed", "red"), Cell("x")], [Cell("ok", "green"), Cell("y")]])
    coloured = table([[Cell("failed", "red"), Cell("x")], [Cell("ok", "green"), Cell("y")]], colour=True)
    assert plain == ["failed  x", "ok      y"]
    assert coloured == ["\x1b[31mfailed\x1b[m  x", "\x1b[32mok\x1b[m      y"]


def test_no_rows_no_lines() -> None:
    assert table([]) == []
    assert paint("", "red") == ""


@pytest.mark.parametrize(
    ("when", "environ", "terminal", "expected"),
    [
        (None, {}, True, True),
        (None, {}, False, False),
        ("auto", {"TERM": "dumb"}, True, False),
        (None, {"NO_COLOR": "1"}, True, False),
        (None, {"NO_COLOR": ""}, True, True),
        (None, {"FORCE_COLOR": "1"}, False, True),
        (None, {"FORCE_COLOR": "0"}, False, False),
        (None, {"FORCE_COLOR": ""}, False, False),
        (None, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_when_there_are_colours(when: str | None, environ: dict[str, str], terminal: bool, expected: bool) -> None:
    assert wants_colour(when, environ, terminal=terminal) is expected
