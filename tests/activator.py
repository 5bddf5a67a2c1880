"""A stand-in for a service manager: listens for a broker, starts it with the socket, hears what it has to say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from harness import PATIENCE, Home

_BECOME = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = sys.argv[2] or str(os.getpid())
os.execv(sys.argv[3], sys.argv[3:])
"""


class Activator:
    """Listens at the place of a home's broker, and hears notifications."""

    def __init__(self, home: Home) -> None:
        self.home = home
        home.socket.parent.mkdir(mode=0o700, exist_ok=True)
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.bind()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(home.root / "manager"))
        self.manager.settimeout(PATIENCE)

    def bind(self) -> None:
        """As a manager does: what is in the way is taken away."""
        self.home.socket.unlink(missing_ok=True)
        self.listening.bind(str(self.home.socket))
        self.home.socket.chmod(0o600)
        self.listening.listen(128)

    def close(self) -> None:
        self.listening.close()
        self.manager.close()

    def start(self, *flags: str, whom: str = "", **environ: str) -> subprocess.Popen[bytes]:
        """Start a broker with the socket as descriptor 3, said to be for the process `whom`, by default for it."""
        with self.home.log.open("ab") as log:
            self.home.process = subprocess.Popen(
                [
                    *[sys.executable, "-c", _BECOME, str(self.listening.fileno()), whom],
                    *[sys.executable, "-W", "error", "-P", "-m", "jobbroker", "--stderr", *flags],
                ],
                env={
                    **self.home.environ,
                    "LISTEN_FDS": "1",
                    "LISTEN_FDNAMES": "jobbroker.socket",
                    "NOTIFY_SOCKET": str(self.home.root / "manager"),
                    **environ,
                },
                pass_fds=[self.listening.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.home.process

    def hear(self) -> dict[str, str]:
        """The next notification."""
        return dict(line.split("=", 1) for line in self.manager.recv(4096).decode().split("\n"))

    def hear_of(self, name: str) -> dict[str, str]:
        """The next notification that has such an assignment."""
        deadline = time.monotonic() + PATIENCE
        while name not in (said := self.hear()):
            assert time.monotonic() < deadline, f"never told: {name}"
        return said

    def drain(self) -> None:
        """Forget what has been said by now."""
        self.manager.setblocking(False)
        with suppress(BlockingIOError):
            while self.manager.recv(4096):
                pass


def identity(path: Path) -> tuple[int, int]:
    """Which file that is."""
    status = os.stat(path)
    return status.st_dev, status.st_ino
