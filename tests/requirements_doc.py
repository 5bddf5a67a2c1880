"""The pages that say which test shows what, as data: docs/requirements.md and docs/backends.md.

A test bears the numbers of what it shows in its name: `test_r013_r014_limits`, `test_rule_08_nobody_is_waited_for`.
Run as a program it brings the pages up to date: `python tests/requirements_doc.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from source import ROOT

PAGES = (ROOT / "docs/requirements.md", ROOT / "docs/backends.md")
_ROW = re.compile(r"^\| (R\d{1,3}) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(test_\w+)::(test_\w+)`")
_NUMBERED = re.compile(r"test((?:_r\d{3}|_rule_\d{2})+)_")


def rows(page: Path) -> list[tuple[str, str, str]]:
    """Number, what holds, and what shows it."""
    return [(number, what, shown) for number, what, shown in _ROW.findall(page.read_text())]


def named_in(shown: str) -> set[str]:
    """The tests a row names, as `file::test`."""
    return {f"{file}::{test}" for file, test in _TEST.findall(shown)}


def numbered_tests() -> Iterator[tuple[str, str]]:
    """Every number in a test's name, with that test; rules have one or two digits, `R8`, requirements three, `R081`."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found = _NUMBERED.match(node.name)
                for kind, digits in re.findall(r"_(r|rule_)(\d+)", found[1]) if found else ():
                    number = digits if kind == "r" else str(int(digits))
                    yield f"R{number}", f"{path.stem}::{node.name}"


def by_number() -> dict[str, set[str]]:
    """The tests of each requirement."""
    found: dict[str, set[str]] = {}
    for number, test in numbered_tests():
        found.setdefault(number, set()).add(test)
    return found


def up_to_date(page: str) -> str:
    """A page with the tests there are now; what else a row says of itself stays."""
    tests = by_number()

    def row(found: re.Match[str]) -> str:
        number, what, shown = found.groups()
        names = ", ".join(f"`{name}`" for name in sorted(tests.get(number, ())))
        rest = re.sub(r"^(`test_\w+::test_\w+`(, )?)*(\. )?|^Decision: ", "", shown)
        text = ". ".join(filter(None, [names, rest])) if names else f"Decision: {rest}"
        return f"| {number} | {what} | {text} |"

    return _ROW.sub(row, page)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(up_to_date(path.read_text()))
