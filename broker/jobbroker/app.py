"""The whole broker: its tasks, the order in which they begin, and the order in which they end.

run
 +- store          writes groups                                              ends last, by `close`
 +- broker         admissions, and what must outlive a client
 |   +- supervision    one task a live shim; one a job without a channel       ends by hanging up: jobs run on
 +- timed          the one timer of all schedules; one task a runner at work     its ticks are cut: their jobs run on
 +- backend        its process, its stdio, its deadlines                         asked to end, with patience
 +- notify         pokes of adopted shims
 +- listener       accepts; one task a connection                              ends first, with a deadline
 +- signals, idle  lead to the end
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import trio
from msgspec import Struct

from jobbroker import recovery
from jobbroker.backend import Backend
from jobbroker.broker import About, Broker, Leaving
from jobbroker.clock import mono_ms, wall_ms
from jobbroker.connection import Connection
from jobbroker.core.job import timestamp
from jobbroker.core.profile import Profile
from jobbroker.core.table import Table
from jobbroker.jobdir import JobDirectories
from jobbroker.leftover import end_leftover
from jobbroker.listener import Listener, Peer
from jobbroker.lock import InstanceLock
from jobbroker.notify import NotifySocket
from jobbroker.requests import Surroundings
from jobbroker.runners import Here, builtins
from jobbroker.schedulefacts import ScheduleFacts
from jobbroker.scheduleview import as_tick
from jobbroker.settings import Settings
from jobbroker.store import Store
from jobbroker.systemd import Manager
from jobbroker.ticking import Jobs, Ticking
from jobbroker.ticklog import TickLog
from jobbroker.timed import Timed
from jobclient import paths
from jobclient.protocol import errors, jsonrpc, wire
from jobclient.version import __version__

FLUSH_SECONDS = 1.0
"""How long a client may take to read the notice that the broker ends."""

BACKEND_DIED = 1
"""The exit status of a broker whose backend has ended by itself."""
BACKEND_EXIT = "backend_exit"
"""That as a reason to leave."""

log = logging.getLogger("jobbroker.app")


class Setup(Struct, frozen=True):
    """What the broker starts with."""

    instance: str
    settings: Settings
    lock: InstanceLock
    around: Surroundings
    profile: Profile | None
    manager: Manager
    activated: socket.socket | None


async def run(setup: Setup) -> int:
    """Be the broker of an instance until something leads to its end; the exit status that end has.

    Raises:
        PathError, StoreUnavailable, NewerStore: a place or the store cannot be used; in groups, as everything comes
            that ends a nursery.
    """
    instance = setup.instance
    with _named(paths.jobs_dir(instance)):
        jobs = JobDirectories(paths.jobs_dir(instance))
    store, trouble = recovery.open_store(Path(paths.store_path(instance)))
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            if store.is_new:
                trouble = _tell(trouble, *await recovery.rebuild(store, jobs))
            with _named(paths.notify_path(instance)):
                notify = NotifySocket(paths.notify_path(instance))
            broker = _make_broker(setup, store, jobs, trouble)
            with closing(notify), closing(JobDirectories(paths.instance_dir(instance))) as places:
                await _serve(setup, broker, notify, places)
            nursery.cancel_scope.cancel()
        return BACKEND_DIED if broker.leaving is not None and broker.leaving.reason == BACKEND_EXIT else 0
    finally:
        await store.close()
        jobs.close()


def _tell(trouble: str | None, rebuilt: int, unreadable: int) -> str | None:
    """What is told of a store that was rebuilt; of a first start, nothing."""
    if trouble is None and rebuilt + unreadable:
        trouble = "there was no store; jobs were rebuilt from their records"
    left = f", but {unreadable} of them cannot be read and stay as they are" if unreadable else ""
    return trouble and trouble + left


def _make_broker(setup: Setup, store: Store, jobs: JobDirectories, trouble: str | None) -> Broker:
    now = wall_ms()
    about = About(
        instance=setup.instance,
        epoch=f"{now:x}",
        started_at=timestamp(now),
        started_mono_ms=mono_ms(),
        paths=wire.Places(
            socket=paths.socket_path(setup.instance) if setup.activated is None else setup.activated.getsockname(),
            state=paths.instance_dir(setup.instance),
            log=paths.log_path(setup.instance),
            settings=paths.config_path(),
        ),
    )
    table = Table(floor=store.last_number, counts=store.rows.counts(), is_stored=store.is_stored)
    broker = Broker(about=about, settings=setup.settings, store=store, jobs=jobs, table=table, around=setup.around)
    broker.timed = _make_timed(broker)
    if trouble is not None:
        broker.troubles.append(trouble)
        broker.removals.pruning = False
    return broker


def _make_timed(broker: Broker) -> Timed:
    instance = broker.about.instance
    here = Here(
        instance=instance,
        host=socket.gethostname(),
        log_dir=paths.timed_dir(instance),
        socket=broker.about.paths.socket,
    )
    facts = ScheduleFacts(broker.store)
    log_file = TickLog(here.log_dir, broker.settings.keep_timed_log_ms)
    ticking = Ticking(
        facts=facts,
        here=here,
        log_file=log_file,
        jobs=Jobs(broker.admit, broker.table, broker.history, broker.supervision),
        builtins=builtins(lambda policy: broker.through(lambda: broker.removals.clean(policy))),
        tell=lambda name, tick: broker.events.ticked(lambda: as_tick(name, tick)),
        leaving=broker.left.is_set,
    )
    return Timed(facts, ticking, log_file, here.controller, broker.stir)


async def _serve(setup: Setup, broker: Broker, notify: NotifySocket, places: JobDirectories) -> None:
    """From the adoption of what is there, to the last client's goodbye."""
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        nursery.start_soon(end_leftover, places)
        if setup.profile is not None:
            broker.backend = broker.turns.backend = _make_backend(setup, setup.profile, broker, places)
            await nursery.start(broker.backend.run)
        await nursery.start(_watch_signals, broker)
        broker.supervision.hear_pokes = notify.hear
        nursery.start_soon(notify.run, broker.supervision.poked)  # before any record is read: no news is missed
        live = broker.store.rows.live()
        names, last_number = broker.jobs.names(), broker.store.last_number
        broker.table.load(live)
        await recovery.adopt(broker, live)
        await nursery.start(broker.timed.run, broker.table.all_live())
        with _published(setup, broker) as listener:
            connections: set[Connection] = set()
            nursery.start_soon(_accept, listener, broker, connections)
            nursery.start_soon(_keep_house, broker, names, last_number)
            nursery.start_soon(_watch_idleness, broker)
            await setup.manager.insist("READY=1", f"MAINPID={os.getpid()}", f"STATUS={_how_it_is(broker)}")
            nursery.start_soon(setup.manager.keep_watched, lambda: _how_it_is(broker))
            await broker.left.wait()
            await _leave(broker, listener, connections, setup.manager)
        nursery.cancel_scope.cancel()


