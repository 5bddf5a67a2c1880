"""Notifications of one client that must wait for an answer: nothing is told of a job before its start is answered.

What comes behind a notification that waits, waits too: revisions grow on the wire as they do in the broker.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable


class Holding:
    """The notifications of one client, in order, as far as they wait."""

    def __init__(self, post: Callable[[bytes], None]) -> None:
        """Notifications that need not wait go to `post` at once."""
        self._post = post
        self._jobs: Counter[str] = Counter()
        self._waiting: deque[tuple[str, bytes]] = deque()
        self.size = 0

    def hold(self, job: str) -> None:
        """A start of this job is to be answered."""
        self._jobs[job] += 1

    def release(self, job: str) -> None:
        """It has been."""
        self._jobs[job] -= 1
        if self._jobs[job] <= 0:
            del self._jobs[job]
        while self._waiting and self._waiting[0][0] not in self._jobs:
            _, message = self._waiting.popleft()
            self.size -= len(message)
            self._post(message)

    def notify(self, job: str, message: bytes) -> None:
        """Tell of a job, now or when its turn comes."""
        if self._waiting or job in self._jobs:
            self._waiting.append((job, message))
            self.size += len(message)
        else:
            self._post(message)
