"""Go along with a job to its end: its output as it comes, byte for byte, whatever becomes of the broker meanwhile.

Every stream has a cursor here, on our side. A piece counts as read once it is written out; after a lost connection the
next broker is asked again from the cursor, so that nothing is lost and nothing comes twice.
"""

from __future__ import annotations

import select
import time

from jobclient.cli import words
from jobclient.cli.console import ERR, OUT, write
from jobclient.link import SHUTTING_DOWN
from jobclient.protocol.failure import ConnectionLost, RemoteError
from jobclient.raw import result_of, unbase64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.cli.console import Console
    from jobclient.cli.shapes import Job
    from jobclient.cli.signals import Signals
    from jobclient.link import Link
    from jobclient.raw import Message, RawConnection

PIECE = 256 * 1024
WAIT_MS = 60_000
AGAIN_SECONDS = 2.0
"""A second Ctrl-C within this time cancels the job."""


def data_of(piece: Message) -> bytes:
    """The bytes of a piece of output."""
    data: str = piece["data"]
    return unbase64(data) if piece["encoding"] == "base64" else data.encode()


def tell_dropped(piece: Message, console: Console) -> None:
    """Say so where bytes are missing."""
    if piece["dropped"]:
        console.note(f"{piece['dropped']} bytes of output were not kept here: over a limit, or the disk was full")


class Follower:
    """One job being followed by `run`."""

    def __init__(self, link: Link, console: Console, signals: Signals, job: Job, *, json: bool) -> None:
        self._link = link
        self._console = console
        self._signals = signals
        self._job = job
        self._json = json
        merged = job["merged"]
        self._open = {"all": OUT} if merged else {"stdout": OUT, "stderr": ERR}
        self._cursors: dict[str, str | None] = dict.fromkeys(self._open)
        self._asked: dict[int, str] = {}
        self._ordered: set[int] = set()
        self._on: RawConnection | None = None
        self._interrupted_at: float | None = None
        self._cancelled = False

    def run(self) -> Job | None:
        """Follow to the end; the job as it ended, or None if the person left it alone before."""
        while self._open:
            try:
                if not self._step():
                    return None
            except RemoteError as exc:
                if exc.kind != SHUTTING_DOWN or self._on is None:
                    raise
                self._link.leave(self._on)
            except ConnectionLost as exc:
                self._link.lost(exc)
        ended: Job = self._link.request("job/wait", {"ids": [self._job["id"]]}, patience=None)["jobs"][0]
        return ended

    def _step(self) -> bool:
        """Wait for one thing and deal with it; False to leave the job."""
        connection = self._link.connection()
        if connection is not self._on:
            self._begin(connection)
        if connection.ready():
            self._take(connection, connection.receive())
            return True
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._signals.wake, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        for name in self._signals.taken():
            if name != "INT":
                return False
            self._interrupt(connection)
        if connection.fileno() in ready:
            connection.fill(self._link.deadline())
        return True

    def _begin(self, connection: RawConnection) -> None:
        """A new connection: ask for the output of every open stream, and once more for the end, if it was asked for."""
        self._asked.clear()
        self._ordered.clear()
        for stream in self._open:
            self._ask(connection, stream)
        if self._cancelled:
            self._order(connection, "job/cancel", confirm=False)
        self._on = connection

    def _ask(self, connection: RawConnection, stream: str) -> None:
        params: dict[str, object] = {"id": self._job["id"], "stream": stream, "limit": PIECE, "waitMs": WAIT_MS}
        if self._cursors[stream] is not None:
            params["from"] = self._cursors[stream]
        self._asked[connection.send("job/output", params, self._link.deadline())] = stream

    def _take(self, connection: RawConnection, message: Message | list[Message]) -> None:
        if not isinstance(message, dict) or "method" in message:
            return
        if message.get("id") in self._ordered:
            self._ordered.discard(message["id"])
            if "error" in message:
                self._console.note(message["error"]["message"])
            return
        stream = self._asked.pop(message.get("id", 0), None)
        if stream is None:
            return
        try:
            piece = result_of(message)
        except RemoteError as exc:
            if exc.kind != "result_unavailable":
                raise
            self._console.note(str(exc))  # kept in memory only, by a broker that died: how the job ended is known
            del self._open[stream]
            return
        self._write(piece, stream)
        self._cursors[stream] = piece["next"]
        if piece["eof"]:
            del self._open[stream]
        else:
            self._ask(connection, stream)

    def _write(self, piece: Message, stream: str) -> None:
        tell_dropped(piece, self._console)
        if not self._json:
            write(self._open[stream], data_of(piece))
        elif piece["data"] or piece["dropped"]:
            self._console.json({**piece, "stream": stream})

    def _interrupt(self, connection: RawConnection) -> None:
        """Ctrl-C: the job gets it; the second time it is cancelled."""
        now = time.monotonic()
        again = self._interrupted_at is not None and now - self._interrupted_at <= AGAIN_SECONDS
        self._interrupted_at = now
        if self._cancelled:
            self._console.note(f"{words.title(self._job)} is being cancelled; Ctrl-\\ leaves it alone")
        elif again:
            self._cancelled = True
            self._order(connection, "job/cancel", confirm=False)
            self._console.note(f"cancelling {words.title(self._job)}")
        else:
            self._order(connection, "job/signal", signal="INT")
            self._console.hint("sent SIGINT to the job; once more cancels it, Ctrl-\\ leaves it running")

    def _order(self, connection: RawConnection, method: str, **params: object) -> None:
        self._ordered.add(connection.send(method, {"id": self._job["id"], **params}, self._link.deadline()))
