"""A broker whose socket was there before it: what it takes, what it leaves, and what it tells who started it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from activator import Activator, identity
from harness import PATIENCE, Home, Wire, eventually
from jobbroker import activation, systemd
from jobbroker.tree import descendants

CONFIGURATION = 78


@pytest.fixture
def activator(new_home: Callable[..., Home]) -> Generator[Activator]:
    made = Activator(new_home())
    yield made
    made.close()


# --- what the environment says --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 1),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, 2),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, 0),
        ({"LISTEN_PID": "7"}, 0),
        ({"LISTEN_FDS": "1"}, 0),
        ({}, 0),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "-1"}, 0),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "one"}, 0),
        ({"LISTEN_PID": " 7", "LISTEN_FDS": "1"}, 0),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "\N{ARABIC-INDIC DIGIT ONE}"}, 0),
    ],
)
def test_what_is_passed_is_counted_only_if_it_is_for_us(environ: dict[str, str], count: int) -> None:
    assert activation.passed(environ, 7) == count


@given(st.dictionaries(st.sampled_from(["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "HOME"]), st.text()))
def test_what_is_not_for_us_is_not_taken_and_not_passed_on(environ: dict[str, str]) -> None:
    home = environ.get("HOME")
    environ["LISTEN_PID"] = "1"
    assert activation.take(environ) is None
    assert environ == ({} if home is None else {"HOME": home})


@pytest.mark.parametrize(
    ("environ", "address", "seconds"),
    [
        ({}, "", 0.0),
        ({"NOTIFY_SOCKET": "/run/x"}, "/run/x", 0.0),
        ({"NOTIFY_SOCKET": "@x"}, "\0x", 0.0),
        ({"NOTIFY_SOCKET": "vsock:1:2"}, "", 0.0),
        ({"WATCHDOG_USEC": "30000000"}, "", 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7"}, "", 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, "", 0.0),
        ({"WATCHDOG_USEC": "soon"}, "", 0.0),
    ],
)
def test_what_the_manager_wants(environ: dict[str, str], address: str, seconds: float) -> None:
    found = systemd.manager(environ, 7)
    assert (found.address, found.watchdog_seconds, environ) == (address, seconds, {})


# --- what is taken --------------------------------------------------------------------------------------------------


def test_an_activated_broker_serves_who_came_before_it_and_leaves_the_socket(activator: Activator) -> None:
    home = activator.home
    before = identity(home.socket)
    early = Wire(str(home.socket))
    asked = early.send("broker/status")
    process = activator.start()
    assert early.answer(asked)["paths"]["socket"] == str(home.socket)
    job = early.start("sleep", "60")
    late = Wire(str(home.socket))
    process.send_signal(signal.SIGTERM)
    early.close()
    assert home.wait() == 0
    assert identity(home.socket) == before
    late.close()
    waiting = Wire(str(home.socket))  # nobody is refused meanwhile
    asked = waiting.send("job/get", id=job["id"])
    activator.start()
    assert waiting.answer(asked)["job"]["pid"] == job["pid"]
    waiting.close()


def test_a_socket_for_somebody_else_is_not_touched(activator: Activator) -> None:
    home = activator.home
    activator.listening.close()
    home.socket.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(home.root / "other"))
        other.listen()
        activator.listening = other
        activator.start(whom="1")
        activator.hear_of("READY")
        with Wire(str(home.socket)) as wire:
            assert wire.call("broker/ping")["pid"] == (home.process.pid if home.process else 0)
            seen = wire.output(wire.run("env")["id"])
        assert not re.search("^(LISTEN|NOTIFY|WATCHDOG)_", seen, re.MULTILINE)
        home.close()
        assert other.getsockname() == str(home.root / "other")


def test_jobs_see_nothing_of_how_the_broker_was_started(activator: Activator) -> None:
    activator.start(WATCHDOG_USEC="60000000")
    with Wire(str(activator.home.socket)) as wire:
        seen = wire.output(wire.run("sh", "-c", "env; ls /proc/self/fd")["id"])
    assert not re.search("^(LISTEN|NOTIFY|WATCHDOG)_", seen, re.MULTILINE)
    assert seen.split("\n")[-5:] == ["0", "1", "2", "3", ""]  # 3 is what `ls` itself has opened


def test_a_fork_server_of_an_activated_broker_has_not_its_socket(activator: Activator) -> None:
    process = activator.start()
    with Wire(str(activator.home.socket)) as wire:
        wire.run("true")
        held = os.stat(f"/proc/{process.pid}/fd/3").st_ino
        children = descendants(process.pid)
        assert children
        for child in children:
            assert held not in {os.stat(each).st_ino for each in Path(f"/proc/{child}/fd").iterdir()}


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        ("file", "is no socket"),
        ("datagram", "no Unix stream socket"),
        ("connection", "Accept=yes"),
        ("abstract", "has no path"),
        ("two", "2 sockets were passed"),
        ("none", "is not there"),
    ],
)
def test_what_no_client_could_connect_to_is_refused(activator: Activator, passed: str, said: str) -> None:
    home = activator.home
    with ExitStack() as stack:
        other = stack.enter_context(
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if passed == "datagram" else socket.SOCK_STREAM)
        )
        if passed == "abstract":
            other.bind("")
            other.listen()
        elif passed == "datagram":
            other.bind(str(home.root / "datagram"))
        elif passed == "connection":
            other.connect(str(home.socket))
        elif passed == "two":
            other = activator.listening
        given_fd = stack.enter_context(home.log.open("ab")) if passed == "file" else other
        command = [sys.executable, "-P", "-m", "jobbroker", "--stderr"]
        count = {"two": "2", "none": "9"}.get(passed, "1")
        become = f"import os, sys; os.dup2({given_fd.fileno()}, 3); {'os.dup2(3, 4);' if passed == 'two' else ''}"
        become += "os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
        ended = subprocess.run(
            [sys.executable, "-c", become, *command],
            env={**home.environ, "LISTEN_FDS": count}, pass_fds=[given_fd.fileno()],
            capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
    assert ended.returncode == CONFIGURATION
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


# --- what is told ---------------------------------------------------------------------------------------------------


def test_it_is_ready_when_the_jobs_of_its_predecessor_are_adopted(activator: Activator) -> None:
    home = activator.home
    process = activator.start()
    with Wire(str(home.socket)) as wire:
        job = wire.start("sleep", "60")
        assert activator.hear_of("READY")["MAINPID"] == str(process.pid)
        home.kill()
    process = activator.start()
    ready = activator.hear_of("READY")
    assert ready["MAINPID"] == str(process.pid)
    assert ready["STATUS"].startswith("1 live jobs")
    with Wire(str(home.socket)) as wire:
        assert wire.get(job["id"])["status"] == "running"
        wire.call("broker/shutdown", mode="keepJobs")
    stopping = activator.hear_of("STOPPING")
    assert stopping["STATUS"] == "leaving (request), 1 jobs run on"
    assert home.wait() == 0
    activator.start()
    activator.hear_of("READY")


def test_a_manager_that_is_behind_hears_that_it_is_ready(activator: Activator) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as somebody:
        with suppress(BlockingIOError):
            while somebody.sendto(b"X=1", str(activator.home.root / "manager")):
                pass
        activator.start()
        with Wire(str(activator.home.socket)) as wire:
            wire.call("broker/ping")
        assert activator.hear_of("READY")["READY"] == "1"


def test_signs_of_life_come_from_the_loop_and_end_with_it(activator: Activator) -> None:
    process = activator.start(WATCHDOG_USEC="90000")
    for _ in range(5):
        assert "live jobs" in activator.hear_of("WATCHDOG")["STATUS"]
    process.send_signal(signal.SIGSTOP)
    activator.drain()
    activator.manager.settimeout(0.5)
    with pytest.raises(TimeoutError):
        activator.hear()
    process.send_signal(signal.SIGCONT)
    activator.manager.settimeout(PATIENCE)
    activator.hear_of("WATCHDOG")


def test_a_broker_that_its_watchdog_ends_says_where_it_was(activator: Activator) -> None:
    process = activator.start(WATCHDOG_USEC="60000000")
    activator.hear_of("WATCHDOG")
    process.send_signal(signal.SIGABRT)
    assert process.wait(PATIENCE) == -signal.SIGABRT
    assert "most recent call first" in activator.home.log_text()
    activator.start()
    activator.hear_of("READY")


def test_a_service_stays_unless_the_settings_say_otherwise(activator: Activator) -> None:
    home = activator.home
    activator.start()
    with Wire(str(home.socket)) as wire:
        wire.call("broker/shutdown")
    assert home.wait() == 0
    (home.root / "config.toml").write_text('[limits]\nidleExit = "100ms"\n')
    activator.start()
    assert home.wait() == 0
    assert "reason=idle" in home.log_text()
    (home.root / "config.toml").unlink()
    activator.start()
    activator.hear_of("READY")


# --- the tool that comes with systemd ------------------------------------------------------------------------------


def test_started_by_the_first_connection(activator: Activator) -> None:
    """`systemd-socket-activate` listens, and becomes the broker with the first client."""
    home = activator.home
    activator.listening.close()
    home.socket.unlink()
    program = ["systemd-socket-activate", "-l", str(home.socket), "-E", f"NOTIFY_SOCKET={home.root / 'manager'}"]
    for name, value in home.environ.items():
        program += ["-E", f"{name}={value}"]
    with home.log.open("ab") as log:
        home.process = subprocess.Popen(
            [*program, "-E", "WATCHDOG_USEC=300000", sys.executable, "-P", "-m", "jobbroker", "--stderr"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    eventually(lambda: connects(home), "it listens")
    with Wire(str(home.socket)) as wire:
        assert wire.call("broker/ping")["pid"] == home.process.pid
        assert activator.hear_of("READY")["MAINPID"] == str(home.process.pid)
        activator.hear_of("WATCHDOG")
        assert wire.output(wire.run("echo", "hello")["id"]) == "hello\n"


def connects(home: Home) -> bool:
    try:
        Wire(str(home.socket)).close()
    except OSError:
        return False
    return True
