"""`events`: a line whenever a job changes."""

from __future__ import annotations

from jobclient import watch
from jobclient.cli import exits, words
from jobclient.cli.options import Option, Verb
from jobclient.cli.render import Cell, escape, paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link
    from jobclient.raw import Message


def run(given: Given, link: Link, console: Console) -> int:
    """Print a line per change: first the live jobs as they are."""
    for message in watch.Watch(link).messages():
        if given.has("json"):
            console.json({"method": message["method"], "params": message["params"]})
        else:
            console.print(_line(message, console))
    return exits.OK


def _line(message: Message, console: Console) -> str:
    params = message["params"]
    if message["method"] == watch.UPDATED:
        job = params["job"]
        cell = words.state_cell(job, glyphs=console.columns is not None, unicode=console.unicode)
        when = job.get("completedAt") or job.get("stoppedAt") or job.get("startedAt") or job["createdAt"]
        what = words.command(job)
    elif message["method"] == watch.REMOVED:
        return f"{'-':24}  {params['id']}  removed"
    else:
        return f"{'-':24}  -  {escape(message['method'].rpartition('/')[2])}: {escape(str(params.get('reason', '')))}"
    state = Cell(f"{cell.text:12}", cell.colour)
    return f"{when}  {words.title(job)}  {paint(state.text, state.colour) if console.colour else state.text}  {what}"


VERBS = (
    Verb(
        "events", run, "a line whenever a job changes, until Ctrl-C or the broker's regular end", "",
        Option("--json", "", "one JSON document per line: method and params, as they came"),
        examples="jobctl events --json | jq .params.job.status",
    ),
)  # fmt: skip
