"""End jobs: promise it, bring it about, confirm it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import trio

from jobbroker.attendance import Attendance
from jobbroker.clock import wall_ms
from jobbroker.core import job as life
from jobbroker.core.job import Snapshot, is_live, is_terminal
from jobbroker.core.ladder import KILL_PATIENCE_MS
from jobbroker.store import Store
from jobbroker.supervision import Supervision
from jobclient.protocol import errors, wire

CONFIRM_MARGIN_MS = 5000
"""How much longer than the ladder may take a confirmation is waited for."""

log = logging.getLogger("jobbroker.jobs")


class Endings:
    """The ways a job is ended from outside."""

    def __init__(self, store: Store, supervision: Supervision, apply: Callable[[str, life.Event], None]) -> None:
        self._store = store
        self._supervision = supervision
        self._apply = apply

    async def cancel(self, snapshot: Snapshot, reason: wire.Reason, grace_ms: int | None) -> Attendance | None:
        """Ask for the end of a job, committed before anything is signalled.

        Returns:
            How to hear of the end; None if the job had ended before.
        """
        job = snapshot.job
        attendance = self._supervision.live.get(job.id)
        if attendance is None or is_terminal(job):
            return None
        if job.status == "queued" and attendance.turn is None and self._withdraw(job.id, reason):
            self._apply(job.id, life.NeverRan(reason, wall_ms()))
            return attendance
        grace = job.grace_ms if grace_ms is None else grace_ms
        asked = life.EndAsked(reason, grace)
        await self._promise(snapshot, asked)
        self._apply(job.id, asked)
        if is_live(job):
            self._supervision.ask(job.id, reason, grace)
        return attendance

    async def _promise(self, snapshot: Snapshot, event: life.Event) -> None:
        """Commit what an event will make of a job, before anybody can see it.

        If that cannot be written now, the end of the job is still brought about: it may be what fills the disk.
        """
        promised = msgspec.structs.replace(snapshot, job=msgspec.structs.replace(snapshot.job))
        life.apply(promised, event)
        try:
            await self._store.commit(put=[promised])
        except errors.StoreUnavailable as exc:
            log.warning("not committed: id=%s event=%s error=%s", snapshot.job.id, type(event).__name__, exc)

    def _withdraw(self, name: str, reason: wire.Reason) -> bool:
        try:
            return self._supervision.withdraw(name, reason)
        except (OSError, ValueError) as exc:
            log.warning("cannot withdraw: id=%s error=%s", name, exc)
            return False

    async def confirm(self, snapshot: Snapshot, attendance: Attendance, grace_ms: int | None) -> None:
        """Wait until everything of a cancelled job is dead.

        Raises:
            NotDelivered: it is not, in time.
        """
        grace = snapshot.job.grace_ms if grace_ms is None else grace_ms
        with trio.move_on_after((grace + KILL_PATIENCE_MS + CONFIRM_MARGIN_MS) / 1000):
            await attendance.ended.wait()
        if is_live(snapshot.job):
            raise errors.NotDelivered(
                f"{snapshot.job.id} was told to end, but has not: it may belong to another user, or hang in the kernel",
                {"status": snapshot.job.status, "pid": snapshot.job.pid},
            )

    async def cancel_quietly(self, snapshot: Snapshot, reason: wire.Reason) -> None:
        """Cancel a job that nobody waits for."""
        try:
            await self.cancel(snapshot, reason, None)
        except Exception:
            log.exception("cannot cancel: id=%s", snapshot.job.id)

    async def end_for_shutdown(self, snapshot: Snapshot, grace_ms: int | None) -> None:
        """Cancel a job because the broker ends, and wait for it as long as that may take."""
        try:
            attendance = await self.cancel(snapshot, "shutdown", grace_ms)
            if attendance is not None:
                await self.confirm(snapshot, attendance, grace_ms)
        except errors.RemoteError as exc:
            log.warning("cannot end: id=%s error=%s", snapshot.job.id, exc)
        except Exception:
            log.exception("cannot end: id=%s", snapshot.job.id)
