"""`wait`: until jobs have ended, with their exit code."""

from __future__ import annotations

from jobclient.cli import exits, filters, references, words
from jobclient.cli.console import OUT, write
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.cli.output import tell_still_running
from jobclient.raw import unbase64

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
    if given.has("until-output"):
        return _until_output(given, link, console, ids)
    if not ids:
        return _none(given, console)
    answer = _ask(given, link, console, {"ids": ids, "any": given.has("any")})
    _tell(answer, given, console)
    return _code(answer, ids, first_to_end=given.has("any"))


def _none(given: Given, console: Console) -> int:
    """Nothing to wait for: what `--all` wants, but not what a filter was given for. Its jobs may have failed by now."""
    if not filters.given_any(given):
        console.note("no job is running")
        return exits.OK
    console.note("no job that has not ended matches; one that has ended is waited for by its id  -> jobctl list -a")
    return exits.OURS


def _ask(given: Given, link: Link, console: Console, params: dict[str, object]) -> Message:
    timeout = given.number("timeout")
    if timeout is not None:
        params["timeoutMs"] = timeout
    try:
        return link.request("job/wait", params, patience=None if timeout is None else timeout / 1000)
    except KeyboardInterrupt:
        tell_still_running(link, console, params["ids"])  # type: ignore[arg-type]
        raise


def _until_output(given: Given, link: Link, console: Console, ids: list[str]) -> int:
    """Wait for a line of one job, and print it."""
    if len(ids) != 1:
        raise UsageError(f"wait: --until-output looks at one job, not at {len(ids)}")
    answer = _ask(given, link, console, {"ids": ids, "untilOutput": {"pattern": given.text("until-output")}})
    match = answer["match"]
    if given.has("json"):
        console.json(answer)
    elif match is not None and not given.has("quiet"):
        line: str = match["line"]
        write(OUT, (unbase64(line) if match["encoding"] == "base64" else line.encode()) + b"\n")
    if match is not None:
        return exits.OK
    if answer["timedOut"]:
        console.note(f"time is up, no line has matched yet  -> jobctl output {ids[0]}")
        return exits.TIMED_OUT
    job = answer["jobs"][0]
    console.note(f"{words.title(job)} {words.end(job)}, and no line matched  -> jobctl output {job['id']}")
    return exits.WRONG_STATE


def _ids(given: Given, link: Link) -> list[str]:
    """Ids rather than what was typed: a name may mean another job by the time a connection is made anew."""
    if given.has("all") or filters.given_any(given):
        if given.operands:
            raise UsageError("wait: --all and filters mean live jobs, name none besides")
        asked = filters.statuses(given)
        live = [each for each in asked if each in words.LIVE]
        if asked and not live:
            raise UsageError(f"wait: jobs that are {' or '.join(asked)} have ended")
        return [job["id"] for job in filters.fetch(link, {**filters.wanted_jobs(given), "status": live})]
    if not given.operands:
        raise UsageError("wait: say for what: jobctl wait JOB..., or --all, or a filter such as --label")
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
        *filters.OPTIONS,
        Option("--until-output", "RE", "until the job has written a line that matches; 0, or 4 if it ended without"),
        Option("--timeout", "D", "no longer than this; exit code 124"),
        Option("-q --quiet", "", "say nothing about how they ended"),
        Option("--json", "", "print the result as JSON"),
        passes="always", examples="jobctl wait tests && deploy\njobctl wait --any --timeout 10m k7 m2\n"
        "jobctl wait server --until-output 'Listening on' --timeout 30s",
    ),
)  # fmt: skip
