"""The shim: the one parent of a running job, and all that the job needs to be whole without any daemon.

It serves one job after another: each comes on its channel as an id and a directory and is run by `run.py`. Its daemon
may die at any moment; then it finishes the job it has and goes. Standard library only, forked by the fork server,
never exec'ed.
"""

from __future__ import annotations

import errno
import os
import sys
from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket

from jobbroker.identity import boot_id, start_time
from jobbroker.run import Run
from jobbroker.signals import SIGCHLD, SIGTERM, set_wakeup_fd, signal

MAX_JOBS = 500
"""A shim retires after so many jobs."""
_PIPE_SIZE = 64 * 1024


class Shim:
    """What outlives a single job.

    Attributes:
        channel: to the daemon that started us.
        deserted: that daemon is gone.
        wake: a pipe with a byte for every signal that came.
        null: /dev/null, the stdin of most jobs.
        boot, pid, started: who we are.
    """

    def __init__(self, channel: int) -> None:
        self.channel = socket(AF_UNIX, SOCK_SEQPACKET, 0, channel)
        self.deserted = False
        self.boot = boot_id()
        self.pid = os.getpid()
        self.started = start_time(self.pid) or 0
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in (SIGCHLD, SIGTERM):
            signal(number, _nothing)  # what matters is the byte in the pipe
        set_wakeup_fd(wake_end, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Take jobs until the daemon hangs up, enough were done, or something of a job may be left in us."""
        for _ in range(MAX_JOBS):
            given = self.receive()
            if given is None:
                return
            clean = Run(self, *given).go()
            if self.deserted:
                return
            if not clean:
                break
        self.send(b"retiring")

    def receive(self) -> tuple[bytes, list[int]] | None:
        """Wait for a job: its id and its directory, behind which its stdio may come; None when the daemon is gone.

        Raises:
            OSError: the directory did not arrive; we may have too many files open.
        """
        try:
            message, ancillary, _, _ = self.channel.recvmsg(64, 64, MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return None
        for level, kind, data in ancillary:
            if level == SOL_SOCKET and kind == SCM_RIGHTS:
                return message, [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), 4)]
        if message:
            raise OSError(errno.EBADF, "a job came without its directory")
        return None

    def send(self, message: bytes, descriptors: tuple[int, ...] = ()) -> bool:
        """Tell the daemon; False if it is gone. A job has few messages: they always fit into the channel."""
        if not self.deserted:
            try:
                if descriptors:
                    rights = b"".join(number.to_bytes(4, sys.byteorder) for number in descriptors)
                    self.channel.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, rights)])
                else:
                    self.channel.send(message)
            except OSError:
                self.deserted = True
        return not self.deserted

    def signals(self) -> bytes:
        """The signals that came since the last call."""
        try:
            return os.read(self.wake, _PIPE_SIZE)
        except BlockingIOError:
            return b""


def _nothing(_number: int, _frame: object) -> None:
    """A handler, so that the signal is neither deadly nor ignored."""
