"""Clients that find no broker: however many at once and whatever lies about, one broker comes, and all are answered."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import PATIENCE, Home

CLIENTS = 50
ASK = "import sys; from jobclient.link import Link; sys.stdin.read(); print(Link().request('broker/ping')['pid'])"


def ask_at_once(home: Home, count: int = CLIENTS) -> list[str]:
    """What so many clients answer who were released at one moment: each the pid of its broker."""
    gate, release = os.pipe()
    clients = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", ASK],
            env=home.environ,
            stdin=gate,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(count)
    ]
    os.close(gate)
    os.close(release)
    return [client.communicate(timeout=2 * PATIENCE)[0].strip() for client in clients]


def brokers_started(home: Home) -> int:
    """How many brokers came so far as to listen."""
    log = home.state / "broker.log"
    return log.read_text().count("listening: ") if log.exists() else 0


def nothing(_: Home) -> None:
    pass


def stale_socket(home: Home) -> None:
    """A socket nobody listens at, as SIGKILL leaves it."""
    home.socket.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(home.socket))


def stale_pid_file(home: Home) -> None:
    """A pid file that names a living process which is no broker."""
    home.socket.parent.mkdir(mode=0o700)
    home.socket.with_suffix(".pid").write_text(f"{os.getpid()}\n")


def both_stale(home: Home) -> None:
    stale_socket(home)
    home.socket.with_suffix(".pid").write_text("999999\n")


def killed(home: Home) -> None:
    """Everything as a broker leaves it that is killed."""
    home.start()
    home.kill()


@pytest.mark.parametrize("leave", [nothing, stale_socket, stale_pid_file, both_stale, killed])
def test_r062_r065_r068_fifty_clients_at_once_get_one_broker(
    new_home: Callable[..., Home], leave: Callable[[Home], None]
) -> None:
    home = new_home()
    leave(home)
    answers = ask_at_once(home)
    assert len(answers) == CLIENTS
    assert len(set(answers)) == 1, answers
    assert answers[0].isdigit(), answers[0]
    assert brokers_started(home) == 1
    with home.connect() as wire:
        wire.call("broker/shutdown", mode="cancelJobs")


def test_r070_a_broker_under_another_runtime_directory_is_the_broker(
    new_home: Callable[..., Home], tmp_path: Path
) -> None:
    home = new_home()
    pid = home.start()
    home.environ["JOBBROKER_RUNTIME_DIR"] = str(tmp_path / "elsewhere")
    assert ask_at_once(home, 5) == [str(pid)] * 5


def test_r069_nobody_is_started_where_that_is_forbidden(new_home: Callable[..., Home]) -> None:
    home = new_home(JOBBROKER_AUTOSPAWN="0")
    said = ask_at_once(home, 1)[0]
    assert "JOBBROKER_AUTOSPAWN=0 forbids" in said
    assert not (home.root / "state").exists()
