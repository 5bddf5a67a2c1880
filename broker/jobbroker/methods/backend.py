"""`backend/*`: how the backend is, a request to it, the end of a turn, and which profiles there are."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import trio

from jobbroker import profile_files
from jobbroker.backend import Backend
from jobbroker.broker import Broker
from jobbroker.core.job import is_terminal
from jobbroker.methods.call import Call, Method, Pending
from jobbroker.profile_files import Found, ProfileError
from jobclient import paths
from jobclient.protocol import errors, wire
from jobclient.protocol.jsonrpc import Json


def describe(broker: Broker) -> wire.Backend | None:
    """The backend as it is now, None where there is none."""
    backend = broker.backend
    if backend is None:
        return None
    router, last = backend.router, backend.last_exit
    return wire.Backend(
        profile=backend.profile.name,
        command=list(backend.profile.backend.command),
        state="hung" if router.hung else router.state,
        pid=backend.pid,
        starts=backend.starts,
        clients=backend.clients,
        pending=router.pending,
        turns=router.turns,
        asking=router.asking,
        dropped=router.dropped,
        silent_ms=int((trio.current_time() - router.heard) * 1000) if backend.pid is not None else None,
        last_exit=None if last is None else wire.BackendExit(last.reason, last.code, last.signal, last.stderr_tail),
    )


def status(call: Call, _: wire.Nothing) -> wire.BackendStatus:
    """How it is; none is started for that."""
    return wire.BackendStatus(backend=describe(call.broker))


def _backend(call: Call) -> Backend:
    if call.broker.backend is None:
        raise errors.BackendGone("this broker has no backend  -> jobctl backend list")
    return call.broker.backend


def request(call: Call, params: wire.BackendRequestParams) -> Pending:
    """Ask it something, in the broker's own words."""
    backend = _backend(call)
    seconds = (
        backend.profile.client_methods.deadline(params.method)
        if params.timeout_ms is None
        else params.timeout_ms / 1000
    )
    return Pending(_request(backend, params, seconds))


async def _request(backend: Backend, params: wire.BackendRequestParams, seconds: float) -> wire.BackendResult:
    return wire.BackendResult(result=await backend.ask(params.method, cast("Json", params.params), seconds))


def interrupt(call: Call, params: wire.JobParams) -> Pending:
    """End a turn in the way its backend has for that."""
    snapshot = call.broker.find(params.id)
    job = snapshot.job
    if job.kind != "turn":
        raise errors.InvalidState(f"{job.id} is no turn; cancel it", {"status": job.status, "id": job.id})
    if is_terminal(job):
        raise errors.InvalidState(f"{job.id} is {job.status}", {"status": job.status, "id": job.id})

    async def end() -> wire.OneJob:
        broker = call.broker
        attendance = await broker.through(lambda: broker.endings.cancel(snapshot, "user", None))
        if attendance is not None:
            await broker.endings.confirm(snapshot, attendance, None)
        return wire.OneJob(job=broker.view(snapshot))

    return Pending(end())


def profiles(call: Call, params: wire.BackendProfilesParams) -> wire.BackendProfiles:
    """The profiles there are; each is read, so that a mistake is known before anybody relies on it."""
    settings = Path(paths.config_path())
    found = profile_files.known(settings)
    if params.name is not None:
        found = [each for each in found if each.name == params.name]
        if not found:
            raise errors.InvalidParams(f"no profile {params.name!r}  -> jobctl backend list")
    used = call.broker.backend.profile.name if call.broker.backend is not None else None
    return wire.BackendProfiles(profiles=[_describe_file(each, used, params.name) for each in found])


def _describe_file(found: Found, used: str | None, wanted: str | None) -> wire.BackendProfile:
    made = wire.BackendProfile(name=found.name, path=str(found.path), in_use=found.name == used)
    try:
        text = profile_files.check_file(found.path)
        if wanted is not None:
            made.text = text
    except ProfileError as exc:
        made.error = str(exc)
    return made


METHODS = {
    "backend/status": Method(wire.Nothing, status),
    "backend/request": Method(wire.BackendRequestParams, request),
    "backend/interrupt": Method(wire.JobParams, interrupt, positional=("id",)),
    "backend/profiles": Method(wire.BackendProfilesParams, profiles),
}
