"""`job/input`: what a job with a pipe for its stdin is to read."""

from __future__ import annotations

import trio

from jobbroker import inflow
from jobbroker.core.record import Line
from jobbroker.methods.call import Call, Method, Outcome, Pending
from jobbroker.wiretext import decoded, text_bytes
from jobclient.protocol import errors, wire


def give(call: Call, params: wire.InputParams) -> Outcome:
    """Take a place in the line now, so that inputs keep their order; answer when the job's pipe has all of it."""
    broker = call.broker
    job = broker.find(params.id).job
    data = _data(params)
    attendance = broker.supervision.get(job.id)
    claim = attendance.claim if attendance is not None else None
    if job.stdin != "pipe":
        raise _refused(job, 'does not read from a pipe; start it with `stdin: "pipe"`')
    if job.status == "queued":
        raise _refused(job, "has not begun")
    if claim is None or broker.jobs.input_ended(job.id):
        if data:
            raise _refused(job, "has ended" if claim is None else "was told that nothing more comes")
        return wire.Done()  # to close what is closed changes nothing
    share = inflow.Share(job.id, data)
    return Pending(_give(call, claim, share, broker.inflow.queue(job.id), close=bool(params.close)), share.so_far)


async def _give(call: Call, claim: Line, share: inflow.Share, turn: trio.Event, *, close: bool) -> wire.Done:
    broker, name = call.broker, share.job
    try:
        await turn.wait()
        if share.left:
            await inflow.pour(claim, share)
        if close:
            inflow.end(broker.jobs, name, claim)
    finally:
        broker.inflow.leave(name, turn)
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
