"""Hear of every change of jobs, across the end of a connection: what was missed in between is asked for by cursor.

How is one generator, `Watch.steps`, without a connection; `Watch.messages` takes its steps on one that blocks, and
`aio` on one that does not.
"""

from __future__ import annotations

from jobclient.protocol import errors
from jobclient.raw import FAREWELL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import TypeAlias

    from jobclient.link import Link
    from jobclient.raw import Message, Params

    Steps: TypeAlias = "Generator[Message | Ask | None, Message, None]"
    """What to do: tell a message; ask, and send in the result or throw in the error; None: send in what comes next."""

UPDATED = "notifications/job/updated"
REMOVED = "notifications/job/removed"
OUTPUT = "notifications/job/output"
TICK = "notifications/timed/tick"
RESET = "reset"
"""No notification of the broker's but a word of ours: it could not go on where we were, so what happened in between may
be missing. All live jobs follow, and what became of those that are live no more."""
CURRENT = "current"
"""Another word of ours: the state has been told as it is; from here on it is news."""
_LIVE = ("queued", "running", "stopped")
_NOTHING: Message = {}


class Ask:
    """A request to be made."""

    __slots__ = ("method", "params")

    def __init__(self, method: str, params: Params) -> None:
        self.method = method
        self.params = params


class Watch:
    """The changes of jobs as messages, for as long as there are brokers.

    Attributes:
        cursor: the place of the latest message that was given out; another watch can begin there.
    """

    def __init__(
        self, jobs: Params | None = None, *, since: str | None = None, output: bool = False, ticks: bool = False
    ) -> None:
        """Watch some jobs.

        Args:
            jobs: which, as `wire.Filter`; all by default.
            since: a cursor to begin at; by default with the live jobs as they are.
            output: whether to be sent what the jobs write, too.
            ticks: whether to be sent the ticks of timed jobs.
        """
        self.cursor = since
        self._jobs: Params = jobs or {}
        self._also = {name: True for name, wanted in (("output", output), ("ticks", ticks)) if wanted}
        self._live: dict[str, int] = {}  # id -> rev of what was told last

    def messages(self, link: Link) -> Iterator[Message]:
        """Notifications, at last the broker's farewell, by a link that is used by nobody else meanwhile.

        A broker that dies without one is looked for, started if need be, and asked for what has changed since.
        """
        while True:
            try:
                for message in self._of_one(link):
                    yield message
                    if message["method"] == FAREWELL:
                        return
            except errors.ConnectionLost as exc:
                link.lost(exc)
            except errors.ShuttingDown:
                link.leave(link.connection())

    def _of_one(self, link: Link) -> Iterator[Message]:
        """The notifications that come by one connection."""
        connection = link.connection()
        steps = self.steps()
        step = next(steps)
        while True:
            if isinstance(step, Ask):
                try:
                    answer = connection.request(step.method, step.params, link.deadline())
                except errors.RemoteError as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(answer)
            elif step is None:
                received = connection.receive()
                step = steps.send(received if isinstance(received, dict) else _NOTHING)
            else:
                yield step
                step = steps.send(_NOTHING)

    def steps(self) -> Steps:
        """What to do on a new connection; without an end."""
        params: dict[str, object] = {"jobs": self._jobs, "since": self.cursor, **self._also}
        state = yield Ask("events/subscribe", params)
        yield from self._begin_anew(state) if state["reset"] else self._catch_up(state)
        self.cursor = state["cursor"]
        yield {"method": CURRENT, "params": {"cursor": self.cursor}}
        while True:
            message = yield None
            if "method" in message and not self._is_old(message):
                self._keep_track(message)
                yield message

    def _catch_up(self, state: Message) -> Steps:
        for job in state["jobs"]:
            yield self._told(UPDATED, {"job": job, "cursor": state["cursor"]})
        for identity in state["removed"]:
            yield self._told(REMOVED, {"id": identity, "cursor": state["cursor"]})

    def _begin_anew(self, state: Message) -> Steps:
        """All live jobs, the changes that come while the list is read among them, and what became of the others."""
        cursor = state["cursor"]
        if self.cursor is not None:
            yield {"method": RESET, "params": {"cursor": cursor}}
        before, self._live = self._live, {}
        following = state["next"]
        page = state
        while True:
            for job in page["jobs"]:
                yield self._told(UPDATED, {"job": job, "cursor": cursor})
            if following is None:
                break
            params = {**self._jobs, "status": self._wanted(), "order": "asc", "before": following, "limit": 1000}
            page = yield Ask("job/list", params)
            following = page["next"]
        for identity in [each for each in before if each not in self._live]:
            yield from self._what_became_of(identity, cursor)

    def _wanted(self) -> list[str]:
        asked = self._jobs.get("status")
        return [each for each in _LIVE if asked is None or each == asked or (isinstance(asked, list) and each in asked)]

    def _what_became_of(self, identity: str, cursor: str) -> Steps:
        try:
            answer = yield Ask("job/get", {"id": identity})
        except errors.JobNotFound:
            yield self._told(REMOVED, {"id": identity, "cursor": cursor})
        else:
            yield self._told(UPDATED, {"job": answer["job"], "cursor": cursor})

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