def _how_it_is(broker: Broker) -> str:
    """For the one line `systemctl status` has for it."""
    trouble = f", {len(broker.troubles)} troubles: jobctl broker status" if broker.troubles else ""
    return f"{broker.live} live jobs, {broker.connections} clients{trouble}"


def _make_backend(setup: Setup, profile: Profile, broker: Broker, places: JobDirectories) -> Backend:
    return Backend(
        profile,
        directories=places,
        channels=broker.supervision.channels,
        around=setup.around,
        turn_news=broker.turns.hear,
        dying=lambda: broker.leave(Leaving(BACKEND_EXIT)),
    )


@contextmanager
def _published(setup: Setup, broker: Broker) -> Generator[Listener]:
    """The socket, the pid file and the lock's text, for as long as clients are served."""
    place = broker.about.paths.socket
    with _named(place):
        listener = Listener(place, setup.activated)
    pid_file = paths.pid_path(setup.instance)
    try:
        with _named(pid_file):
            _say_where(setup.lock, place, pid_file)
        log.info("listening: socket=%s pid=%d version=%s", place, os.getpid(), __version__)
        yield listener
    finally:
        listener.close()
        with suppress(OSError):
            os.unlink(pid_file)


def _say_where(lock: InstanceLock, place: str, pid_file: str) -> None:
    """For whoever wants to know. Nobody decides by it, so a full disk is no reason not to serve."""
    try:
        lock.tell(pid=os.getpid(), socket=place, version=__version__)
        _write_pid(pid_file)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        log.warning("cannot say where we are: %s", exc)


@contextmanager
def _named(place: str) -> Generator[None]:
    """Name the place that a starting broker cannot use."""
    try:
        yield
    except OSError as exc:
        raise paths.PathError(f"{place} cannot be used: {(exc.strerror or str(exc)).lower()}") from exc


def _write_pid(path: str) -> None:
    """For people. Whatever stands in its place is replaced, and a link is not followed."""
    new = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, b"%d\n" % os.getpid())
    finally:
        os.close(descriptor)
    os.replace(new, path)


