"""Another version takes over while jobs run: what goes on, and what clients of either version are told."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import PATIENCE, Home, eventually
from jobclient import versions
from jobclient.protocol import PROTOCOL_VERSION
from jobclient.version import __version__
from jobctl import Cli, Done
from later import LATER, newer

NO_BROKER = 5


class Both:
    """`jobctl` of this version and of a later one, in one home."""

    def __init__(self, home: Home, cwd: Path, later: str) -> None:
        self.home = home
        self.old = Cli(home, cwd)
        self.later = later

    def new(self, *words: str) -> Done:
        return self.old(*words, PYTHONPATH=self.later)

    def new_ok(self, *words: str) -> str:
        done = self.new(*words)
        assert done.returncode == 0, done
        return done.stdout

    def store_format(self) -> int:
        with sqlite3.connect(self.home.state / "store.db") as db:
            found: int = db.execute("PRAGMA user_version").fetchone()[0]
        db.close()
        return found


@pytest.fixture
def make(new_home: Callable[..., Home], tmp_path: Path) -> Callable[..., Both]:
    def made(protocol: int = PROTOCOL_VERSION, *, store: bool = False) -> Both:
        later = newer(tmp_path / "later", protocol=protocol, store=store)
        both = Both(new_home(), tmp_path, later)
        both.home.start()
        return both

    return made


def adopt(home: Home) -> None:
    """The broker that a client has started is no child of ours: it is stopped by a call at the end."""
    assert home.process is not None
    home.wait()
    home.process = None


@pytest.mark.parametrize("protocol", [PROTOCOL_VERSION, PROTOCOL_VERSION + 1])
def test_restarted_as_a_newer_one_under_jobs_that_run(make: Callable[..., Both], protocol: int) -> None:
    both = make(protocol, store=True)
    before = both.store_format()
    job = both.old.start("-n", "long", "--", "sleep", "600")
    both.old("run", "--", "sh", "-c", "exit 3")
    pid = both.old.json("status", job, "--json")["job"]["pid"]
    both.new_ok("broker", "restart")
    adopt(both.home)
    assert both.store_format() == before + 1
    assert f"broker {LATER}" in both.new_ok("broker", "status")
    assert re.search(rf"{job}\s+long\s+running", both.new_ok("list"))
    assert f"  process    {pid}" in both.new_ok("status", job)
    assert "failed 3" in both.new_ok("list", "-a")
    both.new_ok("broker", "stop", "--jobs", "cancel")


def test_a_newer_client_says_how_to_bring_the_broker_up_to_date(make: Callable[..., Both]) -> None:
    both = make(PROTOCOL_VERSION + 1)
    done = both.new("list")
    assert done.returncode == NO_BROKER
    assert f"version {__version__}, speaks protocol {PROTOCOL_VERSION}" in done.stderr
    assert f"version {LATER}, is newer" in done.stderr
    assert "-> jobctl broker restart" in done.stderr


def test_an_older_client_says_that_it_is_to_be_updated_and_ends_nothing(make: Callable[..., Both]) -> None:
    both = make(PROTOCOL_VERSION + 1, store=True)
    both.new_ok("broker", "restart")
    adopt(both.home)
    pid = both.new_ok("broker", "status", "-q")
    said = both.old("list")
    assert said.returncode == NO_BROKER
    assert f"version {LATER}, speaks protocol {PROTOCOL_VERSION + 1}" in said.stderr
    assert "is older" in said.stderr
    assert "-> update this client" in said.stderr
    refused = both.old("broker", "restart")
    assert refused.returncode == NO_BROKER
    assert f"is version {LATER}, this jobctl would start {__version__}" in refused.stderr
    assert both.new_ok("broker", "status", "-q") == pid
    both.old.ok("broker", "stop")
    back = both.old("list")
    assert back.returncode == NO_BROKER
    assert "was written by a newer jobbroker" in back.stderr
    both.new_ok("list")
    both.new_ok("broker", "stop")


def test_clients_of_another_version_that_understand_each_other_are_told_in_status(make: Callable[..., Both]) -> None:
    both = make()
    assert "  version " not in both.old.ok("broker", "status")
    assert f"this jobctl is {LATER}  -> jobctl broker restart" in both.new_ok("broker", "status")
    both.new_ok("broker", "restart")
    adopt(both.home)
    assert f"this jobctl is {__version__}, which is older" in both.old.ok("broker", "status")
    assert both.old.ok("run", "--", "echo", "hello") == "hello\n"
    both.old.ok("broker", "stop")


def test_who_waits_for_a_job_waits_on(make: Callable[..., Both], tmp_path: Path) -> None:
    both = make()
    gate = tmp_path / "gate"
    job = both.old.start("--", "sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done; exit 9")
    waiting = both.old.begin("wait", job)
    wire = both.home.connect()
    eventually(lambda: wire.call("broker/status")["connections"] > 1, "it waits")
    both.new_ok("broker", "restart")
    adopt(both.home)
    gate.touch()
    out, err = waiting.communicate(timeout=PATIENCE)
    assert (waiting.returncode, err) == (9, ""), out
    both.new_ok("broker", "stop")


@pytest.mark.parametrize(
    ("one", "than", "newer"),
    [
        ("0.2.0", "0.1.0", True), ("0.1.0", "0.1.0", False), ("0.10", "0.9", True), ("1", "0.9.9", True),
        ("0.1.1", "0.1", True), ("0.1.0", "0.2", False), ("0.2.0rc1", "0.1.0", True), ("", "0.1.0", False),
        ("unknown", "0.1.0", False),
    ],
)  # fmt: skip
def test_which_is_newer(one: str, than: str, newer: bool) -> None:
    assert versions.is_newer(one, than) == newer
