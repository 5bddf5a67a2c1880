"""`processes`: what a job consists of right now."""

from __future__ import annotations

from jobclient.cli import exits, references
from jobclient.cli.options import Option, Verb
from jobclient.cli.quantities import size
from jobclient.cli.render import Cell, escape
from jobclient.raw import untext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Process
    from jobclient.link import Link

_HEADER = ("PID", "GROUP", "STATE", "CPU", "MEMORY", "COMMAND")


def run(given: Given, link: Link, console: Console) -> int:
    """Print the tree of a job's processes."""
    answer = link.request("job/processes", {"id": references.resolve(link, given.operands[0])})
    if given.has("json"):
        console.json(answer)
    elif given.has("quiet"):
        console.print(*(str(process["pid"]) for process in answer["processes"]))
    elif not answer["processes"]:
        console.hint("it has no processes now")
    else:
        console.table([[Cell(name, "bold") for name in _HEADER], *_rows(answer["processes"])])
    return exits.OK


def _rows(processes: Sequence[Process]) -> list[list[Cell]]:
    """A line each, indented below its parent."""
    below: dict[int, list[Process]] = {}
    known = {process["pid"] for process in processes}
    for process in processes:
        below.setdefault(process["ppid"] if process["ppid"] in known else 0, []).append(process)
    rows: list[list[Cell]] = []
    left = [(process, 0) for process in reversed(below.get(0, []))]
    while left:
        process, depth = left.pop()
        rows.append(_row(process, depth))
        left += [(child, depth + 1) for child in reversed(below.get(process["pid"], []))]
    return rows


def _row(process: Process, depth: int) -> list[Cell]:
    return [
        Cell(str(process["pid"])),
        Cell(str(process["pgid"]), "dim"),
        Cell(process["state"], "yellow" if process["state"] == "stopped" else ""),
        Cell(f"{process['cpu']:.0f}%"),
        Cell(size(process["rss"])),
        Cell("  " * depth + escape(untext(process["command"]))),
    ]


VERBS = (
    Verb(
        "processes", run, "what a job consists of right now: its processes, children below their parents", "JOB",
        Option("--json", "", "print the result as JSON"),
        Option("-q --quiet", "", "print process ids alone"),
        needs=1, examples="jobctl processes build",
    ),
)  # fmt: skip
