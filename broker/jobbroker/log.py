"""The broker's log: one line an event, to stderr, which is broker.log unless a service manager reads it."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import time

_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"
_TIME = "%Y-%m-%dT%H:%M:%S"
KEEP = 4
"""Old logs kept beside the new one."""


class _OneLine(logging.Formatter):
    """A traceback is many lines; each of them says which event it belongs to by its indentation."""

    def converter(self, seconds: float | None) -> time.struct_time:
        return time.gmtime(seconds)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n    ")


def write_to_file(path: str, max_size: int) -> None:
    """Let stderr, ours and that of everything we start, be the log file; a large one is put aside first."""
    try:
        if max_size and os.path.getsize(path) > max_size:
            _rotate(path)
    except FileNotFoundError:
        pass
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def start(*, dump_when_aborted: bool = False) -> None:
    """Log to stderr from now on; if it is so wanted, a SIGABRT says where every thread was: a watchdog sends it."""
    if dump_when_aborted:
        faulthandler.enable()
    # What no line of ours shows need not be looked up for each (logging cookbook, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(_FORMAT, _TIME))
    root = logging.getLogger("jobbroker")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False


def fault(exc: Exception) -> None:
    """The broker ends by a fault of its own: say all there is to say."""
    start()
    logging.getLogger("jobbroker").critical("the broker ends by a fault of its own", exc_info=exc)


def _rotate(path: str) -> None:
    for number in range(KEEP, 0, -1):
        older = f"{path}.{number}"
        newer = f"{path}.{number - 1}" if number > 1 else path
        try:
            os.replace(newer, older)
        except FileNotFoundError:
            continue
