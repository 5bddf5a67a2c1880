"""What a starting broker finds: a store, perhaps damaged; jobs that run, that ended meanwhile, that still wait.

Every live row is held against its record before the first client is served, so that nobody ever sees a state older
than the kernel's. A lost store is made again from the heads and lines of the records.
"""

from __future__ import annotations

import logging
from pathlib import Path

import trio

from jobbroker import inflow
from jobbroker.broker import Broker
from jobbroker.core import job as life, record
from jobbroker.core.job import Snapshot, is_live
from jobbroker.core.reference import is_id
from jobbroker.jobdir import JobDirectories
from jobbroker.lines import event_of
from jobbroker.requests import restore
from jobbroker.store import DamagedStore, Store, quarantine

GROUP = 200
"""Jobs looked at between two chances for everything else."""

log = logging.getLogger("jobbroker.recovery")


def open_store(path: Path) -> tuple[Store, str | None]:
    """The store, and what happened to the one that was there, if it had to be put aside."""
    try:
        return _open_readable(path), None
    except DamagedStore as exc:
        aside = quarantine(path)
        log.error("the store is damaged and was put aside: %s; %s", aside, exc)
        return Store.open(path), f"the store was damaged and is now {aside}; jobs were rebuilt from their records"


def _open_readable(path: Path) -> Store:
    """The store, once what will be read of it first was read."""
    store = Store.open(path)
    try:
        store.rows.counts()
        store.rows.live()
    except BaseException:
        store.abandon()  # before it is put aside: an open one would take the next one's log with it when it is closed
        raise
    return store


async def rebuild(store: Store, jobs: JobDirectories) -> tuple[int, int]:
    """Fill an empty store from the records; how many jobs it has now, and how many records cannot be read."""
    found: list[Snapshot] = []
    unreadable = 0
    for count, name in enumerate(jobs.names()):
        if count % GROUP == 0:
            await trio.lowlevel.checkpoint()
        try:
            reading = jobs.read(name)
            snapshot = restore(reading.head)
        except (OSError, record.DamagedRecord) as exc:
            log.error("no record of a job: %s: %s", name, exc)
            unreadable += 1
            continue
        if snapshot.job.id == name:
            replay(snapshot, reading.lines)
            found.append(snapshot)
    found.sort(key=lambda snapshot: snapshot.job.number)
    await store.commit(put=found)
    return len(found), unreadable


def replay(snapshot: Snapshot, lines: list[record.Line]) -> None:
    """Let the lines of a record act on its job."""
    for line in lines:
        event = event_of(line, snapshot.job)
        if event is not None:
            try:
                life.apply(snapshot, event)
            except life.IllegalTransition as exc:
                log.error("illegal line in a record: %s", exc)


async def adopt(broker: Broker, live: list[Snapshot]) -> None:
    """Take over every live job, wherever it stands; then let those that wait start."""
    for count, snapshot in enumerate(live):
        if count % GROUP == 0:
            await trio.lowlevel.checkpoint()
        attendance = broker.supervision.attend(snapshot.job)
        if snapshot.asked is not None:  # promised; the shim that had begun it needs no second word
            attendance.asked = (snapshot.asked, snapshot.asked_grace_ms)
            attendance.delivered = snapshot.ending is not None
        broker.supervision.look(snapshot.job.id)
        if attendance.claim is not None and broker.jobs.input_ended(snapshot.job.id):
            inflow.end(broker.jobs, snapshot.job.id, attendance.claim)  # it may not have heard of it
    await _end_the_tied(broker, live)
    broker.release()
    still = sum(is_live(snapshot.job) for snapshot in live)
    log.info("recovered: %d live jobs, %d ended meanwhile", still, len(live) - still)


async def _end_the_tied(broker: Broker, live: list[Snapshot]) -> None:
    """A job tied to its starter has lost it with the daemon both were connected to. If it waits, it never runs."""
    async with trio.open_nursery() as nursery:
        for snapshot in live:
            if snapshot.on_disconnect == "cancel" and snapshot.asked is None and is_live(snapshot.job):
                nursery.start_soon(broker.endings.cancel_quietly, snapshot, "disconnect")


async def sweep(broker: Broker, names: list[str]) -> list[str]:
    """Remove the directories of jobs that were never promised: their record came before their row, and the row never.

    Only such: one that has begun without a row stays, for whoever wants to know what it was.

    Returns:
        The names of those that are jobs.
    """
    known: list[str] = []
    for count, name in enumerate(names):
        if count % GROUP == 0:
            await trio.lowlevel.checkpoint()
        if not is_id(name):
            continue
        if broker.knows(name):
            known.append(name)
            continue
        try:
            if _was_never_promised(broker.jobs, name):
                broker.jobs.remove(name)
                log.info("removed, never promised: id=%s", name)
        except OSError as exc:
            log.warning("left alone: %s: %s", name, exc)
    return known


def _was_never_promised(jobs: JobDirectories, name: str) -> bool:
    """Of a job without a row: whether it has not begun, or not even its record was finished."""
    try:
        reading = jobs.read(name)
    except (record.DamagedRecord, FileNotFoundError):
        return jobs.holds_at_most(name, "record", "input")
    return not reading.lines and not reading.locked
