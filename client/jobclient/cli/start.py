"""`start` and `run`: from a command line to a job, and for `run` along with it to its end."""

from __future__ import annotations

import os

from jobclient import surroundings
from jobclient.cli import exits, words
from jobclient.cli.filters import labels
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.cli.render import escape, quote
from jobclient.raw import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job
    from jobclient.link import Link
    from jobclient.raw import Message


def start(given: Given, link: Link, console: Console) -> int:
    """Start a job and return at once."""
    answer = _request(given, link, console)
    job: Job = answer["job"]
    if given.has("json"):
        console.json(answer)
    elif given.has("quiet"):
        console.print(job["id"])
    else:
        name = f"  {escape(job['name'])}" if job["name"] else ""
        word = "started" if job["startedAt"] else words.state(job)  # even if it has ended by now
        console.print(f"{job['id']}{name}  {word if answer['created'] else f'was there: {words.state(job)}'}")
        console.hint(f"  -> jobctl output -f {job['id']}")
    if job["reason"] == "spawn":
        console.note(f"{words.title(job)} could not be started: {job['error']}{_remedy(job)}")
        return exits.FAILED
    return exits.OK


def run(given: Given, link: Link, console: Console) -> int:
    """Start a job, show its output as it comes, end with its exit code."""
    from jobclient.cli.follow import Follower
    from jobclient.cli.signals import Signals

    with Signals() as signals:
        job: Job = _request(given, link, console)["job"]
        if job["status"] == "queued" and not given.has("quiet"):
            console.note(f"{words.title(job)} waits for its turn: as many jobs run as may")
        try:
            ended = Follower(link, console, signals, job, json=given.has("json")).run()
        except BrokenPipeError:
            console.note(f"nobody reads any more, {words.title(job)} goes on  -> jobctl cancel {job['id']}")
            raise
    if ended is None:
        if not signals.hung_up:
            console.note(f"detached, {words.title(job)} goes on  -> jobctl output -f {job['id']}")
        return exits.HUNG_UP if signals.hung_up else exits.INTERRUPTED
    if given.has("json"):
        console.json({"job": ended})
    elif ended["reason"] not in ("exit", "spawn") and not given.has("quiet"):
        console.note(f"{words.title(ended)} {words.end(ended)}")
    if ended["reason"] == "spawn":
        console.note(f"{words.title(ended)} could not be started: {ended['error']}{_remedy(ended)}")
    return exits.of_job(ended)


def _remedy(job: Job) -> str:
    """What to do about a line for a shell that was given as a program's name."""
    argv = job["argv"]
    line = argv[0] if len(argv) == 1 and isinstance(argv[0], str) else ""
    return f"  -> jobctl start --sh {quote(line)}" if " " in line and "ENOENT" in (job["error"] or "") else ""


def _request(given: Given, link: Link, console: Console) -> Message:
    return link.request("job/start", parameters(given, console))


def parameters(given: Given, console: Console) -> dict[str, object]:
    """The parameters of `job/start` the command line asks for."""
    params: dict[str, object] = {
        **(_agent(given) if given.has("agent") else {"argv": _argv(given)}),
        "cwd": text(_directory(given)),
        "env": surroundings.environment(_environment(given)),
        "umask": surroundings.umask(),
        "rlimits": surroundings.soft_limits(),
        "merged": not (given.has("split") or given.has("agent")),  # an agent's last message is read from its stdout
        "timeoutMs": _timeout(given, console),
        "idempotencyKey": given.text("key") or surroundings.idempotency_key(),
        "name": given.text("name"),
        "idleTimeoutMs": given.number("idle-timeout"),
        "graceMs": given.number("grace"),
        "maxOutput": given.number("max-output"),
        "persist": False if given.has("no-persist") else None,
    }
    if given.has("stdin"):
        from jobclient.cli.input import source

        params["stdin"] = source(given)
    if given.has("label"):
        params["labels"] = labels(given.all("label"))
    return {name: value for name, value in params.items() if value is not None}


