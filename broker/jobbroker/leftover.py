"""A backend that nobody holds any more: its daemon was killed, or its shim. It is ended before there is another."""

from __future__ import annotations

import logging
import os

import trio

from jobbroker.core import record
from jobbroker.identity import boot_id, open_checked, send_signal
from jobbroker.jobdir import JobDirectories, Reading
from jobbroker.orphan import Orphan
from jobbroker.signals import SIGCONT, SIGTERM

NAME = "backend"
"""Its directory, beside the jobs'."""
PATIENCE_SECONDS = 10.0
"""How long it may take to end; what lives longer cannot be killed."""
_LOOK_SECONDS = 0.02

log = logging.getLogger("jobbroker.backend")


def tell_shim(directories: JobDirectories, claim: record.Line, grace: float) -> None:
    """Ask the shim that has the backend to end it, with everything that descends from it."""
    try:
        directories.ask(NAME, "shutdown", int(grace * 1000))
        handle = open_checked(claim.number(0), claim.number(1))
        if handle is not None:
            send_signal(handle, SIGTERM)
            send_signal(handle, SIGCONT)  # if somebody has stopped it, it does not hear
            os.close(handle)
    except OSError as exc:
        log.warning("cannot ask for the end of the backend: %s", exc)


async def end_leftover(directories: JobDirectories) -> None:
    """End it, if there is one; returns when it is dead, or will not die."""
    asked = False
    with trio.move_on_after(PATIENCE_SECONDS):
        while (reading := _read(directories)) is not None:
            match record.verdict(reading.lines, locked=reading.locked, boot=boot_id()):
                case record.LIVE:
                    claim = record.last(reading.lines, b"A")
                    if claim is not None and not asked:
                        log.warning("ending the backend of an earlier broker: shim=%d", claim.number(0))
                        tell_shim(directories, claim, 0)
                        asked = True
                    await trio.sleep(_LOOK_SECONDS)
                case record.ORPHANED:
                    await _end_orphan(reading)
                    return
                case _:
                    return
        return
    log.error("the backend of an earlier broker does not end")


def _read(directories: JobDirectories) -> Reading | None:
    try:
        return directories.read(NAME)
    except (OSError, record.DamagedRecord):
        return None


async def _end_orphan(reading: Reading) -> None:
    started = record.last(reading.lines, b"S")
    handle = open_checked(started.number(0), started.number(1)) if started is not None else None
    if started is None or handle is None:
        return
    log.warning("ending a backend whose shim was killed: pid=%d", started.number(0))
    try:
        orphan = Orphan(
            started.number(0), handle, since=started.number(4), timeout_ms=0, grace_ms=0, epitaph="it was left over"
        )
        orphan.ask("shutdown", 0)
        await orphan.run(lambda _: None)
    finally:
        os.close(handle)
