"""How much disk the output of all jobs takes: a sum kept up to date by every end and every removal. Pure.

What earlier brokers left is counted by a walk over all directories, which takes a while. What is heard of a job
meanwhile is newer than what the walk finds, so the walk must not count it again.
"""

from __future__ import annotations


class Usage:
    """Bytes of disk, those of ended jobs as one sum, those of live jobs one by one as last looked at.

    Attributes:
        total: what the output of all jobs takes.
        ended: what that of ended jobs takes.
        counted: whether the walk is over, so that this is all there is.
    """

    __slots__ = ("_found", "_heard_of", "_live", "counted", "ended", "total")

    def __init__(self) -> None:
        self.ended = self.total = 0
        self.counted = False
        self._live: dict[str, int] = {}
        self._heard_of: set[str] = set()  # since the walk began
        self._found: set[str] = set()  # in the sum; these two only until the walk is over

    def live(self, name: str, size: int) -> None:
        """A live job was looked at."""
        self.total += size - self._live.get(name, 0)
        self._live[name] = size

    def end(self, name: str, size: int) -> None:
        """A job has ended, with so much."""
        self.total += size - self._live.pop(name, 0)
        self.ended += size
        if not self.counted:
            self._heard_of.add(name)
            self._found.add(name)

    def find(self, name: str, size: int) -> None:
        """The walk has come to an ended job."""
        if name not in self._heard_of and name not in self._found:
            self.ended += size
            self.total += size
            self._found.add(name)

    def give_up(self, name: str, size: int) -> None:
        """So much of an ended job is gone."""
        if not self.counted:
            self._heard_of.add(name)
            if name not in self._found:
                return
            self._found.discard(name)
        size = min(size, self.ended)  # it may have grown by whatever else writes there
        self.ended -= size
        self.total -= size

    def finish(self) -> None:
        """The walk is over."""
        self.counted = True
        self._heard_of.clear()
        self._found.clear()
