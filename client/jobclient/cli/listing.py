"""`list`: what runs, and what ended lately."""

from __future__ import annotations

from jobclient.cli import words
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.cli.render import Cell, escape
from jobclient.raw import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job
    from jobclient.link import Link

ENDED_SHOWN = 10
_LOOK_AT = 50
"""The broker lists by start; so many ended jobs are looked at to find those that ended last."""
_PAGE = 500
_HEADER = ("ID", "NAME", "STATE", "AGE", "ENDED", "COMMAND")


def run(given: Given, link: Link, console: Console) -> int:
    """Print the table of jobs."""
    statuses = _statuses(given.text("status"))
    wanted = wanted_jobs(given)
    live = _fetch(link, {**wanted, "status": [each for each in statuses if each in words.LIVE]}, None)
    most = given.number("n")
    most = ENDED_SHOWN if most is None and not given.has("all") else most
    look_at = None if most is None else max(most, _LOOK_AT)
    ended = _fetch(link, {**wanted, "status": [each for each in statuses if each in words.TERMINAL]}, look_at)
    ended.sort(key=lambda job: (job["completedAt"] or "", job["number"]), reverse=True)
    jobs = live + ended[:most]
    if given.has("json"):
        console.json({"jobs": jobs, "next": None})
    elif given.has("quiet"):
        console.print(*(job["id"] for job in jobs))
    else:
        _show(jobs, console)
    return 0


def _statuses(given: str | None) -> list[str]:
    known = (*words.LIVE, *words.TERMINAL)
    return list(known) if given is None else chosen("list", given, known)


def chosen(verb: str, given: str, known: Sequence[str]) -> list[str]:
    """The statuses a list of words names.

    Raises:
        UsageError: one is none of these.
    """
    found = [each.strip().replace("-", "_") for each in given.split(",")]
    for each in found:
        if each not in known:
            raise UsageError(f"{verb}: no status {each!r}, there are {', '.join(known)}")
    return found


def wanted_jobs(given: Given) -> dict[str, object]:
    """A filter for jobs, by label, name and directory."""
    wanted: dict[str, object] = {}
    if given.has("label"):
        wanted["label"] = labels(given.all("label"))
    for name in ("name", "kind"):
        if given.has(name):
            wanted[name] = given.text(name)
    if given.has("here"):
        from jobclient.surroundings import directory

        wanted["cwd"] = text(directory())
    return wanted


def labels(given: list[str]) -> dict[str, str]:
    """Labels from `KEY=VALUE`.

    Raises:
        UsageError: one is something else.
    """
    found: dict[str, str] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not key or not equals:
            raise UsageError(f"--label: {each!r} is not KEY=VALUE")
        found[key] = value
    return found


def _fetch(link: Link, wanted: dict[str, object], most: int | None) -> list[Job]:
    """Jobs, newest start first, page by page."""
    jobs: list[Job] = []
    before = None
    while wanted["status"]:
        size = _PAGE if most is None else min(_PAGE, most - len(jobs))
        page = link.request("job/list", {**wanted, "limit": size, "before": before})
        jobs += page["jobs"]
        before = page["next"]
        if before is None or (most is not None and len(jobs) >= most):
            break
    return jobs


def _show(jobs: list[Job], console: Console) -> None:
    if not jobs:
        console.hint("no jobs  -> jobctl start -- COMMAND")
        return
    header = [Cell(name, "bold") for name in _HEADER]
    console.table([header, *(_row(job, console) for job in jobs)])


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
        Option("--status", "S,...", "only these: " + " ".join((*words.LIVE, *words.TERMINAL))),
        Option("-l --label", "K=V", "only jobs with this label"),
        Option("--name", "NAME", "only jobs of this name"),
        Option("--kind", "KIND", "only jobs of this kind: command or agent", "command", "agent"),
        Option("--here", "", "only jobs that run in this directory"),
        Option("--json", "", "print the result as JSON"),
        Option("-q --quiet", "", "print ids alone"),
        examples="jobctl list\njobctl list -a --status failed,timed_out --here",
    ),
)  # fmt: skip
