"""`fg`: let a job go on if it was stopped, and go along with it to its end."""

from __future__ import annotations

from jobclient.cli import exits, output, references, words
from jobclient.cli.options import Given, Option, Verb, parse
from jobclient.protocol.failure import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.shapes import Job
    from jobclient.link import Link


def run(given: Given, link: Link, console: Console) -> int:
    """Resume, follow, end with the job's exit code."""
    job = references.all_of(link, given.operands)[0] if given.operands else _chosen(link)
    if job is None:
        console.note("no job is stopped or running  -> jobctl list")
        return exits.OURS
    if not given.has("quiet"):
        console.note(f"{words.title(job)}: {words.command(job)}")
    if job["status"] == "stopped":
        link.request("job/resume", {"id": job["id"]})
    watching = Given()
    parse(output.VERBS[0], ["-f", "--exit", "--tail", given.text("tail") or "10", job["id"]], watching)
    return output.run(watching, link, console)


def _chosen(link: Link) -> Job | None:
    """The job that was stopped last, else the newest that runs."""
    try:
        stopped: Job = link.request("job/lastStopped", {})["job"]
    except RemoteError as exc:
        if exc.kind != "job_not_found":
            raise
    else:
        return stopped
    running: list[Job] = link.request("job/list", {"status": ["running"], "limit": 1})["jobs"]
    return running[0] if running else None


VERBS = (
    Verb(
        "fg", run, "let a job go on if it was stopped, show its output, end with its exit code", "[JOB]",
        Option("--tail", "N", "begin with the last N lines (default 10)"),
        Option("-q --quiet", "", "do not say which job it is"),
        passes="always", examples="jobctl fg\njobctl fg build",
    ),
)  # fmt: skip
"""Without JOB, the one that was stopped last, else the newest that runs. Ctrl-C only stops watching."""
