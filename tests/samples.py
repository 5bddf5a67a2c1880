"""Jobs made up for tests: one call, a snapshot in any state."""

from __future__ import annotations

from jobbroker.core.job import Snapshot, timestamp
from jobbroker.core.reference import ALPHABET, ID_LENGTH, LETTERS
from jobclient.protocol.wire import LIVE, Job, Status, Text

EPOCH = 1_700_000_000_000


def identity(number: int) -> str:
    """An id of its own for every number, in no visible order."""
    rest = number * 7919
    rest, first = divmod(rest, len(LETTERS))
    made = LETTERS[first]
    while len(made) < ID_LENGTH:
        rest, at = divmod(rest, len(ALPHABET))
        made += ALPHABET[at]
    return made


def snapshot(
    number: int = 1,
    status: Status = "queued",
    *,
    named: str | None = None,
    name: str | None = None,
    labels: dict[str, str] | None = None,
    cwd: Text = "/work",
    key: str | None = None,
    ended_ms: int | None = None,
    rev: int = 0,
) -> Snapshot:
    """A job as the broker would hold it. `named` is its id; `ended_ms`, after `EPOCH`, is its number by default."""
    job = Job(
        id=named or identity(number),
        number=number,
        kind="command",
        status=status,
        argv=["make", "-j8"],
        cwd=cwd,
        created_at=timestamp(EPOCH),
        name=name,
        labels=labels or {},
        rev=rev,
    )
    if status not in LIVE:
        job.reason = "exit" if status in ("completed", "failed") else "user"
        job.completed_at = timestamp(EPOCH + (number if ended_ms is None else ended_ms))
    return Snapshot(job=job, key=key)
