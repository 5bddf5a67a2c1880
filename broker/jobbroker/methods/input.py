"""`job/input`: what a job with a pipe for its stdin is to read."""

from __future__ import annotations

import trio

from jobbroker import inflow
from jobbroker.attendance import Attendance
from jobbroker.core.record import Line
from jobbroker.methods.call import Call, Method, Outcome, Pending
from jobbroker.wiretext import decoded, text_bytes
from jobclient.protocol import errors, wire


def give(call: Call, params: wire.InputParams) -> Outcome:
    """Take a place in the line now, so that inputs keep their order; answer when the job's pipe has all of it."""
    broker = call.broker
    job = broker.find(params.id).job
    data = _data(params)
    attendance = broker.supervision.live.get(job.id)
    claim = attendance.claim if attendance is not None else None
    if job.stdin != "pipe":
        raise _refused(job, 'does not read from a pipe; start it with `stdin: "pipe"`')
    if job.status == "queued":
        raise _refused(job, "has not begun")
    if attendance is None or claim is None:
        if data:
            raise _refused(job, "has ended")
        return wire.Done()  # to close what is closed changes nothing
    if broker.jobs.input_ended(job.id):
        return _closed(job, data)
    share = inflow.Share(job.id, data)
    turn = broker.inflow.queue(job.id)
    return Pending(_give(call, attendance, claim, share, turn, close=bool(params.close)), share.so_far)


async def _give(
    call: Call, attendance: Attendance, claim: Line, share: inflow.Share, turn: trio.Event, *, close: bool
) -> wire.Done:
    broker, job = call.broker, attendance.job
    try:
        await turn.wait()
        if broker.jobs.input_ended(job.id):  # by one before us in the line
            return _closed(job, share.left)
        if share.left:
            await inflow.pour(claim, share, attendance.ended)
        if close:
            inflow.end(broker.jobs, job.id, claim)
    finally:
        broker.inflow.leave(job.id, turn)
    return wire.Done()


def _closed(job: wire.Job, data: bytes | memoryview) -> wire.Done:
    """To close what is closed changes nothing; to write there is too late."""
    if data:
        raise _refused(job, "was told that nothing more comes")
    return wire.Done()


def _data(params: wire.InputParams) -> bytes:
    if params.data is None:
        if not params.close:
            raise errors.InvalidParams("give `data`, or `close`, or both")
        return b""
    text = params.data
    data = decoded(text, "data") if params.encoding == "base64" else text_bytes(text, "data")
    if len(data) > inflow.MAX_PIECE:
        raise errors.TooLarge(f"`data` may hold {inflow.MAX_PIECE} bytes; send it in pieces, they keep their order")
    return data


def _refused(job: wire.Job, why: str) -> errors.InvalidState:
    return errors.InvalidState(f"{job.id} {why}", {"status": job.status, "id": job.id, "written": 0})


METHODS = {"job/input": Method(wire.InputParams, give)}
