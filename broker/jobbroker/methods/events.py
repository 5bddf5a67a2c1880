"""`events/*`: hear of changes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import msgspec

from jobbroker.broker import Broker
from jobbroker.core.changes import Since
from jobbroker.core.job import Snapshot
from jobbroker.core.table import matcher, statuses
from jobbroker.methods.call import Call, Method
from jobbroker.methods.pages import MAX_PAGE, fitting
from jobclient.protocol import wire


def subscribe(call: Call, params: wire.SubscribeParams) -> wire.Subscribed:
    """Begin to tell, and give the state as of the moment at which the telling begins: nothing falls between."""
    broker = call.broker
    broker.reconcile()
    wanted = params.jobs or wire.Filter()
    matches = matcher(wanted)
    live = [snapshot for snapshot in broker.table.all_live() if matches(snapshot)]
    since = None if params.since is None else broker.events.since(params.since)
    answer = None if since is None else _changes(broker, wanted, since)
    if answer is None:
        answer = _everything(broker, live)
    known = None if wanted.status is None else [snapshot.job.id for snapshot in live]
    broker.events.subscribe(call.caller, matches, known)
    if params.ticks:
        broker.events.subscribe_to_ticks(call.caller)
    if params.output:
        in_any_state = matcher(msgspec.structs.replace(wanted, status=None))
        broker.events.feeds.subscribe(call.caller, in_any_state, broker.table.all_live())
    return answer


def _everything(broker: Broker, live: list[Snapshot]) -> wire.Subscribed:
    """All live jobs, or as many as fit and where the rest begins: by the time it is read, its changes are told."""
    jobs = fitting(broker.view(snapshot) for snapshot in islice(live, MAX_PAGE))
    following = str(jobs[-1].number) if len(jobs) < len(live) else None
    return wire.Subscribed(cursor=broker.events.cursor, jobs=jobs, removed=[], reset=True, next=following)


def _changes(broker: Broker, wanted: wire.Filter, since: Since) -> wire.Subscribed | None:
    """What has changed; None if that is more than one answer holds, so that beginning anew is the shorter way."""
    if len(since.changed) > MAX_PAGE:
        return None
    found = list(_concerned(broker, wanted, since))
    jobs = fitting(broker.view(snapshot) for snapshot in found)
    if len(jobs) < len(found):
        return None
    return wire.Subscribed(cursor=broker.events.cursor, jobs=jobs, removed=since.removed, reset=False)


def _concerned(broker: Broker, wanted: wire.Filter, since: Since) -> Iterable[Snapshot]:
    """The changed jobs the filter matches, and those it may have matched before: of a job, only its status changes."""
    matches, otherwise = matcher(wanted), matcher(msgspec.structs.replace(wanted, status=None))
    asked = statuses(wanted)
    may_cease = asked is not None and bool(asked & wire.LIVE)
    for name in since.changed:
        snapshot = broker.table.get(name) or broker.history.get(name)
        if snapshot is None:
            continue  # on its way out: its removal will be told
        if matches(snapshot) or (may_cease and name not in since.new and otherwise(snapshot)):
            yield snapshot


def unsubscribe(call: Call, _: wire.Nothing) -> wire.Done:
    """Tell no more."""
    call.broker.events.unsubscribe(call.caller)
    return wire.Done()


METHODS = {
    "events/subscribe": Method(wire.SubscribeParams, subscribe),
    "events/unsubscribe": Method(wire.Nothing, unsubscribe),
}
