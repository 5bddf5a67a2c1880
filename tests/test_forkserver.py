"""The fork server: what it loads is in every shim, and what it does wrong is wrong in all of them."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import jobbroker
from driver import await_end
from jobbroker import tree
from jobbroker.identity import read_stat

if TYPE_CHECKING:
    from driver import Driver

ROOT = Path(jobbroker.__file__).parent
HEAVY = {
    "typing",
    "dataclasses",
    "enum",
    "re",
    "json",
    "subprocess",
    "socket",
    "signal",
    "msgspec",
    "trio",
    "traceback",
}


def test_it_loads_little() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import jobbroker.forkserver; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-I", "-S", "-c", code, str(ROOT.parent)], text=True).split()
    assert not HEAVY & set(loaded)
    assert len(loaded) < 70


@pytest.mark.parametrize("name", ["record", "ladder", "index"])
def test_the_pure_half_imports_nothing(name: str) -> None:
    imports = [
        node for node in ast.walk(ast.parse((ROOT / "core" / f"{name}.py").read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]  # fmt: skip
    assert [node.module for node in imports if isinstance(node, ast.ImportFrom)] == ["__future__"]
    assert len(imports) == 1


def test_it_ends_with_its_daemon(driver: Driver) -> None:
    driver.channel.close()
    assert driver.process.wait(10) == 0


def test_it_shrugs_off_what_a_terminal_or_a_careless_kill_sends(driver: Driver) -> None:
    driver.shim()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXCPU):
        os.kill(driver.process.pid, number)
    assert driver.shim().run(["true"]) == "j1"


def test_its_shims_leave_no_zombies(driver: Driver) -> None:
    for _ in range(5):
        link = driver.shim()
        link.close()
        await_end(link.pid)
    link = driver.shim()
    assert tree.children(driver.process.pid) == [link.pid]


def test_it_and_its_shims_have_sessions_of_their_own(driver: Driver) -> None:
    link = driver.shim()
    link.run(["true"])
    for pid in (driver.process.pid, link.pid):
        stat = read_stat(pid)
        assert stat is not None
        assert [int(field) for field in stat[2:4]] == [pid, pid]
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
