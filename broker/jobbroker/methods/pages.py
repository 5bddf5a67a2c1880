"""How many jobs go into one answer: as many as a client asks for, and never more than a message holds."""

from __future__ import annotations

from collections.abc import Iterable

from jobclient.protocol import jsonrpc, wire
from jobclient.protocol.framing import MAX_MESSAGE

MAX_PAGE = 1000
"""Jobs in one answer."""
ROOM = MAX_MESSAGE // 2
"""Bytes of jobs in one answer: a job may be as large as the message that started it, its command alone."""


def fitting(jobs: Iterable[wire.Job]) -> list[wire.Job]:
    """The first of these jobs, as far as they fit into one answer; at least one, if there is one."""
    taken: list[wire.Job] = []
    room = ROOM
    for job in jobs:
        room -= len(jsonrpc.encode(job))
        if room < 0 and taken:
            break
        taken.append(job)
    return taken
