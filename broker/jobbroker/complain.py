"""Say in broker.log what went wrong in a process that has no other way to speak. Standard library only."""

from __future__ import annotations

import os


def complain(where: str) -> None:
    """Write the exception being handled to stderr in one go; if the log takes nothing, so be it."""
    import traceback  # only now: it is large, and hardly ever needed

    try:
        os.write(2, f"{where}: {traceback.format_exc()}".encode("utf-8", "backslashreplace"))
    except OSError:
        pass
