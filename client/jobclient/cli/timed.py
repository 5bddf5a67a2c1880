"""`timed ...`: what runs again and again. Its log is in `timedlog`."""

from __future__ import annotations

import time

from jobclient import rawjson
from jobclient.cli import exits, quantities, start, words
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.cli.render import Cell, escape, quote
from jobclient.raw import untext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.link import Link
    from jobclient.raw import Message

_HEADER = ("NAME", "EVERY", "NEXT", "LAST", "BUSY", "RUNS")
_PAGE = 1000
_OF_A_JOB = ("argv", "agent", "prompt", "cwd", "env", "umask", "rlimits", "merged", "timeoutMs", "idleTimeoutMs",
             "graceMs", "maxOutput")  # fmt: skip
_LOOKS = {
    "scheduled": "green", "completed_with_failures": "red", "failed": "red", "skipped_busy": "yellow",
    "running": "cyan",
}  # fmt: skip


def add(given: Given, link: Link, console: Console) -> int:
    """Add a schedule, or one more runner to a schedule."""
    name, *given.operands = given.operands
    params: dict[str, object] = {"name": name, **_what(given, console)}
    for option, member in (("every", "everyMs"), ("jitter", "jitterMs"), ("max-tasks", "maxTasksPerTick"),
                           ("max-messages", "maxMessagesPerTick"), ("settle", "settleDelayMs")):  # fmt: skip
        if given.has(option):
            params[member] = given.number(option)
    for option, member in (("to", "schedule"), ("leader-lock", "leaderLock")):
        if given.has(option):
            params[member] = given.text(option)
    if given.has("catch-up"):
        params["catchUp"] = True
    if given.has("every") == given.has("to"):
        raise UsageError("timed add: say --every 10m, or --to SCHEDULE to add a runner to one; --every 0 ticks by hand")
    schedule = link.request("timed/add", params)["schedule"]
    if given.has("json"):
        console.json({"schedule": schedule})
    else:
        by_hand = f"by hand  -> jobctl timed tick {quote(schedule['name'])}"
        often = f"{_every(schedule)}, next {_next(schedule)}" if schedule["nextAt"] else by_hand
        console.print(f"{escape(schedule['name'])}  {often}")
    return exits.OK


def _what(given: Given, console: Console) -> dict[str, object]:
    """What is to be run, with what goes with it."""
    builtin, method = given.text("builtin"), given.text("method")
    if builtin is None and method is None:
        found = start.parameters(given, console)
        return {member: found[member] for member in _OF_A_JOB if member in found}
    if given.operands:
        raise UsageError("timed add: either a command, or --builtin, or --method")
    what: dict[str, object] = {"method": method} if builtin is None else {"builtin": builtin}
    if given.has("params"):
        what["params"] = _json(given.text("params") or "")
    return {**what, "timeoutMs": given.number("timeout")} if given.has("timeout") else what


def _json(text: str) -> object:
    try:
        return rawjson.decode(text.encode("utf-8", "surrogateescape"))
    except rawjson.BadJson as exc:
        raise UsageError(f"--params: {exc}") from None


def list_schedules(given: Given, link: Link, console: Console) -> int:
    """Print the table of schedules."""
    found = _fetch(link)
    if given.has("json"):
        console.json(found)
    elif given.has("quiet"):
        console.print(*(schedule["name"] for schedule in found["schedules"]))
    elif not found["schedules"]:
        console.hint("no schedules  -> jobctl timed add NAME --every 10m -- COMMAND")
    else:
        console.table([[Cell(name, "bold") for name in _HEADER], *map(_row, found["schedules"])])
    if found["paused"] and not given.has("json"):
        console.note("timed jobs are paused, all of them  -> jobctl timed resume")
    return exits.OK


