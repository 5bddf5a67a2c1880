"""How a fork server is exec'ed: an isolated interpreter that finds this package and nothing else of site-packages."""

from __future__ import annotations

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_CODE = "import sys; sys.path.insert(0, sys.argv[2]); from jobbroker.forkserver import main; main(int(sys.argv[1]))"


def fork_server_command(channel: int) -> list[str]:
    """The argv of a fork server that serves on an inherited descriptor."""
    return [sys.executable, "-I", "-S", "-c", _CODE, str(channel), _ROOT]
