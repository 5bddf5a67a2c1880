"""What a starting broker finds: a store, perhaps damaged; jobs that run, that ended meanwhile, that still wait.

Every live row is held against its record before the first client is served, so that nobody ever sees a state older
than the kernel's. A lost store is made again from the heads and lines of the records.
"""

from __future__ import annotations

import logging
from pathlib import Path

import trio

from jobbroker.broker import Broker
from jobbroker.core import job as life
from jobbroker.core import record
from jobbroker.core.job import Snapshot, is_live
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
        store = Store.open(path)
        store.rows.counts()
        store.rows.live()
        return store, None
    except DamagedStore as exc:
        aside = quarantine(path)
        log.error("the store is damaged and was put aside: %s; %s", aside, exc)
        return Store.open(path), f"the store was damaged and is now {aside}; jobs were rebuilt from their records"


async def rebuild(store: Store, jobs: JobDirectories) -> int:
    """Fill an empty store from the records; how many jobs it has now."""
    found: list[Snapshot] = []
    for count, name in enumerate(jobs.names()):
        if count % GROUP == 0:
            await trio.lowlevel.checkpoint()
        try:
            reading = jobs.read(name)
            snapshot = restore(reading.head)
        except (OSError, record.DamagedRecord) as exc:
            log.error("no record of a job: %s: %s", name, exc)
            continue
        if snapshot.job.id == name:
            replay(snapshot, reading.lines)
            found.append(snapshot)
    found.sort(key=lambda snapshot: snapshot.job.number)
    await store.commit(put=found)
    return len(found)


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
        name = snapshot.job.id
        broker.supervision.attend(snapshot.job)
        broker.supervision.look(name)
        if is_live(snapshot.job):
            _resume_ending(broker, snapshot)
    broker.release()
    still = sum(is_live(snapshot.job) for snapshot in live)
    log.info("recovered: %d live jobs, %d ended meanwhile", still, len(live) - still)


def _resume_ending(broker: Broker, snapshot: Snapshot) -> None:
    """An end that was promised and not begun is asked for again; a job tied to its starter has lost it."""
    job = snapshot.job
    if snapshot.asked is not None and snapshot.ending is None and job.status != "queued":
        broker.supervision.ask(job.id, snapshot.asked, snapshot.asked_grace_ms)
    elif snapshot.asked is not None:
        broker.cancel_soon(job.id, snapshot.asked)
    elif snapshot.on_disconnect == "cancel":
        broker.cancel_soon(job.id, "disconnect")


async def sweep(broker: Broker, names: list[str]) -> None:
    """Remove the directories of jobs that were never promised: their record came before their row, and the row never.

    Only such: one that has begun without a row is a row that the machine lost, and is taken back.
    """
    for count, name in enumerate(names):
        if count % GROUP == 0:
            await trio.lowlevel.checkpoint()
        if broker.knows(name):
            continue
        try:
            reading = broker.jobs.read(name)
            begun = bool(reading.lines) or reading.locked
            if not begun:
                broker.jobs.remove(name)
                log.info("removed, never promised: id=%s", name)
        except record.DamagedRecord:
            broker.jobs.remove(name)
            log.info("removed, cut short and never promised: id=%s", name)
        except OSError as exc:
            log.warning("left alone: %s: %s", name, exc)
