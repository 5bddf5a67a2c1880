"""docs/editors.md is complete, what it names exists, and every test that bears a rule's number is named there."""

from __future__ import annotations

import ast
import re

import pytest

from source import ROOT

ROW = re.compile(r"^\| (S\d{2}) \| (.+) \| (.+) \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs/editors.md").read_text())


def collected() -> set[str]:
    """Every test there is, as `file::test`."""
    return {
        f"{path.stem}::{node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


TESTS = collected()


def numbers_of(test: str) -> set[str]:
    """The rules a test bears in its name: `test_s17_s18_...` has two."""
    found = re.match(r"test((?:_s\d{2})+)_", test.partition("::")[2])
    return set(found[1].upper().split("_")[1:]) if found else set()


def test_every_rule_has_its_row() -> None:
    assert [number for number, *_ in ROWS] == [f"S{number:02d}" for number in range(1, 25)]
    assert all(what for _, what, _ in ROWS)


@pytest.mark.parametrize(("number", "shown"), [(number, shown) for number, _, shown in ROWS])
def test_a_row_names_tests_that_exist_and_all_that_bear_its_number(number: str, shown: str) -> None:
    named = set(re.findall(r"`(\w+::test_\w+)`", shown))
    assert named, "something shows it"
    assert named - TESTS == set()
    assert {test for test in TESTS if number in numbers_of(test)} - named == set()


def test_no_test_bears_a_number_that_no_rule_has() -> None:
    assert {number for test in TESTS for number in numbers_of(test)} <= {number for number, *_ in ROWS}
