"""What tests of the service share: a real user manager, bare or with the broker installed."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from usermanager import UserManager


@pytest.fixture
def manager(tmp_path: Path, no_process_survives: None) -> Generator[UserManager]:
    """A user manager with nothing installed. What it takes is installed by .ci/run, so its lack is a failure."""
    assert os.geteuid() == 0, "a user manager in namespaces of its own needs root: sudo make test-slow"
    with UserManager(tmp_path / "home") as made:
        yield made


@pytest.fixture
def service(manager: UserManager) -> UserManager:
    """The same with the broker as a service, by `jobctl broker install`."""
    manager.jobctl("broker", "install")
    return manager