def _fetch(link: Link) -> Message:
    answer = link.request("timed/list", {"limit": _PAGE})
    page = answer
    while page["next"] is not None:
        page = link.request("timed/list", {"limit": _PAGE, "after": page["next"]})
        answer["schedules"] += page["schedules"]
    return {**answer, "next": None}


def _row(schedule: Message) -> list[Cell]:
    last = _last(schedule)
    return [
        Cell(escape(schedule["name"]), "bold"),
        Cell(_every(schedule)),
        Cell(_next(schedule)),
        Cell(last.replace("_", " "), _LOOKS.get(last, "")),
        Cell(str(schedule["busyStreak"] or "-"), "yellow" if schedule["busyStreak"] else ""),
        Cell("; ".join(map(_runner, schedule["runners"])) or "-"),
    ]


def _every(schedule: Message) -> str:
    return f"every {quantities.interval(schedule['everyMs'])}" if schedule["everyMs"] else "by hand"


def _next(schedule: Message) -> str:
    if schedule["paused"]:
        return "paused"
    if schedule["nextAt"] is None:
        return "-"
    left = quantities.epoch_ms(schedule["nextAt"]) - int(time.time() * 1000)
    return f"in {quantities.duration(left)}"


def _last(schedule: Message) -> str:
    last = schedule["last"]
    return "-" if last is None else last["result"] or "running"


def _runner(runner: Message) -> str:
    if runner["argv"] is not None:
        return " ".join(quote(untext(word)) for word in runner["argv"])
    if runner["agent"] is not None:
        return f"{escape(runner['agent'])}: {escape(' '.join(runner['prompt'].split())[:200])}"
    return f"[{escape(runner['builtin'] or runner['method'] or '')}]"


def show(given: Given, link: Link, console: Console) -> int:
    """Print schedules in full."""
    for name in given.operands:
        answer = link.request("timed/show", {"name": name})
        if given.has("json"):
            console.json(answer)
        else:
            schedule = answer["schedule"]
            console.print(
                escape(schedule["name"]), *(f"  {what:9}  {value}" for what, value in _facts(schedule) if value)
            )
    return exits.OK


def _facts(schedule: Message) -> Iterator[tuple[str, str]]:
    yield "ticks", _every(schedule)
    yield "jitter", quantities.interval(schedule["jitterMs"]) if schedule["jitterMs"] else ""
    yield "catch-up", "yes" if schedule["catchUp"] else ""
    yield "next", _next(schedule)
    for runner in schedule["runners"]:
        limit = f"  (time {quantities.interval(runner['timeoutMs'])})" if runner["timeoutMs"] else ""
        yield "runs", f"{escape(runner['name'])}: {_runner(runner)}{limit}"
    last = schedule["last"]
    if last is not None:
        took = "" if last["durationMs"] is None else f" in {quantities.duration(last['durationMs'])}"
        error = f": {escape(last['error'])}" if last["error"] else ""
        yield "last", f"{_last(schedule).replace('_', ' ')}{took}{error}  {last['batchId']}"
    yield "busy", f"{schedule['busyStreak']} ticks in a row" if schedule["busyStreak"] else ""
    yield "missed", str(schedule["missed"] or "")
    yield "jobs", " ".join(schedule["jobs"])
    if schedule["leaderLock"] is not None:
        yield "leader", f"{'this broker' if schedule['leads'] else 'not this broker'}, {escape(schedule['leaderLock'])}"
    yield "added", f"{words.ago(schedule['createdAt'])}"


def remove(given: Given, link: Link, console: Console) -> int:
    """Remove a schedule, or a runner of it."""
    params: dict[str, object] = {"name": given.operands[0]}
    if given.has("runner"):
        params["runner"] = given.text("runner")
    if given.has("wait"):
        params["waitMs"] = given.number("wait")
    answer = link.request("timed/remove", params, patience=None)
    if given.has("json"):
        console.json(answer)
    for job in answer["jobs"]:
        console.note(f"{job} still runs, and goes on  -> jobctl cancel {job}")
    return exits.OK


