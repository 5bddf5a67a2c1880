"""`status` and `result`: one job in full, and what a completed one left."""

from __future__ import annotations

from jobclient.cli import exits, references, words
from jobclient.cli.console import ERR, OUT, write
from jobclient.cli.options import Option, Verb
from jobclient.cli.quantities import limit, size
from jobclient.cli.render import escape, paint, quote
from jobclient.protocol.failure import RemoteError
from jobclient.raw import unbase64, untext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job, Stream
    from jobclient.link import Link


def status(given: Given, link: Link, console: Console) -> int:
    """Print jobs in full."""
    code = exits.OK
    for found in references.look_up(link, given.operands, env=given.has("env")):
        if isinstance(found, RemoteError):
            console.note(exits.advice(found))
            code = exits.of_error(found) if len(given.operands) == 1 else exits.FAILED
        elif given.has("json"):
            console.json({"job": found})
        else:
            console.print(*_describe(found, console))
    return code


def _describe(job: Job, console: Console) -> Iterator[str]:
    cell = words.state_cell(job, glyphs=console.columns is not None, unicode=console.unicode)
    yield f"{words.title(job)}  {paint(cell.text, cell.colour) if console.colour else cell.text}"
    for name, value in _facts(job):
        if value:
            yield f"  {name:9}  {value}"


def _facts(job: Job) -> Iterator[tuple[str, str]]:
    yield "agent", escape(job.get("agent") or "")
    yield "prompt", escape(job.get("prompt") or "")
    yield "method", escape(job.get("method") or "")
    yield "command", _command(job)
    yield "stdin", _stdin(job)
    yield "directory", escape(untext(job["cwd"]))
    yield "number", f"%{job['number']}"
    yield "labels", escape(" ".join(f"{key}={value}" for key, value in job["labels"].items()))
    yield "created", _moment(job["createdAt"]) + _origin(job)
    yield "started", _moment(job["startedAt"])
    yield "stopped", _moment(job["stoppedAt"])
    yield "ended", _moment(job["completedAt"])
    yield "ran", words.age(job) if job["startedAt"] else ""
    yield "why", escape(job["error"] or (job["reason"] or ""))
    yield "process", f"{job['pid']}" if job["pid"] and words.is_live(job) else ""
    yield "limits", f"time {limit(job['timeoutMs'])}, silence {limit(job['idleTimeoutMs'])}"
    yield "grace", limit(job["graceMs"])
    if job["merged"]:
        yield "output", _stream(job["stdout"])
    else:
        yield "stdout", _stream(job["stdout"])
        yield "stderr", _stream(job["stderr"])
    yield "kept", "" if job.get("persist", True) else "in memory only, for as long as this broker lives"
    for entry in job.get("env", ()):
        name, _, value = untext(entry).partition("=")
        yield "env", f"{escape(name)}={quote(value)}"


def _stdin(job: Job) -> str:
    kind = job.get("stdin", "null")
    return escape(untext(job["stdinFile"] or "")) if kind == "file" else "" if kind == "null" else kind


def _command(job: Job) -> str:
    """What was run; the prompt was shown already."""
    return " ".join("PROMPT" if word == job.get("prompt") else quote(untext(word)) for word in job["argv"])


def _moment(timestamp: str | None) -> str:
    return f"{timestamp}  ({words.ago(timestamp)})" if timestamp else ""


def _origin(job: Job) -> str:
    origin = job["origin"]
    return f" by {escape(origin['client'])} ({origin['pid']})" if origin else ""


def _stream(stream: Stream) -> str:
    dropped = f", {size(stream['dropped'])} not kept" if stream["dropped"] else ""
    return size(stream["size"]) + dropped + ("" if stream["closed"] else ", open")


def result(given: Given, link: Link, console: Console) -> int:
    """Print what a completed job left."""
    reference = references.resolve(link, given.operands[0])
    try:
        answer = link.request("job/result", {"id": reference})
    except RemoteError as exc:
        if exc.kind != "result_unavailable" or not given.has("exit"):
            raise
        return _exit_without_result(references.all_of(link, [reference])[0], console)
    if given.has("json"):
        console.json(answer)
        return exits.OK
    left = answer["result"]
    code: int = exits.of_job(answer["job"]) if given.has("exit") else exits.OK
    if left.get("agent") is None:
        for descriptor, stream in ((OUT, "stdout"), (ERR, "stderr")):
            data: str = left[stream]
            write(descriptor, unbase64(data) if left["encoding"] == "base64" else data.encode())
    elif left["message"] is not None:
        write(OUT, left["message"].encode() + b"\n")
    else:
        console.note(f"{words.title(answer['job'])} left no message  -> jobctl output {answer['job']['id']}")
        return code or exits.FAILED
    if left["truncated"]:
        console.note(f"only the end of the output is shown  -> jobctl output {answer['job']['id']}")
    return code


def _exit_without_result(job: Job, console: Console) -> int:
    if words.is_live(job):
        from jobclient.protocol.errors import InvalidState

        raise InvalidState(f"{words.title(job)} {words.end(job)}  -> jobctl wait {job['id']}")
    console.note(f"{words.title(job)} {words.end(job)}  -> jobctl output {job['id']}")
    return exits.of_job(job)


VERBS = (
    Verb(
        "status", status, "jobs in full: what was asked, what became of it, and why", "JOB...",
        Option("--env", "", "the environment too"),
        Option("--json", "", "print the result as JSON, one line per job"),
        needs=1, examples="jobctl status tests\njobctl status @ --env",
    ),
    Verb(
        "result", result, "what a completed job left: the end of its output, of an agent its last message", "JOB",
        Option("--exit", "", "end with the job's exit code, whatever became of it"),
        Option("--json", "", "print the result as JSON"),
        needs=1, passes="exit", examples="jobctl result tests\njobctl result --json k7f3qm",
    ),
)  # fmt: skip
