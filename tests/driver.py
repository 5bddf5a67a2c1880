"""A bare driver of fork server and shims, without a daemon: what the daemon does, blocking and in the open."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from array import array
from socket import AF_UNIX, SCM_RIGHTS, SOCK_DGRAM, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from typing import TYPE_CHECKING

from jobbroker import tree
from jobbroker.core import record
from jobbroker.core.index import decode
from jobbroker.forks import fork_server_command
from jobbroker.identity import boot_id, open_checked, open_process, read_file
from jobbroker.jobdir import JobDirectories, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

PATIENCE = 20.0
"""Seconds before a test gives up on something that should come at once."""
MARK = "JOBBROKER_TEST"
"""The variable by which a job's processes are known to be a test's."""


class Driver:
    """A fork server, its shims, and the jobs given to them, below a directory of the test's own."""

    def __init__(self, state: Path, prefix: Iterable[str] = ()) -> None:
        self.state = state
        self.prefix = list(prefix)
        self.jobs = JobDirectories(str(state / "jobs"))
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
                [*self.prefix, *fork_server_command(theirs.fileno())],
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
        known = set(tree.children(self.process.pid))
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        with theirs:
            self.channel.sendmsg([b"new"], [(SOL_SOCKET, SCM_RIGHTS, array("i", [theirs.fileno()]))])
        ours.settimeout(PATIENCE)
        while not (new := set(tree.children(self.process.pid)) - known):
            assert self.process.poll() is None
        link = Link(self, ours, new.pop())
        self.links.append(link)
        return link

    def create(self, argv: list[str], *, env: dict[str, str] | None = None, cwd: str = "/", **more: object) -> str:
        self.count += 1
        name = f"j{self.count}"
        environment = {"PATH": os.environ["PATH"], MARK: str(self.state)} if env is None else env
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

    def path(self, name: str, entry: str) -> Path:
        return self.state / "jobs" / name / entry

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

    def status(self, name: str) -> int:
        """The job's wait status, as the record has it."""
        return self.line(name, "X").number(0)

    def output(self, name: str) -> bytes:
        path = self.path(name, "output")
        return path.read_bytes() if path.exists() else b""

    def index(self, name: str) -> list[tuple[int, int, int]]:
        path = self.path(name, "index")
        return decode(path.read_bytes()) if path.exists() else []

    def ask(self, name: str, reason: str = "user", grace_ms: int = 5000) -> None:
        self.jobs.ask(name, reason, grace_ms)
        self.signal_shim(name)

    def signal_shim(self, name: str) -> None:
        """SIGTERM to the shim of a job: word was left."""
        claimed = self.line(name, "A")
        handle = open_checked(claimed.number(0), claimed.number(1))
        assert handle is not None
        try:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        finally:
            os.close(handle)

    def wait_free(self, name: str) -> None:
        """Until nobody holds the claim: the shim of that job is done with it, or dead."""
        claimed = record.last(self.read(name).lines, b"A")
        handle = None if claimed is None else open_checked(claimed.number(0), claimed.number(1))
        if handle is None:
            return
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        deadline = time.monotonic() + PATIENCE
        while self.read(name).locked:
            assert time.monotonic() < deadline
            poller.poll(10)
        os.close(handle)

    def notified(self) -> str:
        """The id that the next datagram brings."""
        return self.notify.recv(64).decode()

    def faults(self) -> str:
        """What the log holds; nothing, if all went well."""
        return self.log.read_text()

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.channel.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.wait(PATIENCE)
        self.notify.close()
        self.jobs.close()

    def processes(self) -> list[int]:
        """Every process there is of this driver: fork server, shims, and whatever carries its mark or its path."""
        ours = str(self.state).encode()
        log = str(self.log)
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _belongs(pid, ours, log)]


class Link:
    """The daemon's end of one shim's channel."""

    def __init__(self, driver: Driver, channel: socket, pid: int) -> None:
        self.driver = driver
        self.channel = channel
        self.pid = pid

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

    def begin(self, argv: list[str], **more: object) -> str:
        """Hand over a job and wait until it runs; its name."""
        name = self.driver.create(argv, **more)  # type: ignore[arg-type]  # keywords of two kinds, checked there
        self.hand(name)
        self.until("S")
        return name

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

    def gone(self) -> None:
        """Wait until the shim has ended."""
        await_end(self.pid)

    def close(self) -> None:
        self.channel.close()


class Bell:
    """A FIFO that jobs write lines to, so that a test knows how far they are, or read lines from, so that they wait."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def wait(self, patience: float = PATIENCE) -> str:
        """The next line; empty if none came in time."""
        while b"\n" not in self._rest:
            if not select.select([self._descriptor], [], [], patience)[0]:
                return ""
            self._rest += os.read(self._descriptor, 4096)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def ring(self) -> None:
        """Write a line ourselves, for a job that waits to read one."""
        os.write(self._descriptor, b"go\n")

    def close(self) -> None:
        os.close(self._descriptor)


def eventually(true: Callable[[], bool]) -> None:
    """Wait until something has become true of which no event tells."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def await_end(pid: int, patience: float = PATIENCE) -> bool:
    """Wait until a process has ended; whether it did."""
    handle = open_process(pid)
    if handle is None:
        return True
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    ended = bool(poller.poll(patience * 1000))
    os.close(handle)
    return ended


def _belongs(pid: int, mark: bytes, log: str) -> bool:
    if pid == os.getpid():
        return False
    try:
        if os.readlink(f"/proc/{pid}/fd/2") == log:
            return True
    except OSError:
        pass
    try:
        return mark in read_file(f"/proc/{pid}/environ") or mark in read_file(f"/proc/{pid}/cmdline")
    except OSError:
        return False
