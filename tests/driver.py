"""A bare driver of fork server and shims, without a daemon: what the daemon does, blocking and in the open."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from array import array
from socket import AF_UNIX, SCM_RIGHTS, SOCK_DGRAM, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from typing import TYPE_CHECKING

from jobbroker.core import record
from jobbroker.core.index import decode
from jobbroker.forks import fork_server_command
from jobbroker.identity import boot_id, open_checked
from jobbroker.jobdir import JobDirectories, Reading

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 20.0
"""Seconds before a test gives up on something that should come at once."""


class Driver:
    """A fork server, its shims, and the jobs given to them, below a directory of the test's own."""

    def __init__(self, state: Path) -> None:
        self.jobs = JobDirectories(str(state / "jobs"))
        self.state = state
        self.log = state / "broker.log"
        self.count = 0
        self.links: list[Link] = []
        self.notify = socket(AF_UNIX, SOCK_DGRAM)
        self.notify.bind(str(state / "notify"))
        self.notify.settimeout(PATIENCE)
        self.start()

    def start(self) -> None:
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        with theirs, self.log.open("ab") as log:
            self.process = subprocess.Popen(
                fork_server_command(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.channel = ours

    def kill_fork_server(self) -> None:
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def shim(self) -> Link:
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        with theirs:
            self.channel.sendmsg([b"new"], [(SOL_SOCKET, SCM_RIGHTS, array("i", [theirs.fileno()]))])
        ours.settimeout(PATIENCE)
        link = Link(self, ours)
        self.links.append(link)
        return link

    def create(self, argv: list[str], *, env: dict[str, str] | None = None, cwd: str = "/", **more: object) -> str:
        self.count += 1
        name = f"j{self.count}"
        environment = {"PATH": os.environ["PATH"]} if env is None else env
        rest = {"umask": "18", "graceMs": "5000", "merged": "1", **more}
        head = record.Head(
            name.encode(),
            self.count,
            b"command",
            os.fsencode(cwd),
            [os.fsencode(word) for word in argv],
            [os.fsencode(f"{key}={value}") for key, value in environment.items()],
            {key.encode(): str(value).encode() for key, value in rest.items()},
        )
        self.jobs.create(head)
        return name

    def read(self, name: str) -> Reading:
        return self.jobs.read(name)

    def verdict(self, name: str) -> str:
        reading = self.read(name)
        return record.verdict(reading.lines, locked=reading.locked, boot=boot_id())

    def letters(self, name: str) -> str:
        return "".join(line.letter.decode() for line in self.read(name).lines)

    def line(self, name: str, letter: str) -> record.Line:
        found = record.last(self.read(name).lines, letter.encode())
        assert found is not None, f"no {letter} in {self.letters(name)}"
        return found

    def output(self, name: str) -> bytes:
        path = self.state / "jobs" / name / "output"
        return path.read_bytes() if path.exists() else b""

    def index(self, name: str) -> list[tuple[int, int, int]]:
        path = self.state / "jobs" / name / "index"
        return decode(path.read_bytes()) if path.exists() else []

    def ask(self, name: str, reason: str = "user", grace_ms: int = 5000) -> None:
        self.jobs.ask(name, reason, grace_ms)
        claimed = self.line(name, "A")
        handle = open_checked(claimed.number(0), claimed.number(1))
        assert handle is not None
        with contextlib.closing(os.fdopen(handle)):
            signal.pidfd_send_signal(handle, signal.SIGTERM)

    def wait_free(self, name: str) -> None:
        """Until nobody holds the claim: the shim of that job is done with it, or dead."""
        claimed = record.last(self.read(name).lines, b"A")
        handle = None if claimed is None else open_checked(claimed.number(0), claimed.number(1))
        if handle is None:
            return
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        deadline = PATIENCE * 100
        while self.read(name).locked and deadline > 0:
            poller.poll(10)
            deadline -= 1
        os.close(handle)
        assert deadline > 0

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.channel.close()
        self.process.wait(PATIENCE)
        self.notify.close()
        self.jobs.close()


class Link:
    """The daemon's end of one shim's channel."""

    def __init__(self, driver: Driver, channel: socket) -> None:
        self.driver = driver
        self.channel = channel

    def hand(self, name: str) -> None:
        with self.driver.jobs.opened(name) as directory:
            self.channel.sendmsg([name.encode()], [(SOL_SOCKET, SCM_RIGHTS, array("i", [directory]))])

    def receive(self) -> str:
        return self.channel.recv(4096).decode().rstrip("\n")

    def until(self, letter: str) -> str:
        """The message with that letter; whatever came before it is passed over."""
        while message := self.receive():
            words = message.split(" ")
            if letter in words[:2]:
                return message
        raise AssertionError(f"the shim went away before {letter}")

    def run(self, argv: list[str], **more: object) -> str:
        """Hand over a job and wait for its end; its name."""
        name = self.driver.create(argv, **more)  # type: ignore[arg-type]  # keywords of two kinds, checked there
        self.hand(name)
        self.until_end()
        return name

    def until_end(self) -> str:
        while message := self.receive():
            if message.split(" ")[1:2] in (["X"], ["F"], ["refused"]):
                return message
        raise AssertionError("the shim went away before the end")

    def close(self) -> None:
        self.channel.close()
