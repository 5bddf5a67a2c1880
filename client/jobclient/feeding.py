"""Give a job something to read: all of it, once, whichever broker takes it."""

from __future__ import annotations

from jobclient.link import SHUTTING_DOWN
from jobclient.protocol.failure import ConnectionLost, JobBrokerError, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from jobclient.link import Link

PIECE = 256 * 1024


def feed(link: Link, job: str, data: bytes) -> None:
    """Write to a job's stdin; returns when its pipe has it all.

    A broker that ends meanwhile says how much it has passed on, and the next one gets the rest.

    Raises:
        RemoteError: it could not be; `data["written"]` bytes of all are in the pipe.
        ConnectionLost: the broker was killed: how much of the last piece is in the pipe, nobody knows.
    """
    plan = pieces(job, data)
    try:
        params = next(plan)
        while True:
            try:
                link.request("job/input", params, patience=None)
            except JobBrokerError as exc:
                params = plan.throw(exc)
            else:
                params = next(plan)
    except StopIteration:
        pass


def pieces(job: str, data: bytes) -> Generator[dict[str, object], None, None]:
    """The parameters of `job/input`, one after the other; the error of one is to be thrown in."""
    done = 0
    while done < len(data):
        piece = data[done : done + PIECE]
        try:
            yield {"id": job, **encoded(piece)}
            done += len(piece)
        except RemoteError as exc:
            written = exc.data.get("written")
            done += written if isinstance(written, int) else 0
            if exc.kind != SHUTTING_DOWN:
                exc.data["written"] = done
                raise
        except ConnectionLost as exc:
            raise ConnectionLost(f"{exc}; {done} bytes were taken, and none to all of the next {len(piece)}") from exc


def encoded(piece: bytes) -> dict[str, object]:
    """Bytes as they travel: as text, where they are some."""
    try:
        return {"data": piece.decode()}
    except UnicodeDecodeError:
        from binascii import b2a_base64

        return {"data": b2a_base64(piece, newline=False).decode(), "encoding": "base64"}
