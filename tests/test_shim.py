"""The shim: what its record says of ends by themselves, of output and input, and of who may run what."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from driver import Bell, Driver, cpu_ticks, eventually
from jobbroker.core.index import DROPPED, STDERR, STDOUT

if TYPE_CHECKING:
    from pathlib import Path

    from driver import Link


from driver import leader, ringing

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


def test_what_the_tree_wrote_before_it_was_killed_is_kept(driver: Driver, shim: Link, tmp_path: Path) -> None:
    done = tmp_path / "done"
    os.mkfifo(done)
    child = f"printf child; echo > {done}; exec sleep 1000"
    for _ in range(20):
        name = shim.run(["sh", "-c", f"(setsid sh -c '{child}' &); read x < {done}; printf leader"])
        assert driver.output(name) == b"childleader"


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
