"""The daemon's end of shims: the fork server it execs, the channels it holds, the pool of idle ones.

Everything here is synchronous and never blocks; who owns the tasks that listen is the broker. A shim tells what it does
in messages (`ID LINE`, the lines of `core/record.py`); the end of its channel means that it is gone.
"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from array import array
from collections import deque

import trio

from jobbroker.forks import fork_server_command

MAX_IDLE = 64
"""Idle shims kept for the next burst; each holds less than a megabyte, and one of our descriptors."""
IDLE_SECONDS = 60.0
"""How long an idle shim is kept."""
_TWO_DESCRIPTORS = socket.CMSG_SPACE(2 * array("i").itemsize)

PATIENCE = 2.0
"""How long a fork server may leave its requests unread before it is taken for dead: meanwhile everything waits."""


class NoShim(Exception):
    """No shim could be had: the fork server cannot be started, or has no process to give."""


class Shim:
    """One shim, seen from the daemon.

    Attributes:
        channel: our end, not blocking.
        job: the id of the job it was given, None while it is idle.
        idle_since: monotonic seconds, meaningful while it is idle.
        passed: descriptors that came with the last message, ours to close.
    """

    __slots__ = ("channel", "idle_since", "job", "passed", "retired")

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.job: str | None = None
        self.idle_since = 0.0
        self.passed: list[int] = []
        self.retired = False

    def hand_over(self, job: str, directory: int, stdio: tuple[int, ...] = ()) -> bool:
        """Give it a job by id and directory, perhaps with the stdio that the job is to have; False if it is gone."""
        rights = array("i", [directory, *stdio])
        try:
            self.channel.sendmsg([job.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except (ConnectionError, BlockingIOError):
            return False
        self.job = job
        return True

    def receive(self) -> bytes | None:
        """The next message, empty if the shim is gone, None if there is none now."""
        try:
            message, ancillary, _, _ = self.channel.recvmsg(4096, _TWO_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionError:
            return b""
        self.passed = [number for _, _, data in ancillary for number in array("i", data)]
        return message.rstrip(b"\n")

    @property
    def closed(self) -> bool:
        """Whether we hung up."""
        return self.channel.fileno() < 0

    def close(self) -> None:
        """Hang up: an idle shim goes, a busy one finishes its job alone."""
        trio.lowlevel.notify_closing(self.channel)
        self.channel.close()


class ShimPool:
    """Shims to be had, newest idle one first, so that the pool shrinks to what is used."""

    def __init__(self) -> None:
        self._idle: deque[Shim] = deque()
        self._max_idle = min(MAX_IDLE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
        self._server: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __len__(self) -> int:
        """How many are idle."""
        return len(self._idle)

    def acquire(self) -> Shim | None:
        """An idle shim, None if there is none."""
        return self._idle.pop() if self._idle else None

    def fork(self) -> Shim:
        """A new shim. It is not known to live before it speaks; what it is given waits in its channel.

        Raises:
            NoShim: nobody could be asked for one.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [theirs.fileno()]))]
        with theirs:
            for _ in range(2):  # a fork server found dead is replaced once
                server = self._server or self._start()
                try:
                    server.sendmsg([b"new"], rights)
                    return Shim(ours)
                except OSError:
                    self._stop()
        ours.close()
        raise NoShim("the fork server does not answer")

    def release(self, shim: Shim, now: float) -> None:
        """Take an idle shim back."""
        shim.job = None
        shim.idle_since = now
        self._idle.append(shim)
        if len(self._idle) > self._max_idle:
            self._idle.popleft().close()

    def withdraw(self, shim: Shim) -> None:
        """A shim takes no more jobs."""
        if shim.job is None and shim in self._idle:
            self._idle.remove(shim)

    def forget(self, shim: Shim) -> None:
        """A shim is gone."""
        self.withdraw(shim)
        shim.close()

    def shrink(self, now: float) -> float | None:
        """Send away who idled too long; when to look again, in monotonic seconds, None if nobody idles."""
        while self._idle and self._idle[0].idle_since + IDLE_SECONDS <= now:
            self._idle.popleft().close()
        return self._idle[0].idle_since + IDLE_SECONDS if self._idle else None

    def close(self) -> None:
        """Let all idle shims and the fork server go; busy shims finish alone."""
        while self._idle:
            self._idle.pop().close()
        self._stop()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    fork_server_command(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=sys.stderr.fileno(),
                    env={},
                )
        except OSError as exc:
            ours.close()
            raise NoShim(f"the fork server cannot be started: {exc}") from exc
        self._server = ours
        return ours

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._process is not None:
            # It ends by itself at the end of its channel; a zombie of ours must not outlive that.
            try:
                self._process.wait(1.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
