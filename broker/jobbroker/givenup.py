"""What is left to read of an ended job whose output was given up: how much it was, and that it is gone."""

from __future__ import annotations

from jobbroker.output import Piece
from jobclient.protocol.wire import Job, StreamName


class GivenUp:
    """The output of a job that ended and whose files are gone, as `OutputReader` has it for others.

    Attributes:
        size: where it ended.
    """

    def __init__(self, job: Job) -> None:
        self._sizes = {"stdout": job.stdout.size, "stderr": job.stderr.size}
        self.size = sum(self._sizes.values())

    def read(self, stream: StreamName, start: int, limit: int) -> Piece:  # noqa: ARG002  # as `OutputReader` has it
        """Nothing, from the end on. Which stream the bytes behind a cursor were of, nobody knows any more."""
        dropped = min(self.size - start, self.size if stream == "all" else self._sizes[stream])
        return Piece(b"", self.size, self.size, dropped, self.size, 0)

    def tail(self, stream: StreamName, lines: int) -> int:  # noqa: ARG002
        """From the beginning on: whoever asks for the last lines is told that there are none."""
        return self.size if lines <= 0 else 0

    def last(self, stream: StreamName, limit: int) -> tuple[bytes, bool]:  # noqa: ARG002
        """Nothing, and whether there was anything."""
        return b"", bool(self._sizes["stdout" if stream == "all" else stream])


def was_given_up(job: Job) -> bool:
    """Of an ended job: whether it wrote something and nothing of it was kept."""
    written = job.stdout.size + job.stderr.size
    return written > 0 and job.stdout.dropped + job.stderr.dropped >= written
