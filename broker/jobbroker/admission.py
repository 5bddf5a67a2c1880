"""Take in jobs: checked and numbered at once, promised with the commit. Record head, then row, then answer.

Requests that come together are committed together, so a thousand starts in one message cost one group of writes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import trio

from jobbroker.clock import wall_ms
from jobbroker.core import reference
from jobbroker.core.job import Snapshot
from jobbroker.core.table import Table
from jobbroker.jobdir import JobDirectories
from jobbroker.requests import ForTick, Surroundings, build, digest
from jobbroker.settings import Settings
from jobbroker.store import Store
from jobbroker.supervision import Supervision
from jobclient.protocol import errors, wire

log = logging.getLogger("jobbroker.jobs")


class Admission:
    """A job on its way into the store; several requests with one key may wait for the same one.

    Attributes:
        settled: set once the job is committed, or cannot be, which is the `failure`.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.settled = trio.Event()
        self.failure: errors.StoreUnavailable | None = None


class Admissions:
    """The way in.

    Attributes:
        under_way: jobs admitted and not committed yet.
        around: what a job gets where its request says nothing.
    """

    def __init__(
        self,
        store: Store,
        jobs: JobDirectories,
        table: Table,
        supervision: Supervision,
        settings: Settings,
        around: Surroundings,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._table = table
        self._supervision = supervision
        self._settings = settings
        self.around = around
        self._admitted: list[Admission] = []
        self._by_key: dict[str, Admission] = {}
        self._arrived = trio.Event()
        self.under_way = 0

    def admit(
        self, params: wire.StartParams, origin: wire.Origin, tick: ForTick | None = None
    ) -> tuple[Admission | Snapshot, bool]:
        """Check a request, give it a number, write its record; or find the job its idempotency key has.

        Returns:
            The admission to wait for, or the job there is; and whether this request made it.

        Raises:
            InvalidParams: the request cannot be carried out as it stands.
            StoreUnavailable: nothing can be promised now.
        """
        if params.idempotency_key is not None:
            known = self._find_key(params, params.idempotency_key)
            if known is not None:
                return known, False
        if self._store.degraded is not None:
            raise errors.StoreUnavailable(f"no new jobs while the store cannot be written: {self._store.degraded}")
        head, snapshot, reads = build(
            params,
            identity=self._new_id(),
            number=self._store.last_number + 1,
            now=wall_ms(),
            origin=origin,
            settings=self._settings,
            around=self.around,
            tick=tick,
        )
        try:
            self._jobs.create(head, reads)
        except OSError as exc:
            text = f"the job's record cannot be written: {exc.strerror or exc}"
            raise errors.StoreUnavailable(f"{text}; make room in {self._jobs.path}") from exc
        self._store.take_number()
        self._supervision.live.expect(snapshot.job)
        admission = Admission(snapshot)
        if snapshot.key is not None:
            self._by_key[snapshot.key] = admission
        self._admitted.append(admission)
        self.under_way += 1
        self._arrived.set()
        return admission, True

    def _find_key(self, params: wire.StartParams, key: str) -> Admission | Snapshot | None:
        admission = self._by_key.get(key)
        known = admission.snapshot if admission is not None else self._table.by_key(key) or self._store.rows.by_key(key)
        if known is not None and known.digest != digest(params):
            raise errors.InvalidParams(f"`idempotencyKey` {key!r} was used for another request (job {known.job.id})")
        return admission or known

    def has_key(self, key: str) -> bool:
        """Whether a job has that key, or one that is being admitted."""
        return bool(self._by_key.get(key) or self._table.by_key(key) or self._store.rows.by_key(key))

    def _new_id(self) -> str:
        while True:
            identity = reference.new_id(os.urandom(reference.RANDOM_BYTES))
            if not self._jobs.exists(identity):
                return identity

    async def run(self, accept: Callable[[Snapshot], None], accepted_all: Callable[[], None]) -> None:
        """Commit what was admitted, in groups; `accept` each job that is, and say when the group is through."""
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            group, self._admitted = self._admitted, []
            failure: errors.StoreUnavailable | None = None
            try:
                await self._store.commit(put=[admission.snapshot for admission in group])
            except errors.StoreUnavailable as exc:
                failure = exc
            self.under_way -= len(group)
            for admission in group:
                self._by_key.pop(admission.snapshot.key or "", None)
                if failure is None:
                    accept(admission.snapshot)
                else:
                    self._give_up(admission, failure)
            accepted_all()
            for admission in group:
                admission.settled.set()

    def _give_up(self, admission: Admission, failure: errors.StoreUnavailable) -> None:
        admission.failure = failure
        name = admission.snapshot.job.id
        self._supervision.live.leave(name)
        try:
            self._jobs.remove(name)
        except OSError as exc:
            log.warning("left behind: id=%s error=%s", name, exc)
