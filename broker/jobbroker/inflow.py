"""Write into the pipe a job reads from. Its shim holds the writing end, and any daemon opens it there by /proc."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

import trio

from jobbroker.core.record import Line, input_inode
from jobbroker.identity import GONE, open_checked, send_signal
from jobbroker.jobdir import JobDirectories
from jobbroker.signals import SIGTERM
from jobclient.protocol.errors import Busy, InvalidState

MAX_PIECE = 1024 * 1024
"""Bytes of one call: a job that does not read must not fill our memory."""
MAX_WAITING = 16
"""Calls of one job that may wait for it to read."""


class Inflow:
    """Who writes to which job: one call after the other, in the order in which they came."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[trio.Event]] = {}

    def queue(self, name: str) -> trio.Event:
        """A place in the line of those who write to a job; it is set when it is its turn. To be left in any case.

        Raises:
            Busy: so many wait already.
        """
        line = self._lines.setdefault(name, deque())
        if len(line) >= MAX_WAITING:
            raise Busy(f"{MAX_WAITING} inputs wait for {name} to read; wait for their answers")
        turn = trio.Event()
        line.append(turn)
        if len(line) == 1:
            turn.set()
        return turn

    def leave(self, name: str, turn: trio.Event) -> None:
        """Give the place up; the next one's turn comes."""
        line = self._lines[name]
        line.remove(turn)
        if line:
            line[0].set()
        else:
            del self._lines[name]


class Share:
    """What one call brings.

    Attributes:
        job: for whom.
        left: what is not in the pipe yet.
        so_far: what to say of it if it comes to nothing more: `written` bytes are in the pipe.
    """

    def __init__(self, job: str, data: bytes) -> None:
        self.job = job
        self.left = memoryview(data)
        self.so_far: dict[str, object] = {"id": job, "written": 0}
        self._size = len(data)

    def took(self, count: int) -> None:
        """So many bytes more are in the pipe."""
        self.left = self.left[count:]
        self.so_far["written"] = self._size - len(self.left)


async def pour(claim: Line, share: Share, ended: trio.Event) -> None:
    """Write all of it, as fast as the job reads; `ended` is set with its end.

    Raises:
        InvalidState: the job reads no more.
    """
    with _opened(share.job, claim) as pipe:
        while share.left:
            try:
                share.took(os.write(pipe, share.left))
            except BlockingIOError:
                await _room(pipe, ended)
            except BrokenPipeError:
                raise _unread(share.job, share.so_far["written"]) from None
            if share.left and ended.is_set():
                raise _unread(share.job, share.so_far["written"])


async def _room(pipe: int, ended: trio.Event) -> None:
    """Until there is room, or nobody reads, or the job has ended: a stranger may hold the reading end for ever."""
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            await ended.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(give_up)
        await trio.lowlevel.wait_writable(pipe)
        nursery.cancel_scope.cancel()


def end(jobs: JobDirectories, name: str, claim: Line) -> None:
    """Let the shim close its end: once what was written is read, the job reads its end.

    Left in writing first, so that the next daemon says it again if this one dies in between.
    """
    jobs.end_input(name)
    handle = open_checked(claim.number(0), claim.number(1))
    if handle is not None:
        try:
            send_signal(handle, SIGTERM)
        finally:
            os.close(handle)


@contextmanager
def _opened(name: str, claim: Line) -> Generator[int]:
    """The writing end, never waiting; a shim that is gone has let go of it, and nothing comes through any more."""
    inode = input_inode(claim)
    handle = open_checked(claim.number(0), claim.number(1))
    if handle is None or inode is None:
        raise _unread(name, 0)
    try:
        pipe = _find(claim.number(0), inode)
    finally:
        os.close(handle)
    if pipe is None:
        raise _unread(name, 0)
    try:
        yield pipe
    finally:
        os.close(pipe)


def _find(pid: int, inode: int) -> int | None:
    """That pipe among the descriptors of a process; None if it has it no more, or nobody reads from it."""
    wanted = f"pipe:[{inode}]"
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{number}"
            if os.readlink(path) == wanted:
                pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                status = os.fstat(pipe)
                if stat.S_ISFIFO(status.st_mode) and status.st_ino == inode:
                    return pipe
                os.close(pipe)
    except GONE:
        pass
    except OSError as exc:
        if exc.errno != errno.ENXIO:  # nobody reads
            raise
    return None


def _unread(name: str, written: object) -> InvalidState:
    return InvalidState(
        f"{name} reads no more: it has closed its stdin, or has ended", {"id": name, "written": written}
    )
