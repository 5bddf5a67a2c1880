"""`timed log` and `timed stage`: the log of timed jobs, read and written to."""

from __future__ import annotations

import os
import time

from jobclient.cli import exits, quantities
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.cli.render import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link
    from jobclient.raw import Message

_LINES = 20
_PIECE = 1000
_WAIT_MS = 60_000
_FRAMEWORK = "timed-jobs.framework"
_PREFIX = "JOBBROKER_TICK_"


def log(given: Given, link: Link, console: Console) -> int:
    """Print lines of the log, as they come if that is wanted."""
    params: dict[str, object] = {"limit": given.number("n") if given.has("n") else _LINES}
    if given.operands:
        params["name"] = given.operands[0]
    if given.has("since"):
        params |= {"since": _time(given.number("since") or 0), "limit": given.number("n") or _PIECE}
    answer = link.request("timed/log", params)
    while given.has("since") and not answer["entries"] and answer["next"] != params["since"]:
        params["since"] = answer["next"]  # the broker looks through so much at once, and found none there
        answer = link.request("timed/log", params)
    if given.has("json") and not given.has("f"):
        console.json(answer)
        return exits.OK
    _show(answer, given, console)
    while given.has("f"):
        params |= {"since": answer["next"], "limit": _PIECE, "waitMs": _WAIT_MS}
        answer = link.request("timed/log", params, patience=_WAIT_MS / 1000)
        _show(answer, given, console)
    return exits.OK


def _time(ago_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - ago_ms / 1000))


def _show(answer: Message, given: Given, console: Console) -> None:
    for entry in answer["entries"]:
        if given.has("json"):
            console.json(entry)
        else:
            console.print(_line(entry))


def _line(entry: Message) -> str:
    who = entry.get("schedule") or "-"
    runner = entry["runner"]
    if runner not in (_FRAMEWORK, who):
        who = f"{who}/{runner}"
    said = [str(entry["ts"]), escape(str(who)), escape(str(entry["stage"]))]
    if entry["result"] is not None:
        said.append(escape(str(entry["result"])))
    if entry["duration_ms"] is not None:
        said.append(quantities.duration(int(entry["duration_ms"])))
    if entry.get("job"):
        said.append(escape(str(entry["job"])))
    if entry["error"]:
        said.append(escape(str(entry["error"])))
    return "  ".join(said)


def stage(given: Given, link: Link, _: Console) -> int:
    """Write a line into the log, in the name of the runner this is called by."""
    batch, runner = (os.environ.get(_PREFIX + name) for name in ("BATCH_ID", "RUNNER"))
    if batch is None or runner is None:
        raise UsageError(f"timed stage: for what a schedule runs, which finds {_PREFIX}BATCH_ID in its environment")
    params: dict[str, object] = {"batchId": batch, "runner": runner, "stage": given.operands[0]}
    for name in ("result", "error"):
        if given.has(name):
            params[name] = given.text(name)
    details: dict[str, object] = {}
    for each in given.all("detail"):
        key, equals, value = each.partition("=")
        if not key or not equals:
            raise UsageError(f"--detail: {each!r} is not KEY=VALUE")
        details[key] = value
    link.request("timed/stage", {**params, "details": details} if details else params)
    return exits.OK


VERBS = (
    Verb(
        "timed log", log, "what schedules did", "[NAME]",
        Option("-f", "", "go on with what comes"),
        Option("-n", "N", f"so many lines (default {_LINES})"),
        Option("--since", "D", "only those of the last hour (1h), day (1d) ..."),
        Option("--json", "", "print the result as JSON, with -f one line per entry"),
        examples="jobctl timed log backup\njobctl timed log -f --json | jq .stage",
    ),
    Verb(
        "timed stage", stage, "from what a schedule runs: a line of its own in the log", "STAGE",
        Option("--result", "TEXT", "how it went; of the stage result: how all of it went"),
        Option("--error", "TEXT", "what went wrong"),
        Option("--detail", "K=V", "anything else; may be repeated"),
        needs=1,
        examples="jobctl timed stage copied --detail files=12\njobctl timed stage result --result nothing-new",
    ),
)  # fmt: skip
