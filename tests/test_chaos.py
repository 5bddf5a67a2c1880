"""The short version of chaos: every kind of end, while broker and fork server are killed. The long one: make chaos."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import in_own_home


def test_nothing_that_happens_to_the_broker_makes_it_lie(tmp_path: Path) -> None:
    report = in_own_home(100, 20261121, tmp_path)
    assert not report.faults, str(report)
    assert report.broker_kills, "the broker was never killed: nothing was shown"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nor_at_length(tmp_path: Path, seed: int) -> None:
    report = in_own_home(600, seed, tmp_path)
    assert not report.faults, str(report)
    assert report.broker_kills > 3
