"""The stdio of a process, from our side: what it says comes in pieces, what it is told waits until it reads.

Reader and writer are tasks of their own and never wait for each other: with both pipes full, one that did would keep
the process from reading what it waits for.
"""

from __future__ import annotations

import fcntl
import os
import re
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
        ended: set when it will say nothing any more.
        deaf: set when it was to be told something and had closed its stdin.
    """

    def __init__(self, heard: Callable[[bytes], None], has_read: Callable[[], None], stderr_tail: int) -> None:
        """Make the pipes; `heard` takes each piece of its stdout, `has_read` is called when it has read some stdin."""
        self._heard = heard
        self._has_read = has_read
        self._tail = bytearray()
        self._tail_size = stderr_tail
        self._unsent = bytearray()
        self._more = trio.Event()
        self._closing = False
        self.ended = trio.Event()
        self.deaf = trio.Event()
        stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
        self._stdout, stdout = os.pipe2(os.O_CLOEXEC)
        self._stderr, stderr = os.pipe2(os.O_CLOEXEC)
        for ours in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(ours, False)
        self.theirs: tuple[int, ...] = (stdin, stdout, stderr)
        try:
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:  # too many pipes of this user are large already
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_away()
        self._let_go_of_stdin()
        for descriptor in (self._stdout, self._stderr):
            trio.lowlevel.notify_closing(descriptor)
            os.close(descriptor)
        self._has_read()

    def give_away(self) -> None:
        """The process has its ends: ours of them are closed, else none of its streams would ever end."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = ()

    @property
    def unsent(self) -> int:
        """Bytes it was not yet told."""
        return len(self._unsent)

    def post(self, message: bytes) -> None:
        """Tell it something, framed, now or as soon as it reads."""
        if self._closing:
            return
        sent = 0 if self._unsent else self._write(message)
        if sent < len(message):
            self._unsent += message[sent:]
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
            nursery.start_soon(self._write_on)
            nursery.start_soon(self._read, self._stderr, self._keep)
            await self._read(self._stdout, self._heard)
            self.ended.set()

    @staticmethod
    async def _read(descriptor: int, take: Callable[[bytes], None]) -> None:
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            piece = os.read(descriptor, CHUNK)
            if not piece:
                return
            take(piece)

    def _keep(self, piece: bytes) -> None:
        self._tail.extend(piece)
        del self._tail[: max(0, len(self._tail) - self._tail_size)]

    async def _write_on(self) -> None:
        """What it did not take at once, as it reads."""
        while self._stdin >= 0:
            await self._more.wait()
            self._more = trio.Event()
            while self._unsent:
                await trio.lowlevel.wait_writable(self._stdin)
                with memoryview(self._unsent) as unsent, unsent[:PIPE_SIZE] as piece:
                    sent = self._write(piece)
                del self._unsent[:sent]
                self._has_read()
            if self._closing:
                self._let_go_of_stdin()

    def _write(self, piece: bytes | memoryview) -> int:
        """How much of it was taken. One that has closed its stdin is told nothing any more."""
        try:
            return os.write(self._stdin, piece)
        except BlockingIOError:
            return 0
        except OSError:
            self._closing = True
            self._more.set()
            self.deaf.set()
            return len(piece)

    def _let_go_of_stdin(self) -> None:
        self._unsent.clear()
        if self._stdin >= 0:
            trio.lowlevel.notify_closing(self._stdin)
            os.close(self._stdin)
            self._stdin = -1
