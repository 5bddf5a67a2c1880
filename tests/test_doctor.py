"""`jobctl doctor`: each judgement as a function of what is seen, and the whole on brokers that are well and ill."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import Home
from jobclient.cli import examination, findings
from jobclient.cli.findings import LITTLE, NEXT_TO_NOTHING
from jobclient.holder import Holder
from jobclient.version import __version__
from jobctl import Cli

HELD = Holder(7, "/run/default.sock", __version__)
PING = {"pid": 7, "version": __version__}


# --- judgements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "listens", "level", "text"),
    [
        (HELD, False, "ok", "held by process 7"),
        (Holder(), False, "warn", "starting, or leaving"),
        (None, False, "ok", "one is started with the next call"),
        (None, True, "ok", "systemd starts one with the next call"),
    ],
)
def test_the_lock(held: Holder | None, listens: bool, level: str, text: str) -> None:
    found = findings.of_lock(held, listens=listens)
    assert (found.level, text in found.text) == (level, True)


@pytest.mark.parametrize(
    ("held", "answer", "level", "text"),
    [
        (HELD, PING, "ok", "answers"),
        (HELD, {**PING, "pid": 8}, "fail", "answered by process 8, but process 7 is the broker"),
        (HELD, "connection refused", "fail", "connection refused; it listens at /run/default.sock"),
        (None, None, "ok", "not asked"),
        (Holder(), None, "ok", "not asked"),
    ],
)
def test_the_socket(held: Holder | None, answer: dict[str, Any] | str | None, level: str, text: str) -> None:
    found = findings.of_socket("/place", held, answer)
    assert (found.level, text in found.text, bool(found.command)) == (level, True, level != "ok")


@pytest.mark.parametrize(
    ("version", "level", "command"),
    [
        (__version__, "ok", ""),
        ("0.0.1", "warn", "jobctl broker restart (jobs keep running)"),
        ("99.0", "warn", "update it"),
    ],
)
def test_the_version(version: str, level: str, command: str) -> None:
    for found in (
        findings.of_version(HELD, {**PING, "version": version}),
        findings.of_version(Holder(7, "", version), "no answer"),
    ):
        assert (found.level, found.command) == (level, command)
    assert findings.of_version(None, None).level == "ok"


@pytest.mark.parametrize(
    ("shown", "texts", "level", "text"),
    [
        ({"UnitFileState": "enabled", "ActiveState": "active"}, [True, True], "ok", "enabled and active"),
        ({"UnitFileState": "enabled", "ActiveState": "active"}, [True, False], "warn", "not those of this version"),
        ({"UnitFileState": "enabled", "ActiveState": "active"}, [None, True], "warn", "not those of this version"),
        ({"UnitFileState": "enabled", "ActiveState": "failed"}, [True, True], "fail", "is failed"),
        ({"UnitFileState": "disabled", "ActiveState": "inactive"}, [True, True], "warn", "not enabled"),
    ],
)
def test_the_units(shown: dict[str, str], texts: list[bool | None], level: str, text: str) -> None:
    found = findings.of_units("default", shown, texts)
    assert found is not None
    assert (found.level, text in found.text) == (level, True)
    other = findings.of_units("ci", shown, texts)
    assert other is not None
    assert other.command == found.command.replace("jobctl", "jobctl --instance ci")


def test_there_are_no_units() -> None:
    assert findings.of_units("default", {"UnitFileState": "", "ActiveState": "inactive"}, [None]) is None
    assert findings.of_units("default", {}, [None]) is None


@pytest.mark.parametrize(
    ("held", "pid", "level"),
    [(HELD, 7, "ok"), (HELD, 0, "warn"), (HELD, 8, "warn"), (None, 0, "ok"), (Holder(), 8, "ok")],
)
def test_the_service(held: Holder | None, pid: int, level: str) -> None:
    assert findings.of_service("default", pid, held).level == level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/jobbroker.service\n", "ok"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "warn"),
        ("0::/system.slice/ssh.service\n", "warn"),
        ("1:name=systemd:/user.slice/session-3.scope\n0::/\n", "warn"),
        ("0::/\n", "ok"),
        ("", "ok"),
        ("nonsense\n", "ok"),
    ],
)
def test_the_control_group(text: str, level: str) -> None:
    assert findings.of_cgroup(text, "default").level == level


@pytest.mark.parametrize(
    ("free", "inodes", "level"),
    [
        (LITTLE, 10, "ok"), (LITTLE - 1, 10, "warn"), (NEXT_TO_NOTHING, 10, "warn"), (NEXT_TO_NOTHING - 1, 10, "fail"),
        (LITTLE, 0, "fail"), (LITTLE, None, "ok"),
    ],
)  # fmt: skip
def test_the_space(free: int, inodes: int | None, level: str) -> None:
    found = findings.of_space("space", "/", free, inodes)
    assert (found.level, bool(found.command)) == (level, level != "ok")


MOUNTS = """\
22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /home rw - nfs4 server:/home rw
24 23 0:6 / /home/me/two\\040words rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("place", "kind", "level"),
    [
        ("/var", "ext4", "ok"), ("/home", "nfs4", "warn"), ("/home/me", "nfs4", "warn"), ("/homes", "ext4", "ok"),
        ("/home/me/two words/x", "tmpfs", "ok"),
    ],
)  # fmt: skip
def test_the_disk(place: str, kind: str, level: str) -> None:
    assert examination.mounted(MOUNTS, place) == kind
    assert findings.of_mount(place, kind).level == level


