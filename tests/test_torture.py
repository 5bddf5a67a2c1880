"""Torture in a version for every day, and one for the night."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torture import Torture

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("jobs", [200, pytest.param(4000, marks=pytest.mark.slow)])
def test_nothing_is_lost_wrong_or_run_twice_when_daemons_and_fork_servers_die(tmp_path: Path, jobs: int) -> None:
    torture = Torture(tmp_path, jobs, seed=jobs)
    torture.run()
    assert torture.reckon() == {}
    assert torture.count["daemons died"]
    assert torture.count["fork servers killed"]
