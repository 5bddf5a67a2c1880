"""`events/*`: hear of changes."""

from __future__ import annotations

from jobbroker.core.table import matcher
from jobbroker.methods.call import Call, Method
from jobclient.protocol import wire


def subscribe(call: Call, params: wire.SubscribeParams) -> wire.Subscribed:
    """Begin to tell, and give the state as of the moment at which the telling begins: nothing falls between."""
    broker = call.broker
    wanted = matcher(params.jobs or wire.Filter())
    broker.reconcile()
    jobs = [broker.view(snapshot) for snapshot in broker.table.all_live() if wanted(snapshot)]
    broker.events.subscribe(call.caller, wanted, [job.id for job in jobs])
    return wire.Subscribed(cursor=broker.events.cursor(broker.rev), jobs=jobs, reset=True)


def unsubscribe(call: Call, _: wire.Nothing) -> wire.Done:
    """Tell no more."""
    call.broker.events.unsubscribe(call.caller)
    return wire.Done()


METHODS = {
    "events/subscribe": Method(wire.SubscribeParams, subscribe),
    "events/unsubscribe": Method(wire.Nothing, unsubscribe),
}
