"""`job/output` and `job/result`: what a job wrote, piece by piece, or its last part with the exit code."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import trio
from msgspec import UNSET, Struct

from jobbroker.core.index import STDERR
from jobbroker.core.job import Snapshot, is_terminal, timestamp
from jobbroker.core.message import message
from jobbroker.givenup import GivenUp, was_given_up
from jobbroker.methods.call import Call, Pending
from jobbroker.output import OutputReader, as_text
from jobbroker.plainfile import NotPlain
from jobclient.protocol import errors, wire

PIECE = 64 * 1024
MAX_PIECE = 1024 * 1024
RESULT = 1024 * 1024
"""Bytes of each stream in a result."""


class _Wanted(Struct):
    """Which piece of a job's output: at most `limit` bytes of a stream, from `start` on, with times or without."""

    stream: wire.StreamName
    start: int
    limit: int
    times: bool


def output(call: Call, params: wire.OutputParams) -> wire.Output | Pending:
    """A piece of output, now, or as soon as there is some if the client waits."""
    snapshot = call.broker.find(params.id)
    limit = PIECE if params.limit is None else params.limit
    if not 1 <= limit <= MAX_PIECE:
        raise errors.InvalidParams(f"`limit` must be between 1 and {MAX_PIECE}")
    if params.from_ is not None and params.tail is not None:
        raise errors.InvalidParams("give either `from` or `tail`")
    wanted = _Wanted(params.stream or "all", _start(call, snapshot, params), limit, bool(params.times))
    piece = _read(call, snapshot, wanted)
    if not params.wait_ms or _tells(piece):
        return piece
    wanted.start = int(piece.next)
    return Pending(_wait(call, snapshot, wanted, params.wait_ms))


def _start(call: Call, snapshot: Snapshot, params: wire.OutputParams) -> int:
    if params.tail is not None:
        if params.tail < 0:
            raise errors.InvalidParams("`tail` must not be negative")
        with opened(call, snapshot) as reader:
            return reader.tail(params.stream or "all", params.tail)
    return offset(params.from_)


def offset(cursor: str | None) -> int:
    """The offset a client's cursor stands for; the beginning without one."""
    cursor = cursor or "0"
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise errors.InvalidParams("`from` must be the `next` or `start` of an earlier answer")
    return int(cursor)


def _read(call: Call, snapshot: Snapshot, wanted: _Wanted) -> wire.Output:
    over = is_terminal(snapshot.job)  # before the file is measured: then nothing comes after
    with opened(call, snapshot) as reader:
        return _piece(reader, wanted, over=over)


@contextmanager
def opened(call: Call, snapshot: Snapshot) -> Generator[OutputReader | GivenUp]:
    """What a job wrote, or what is left to say of it, valid until somebody else has a turn."""
    job = snapshot.job
    over = is_terminal(job) and job.persist
    if over and was_given_up(job):
        yield GivenUp(job)
        return
    with reading(job), call.broker.opened_output(job) as reader:
        gone = over and reader.is_gone and job.stdout.size + job.stderr.size > 0
        if gone and job.id in call.broker.removals.under_way:
            raise FileNotFoundError
        yield GivenUp(job) if gone else reader


@contextmanager
def reading(job: wire.Job) -> Generator[None]:
    """Say of a job's files what the errors in opening them mean.

    Raises:
        InvalidState: one is none of ours.
        JobNotFound: there are none.
    """
    try:
        yield
    except NotPlain:
        text = f"the output of {job.id} has been replaced by something else, which is not read"
        raise errors.InvalidState(text, {"status": job.status, "id": job.id}) from None
    except FileNotFoundError:
        raise errors.JobNotFound(f"{job.id} has been removed") from None
    except NotADirectoryError:  # a link, for all we know; it is not followed
        raise errors.JobNotFound(f"the directory of {job.id} has been replaced by something else") from None


def _piece(reader: OutputReader | GivenUp, wanted: _Wanted, *, over: bool) -> wire.Output:
    if wanted.start > reader.size:
        raise errors.InvalidParams(f"`from` {wanted.start} is beyond the output, which has {reader.size} bytes")
    piece = reader.read(wanted.stream, wanted.start, wanted.limit)
    at_end = over and piece.next >= reader.size
    text, encoding, taken = as_text(piece.data, 0 if at_end else piece.run)
    following = piece.after(taken)
    return wire.Output(
        data=text,
        encoding=encoding,
        start=str(piece.start),
        next=str(following),
        dropped=piece.dropped,
        eof=over and following >= reader.size,
        marks=[_mark(*mark) for mark in piece.marks if mark[0] < taken] if wanted.times else UNSET,
    )


def _mark(at: int, time: int, kind: int) -> wire.Mark:
    return wire.Mark(at=at, time=timestamp(time // 1000), stream="stderr" if kind & STDERR else "stdout")


def _tells(piece: wire.Output) -> bool:
    """Whether a reader learns something from it: there is output, or some was lost, or that was all."""
    return bool(piece.data or piece.dropped or piece.eof)


async def _wait(call: Call, snapshot: Snapshot, wanted: _Wanted, wait_ms: int) -> wire.Output:
    with trio.move_on_after(wait_ms / 1000), call.broker.following.growth(snapshot.job.id, wanted.start) as growth:
        while not is_terminal(snapshot.job):
            await growth.more()
            piece = _read(call, snapshot, wanted)
            if _tells(piece):
                return piece
            wanted.start = int(piece.next)  # what the other stream wrote need not be passed over again
    return _read(call, snapshot, wanted)


def result(call: Call, params: wire.JobParams) -> wire.ResultResult | Pending:
    """What a completed job left; for any other job there is no result, only a state and output."""
    snapshot = call.broker.find(params.id)
    job = snapshot.job
    if job.status != "completed":
        raise errors.ResultUnavailable(
            f"{job.id} is {job.status}, so it has no result; its output can be read",
            {"status": job.status, "reason": job.reason, "exitCode": job.exit_code, "id": job.id},
        )
    with opened(call, snapshot) as reader:
        (out, more_out), (err, more_err) = (reader.last(stream, RESULT) for stream in ("stdout", "stderr"))
    texts, encoding = _texts(out, err)
    left = wire.JobResult(
        stdout=texts[0],
        stderr=texts[1],
        exit_code=job.exit_code,
        duration_ms=job.duration_ms or 0,
        truncated=more_out or more_err,
        encoding=encoding,
        agent=job.agent,
    )
    if job.agent is None:
        return wire.ResultResult(job=job, result=left)
    return Pending(_with_message(wire.ResultResult(job=job, result=left), snapshot.result, out, cut=more_out))


async def _with_message(found: wire.ResultResult, rule: str, out: bytes, *, cut: bool) -> wire.ResultResult:
    """In a thread: of a hundred thousand lines of JSON the last one may be the first."""
    found.result.message = await trio.to_thread.run_sync(lambda: message(rule, out, cut=cut))
    return found


def _texts(*streams: bytes) -> tuple[list[str], wire.Encoding]:
    """All streams as text, or, if one of them is none, all as base64."""
    made = [as_text(stream) for stream in streams]
    if all(encoding == "utf-8" for _, encoding, _ in made):
        return [text for text, _, _ in made], "utf-8"
    return [as_text(stream, binary=True)[0] for stream in streams], "base64"
