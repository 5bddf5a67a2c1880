"""A job as one record for whoever looks into it later: all that is known of it, and all it wrote.

As text, for people: a header line, the facts, and a section for each stream. As JSON, for programs: the same with
nothing left out. Output goes through a piece at a time, however much it is.
"""

from __future__ import annotations

import time

from jobclient import rawjson
from jobclient.cli import words
from jobclient.cli.follow import PIECE, data_of
from jobclient.cli.quantities import duration, limit
from jobclient.cli.render import escape, quote
from jobclient.protocol.failure import RemoteError
from jobclient.raw import untext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom

    from jobclient.cli.shapes import Job
    from jobclient.link import Link
    from jobclient.raw import Message

_NO_OUTPUT = frozenset({"result_unavailable", "invalid_state"})
"""Kinds of errors that say why there is none to be had."""


def streams(job: Job) -> tuple[str, ...]:
    """The streams a job has: a merged one has but one."""
    return ("stdout",) if job["merged"] else ("stdout", "stderr")


def pieces(link: Link, job: Job, stream: str) -> Iterator[Message]:
    """All of a stream as it is now, in pieces that hold something or tell of a gap."""
    params: dict[str, object] = {"id": job["id"], "stream": stream, "limit": PIECE}
    while True:
        piece = link.request("job/output", params)
        if piece["data"] or piece["dropped"]:
            yield piece
        if piece["eof"] or not (piece["data"] or piece["dropped"]):
            return
        params["from"] = piece["next"]


# --- for programs -----------------------------------------------------------------------------------------------------


def write_json(file: BufferedRandom, link: Link, job: Job) -> None:
    """One line of JSON."""
    head = rawjson.encode({"exportedAt": _now(), "soFar": words.is_live(job), "job": job})
    file.write(head[:-1] + b',"output":{')
    for number, stream in enumerate(streams(job)):
        file.write(b"," * (number > 0) + rawjson.encode(stream) + b':{"pieces":[')
        error: str | None = None
        try:
            file.writelines(_joined(pieces(link, job, stream)))
        except RemoteError as exc:
            _check(exc)
            error = str(exc)
        file.write(b'],"error":' + rawjson.encode(error) + b"}")
    file.write(b"}}\n")


def _joined(found: Iterator[Message]) -> Iterator[bytes]:
    """JSON of each, commas between."""
    for number, piece in enumerate(found):
        yield b"," * (number > 0) + rawjson.encode(piece)


# --- for people -------------------------------------------------------------------------------------------------------


def write_text(file: BufferedRandom, link: Link, job: Job) -> None:
    """A text that ends with a newline, as each of its sections does."""
    lines = [f"{job['id']}  {words.command(job)}"]
    lines += [f"{name:10} {value}" for name, value in _facts(job) if value]
    file.write("\n".join(lines).encode("utf-8", "backslashreplace") + b"\n")
    for stream in streams(job):
        title = "OUTPUT" if job["merged"] else stream.upper()
        _write_section(file, link, job, stream, title)


def _facts(job: Job) -> Iterator[tuple[str, str]]:
    live = words.is_live(job)
    yield "status", words.state(job) + (f", so far ({_now()})" if live else "")
    yield "error", escape(job["error"] or "")
    yield "reason", job["reason"] or ""
    yield "exit code", "" if job["exitCode"] is None else str(job["exitCode"])
    yield "signal", job["signal"] or ""
    yield "name", escape(job["name"] or "")
    yield "number", f"%{job['number']}"
    yield "agent", escape(job.get("agent") or "")
    yield "prompt", escape(job.get("prompt") or "")
    yield "directory", escape(untext(job["cwd"]))
    yield "labels", escape(" ".join(f"{key}={value}" for key, value in job["labels"].items()))
    origin = job["origin"]
    yield "created", job["createdAt"] + (f" by {escape(origin['client'])} ({origin['pid']})" if origin else "")
    yield "started", job["startedAt"] or ""
    yield "stopped", job["stoppedAt"] or ""
    yield "ended", job["completedAt"] or ""
    yield "ran", "" if job["durationMs"] is None else duration(job["durationMs"])
    yield "process", "" if job["pid"] is None else f"{job['pid']}, group {job['pgid']}"
    times = (limit(job[name]) for name in ("timeoutMs", "idleTimeoutMs", "graceMs"))
    yield "limits", "time {}, silence {}, grace {}".format(*times)
    yield "cancelled", "asked for" if job["cancelRequested"] else ""
    for entry in job.get("env", ()):
        name, _, value = untext(entry).partition("=")
        yield "env", f"{escape(name)}={quote(value)}"


def _write_section(file: BufferedRandom, link: Link, job: Job, stream: str, title: str) -> None:
    size = job["stdout"]["size"] if stream == "stdout" else job["stderr"]["size"]
    file.write(f"\n## {title} ({size} bytes{', so far' if words.is_live(job) else ''})\n".encode())
    begin = file.tell()
    ends = True  # whether what was written last ends a line
    try:
        for piece in pieces(link, job, stream):
            data = data_of(piece)
            if piece["encoding"] == "base64":
                file.seek(begin)
                file.truncate()
                which = "" if job["merged"] else f" --stream {stream[3:]}"
                note = f"[binary: {size} bytes, left out here  -> jobctl output{which} {job['id']} > FILE]\n"
                file.write(note.encode())
                return
            if piece["dropped"]:
                file.write(b"\n" * (not ends) + f"[{piece['dropped']} bytes were not kept here]\n".encode())
                ends = True
            file.write(data)
            ends = data.endswith(b"\n") if data else ends
    except RemoteError as exc:
        _check(exc)
        file.write(b"\n" * (not ends) + f"[not to be had: {escape(str(exc))}]\n".encode())
        ends = True
    file.write(b"\n" * (not ends))


def _check(error: RemoteError) -> None:
    if error.kind not in _NO_OUTPUT:
        raise error


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
