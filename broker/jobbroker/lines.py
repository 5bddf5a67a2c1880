"""The lines of a record as events in the life of a job, with error texts that name the cause."""

from __future__ import annotations

import errno
import os
from typing import cast, get_args

from jobbroker.core import job
from jobbroker.core.record import Line
from jobclient.protocol.wire import Job, Reason, Stream, Text

LONGEST_WORD = 128 * 1024
"""What one word of a command must stay below on Linux (MAX_ARG_STRLEN)."""

_REASONS = frozenset(get_args(Reason))


def event_of(line: Line, of: Job) -> job.Event | None:
    """What a line reports of that job; None for a line that changes nothing a client could see (A)."""
    match line.letter:
        case b"S":
            return job.Started(line.number(0), line.number(3), line.number(4))
        case b"F":
            stage, number, wall_ms = line.text(0), line.number(1), line.number(2)
            reason: Reason = "internal" if stage == "internal" else "spawn"
            missing = (stage, number) == ("exec", errno.ENOENT)
            return job.SpawnFailed(spawn_error(stage, number, of), wall_ms, reason, missing)
        case b"T":
            return job.Stopped(line.number(0))
        case b"C":
            return job.Continued()
        case b"L":
            return job.EndBegun(reason_of(line))
        case b"X":
            streams = [Stream(line.number(at), line.number(at + 1), closed=True) for at in (3, 5)]
            return job.Ended(line.number(0), line.number(1), line.number(2), *streams)
        case b"N":
            return job.NeverRan(reason_of(line), line.number(1))
        case _:
            return None


def reason_of(line: Line) -> Reason:
    """The reason an L or an N gives; one that does not exist is a fault of ours."""
    text = line.text(0)
    return cast("Reason", text) if text in _REASONS else "internal"


def survivors(line: Line) -> list[int]:
    """The processes an X names as not killed."""
    return [int(pid) for pid in line.fields[7].split(b",") if pid.isdigit()]


def killed(line: Line) -> int:
    """How many processes an X counts that ended by SIGKILL alone; 0 of a shim that did not count."""
    return line.number(8) if len(line.fields) > 8 else 0


def spawn_error(stage: str, number: int, of: Job) -> str:
    """`STAGE: ERRNONAME: text: what`, for people and for the exit codes 126 and 127 of the command line."""
    what = {"cwd": of.cwd, "stdin": of.stdin_file or "input"}.get(stage, of.argv[0] if of.argv else "")
    name = errno.errorcode.get(number, str(number))
    return f"{stage}: {name}: {os.strerror(number).lower()}: {_shown(what)}{_advice(stage, number, of)}"


def _advice(stage: str, number: int, of: Job) -> str:
    """What to do about it, where the error itself does not say."""
    if (stage, number) == ("stdin", errno.ESPIPE):
        return "; it is neither a file nor a device"
    if stage != "exec":
        return ""
    if number == errno.E2BIG and len((of.prompt or "").encode()) >= LONGEST_WORD:
        return f"; a prompt has less than {LONGEST_WORD} bytes: put it into a file, and tell the agent to read that"
    if number == errno.ENOEXEC:
        return "; a script needs a first line like #!/bin/sh"
    if number == errno.EACCES:
        return "; it is no program, or not executable: chmod +x"
    return ""


def _shown(text: Text) -> str:
    return repr(text) if isinstance(text, str) else f"base64 {text.base64}"
