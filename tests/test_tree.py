"""Trees that do not want to die, walked and killed; what cannot be killed is named."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from conftest import driving
from driver import PATIENCE, await_end, eventually
from jobbroker import tree
from jobbroker.core.ladder import KILL_PATIENCE_MS
from jobbroker.identity import is_dead, read_stat

if TYPE_CHECKING:
    from pathlib import Path

    from driver import Bell, Driver

NASTY = """
trap '' TERM HUP INT
setsid sleep 1001 &
(setsid sh -c 'trap "" TERM; sleep 1002 & sleep 1003') &
sh -c 'sh -c "setsid sleep 1004 & exit" & exit' &
setsid sh -c 'while :; do sleep 1005; done' &
setsid sh -c 'for n in $(seq 2000); do setsid sh -c "sleep 1006" & sleep 0.01; done' &
setsid env -i "$0" -c 'for n in $(seq 2000); do
    setsid env -i "$0" -c "sleep 1007; : $1" "$0" "$1" & sleep 0.01
done' "$0" "$1" &
"""


def nasty(bell: Bell, state: Path, rest: str) -> list[str]:
    """A job that makes a tree of all the ways to escape, rings, and goes on. Its path is in every bomb's argv."""
    return ["sh", "-c", f"{NASTY}\nsleep 0.1; echo ready > {bell.path}; {rest}", "/bin/sh", str(state)]


# --- looking ----------------------------------------------------------------------------------------------------------


def test_children_of_all_threads_are_seen() -> None:
    made: list[subprocess.Popen[bytes]] = []
    done = threading.Event()

    def make() -> None:
        made.append(subprocess.Popen(["sleep", "1000"]))
        done.wait(PATIENCE)

    thread = threading.Thread(target=make)
    thread.start()
    eventually(lambda: bool(made))
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            assert {other.pid, made[0].pid} <= set(tree.children(os.getpid()))
            assert set(tree._children_by_scan(os.getpid())) == set(tree.children(os.getpid()))
        finally:
            done.set()
            thread.join()
            for process in (other, *made):
                process.kill()
                process.wait()


def test_nobody_has_no_children() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert tree.children(gone.pid) == []
    assert tree.descendants(gone.pid) == {}
    assert tree.kill_round(gone.pid) == set()


def test_parents_come_before_their_children() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 1000 & sh -c 'sleep 1000 & echo; wait' & wait"], stdout=-1) as top:
        assert top.stdout is not None
        top.stdout.readline()
        eventually(lambda: len(tree.descendants(top.pid)) == 3)
        seen = {top.pid}
        for pid, parent in tree.descendants(top.pid).items():
            assert parent in seen
            seen.add(pid)
        tree.kill_round(top.pid)
        top.kill()


