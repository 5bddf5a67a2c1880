"""Who hears of changes: subscriptions, one a connection, and the notifications they get. Encoded once for all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from jobbroker.core.job import Snapshot, is_live
from jobbroker.core.table import Matches
from jobclient.protocol import jsonrpc, wire


class Subscriber(Protocol):
    """A connection, as far as events are concerned."""

    def notify(self, job: str, message: bytes) -> None:
        """Send a notification of that job."""
        ...


class Subscription:
    """What one subscriber wants to hear of: jobs its filter matches, and once more those it has just ceased to match.

    Who asked for running jobs must hear that one runs no more.
    """

    __slots__ = ("_known", "_wants")

    def __init__(self, wants: Matches, known: Iterable[str] = ()) -> None:
        self._wants = wants
        self._known = set(known)

    def concerns(self, snapshot: Snapshot) -> bool:
        """Whether the subscriber is to hear of this change."""
        name = snapshot.job.id
        known = name in self._known
        if not self._wants(snapshot):
            self._known.discard(name)
            return known
        if is_live(snapshot.job):
            self._known.add(name)
        else:
            self._known.discard(name)
        return True


class Events:
    """The subscriptions of a broker, and its place in the order of all changes.

    Attributes:
        epoch: this daemon's, so that a cursor of another one is known as such.
    """

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self._subscribers: dict[Subscriber, Subscription] = {}

    def cursor(self, rev: int) -> str:
        """The place of a change."""
        return f"{self.epoch}.{rev}"

    def subscribe(self, subscriber: Subscriber, wanted: Matches, known: Iterable[str]) -> None:
        """Tell it of every change of the jobs it wants, of which it knows some; replaces what it wanted before."""
        self._subscribers[subscriber] = Subscription(wanted, known)

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
        listeners = [subscriber for subscriber, its in self._subscribers.items() if its.concerns(snapshot)]
        if listeners:
            message = jsonrpc.encode_notification(method, params)
            for listener in listeners:
                listener.notify(snapshot.job.id, message)
