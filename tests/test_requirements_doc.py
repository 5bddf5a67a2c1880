"""docs/requirements.md is complete, and what it names exists."""

from __future__ import annotations

import pytest

from requirements_doc import by_number, named_in, rows

NUMBERS = [
    f"R{number:03d}"
    for first, last in ((1, 7), (10, 18), (20, 26), (30, 37), (90, 99), (105, 106), (110, 145))
    for number in range(first, last + 1)
]
TESTS = by_number()
ROWS = rows()


def test_every_requirement_has_its_row() -> None:
    assert [number for number, _, _ in ROWS] == NUMBERS


@pytest.mark.parametrize(("number", "shown"), [(number, shown) for number, _, shown in ROWS])
def test_a_row_names_the_tests_that_bear_its_number(number: str, shown: str) -> None:
    assert named_in(shown) == TESTS.get(number, set())
    assert named_in(shown) or shown.startswith("Decision: ")


def test_no_test_bears_a_number_nobody_asked_for() -> None:
    assert set(TESTS) <= set(NUMBERS)
