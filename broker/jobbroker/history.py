"""Jobs of which the store alone knows: those that have ended. A live job is the one in memory or none."""

from __future__ import annotations

from jobbroker.core.job import Snapshot, is_terminal
from jobbroker.rows import Rows


class History:
    """The rows of ended jobs.

    A row is committed in a thread, a moment before its job is taken into the table. Found in between, it would be a
    copy that no event ever reaches.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get(self, identity: str) -> Snapshot | None:
        """The job with that id."""
        return _ended(self._rows.get(identity))

    def by_number(self, number: int) -> Snapshot | None:
        """The job with that number."""
        return _ended(self._rows.by_number(number))

    def by_name(self, name: str, limit: int) -> list[Snapshot]:
        """The newest jobs of that name."""
        return [snapshot for snapshot in self._rows.by_name(name, limit) if is_terminal(snapshot.job)]

    def by_prefix(self, prefix: str, limit: int) -> list[Snapshot]:
        """Jobs whose id begins so."""
        return [snapshot for snapshot in self._rows.by_prefix(prefix, limit) if is_terminal(snapshot.job)]


def _ended(snapshot: Snapshot | None) -> Snapshot | None:
    return snapshot if snapshot is not None and is_terminal(snapshot.job) else None
