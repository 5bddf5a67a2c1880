"""docs/requirements.md and docs/backends.md are complete, and what they name exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from requirements_doc import PAGES, by_number, named_in, rows


def numbers(*ranges: tuple[int, int]) -> list[str]:
    return [f"R{number:03d}" for first, last in ranges for number in range(first, last + 1)]


WANTED = {
    "requirements": numbers(
        (1, 7), (10, 18), (20, 26), (30, 37), (90, 99), (105, 106), (110, 145), (150, 166), (170, 177)
    ),
    "backends": [
        *(f"R{number}" for number in range(1, 24)),
        *numbers((40, 58), (60, 73), (80, 88), (90, 99), (100, 107)),
    ],
}
TESTS = by_number()
ROWS = [(page.stem, number, shown) for page in PAGES for number, _, shown in rows(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_requirement_has_its_row(page: Path) -> None:
    assert [number for number, _, _ in rows(page)] == WANTED[page.stem]


@pytest.mark.parametrize(("page", "number", "shown"), ROWS)
def test_a_row_names_the_tests_that_bear_its_number(page: str, number: str, shown: str) -> None:
    assert named_in(shown) == TESTS.get(number, set())
    assert named_in(shown) or shown.startswith("Decision: ")


def test_no_test_bears_a_number_nobody_asked_for() -> None:
    assert set(TESTS) <= {number for wanted in WANTED.values() for number in wanted}
