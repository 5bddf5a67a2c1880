"""A real user manager for a test: `systemd --user` in namespaces of its own, and `jobctl` beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from harness import PATIENCE, Wire, alive, eventually
from jobbroker.tree import descendants

SCRIPT = Path(__file__).with_name("usermanager.sh")
BIN = Path(sys.executable).parent
NEEDED = ("systemctl", "dbus-daemon", "unshare", "nsenter", "mount")
Done = subprocess.CompletedProcess[str]


class UserManager:
    """The manager, up while the `with` block lasts; nothing it has started survives it."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.runtime = f"/run/user/{os.getuid()}"
        self.bin = BIN
        self.environ: dict[str, str] = {}

    def __enter__(self) -> Self:
        with (self.home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(SCRIPT), str(self.home)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        eventually(self._is_up, "the user manager is up")
        self.init = next(pid for pid in descendants(self._process.pid) if self._is_init(pid))
        return self

    def __exit__(self, *_: object) -> None:
        left = descendants(self._process.pid)
        self._process.send_signal(signal.SIGKILL)  # its first process dies with it, and so do all in the namespace
        self._process.wait(PATIENCE)
        eventually(lambda: not any(alive(pid) for pid in left), "everything in there is dead")
        eventually(self._without_cgroups, "nothing of it is in a control group")

    def _without_cgroups(self) -> bool:
        top = (self.home / "cgroup").read_text().strip()
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)
        return not os.path.exists(top)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, f"no user manager: {(self.home / 'log').read_text()}"
        return (self.home / "up").exists()

    def _is_init(self, pid: int) -> bool:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return any(line.startswith("NSpid:") and line.split()[-1] == "1" for line in lines)

    # --- what runs in there -----------------------------------------------------------------------------------------

    def begin(self, *words: str, **environ: str) -> subprocess.Popen[str]:
        """Start a program beside the manager, as from a shell of its user."""
        around = {
            "HOME": str(self.home), "PATH": f"{self.bin}:/usr/bin:/bin", "XDG_RUNTIME_DIR": self.runtime,
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.runtime}/bus", "LANG": "C.UTF-8",
            **self.environ, **environ,
        }  # fmt: skip
        return subprocess.Popen(
            ["nsenter", "-t", str(self.init), "-m", "-p", "-C", "--wd=/", "--", *words],
            env=around, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str, **environ: str) -> Done:
        process = self.begin(*words, **environ)
        out, err = process.communicate(timeout=2 * PATIENCE)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def ok(self, *words: str, **environ: str) -> str:
        done = self.run(*words, **environ)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def jobctl(self, *words: str, **environ: str) -> str:
        return self.ok("jobctl", *words, **environ)

    def json(self, *words: str) -> Any:
        return json.loads(self.jobctl(*words, "--json"))

    def systemctl(self, *words: str) -> str:
        return self.ok("systemctl", "--user", *words)

    def shown(self, unit: str, name: str) -> str:
        return self.systemctl("show", unit, f"--property={name}", "--value")

    # --- the broker in there ----------------------------------------------------------------------------------------

    def main_pid(self, unit: str = "jobbroker.service") -> int:
        """The service's process, as those in there know it; 0 if there is none."""
        return int(self.shown(unit, "MainPID"))

    def broker(self) -> int:
        """The process that answers."""
        return int(self.jobctl("broker", "status", "-q"))

    def brokers(self) -> list[int]:
        """All processes in there that are brokers, as those in there know them."""
        found = self.run("pgrep", "-f", "(bin/jobbrokerd|-m jobbroker)( |$)").stdout.split()
        return [int(pid) for pid in found]

    def kill(self, pid: int, name: str = "KILL") -> None:
        self.ok("kill", f"-{name}", str(pid))

    def connect(self, instance: str = "default") -> Wire:
        """A connection from outside, by the mounts of those in there."""
        return Wire(f"/proc/{self.init}/root{self.runtime}/jobbroker/{instance}.sock")

    def replaced(self, old: int, unit: str = "jobbroker.service") -> int:
        """The service's next process, once it is ready."""

        def another() -> bool:
            return self.main_pid(unit) not in (0, old) and self.shown(unit, "ActiveState") == "active"

        eventually(another, "systemd has started another broker")
        return self.main_pid(unit)

    def only(self, pid: int) -> None:
        """That one is the only broker, and all clients reach it."""
        eventually(lambda: self.brokers() == [pid], f"{pid} is alone, of {self.brokers()}")
        assert self.broker() == pid

    def drop_in(self, text: str, unit: str = "jobbroker.service") -> None:
        folder = Path(self.home / f".config/systemd/user/{unit}.d")
        folder.mkdir(parents=True)
        (folder / "test.conf").write_text(text)
        self.systemctl("daemon-reload")

    def crowd(self, size: int, between: Callable[[], object] = lambda: None) -> None:
        """That many clients at once, each of which starts a job and sees it end."""
        clients = [self.begin("jobctl", "run", "--", "sh", "-c", f"exit {number}") for number in range(size)]
        between()
        ends = [(client.communicate(timeout=3 * PATIENCE)[1], client.returncode) for client in clients]
        assert [code for _, code in ends] == list(range(size)), ends
