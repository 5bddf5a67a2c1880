"""`broker/*` and what every JSON-RPC client may send besides: who answers, how it is, and its end."""

from __future__ import annotations

import os

from msgspec import Struct

from jobbroker.broker import Leaving
from jobbroker.clock import mono_ms
from jobbroker.methods.backend import describe
from jobbroker.methods.call import Call, Method, Pending
from jobclient.protocol import errors, wire
from jobclient.protocol.framing import MAX_MESSAGE
from jobclient.version import __version__


class Anything(Struct):
    """Parameters that do not matter: whatever an editor sends along is ignored."""


def ping(call: Call, _: wire.Nothing) -> wire.Ping:
    """Who answers."""
    about = call.broker.about
    return wire.Ping(
        pid=os.getpid(),
        version=__version__,
        protocol=wire.PROTOCOL_VERSION,
        instance=about.instance,
        started_at=about.started_at,
        uptime_ms=mono_ms() - about.started_mono_ms,
    )


def status(call: Call, params: wire.Nothing) -> Pending:
    """How it is, as of now; only the output of live jobs takes a look at the disk."""
    return Pending(_with_output(call, _status(call, params)))


async def _with_output(call: Call, found: wire.BrokerStatus) -> wire.BrokerStatus:
    found.total_output = await call.broker.budget.look()
    return found


def _status(call: Call, params: wire.Nothing) -> wire.BrokerStatus:
    broker = call.broker
    broker.reconcile()
    base = ping(call, params)
    settings = broker.settings
    return wire.BrokerStatus(
        pid=base.pid,
        version=base.version,
        protocol=base.protocol,
        instance=base.instance,
        started_at=base.started_at,
        uptime_ms=base.uptime_ms,
        counts={str(name): count for name, count in broker.table.counts.items()},
        connections=broker.connections,
        backend=describe(broker),
        total_output=broker.usage.total,
        degraded=broker.degraded(),
        warnings=list(settings.warnings),
        limits=wire.Limits(
            max_running=settings.max_running,
            max_output=settings.max_output,
            max_total_output=settings.max_total_output,
            max_message=MAX_MESSAGE,
            timeout_ms=settings.timeout_ms,
            grace_ms=settings.grace_ms,
            keep_jobs=settings.keep_jobs,
        ),
        paths=broker.about.paths,
    )


def shutdown(call: Call, params: wire.ShutdownParams) -> wire.Done:
    """Begin to leave; the answer goes out before the end."""
    broker = call.broker
    mode = params.mode or "ifIdle"
    broker.reconcile()
    if mode == "ifIdle" and broker.live:
        raise errors.JobsActive(
            f"{broker.live} jobs are live; keepJobs leaves them running, cancelJobs ends them", {"live": broker.live}
        )
    broker.leave(Leaving("request", cancel_jobs=mode == "cancelJobs", grace_ms=params.grace_ms))
    return wire.Done()


def trace(call: Call, params: wire.TraceParams) -> wire.Tracing:
    """Show what connections say from now on, until this one ends."""
    tracing = call.broker.events.tracing
    if params.on is False:
        tracing.ignore(call.caller)
    else:
        tracing.listen(call.caller, params.connection)
    return wire.Tracing(connections=tracing.connections())


def initialize(call: Call, params: wire.InitializeParams) -> wire.Initialized:
    """Nobody needs to call this first; who does learns what there is."""
    if params.client_info is not None and params.client_info.name:
        origin = call.caller.origin
        call.caller.origin = wire.Origin(pid=origin.pid, client=params.client_info.name)
    return wire.Initialized(
        server_info=wire.ClientInfo(name="jobbroker", version=__version__),
        methods=sorted(call.caller.methods),
        limits={"maxMessage": MAX_MESSAGE, "maxRunning": call.broker.settings.max_running},
    )


def end_of_session(_call: Call, _params: Anything) -> None:
    """`shutdown` of an editor's life cycle: nothing to do; it does not end the broker (editors.md S18)."""


METHODS = {
    "broker/ping": Method(wire.Nothing, ping),
    "broker/status": Method(wire.Nothing, status),
    "broker/shutdown": Method(wire.ShutdownParams, shutdown),
    "broker/trace": Method(wire.TraceParams, trace),
    "initialize": Method(wire.InitializeParams, initialize),
    "shutdown": Method(Anything, end_of_session),
}
