"""Who hears of changes: subscriptions, one a connection, and the notifications they get. Encoded once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from jobbroker.core.changes import Changes, Since
from jobbroker.core.job import Snapshot, is_live
from jobbroker.core.table import Matches
from jobbroker.feeds import Feeds
from jobbroker.tracing import Tracing
from jobclient.protocol import jsonrpc, wire

UPDATED = "notifications/job/updated"
REMOVED = "notifications/job/removed"
TICK = "notifications/timed/tick"
_DIGITS = 18


class Subscriber(Protocol):
    """A connection, as far as events are concerned."""

    def notify(self, job: str, message: bytes) -> None:
        """Send a notification of that job."""
        ...

    def offer(self, job: str, message: bytes) -> bool:
        """Send it if there is room for it; whether there was."""
        ...


class Subscription:
    """What one subscriber wants to hear of: jobs its filter matches, and once more those it has just ceased to match.

    Who asked for running jobs must hear that one runs no more.
    """

    __slots__ = ("_known", "_wants")

    def __init__(self, wants: Matches, known: Iterable[str] | None) -> None:
        """Want these, and know some of them by now; None if a job that matches never ceases to."""
        self._wants = wants
        self._known = None if known is None else set(known)

    def concerns(self, snapshot: Snapshot) -> bool:
        """Whether the subscriber is to hear of this change."""
        if self._known is None:
            return self._wants(snapshot)
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
        changes: the order of all changes.
        feeds: what jobs write, for those who subscribed to that too.
        tracing: what connections say, for those who want to see it.
    """

    def __init__(self, epoch: str, changes: Changes, feeds: Feeds) -> None:
        self.epoch = epoch
        self.changes = changes
        self.feeds = feeds
        self.tracing = Tracing()
        self._subscribers: dict[Subscriber, Subscription] = {}
        self._of_ticks: dict[Subscriber, None] = {}

    @property
    def cursor(self) -> str:
        """The place of the latest change."""
        return f"{self.epoch}.{self.changes.rev}"

    def since(self, cursor: str) -> Since | None:
        """What has changed since a moment; None if that is not known (any more)."""
        epoch, _, rev = cursor.partition(".")
        if epoch != self.epoch or not (rev.isascii() and rev.isdecimal() and len(rev) <= _DIGITS):
            return None
        return self.changes.since(int(rev))

    def subscribe(self, subscriber: Subscriber, wanted: Matches, known: Iterable[str] | None) -> None:
        """Tell it of every change of the jobs it wants, see `Subscription`; replaces what it wanted before."""
        self.unsubscribe(subscriber)
        self._subscribers[subscriber] = Subscription(wanted, known)

    def subscribe_to_ticks(self, subscriber: Subscriber) -> None:
        """Tell it of the ticks of timed jobs, too."""
        self._of_ticks[subscriber] = None

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Tell it no more."""
        self._subscribers.pop(subscriber, None)
        self._of_ticks.pop(subscriber, None)
        self.feeds.unsubscribe(subscriber)

    def updated(self, snapshot: Snapshot) -> None:
        """A job was made or has changed; its revision says when."""
        self.feeds.note(snapshot)
        self._tell(snapshot, UPDATED, lambda: wire.JobUpdated(job=snapshot.job, cursor=self.cursor))

    def removed(self, snapshot: Snapshot) -> int:
        """A job is gone for good: the place of that change."""
        rev = self.changes.removed(snapshot.job.id)
        self._tell(snapshot, REMOVED, lambda: wire.JobRemoved(id=snapshot.job.id, cursor=self.cursor))
        return rev

    def ticked(self, tick: Callable[[], wire.Tick]) -> None:
        """A tick was decided, or is over."""
        if self._of_ticks:
            message = jsonrpc.encode_notification(TICK, tick())
            for listener in tuple(self._of_ticks):
                listener.notify("", message)

    def _tell(self, snapshot: Snapshot, method: str, params: Callable[[], wire.Result]) -> None:
        listeners = [subscriber for subscriber, its in self._subscribers.items() if its.concerns(snapshot)]
        if listeners:
            message = jsonrpc.encode_notification(method, params())
            for listener in listeners:
                listener.notify(snapshot.job.id, message)
