"""Fixtures: a home for brokers, and the promise that no process survives a test."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from harness import Home, Processes, Wire

SHARED: list[Home] = []
"""Homes of the module that is running."""


def shared_brokers() -> list[int]:
    return [home.process.pid for home in SHARED if home.process is not None]


@pytest.fixture(autouse=True)
def no_process_survives() -> Generator[None]:
    """Whatever a test starts is gone when it ends."""
    with Processes(shared_brokers):
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Home]:
    """A home with a running broker for all tests of a module that do it no harm."""
    with Processes():
        home = Home(tmp_path_factory.mktemp("shared"), JOBBROKER_GRACE="2s")
        home.start()
        SHARED.append(home)
        yield home
        SHARED.remove(home)
        home.close()


@pytest.fixture
def client(shared: Home) -> Generator[Wire]:
    """A connection to the module's broker."""
    with Wire(str(shared.socket)) as made:
        yield made


@pytest.fixture
def new_home(tmp_path: Path, no_process_survives: None) -> Generator[Callable[..., Home]]:
    """Makes homes; the brokers in them are ended with the test."""
    homes: list[Home] = []

    def make(name: str = "home", **environ: str) -> Home:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        home = Home(root, **environ)
        homes.append(home)
        return home

    yield make
    for home in homes:
        home.close()


@pytest.fixture
def home(new_home: Callable[..., Home]) -> Home:
    """A home with a running broker."""
    made = new_home()
    made.start()
    return made


@pytest.fixture
def wire(home: Home) -> Wire:
    """A connection to a running broker."""
    return home.connect()
