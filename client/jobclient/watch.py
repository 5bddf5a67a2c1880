"""Hear of every change of jobs, across the end of a connection: what was missed in between is asked for by cursor."""

from __future__ import annotations

from jobclient.protocol import errors
from jobclient.raw import FAREWELL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobclient.link import Link
    from jobclient.raw import Message, Params, RawConnection

UPDATED = "notifications/job/updated"
REMOVED = "notifications/job/removed"
OUTPUT = "notifications/job/output"
RESET = "reset"
"""No notification of the broker's but a word of ours: it could not go on where we were, so what happened in between may
be missing. All live jobs follow, and what became of those that are live no more."""
CURRENT = "current"
"""Another word of ours: the state has been told as it is; from here on it is news."""
_LIVE = ("queued", "running", "stopped")


class Watch:
    """The changes of jobs as messages, for as long as there are brokers.

    Attributes:
        cursor: the place of the latest message that was given out; another watch can begin there.
    """

    def __init__(
        self, link: Link, jobs: Params | None = None, *, since: str | None = None, output: bool = False
    ) -> None:
        """Watch by a link that is used by nobody else meanwhile.

        Args:
            link: the way to the broker.
            jobs: which jobs, as `wire.Filter`; all by default.
            since: a cursor to begin at; by default with the live jobs as they are.
            output: whether to be sent what the jobs write, too.
        """
        self.cursor = since
        self._link = link
        self._jobs: Params = jobs or {}
        self._output = output
        self._live: dict[str, int] = {}  # id -> rev of what was told last

    def messages(self) -> Iterator[Message]:
        """Notifications, at last the broker's farewell.

        A broker that dies without one is looked for, started if need be, and asked for what has changed since.
        """
        while True:
            try:
                for message in self._of_one():
                    yield message
                    if message["method"] == FAREWELL:
                        return
            except errors.ConnectionLost as exc:
                self._link.lost(exc)

    def _of_one(self) -> Iterator[Message]:
        """The notifications that come by one connection."""
        connection = self._link.connection()
        params: dict[str, object] = {"jobs": self._jobs, "since": self.cursor}
        if self._output:
            params["output"] = True
        state = connection.request("events/subscribe", params, self._link.deadline())
        yield from self._begin_anew(connection, state) if state["reset"] else self._catch_up(state)
        self.cursor = state["cursor"]
        yield {"method": CURRENT, "params": {"cursor": self.cursor}}
        while True:
            message = connection.receive()
            if isinstance(message, dict) and "method" in message and not self._is_old(message):
                self._keep_track(message)
                yield message

    def _catch_up(self, state: Message) -> Iterator[Message]:
        for job in state["jobs"]:
            yield self._told(UPDATED, {"job": job, "cursor": state["cursor"]})
        for identity in state["removed"]:
            yield self._told(REMOVED, {"id": identity, "cursor": state["cursor"]})

    def _begin_anew(self, connection: RawConnection, state: Message) -> Iterator[Message]:
        """All live jobs, the changes that come while the list is read among them, and what became of the others."""
        cursor = state["cursor"]
        if self.cursor is not None:
            yield {"method": RESET, "params": {"cursor": cursor}}
        before, self._live = self._live, {}
        for job in self._pages(connection, state):
            yield self._told(UPDATED, {"job": job, "cursor": cursor})
        for identity in [each for each in before if each not in self._live]:
            yield self._told(*_what_became_of(connection, identity, cursor, self._link.deadline()))

    def _pages(self, connection: RawConnection, state: Message) -> Iterator[Message]:
        yield from state["jobs"]
        following = state["next"]
        asked = self._jobs.get("status")
        wanted = [
            each for each in _LIVE if asked is None or each == asked or (isinstance(asked, list) and each in asked)
        ]
        while following is not None:
            params = {**self._jobs, "status": wanted, "order": "asc", "before": following, "limit": 1000}
            page = connection.request("job/list", params, self._link.deadline())
            yield from page["jobs"]
            following = page["next"]

    def _told(self, method: str, params: Message) -> Message:
        message = {"method": method, "params": params}
        self._keep_track(message)
        return message

    def _is_old(self, message: Message) -> bool:
        """Whether it came while the list was read, which knew more by then."""
        if message["method"] != UPDATED:
            return False
        identity, rev = message["params"]["job"]["id"], message["params"]["job"]["rev"]
        return bool(self._live.get(identity, -1) >= rev)

    def _keep_track(self, message: Message) -> None:
        """Of where we are, and of which jobs are live."""
        self.cursor = message["params"].get("cursor", self.cursor)
        if message["method"] == REMOVED:
            self._live.pop(message["params"]["id"], None)
        elif message["method"] == UPDATED:
            job = message["params"]["job"]
            if job.get("completedAt"):
                self._live.pop(job["id"], None)
            else:
                self._live[job["id"]] = job["rev"]


def _what_became_of(connection: RawConnection, identity: str, cursor: str, deadline: float) -> tuple[str, Message]:
    try:
        job = connection.request("job/get", {"id": identity}, deadline)["job"]
    except errors.JobNotFound:
        return REMOVED, {"id": identity, "cursor": cursor}
    return UPDATED, {"job": job, "cursor": cursor}
