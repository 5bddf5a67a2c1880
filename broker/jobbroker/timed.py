"""Timed jobs: schedules, and one timer for all of them. A schedule that waits costs an entry in a heap.

What becomes of a tick is `ticking`'s. What is promised here, that a schedule was added, changed, paused or removed, is
in the store first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec
import trio

from jobbroker.clock import boot_ms, mono_ms, wall_ms
from jobbroker.core.batch import Batches, time_of
from jobbroker.core.due import DueTimes, Moment, look
from jobbroker.core.entry import Line
from jobbroker.core.job import Snapshot, timestamp
from jobbroker.core.schedule import Definition, Standing
from jobbroker.core.unclosed import settle
from jobbroker.scheduled import Scheduled, Waiting
from jobbroker.schedulefacts import ScheduleFacts
from jobbroker.ticking import Ticking
from jobbroker.ticklog import TickLog
from jobbroker.tickreading import Entry, Wanted, last
from jobbroker.timer import Timer
from jobclient.protocol import errors

SLICE_MS = 10
"""How long due schedules are seen to before everybody else gets a turn."""
DRAIN_SECONDS = 0.5
"""How long a broker that ends waits for ticks to end by themselves."""
LAST_LINES = 2000
"""Lines of the log of a broker that died that may have more to say of ticks than the store has."""
FLUSH_SECONDS = 1.0
"""How long it waits for its last lines to be written."""

log = logging.getLogger("jobbroker.timed")


class Timed:
    """The schedules of a broker.

    Attributes:
        schedules: by name, in the order in which they were added.
        ticking: their ticks.
        log: what happened, line by line.
    """

    def __init__(
        self, facts: ScheduleFacts, ticking: Ticking, log_file: TickLog, salt: str, stir: Callable[[], None]
    ) -> None:
        """`stir` is called when there are more schedules, or fewer; `salt` is for jitter."""
        self.schedules: dict[str, Scheduled] = {}
        self.ticking = ticking
        self.log = log_file
        self._facts = facts
        self._salt = salt
        self._order = 0
        self._stir = stir
        self._due = DueTimes()
        self._timer = Timer()

    # --- beginning and end ------------------------------------------------------------------------------------------

    async def run(self, live: Iterable[Snapshot], *, task_status: trio.TaskStatus[None]) -> None:
        """Take over what there is, and let schedules tick, until cancelled; `live` are the jobs that live now."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.log.run)
                await nursery.start(self.ticking.run)
                self._load(live, await trio.to_thread.run_sync(self._last_lines))
                task_status.started()
                while True:
                    await self._timer.wait()
                    await self._tick_all_due()
        finally:
            self._timer.close()
            self.ticking.leaders.keep(set())

    def _last_lines(self) -> list[Entry]:
        return last(self.log.folder, timestamp(wall_ms())[:10], Wanted(), LAST_LINES).entries

    def _load(self, live: Iterable[Snapshot], lines: list[Entry]) -> None:
        """Schedules as the last broker left them, and as the last lines of its log have them."""
        self.ticking.paused = self._facts.paused()
        found = self._facts.all(self._moment())
        states = [standing.state for _, standing in found]
        known = [time_of(each.batch) for state in states for each in (state.flight, state.last) if each is not None]
        self.ticking.batches = Batches(max(self._facts.batches(), *known, 0) + 1)
        jobs: dict[str, list[Snapshot]] = {}
        for snapshot in live:
            if snapshot.job.tick is not None:
                jobs.setdefault(snapshot.job.tick.schedule, []).append(snapshot)
        if found:
            self._note_loop("started", [definition for definition, _ in found])
        missing, over = settle(lines, {definition.name: standing.state for definition, standing in found})
        for name, line in missing:
            self.ticking.note(line, name)
        for definition, standing in found:
            scheduled = self.schedules[definition.name] = Scheduled(definition, standing, self._salt)
            self._order = definition.order
            scheduled.state = over.get(definition.name, scheduled.state)
            self.ticking.adopt(scheduled, jobs.get(definition.name, []))
            self._await_next(scheduled)

    def _note_loop(self, stage: str, definitions: list[Definition]) -> None:
        """The broker begins, or ends, to look after schedules."""
        loops = sum(bool(definition.config.interval_ms) for definition in definitions)
        result = _loop(enabled=bool(loops)) if stage == "started" else stage
        self.ticking.note(Line(stage=stage, result=result, details={"schedules": len(definitions)}), None)

    async def stop(self) -> None:
        """Begin to end: no tick from now on, and those under way get a moment; what is not over then, is cut.

        Its job goes on, and keeps the schedule busy, at the next broker's too.
        """
        self._due = DueTimes()
        self._timer.set(None)
        with trio.move_on_after(DRAIN_SECONDS):
            for scheduled in tuple(self.schedules.values()):
                await scheduled.idle.wait()
        for scheduled in tuple(self.schedules.values()):
            self.ticking.cut(scheduled, "the broker ended during the tick")

    async def close(self) -> None:
        """Say that it is over, and see that everything is written."""
        if self.schedules:
            self._note_loop("stopped", [scheduled.definition for scheduled in self.schedules.values()])
        with trio.move_on_after(FLUSH_SECONDS):
            await self.log.flush()

    # --- schedules --------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Scheduled:
        """The schedule of that name.

        Raises:
            JobNotFound: there is none.
        """
        found = self.schedules.get(name.strip())
        if found is None or found.going:
            raise self._unknown(name)
        return found

    @staticmethod
    def _unknown(name: str) -> errors.JobNotFound:
        return errors.JobNotFound(f"no schedule {name!r}  -> jobctl timed list", {"schedule": name})

    def reserve(self, definition: Definition) -> Scheduled:
        """Give a schedule that is asked for its name and its place, both before anybody else is heard; then `add` it.

        Raises:
            InvalidParams: there is one of that name.
            ShuttingDown: the broker ends.
        """
        self.refuse_when_leaving()
        if definition.name in self.schedules:
            raise errors.InvalidParams(f"`name`: there is a schedule {definition.name!r} already; remove it first")
        self._order += 1
        definition = msgspec.structs.replace(definition, order=self._order)
        scheduled = Scheduled(definition, Standing(anchor=self._moment()), self._salt)
        scheduled.going = True  # until it is promised, there is none for anybody else
        self.schedules[definition.name] = scheduled
        return scheduled

    async def add(self, scheduled: Scheduled) -> None:
        """Take in a schedule; it ticks for the first time an interval from now.

        Raises:
            StoreUnavailable: it cannot be promised.
        """
        definition = scheduled.definition
        try:
            await self._facts.commit(definition, scheduled.standing)
        except BaseException:
            del self.schedules[definition.name]
            raise
        scheduled.going = False
        interval = definition.config.interval_ms
        started = Line(stage="started", result=_loop(enabled=bool(interval)), details={"interval_ms": interval})
        self.ticking.note(started, definition.name)
        self._await_next(scheduled)
        self._stir()

    async def change(self, scheduled: Scheduled, changed: Callable[[Definition], Definition]) -> None:
        """Let a schedule be another from its next tick on; one under way goes on as it began.

        Raises:
            JobNotFound: it is being removed.
            StoreUnavailable: it cannot be promised.
        """
        self.refuse_when_leaving()
        if scheduled.going:  # since the request was read
            raise self._unknown(scheduled.name)
        before = scheduled.definition
        scheduled.definition = changed(before)
        try:
            await self._facts.commit(scheduled.definition)
        except errors.StoreUnavailable:
            scheduled.definition = before
            raise

    async def pause(self, *, paused: bool) -> None:
        """Let all schedules skip their ticks, or no longer.

        Raises:
            StoreUnavailable: it cannot be promised.
        """
        self.refuse_when_leaving()
        await self._facts.commit_paused(paused=paused)
        self.ticking.paused = paused

    async def remove(self, scheduled: Scheduled, wait_ms: int) -> list[str]:
        """Forget a schedule. Its timer goes first; a tick under way is waited for so long, and then cut.

        Who asks for it while it is being removed waits for that.

        Returns:
            Its jobs that go on.

        Raises:
            StoreUnavailable: that cannot be written; it stays, and ticks.
        """
        self.refuse_when_leaving()
        if scheduled.going:
            await scheduled.gone.wait()
            if self.schedules.get(scheduled.name) is scheduled:  # and not another one, added since
                raise errors.StoreUnavailable(f"{scheduled.name!r} could not be removed")
            return self._live_jobs(scheduled)
        scheduled.going = True
        self._due.drop(scheduled.name)
        self._timer.set(self._due.next())
        with trio.move_on_after(wait_ms / 1000):
            await scheduled.idle.wait()
        self.ticking.cut(scheduled, "the schedule was removed during the tick")
        await self._forget(scheduled)
        with trio.move_on_after(FLUSH_SECONDS):
            await self.log.flush()
        return self._live_jobs(scheduled)

    def _live_jobs(self, scheduled: Scheduled) -> list[str]:
        return [job for job in scheduled.state.left if self.ticking.is_live(job)]

    async def _forget(self, scheduled: Scheduled) -> None:
        try:
            await self._facts.forget(scheduled.name)
        except errors.StoreUnavailable:
            scheduled.going = False
            scheduled.gone.set()
            scheduled.gone = trio.Event()
            self._await_next(scheduled)
            raise
        del self.schedules[scheduled.name]
        scheduled.gone.set()
        self.ticking.note(Line(stage="stopped", result="stopped"), scheduled.name)
        locks = {each.definition.leader_lock for each in self.schedules.values()}
        self.ticking.leaders.keep({path for path in locks if path is not None})
        self._stir()

    def degraded(self) -> list[str]:
        """What is wrong with timed jobs, in sentences."""
        troubles = [f"a schedule cannot be read and does not tick: {name}" for name in self._facts.unreadable]
        if self.log.trouble is not None:
            troubles.append(
                f"the log of timed jobs cannot be written: {self.log.trouble} ({self.log.dropped} lines were dropped)"
            )
        return troubles

    def refuse_when_leaving(self) -> None:
        """Begin nothing while the broker ends.

        Raises:
            ShuttingDown: it does.
        """
        if self.ticking.leaving():
            raise errors.ShuttingDown("the broker is shutting down; ask again, the next one has the schedules")

    # --- time -------------------------------------------------------------------------------------------------------

    def tick(self, scheduled: Scheduled) -> Waiting:
        """Let a schedule tick now, whatever it waits for; what is decided is known when this returns.

        Raises:
            ShuttingDown: the broker ends.
        """
        self.refuse_when_leaving()
        return self.ticking.begin(scheduled, "manual", {})

    def next_at(self, scheduled: Scheduled) -> str | None:
        """When it ticks next, as a time of the day."""
        at = self._due.get(scheduled.name)
        return None if at is None else timestamp(wall_ms() + at - boot_ms())

    def _moment(self) -> Moment:
        return Moment(wall_ms(), boot_ms(), self._facts.boot)

    def _await_next(self, scheduled: Scheduled) -> None:
        if scheduled.beat.every_ms and not self.ticking.leaving():
            self._due.put(scheduled.name, scheduled.beat.at(scheduled.number))
            self._timer.set(self._due.next())

    async def _tick_all_due(self) -> None:
        began = mono_ms()
        while not self.ticking.leaving() and (name := self._due.pop(boot_ms())) is not None:
            self._look(self.schedules[name])
            if mono_ms() - began >= SLICE_MS:
                await trio.lowlevel.checkpoint()
                began = mono_ms()
        self._timer.set(self._due.next())

    def _look(self, scheduled: Scheduled) -> None:
        """A schedule is due: it ticks, or has missed its time."""
        found = look(scheduled.beat, scheduled.number, boot_ms(), catch_up=scheduled.definition.catch_up)
        scheduled.number = found.number
        scheduled.missed += found.missed
        self._due.put(scheduled.name, scheduled.beat.at(found.number))
        if found.fire:
            self.ticking.begin(scheduled, "interval", {"late_ms": found.late_ms, "missed": found.missed})
        else:
            log.info("missed: schedule=%s times=%d", scheduled.name, found.missed)
            self._facts.post(scheduled.name, scheduled.standing)


def _loop(*, enabled: bool) -> str:
    return "loop_enabled" if enabled else "loop_disabled"
