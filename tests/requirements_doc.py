"""docs/requirements.md as data, and the tests that bear the numbers of requirements in their names.

Run as a program it brings the page up to date: `python tests/requirements_doc.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from source import ROOT

PATH = ROOT / "docs/requirements.md"
DOCUMENT = PATH.read_text()
_ROW = re.compile(r"^\| (R\d{3}) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(test_\w+)::(test_\w+)`")


def rows() -> list[tuple[str, str, str]]:
    """Number, what holds, and what shows it."""
    return [(number, what, shown) for number, what, shown in _ROW.findall(DOCUMENT)]


def named_in(shown: str) -> set[str]:
    """The tests a row names, as `file::test`."""
    return {f"{file}::{test}" for file, test in _TEST.findall(shown)}


def numbered_tests() -> Iterator[tuple[str, str]]:
    """Every number in a test's name, with that test: `test_r013_r014_limits` has two."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_r"):
                found = re.match(r"test((?:_r\d{3})+)_", node.name)
                for number in found[1].upper().split("_")[1:] if found else ():
                    yield number, f"{path.stem}::{node.name}"


def by_number() -> dict[str, set[str]]:
    """The tests of each requirement."""
    found: dict[str, set[str]] = {}
    for number, test in numbered_tests():
        found.setdefault(number, set()).add(test)
    return found


def up_to_date() -> str:
    """The page with the tests there are now; what else a row says of itself stays."""
    tests = by_number()

    def row(found: re.Match[str]) -> str:
        number, what, shown = found.groups()
        names = ", ".join(f"`{name}`" for name in sorted(tests.get(number, ())))
        rest = re.sub(r"^(`test_\w+::test_\w+`(, )?)*(\. )?|^Decision: ", "", shown)
        text = ". ".join(filter(None, [names, rest])) if names else f"Decision: {rest}"
        return f"| {number} | {what} | {text} |"

    return _ROW.sub(row, DOCUMENT)


if __name__ == "__main__":
    PATH.write_text(up_to_date())
