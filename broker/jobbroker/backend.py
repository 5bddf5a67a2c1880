"""The backend of an instance: one process for all clients, started when somebody needs it, watched until it ends.

The decisions are those of `core/routing`; this performs them. Everything that decides on an order happens where it is
called, without waiting: what the backend wrote first reaches its clients first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from jobbroker.backend_process import BackendProcess
from jobbroker.channels import Channels
from jobbroker.core.profile import Profile
from jobbroker.core.routing import effects
from jobbroker.core.routing.effects import Effect, Exit, TurnReason
from jobbroker.core.routing.messages import write
from jobbroker.core.routing.router import Router
from jobbroker.jobdir import JobDirectories
from jobbroker.leftover import PATIENCE_SECONDS, end_leftover
from jobbroker.requests import Surroundings
from jobbroker.stdio import Stdio
from jobclient.protocol import errors
from jobclient.protocol.framing import FramingLost, HeaderReader, LineReader, Oversized, encode_headers, encode_line
from jobclient.protocol.jsonrpc import Json

CONGESTED = 16 * 1024 * 1024
"""Bytes it has not read after which requests to it are refused."""
CROWDED = 1024 * 1024
"""Bytes it has not read after which clients that talk to it are read no further."""
EXIT_SECONDS = 0.5
"""How long after the end of its stdout its own end is awaited, and how long after its end its last words are."""

log = logging.getLogger("jobbroker.backend")


class Recipient(Protocol):
    """A client of the backend."""

    def deliver(self, message: bytes, *, lossy: bool) -> None:
        """Send it a message of the backend; a `lossy` one need not arrive."""
        ...


TurnNews = effects.TurnBegan | effects.TurnOutput | effects.TurnEnded


class Backend:
    """The one backend, whether it runs or not.

    Attributes:
        profile: what it is like.
        pid: of its process, while it runs.
        starts: how often it was started.
        last_exit: how it ended last.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        directories: JobDirectories,
        channels: Channels,
        around: Surroundings,
        turn_news: Callable[[TurnNews], None],
        dying: Callable[[], None],
    ) -> None:
        """`turn_news` takes what becomes of turns; `dying` is called when one that was up begins to end by itself."""
        self.profile = profile
        self._directories = directories
        self._channels = channels
        self._around = around
        self._turn_news = turn_news
        self._dying = dying
        self._router = Router(profile, trio.current_time())
        self._recipients: dict[int, Recipient] = {}
        self._last_client = 0
        self._answers: dict[int, Callable[[dict[str, Json]], None]] = {}
        self._stdio: Stdio | None = None
        self._process: BackendProcess | None = None
        self._end: str | None = None  # why it is to end, once that is decided
        self._ending = trio.Event()
        self._dead = trio.Event()
        self._leaving = False
        self._wakes = float("inf")  # when the time is looked at next
        self._rescheduled = trio.Event()
        self._crowd = 0  # who waits for room
        self._less = trio.Event()
        self._nursery: trio.Nursery
        self.pid: int | None = None
        self.starts = 0
        self.last_exit: Exit | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Own the tasks of the process, and the one that knows the time."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await self._keep_time()

    async def _keep_time(self) -> None:
        while True:
            due = self._router.due()
            self._wakes = float("inf") if due is None else due
            with trio.move_on_at(self._wakes):
                await self._rescheduled.wait()
                self._rescheduled = trio.Event()
                continue
            self._perform(self._router.tick(trio.current_time()))

    def _reschedule(self) -> None:
        """Something may be due earlier now. What is due later is found out when it is not: answers are many."""
        due = self._router.due()
        if due is not None and due < self._wakes:
            self._wakes = due
            self._rescheduled.set()

    # --- clients ----------------------------------------------------------------------------------------------------

    def connect(self, recipient: Recipient) -> int:
        """A client has come; its number."""
        self._last_client += 1
        self._recipients[self._last_client] = recipient
        self._router.connect(self._last_client)
        return self._last_client

    def disconnect(self, client: int) -> None:
        """A client is gone."""
        del self._recipients[client]
        self._perform(self._router.disconnect(client, trio.current_time()))

    def request(self, client: int, identity: bytes, method: str, params: bytes) -> None:
        """A client asks. It is answered, sooner or later, by `deliver`."""
        self._perform(self._router.request(client, identity, method, params, trio.current_time()))

    def notification(self, client: int, method: str, params: bytes) -> None:
        """A client says something."""
        self._perform(self._router.notification(client, method, params, trio.current_time()))

    def response(self, client: int, message: bytes) -> None:
        """A client answers what the backend asked it."""
        self._perform(self._router.response(client, message, trio.current_time()))

    def under_way(self, client: int) -> int:
        """How many answers a client waits for."""
        return self._router.under_way(client)

    async def room(self) -> None:
        """Wait until the backend has read enough to be told more."""
        while self._unsent > CROWDED:
            self._crowd += 1
            try:
                await self._less.wait()
            finally:
                self._crowd -= 1

    # --- the broker's own -------------------------------------------------------------------------------------------

    async def ask(self, method: str, params: Json, seconds: float) -> Json:
        """A request of the broker's own.

        Raises:
            RemoteError: what the backend answered, or why it did not.
        """
        done = trio.Event()
        outcomes: list[dict[str, Json]] = []

        def answered(outcome: dict[str, Json]) -> None:
            outcomes.append(outcome)
            done.set()

        ticket, found = self._router.ask(method, params, trio.current_time(), seconds)
        self._answers[ticket] = answered
        try:
            self._perform(found)
            await done.wait()
        finally:
            self._answers.pop(ticket, None)
        problem = outcomes[0].get("error")
        if problem is not None:
            raise errors.from_wire(problem if isinstance(problem, dict) else {"message": str(problem)})
        return outcomes[0].get("result")

    def start_turn(self, name: str, method: str, params: Json, *, timeout: float, idle: float, grace: float) -> None:
        """Begin a turn."""
        now = trio.current_time()
        self._perform(self._router.start_turn(name, method, params, now, timeout=timeout, idle=idle, grace=grace))

    def cancel_turn(self, name: str, reason: TurnReason, grace: float) -> None:
        """Ask for the end of a turn."""
        self._perform(self._router.cancel_turn(name, reason, grace, trio.current_time()))

    def holder(self, method: str, params: Json) -> str | None:
        """The turn that keeps another one from beginning."""
        return self._router.holder(method, params)

    @property
    def clients(self) -> int:
        """Connections that have spoken to it."""
        return len(self._recipients)

    @property
    def router(self) -> Router:
        """What is known of it, to be read."""
        return self._router

    # --- effects ----------------------------------------------------------------------------------------------------

    def _perform(self, found: Iterable[Effect]) -> None:
        self._carry_out(found)
        self._reschedule()
        self._note_less()

    def _carry_out(self, found: Iterable[Effect]) -> None:
        for effect in found:
            match effect:
                case effects.ToClient(client, message, lossy):
                    recipient = self._recipients.get(client)
                    if recipient is not None:
                        recipient.deliver(message, lossy=lossy)
                case effects.ToBackend(message):
                    self._tell(message)
                case effects.Start():
                    self._nursery.start_soon(self._live)
                case effects.EndBackend(reason):
                    self._end_it(reason)
                case effects.Remark(text):
                    log.warning("%s", text)
                case effects.Answered(ticket, outcome):
                    answered = self._answers.pop(ticket, None)
                    if answered is not None:
                        answered(outcome)
                case _:
                    self._turn_news(effect)

    def _tell(self, message: bytes) -> None:
        if self._stdio is not None:
            self._stdio.post(encode_headers(message) if self._has_headers else encode_line(message))
            self._note_congestion()

    @property
    def _unsent(self) -> int:
        return self._router.unsent + (0 if self._stdio is None else self._stdio.unsent)

    @property
    def _has_headers(self) -> bool:
        return self.profile.backend.framing == "headers"

    def _note_congestion(self) -> None:
        self._router.congested(congested=self._stdio is not None and self._stdio.unsent > CONGESTED)
        self._note_less()

    def _note_less(self) -> None:
        """Those who wait for room go on, if there is some."""
        if self._crowd and self._unsent <= CROWDED:
            self._less.set()
            self._less = trio.Event()

    def _end_it(self, reason: str) -> None:
        self._end = self._end or reason
        self._ending.set()

    # --- its life ---------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """From the start of the process to its end, and what that means for everybody."""
        await end_leftover(self._directories)
        self.starts += 1
        self._end, self._ending = None, trio.Event()
        limit = self.profile.backend.max_message
        frames = HeaderReader(limit) if self._has_headers else LineReader(limit)

        def heard(piece: bytes) -> None:
            self._hear(frames, piece)

        with Stdio(heard, self._note_congestion, self.profile.backend.stderr_tail) as stdio:
            self._stdio = stdio
            process = self._process = BackendProcess(
                self.profile.backend, self._directories, self._channels, self._around
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stdio.run)
                process.start(stdio)
                await self._see_through(process, stdio)
                nursery.cancel_scope.cancel()
            how = process.exit(stdio.stderr_tail, self._end)
        self._stdio = self._process = self.pid = None
        await self._bury(how)

    async def _see_through(self, process: BackendProcess, stdio: Stdio) -> None:
        """Until it and all of its tree is dead, and its last words are heard; with it gone, not for long."""
        await process.begun.wait()
        if process.error is None:
            self.pid = process.pid
            log.info("the backend runs: profile=%s pid=%s", self.profile.name, process.pid)
            self._perform(self._router.started(trio.current_time()))
            await _first(process.over, stdio.ended, stdio.deaf, self._ending)
            if self._router.state == "up" and not self._leaving:
                self._dying()
            with trio.move_on_after(0 if self._ending.is_set() else EXIT_SECONDS):
                await process.over.wait()
            if not process.over.is_set() and not self._leaving:
                self._end = self._end or ("closed its stdout" if stdio.ended.is_set() else "closed its stdin")
                process.end(0)
            with trio.move_on_after(float("inf") if self._leaving else EXIT_SECONDS):
                await process.over.wait()
        with trio.move_on_after(EXIT_SECONDS):
            await stdio.ended.wait()

    def _hear(self, frames: LineReader | HeaderReader, piece: bytes) -> None:
        now = trio.current_time()
        self._router.heard_from(now)
        lost: FramingLost | None = None
        try:
            messages = frames.feed(piece)
        except FramingLost as exc:
            messages, lost = exc.before, exc
        for message in messages:
            if isinstance(message, Oversized):
                self._carry_out(self._router.oversized())
            else:
                self._carry_out(self._router.message(message, now))
        if lost is not None:
            self._end_it(f"cannot be understood any more: {lost}")
        self._reschedule()

    async def _bury(self, how: Exit) -> None:
        """One that never answered was a start that failed: who waits is told. With one that did, the broker ends."""
        self.last_exit = how
        if self._leaving:
            return
        if self._router.state == "up":
            log.error("the backend %s: stderr=%r", how.reason, how.stderr_tail[-500:])
            self._dead.set()
            self._dying()  # if it was its last word that it is up
        else:
            log.warning("the backend %s: stderr=%r", how.reason, how.stderr_tail[-500:])
            await end_leftover(self._directories)  # or it would be there still when the next one is started
            self._perform(self._router.ended(how, trio.current_time()))

    # --- the end of the broker --------------------------------------------------------------------------------------

    async def death(self) -> Exit:
        """Wait until it has died, and has been heard to the end; how it did."""
        await self._dead.wait()
        assert self.last_exit is not None  # noqa: S101  # noted before it is declared dead
        return self.last_exit

    def fail_all(self) -> None:
        """The broker ends, with the backend or without: every request is answered, every turn is over."""
        self._leaving = True
        if self._dead.is_set() and self.last_exit is not None:
            self._perform(self._router.ended(self.last_exit, trio.current_time()))
        else:
            error = errors.ShuttingDown("the broker is shutting down; ask again, the next one will know")
            self._perform(self._router.refuse_all(error, "the broker ended, and the backend with it"))

    async def stop(self) -> None:
        """Let it end: ask, close its stdin, SIGTERM, SIGKILL, with patience between them."""
        process, stdio, rules = self._process, self._stdio, self.profile.backend.stop
        self._leaving = True
        if process is None or stdio is None:
            with trio.move_on_after(EXIT_SECONDS):
                await end_leftover(self._directories)
            return
        with trio.move_on_after(rules.eof):
            if self._router.state == "up":
                if rules.request is not None:
                    self._tell(write({"id": 0, "method": rules.request}, jsonrpc=self.profile.backend.jsonrpc))
                if rules.notify is not None:
                    self._tell(write({"method": rules.notify}, jsonrpc=self.profile.backend.jsonrpc))
            stdio.close_stdin()
            await process.over.wait()
        if not process.over.is_set():
            process.end(rules.term)
            with trio.move_on_after(rules.term + PATIENCE_SECONDS):
                await process.over.wait()


async def _first(*events: trio.Event) -> None:
    """Wait until one of them is set."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