def tick(given: Given, link: Link, console: Console) -> int:
    """Let a schedule tick now."""
    answer = link.request("timed/tick", {"name": given.operands[0], "wait": given.has("wait")}, patience=None)
    if given.has("json"):
        console.json(answer)
    else:
        console.print(f"{answer['batchId']}  {answer['result'] or answer['decision']}")
        if answer["error"]:
            console.note(answer["error"])
    return exits.OK if (answer["result"] or answer["decision"]) == "scheduled" else exits.FAILED


def pause(given: Given, link: Link, console: Console) -> int:
    """Let ticks be skipped."""
    return _turn("timed/pause", given, link, console)


def resume(given: Given, link: Link, console: Console) -> int:
    """Let them be skipped no longer."""
    return _turn("timed/resume", given, link, console)


def _turn(method: str, given: Given, link: Link, console: Console) -> int:
    answers = [link.request(method, {"name": name}) for name in given.operands or (None,)]
    if given.has("json"):
        for answer in answers:
            console.json(answer)
    return exits.OK


_JSON = Option("--json", "", "print the result as JSON")
VERBS = (
    Verb(
        "timed add", add, "run a command again and again", "NAME [--] [COMMAND...]",
        Option("--every", "D", "how often: 30s, 10m, 1d; 0 is only when told to"),
        Option("--to", "SCHEDULE", "one more runner of that schedule, after those it has"),
        Option("--jitter", "D", "each time later by up to so much"),
        Option("--catch-up", "", "make up for missed times, by one tick"),
        Option("--timeout", "D", "end what it runs after so long"),
        Option("--idle-timeout", "D", "end it after so long without output"),
        Option("--grace", "D", "time between SIGTERM and SIGKILL"),
        Option("-C --directory", "DIR", "run it there"),
        Option("-e --env", "K[=V]", "set a variable of its environment, or take over ours; may be repeated"),
        Option("--env-clear", "", "begin with an empty environment"),
        Option("--max-output", "SIZE", "keep so much of its output: 100M"),
        Option("--split", "", "keep stderr apart from stdout"),
        Option("--sh", "SCRIPT", "run this by sh -c; further words are its arguments"),
        Option("--agent", "NAME", "run an agent; then one word, its prompt"),
        Option("--builtin", "NAME", "let the broker do it itself: cleanup"),
        Option("--method", "METHOD", "send this to the backend"),
        Option("--params", "JSON", "with these parameters"),
        Option("--leader-lock", "FILE", "of the brokers that share this file only one runs it"),
        Option("--max-tasks", "N", "told to what it runs"),
        Option("--max-messages", "N", "told to what it runs"),
        Option("--settle", "D", "told to what it runs"),
        _JSON,
        needs=1,
        examples="jobctl timed add backup --every 1h --timeout 10m -- ./backup.sh\n"
        "jobctl timed add tidy --every 1d --builtin cleanup",
    ),
    Verb(
        "timed list", list_schedules, "what runs again and again, and how it stands", "", _JSON,
        Option("-q --quiet", "", "print names alone"),
    ),
    Verb("timed show", show, "one schedule in full", "NAME...", _JSON, needs=1),
    Verb(
        "timed remove", remove, "run it no more; what runs goes on", "NAME",
        Option("--runner", "NAME", "only this of what it runs"),
        Option("--wait", "D", "wait so long for what runs now (default 10s)"), _JSON, needs=1,
    ),
    Verb(
        "timed tick", tick, "run it now", "NAME", Option("--wait", "", "until it is over"), _JSON, needs=1,
        examples="jobctl timed tick backup --wait",
    ),
    Verb("timed pause", pause, "skip the ticks of a schedule, or of all", "[NAME...]", _JSON),
    Verb("timed resume", resume, "skip them no longer", "[NAME...]", _JSON),
)  # fmt: skip
