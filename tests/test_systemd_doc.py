"""docs/systemd.md: every line of what survives what names a test that there is, or says that there is none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from source import ROOT

PAGE = (ROOT / "docs/systemd.md").read_text()
ROWS = [line for line in PAGE.partition("## What survives what")[2].splitlines() if line.startswith("| ")][1:]
REAL = [ROOT / "tests/real/test_service.py", ROOT / "tests/real/test_service_handover.py"]


def defined(paths: Iterable[Path]) -> set[str]:
    return {name for path in paths for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}


def test_each_line_names_its_tests_or_says_that_it_has_none() -> None:
    there = defined([*REAL, *(ROOT / "tests").glob("test_*.py")])
    assert len(ROWS) > 15
    for row in ROWS:
        shown = row.rstrip(" |").rpartition("|")[2].strip()
        named = re.findall(r"`(\w+)`", shown)
        assert shown == "not tested here" or (named and set(named) <= there), row


def test_the_tests_of_the_real_manager_are_all_of_use() -> None:
    """What is not named has another reason to be there, and is counted: a new one belongs on the page, or here."""
    others = {name for name in defined(REAL) if f"`{name}`" not in PAGE}
    assert others == {
        "test_started_by_the_first_connection",
        "test_an_instance_of_its_own",
        "test_a_jobs_environment_has_nothing_of_the_services",
        "test_while_it_is_well_the_watchdog_leaves_it_alone",
        "test_many_clients_while_the_socket_unit_comes_up",
        "test_the_doctor_finds_a_service_well",
        "test_the_doctor_brings_a_failed_socket_unit_back",
        "test_the_doctor_lets_one_on_demand_hand_over",
        "test_the_doctor_sees_unit_files_of_another_version",
    }
