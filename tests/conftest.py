"""What tests share: a driver of shims below a directory of the test's own, and proof that nothing outlives a test."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from driver import Bell, Driver, await_end

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path


@contextmanager
def driving(state: Path, prefix: Iterable[str] = ()) -> Generator[Driver]:
    """A driver; at the end its fork server, its shims and all processes of its jobs must be gone."""
    driver = Driver(state, prefix)
    try:
        yield driver
    finally:
        driver.close()
        left = [pid for pid in driver.processes() if not await_end(pid, 2)]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert not left, f"processes outlive the test: {left}"


@pytest.fixture
def driver(tmp_path: Path) -> Generator[Driver]:
    with driving(tmp_path) as driver:
        yield driver


@pytest.fixture
def bell(tmp_path: Path) -> Generator[Bell]:
    bell = Bell(tmp_path / "bell")
    yield bell
    bell.close()


@pytest.fixture
def gate(tmp_path: Path) -> Generator[Bell]:
    """The other direction: a job waits here until the test rings."""
    gate = Bell(tmp_path / "gate")
    yield gate
    gate.close()


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Path]:
    """A disk of its own of a few MiB, to be filled."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    place = tmp_path / "disk"
    place.mkdir(mode=0o700)
    if request.param == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", str(place)]
    else:
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(8 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        command = ["mount", "-o", "loop", str(image), str(place)]
    if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip(f"no {request.param} to be mounted here")
    place.chmod(0o700)
    yield place
    subprocess.run(["umount", str(place)], check=True)