def test_a_table_of_mounts_that_says_nothing() -> None:
    assert examination.mounted("", "/var") == ""
    assert examination.mounted("1 2 3\nx - \n", "/var") == ""


# --- the whole of it ------------------------------------------------------------------------------------------------


def levels(cli: Cli, *flags: str) -> dict[str, str]:
    done = cli("doctor", "--json", *flags)
    checks = json.loads(done.stdout)["checks"]
    assert done.returncode == any(check["level"] == "fail" for check in checks)
    return {check["name"]: check["level"] for check in checks}


@pytest.fixture
def cli(new_home: Callable[..., Home], tmp_path: Path) -> Cli:
    return Cli(new_home(), tmp_path)


def test_nothing_is_there_and_nothing_is_made(cli: Cli) -> None:
    assert set(levels(cli).values()) <= {"ok", "warn"}
    assert not cli.home.state.exists()
    assert not cli.home.socket.parent.exists()


def test_a_broker_that_is_well(cli: Cli) -> None:
    cli.home.start()
    found = levels(cli)
    assert {found[name] for name in ("place", "lock", "socket", "version", "store", "settings", "leftover")} == {"ok"}
    shown = cli.ok("doctor")
    assert f"held by process {cli.home.process.pid if cli.home.process else 0}" in shown
    assert f"{cli.home.socket} answers" in shown


def test_a_broker_that_is_blocked(cli: Cli) -> None:
    cli.home.start()
    assert cli.home.process is not None
    cli.home.process.send_signal(signal.SIGSTOP)
    done = cli("doctor")
    cli.home.process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
    assert "the broker has not answered in time" in done.stdout
    assert "-> jobctl broker restart" in done.stdout


def test_a_socket_that_is_gone_from_under_its_broker(cli: Cli) -> None:
    cli.home.start()
    place = cli.home.socket
    place.rename(place.with_name("elsewhere"))
    assert levels(cli)["socket"] == "fail"
    place.with_name("elsewhere").rename(place)
    assert levels(cli)["socket"] == "ok"


def test_leftovers_are_removed(cli: Cli) -> None:
    cli.home.start()
    cli.home.kill()
    cli.home.process = None
    assert levels(cli)["leftover"] == "warn"
    assert cli.home.socket.exists()
    assert levels(cli, "--fix")["leftover"] == "ok"
    assert list(cli.home.socket.parent.iterdir()) == []


def test_a_socket_that_somebody_listens_at_is_no_leftover_and_nobody_connects_to_it(cli: Cli) -> None:
    cli.home.socket.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unit:
        unit.bind(str(cli.home.socket))
        unit.listen()
        unit.setblocking(False)
        assert levels(cli, "--fix")["leftover"] == "ok"
        with pytest.raises(BlockingIOError):
            unit.accept()
    assert cli.home.socket.exists()


def test_a_directory_that_is_open_to_others_is_closed(cli: Cli) -> None:
    cli.home.start()
    cli.home.socket.parent.chmod(0o755)
    done = cli("doctor")
    assert done.returncode == 1
    assert f"-> chmod 700 {cli.home.socket.parent}" in done.stdout
    assert "place was mended" in cli("doctor", "--fix").stderr
    assert os.stat(cli.home.socket.parent).st_mode & 0o777 == 0o700
    assert levels(cli)["place"] == "ok"


def test_settings_that_are_wrong(cli: Cli) -> None:
    config = Path(cli.home.environ["JOBBROKER_CONFIG"])
    config.write_text("[limits]\ngrase = 3\n")
    assert levels(cli)["settings"] == "warn"
    config.write_text("[limits\n")
    assert levels(cli)["settings"] == "fail"
    assert "no broker starts with that" in cli("doctor").stdout


def test_a_store_that_was_put_aside(cli: Cli) -> None:
    cli.home.start()
    cli.home.close()
    cli.home.process = None
    (cli.home.state / "store.db").write_bytes(b"nonsense")
    cli.home.start()
    found = levels(cli)
    assert found["leftover"] == "warn"
    assert "was damaged and put aside" in cli("doctor").stdout
