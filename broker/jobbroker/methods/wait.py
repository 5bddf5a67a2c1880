"""`job/wait`: block until jobs have ended. The waiting is done here, never by asking again."""

from __future__ import annotations

import trio

from jobbroker.core.job import Snapshot
from jobbroker.core.table import matcher
from jobbroker.methods.call import Call, Pending
from jobbroker.waiting import Waiter
from jobclient.protocol import errors, wire


def wait(call: Call, params: wire.WaitParams) -> Pending:
    """Wait for the jobs that are meant now: what a name or a filter means later does not matter."""
    if [params.ids is None, not params.all, params.jobs is None].count(False) != 1:
        raise errors.InvalidParams("give one of `ids`, `all` and `jobs`")
    call.broker.reconcile()
    jobs = {snapshot.job.id: snapshot.job for snapshot in _meant(call, params)}
    return Pending(_wait(call, list(jobs.values()), params))


def _meant(call: Call, params: wire.WaitParams) -> list[Snapshot]:
    broker = call.broker
    if params.ids is not None:
        return [broker.find(text) for text in params.ids]
    matches = matcher(params.jobs or wire.Filter())
    return [snapshot for snapshot in broker.table.all_live() if matches(snapshot)]


async def _wait(call: Call, jobs: list[wire.Job], params: wire.WaitParams) -> wire.Waited:
    waiter = Waiter(jobs, content_with_one=bool(params.any))
    seconds = float("inf") if params.timeout_ms is None else params.timeout_ms / 1000
    with call.broker.waiting.entered(waiter), trio.move_on_after(seconds):
        await waiter.wait()
    stopped = [job for job in jobs if job.id in waiter.stopped]
    if params.ids is not None and len(jobs) == 1 and stopped:
        message = f"{jobs[0].id} is stopped and will not end before it is resumed"
        raise errors.InvalidState(message, {"status": "stopped", "id": jobs[0].id})
    return wire.Waited(jobs=waiter.ended, stopped=stopped, timed_out=not waiter.over)
