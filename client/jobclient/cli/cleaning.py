"""`clean`: forget ended jobs by age, number, size, state; and see before which these are."""

from __future__ import annotations

import os

from jobclient.cli import exits, words
from jobclient.cli.console import ERR
from jobclient.cli.filters import chosen, wanted_jobs
from jobclient.cli.options import Option, UsageError, Verb
from jobclient.cli.quantities import size
from jobclient.cli.render import Cell, escape
from jobclient.protocol.failure import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job
    from jobclient.link import Link
    from jobclient.raw import Message

_FAILED = ["failed", "timed_out"]
_STDIN = 0
_HEADER = ("ID", "NAME", "STATE", "ENDED", "OUTPUT", "COMMAND")


def run(given: Given, link: Link, console: Console) -> int:
    """Forget ended jobs."""
    params = _params(given)
    if given.has("dry-run"):
        answer = link.request("job/cleanup", {**params, "dryRun": True}, patience=None)
        _show(answer, given, link, console)
        return exits.OK
    if not _agreed(given, params, link, console):
        console.note("nothing was removed")
        return exits.FAILED
    answer = link.request("job/cleanup", params, patience=None)
    if given.has("json"):
        console.json(answer)
    else:
        console.print(*answer["removed"])
        console.note(f"{_count(answer['removed'])} removed")
    return exits.OK


def _params(given: Given) -> dict[str, object]:
    params = wanted_jobs(given)
    if given.has("failed") and given.has("status"):
        raise UsageError("clean: --failed and --status exclude each other")
    if given.has("status"):
        params["status"] = chosen("clean", given.text("status") or "", words.TERMINAL)
    elif given.has("failed"):
        params["status"] = _FAILED
    for option, member in (("older", "maxAgeMs"), ("keep", "keep"), ("max-size", "maxBytes")):
        if given.has(option):
            params[member] = given.number(option)
    return params


def _agreed(given: Given, params: dict[str, object], link: Link, console: Console) -> bool:
    """Whether the person wants that; a script has said so by calling."""
    if given.has("yes") or not (os.isatty(_STDIN) and os.isatty(ERR)):
        return True
    going = link.request("job/cleanup", {**params, "dryRun": True}, patience=None)["removed"]
    if not going:
        return True
    console.ask(f"remove {_count(going)}, output and all? [y/N] ")
    return os.read(_STDIN, 100).strip().lower() in (b"y", b"yes")


def _show(answer: Message, given: Given, link: Link, console: Console) -> None:
    ids: list[str] = answer["removed"]
    if given.has("json"):
        console.json(answer)
        return
    if given.has("quiet"):
        console.print(*ids)
        return
    found = link.batch([("job/get", {"id": each}) for each in ids]) if ids else []
    jobs: list[Job] = [each["job"] for each in found if not isinstance(each, RemoteError)]
    if jobs:
        console.table([[Cell(name, "bold") for name in _HEADER], *(_row(job, console) for job in jobs)])
    console.note(f"{_count(ids)} would be removed, {size(sum(map(_kept, jobs)))} of output")


def _row(job: Job, console: Console) -> list[Cell]:
    return [
        Cell(job["id"], "bold"),
        Cell(escape(job["name"] or "-")),
        words.state_cell(job, glyphs=console.columns is not None, unicode=console.unicode),
        Cell(words.ago(job["completedAt"]), "dim"),
        Cell(size(_kept(job))),
        Cell(words.command(job)),
    ]


def _kept(job: Job) -> int:
    return sum(stream["size"] - stream["dropped"] for stream in (job["stdout"], job["stderr"]))


def _count(ids: list[str]) -> str:
    return f"{len(ids)} job" + "s" * (len(ids) != 1)


VERBS = (
    Verb(
        "clean", run, "forget ended jobs that are old, or many, or large", "",
        Option("--older", "D", "ended longer ago than this (default 1d; with --max-size 0)"),
        Option("--keep", "N", "never the newest so many"),
        Option("--max-size", "SIZE", "the oldest, until the output of the rest takes no more than this"),
        Option("--status", "S,...", "only these: " + " ".join(words.TERMINAL)),
        Option("--failed", "", "only those that failed or timed out"),
        Option("-l --label", "K=V", "only jobs with this label"),
        Option("--name", "NAME", "only jobs of this name"),
        Option("--here", "", "only jobs that ran in this directory"),
        Option("--dry-run", "", "only say which, and how large they are"),
        Option("-y --yes", "", "do not ask, on a terminal"),
        Option("--json", "", "print the result as JSON"),
        Option("-q --quiet", "", "of a dry run, print ids alone"),
        examples="jobctl clean --dry-run\njobctl clean --older 7d --keep 50\njobctl clean --failed --max-size 1G",
    ),
)  # fmt: skip
