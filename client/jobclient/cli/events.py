"""`events`: a line whenever a job changes."""

from __future__ import annotations

from time import monotonic, sleep

from jobclient import watch
from jobclient.cli import exits, filters, words
from jobclient.cli.options import Option, Verb
from jobclient.cli.render import Cell, escape, paint
from jobclient.link import Link
from jobclient.protocol.failure import BrokerUnavailable, ConnectionLost
from jobclient.raw import unbase64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.raw import Message


RESTART_SECONDS = 3.0
"""How long the next broker may take to come up after one has said that it goes."""
_PAUSE = 0.05


def run(given: Given, link: Link, console: Console) -> int:
    """Print a line per change: first the live jobs as they are, or what has changed since a cursor."""
    wanted = filters.wanted_jobs(given)
    if given.has("status"):
        wanted["status"] = filters.statuses(given)
    since = given.text("since")
    while True:
        watched = watch.Watch(wanted, since=since, output=given.has("output"))
        for message in watched.messages(link):
            if message["method"] == watch.CURRENT:
                continue
            if given.has("json"):
                console.json({"method": message["method"], "params": message["params"]})
            else:
                console.print(*_lines(message, console))
        since = watched.cursor
        if not _comes_back(link):
            return exits.OK


def _comes_back(link: Link) -> bool:
    """Whether another broker comes up soon, as in a restart. None is started: the last one was meant to go."""
    link.close()
    deadline = monotonic() + RESTART_SECONDS
    while monotonic() < deadline:
        try:
            with Link(link.instance, timeout=RESTART_SECONDS, autospawn=False) as other:
                other.connection()
        except (BrokerUnavailable, ConnectionLost):
            sleep(_PAUSE)
        else:
            return True
    return False


def _lines(message: Message, console: Console) -> list[str]:
    if message["method"] != watch.OUTPUT:
        return [_line(message, console)]
    piece = message["params"]
    data: str = piece["data"]
    raw = unbase64(data) if piece["encoding"] == "base64" else data.encode()
    lines = raw.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n") if raw else []
    gap = [f"{piece['id']}  {piece['stream']}  {piece['dropped']} bytes are missing"] if piece["dropped"] else []
    return gap + [f"{piece['id']}  {piece['stream']}  {escape(line)}" for line in lines]


def _line(message: Message, console: Console) -> str:
    params = message["params"]
    if message["method"] == watch.UPDATED:
        job = params["job"]
        cell = words.state_cell(job, glyphs=console.columns is not None, unicode=console.unicode)
        when = job.get("completedAt") or job.get("stoppedAt") or job.get("startedAt") or job["createdAt"]
        what = words.command(job)
    elif message["method"] == watch.REMOVED:
        return f"{'-':24}  {params['id']}  removed"
    elif message["method"] == watch.RESET:
        return f"{'-':24}  -  reset: changes may be missing; all live jobs follow"
    else:
        return f"{'-':24}  -  {escape(message['method'].rpartition('/')[2])}: {escape(str(params.get('reason', '')))}"
    state = Cell(f"{cell.text:12}", cell.colour)
    return f"{when}  {words.title(job)}  {paint(state.text, state.colour) if console.colour else state.text}  {what}"


VERBS = (
    Verb(
        "events", run, "a line whenever a job changes, until Ctrl-C or the broker's regular end", "",
        Option("--since", "CURSOR", "what has changed since then: the `cursor` of an earlier line of --json"),
        Option("--output", "", "what the jobs write, too"),
        *filters.OPTIONS,
        Option("--json", "", "one JSON document per line: method and params, as they came"),
        examples="jobctl events --json | jq .params.job.status\njobctl events --output -l ci=yes",
    ),
)  # fmt: skip
