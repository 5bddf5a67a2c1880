"""What jobs write, sent to subscribers as it comes: read once and encoded once for all of them.

Nobody waits for a subscriber. One that has not read what it was sent goes without, and is told how much it missed; what
it missed is in the job's output for whoever asks. So no job, no other subscriber and no news of a state ever waits.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

import msgspec
import trio

from jobbroker.core.job import Snapshot
from jobbroker.core.table import Matches
from jobbroker.following import Following, Interest
from jobbroker.output import OutputReader, as_text
from jobclient.protocol import jsonrpc, wire
from jobclient.protocol.errors import ResultUnavailable

Opened: TypeAlias = Callable[[wire.Job], AbstractContextManager[OutputReader]]
"""Opens what a job wrote, for as long as nobody else has a turn; raises OSError or ResultUnavailable."""
OUTPUT = "notifications/job/output"
PIECE = 64 * 1024
"""Bytes of output in one notification (editors.md S05)."""
MOST_PIECES, LEAST_PIECES, ALL_PIECES = 16, 2, 64
"""Pieces of a job sent before everybody else gets a turn: fewer, the more subscribers each of them goes to. As many of
the last ones are sent when the job ends, before the news of its end."""

log = logging.getLogger("jobbroker.jobs")


class Reader(Protocol):
    """A subscriber, as far as output is concerned."""

    def notify(self, job: str, message: bytes) -> None:
        """Send a notification of that job."""
        ...

    def offer(self, job: str, message: bytes) -> bool:
        """Send it if there is room for it; whether there was."""
        ...


class _Feed:
    """A live job whose output is sent, and to whom.

    Attributes:
        places: of each stream, how far it was sent.
        lost: of each stream, the bytes right before that which nobody kept.
        missed: of each subscriber and stream, the bytes right before that which did not reach him.
    """

    __slots__ = ("interest", "job", "lost", "missed", "name", "places")

    interest: Interest

    def __init__(self, job: wire.Job, place: int) -> None:
        streams: tuple[wire.OneStream, ...] = ("stdout",) if job.merged else ("stdout", "stderr")
        self.job = job
        self.name = job.id
        self.places = dict.fromkeys(streams, place)
        self.lost = dict.fromkeys(streams, 0)
        self.missed: dict[Reader, dict[wire.OneStream, int]] = {}

    @property
    def share(self) -> int:
        """Pieces to send at once."""
        return min(MOST_PIECES, max(LEAST_PIECES, ALL_PIECES // len(self.missed)))

    def pieces(self, reader: OutputReader, most: int) -> Iterator[tuple[wire.JobOutput, int]]:
        """What has not been sent yet and how many bytes it is, at most so many pieces, of both streams in turn."""
        open_streams = list(self.places)
        while open_streams:
            for stream in tuple(open_streams):
                found = self._next(reader, stream) if most else None
                if found is None:
                    open_streams.remove(stream)
                else:
                    most -= 1
                    yield found

    def _next(self, reader: OutputReader, stream: wire.OneStream) -> tuple[wire.JobOutput, int] | None:
        piece = reader.read(stream, self.places[stream], PIECE)
        last = self.interest.over and piece.next >= reader.size
        if not last and len(piece.data) < 4 and _is_begun(piece.data):
            return None
        text, encoding, taken = as_text(piece.data, 0 if last else piece.run)
        self.places[stream] = piece.after(taken)
        self.lost[stream] += piece.dropped
        if not taken:
            return None
        told = wire.JobOutput(
            id=self.name,
            stream=stream,
            start=str(piece.start),
            next=str(self.places[stream]),
            data=text,
            encoding=encoding,
            dropped=self.lost[stream],
        )
        self.lost[stream] = 0
        return told, taken

    def skip(self, reader: OutputReader) -> None:
        """Go without all but the last pieces: the job has ended, and the news of that shall not wait."""
        place = reader.size - self.share * PIECE
        for stream, before in self.places.items():
            if before < place:
                self.lost[stream] += reader.amount(stream, before, place)
                self.places[stream] = place

    def send(self, piece: wire.JobOutput, size: int) -> None:
        """Send a piece to all who have room for it; the others miss it, with what was not kept before it."""
        message = jsonrpc.encode_notification(OUTPUT, piece)
        for reader, missed in self.missed.items():
            before = missed[piece.stream]
            own = message if not before else _with_gap(piece, before)
            missed[piece.stream] = 0 if reader.offer(self.name, own) else before + piece.dropped + size

    def tell_of_gaps(self) -> None:
        """The job has ended: nobody may believe that he has got everything who has not."""
        for stream, place in self.places.items():
            for reader, missed in self.missed.items():
                dropped = missed[stream] + self.lost[stream]
                if dropped:
                    at = str(place)
                    gap = wire.JobOutput(
                        id=self.name, stream=stream, start=at, next=at, data="", encoding="utf-8", dropped=dropped
                    )
                    reader.notify(self.name, jsonrpc.encode_notification(OUTPUT, gap))


def _with_gap(piece: wire.JobOutput, missed: int) -> bytes:
    return jsonrpc.encode_notification(OUTPUT, msgspec.structs.replace(piece, dropped=piece.dropped + missed))


def _is_begun(data: bytes) -> bool:
    """Whether it is the beginning of a character whose rest is still to come."""
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        return exc.start == 0 and exc.reason == "unexpected end of data"
    return False


class Feeds:
    """All live jobs whose output is sent to somebody."""

    def __init__(self, opened: Opened, size_of: Callable[[str], int], following: Following) -> None:
        """Read what `opened` opens; `size_of` says how many bytes there are of a job, by its id."""
        self._opened = opened
        self._size_of = size_of
        self._following = following
        self._readers: dict[Reader, Matches] = {}
        self._feeds: dict[str, _Feed] = {}
        self._behind: dict[str, _Feed] = {}
        self._more = trio.Event()

    def subscribe(self, reader: Reader, wanted: Matches, live: Iterable[Snapshot]) -> None:
        """Send what live jobs write from now on, and jobs that begin later from their beginning."""
        self._readers[reader] = wanted
        for snapshot in live:
            job = snapshot.job
            if job.status in ("running", "stopped") and wanted(snapshot):
                self._join(reader, job, self._size_of(job.id))

    def unsubscribe(self, reader: Reader) -> None:
        """Send no more."""
        if self._readers.pop(reader, None) is None:
            return
        for feed in [feed for feed in self._feeds.values() if reader in feed.missed]:
            del feed.missed[reader]
            if not feed.missed:
                feed.interest.drop()
                self._forget(feed)

    def note(self, snapshot: Snapshot) -> None:
        """A job has changed: if it has begun, its output is sent to those who want it."""
        if snapshot.job.status == "running":
            for reader, wanted in self._readers.items():
                if wanted(snapshot):
                    self._join(reader, snapshot.job, 0)

    def _join(self, reader: Reader, job: wire.Job, place: int) -> None:
        feed = self._feeds.get(job.id)
        if feed is None:
            feed = self._feeds[job.id] = _Feed(job, place)
            feed.interest = self._following.follow(job.id, place, lambda: self._tell(feed))
        feed.missed.setdefault(reader, dict.fromkeys(feed.places, 0))

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Go on with jobs that write more than can be sent at once, in turn; ends when it is cancelled."""
        task_status.started()
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._behind:
                self._behind.pop(next(iter(self._behind))).interest.tell()
                await trio.lowlevel.checkpoint()

    def _tell(self, feed: _Feed) -> None:
        """There is more, or the job has ended: then this is the last time, and before the news of it."""
        try:
            with self._opened(feed.job) as output:
                self._send(feed, output)
        except (OSError, ResultUnavailable) as exc:
            log.warning("output not sent: id=%s error=%s", feed.name, exc)
        if feed.interest.over:
            self._forget(feed)
            feed.tell_of_gaps()

    def _send(self, feed: _Feed, output: OutputReader) -> None:
        if feed.interest.over:
            feed.skip(output)
            most = sys.maxsize
        else:
            most = feed.share
        for piece, size in feed.pieces(output, most):
            feed.send(piece, size)
            most -= 1
        if not most:
            self._behind[feed.name] = feed
            self._more.set()

    def _forget(self, feed: _Feed) -> None:
        self._feeds.pop(feed.name, None)
        self._behind.pop(feed.name, None)
