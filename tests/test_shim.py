"""The shim: what its record says after every kind of end, asked for or not, with or without a daemon."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import resource
import shutil
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from driver import PATIENCE, Bell, Driver, await_end, eventually
from jobbroker import tree
from jobbroker.core import record
from jobbroker.core.index import DROPPED, STDERR, STDOUT
from jobbroker.identity import open_checked, read_stat

if TYPE_CHECKING:
    from pathlib import Path

    from driver import Link


@pytest.fixture
def shim(driver: Driver) -> Link:
    return driver.shim()


def leader(driver: Driver, name: str) -> int:
    return driver.line(name, "S").number(0)


def between(driver: Driver, name: str, first: str, second: str) -> int:
    """Milliseconds from one line to another; the clock is the last field of all but X."""
    clock = {"S": 4, "L": 2, "T": 1, "C": 1, "X": 2}
    return driver.line(name, second).number(clock[second]) - driver.line(name, first).number(clock[first])


def ringing(bell: Bell, script: str, line: str = "ready") -> list[str]:
    """A shell that rings when it is set up: the word BELL in the script."""
    return ["sh", "-c", script.replace("BELL", f"echo {line} > {bell.path}")]


# --- ends by itself ---------------------------------------------------------------------------------------------------


def test_every_exit_code(driver: Driver, shim: Link) -> None:
    for code in range(256):
        name = shim.run(["sh", "-c", f"exit {code}"])
        assert driver.status(name) == code << 8
        assert (driver.letters(name), driver.verdict(name)) == ("ASX", "ended")
        assert driver.line(name, "S").text(2) == driver.line(name, "A").text(2)


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 14, 15, 24, 34, 64])
def test_every_way_to_be_killed(driver: Driver, shim: Link, tmp_path: Path, number: int) -> None:
    name = shim.run(["sh", "-c", f"ulimit -c 0; kill -{number} $$"], cwd=str(tmp_path))
    assert driver.status(name) & 0x7F == number


def test_a_core_dump_is_told(driver: Driver, shim: Link, tmp_path: Path) -> None:
    name = shim.run(["sh", "-c", "kill -SEGV $$"], cwd=str(tmp_path), **{"rlimit.CORE": -1})
    status = driver.status(name)
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert os.WCOREDUMP(status) == any(path.name.startswith("core") for path in tmp_path.iterdir())


def test_a_leader_that_ends_takes_its_tree_along_at_once(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.run(ringing(bell, "setsid sleep 1000 & (trap '' TERM; sleep 1000) & BELL; exit 5"), graceMs=60_000)
    assert driver.letters(name) == "ASX"
    assert driver.status(name) == 5 << 8
    assert driver.processes() == sorted([driver.process.pid, shim.pid])


def test_the_message_comes_after_the_record_is_free(driver: Driver, shim: Link) -> None:
    for _ in range(100):
        name = driver.create(["true"])
        shim.hand(name)
        line = shim.until_end()
        assert not driver.read(name).locked
        assert line.split(" ")[2:] == [field.decode() for field in driver.line(name, "X").fields]
        assert not os.path.exists(f"/proc/{leader(driver, name)}")  # and reaped before that


# --- output -----------------------------------------------------------------------------------------------------------


def test_output_is_complete_at_the_end(driver: Driver, shim: Link, tmp_path: Path) -> None:
    for size in (1, 65_535, 65_536, 65_537, 5_000_000):
        copy = tmp_path / f"copy{size}"
        name = shim.run(["sh", "-c", f"head -c {size} /dev/urandom | tee {copy}"])
        assert hashlib.sha256(driver.output(name)).digest() == hashlib.sha256(copy.read_bytes()).digest()
        assert driver.line(name, "X").number(3) == size


def test_what_the_tree_wrote_before_it_was_killed_is_kept(driver: Driver, shim: Link) -> None:
    for _ in range(20):
        name = shim.run(["sh", "-c", "(setsid sh -c 'printf child; exec sleep 1000' &); sleep 0.01; printf leader"])
        assert sorted((driver.output(name).find(b"child"), driver.output(name).find(b"leader"))) in ([0, 5], [0, 6])


@pytest.mark.parametrize("merged", [0, 1])
def test_streams_are_told_apart_unless_merged(driver: Driver, shim: Link, merged: int) -> None:
    name = shim.run(
        ["sh", "-c", "echo out; echo error > /dev/stderr; printf '\\000\\377tail' > /dev/stdout"], merged=merged
    )
    end = driver.line(name, "X")
    if merged:
        assert driver.output(name) == b"out\nerror\n\0\xfftail"
        assert {kind for _, _, kind in driver.index(name)} == {STDOUT}
        assert [end.number(index) for index in range(3, 7)] == [16, 0, 0, 0]
    else:
        assert sorted(driver.output(name)) == sorted(b"out\n\0\xfftailerror\n")
        assert {kind for _, _, kind in driver.index(name)} == {STDOUT, STDERR}
        assert [end.number(index) for index in range(3, 7)] == [10, 0, 6, 0]


def test_first_output_is_written_at_once(driver: Driver, shim: Link, gate: Bell) -> None:
    name = shim.begin(["sh", "-c", f"echo first; read x < {gate.path}"])
    eventually(lambda: driver.output(name) == b"first\n")
    gate.ring()
    shim.until_end()


def test_a_job_may_close_its_streams(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "echo a; exec >&- 2>&-; BELL; exec sleep 1000"))
    assert bell.wait() == "ready"
    assert cpu_ticks(shim.pid) < 20
    driver.ask(name, grace_ms=0)
    shim.until_end()
    assert driver.output(name) == b"a\n"


def test_a_trickle_costs_little_and_loses_nothing(driver: Driver, shim: Link) -> None:
    code = "import os, time\nfor turn in range(600): os.write(1 + turn % 2, b'%09d\\n' % turn * 100); time.sleep(0.001)"
    name = shim.run([sys.executable, "-S", "-c", code], merged=0)
    end = driver.line(name, "X")
    assert (end.number(3), end.number(5)) == (300_000, 300_000)
    assert sorted(set(driver.output(name).split())) == [b"%09d" % turn for turn in range(600)]


def test_the_limit_keeps_the_beginning_and_the_end(driver: Driver, shim: Link) -> None:
    name = shim.run(["sh", "-c", "seq 1000000; echo the end"], maxOutput=100_000)
    end = driver.line(name, "X")
    assert end.number(3) == 6_888_896 + 8
    kept = end.number(3) - end.number(4)
    assert 80_000 < kept <= 100_000
    assert driver.output(name).startswith(b"1\n2\n3\n")
    assert driver.output(name).endswith(b"999999\n1000000\nthe end\n")
    starts = [entry[0] for entry in driver.index(name)] + [end.number(3)]
    gaps = [starts[at + 1] - start for at, (start, _, kind) in enumerate(driver.index(name)) if kind & DROPPED]
    assert sum(gaps) == end.number(4)
    assert driver.path(name, "output").stat().st_blocks * 512 < 200_000


def test_a_stranger_who_holds_the_pipe_does_not_delay_the_end(driver: Driver, shim: Link, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "give"))
        listener.listen()
        code = (
            "import array, os, socket, sys\n"
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1]))])\n"
            "os.write(1, b'mine'); s.recv(1)\n"
        )
        name = shim.begin([sys.executable, "-S", "-c", code, str(tmp_path / "give")])
        with listener.accept()[0] as given:
            _, ancillary, _, _ = given.recvmsg(1, 64)
            pipe = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
            given.send(b"x")
            shim.until_end()
            assert driver.output(name) == b"mine"
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            with pytest.raises(BrokenPipeError):
                os.write(pipe, b"late")
            os.close(pipe)


# --- input ------------------------------------------------------------------------------------------------------------


def input_of(driver: Driver, name: str) -> int:
    """The writing end of a job's stdin, as any daemon finds it: through the shim's descriptors."""
    inode = driver.line(name, "A").text(3).rpartition("i")[2]
    pid = driver.line(name, "A").number(0)
    for number in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{number}") == f"pipe:[{inode}]":
            return os.open(f"/proc/{pid}/fd/{number}", os.O_WRONLY)
    raise AssertionError("the shim does not hold it")


def test_input_comes_through_the_shim_and_ends_on_word(driver: Driver, shim: Link) -> None:
    name = shim.begin(["cat"], stdin="pipe")
    for word in (b"first ", b"second"):  # each by a daemon of its own
        writer = input_of(driver, name)
        os.write(writer, word)
        os.close(writer)
    shim.close()
    driver.jobs.end_input(name)
    driver.signal_shim(name)
    shim.gone()
    assert (driver.letters(name), driver.status(name), driver.output(name)) == ("ASX", 0, b"first second")


def test_a_job_with_input_leaves_nothing_to_the_next(driver: Driver, shim: Link) -> None:
    shim.run(["true"], stdin="pipe")
    shim.run(["/no/such"], stdin="pipe", merged=0)
    name = shim.run(["readlink", "/proc/self/fd/0"])
    assert driver.output(name) == b"/dev/null\n"
    eventually(lambda: len(os.listdir(f"/proc/{shim.pid}/fd")) == 3 + 4)


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


# --- who may run what -------------------------------------------------------------------------------------------------


def test_a_job_that_runs_is_refused_to_a_second_shim(driver: Driver, shim: Link, bell: Bell) -> None:
    name = shim.begin(ringing(bell, "BELL; exec sleep 1000"))
    bell.wait()
    other = driver.shim()
    other.hand(name)
    assert other.receive() == f"{name} refused"
    driver.ask(name, grace_ms=0)
    shim.until_end()
    other.hand(name)
    assert other.receive() == f"{name} refused"
    assert driver.letters(name) == "ASLX"
    assert driver.status(other.run(["true"])) == 0


def test_what_shall_never_run_never_runs(driver: Driver, shim: Link, tmp_path: Path) -> None:
    name = driver.create(["touch", str(tmp_path / "proof")])
    assert driver.jobs.withdraw(name, b"user", 1)
    assert not driver.jobs.withdraw(name, b"user", 2)
    shim.hand(name)
    assert shim.receive() == f"{name} refused"
    assert (driver.letters(name), driver.verdict(name)) == ("N", "never")
    assert not (tmp_path / "proof").exists()


def test_a_record_that_is_none_is_refused(driver: Driver, shim: Link, tmp_path: Path) -> None:
    for damage in (b"", b"garbage", None, b"jobbroker-record 1\0x\0"):
        name = driver.create(["true"])
        if damage is None:
            driver.path(name, "record").unlink()
        else:
            driver.path(name, "record").write_bytes(damage)
        shim.hand(name)
        assert shim.receive() == f"{name} refused"
    name = driver.create(["true"])
    driver.path(name, "record").rename(tmp_path / "elsewhere")
    driver.path(name, "record").symlink_to(tmp_path / "elsewhere")
    shim.hand(name)
    assert shim.receive() == f"{name} refused"
    assert driver.status(shim.run(["true"])) == 0
    assert not driver.faults()


def test_a_line_cut_short_is_written_over(driver: Driver, shim: Link) -> None:
    name = driver.create(["true"])
    with driver.path(name, "record").open("ab") as file:
        file.write(
            b"A 12345678901234567890 12345678901234567890 123456789012345678901234567890123456789012345678901234567890"
        )
    assert driver.verdict(name) == "unbegun"
    shim.hand(name)
    shim.until_end()
    assert (driver.letters(name), driver.status(name)) == ("ASX", 0)


def test_newlines_and_letters_in_the_spec_are_no_lines(driver: Driver, shim: Link) -> None:
    odd = "\nX 0 0 0 0 0 0 0 \nN user 1\n"
    name = driver.create(["printf", "%s", odd, odd], env={"E": odd, "PATH": os.environ["PATH"]}, label=odd)
    assert driver.verdict(name) == "unbegun"
    shim.hand(name)
    shim.until_end()
    assert (driver.letters(name), driver.output(name)) == ("ASX", (odd * 2).encode())


def test_a_shim_retires_in_time_and_does_not_grow(driver: Driver, shim: Link) -> None:
    sizes: list[int] = []
    for turn in range(500):
        assert driver.status(shim.run(["true"])) == 0
        if turn in (100, 498):
            sizes.append(private_kb(shim.pid))
    assert shim.receive() == "retiring"
    assert shim.receive() == ""
    assert sizes[1] - sizes[0] < 64
    shim.gone()


def private_kb(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(row.split()[1]) for row in file if row.startswith("Private_"))


def cpu_ticks(pid: int) -> int:
    stat = read_stat(pid)
    assert stat is not None
    return int(stat[11]) + int(stat[12])


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


# --- faults of our own ------------------------------------------------------------------------------------------------


def test_a_fault_while_a_job_runs_ends_it_and_is_told(driver: Driver, shim: Link, bell: Bell) -> None:
    """A shim that may open no file cannot look for its children, and nothing it could say of them would be true."""
    name = shim.begin(ringing(bell, "setsid sleep 1000 & BELL; exec sleep 1000"))
    bell.wait()
    before = resource.prlimit(shim.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(shim.pid, resource.RLIMIT_NOFILE, (0, before[1]))
    os.kill(leader(driver, name), signal.SIGINT)
    assert shim.until("L").split()[2] == "internal"
    assert driver.verdict(name) == "live"
    assert "OSError" in driver.faults()
    resource.prlimit(shim.pid, resource.RLIMIT_NOFILE, before)
    shim.until_end()
    assert (driver.letters(name), driver.status(name)) == ("ASLX", signal.SIGINT)
    assert shim.receive() == "retiring"
    shim.gone()
    assert driver.processes() == [driver.process.pid]


def test_a_fault_of_the_pool_is_logged(driver: Driver, shim: Link) -> None:
    shim.run(["true"])
    resource.prlimit(shim.pid, resource.RLIMIT_NOFILE, (0, 0))
    name = driver.create(["true"])
    shim.hand(name)
    shim.gone()
    assert "without its directory" in driver.faults()
    assert driver.verdict(name) == "unbegun"
