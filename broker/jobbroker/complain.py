"""Say in broker.log what went wrong in a process that has no other way to speak. Standard library only."""

from __future__ import annotations

import os
import sys


def complain(where: str) -> None:
    """Write the exception being handled to stderr in one go; if the log takes nothing, so be it."""
    fault = sys.exc_info()[1]
    try:
        import traceback  # only now: it is large, and hardly ever needed

        what = traceback.format_exc()
    except (OSError, ImportError, MemoryError):  # out of files, or the interpreter was replaced under us
        what = f"{fault!r}\n"
    try:
        os.write(2, f"{where}: {what}".encode("utf-8", "backslashreplace"))
    except OSError:
        pass
