"""What to do when no broker answers: the whole table, and how failures to answer are read."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobclient import holder, launch, paths, systemctl
from jobclient.protocol import errors
from scripted import Scripted

if TYPE_CHECKING:
    from jobclient.launch import Answer, Step

YES_NO = (True, False)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOBBROKER_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("JOBBROKER_STATE_DIR", str(tmp_path / "state"))
    made = tmp_path / "state" / "default"
    made.mkdir(parents=True, mode=0o700)
    made.parent.chmod(0o700)
    return made


# --- the decision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "locked", "held", "may_start", "unit", "step"),
    [
        ("absent", False, False, True, False, "lock"),
        ("absent", False, False, False, False, "lock"),
        ("absent", True, True, True, True, "wait"),
        ("absent", True, True, False, False, "wait"),
        ("absent", True, False, False, False, "give_up"),
        ("absent", True, False, False, True, "give_up"),
        ("absent", True, False, True, True, "unit"),
        ("absent", True, False, True, False, "spawn"),
    ],
)
def test_nobody_there(answer: Answer, locked: bool, held: bool, may_start: bool, unit: bool, step: Step) -> None:
    assert launch.decide(answer, locked=locked, held=held, may_start=may_start, unit=unit) == step


def test_r064_a_busy_broker_is_waited_for_whatever_else_is_true() -> None:
    for locked, held, may_start, unit in itertools.product(YES_NO, repeat=4):
        assert launch.decide("busy", locked=locked, held=held, may_start=may_start, unit=unit) == "wait"


def test_nothing_is_started_without_the_lock_or_while_a_broker_holds_its_own() -> None:
    for locked, held, may_start, unit in itertools.product(YES_NO, repeat=4):
        step = launch.decide("absent", locked=locked, held=held, may_start=may_start, unit=unit)
        assert step not in ("spawn", "unit") or (locked and not held and may_start)


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (FileNotFoundError(errno.ENOENT, ""), "absent"),
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), "absent"),
        (BlockingIOError(errno.EAGAIN, ""), "busy"),
        (ConnectionResetError(errno.ECONNRESET, ""), "busy"),
        (TimeoutError(), "busy"),
        (errors.ConnectionLost(""), "busy"),
        (errors.ShuttingDown(""), "busy"),
        (errors.TimedOut(""), "busy"),
        (PermissionError(errno.EACCES, ""), None),
        (OSError(errno.ENOTSOCK, ""), None),
        (errors.VersionMismatch(""), None),
        (errors.Denied(""), None),
        (paths.PathError(""), None),
    ],
)
def test_failures_to_answer(error: Exception, answer: Answer | None) -> None:
    assert launch.classify(error) == answer


# --- who holds the lock ---------------------------------------------------------------------------------------------


def hold(state: Path, text: str) -> int:
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, text.encode())
    return descriptor


def test_no_lock_no_broker(state: Path) -> None:
    assert holder.find("default") is None


def test_a_lock_nobody_holds_says_nothing(state: Path) -> None:
    os.close(hold(state, '{"pid": 1, "socket": "/x"}'))
    assert holder.find("default") is None


def test_r060_the_holder_says_where_it_is(state: Path) -> None:
    descriptor = hold(state, json.dumps({"pid": 7, "socket": "/x", "version": "1"}))
    found = holder.find("default")
    assert found is not None
    assert (found.pid, found.socket, found.version) == (7, "/x", "1")
    os.close(descriptor)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"pid": "x", "socket": "/x"}', '{"pid": 7}', "\0\0"])
def test_a_holder_that_has_not_said_yet(state: Path, text: str) -> None:
    descriptor = hold(state, text)
    found = holder.find("default")
    assert found is not None
    assert (found.pid, found.socket) == (0, "")
    assert not holder.terminate("default")
    os.close(descriptor)


def test_r073_nobody_is_terminated_who_does_not_hold_the_lock(state: Path) -> None:
    os.close(hold(state, json.dumps({"pid": os.getpid(), "socket": "/x"})))
    assert not holder.terminate("default")


# --- the search -----------------------------------------------------------------------------------------------------


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def test_a_broker_under_another_runtime_directory_is_found(state: Path, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere" / "default.sock")
    descriptor = hold(state, json.dumps({"pid": 7, "socket": elsewhere}))
    with Scripted(elsewhere) as broker:
        launch.reach("default", soon(), may_start=True).close()
        assert broker.connections == 1
    os.close(descriptor)


def test_r067_who_holds_the_lock_and_answers_nowhere_is_waited_for_not_replaced(state: Path) -> None:
    descriptor = hold(state, json.dumps({"pid": 7, "socket": "/nowhere/default.sock"}))
    with pytest.raises(errors.BrokerUnavailable, match=r"pid 7\) does not answer.*jobctl broker restart"):
        launch.reach("default", soon(0.1), may_start=True)
    os.close(descriptor)


def test_a_client_that_may_not_start_one_says_so(state: Path) -> None:
    with pytest.raises(errors.BrokerUnavailable, match="no broker is running  -> jobctl broker start"):
        launch.reach("default", soon(), may_start=False)


def test_who_waits_for_the_lock_of_spawning_finds_the_broker_meanwhile(state: Path, tmp_path: Path) -> None:
    descriptor = os.open(state / "spawn.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(errors.BrokerUnavailable):
        launch.reach("default", soon(0.1), may_start=True)
    with Scripted(str(tmp_path / "run" / "default.sock")):
        launch.reach("default", soon(), may_start=True).close()
    os.close(descriptor)


def broken_python(tmp_path: Path, script: str) -> str:
    made = tmp_path / "python"
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o755)
    return str(made)


def test_r066_a_broker_that_ends_while_starting_is_reported_with_its_words(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state / "broker.log").write_text("old words\n")
    monkeypatch.setattr("sys.executable", broken_python(tmp_path, "echo settings: line 3 >&2; exit 78"))
    with pytest.raises(errors.BrokerUnavailable) as caught:
        launch.reach("default", soon(), may_start=True)
    assert "exit status 78" in str(caught.value)
    assert "settings: line 3" in str(caught.value)
    assert "old words" not in str(caught.value)
    assert "-> jobctl broker logs" in str(caught.value)


def test_a_broker_that_finds_another_means_look_again(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    monkeypatch.setattr(
        "sys.executable", broken_python(tmp_path, f"echo >> {count}; [ $(wc -l < {count}) = 3 ] || exit 75")
    )
    with pytest.raises(errors.BrokerUnavailable, match="exit status 0"):
        launch.reach("default", soon(), may_start=True)
    assert count.read_text() == "\n" * 3


def test_a_python_that_is_not_there(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(errors.BrokerUnavailable, match="cannot run /nonexistent/python"):
        launch.reach("default", soon(), may_start=True)


def test_what_a_service_manager_told_us_is_not_for_the_broker(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.setattr("sys.executable", broken_python(tmp_path, f"env > {told}; pwd >> {told}; exit 1"))
    with pytest.raises(errors.BrokerUnavailable):
        launch.reach("default", soon(), may_start=True)
    lines = told.read_text().splitlines()
    assert "KEPT=1" in lines
    assert lines[-1] == "/"
    assert not [line for line in lines if line.startswith(("NOTIFY_", "LISTEN_", "WATCHDOG_"))]
    assert (state / "broker.log").stat().st_mode & 0o777 == 0o600


def test_systemd_is_asked_only_for_the_usual_places(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not systemctl.installed("default")  # our places are not the unit's
    monkeypatch.delenv("JOBBROKER_RUNTIME_DIR")
    monkeypatch.delenv("JOBBROKER_STATE_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(state))  # no systemd/private in there
    assert not systemctl.installed("default")
    assert not systemctl.installed("ci")
