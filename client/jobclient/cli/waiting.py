"""`wait`: until jobs have ended, with their exit code."""

from __future__ import annotations

from jobclient.cli import exits, references, words
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.cli.output import tell_still_running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job
    from jobclient.link import Link
    from jobclient.raw import Message


def run(given: Given, link: Link, console: Console) -> int:
    """Wait for jobs."""
    ids = _ids(given, link)
    if not ids:
        console.note("no job is running")
        return exits.OK
    timeout = given.number("timeout")
    params: dict[str, object] = {"ids": ids, "any": given.has("any")}
    if timeout is not None:
        params["timeoutMs"] = timeout
    try:
        answer = link.request("job/wait", params, patience=None if timeout is None else timeout / 1000)
    except KeyboardInterrupt:
        tell_still_running(link, console, ids)
        raise
    _tell(answer, given, console)
    return _code(answer, ids, first_to_end=given.has("any"))


def _ids(given: Given, link: Link) -> list[str]:
    """Ids rather than what was typed: a name may mean another job by the time a connection is made anew."""
    if given.has("all"):
        if given.operands:
            raise UsageError("wait: --all means all live jobs, name none besides")
        live: list[Job] = []
        before = None
        while True:
            page = link.request("job/list", {"status": list(words.LIVE), "before": before})
            live += page["jobs"]
            before = page["next"]
            if before is None:
                return [job["id"] for job in live]
    if not given.operands:
        raise UsageError("wait: say for what: jobctl wait JOB..., or --all")
    return [job["id"] for job in references.all_of(link, given.operands)]


def _tell(answer: Message, given: Given, console: Console) -> None:
    if given.has("json"):
        console.json(answer)
    elif not given.has("quiet"):
        console.print(*(f"{words.title(job)}  {words.end(job)}" for job in answer["jobs"]))
    for job in answer["stopped"]:
        console.note(f"{words.title(job)} is stopped, it is not waited for  -> jobctl resume {job['id']}")
    if answer["timedOut"]:
        console.note("time is up, not all have ended  -> jobctl list")


def _code(answer: Message, ids: list[str], *, first_to_end: bool) -> int:
    if answer["timedOut"]:
        return exits.TIMED_OUT
    ended: list[Job] = answer["jobs"]
    if first_to_end:
        return exits.of_job(ended[0]) if ended else exits.OURS
    codes = {job["id"]: exits.of_job(job) for job in ended}
    return next((code for identity in ids if (code := codes.get(identity, exits.OURS))), exits.OK)


VERBS = (
    Verb(
        "wait", run, "until jobs have ended; with the exit code of the first that failed", "JOB...",
        Option("--any", "", "until the first has ended; with its exit code"),
        Option("--all", "", "for all jobs that are live now"),
        Option("--timeout", "D", "no longer than this; exit code 124"),
        Option("-q --quiet", "", "say nothing about how they ended"),
        Option("--json", "", "print the result as JSON"),
        passes="always", examples="jobctl wait tests && deploy\njobctl wait --any --timeout 10m k7 m2",
    ),
)  # fmt: skip
