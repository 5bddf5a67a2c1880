"""The stdio of a process, from our side: what it says comes in pieces, what it is told waits until it reads.

Reader and writer are tasks of their own and never wait for each other: with both pipes full, one that did would keep
the process from reading what it waits for.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections import deque
from collections.abc import Callable
from typing import Self

import trio

CHUNK = 16 * 1024
"""Read at once: a hundred messages or less, so that everybody else has a turn every few milliseconds."""
PIPE_SIZE = 1024 * 1024
"""What a pipe is to hold, if the system allows: fewer turns for much output."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f]")


class Stdio:
    """Our ends of three pipes.

    Attributes:
        theirs: the ends of the process, until it has them.
        unsent: bytes it was not yet told.
        ended: set when it will say nothing any more.
    """

    def __init__(self, heard: Callable[[bytes], None], has_read: Callable[[], None], stderr_tail: int) -> None:
        """Make the pipes; `heard` takes each piece of its stdout, `has_read` is called when it has read some stdin."""
        self._heard = heard
        self._has_read = has_read
        self._tail = bytearray()
        self._tail_size = stderr_tail
        self._messages: deque[bytes] = deque()
        self._more = trio.Event()
        self._closing = False
        self.unsent = 0
        self.ended = trio.Event()
        stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
        self._stdout, stdout = os.pipe2(os.O_CLOEXEC)
        self._stderr, stderr = os.pipe2(os.O_CLOEXEC)
        self.theirs: tuple[int, ...] = (stdin, stdout, stderr)
        try:
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:  # too many pipes of this user are large already
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_away()
        for descriptor in (self._stdin, self._stdout, self._stderr):
            if descriptor >= 0:
                os.close(descriptor)
        self._stdin = self._stdout = self._stderr = -1
        self.unsent = 0
        self._has_read()

    def give_away(self) -> None:
        """The process has its ends: ours of them are closed, else none of its streams would ever end."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = ()

    def post(self, message: bytes) -> None:
        """Tell it something, framed, as soon as it reads."""
        if not self._closing:
            self._messages.append(message)
            self.unsent += len(message)
            self._more.set()

    def close_stdin(self) -> None:
        """Let it read the end of its stdin, once it has read everything before."""
        self._closing = True
        self._more.set()

    @property
    def stderr_tail(self) -> str:
        """The last it said on stderr, without colours."""
        return _COLOURS.sub("", self._tail.decode(errors="replace")).strip()

    async def run(self) -> None:
        """Read and write until it is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._read_stderr)
            await self._read(self._take_stdout(), self._heard)
            self.ended.set()

    def _take_stdout(self) -> trio.lowlevel.FdStream:
        descriptor, self._stdout = self._stdout, -1
        return trio.lowlevel.FdStream(descriptor)

    @staticmethod
    async def _read(stream: trio.lowlevel.FdStream, take: Callable[[bytes], None]) -> None:
        async with stream:
            while piece := await stream.receive_some(CHUNK):
                take(piece)

    async def _read_stderr(self) -> None:
        descriptor, self._stderr = self._stderr, -1

        def keep(piece: bytes) -> None:
            self._tail.extend(piece)
            del self._tail[: max(0, len(self._tail) - self._tail_size)]

        await self._read(trio.lowlevel.FdStream(descriptor), keep)

    async def _write(self) -> None:
        """One message after the other; to one that does not read any more, whatever it left, nothing is told."""
        descriptor, self._stdin = self._stdin, -1
        async with trio.lowlevel.FdStream(descriptor) as stream:
            while True:
                while self._messages:
                    group = list(self._messages)
                    self._messages.clear()
                    try:
                        await stream.send_all(b"".join(group))
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        self._closing = True
                        self._messages.clear()
                    self.unsent -= sum(map(len, group))
                    self._has_read()
                if self._closing:
                    self.unsent = 0
                    return
                await self._more.wait()
                self._more = trio.Event()
