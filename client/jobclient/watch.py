"""Hear of every change of jobs, across the end of a connection: what was missed in between is asked for."""

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


def changes(link: Link, jobs: Params | None = None) -> Iterator[Message]:
    """Notifications: first the live jobs as they are, then every change, at last the broker's farewell.

    A broker that dies without one is looked for, started if need be, and asked what became of the jobs.

    Args:
        link: used by nobody else meanwhile.
        jobs: which jobs, as `wire.Filter`; all by default.
    """
    live: dict[str, int] = {}  # id -> rev of what was told last
    while True:
        try:
            for message in _of_one(link, {"jobs": jobs}, live):
                yield message
                if message["method"] == FAREWELL:
                    return
        except errors.ConnectionLost as exc:
            link.lost(exc)


def _of_one(link: Link, params: Params, live: dict[str, int]) -> Iterator[Message]:
    """The notifications that come by one connection."""
    connection = link.connection()
    subscribed = connection.request("events/subscribe", params, link.deadline())
    for job in subscribed["jobs"]:
        if live.get(job["id"]) != job["rev"]:
            live[job["id"]] = job["rev"]
            yield {"method": UPDATED, "params": {"job": job}}
    for identity in live.keys() - {job["id"] for job in subscribed["jobs"]}:
        del live[identity]
        yield _what_became_of(connection, identity, link.deadline())
    while True:
        message = connection.receive()
        if isinstance(message, dict) and "method" in message:
            _note(message, live)
            yield message


def _what_became_of(connection: RawConnection, identity: str, deadline: float) -> Message:
    try:
        job = connection.request("job/get", {"id": identity}, deadline)["job"]
    except errors.JobNotFound:
        return {"method": REMOVED, "params": {"id": identity}}
    return {"method": UPDATED, "params": {"job": job}}


def _note(message: Message, live: dict[str, int]) -> None:
    """Keep track of which jobs are live."""
    if message["method"] == REMOVED:
        live.pop(message["params"]["id"], None)
    elif message["method"] == UPDATED:
        job = message["params"]["job"]
        if job.get("completedAt"):
            live.pop(job["id"], None)
        else:
            live[job["id"]] = job["rev"]
