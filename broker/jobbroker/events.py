"""Who hears of changes: subscriptions, one a connection, and the notifications they get. Encoded once for all."""

from __future__ import annotations

from typing import Protocol

from jobbroker.core.job import Snapshot
from jobbroker.core.table import Matches
from jobclient.protocol import jsonrpc, wire


class Subscriber(Protocol):
    """A connection, as far as events are concerned."""

    def notify(self, job: str, message: bytes) -> None:
        """Send a notification of that job."""
        ...


class Events:
    """The subscriptions of a broker, and its place in the order of all changes.

    Attributes:
        epoch: this daemon's, so that a cursor of another one is known as such.
    """

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self._subscribers: dict[Subscriber, Matches] = {}

    def cursor(self, rev: int) -> str:
        """The place of a change."""
        return f"{self.epoch}.{rev}"

    def subscribe(self, subscriber: Subscriber, wanted: Matches) -> None:
        """Tell it of every change of the jobs it wants; replaces what it wanted before."""
        self._subscribers[subscriber] = wanted

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Tell it no more."""
        self._subscribers.pop(subscriber, None)

    def updated(self, snapshot: Snapshot) -> None:
        """A job changed."""
        self._tell(snapshot, "notifications/job/updated", wire.JobUpdated(job=snapshot.job))

    def removed(self, snapshot: Snapshot) -> None:
        """A job is gone for good."""
        self._tell(snapshot, "notifications/job/removed", wire.JobRemoved(id=snapshot.job.id))

    def _tell(self, snapshot: Snapshot, method: str, params: wire.Result) -> None:
        listeners = [subscriber for subscriber, wants in self._subscribers.items() if wants(snapshot)]
        if listeners:
            message = jsonrpc.encode_notification(method, params)
            for listener in listeners:
                listener.notify(snapshot.job.id, message)
