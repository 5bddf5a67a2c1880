"""`list`: what runs, and what ended lately."""

from __future__ import annotations

from jobclient.cli import filters, words
from jobclient.cli.options import Option, Verb
from jobclient.cli.render import Cell, cut, escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job
    from jobclient.link import Link

ENDED_SHOWN = 10
_LOOK_AT = 50
"""The broker lists by start; so many ended jobs are looked at to find those that ended last."""
_HEADER = ("ID", "NAME", "STATE", "AGE", "ENDED", "COMMAND")
_WANTS = {"ENDED": 70, "AGE": 56}
"""Columns that are left out of a terminal narrower than this, so that something of the command can be seen."""


def run(given: Given, link: Link, console: Console) -> int:
    """Print the table of jobs, and go on as it changes if that is wanted."""
    if given.has("watch"):
        from jobclient.cli import watching

        return watching.run(given, link, console)
    jobs = current(given, link)
    if given.has("json"):
        console.json({"jobs": jobs, "next": None})
    elif given.has("quiet"):
        console.print(*(job["id"] for job in jobs))
    else:
        show(jobs, console)
    return 0


def current(given: Given, link: Link) -> list[Job]:
    """The jobs to be listed: live ones by start, the newest first, then those that ended last."""
    statuses, wanted = filters.statuses(given), filters.wanted_jobs(given)
    live = filters.fetch(link, {**wanted, "status": [each for each in statuses if each in words.LIVE]})
    most = given.number("n")
    most = ENDED_SHOWN if most is None and not given.has("all") else most
    look_at = None if most is None else max(most, _LOOK_AT)
    ended = filters.fetch(link, {**wanted, "status": [each for each in statuses if each in words.TERMINAL]}, look_at)
    ended.sort(key=lambda job: (job["completedAt"] or "", job["number"]), reverse=True)
    return live + ended[:most]


def show(jobs: list[Job], console: Console) -> None:
    """Print them as a table."""
    if not jobs:
        console.hint("no jobs  -> jobctl start -- COMMAND")
        return
    columns = console.columns
    shown = [at for at, name in enumerate(_HEADER) if columns is None or columns >= _WANTS.get(name, 0)]
    rows = [[Cell(name, "bold") for name in _HEADER], *(_row(job, console) for job in jobs)]
    if columns is not None and len(shown) < len(_HEADER):  # then names get a fifth of it
        for row in rows:
            row[1].text = cut(row[1].text, columns // 5, console.ellipsis)
    console.table([[row[at] for at in shown] for row in rows])


def _row(job: Job, console: Console) -> list[Cell]:
    return [
        Cell(job["id"], "bold"),
        Cell(escape(job["name"] or "-")),
        words.state_cell(job, glyphs=console.columns is not None, unicode=console.unicode),
        Cell(words.age(job)),
        Cell(words.ago(job["completedAt"]), "dim"),
        Cell(words.command(job)),
    ]


VERBS = (
    Verb(
        "list", run, "what runs, and what ended lately", "",
        Option("-a --all", "", f"all ended jobs, not just the last {ENDED_SHOWN}"),
        Option("-n", "N", "at most so many ended jobs"),
        *filters.OPTIONS,
        Option("--watch", "", "go on as it changes; with --json, or in a pipe, by a line of JSON a change"),
        Option("--json", "", "print the result as JSON"),
        Option("-q --quiet", "", "print ids alone"),
        examples="jobctl list\njobctl list -a --status failed,timed_out --here\njobctl list --watch",
    ),
)  # fmt: skip