def _agent(given: Given) -> dict[str, object]:
    """An agent and its prompt, which is one word: several would be a guess at what the spaces between them were."""
    agent, prompts = given.text("agent"), given.operands
    if given.has("sh"):
        raise UsageError("either --agent or --sh: an agent is run without a shell")
    if not prompts:
        raise UsageError(f"say what {agent} is to do: jobctl start --agent {agent} -- 'fix the flaky test'")
    if len(prompts) > 1:
        quoted = quote(" ".join(prompts))
        raise UsageError(f"a prompt is one word, so quote it: jobctl start --agent {agent} -- {quoted}")
    if not isinstance(text(prompts[0]), str):
        raise UsageError("the prompt is not UTF-8")
    return {"agent": agent, "prompt": prompts[0]}


def _argv(given: Given) -> list[object]:
    script = given.text("sh")
    if script is not None:
        return ["sh", "-c", text(script), *(["sh", *map(text, given.operands)] if given.operands else [])]
    if not given.operands:
        raise UsageError("say what to run, best behind --  -> jobctl help start")
    return [text(word) for word in given.operands]


def _directory(given: Given) -> str:
    chosen = given.text("directory")
    if chosen is not None and os.path.isabs(chosen):
        return chosen
    here = surroundings.directory()
    return here if chosen is None else os.path.normpath(os.path.join(here, chosen))


def _environment(given: Given) -> dict[str, str]:
    """Ours, or none of it, and what `-e` says: `NAME=VALUE`, or `NAME` to take ours over."""
    variables = {} if given.has("env-clear") else dict(os.environ)
    for each in given.all("env"):
        name, equals, value = each.partition("=")
        if not name:
            raise UsageError(f"--env: {each!r} is not NAME=VALUE")
        if equals:
            variables[name] = value
        elif name in os.environ:
            variables[name] = os.environ[name]
        else:
            variables.pop(name, None)
    return variables


def _timeout(given: Given, console: Console) -> int | None:
    if given.has("timeout"):
        return given.number("timeout")
    try:
        return surroundings.timeout_ms()
    except ValueError as exc:
        console.note(str(exc))
        return None


_OPTIONS = (
    Option("-n --name", "NAME", "what to call it; need not be unique"),
    Option("-l --label", "K=V", "a label, for list -l; may be repeated"),
    Option("-C --directory", "DIR", "run it there"),
    Option("-e --env", "K[=V]", "set a variable of its environment, or take over ours; may be repeated"),
    Option("--stdin", "WHAT", "what it reads: a file, - for our stdin, or pipe, for jobctl input"),
    Option("--env-clear", "", "begin with an empty environment"),
    Option("--timeout", "D", "end it after so long: 90, 5m, 1h30m; 0 is never"),
    Option("--idle-timeout", "D", "end it after so long without output"),
    Option("--grace", "D", "time between SIGTERM and SIGKILL"),
    Option("--max-output", "SIZE", "keep so much of its output: 100M"),
    Option("--no-persist", "", "keep its output in memory only: it is gone with the job and the broker"),
    Option("--split", "", "keep stderr apart from stdout"),
    Option("--sh", "SCRIPT", "run this by sh -c; further words are its arguments"),
    Option("--agent", "NAME", "run codex, claude, opencode or your own; then one word, its prompt"),
    Option("--key", "KEY", "the same key names the same job: a second start finds the first"),
)
_JSON = Option("--json", "", "print the result as JSON")
_QUIET = Option("-q --quiet", "", "print the id alone")
VERBS = (
    Verb(
        "start", start, "start a job and return at once", "[--] COMMAND...", *_OPTIONS, _JSON, _QUIET,
        verbatim=True,
        examples="jobctl start -n tests --timeout 30m -- pytest -q\nid=$(jobctl start -q -- make -j8)\n"
        "jobctl start --agent codex -- 'fix the flaky test'",
    ),
    Verb(
        "run", run, "start a job, show its output, end with its exit code", "[--] COMMAND...", *_OPTIONS,
        Option("--json", "", "print pieces of output, then the job, as JSON lines"),
        Option("-q --quiet", "", "say nothing about how it ended"),
        verbatim=True, passes="always",
        examples="jobctl run -- make -j8\njobctl run --sh 'make && make install'",
    ),
)  # fmt: skip
"""Ctrl-C during `run` goes to the job, twice within 2 s cancels it; Ctrl-\\ leaves it running."""
