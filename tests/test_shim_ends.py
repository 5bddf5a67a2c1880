"""The shim: ends that are asked for, limits, stops; and what holds when the daemon or the shim itself dies."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from driver import PATIENCE, Bell, Driver, await_end, cpu_ticks, eventually
from jobbroker import tree
from jobbroker.core import record
from jobbroker.identity import open_checked, read_stat

if TYPE_CHECKING:
    from pathlib import Path

    from driver import Link


from driver import between, leader, ringing

# --- ends that are asked for ------------------------------------------------------------------------------------------


def test_cancel_is_term_first(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "trap 'exit 3' TERM; BELL; while :; do sleep 0.01; done"))
    bell.wait()
    driver.ask(name)
    assert shim.until("L").split()[2] == "user"
    shim.until_end()
    assert (driver.letters(name), driver.status(name)) == ("ASLX", 3 << 8)


def test_cancel_kills_when_the_grace_is_over_and_not_before(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "trap '' TERM; BELL; while :; do sleep 0.01; done"))
    bell.wait()
    driver.ask(name, grace_ms=150)
    shim.until_end()
    assert driver.status(name) == signal.SIGKILL
    assert 150 <= between(driver, name, "L", "X") < 1000


def test_a_leader_that_obeys_does_not_cut_the_grace_of_its_children(driver: Driver, shim: Link, bell: Bell) -> None:
    child = f"trap 'sleep 0.1; echo saved; echo saved > {bell.path}; exit' TERM; echo ready > {bell.path}; "
    name = shim.begin(["sh", "-c", f'sh -c "{child} while :; do sleep 0.01; done" & sleep 1000'])
    assert bell.wait() == "ready"
    driver.ask(name)
    assert bell.wait() == "saved"
    shim.until_end()
    assert driver.status(name) == signal.SIGTERM
    assert driver.output(name).endswith(b"saved\n")
    assert 100 <= between(driver, name, "L", "X") < 4000


def test_a_child_that_outlives_the_grace_is_killed(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "setsid sh -c 'BELL; exec sleep 1000' & sleep 1000"))
    bell.wait()
    driver.ask(name, grace_ms=100)
    shim.until_end()
    assert driver.status(name) == signal.SIGTERM
    assert between(driver, name, "L", "X") >= 100
    assert driver.processes() == sorted([driver.process.pid, shim.pid])


def test_a_second_ask_shortens_the_grace(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "trap '' TERM; BELL; while :; do sleep 0.01; done"))
    bell.wait()
    driver.ask(name, "disconnect", grace_ms=60_000)
    shim.until("L")
    driver.ask(name, "user", grace_ms=0)
    shim.until_end()
    assert (driver.letters(name), driver.line(name, "L").text(0)) == ("ASLX", "disconnect")


def test_a_stopped_job_is_continued_to_hear_that_it_shall_end(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "trap 'exit 4' TERM; BELL; while :; do sleep 0.01; done"))
    bell.wait()
    os.kill(leader(driver, name), signal.SIGSTOP)
    shim.until("T")
    driver.ask(name)
    shim.until_end()
    assert (driver.letters(name), driver.status(name)) == ("ASTLX", 4 << 8)


def test_a_signal_without_an_ask_is_nothing(driver: Driver, shim: Link, bell: Bell, gate: Bell) -> None:
    name = shim.begin(ringing(bell, f"BELL; read x < {gate.path}; exit 6"))
    bell.wait()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT) * 20:
        os.kill(shim.pid, number)
    driver.path(name, "ask").symlink_to("nonsense")
    os.kill(shim.pid, signal.SIGTERM)
    driver.path(name, "ask").unlink()
    driver.path(name, "ask").write_text("user 0")  # no link: not of our making
    os.kill(shim.pid, signal.SIGTERM)
    gate.ring()
    shim.until_end()
    assert (driver.letters(name), driver.status(name)) == ("ASX", 6 << 8)


def test_an_ask_that_comes_too_late_does_not_reach_the_next_job(driver: Driver, shim: Link) -> None:
    name = shim.run(["true"])
    driver.jobs.ask(name, "user", 0)
    for _ in range(100):
        os.kill(shim.pid, signal.SIGTERM)
    name = driver.create(["sh", "-c", "sleep 0.05; exit 9"])
    shim.hand(name)
    for _ in range(100):
        os.kill(shim.pid, signal.SIGTERM)
    shim.until_end()
    assert (driver.letters(name), driver.status(name)) == ("ASX", 9 << 8)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_deadline(driver: Driver, shim: Link) -> None:
    name = shim.run(["sh", "-c", "while :; do echo busy; sleep 0.01; done"], timeoutMs=150)
    assert (driver.letters(name), driver.line(name, "L").text(0)) == ("ASLX", "deadline")
    assert driver.status(name) == signal.SIGTERM
    assert 150 <= between(driver, name, "S", "L") < 1000


def test_a_deadline_of_months(driver: Driver, shim: Link) -> None:
    name = shim.run(["sh", "-c", "sleep 0.01"], timeoutMs=10**10, idleTimeoutMs=10**11)
    assert (driver.letters(name), driver.status(name)) == ("ASX", 0)


def test_the_deadline_uses_the_jobs_grace(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.run(ringing(bell, "trap '' TERM; while :; do sleep 0.01; done"), timeoutMs=50, graceMs=100)
    assert driver.status(name) == signal.SIGKILL
    assert between(driver, name, "L", "X") >= 100


def test_output_puts_off_the_idle_limit(driver: Driver, shim: Link) -> None:
    name = shim.run(
        ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.05; done; exec sleep 1000"], idleTimeoutMs=250
    )
    assert (driver.letters(name), driver.line(name, "L").text(0)) == ("ASLX", "idle")
    assert 7 * 50 + 250 <= between(driver, name, "S", "L") < 2000


# --- stops ------------------------------------------------------------------------------------------------------------


def test_a_strangers_stops_are_told_and_limits_stand_still(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "BELL; exec sleep 1000"), timeoutMs=300, idleTimeoutMs=10_000)
    bell.wait()
    os.kill(leader(driver, name), signal.SIGSTOP)
    shim.until("T")
    assert bell.wait(0.4) == ""
    assert driver.letters(name) == "AST"
    os.kill(leader(driver, name), signal.SIGCONT)
    shim.until("C")
    shim.until_end()
    assert driver.letters(name) == "ASTCLX"
    running = between(driver, name, "S", "T") + between(driver, name, "C", "L")
    assert 300 <= running < 600


def test_a_job_that_stops_itself_at_once(driver: Driver, shim: Link) -> None:
    for _ in range(20):
        name = shim.begin(["sh", "-c", "kill -STOP $$; exit 8"])
        shim.until("T")
        os.kill(leader(driver, name), signal.SIGCONT)
        shim.until_end()
        assert driver.status(name) == 8 << 8
        assert driver.letters(name) in ("ASTCX", "ASTX")  # an end may overtake the news that it goes on


def test_no_stop_is_lost_when_it_is_followed_by_a_continuation(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "BELL; exec sleep 1000"), timeoutMs=500)
    bell.wait()
    for _ in range(25):
        os.kill(leader(driver, name), signal.SIGSTOP)
        os.kill(leader(driver, name), signal.SIGCONT)
    shim.until_end()  # by the deadline: no stop was left standing
    assert driver.line(name, "L").text(0) == "deadline"


def test_stops_never_take_the_room_of_the_end(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "BELL; exec sleep 1000"))
    bell.wait()
    pid = leader(driver, name)
    while size_of_lines(driver, name) < record.ROOM_FOR_STOPS:
        stop_and_continue(pid)
    eventually(lambda: driver.letters(name).endswith("C"))
    for _ in range(20):
        stop_and_continue(pid)
    os.kill(pid, signal.SIGKILL)
    shim.until_end()
    assert driver.letters(name).endswith("CX")
    assert size_of_lines(driver, name) < record.ROOM - 500
    assert driver.status(name) == signal.SIGKILL


def size_of_lines(driver: Driver, name: str) -> int:
    return len(driver.path(name, "record").read_bytes().rpartition(b"\0")[2])


def stop_and_continue(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: (read_stat(pid) or [b""])[0] == b"T")
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: (read_stat(pid) or [b""])[0] != b"T")


def test_stops_of_the_tree_are_not_the_jobs(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "sleep 1000 & BELL; wait"))
    bell.wait()
    for child in tree.children(leader(driver, name)):
        os.kill(child, signal.SIGSTOP)
    driver.ask(name, grace_ms=100)
    shim.until_end()
    assert driver.letters(name) == "ASLX"


# --- the daemon dies --------------------------------------------------------------------------------------------------


def test_without_its_daemon_a_shim_finishes_the_job_and_goes(
    driver: Driver, shim: Link, bell: Bell, gate: Bell
) -> None:
    name = shim.begin(ringing(bell, f"BELL; read x < {gate.path}; echo late; exit 11"))
    bell.wait()
    shim.close()
    gate.ring()
    assert driver.notified() == name
    assert not driver.read(name).locked
    assert (driver.status(name), driver.output(name)) == (11 << 8, b"late\n")
    shim.gone()
    assert not driver.faults()


def test_without_its_daemon_a_job_handed_over_still_runs(driver: Driver, shim: Link) -> None:
    name = driver.create(["sh", "-c", "exit 12"])
    os.kill(shim.pid, signal.SIGSTOP)
    shim.hand(name)
    shim.close()
    os.kill(shim.pid, signal.SIGCONT)
    shim.gone()
    assert driver.status(name) == 12 << 8
    assert driver.notified() == name


def test_without_its_daemon_limits_hold_and_asks_are_heard(driver: Driver, bell: Bell) -> None:
    limited, asked = driver.shim(), driver.shim()
    first = limited.begin(["sleep", "1000"], timeoutMs=200)
    second = asked.begin(["sleep", "1000"])
    limited.close()
    asked.close()
    driver.ask(second, "shutdown", grace_ms=1000)
    for link in (limited, asked):
        link.gone()
    assert driver.line(first, "L").text(0) == "deadline"
    assert driver.line(second, "L").text(0) == "shutdown"
    assert {driver.status(first), driver.status(second)} == {signal.SIGTERM}
    told: set[str] = set()
    while told != {first, second}:  # more than once, perhaps
        told.add(driver.notified())


def test_an_idle_shim_goes_with_its_daemon(driver: Driver, shim: Link) -> None:
    shim.run(["true"])
    shim.close()
    shim.gone()


def test_a_daemon_too_busy_for_a_poke_is_poked_again_without_haste(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "BELL; exec sleep 1000"))
    bell.wait()
    shim.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler, pytest.raises(BlockingIOError):  # noqa: PT012
        filler.setblocking(False)
        while True:
            filler.sendto(b"full", str(driver.state / "notify"))
    before = cpu_ticks(shim.pid)
    os.kill(leader(driver, name), signal.SIGSTOP)
    eventually(lambda: driver.letters(name) == "AST")
    assert bell.wait(0.5) == ""
    assert cpu_ticks(shim.pid) - before <= 5
    while driver.notified() != name:
        pass
    driver.ask(name, grace_ms=0)
    shim.gone()


def test_nobody_to_poke_is_no_trouble(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "BELL; exec sleep 1000"))
    bell.wait()
    shim.close()
    (driver.state / "notify").unlink()
    driver.ask(name, grace_ms=0)
    shim.gone()
    assert driver.verdict(name) == "ended"
    assert not driver.faults()


def test_shims_live_on_without_their_fork_server(driver: Driver, shim: Link, bell: Bell, gate: Bell) -> None:
    name = shim.begin(ringing(bell, f"BELL; read x < {gate.path}; exit 13"))
    bell.wait()
    driver.kill_fork_server()
    gate.ring()
    shim.until_end()
    assert driver.status(name) == 13 << 8
    assert driver.status(shim.run(["true"])) == 0
    driver.start()
    assert driver.status(driver.shim().run(["true"])) == 0


# --- the shim dies ----------------------------------------------------------------------------------------------------


def test_a_shim_killed_while_its_job_runs_leaves_an_orphan_to_be_found(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "BELL; exec sleep 1000"))
    bell.wait()
    os.kill(shim.pid, signal.SIGKILL)
    assert shim.receive() == ""
    shim.gone()
    assert driver.verdict(name) == "orphaned"
    started = driver.line(name, "S")
    handle = open_checked(started.number(0), started.number(1))
    assert handle is not None
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)


def test_a_shim_killed_in_the_middle_of_a_spawn_says_that_it_may_have_run(
    driver: Driver, shim: Link, tmp_path: Path
) -> None:
    """A lease on the program holds the exec up, in the kernel, for as long as this test likes."""
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    lease = os.open(program, os.O_RDWR)
    try:
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        name = driver.create([str(program)])
        shim.hand(name)
        signal.sigtimedwait([signal.SIGIO], PATIENCE)
        assert (driver.letters(name), driver.verdict(name)) == ("A", "live")
        os.kill(shim.pid, signal.SIGKILL)
    finally:
        os.close(lease)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGIO])
    shim.gone()
    eventually(lambda: driver.verdict(name) == "unknown")
    other = driver.shim()
    other.hand(name)
    assert other.receive() == f"{name} refused"


def kill_at_random(driver: Driver, proof: Path, rng: random.Random) -> str:
    """Kill a shim at some moment of a short job; check that the record does not contradict what happened."""
    shim = driver.shim()
    name = driver.create(["sh", "-c", f"echo ran >> {proof}; exit 14"])
    shim.hand(name)
    until = time.perf_counter() + rng.uniform(0, 0.006)
    while time.perf_counter() < until:
        pass
    os.kill(shim.pid, signal.SIGKILL)
    await_end(shim.pid)
    eventually(lambda: driver.verdict(name) != "live")
    verdict = driver.verdict(name)
    if verdict == "orphaned":
        await_end(leader(driver, name))
    other = driver.shim()
    other.hand(name)
    other.until_end()
    ran = proof.read_text().count("ran") if proof.exists() else 0
    other.close()
    if verdict == "unbegun" or verdict == "ended":
        assert (driver.status(name), ran) == (14 << 8, 1)
    else:
        assert verdict in ("unknown", "orphaned")
        assert ran <= 1
    return verdict


def test_a_shim_killed_at_any_moment_leaves_a_true_record(driver: Driver, tmp_path: Path) -> None:
    rng = random.Random(1)
    seen = {kill_at_random(driver, tmp_path / f"proof{turn}", rng) for turn in range(60)}
    assert {"orphaned", "ended"} <= seen or len(seen) >= 2
