"""A broker comes up at a socket that was given to it while another one is at work: who serves, what becomes of jobs."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from activator import Activator, identity
from harness import PATIENCE, Home, Wire, eventually, lines
from jobbroker.lock import InstanceLock, LockHeld
from jobbroker.takeover import holder, take_over
from scripted import Scripted

HELD = 75


@pytest.fixture
def activator(new_home: Callable[..., Home]) -> Generator[Activator]:
    """With a broker that was started on demand, and a job of it."""
    home = new_home()
    made = Activator(home)
    made.listening.close()
    home.start()
    yield made
    made.close()


def replaced(activator: Activator) -> Activator:
    """The manager listens now, at the place where the broker did."""
    again = activator.listening
    activator.listening = type(again)(again.family, again.type)
    activator.bind()
    return activator


# --- the whole of it ------------------------------------------------------------------------------------------------


def test_the_one_on_demand_hands_over_and_no_client_is_refused(activator: Activator) -> None:
    home = activator.home
    old = home.process
    assert old is not None
    connected = home.connect()
    job = connected.start("sleep", "60")
    quick = connected.shell("exit 3")
    replaced(activator)
    before = identity(home.socket)
    waiting = [Wire(str(home.socket)) for _ in range(20)]
    asked = [wire.send("broker/status") for wire in waiting]
    new = activator.start()
    assert {wire.answer(one)["pid"] for wire, one in zip(waiting, asked, strict=True)} == {new.pid}
    assert old.wait(PATIENCE) == 0
    assert [said["params"]["reason"] for said in lines(connected)] == ["SIGTERM"]
    assert identity(home.socket) == before
    assert waiting[0].get(job["id"])["pid"] == job["pid"]
    assert waiting[0].ended(quick["id"])["exitCode"] == 3
    assert json.loads((home.state / "lock").read_text())["pid"] == new.pid
    for wire in waiting:
        wire.close()


def test_one_that_listens_elsewhere_is_asked_over_its_socket(activator: Activator) -> None:
    home = activator.home
    connected, old = home.connect(), home.process
    assert old is not None
    job = connected.start("sleep", "60")
    home.socket = home.root / "other" / "default.sock"
    home.socket.parent.mkdir(mode=0o700)
    home.environ["JOBBROKER_RUNTIME_DIR"] = str(home.socket.parent)
    replaced(activator).start()
    assert old.wait(PATIENCE) == 0
    assert [said["params"]["reason"] for said in lines(connected)] == ["request"]
    with Wire(str(home.socket)) as wire:
        assert wire.get(job["id"])["status"] == "running"


def test_many_brokers_on_demand_against_an_activated_one_end_as_one(activator: Activator) -> None:
    home = activator.home
    job = home.connect().start("sleep", "60")
    first = home.process
    replaced(activator)
    others = [home.spawn() for _ in range(5)]
    new = activator.start()
    others += [home.spawn() for _ in range(5)]
    assert {other.wait(PATIENCE) for other in others} == {HELD}
    with Wire(str(home.socket)) as wire:
        assert wire.call("broker/ping")["pid"] == new.pid
        assert wire.get(job["id"])["pid"] == job["pid"]
    assert first is not None
    assert first.wait(PATIENCE) == 0


def test_one_on_demand_does_not_replace_a_socket_that_somebody_listens_at(new_home: Callable[..., Home]) -> None:
    home = new_home()
    activator = Activator(home)
    before = identity(home.socket)
    assert home.spawn().wait(PATIENCE) == HELD
    assert identity(home.socket) == before
    assert "somebody listens" in home.log_text()
    activator.close()  # now it is a leftover
    home.start()
    assert home.connect().run("true")["status"] == "completed"


def test_one_that_cannot_leave_is_left_and_named(activator: Activator, tmp_path: Path) -> None:
    home = activator.home
    assert home.process is not None
    home.process.send_signal(signal.SIGSTOP)
    with pytest.raises(LockHeld, match=f'"pid": {home.process.pid}'):
        take_over(str(home.state / "lock"), str(home.socket), 0.2)
    home.process.send_signal(signal.SIGCONT)
    assert home.wait() == 0  # it had been asked
    home.start()


# --- the steps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"pid": 7, "socket": "/x", "version": "1"}', (7, "/x")),
        ("a broker that is just starting", (0, "")),
        ('{"pid": 7}', (0, "")),
        ('{"pid": "x", "socket": "/x"}', (0, "")),
        ("[]", (0, "")),
        ("7", (0, "")),
    ],
)
def test_who_holds_the_lock(text: str, found: tuple[int, str]) -> None:
    assert holder(text) == found


def test_a_lock_nobody_holds_is_taken_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"pid": os.getpid(), "socket": "/nowhere"}))  # we would be the one to be ended
    take_over(str(path), "/here", 0.0)


def test_one_that_has_not_said_who_it_is_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    other = InstanceLock(path)
    timer = threading.Timer(0.1, lambda: os.close(other._descriptor))
    timer.start()
    take_over(path, "/here")
    timer.join()


def test_nobody_is_signalled_who_answers(tmp_path: Path) -> None:
    """The holder is this very process, which a signal would end: it says that it will go, and goes."""
    path, place = str(tmp_path / "lock"), str(tmp_path / "there" / "default.sock")
    other = InstanceLock(path)
    other.tell(pid=os.getpid(), socket=place, version="9")

    def leave(_: object) -> dict[str, object]:
        os.close(other._descriptor)
        return {}

    with Scripted(place, broker_shutdown=leave) as broker:
        take_over(path, "/here")
        eventually(lambda: broker.connections == 1, "it was asked once")