def test_a_zombie_is_no_survivor_but_a_process_whose_first_thread_ended_is() -> None:
    code = (
        "import ctypes, os, threading, time\n"
        "if os.fork() == 0: os._exit(0)\n"
        "if os.fork() == 0:\n"
        "    threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "    ctypes.CDLL(None).syscall(60, 0)\n"
        "time.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as top:
        eventually(lambda: [state(pid) for pid in sorted(tree.descendants(top.pid))] == [b"Z", b"Z"])
        zombie, threaded = sorted(tree.descendants(top.pid))
        assert is_dead(read_stat(zombie) or [])
        assert tree.survivors(top.pid) == [threaded]
        tree.kill_round(top.pid)
        eventually(lambda: tree.survivors(top.pid) == [])
        top.kill()


def state(pid: int) -> bytes:
    stat = read_stat(pid)
    return b"" if stat is None else stat[0]


# --- killing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["the leader exits", "cancelled", "the leader is killed"])
def test_nothing_of_a_nasty_tree_is_left(driver: Driver, bell: Bell, way: str) -> None:
    shim = driver.shim()
    name = shim.begin(nasty(bell, driver.state, "exit 7" if way == "the leader exits" else "sleep 1000"))
    assert bell.wait() == "ready"
    if way == "cancelled":
        driver.ask(name, grace_ms=0)
    elif way == "the leader is killed":
        os.kill(driver.line(name, "S").number(0), signal.SIGKILL)
    shim.until_end()
    assert driver.processes() == sorted([driver.process.pid, shim.pid])
    assert driver.line(name, "X").text(7) == ""
    assert driver.status(name) == {"the leader exits": 7 << 8}.get(way, signal.SIGKILL)
    assert driver.status(shim.run(["true"])) == 0


RELAY = """
import os, sys
os.write(1, b"x")
for _ in range(4000):
    if os.fork(): os._exit(0)
os.write(1, b"escaped")
"""


def test_a_process_that_hands_itself_on_does_not_slip_through(driver: Driver) -> None:
    """Each hop is a birth and a death: whoever looked before the birth and reaps after the death sees nobody."""
    shim = driver.shim()
    for _ in range(40):
        name = shim.run([sys.executable, "-S", "-c", RELAY, str(driver.state)])
        assert set(driver.processes()) == {driver.process.pid, shim.pid}
        assert driver.output(name) == b"x"


def test_more_processes_than_we_may_open_files(driver: Driver, bell: Bell) -> None:
    shim = driver.shim()
    resource.prlimit(shim.pid, resource.RLIMIT_NOFILE, (16, 16))
    many = f"i=0; while [ $i -lt 60 ]; do setsid sleep 1000 & i=$((i+1)); done; echo ready > {bell.path}; wait"
    name = shim.begin(["sh", "-c", many])
    assert bell.wait() == "ready"
    driver.ask(name, grace_ms=0)
    shim.until_end()
    assert driver.line(name, "X").text(7) == ""
    assert not driver.faults()


def test_a_tree_that_is_stopped_dies_as_well(driver: Driver, bell: Bell) -> None:
    shim = driver.shim()
    name = shim.begin(["sh", "-c", f"setsid sleep 1000 & sleep 1000 & echo ready > {bell.path}; wait"])
    assert bell.wait() == "ready"
    for pid in tree.descendants(shim.pid):
        os.kill(pid, signal.SIGSTOP)
    driver.ask(name, grace_ms=0)
    shim.until_end()
    assert driver.line(name, "X").text(7) == ""


def test_orphans_that_end_while_the_job_runs_leave_no_zombies(driver: Driver, bell: Bell) -> None:
    shim = driver.shim()
    many = "i=0; while [ $i -lt 50 ]; do (setsid true &) ; i=$((i+1)); done"
    name = shim.begin(["sh", "-c", f"{many}; echo ready > {bell.path}; exec sleep 1000"])
    assert bell.wait() == "ready"
    leader = driver.line(name, "S").number(0)
    eventually(lambda: tree.children(shim.pid) == [leader])
    driver.ask(name, grace_ms=0)
    shim.until_end()


# --- what cannot be killed --------------------------------------------------------------------------------------------

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process away to another user")
POWERLESS = ["setpriv", "--bounding-set", "-kill"]
STRANGER = "setpriv --reuid 65534 --clear-groups sh -c 'echo $$ >&3; exec sleep 1000' 3>"


@NEEDS_ROOT
def test_survivors_are_named_and_the_shim_takes_no_further_job(tmp_path: Path, bell: Bell) -> None:
    with driving(tmp_path, POWERLESS) as driver:
        shim = driver.shim()
        name = shim.begin(["sh", "-c", f"{STRANGER}{bell.path} & sleep 1000"])
        survivor = bell.wait()
        driver.ask(name, grace_ms=500)  # time for the leader to die of SIGTERM, and of nothing else
        shim.until_end()
        end = driver.line(name, "X")
        assert end.text(7) == survivor
        assert end.number(0) == signal.SIGTERM
        assert end.number(2) - driver.line(name, "L").number(2) >= KILL_PATIENCE_MS
        assert shim.receive() == "retiring"
        os.kill(int(survivor), signal.SIGKILL)
        shim.gone()


@NEEDS_ROOT
def test_a_leader_that_cannot_be_killed_runs_on_and_its_end_is_told(tmp_path: Path, bell: Bell) -> None:
    with driving(tmp_path, POWERLESS) as driver:
        shim = driver.shim()
        name = shim.begin(["sh", "-c", f"exec {STRANGER}{bell.path}"])
        leader = int(bell.wait())
        driver.ask(name, grace_ms=0)
        assert shim.until("L").split()[2] == "user"
        assert not await_end(leader, 0.3)
        assert driver.verdict(name) == "live"
        os.kill(leader, signal.SIGKILL)
        shim.until_end()
        assert (driver.letters(name), driver.status(name)) == ("ASLX", signal.SIGKILL)
