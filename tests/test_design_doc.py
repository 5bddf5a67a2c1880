"""docs/design.md draws the table of a job's life from the code; it must be that table."""

from __future__ import annotations

from pathlib import Path

from jobbroker.core.job import EVENTS, TABLE

DOC = Path(__file__).parent.parent / "docs" / "design.md"


def drawn() -> str:
    """The table as the document should have it."""
    rows = ["| | " + " | ".join(event.__name__ for event in EVENTS) + " |", "|---" * (len(EVENTS) + 1) + "|"]
    for status, changes in TABLE.items():
        names = [change.__name__.strip("_").replace("_", " ") for change in changes]
        rows.append(f"| **{status}** | " + " | ".join(names) + " |")
    return "\n".join(rows)


def test_the_table_in_the_design_is_the_table_in_the_code() -> None:
    assert drawn() in DOC.read_text(), f"the table in docs/design.md should be:\n{drawn()}"
