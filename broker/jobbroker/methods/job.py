"""`job/*`: start, look, remove. What a job wrote is in `methods/output.py`, what is done to one in `control.py`."""

from __future__ import annotations

import msgspec

from jobbroker.admission import Admission
from jobbroker.core.job import Snapshot, is_terminal
from jobbroker.core.table import matcher, statuses
from jobbroker.methods.call import Call, Method, Pending
from jobbroker.methods.output import output, result
from jobbroker.methods.pages import MAX_PAGE, fitting
from jobbroker.methods.wait import wait
from jobbroker.removal import Policy
from jobbroker.wiretext import as_wire
from jobclient.protocol import errors, wire
from jobclient.protocol.wire import TERMINAL

PAGE = 100
DAY_MS = 24 * 60 * 60 * 1000


def start(call: Call, params: wire.StartParams) -> Pending:
    """Admit the job now, answer when it has begun, failed to begin, or waits for a slot."""
    found, created = call.broker.admit(params, call.caller.origin, call.caller)
    if isinstance(found, Admission):
        call.hold(found.snapshot.job.id)
    return Pending(_started(call, found, created=created))


async def _started(call: Call, found: Admission | Snapshot, *, created: bool) -> wire.Started:
    if isinstance(found, Snapshot):
        return wire.Started(job=call.broker.view(found), created=False)
    await found.settled.wait()
    if found.failure is not None:
        raise found.failure
    attendance = call.broker.supervision.live.watched(found.snapshot.job.id)
    if attendance is not None:
        await attendance.begun.wait()
    return wire.Started(job=call.broker.view(found.snapshot), created=created)


def get(call: Call, params: wire.GetParams) -> wire.OneJob:
    """One job as it is now."""
    snapshot = call.broker.find(params.id)
    job = call.broker.view(snapshot)
    if params.env:
        job = msgspec.structs.replace(job, env=[as_wire(entry) for entry in call.broker.environment(job.id)])
    return wire.OneJob(job=job)


def list_jobs(call: Call, params: wire.ListParams) -> wire.JobList:
    """A page of jobs, reconciled before it is sorted and cut."""
    broker = call.broker
    broker.reconcile()
    limit = PAGE if params.limit is None else params.limit
    if not 1 <= limit <= MAX_PAGE:
        raise errors.InvalidParams(f"`limit` must be between 1 and {MAX_PAGE}")
    descending = params.order != "asc"
    found, following = broker.table.page(
        matcher(params),
        older=lambda low, high: broker.store.rows.between(low, high, params, descending=descending),
        limit=limit,
        before=params.before,
        descending=descending,
    )
    jobs = fitting(broker.view(snapshot) for snapshot in found)
    return wire.JobList(jobs=jobs, next=following if len(jobs) == len(found) else str(jobs[-1].number))


def remove(call: Call, params: wire.JobParams) -> Pending:
    """Remove an ended job with all it left."""
    snapshot = call.broker.find(params.id)
    if not is_terminal(snapshot.job):
        raise _wrong_state(snapshot.job, "cancel it first")
    return Pending(_remove(call, [snapshot]))


async def _remove(call: Call, snapshots: list[Snapshot]) -> wire.Removed:
    return wire.Removed(removed=await call.broker.through(lambda: call.broker.removals.remove(snapshots)))


def cleanup(call: Call, params: wire.CleanupParams) -> Pending:
    """Remove ended jobs: by age, by number, by what they take on disk, and by what a filter says."""
    asked = statuses(params)
    if asked is not None and not asked <= TERMINAL:
        raise errors.InvalidParams("`status` names one that is live; what is live is not removed: job/cancel ends it")
    wanted = wire.Filter(status=params.status, kind=params.kind, label=params.label, name=params.name, cwd=params.cwd)
    age = params.max_age_ms
    if age is None:
        age = DAY_MS if params.max_bytes is None else 0
    policy = Policy(wanted=wanted, age_ms=age, keep=params.keep or 0, max_bytes=params.max_bytes)
    call.broker.reconcile()
    return Pending(_cleanup(call, policy, dry_run=bool(params.dry_run)))


async def _cleanup(call: Call, policy: Policy, *, dry_run: bool) -> wire.Removed:
    broker = call.broker
    return wire.Removed(removed=await broker.through(lambda: broker.removals.clean(policy, dry_run=dry_run)))


def _wrong_state(job: wire.Job, advice: str) -> errors.InvalidState:
    return errors.InvalidState(f"{job.id} is {job.status}: {advice}", {"status": job.status, "id": job.id})


METHODS = {
    "job/start": Method(wire.StartParams, start),
    "job/get": Method(wire.GetParams, get, positional=("id",)),
    "job/list": Method(wire.ListParams, list_jobs),
    "job/wait": Method(wire.WaitParams, wait),
    "job/result": Method(wire.JobParams, result, positional=("id",)),
    "job/output": Method(wire.OutputParams, output),
    "job/remove": Method(wire.JobParams, remove, positional=("id",)),
    "job/cleanup": Method(wire.CleanupParams, cleanup),
}
