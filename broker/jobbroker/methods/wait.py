"""`job/wait`: block until jobs have ended, or one has written a line. Waiting is done here, never by asking again."""

from __future__ import annotations

import trio

from jobbroker.core.job import Snapshot
from jobbroker.core.table import matcher
from jobbroker.methods.call import Call, Pending
from jobbroker.methods.output import offset, opened, reading
from jobbroker.pattern import BadPattern
from jobbroker.searching import Search
from jobbroker.waiting import Waiter
from jobclient.protocol import errors, wire

FIRST_LOOK = 0.2
"""Seconds to look at what is there already, if less time is given."""


def wait(call: Call, params: wire.WaitParams) -> Pending:
    """Wait for the jobs that are meant now: what a name or a filter means later does not matter."""
    if [params.ids is None, not params.all, params.jobs is None].count(False) != 1:
        raise errors.InvalidParams("give one of `ids`, `all` and `jobs`")
    call.broker.reconcile()
    found = _meant(call, params)
    if params.until_output is not None:
        if params.ids is None or len(found) != 1:
            raise errors.InvalidParams("`untilOutput` goes with one of `ids`")
        start = offset(params.until_output.from_)
        return Pending(_wait_for_line(call, found[0], params, params.until_output, start))
    jobs = {snapshot.job.id: snapshot.job for snapshot in found}
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
        raise _is_stopped(jobs[0])
    return wire.Waited(jobs=waiter.ended, stopped=stopped, timed_out=not waiter.over)


def _is_stopped(job: wire.Job) -> errors.InvalidState:
    message = f"{job.id} is stopped and will not end before it is resumed"
    return errors.InvalidState(message, {"status": "stopped", "id": job.id})


async def _wait_for_line(
    call: Call, snapshot: Snapshot, params: wire.WaitParams, wanted: wire.UntilOutput, start: int
) -> wire.Waited:
    """Until a line matches, or the job ends without one, or is stopped: then none will come."""
    try:
        pattern = await call.broker.searching.compile(wanted.pattern)
    except BadPattern as exc:
        raise errors.InvalidParams(f"`pattern` is no regular expression of RE2: {exc}") from None
    job = snapshot.job
    waiter = Waiter([job], content_with_one=True)
    seconds = float("inf") if params.timeout_ms is None else max(params.timeout_ms / 1000, FIRST_LOOK)
    with opened(call, snapshot) as reader:
        if start > reader.size:
            raise errors.InvalidParams(f"`from` {start} is beyond the output, which has {reader.size} bytes")
    search = call.broker.searching.search(snapshot, pattern, wanted.stream or "all", start)
    with call.broker.waiting.entered(waiter), trio.move_on_after(seconds) as limit:
        await _look(search, waiter)
    if search.match is None and waiter.stopped and not limit.cancelled_caught:
        raise _is_stopped(job)
    return wire.Waited(jobs=waiter.ended, stopped=[], timed_out=limit.cancelled_caught, match=search.match)


async def _look(search: Search, waiter: Waiter) -> None:
    """First at what is there, then at what comes, unless the job is stopped."""
    with reading(search.job):
        await search.go_on(over=False)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:

        async def give_up_when_stopped() -> None:
            await waiter.wait()
            if waiter.stopped:
                nursery.cancel_scope.cancel()

        nursery.start_soon(give_up_when_stopped)
        try:
            with reading(search.job):
                await search.to_the_end()
        except (errors.RemoteError, OSError) as exc:  # not in a group: it is the answer
            failure = exc
        nursery.cancel_scope.cancel()
    if isinstance(failure, OSError):
        raise errors.JobNotFound(f"the output of {search.job.id} cannot be read any more: {failure.strerror}")
    if failure is not None:
        raise failure
