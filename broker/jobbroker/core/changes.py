"""The order of all changes of an instance's jobs, removals among them, and the latest: what a cursor looks back on.

Of each job only its latest change counts, so what is kept is bounded by jobs and not by changes. Whoever looks back
further than that is told so, and begins anew.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

KEEP = 4096
"""Jobs whose latest change is kept."""


class _Latest(NamedTuple):
    """The latest change of a job; `made` is the change that made it, 0 if that is not known any more."""

    rev: int
    made: int
    gone: bool


class Since(NamedTuple):
    """What has changed since a moment.

    Attributes:
        changed: the jobs that changed and are still there, by id, in the order of their latest changes.
        new: those of them that were made since.
        removed: the jobs that are gone, in the order of their removals, but for those that were made since.
    """

    changed: list[str]
    new: frozenset[str]
    removed: list[str]


class Changes:
    """The latest changes, each with its place in the order of all.

    Attributes:
        rev: the place of the latest change.
    """

    def __init__(self, rev: int, *, keep: int = KEEP) -> None:
        """Go on after the change `rev`, of which, and of all before it, nothing is known."""
        self.rev = rev
        self._keep = keep
        self._horizon = rev
        self._latest: OrderedDict[str, _Latest] = OrderedDict()  # ascending by rev

    def made(self, name: str) -> int:
        """A job was made: the place of that change."""
        self.rev += 1
        return self._note(name, _Latest(self.rev, self.rev, gone=False))

    def changed(self, name: str) -> int:
        """A job has changed: the place of that change."""
        self.rev += 1
        return self._note(name, _Latest(self.rev, self._made(name), gone=False))

    def removed(self, name: str) -> int:
        """A job is gone for good: the place of that change."""
        self.rev += 1
        return self._note(name, _Latest(self.rev, self._made(name), gone=True))

    def since(self, rev: int) -> Since | None:
        """What has changed after that change; None if it is too long ago, or yet to come."""
        if not self._horizon <= rev <= self.rev:
            return None
        found: list[tuple[str, _Latest]] = []
        for name, latest in reversed(self._latest.items()):
            if latest.rev <= rev:
                break
            found.append((name, latest))
        found.reverse()
        return Since(
            changed=[name for name, latest in found if not latest.gone],
            new=frozenset(name for name, latest in found if latest.made > rev),
            removed=[name for name, latest in found if latest.gone and latest.made <= rev],
        )

    def _made(self, name: str) -> int:
        latest = self._latest.get(name)
        return 0 if latest is None else latest.made

    def _note(self, name: str, latest: _Latest) -> int:
        self._latest[name] = latest
        self._latest.move_to_end(name)
        if len(self._latest) > self._keep:
            self._horizon = self._latest.popitem(last=False)[1].rev
        return latest.rev
