"""The options that say which jobs are meant, the same for all verbs that look at many."""

from __future__ import annotations

from jobclient.cli import words
from jobclient.cli.options import Option, UsageError
from jobclient.raw import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobclient.cli.options import Given
    from jobclient.cli.shapes import Job
    from jobclient.link import Link

_PAGE = 500

OPTIONS = (
    Option("--status", "S,...", "only these: " + " ".join((*words.LIVE, *words.TERMINAL))),
    Option("-l --label", "K=V", "only jobs with this label"),
    Option("--name", "NAME", "only jobs of this name"),
    Option("--kind", "KIND", "only jobs of this kind: command or agent", "command", "agent"),
    Option("--here", "", "only jobs that run in this directory"),
)


def given_any(given: Given) -> bool:
    """Whether any of them was given."""
    return any(given.has(option.name) for option in OPTIONS)


def statuses(given: Given) -> list[str]:
    """The statuses that are meant; all, if none was given.

    Raises:
        UsageError: there is no such status.
    """
    known = (*words.LIVE, *words.TERMINAL)
    asked = given.text("status")
    return list(known) if asked is None else chosen("--status", asked, known)


def chosen(where: str, given: str, known: Sequence[str]) -> list[str]:
    """The statuses a list of words names.

    Raises:
        UsageError: one is none of these.
    """
    found = [each.strip().replace("-", "_") for each in given.split(",")]
    for each in found:
        if each == "lost":
            raise UsageError(f"{where}: a job that is lost has the status failed; lost is the reason")
        if each not in known:
            raise UsageError(f"{where}: no status {each!r}, there are {', '.join(known)}")
    return found


def wanted_jobs(given: Given) -> dict[str, object]:
    """A filter for jobs, by label, name, kind and directory."""
    wanted: dict[str, object] = {}
    if given.has("label"):
        wanted["label"] = labels(given.all("label"))
    for name in ("name", "kind"):
        if given.has(name):
            wanted[name] = given.text(name)
    if given.has("here"):
        from jobclient.surroundings import directory

        wanted["cwd"] = text(directory())
    return wanted


def labels(given: list[str]) -> dict[str, str]:
    """Labels from `KEY=VALUE`.

    Raises:
        UsageError: one is something else.
    """
    found: dict[str, str] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not key or not equals:
            raise UsageError(f"--label: {each!r} is not KEY=VALUE")
        found[key] = value
    return found


def fetch(link: Link, wanted: dict[str, object], most: int | None = None) -> list[Job]:
    """Jobs, newest start first, page by page; of no status none."""
    jobs: list[Job] = []
    before = None
    while wanted["status"]:
        size = _PAGE if most is None else min(_PAGE, most - len(jobs))
        page = link.request("job/list", {**wanted, "limit": size, "before": before})
        jobs += page["jobs"]
        before = page["next"]
        if before is None or (most is not None and len(jobs) >= most):
            break
    return jobs
