"""Stop a job's whole tree, and let it go on.

Stopping goes from the top down, and a process is seen to stand still before its children are stopped: a SIGSTOP that
meets the child of a vfork leaves the parent waiting in the kernel, neither running nor stopped, and whoever watches it
is never told.
"""

from __future__ import annotations

import os

import trio
from msgspec import Struct

from jobbroker import tree
from jobbroker.identity import is_dead, open_checked, read_stat, send_signal, start_time
from jobbroker.signals import SIGCONT, SIGSTOP

PATIENCE_SECONDS = 1.0
"""How long a tree that goes on forking may take to stand still."""
STILL_SECONDS = 0.1
"""How long the processes of one generation may take; one that hangs in the kernel is passed over."""
LOOK_SECONDS = 0.001
SLICE = 64
"""Processes dealt with before everybody else gets a turn."""


class Root(Struct, frozen=True):
    """Where a job's tree begins: below its shim, or with its own process where there is no shim any more.

    Attributes:
        pid, started: which process, by its start time too.
        belongs: whether it is itself one of the job's.
    """

    pid: int
    started: int
    belongs: bool = False

    def first(self) -> list[int]:
        """The topmost processes of the job; none if the root is gone."""
        if start_time(self.pid) != self.started:
            return []
        return [self.pid] if self.belongs else tree.children(self.pid)

    def members(self) -> list[int]:
        """All processes of the job, parents first; zombies are included."""
        if start_time(self.pid) != self.started:
            return []
        return [self.pid] * self.belongs + list(tree.descendants(self.pid))


async def stop(root: Root) -> list[int]:
    """Stop everything; return the processes that run on: they are another user's, or hang in the kernel."""
    with trio.move_on_after(PATIENCE_SECONDS):
        while await _stop_once(root):
            pass
    return [pid for pid in root.members() if _runs(pid)]


async def _stop_once(root: Root) -> bool:
    """Stop all generations, one after the other; whether one was found running that could be told to stop."""
    found = False
    parents: dict[int, int] = {}
    level = root.first()
    while level:
        parents.update(dict.fromkeys(level, root.pid))
        for count, pid in enumerate(level, 1):
            if _runs(pid):
                found |= _tell(pid, SIGSTOP, root, parents)
            if count % SLICE == 0:
                await trio.lowlevel.checkpoint()
        await _stand_still(level)
        level = [child for pid in level for child in tree.children(pid) if child not in parents]
    await trio.lowlevel.checkpoint()
    return found


async def _stand_still(level: list[int]) -> None:
    with trio.move_on_after(STILL_SECONDS):
        while any(map(_runs, level)):  # noqa: ASYNC110  # the kernel tells nobody but the parent
            await trio.sleep(LOOK_SECONDS)


async def go_on(root: Root) -> list[int]:
    """Let everything that stands still go on; return the processes that could not be told to."""
    members = root.members()
    parents = dict.fromkeys(members, root.pid)
    refused: list[int] = []
    for count, pid in enumerate(reversed(members), 1):
        stat = read_stat(pid)
        if stat is not None and stat[0] == b"T" and not _tell(pid, SIGCONT, root, parents):
            refused.append(pid)
        if count % SLICE == 0:
            await trio.lowlevel.checkpoint()
    return [pid for pid in refused if (stat := read_stat(pid)) is not None and stat[0] == b"T"]


def _runs(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat[0] not in (b"T", b"t") and not is_dead(stat)


def _tell(pid: int, signal: int, root: Root, parents: dict[int, int]) -> bool:
    """Signal a process of the job; False if it is none any more, or is not ours to signal."""
    try:
        if pid != root.pid:
            return tree.signal_member(pid, signal, root.pid, parents)
        handle = open_checked(pid, root.started)
        if handle is None:
            return False
        try:
            return send_signal(handle, signal)
        finally:
            os.close(handle)
    except PermissionError:
        return False