async def _accept(listener: Listener, broker: Broker, connections: set[Connection]) -> None:
    """Serve clients; a fault in one connection ends that one."""

    async def serve(client: socket.socket, peer: Peer) -> None:
        connection = Connection(broker, client, peer)
        connections.add(connection)
        broker.connections += 1
        broker.stir()
        try:
            await connection.run()
        except* Exception:
            log.exception("connection ended by a fault of ours: peer=%d", peer.pid)
        finally:
            connections.discard(connection)
            broker.connections -= 1
            broker.stir()

    await listener.run(serve, broker.settings.max_connections)


async def _leave(broker: Broker, listener: Listener, connections: set[Connection], manager: Manager) -> None:
    """In this order: nobody new, jobs ended if that is wanted, everything written, everybody told, then close."""
    how = broker.leaving or Leaving("unknown")
    log.info("leaving: reason=%s cancel_jobs=%s live=%d", how.reason, how.cancel_jobs, broker.table.live)
    listener.close()
    await broker.timed.stop()
    if how.cancel_jobs:
        manager.tell("STATUS=ending all jobs")
        await _cancel_jobs(broker, how)
    manager.tell("STOPPING=1", f"STATUS=leaving ({how.reason}), {broker.live} jobs run on")  # its patience begins
    death = await broker.backend.death() if broker.backend is not None and how.reason == BACKEND_EXIT else None
    lost = [snapshot.job.id for snapshot in broker.table.all_live() if snapshot.job.kind == "turn"]
    if broker.backend is not None:
        broker.backend.fail_all()
    await broker.timed.close()
    await _write_all(broker)
    notice = wire.BrokerShuttingDown(
        reason=how.reason,
        grace_ms=int(FLUSH_SECONDS * 1000),
        exit_code=death.code if death is not None else None,
        signal=death.signal if death is not None else None,
        lost_jobs=lost,
        stderr_tail=death.stderr_tail if death is not None else "",
    )
    message = jsonrpc.encode_notification("notifications/broker/shuttingDown", notice)
    with trio.move_on_after(FLUSH_SECONDS):
        async with trio.open_nursery() as nursery:
            for connection in connections:
                nursery.start_soon(connection.say_goodbye, message)
    if broker.backend is not None:
        await broker.backend.stop()


async def _write_all(broker: Broker) -> None:
    """What was accepted is answered as such. A store that cannot be written has said so long before."""
    with trio.move_on_after(FLUSH_SECONDS):
        await broker.turns.settled()
        try:
            await broker.store.commit()
        except errors.StoreUnavailable as exc:
            log.warning("leaving with a store that is behind: %s", exc)


async def _cancel_jobs(broker: Broker, how: Leaving) -> None:
    """End all jobs, all at once; what cannot be ended in time is named in the log and stays visible as live."""
    async with trio.open_nursery() as nursery:
        for snapshot in broker.table.all_live():
            nursery.start_soon(broker.endings.end_for_shutdown, snapshot, how.grace_ms)
    for snapshot in broker.table.all_live():
        log.warning("left behind: id=%s pid=%s", snapshot.job.id, snapshot.job.pid)


async def _keep_house(broker: Broker, names: list[str], last_number: int) -> None:
    """What need not be done before clients are served: sweep and count once, then prune after jobs have ended."""
    with _fault_is_no_end("sweeping"):
        if broker.removals.pruning:
            names = await recovery.sweep(broker, names, last_number)
    with _fault_is_no_end("counting"):
        await broker.budget.count(names)
    while True:
        with _fault_is_no_end("pruning"):
            await broker.removals.prune(broker.settings)
        with _fault_is_no_end("keeping within the limit of all output"):
            await broker.budget.enforce()
        await broker.overfull.wait()
        broker.overfull = trio.Event()


@contextmanager
def _fault_is_no_end(what: str) -> Generator[None]:
    """Housekeeping can wait for better times: a full disk, a damaged row."""
    try:
        yield
    except errors.JobBrokerError as exc:
        log.warning("%s put off: %s", what, exc)
    except Exception:
        log.exception("fault in %s", what)


async def _watch_signals(broker: Broker, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for number in received:
            broker.leave(Leaving(signal.Signals(number).name))


async def _watch_idleness(broker: Broker) -> None:
    """End a broker that nobody has needed for a while. No timer runs while somebody does."""
    limit = broker.settings.idle_exit_ms
    while limit and not broker.left.is_set():
        if broker.connections or broker.table.live or broker.timed.schedules:
            await broker.active.wait()
            continue
        with trio.move_on_after(limit / 1000):
            await broker.active.wait()
            continue
        broker.leave(Leaving("idle"))
