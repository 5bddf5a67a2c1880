"""What tests share: homes for brokers, drivers of shims, small disks, and proof that no process outlives a test."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

import hypothesis
import pytest

import standins
from backends import generic
from driver import Bell, Driver, Link, await_end
from harness import Home, Processes, Wire
from jobctl import Cli

hypothesis.settings.register_profile(  # a busy machine is no failure
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

# Started in the background (`make test &`, nohup), a process inherits that these are ignored, and so would all of ours.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)

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


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Generator[Home]:
    """The same, with stand-ins for agents on its PATH."""
    with Processes():
        home = standins.home(tmp_path_factory.mktemp("agents"))
        home.start()
        SHARED.append(home)
        yield home
        SHARED.remove(home)
        home.close()


@pytest.fixture
def talk(agents: Home) -> Generator[Wire]:
    """A connection to that broker."""
    with Wire(str(agents.socket)) as made:
        yield made


@pytest.fixture(scope="module")
def fronting(tmp_path_factory: pytest.TempPathFactory) -> Generator[Home]:
    """A broker with a plain backend that runs, for all tests of a module that leave both alive."""
    with Processes():
        home = generic(lambda: Home(tmp_path_factory.mktemp("fronting")))
        with Wire(str(home.socket)) as first:
            first.call("echo")
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
def cli(new_home: Callable[..., Home], tmp_path: Path) -> Generator[Cli]:
    """`jobctl` where no broker runs yet; one that it starts is stopped with the test."""
    work = tmp_path / "work"
    work.mkdir()
    made = Cli(new_home(), work)
    yield made
    made.ok("broker", "stop", "--jobs", "cancel")


@pytest.fixture
def wire(home: Home) -> Wire:
    """A connection to a running broker."""
    return home.connect()


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
def shim(driver: Driver) -> Link:
    return driver.shim()


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


@pytest.fixture
def rigid_disk(tmp_path: Path) -> Generator[Path]:
    """A file system that cannot give a part of a file back."""
    place = tmp_path / "rigid"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "ramfs", "none", place], check=False).returncode:
        pytest.skip("no ramfs to be mounted here")
    place.chmod(0o700)
    yield place
    subprocess.run(["umount", place], check=True)


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
