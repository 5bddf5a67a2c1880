"""The shims that are ours: a job is offered to one, and what each says on its channel is passed on.

A shim that is idle again goes back to the pool before anybody hears of the end of its job, so that the next job in the
queue finds it there.
"""

from __future__ import annotations

import logging
import select
from typing import Protocol

import trio

from jobbroker.core import record
from jobbroker.processes import Shim, ShimPool

log = logging.getLogger("jobbroker.jobs")


class Audience(Protocol):
    """Who hears what shims say of their jobs."""

    def say(self, name: str, shim: Shim, lines: list[record.Line], /) -> None:
        """A shim has taken steps with a job; after the last one it has the job no more."""
        ...

    def keep(self, name: str, descriptors: list[int], /) -> None:
        """A shim has passed on open files of a job."""
        ...

    def refuse(self, name: str, /) -> None:
        """A shim cannot have a job: somebody else has claimed it, or its record is none."""
        ...

    def see(self, name: str, /) -> None:
        """A job was stopped or goes on, and its record has no room to say so."""
        ...

    def vanish(self, name: str, shim: Shim, /) -> None:
        """A shim is gone, and had a job."""
        ...

    def fail(self, name: str, /) -> None:
        """A fault of ours kept a message from being heard."""
        ...


class Channels:
    """All shims of this daemon, and the tasks that listen to them."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._pool = ShimPool()
        self._elsewhere: dict[Shim, Audience] = {}  # the few whose job is none of the table's
        self._news = select.epoll()  # channels with something to hear, found by one call however many there are
        self._by_descriptor: dict[int, Shim] = {}
        self._idled = trio.Event()
        self._nursery: trio.Nursery

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Own the tasks that listen, one a shim; ends when it is cancelled, by hanging up."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await self._shrink_pool()
        finally:
            self._pool.close()

    async def _shrink_pool(self) -> None:
        """Send idle shims away in time; no timer runs while none idles."""
        while True:
            due = self._pool.shrink(trio.current_time())
            if due is not None:
                await trio.sleep_until(due)
            else:
                await self._idled.wait()
                self._idled = trio.Event()

    def offer(
        self, name: str, directory: int, *, stdio: tuple[int, ...] = (), audience: Audience | None = None
    ) -> Shim:
        """Give a job to an idle shim, or to a new one; whether it takes it, it will say, to the `audience`.

        Raises:
            NoShim, OSError: none could be had.
        """
        while (idle := self._pool.acquire()) is not None:
            if idle.hand_over(name, directory, stdio):
                return self._expect(idle, audience)
        shim = self._pool.fork()
        try:
            shim.hand_over(name, directory, stdio)  # if that fails it is gone already, and its channel will say so
        except OSError:
            shim.close()
            raise
        shim.job = name
        self._by_descriptor[shim.channel.fileno()] = shim
        self._news.register(shim.channel, select.EPOLLIN)  # a channel that is closed leaves by itself
        self._nursery.start_soon(self._listen, shim)
        return self._expect(shim, audience)

    def _expect(self, shim: Shim, audience: Audience | None) -> Shim:
        """Know who hears what it says of the job it was just given."""
        self._elsewhere.pop(shim, None)
        if audience is not None:
            self._elsewhere[shim] = audience
        return shim

    def _audience_of(self, shim: Shim) -> Audience:
        return self._elsewhere.get(shim, self._audience)

    async def _listen(self, shim: Shim) -> None:
        try:
            while not shim.closed:
                await trio.lowlevel.wait_readable(shim.channel)
                if not shim.closed:
                    self.hear(shim)
        except trio.ClosedResourceError:
            return  # sent away, or found gone by somebody who looked first

    def hear_all(self) -> None:
        """Take what any shim has said by now. Called on every path that reads, so it costs nothing if none has."""
        for descriptor, _ in self._news.poll(0, max(1, len(self._by_descriptor))):
            shim = self._by_descriptor[descriptor]
            if not shim.closed:
                self.hear(shim)

    def hear(self, shim: Shim) -> None:
        """Take what a shim has said by now. A fault of ours in it must not end the watch over everything else."""
        name = shim.job
        try:
            self._take_messages(shim)
        except Exception:
            log.exception("fault in hearing a shim: id=%s", name)
            self._audience_of(shim).fail(name or "")

    def _take_messages(self, shim: Shim) -> None:
        """Take all messages that are there; a shim that is gone is closed."""
        messages: list[bytes] = []
        while latest := shim.receive():
            messages.append(latest)
            if shim.passed:
                self._audience_of(shim).keep(latest.partition(b" ")[0].decode(), shim.passed)
        shim.retired = shim.retired or b"retiring" in messages
        for message in messages:
            name, _, rest = message.partition(b" ")
            if rest:
                self._take(shim, name.decode(), rest)
        if shim.retired:
            self._pool.withdraw(shim)
        if latest is None:
            return
        self._pool.forget(shim)
        audience = self._elsewhere.pop(shim, self._audience)
        if shim.job is not None:
            audience.vanish(shim.job, shim)

    def _take(self, shim: Shim, name: str, rest: bytes) -> None:
        if rest == b"refused":
            self._free(shim)
            self._audience_of(shim).refuse(name)
            return
        if rest == b"look":
            self._audience_of(shim).see(name)
            return
        lines = record.decode_lines(rest + b"\n")
        if lines and lines[0].letter in (b"X", b"F"):
            self._free(shim)
        self._audience_of(shim).say(name, shim, lines)

    def _free(self, shim: Shim) -> None:
        shim.job = None
        if not shim.retired:
            self._pool.release(shim, trio.current_time())
            self._idled.set()
