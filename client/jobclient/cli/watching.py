"""`list --watch`: the table as it changes. The broker tells; nothing is asked again and again."""

from __future__ import annotations

import os
import select
from time import monotonic

from jobclient import watch
from jobclient.cli import exits, filters, listing, words
from jobclient.cli.console import OUT, write
from jobclient.raw import FAREWELL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job
    from jobclient.link import Link
    from jobclient.raw import Message

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
"""To the terminal's other screen, and back to what was there before."""
CLEAR = "\x1b[H\x1b[J"
_AROUND = 3
"""Lines around the jobs: the summary, the header, and the one the cursor is left in."""
DRAW_SECONDS = 0.25
"""Between two drawings, however many changes there are."""
AGE_SECONDS = 1.0
"""Between two drawings if nothing changes but the jobs' age."""


def run(given: Given, link: Link, console: Console) -> int:
    """Go along with the changes until Ctrl-C, or until the broker ends."""
    wanted = filters.wanted_jobs(given)
    if given.has("status"):
        wanted["status"] = filters.statuses(given)
    watched = watch.Watch(wanted)
    if given.has("json") or given.has("quiet") or console.columns is None:
        return _as_lines(watched, given, link, console)
    return _as_table(watched, given, link, console)


def _as_lines(watched: watch.Watch, given: Given, link: Link, console: Console) -> int:
    """A line of JSON, or an id, for each change; for a program that reads."""
    for message in watched.messages(link):
        if given.has("quiet") and message["method"] == watch.UPDATED:
            console.print(message["params"]["job"]["id"])
        elif not given.has("quiet") and message["method"] != watch.CURRENT:
            console.json({"method": message["method"], "params": message["params"]})
    return exits.OK


def _as_table(watched: watch.Watch, given: Given, link: Link, console: Console) -> int:
    """The table, drawn again a few times a second at most; what it looked like last stays to be read."""
    jobs: dict[str, Job] = {}
    write(OUT, ENTER)
    try:
        _follow(jobs, watched, given, link, console)
    finally:
        write(OUT, LEAVE)
        listing.show(list(jobs.values()), console)
    console.note("the broker has ended; jobs that live on are taken over by the next one  -> jobctl list")
    return exits.OK


def _follow(jobs: dict[str, Job], watched: watch.Watch, given: Given, link: Link, console: Console) -> None:
    """Go along with the changes until the broker ends."""
    messages = watched.messages(link)
    drawn, changed, current = 0.0, False, False
    while True:
        if current:
            left = drawn + (DRAW_SECONDS if changed else AGE_SECONDS) - monotonic()
            if left <= 0:
                _draw(jobs, given, console)
                drawn, changed = monotonic(), False
                continue
            connection = link.connection()
            if not connection.ready() and not select.select([connection.fileno()], [], [], left)[0]:
                continue
        message = next(messages)
        if message["method"] == watch.CURRENT:
            jobs |= {job["id"]: job for job in listing.current(given, link)}
            current = True
        elif message["method"] == FAREWELL:
            return
        else:
            _take(jobs, message)
        changed = True


def _take(jobs: dict[str, Job], message: Message) -> None:
    if message["method"] == watch.RESET:
        jobs.clear()
    elif message["method"] == watch.UPDATED:
        job: Job = message["params"]["job"]
        jobs[job["id"]] = job
    elif message["method"] == watch.REMOVED:
        jobs.pop(message["params"]["id"], None)


def _draw(jobs: dict[str, Job], given: Given, console: Console) -> None:
    """As `list` shows them; what is no longer shown is forgotten."""
    asked = filters.statuses(given)
    shown = [job for job in jobs.values() if job["status"] in asked]
    live = sorted((job for job in shown if words.is_live(job)), key=lambda job: job["number"], reverse=True)
    ended = [job for job in shown if not words.is_live(job)]
    ended.sort(key=lambda job: (job["completedAt"] or "", job["number"]), reverse=True)
    most = given.number("n")
    most = listing.ENDED_SHOWN if most is None and not given.has("all") else most
    keep = live + ended[:most]
    jobs.clear()
    jobs.update((job["id"], job) for job in keep)
    room = os.get_terminal_size(OUT).lines - _AROUND
    cut = len(keep) > room > 0
    console.print(CLEAR + words.summary(live))
    listing.show(keep[: room - 1] if cut else keep, console)
    if cut:
        console.print(f"and {len(keep) - room + 1} more")
