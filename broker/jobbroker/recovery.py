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
    found.sort(key=lambda snapshot: (snapshot.job.number, snapshot.job.created_at))
    tell_apart(found)
    await store.commit(put=found)
    return len(found), unreadable


def tell_apart(found: list[Snapshot]) -> None:
    """See that no number and no key is there twice: jobs that were taken back keep what is theirs in their records."""
    numbers: set[int] = set()
    keys: set[str] = set()
    highest = max((snapshot.job.number for snapshot in found), default=0)
    for snapshot in found:
        if snapshot.job.number in numbers:
            highest += 1
            snapshot.job.number = highest
        numbers.add(snapshot.job.number)
        if snapshot.key in keys:
            snapshot.key = None
        elif snapshot.key is not None:
            keys.add(snapshot.key)


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
        _adopt(broker, snapshot)
    await _end_turns(broker, live)
    await _end_the_tied(broker, live)
    broker.release()
    still = sum(is_live(snapshot.job) for snapshot in live)
    log.info("recovered: %d live jobs, %d ended meanwhile", still, len(live) - still)


async def _end_turns(broker: Broker, live: list[Snapshot]) -> None:
    """A turn ended with the backend it ran on, which ended with its broker. One that only waited waits on."""
    lost = [snapshot for snapshot in live if snapshot.job.kind == "turn" and _has_begun(broker, snapshot)]
    for snapshot in lost:
        broker.turns.lose(snapshot)
    await broker.turns.settled()


def _has_begun(broker: Broker, snapshot: Snapshot) -> bool:
    """Whether a turn may have begun: its record says so before its request is sent."""
    if snapshot.job.status != "queued":
        return True
    try:
        return bool(broker.jobs.read(snapshot.job.id).lines)
    except (OSError, record.DamagedRecord):
        return True


def _adopt(broker: Broker, snapshot: Snapshot) -> None:
    attendance = broker.supervision.live.attend(snapshot.job)
    if snapshot.asked is not None:  # promised; the shim that had begun it needs no second word
        attendance.asked = (snapshot.asked, snapshot.asked_grace_ms)
        attendance.delivered = snapshot.ending is not None
    if snapshot.job.kind == "turn":
        return
    broker.supervision.look(snapshot.job.id)
    if snapshot.job.status == "queued" and attendance.is_blank:
        broker.supervision.live.expect(snapshot.job)  # nothing was found out about it that is worth the room
    if attendance.claim is not None and broker.jobs.input_ended(snapshot.job.id):
        inflow.end(broker.jobs, snapshot.job.id, attendance.claim)  # it may not have heard of it


async def _end_the_tied(broker: Broker, live: list[Snapshot]) -> None:
    """A job tied to its starter has lost it with the daemon both were connected to. If it waits, it never runs."""
    async with trio.open_nursery() as nursery:
        for snapshot in live:
            if snapshot.on_disconnect == "cancel" and snapshot.asked is None and is_live(snapshot.job):
                nursery.start_soon(broker.endings.cancel_quietly, snapshot, "disconnect")


async def sweep(broker: Broker, names: list[str], last_number: int) -> list[str]:
    """See to the directories of jobs that have no row.

    Where the record came before the row, and the row never, the job was never promised to anybody, and goes. One that
    has begun is a job all the same, whatever became of its row (a store that was restored from a copy, say): its record
    proves it, and it is taken back. Anything else is left alone.

    Args:
        broker: takes them back.
        names: the directories there were at the start.
        last_number: the highest number given until then; a higher one may belong to a new job by now.

    Returns:
        The names of those that are jobs.
    """
    known: list[str] = []
    begun: list[Snapshot] = []
    for count, name in enumerate(names):
        if count % GROUP == 0:
            await trio.lowlevel.checkpoint()
        if not is_id(name):
            continue
        if broker.knows(name):
            known.append(name)
            continue
        try:
            begun += _judge(broker.jobs, name)
        except (OSError, record.DamagedRecord) as exc:
            log.warning("left alone: %s: %s", name, exc)
    begun.sort(key=lambda snapshot: snapshot.job.number)
    for snapshot in begun:
        if snapshot.job.number > last_number:
            snapshot.job.number = 0
        await broker.take_back(snapshot)
        if is_live(snapshot.job):
            _adopt(broker, snapshot)
        known.append(snapshot.job.id)
    return known


def _judge(jobs: JobDirectories, name: str) -> list[Snapshot]:
    """Of a directory without a row: the job, if it has begun; one that was never promised is removed."""
    try:
        reading = jobs.read(name)
    except (record.DamagedRecord, FileNotFoundError):  # not even its record was finished
        if jobs.holds_at_most(name, "record", "input"):
            _remove(jobs, name)
        return []
    if reading.lines:
        snapshot = restore(reading.head)
        if snapshot.job.id != name:
            raise record.DamagedRecord("this is the record of another job")
        replay(snapshot, reading.lines)
        return [snapshot]
    if not reading.locked:
        _remove(jobs, name)
    return []


def _remove(jobs: JobDirectories, name: str) -> None:
    jobs.remove(name)
    log.info("removed, never promised: id=%s", name)
