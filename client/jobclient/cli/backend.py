"""`backend ...`: the process an instance fronts, and what can be fronted."""

from __future__ import annotations

import time

from jobclient.cli import exits
from jobclient.cli.options import Option, Verb
from jobclient.cli.quantities import duration
from jobclient.cli.render import escape
from jobclient.protocol.failure import RemoteError
from jobclient.raw import untext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link
    from jobclient.raw import Message

TEST_MS = 60_000
"""How long a backend may take to start and answer once."""
ANY_METHOD = "broker/ping"


def profiles(given: Given, link: Link, console: Console) -> int:
    """Say which profiles there are."""
    answer = link.request("backend/profiles")
    if given.has("json"):
        console.json(answer)
        return exits.OK
    for each in answer["profiles"]:
        mark = "*" if each["inUse"] else " "
        console.print(f"{mark} {escape(each['name']):16}  {escape(each['error'] or each['path'])}")
    return exits.OK


def show(given: Given, link: Link, console: Console) -> int:
    """Print a profile, or how the backend is."""
    if given.operands:
        answer = link.request("backend/profiles", {"name": given.operands[0]})
        if given.has("json"):
            console.json(answer)
            return exits.OK
        (profile,) = answer["profiles"]
        if profile["error"]:
            console.note(profile["error"])
            return exits.FAILED
        console.print(f"# {profile['path']}", *profile["text"].rstrip("\n").split("\n"))
        return exits.OK
    answer = link.request("backend/status")
    if given.has("json"):
        console.json(answer)
    elif answer["backend"] is None:
        console.print(
            f"the broker of {link.instance!r} has no backend  -> jobbrokerd --instance NAME --backend PROFILE"
        )
    else:
        console.print(*_describe(answer["backend"]))
    return exits.OK


def _describe(backend: Message) -> list[str]:
    process = f", process {backend['pid']}" if backend["pid"] is not None else ""
    silent = f", silent for {duration(backend['silentMs'])}" if backend["silentMs"] is not None else ""
    lines = [
        f"backend {escape(backend['profile'])}: {backend['state']}{process}{silent}",
        f"  command  {' '.join(escape(untext(word)) for word in backend['command'])}",
        f"  clients  {backend['clients']}, {backend['pending']} requests and {backend['turns']} turns under way",
    ]
    if backend["asking"]:
        lines.append(f"  asks     {backend['asking']} questions nobody has answered yet")
    if backend["lastExit"]:
        lines.append(f"  before   it {escape(backend['lastExit']['reason'])}")
    return lines


def test(given: Given, link: Link, console: Console) -> int:
    """Start it if need be, and see that it answers: whatever it answers, an error too, will do."""
    method = given.operands[0] if given.operands else ANY_METHOD
    begun = time.monotonic()
    said = "an answer"
    try:
        link.request("backend/request", {"method": method, "timeoutMs": TEST_MS})
    except RemoteError as exc:
        if exc.kind in ("backend_gone", "timeout", "busy", "shutting_down"):
            raise
        said = f"an error, which will do: {str(exc)[:200]}"
    took = int((time.monotonic() - begun) * 1000)
    (first, *_) = _describe(link.request("backend/status")["backend"])
    console.print(first, f"  {escape(method)}: {escape(said)}, after {took} ms")
    return exits.OK


_JSON = Option("--json", "", "print the result as JSON")
VERBS = (
    Verb("backend list", profiles, "the profiles there are; * is the one in use", "", _JSON),
    Verb(
        "backend show", show, "a profile, or without a name how the backend is", "[PROFILE]", _JSON,
        examples="jobctl backend show\njobctl backend show lsp",
    ),
    Verb(
        "backend test", test, "start the backend if need be, and see that it answers", "[METHOD]",
        examples="jobctl backend test",
    ),
)  # fmt: skip
