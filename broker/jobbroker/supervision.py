"""Who watches a live job, and how what happens to it becomes an event in its life.

A job is watched through the channel of the shim it was handed to; after a restart of the daemon, through the pidfd of
the shim that has it; and if that shim was killed, through the pidfd of the job itself. Whatever ends the watching, the
record is read and its verdict taken: that, and never a guess, is what is reported.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

import trio

from jobbroker.attendance import Attendance
from jobbroker.channels import Channels
from jobbroker.clock import wall_ms
from jobbroker.core import job, record
from jobbroker.descriptors import SHORTAGES
from jobbroker.identity import boot_id, open_checked, send_signal
from jobbroker.jobdir import JobDirectories, Reading
from jobbroker.lines import event_of, killed, reason_of, survivors
from jobbroker.live import LiveJobs
from jobbroker.orphan import Orphan, by_mark, by_record, is_over
from jobbroker.processes import NoShim, Shim
from jobbroker.signals import SIGTERM
from jobbroker.volatile import VolatileOutputs
from jobclient.protocol.wire import Reason

MAX_HANDOVERS = 3
"""Shims a job is offered to before it is given up: each of them died before it claimed it."""
UNSURE_SECONDS = 0.01
"""Before a record that is claimed but does not say by whom yet is read again."""
RETRY_SECONDS = 0.5
"""Before something that could not be done for want of a descriptor, memory or disk is tried again."""
_GONE = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.EACCES, errno.EPERM)
)  # of a record: waiting brings it back no more; anything else is trouble of ours, and says nothing of the job

log = logging.getLogger("jobbroker.jobs")


class Supervision:
    """Those who watch the live jobs. Reports what happens, in order, by id and event.

    Attributes:
        live: the jobs.
        channels: the shims that are ours.
        hear_pokes: calls what it is given with the id of each adopted shim that has said something by now.
    """

    def __init__(
        self,
        jobs: JobDirectories,
        volatile: VolatileOutputs,
        report: Callable[[str, job.Event], None],
        requeue: Callable[[str], None],
    ) -> None:
        self._jobs = jobs
        self._volatile = volatile
        self._report = report
        self._requeue = requeue
        self._boot = boot_id()
        self.channels = Channels(self)
        self.live = LiveJobs()
        self.hear_pokes: Callable[[Callable[[str], None]], None] = lambda _: None
        self._nursery: trio.Nursery

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Own the tasks that watch: one for each shim, one for each job without; ends when it is cancelled."""
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self.channels.run)
            task_status.started()

    # --- handing over -----------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Hand a committed job to a shim, if it is live; reports a failure to find one."""
        attendance = self.live.get(name)
        if attendance is None:
            return
        try:
            with self._jobs.opened(name) as directory:
                attendance.shim = self.channels.offer(name, directory)
            attendance.handovers += 1
        except NoShim as exc:
            self._give_up(attendance, f"shim: {exc}")
        except OSError as exc:
            if exc.errno in SHORTAGES:
                log.warning("cannot start yet: id=%s error=%s", name, exc)
                self._look_later(attendance)
            else:
                self._give_up(attendance, f"record: {exc.strerror or exc}")

    def withdraw(self, name: str, reason: Reason) -> bool:
        """Decide that a job shall never run; False if a shim has claimed it."""
        return self._jobs.withdraw(name, reason.encode(), wall_ms())

    def _give_up(self, attendance: Attendance, error: str) -> None:
        """No shim takes it: it shall never run, and its record says so before anybody is told."""
        name = attendance.job.id
        try:
            withdrawn = self.withdraw(name, "spawn")
        except (OSError, record.DamagedRecord):
            withdrawn = True  # without a record nobody can run it
        if withdrawn:
            self._report(name, job.SpawnFailed(error, wall_ms()))
        else:
            self.look(name)

    # --- what shims say ---------------------------------------------------------------------------------------------

    def say(self, name: str, shim: Shim, lines: list[record.Line]) -> None:
        """A shim has taken steps with a job; after the last one it has the job no more."""
        attendance = self.live.get(name)
        if attendance is None:
            return
        if shim.job is None:
            attendance.shim = None
        for line in lines:
            self._report_line(attendance, line)

    def keep(self, name: str, descriptors: list[int]) -> None:
        """A shim has passed on the files of a job whose output is in memory only."""
        self._volatile.take(name, descriptors)

    def refuse(self, name: str) -> None:
        """A shim cannot have a job: its record tells why."""
        attendance = self.live.get(name)
        if attendance is not None:
            attendance.shim = None
            self.look(name)

    def vanish(self, name: str, shim: Shim) -> None:
        """A shim is gone, and had a job."""
        attendance = self.live.get(name)
        if attendance is not None and attendance.shim is shim:
            attendance.shim = None
            if shim.retired:  # it was on its way out when it was given the job, which is no reason to give the job up
                attendance.handovers -= 1
            self.look(name)

    def see(self, name: str) -> None:
        """Take from /proc whether a job stands still, where its record does not say: it is full, or has no shim."""
        attendance = self.live.get(name)
        stopped = None if attendance is None else attendance.see()
        if stopped is not None:
            self._report(name, job.Stopped(wall_ms()) if stopped else job.Continued())

    def fail(self, name: str) -> None:
        """A fault of ours kept a message from being heard: the record holds what it said."""
        attendance = self.live.get(name)
        if attendance is not None:
            self._look_later(attendance)

    def _report_line(self, attendance: Attendance, line: record.Line) -> None:
        attendance.heard += 1
        if line.letter == b"A":
            attendance.claim = line
            self._volatile.adopt(attendance.job.id, line)
            self._deliver(attendance)
        elif line.letter == b"S":
            attendance.started = line
        elif line.letter == b"X":
            attendance.survivors = survivors(line)
            attendance.killed = killed(line)
        event = event_of(line, attendance.job)
        if event is not None:
            self._report(attendance.job.id, event)

    # --- by the record ----------------------------------------------------------------------------------------------

    def look(self, name: str) -> None:
        """Read a job's record and act on its verdict: whoever had the job is gone, or has news, or may be either."""
        attendance = self.live.get(name)
        if attendance is None:
            return
        try:
            reading = self._jobs.read(name)
        except record.DamagedRecord as exc:
            self._care_without_record(attendance, f"its record is damaged: {exc}")
        except OSError as exc:
            if exc.errno in _GONE:
                self._care_without_record(attendance, f"its record is gone: {exc.strerror}")
            else:
                log.warning("record not read, trying again: id=%s error=%s", name, exc)
                self._look_later(attendance)
        else:
            self._judge_safely(attendance, reading)

    def _look_later(self, attendance: Attendance) -> None:
        if not attendance.retrying:
            attendance.retrying = True
            self._nursery.start_soon(self._look_again, attendance)

    async def _look_again(self, attendance: Attendance) -> None:
        await trio.sleep(RETRY_SECONDS)
        attendance.retrying = False
        if not attendance.ended.is_set():
            self._deliver(attendance)
            self.look(attendance.job.id)

    def _judge_safely(self, attendance: Attendance, reading: Reading) -> None:
        """A fault of ours in it must not end the watch over everything else, nor leave this job unwatched."""
        try:
            self._judge(attendance, reading)
        except Exception:
            log.exception("fault in watching: id=%s", attendance.job.id)
            self._look_later(attendance)

    def _judge(self, attendance: Attendance, reading: Reading) -> None:
        for line in reading.lines[attendance.heard :]:
            self._report_line(attendance, line)
        name = attendance.job.id
        match record.verdict(reading.lines, locked=reading.locked, boot=self._boot):
            case record.LIVE:
                self._adopt(attendance)
                if not record.tells_of_stops(reading.lines):
                    self.see(name)
            case record.ORPHANED:
                self._care_for_orphan(attendance, reading)
            case record.UNBEGUN:
                self._offer_again(attendance)
            case record.UNKNOWN:
                self._lose(name, "its shim was killed while starting it; it may have run")
            case record.REBOOTED:
                self._lose(name, "the machine was restarted while it ran")
            case _:  # it ended, and its lines have said so
                if not attendance.ended.is_set():
                    self._lose(name, "its record contradicts itself")

    def _lose(self, name: str, error: str) -> None:
        self._report(name, job.Lost(error, wall_ms()))

    def _offer_again(self, attendance: Attendance) -> None:
        """Nobody has begun it. It is offered again, unless its end was asked for meanwhile."""
        name = attendance.job.id
        if attendance.asked is not None and self.withdraw(name, attendance.asked[0]):
            self._report(name, job.NeverRan(attendance.asked[0], wall_ms()))
        elif attendance.handovers >= MAX_HANDOVERS:
            self._give_up(attendance, f"shim: {attendance.handovers} shims ended before they could take the job")
        else:
            self._requeue(name)

    def _adopt(self, attendance: Attendance) -> None:
        """A shim that is not ours has the job: watch it through its pidfd; its pokes tell what happens meanwhile."""
        if attendance.watched:
            return
        claim = attendance.claim
        handle = open_checked(claim.number(0), claim.number(1)) if claim is not None else None
        self._nursery.start_soon(self._follow, attendance, *attendance.watch(handle))

    async def _follow(self, attendance: Attendance, handle: int | None, scope: trio.CancelScope) -> None:
        """Until the shim is gone, then look again. One that is not known yet, or is just going, is asked for soon."""
        try:
            with scope:
                if handle is not None:
                    await trio.lowlevel.wait_readable(handle)
                else:
                    await trio.sleep(UNSURE_SECONDS)
        finally:
            attendance.unwatch(handle, scope)
        if not scope.cancelled_caught:
            self.look(attendance.job.id)

    def _care_for_orphan(self, attendance: Attendance, reading: Reading) -> None:
        """Its shim was killed and it may still run: until it ends, hold its limits ourselves."""
        if attendance.orphan is not None:
            return
        found = by_record(reading.lines, attendance.job)
        if found is None:
            self._lose(attendance.job.id, "its shim was killed and it ended unseen")
            return
        begun = record.last(reading.lines, b"L")
        if attendance.asked is None and begun is not None:  # its shim was ending it
            attendance.asked = (reason_of(begun), attendance.job.grace_ms)
        self._attend(attendance, found, "shim killed")

    def _care_without_record(self, attendance: Attendance, why: str) -> None:
        """There is no record to judge by. If its process is still there, it runs, and is watched until it ends."""
        if attendance.watched or attendance.orphan is not None:
            return  # by whom the record named when it could be read
        found = by_mark(attendance.job, why)
        if found is None:
            self._lose(attendance.job.id, f"{why}; whether it ran, or still runs, is not known")
        else:
            self._attend(attendance, found, "no record")

    def _attend(self, attendance: Attendance, found: Orphan, missing: str) -> None:
        log.warning("%s, job watched without it: id=%s pid=%d", missing, attendance.job.id, found.pid)
        attendance.orphan = found
        attendance.delivered = False
        self._deliver(attendance)
        self.see(attendance.job.id)
        _, scope = attendance.watch(found.pidfd)
        self._nursery.start_soon(self._attend_orphan, attendance, found, scope)

    async def _attend_orphan(self, attendance: Attendance, orphan: Orphan, scope: trio.CancelScope) -> None:
        name = attendance.job.id
        try:
            with scope:
                await orphan.run(lambda reason: self._report(name, job.EndBegun(reason)))
                attendance.killed = len(orphan.killed)
                self._lose(name, orphan.epitaph)
        except Exception:
            log.exception("fault in watching without a shim: id=%s", name)
            attendance.orphan = None
            self._look_later(attendance)
        finally:
            attendance.unwatch(orphan.pidfd, scope)

    # --- asking and asking after ------------------------------------------------------------------------------------

    def ask(self, name: str, reason: Reason, grace_ms: int) -> None:
        """Ask whoever has the job to end it; the request is committed by now. Kept until somebody has claimed it."""
        attendance = self.live.get(name)
        if attendance is not None:
            attendance.asked = (reason, grace_ms)
            attendance.delivered = False
            self._deliver(attendance)

    def _deliver(self, attendance: Attendance) -> None:
        if attendance.asked is None or attendance.delivered:
            return
        reason, grace_ms = attendance.asked
        if attendance.turn is not None:
            attendance.turn(reason, grace_ms)
            attendance.delivered = True
        elif attendance.orphan is not None:
            attendance.orphan.ask(reason, grace_ms)
            attendance.delivered = True
        elif attendance.claim is not None:
            try:
                attendance.delivered = self._tell_shim(attendance.job.id, attendance.claim, reason, grace_ms)
            except OSError as exc:
                log.warning("cannot ask for the end, trying again: id=%s error=%s", attendance.job.id, exc)
                self._look_later(attendance)

    def _tell_shim(self, name: str, claim: record.Line, reason: Reason, grace_ms: int) -> bool:
        """Leave word and wake the shim; False if it is gone, whose end leads to the next step."""
        self._jobs.ask(name, reason, grace_ms)
        handle = open_checked(claim.number(0), claim.number(1))
        if handle is None:
            return False
        try:
            return send_signal(handle, SIGTERM)
        finally:
            os.close(handle)

    def poked(self, name: str) -> None:
        """An adopted shim says that its record has news."""
        attendance = self.live.get(name)
        if attendance is not None and attendance.shim is None and attendance.watched:
            self.look(name)

    def reconcile(self) -> None:
        """Take in what has happened already but waits in a socket: nothing read next is older than that."""
        self.channels.hear_all()
        self.hear_pokes(self.poked)
        for attendance in [each for each in self.live.attended if each.shim is None and each.pidfd is not None]:
            if attendance.pidfd is not None and is_over(attendance.pidfd):
                self._settle(attendance)
            elif attendance.orphan is not None:
                self.see(attendance.job.id)

    def _settle(self, attendance: Attendance) -> None:
        """What a pidfd was watched for has happened, and its task has not run yet."""
        if attendance.orphan is None:
            attendance.drop_watch()
            self.look(attendance.job.id)
        elif not attendance.orphan.ending:  # else what it left behind is just being killed
            self._lose(attendance.job.id, attendance.orphan.epitaph)
