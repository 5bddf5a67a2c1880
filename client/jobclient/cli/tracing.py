"""`broker trace`: what clients say to the broker, and what it says to them, as it happens."""

from __future__ import annotations

from jobclient.cli import exits
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.cli.quantities import parse_count
from jobclient.cli.render import escape
from jobclient.raw import FAREWELL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link
    from jobclient.raw import Message

NOTICE = "notifications/broker/trace"
LIST = "broker/trace"
_ARROWS = {"in": "->", "out": "<-"}


def run(given: Given, link: Link, console: Console) -> int:
    """Show messages until Ctrl-C, or until the broker ends; or only who is connected."""
    connection = link.connection()
    answer = connection.request(LIST, {"connection": _number(given)}, link.deadline())
    if given.has("list"):
        connection.request(LIST, {"on": False}, link.deadline())
        if given.has("json"):
            console.json(answer)
        else:
            console.print(*(_who(each) for each in answer["connections"]))
        return exits.OK
    names = {each["number"]: each for each in answer["connections"]}
    while True:
        message = connection.receive()
        if not isinstance(message, dict):
            continue
        if message.get("method") == FAREWELL:
            return exits.OK
        if message.get("method") == NOTICE:
            _show(message["params"], names, given, console)


def _number(given: Given) -> int | None:
    if not given.operands:
        return None
    try:
        return parse_count(given.operands[0])
    except ValueError as exc:
        raise UsageError(f"{exc}  -> jobctl broker trace --list") from None


def _who(connection: Message) -> str:
    how = connection["framing"] or "silent"
    return f"{connection['number']:4}  {connection['pid']:7}  {how:7}  {escape(connection['client'])}"


def _show(traced: Message, names: dict[int, Message], given: Given, console: Console) -> None:
    if given.has("json"):
        console.json(traced)
        return
    known = names.get(traced["connection"])
    who = f"#{traced['connection']}" + (f" {escape(known['client'])}" if known is not None else "")
    if traced["dropped"]:
        console.note(f"{traced['dropped']} messages are not shown here: they came faster than they were read")
    cut = f" ... {traced['size']} bytes" if traced["size"] > len(traced["text"].encode()) + 1 else ""
    console.print(f"{traced['time']}  {who}  {_ARROWS[traced['direction']]}  {escape(traced['text'])}{cut}")


VERBS = (
    Verb(
        "broker trace", run, "what clients say to the broker and what it says to them, until Ctrl-C", "[CONNECTION]",
        Option("--list", "", "only who is connected: number, process, framing, name"),
        Option("--json", "", "print each message as JSON"),
        examples="jobctl broker trace --list\njobctl broker trace 7 --json | jq -r .text",
    ),
)  # fmt: skip
