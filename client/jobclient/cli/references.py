"""Which job is meant: `@` is the client's to resolve, everything else the broker's."""

from __future__ import annotations

from jobclient.protocol.failure import RemoteError
from jobclient.raw import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobclient.cli.shapes import Job
    from jobclient.link import Link

_MAX_BACK = 1000


def resolve(link: Link, reference: str) -> str:
    """A reference the broker understands: `@` is the last job started from this directory, `@2` the one before.

    Raises:
        JobNotFound: so many were not started here.
    """
    back = _back(reference)
    if back is None:
        return reference
    from jobclient.protocol.errors import JobNotFound
    from jobclient.surroundings import directory

    here = directory()
    jobs: list[Job] = link.request("job/list", {"cwd": text(here), "limit": back})["jobs"]
    if len(jobs) < back:
        count = f"only {len(jobs)}" if jobs else "no"
        raise JobNotFound(f"no job matches {reference!r}: {count} job was started from {here!r}")
    return jobs[back - 1]["id"]


def _back(reference: str) -> int | None:
    digits = reference[1:]
    if reference[:1] != "@" or not (not digits or (digits.isascii() and digits.isdigit())):
        return None
    back = int(digits or "1")
    return back if 0 < back <= _MAX_BACK else None


def look_up(link: Link, references: Sequence[str], *, env: bool = False) -> list[Job | RemoteError]:
    """Each job as it is now, or why there is none."""
    found: list[Job | RemoteError] = []
    known: list[str | RemoteError] = [_try(link, reference) for reference in references]
    answers = iter(link.batch([("job/get", {"id": each, "env": env}) for each in known if isinstance(each, str)]))
    for each in known:
        answer = next(answers) if isinstance(each, str) else each
        found.append(answer if isinstance(answer, RemoteError) else answer["job"])
    return found


def all_of(link: Link, references: Sequence[str]) -> list[Job]:
    """Each job as it is now.

    Raises:
        RemoteError: one could not be found.
    """
    jobs: list[Job] = []
    for found in look_up(link, references):
        if isinstance(found, RemoteError):
            raise found
        jobs.append(found)
    return jobs


def _try(link: Link, reference: str) -> str | RemoteError:
    try:
        return resolve(link, reference)
    except RemoteError as exc:
        return exc
