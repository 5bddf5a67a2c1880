"""An activated broker that finds another one at work: that one is asked to hand over, and goes; its jobs run on.

The activated socket is where all clients will come, so whoever runs besides would be out of reach. Standard library
only: the broker has not begun.
"""

from __future__ import annotations

import json
import os
import socket
import time

from jobbroker.identity import send_signal
from jobbroker.lock import InstanceLock, LockHeld
from jobbroker.signals import SIGTERM
from jobclient.paths import PathError, ShortAddress

PATIENCE_SECONDS = 10.0
"""How long the other one may take to go."""
ANSWER_SECONDS = 2.0
"""How long it may take to say that it will."""
_LOOK_SECONDS = 0.02
_REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"broker/shutdown","params":{"mode":"keepJobs"}}\n'


def take_over(path: str, place: str, patience: float = PATIENCE_SECONDS) -> InstanceLock:
    """The lock at `path`, once its holder has left for us, who listen at `place`.

    Raises:
        LockHeld: it has not left in time.
    """
    deadline = time.monotonic() + patience
    asked = 0
    while True:
        try:
            return InstanceLock(path)
        except LockHeld as held:
            if time.monotonic() >= deadline:
                raise
            pid, where = holder(str(held))
            if pid not in (0, asked):
                asked = pid
                _ask(path, pid, where, place)
        time.sleep(_LOOK_SECONDS)


def holder(text: str) -> tuple[int, str]:
    """Who says in the lock that it is his, and where he listens; 0 of one who has not said so yet."""
    try:
        said = json.loads(text)
        return int(said["pid"]), str(said["socket"])
    except (ValueError, TypeError, KeyError):
        return 0, ""


def _ask(path: str, pid: int, where: str, place: str) -> None:
    """Over its socket, if it still has one: behind a path that is ours now, we would ask ourselves. Else by SIGTERM."""
    if where == place or not _answers(where):
        _terminate(path, pid)


def _answers(where: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ANSWER_SECONDS)
            with ShortAddress(where) as address:
                sock.connect(address)
            sock.sendall(_REQUEST)
            return b'"result"' in sock.recv(4096)
    except (OSError, PathError):
        return False


def _terminate(path: str, pid: int) -> None:
    """SIGTERM, which keeps jobs, to the holder of the lock and surely to nobody else."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _still_held_by(path, pid):  # hence alive when the descriptor was opened: it is this very process
            send_signal(handle, SIGTERM)
    finally:
        os.close(handle)


def _still_held_by(path: str, pid: int) -> bool:
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder(os.pread(descriptor, 4096, 0).decode("utf-8", "replace"))[0] == pid
    finally:
        os.close(descriptor)
    return False
