"""`job/*`: cancel, signal, pause and resume what runs, and see what it consists of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from jobbroker import pausing
from jobbroker.attendance import Attendance
from jobbroker.census import groups, processes
from jobbroker.core.job import Snapshot
from jobbroker.methods.call import Call, Method, Pending
from jobbroker.signalling import deliver, ends, number_of
from jobclient.protocol import errors, wire

Turn = Callable[[Call, Snapshot, Attendance, pausing.Root], Awaitable[None]]
NEWS_SECONDS = 2.0
"""How long the kernel's word may take that a job stands still or goes on, once all its processes do."""


def cancel(call: Call, params: wire.CancelParams) -> Pending:
    """End a job; by default answer only when everything of it is dead."""
    snapshot = call.broker.find(params.id)
    return Pending(_cancel(call, snapshot, params))


async def _cancel(call: Call, snapshot: Snapshot, params: wire.CancelParams) -> wire.Cancelled:
    broker = call.broker
    attendance = await broker.through(lambda: broker.endings.cancel(snapshot, "user", params.grace_ms))
    if attendance is None:
        return wire.Cancelled(job=snapshot.job, changed=False, survivors=[])
    if params.confirm is not False:
        await broker.endings.confirm(snapshot, attendance, params.grace_ms)
    job = broker.view(snapshot)
    return wire.Cancelled(job=job, changed=True, survivors=attendance.survivors, killed=attendance.killed)


def signal(call: Call, params: wire.SignalParams) -> wire.OneJob | Pending:
    """Send a signal to a running job. One that ends a stopped job lets it go on, or it would never get it."""
    number = number_of(params.signal)
    snapshot = call.broker.find(params.id)
    attendance = _running(call, snapshot, "there is no process to signal")
    deliver(attendance, number, params.target or "group")
    if snapshot.job.status == "stopped" and ends(number):
        return Pending(_let_go_on(call, snapshot, attendance))
    return wire.OneJob(job=call.broker.view(snapshot))


async def _let_go_on(call: Call, snapshot: Snapshot, attendance: Attendance) -> wire.OneJob:
    async def let_go_on() -> None:
        root = attendance.root
        if root is not None:
            async with attendance.turning:
                await pausing.go_on(root)

    await call.broker.through(let_go_on)
    await _news(attendance, lambda: snapshot.job.status != "stopped")
    return wire.OneJob(job=call.broker.view(snapshot))


def pause(call: Call, params: wire.JobParams) -> Pending:
    """Stop all processes of a job; its limits wait for it."""
    snapshot = call.broker.find(params.id)
    attendance = _running(call, snapshot, "there is nothing to pause")
    if _is_ending(snapshot):
        raise _not_held_up(snapshot.job)
    return Pending(_turn(call, snapshot, attendance, _stop_tree))


def resume(call: Call, params: wire.JobParams) -> Pending:
    """Let all processes of a job go on."""
    snapshot = call.broker.find(params.id)
    attendance = _running(call, snapshot, "there is nothing to resume")
    return Pending(_turn(call, snapshot, attendance, _let_tree_go_on))


async def _turn(call: Call, snapshot: Snapshot, attendance: Attendance, turn: Turn) -> wire.OneJob:
    """Begun, it is done to its end, also when the client leaves: half a tree that stands still helps nobody."""

    async def carry_out() -> None:
        async with attendance.turning:
            root = attendance.root
            if root is None or attendance.ended.is_set():
                raise _wrong_state(snapshot.job, "it has just ended")
            await turn(call, snapshot, attendance, root)

    await call.broker.through(carry_out)
    return wire.OneJob(job=call.broker.view(snapshot))


async def _stop_tree(call: Call, snapshot: Snapshot, attendance: Attendance, root: pausing.Root) -> None:
    """If the end of the job is asked for or begins meanwhile, that goes on at once, and nothing is held up."""
    left = await pausing.stop(root, lambda: not _is_ending(snapshot))
    _see(call, attendance)
    await _news(attendance, lambda: snapshot.job.status == "stopped" or _is_ending(snapshot))
    if _is_ending(snapshot):
        await pausing.go_on(root, all_of_it=True)
        raise _not_held_up(snapshot.job)
    _check(snapshot.job, "stopped", left)


