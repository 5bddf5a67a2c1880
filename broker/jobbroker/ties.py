"""Which jobs end with which connection."""

from __future__ import annotations


class Ties:
    """Jobs tied to their starters."""

    def __init__(self) -> None:
        self._jobs: dict[object, set[str]] = {}
        self._owners: dict[str, object] = {}

    def tie(self, name: str, owner: object) -> None:
        """That job ends with that connection."""
        self._owners[name] = owner
        self._jobs.setdefault(owner, set()).add(name)

    def is_tied(self, name: str) -> bool:
        """Whether the connection that job is tied to is still there."""
        return name in self._owners

    def untie(self, name: str) -> None:
        """The job has ended first."""
        owner = self._owners.pop(name, None)
        if owner is not None:
            names = self._jobs[owner]
            names.discard(name)
            if not names:
                del self._jobs[owner]

    def cut(self, owner: object) -> list[str]:
        """The connection has ended first: the jobs that were tied to it."""
        names = sorted(self._jobs.pop(owner, ()))
        for name in names:
            del self._owners[name]
        return names