async def _let_tree_go_on(call: Call, snapshot: Snapshot, attendance: Attendance, root: pausing.Root) -> None:
    left = await pausing.go_on(root)
    _see(call, attendance)
    await _news(attendance, lambda: snapshot.job.status == "running")
    _check(snapshot.job, "running", left)


def _see(call: Call, attendance: Attendance) -> None:
    """Nobody tells of the stops of a job without a shim."""
    if attendance.orphan is not None:
        call.broker.supervision.see(attendance.job.id)


def _is_ending(snapshot: Snapshot) -> bool:
    return snapshot.asked is not None or snapshot.ending is not None


def _check(job: wire.Job, wanted: wire.Status, left: list[int]) -> None:
    if left or (job.status in ("running", "stopped") and job.status != wanted):
        which = f"processes {', '.join(map(str, left))} are" if left else "its first process is"
        reason = f"{which} not {wanted}: another user's, or hanging in the kernel"
        raise errors.NotDelivered(f"{job.id} is {job.status}; {reason}", {**_state(job), "pids": left})


async def _news(attendance: Attendance, come: Callable[[], bool]) -> None:
    """Wait for what the kernel says, or for the end of the job; not for ever."""
    with trio.move_on_after(NEWS_SECONDS):
        while not come() and not attendance.ended.is_set():
            await attendance.turned.wait()


def last_stopped(call: Call, _: wire.Nothing) -> wire.OneJob:
    """The job that was stopped last, of those that still are."""
    broker = call.broker
    broker.reconcile()
    stopped = [snapshot for snapshot in broker.table.all_live() if snapshot.job.status == "stopped"]
    if not stopped:
        raise errors.JobNotFound("no job is stopped")
    latest = max(stopped, key=lambda snapshot: (snapshot.job.stopped_at or "", snapshot.job.rev))
    return wire.OneJob(job=broker.view(latest))


def list_processes(call: Call, params: wire.JobParams) -> wire.Processes | Pending:
    """The processes of a job: none before it runs, and none after."""
    snapshot = call.broker.find(params.id)
    attendance = call.broker.supervision.live.get(snapshot.job.id)
    root = None if attendance is None else attendance.root
    if root is None:
        return wire.Processes(pgids=[], processes=[])
    return Pending(_list_processes(root, snapshot.job.pgid))


async def _list_processes(root: pausing.Root, leader: int | None) -> wire.Processes:
    found = await trio.to_thread.run_sync(processes, root)
    return wire.Processes(pgids=groups(found, leader), processes=found)


def _running(call: Call, snapshot: Snapshot, advice: str) -> Attendance:
    attendance = call.broker.supervision.live.get(snapshot.job.id)
    if snapshot.job.kind == "turn":
        raise _wrong_state(snapshot.job, "a turn has no process of its own; it can be cancelled")
    if attendance is None or snapshot.job.status not in ("running", "stopped"):
        raise _wrong_state(snapshot.job, advice)
    return attendance


def _wrong_state(job: wire.Job, advice: str) -> errors.InvalidState:
    return errors.InvalidState(f"{job.id} is {job.status}: {advice}", _state(job))


def _not_held_up(job: wire.Job) -> errors.InvalidState:
    return errors.InvalidState(f"{job.id} is being ended, and is not held up", _state(job))


def _state(job: wire.Job) -> dict[str, object]:
    return {"status": job.status, "id": job.id}


METHODS = {
    "job/cancel": Method(wire.CancelParams, cancel, positional=("id",)),
    "job/signal": Method(wire.SignalParams, signal),
    "job/pause": Method(wire.JobParams, pause, positional=("id",)),
    "job/resume": Method(wire.JobParams, resume, positional=("id",)),
    "job/lastStopped": Method(wire.Nothing, last_stopped),
    "job/processes": Method(wire.JobParams, list_processes, positional=("id",)),
}
