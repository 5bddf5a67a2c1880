"""Stop a job's whole tree, and let it go on.

Stopping goes from the top down, and a process is seen to stand still before its children are stopped: a SIGSTOP that
meets the child of a vfork leaves the parent waiting in the kernel, neither running nor stopped, and whoever watches it
is never told.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import trio
from msgspec import Struct

from jobbroker import tree
from jobbroker.identity import is_dead, open_process, read_stat, send_signal
from jobbroker.signals import SIGCONT, SIGSTOP

PATIENCE_SECONDS = 1.0
"""How long a tree that goes on forking may take to stand still."""
STILL_SECONDS = 0.1
"""How long the processes of one generation may take; one that hangs in the kernel is passed over."""
LOOK_SECONDS = 0.001
SLICE = 32
"""Processes dealt with before everybody else gets a turn."""


class Root(Struct, frozen=True):
    """Where a job's tree begins: below its shim, or with its own process where there is no shim any more.

    Attributes:
        pid: which process.
        leader: the job's own process, `pid` itself where there is no shim.
        leader_started: when that started, by which it is known.
    """

    pid: int
    leader: int
    leader_started: int

    @property
    def belongs(self) -> bool:
        """Whether the topmost process is itself one of the job's."""
        return self.pid == self.leader

    def stands(self) -> bool:
        """Whether what is found below is still this job's.

        A shim keeps the leader, dead or alive, until the job is over, and takes the next one only then. So what was
        found below the shim before this was true is none of the next one's.
        """
        stat = read_stat(self.leader)
        return stat is not None and int(stat[19]) == self.leader_started and (self.belongs or int(stat[1]) == self.pid)

    def first(self) -> list[int]:
        """The topmost processes of the job; none if it is over."""
        found = [self.pid] if self.belongs else tree.children(self.pid)
        return found if self.stands() else []

    def members(self) -> list[int]:
        """All processes of the job, parents first; zombies are included. Takes a while if there are many."""
        found = [self.pid] * self.belongs + list(tree.descendants(self.pid))
        return found if self.stands() else []


async def stop(root: Root, wanted: Callable[[], bool]) -> list[int]:
    """Stop everything, for as long as that is wanted.

    Returns:
        The processes that run on: they are another user's, or hang in the kernel.
    """
    with trio.move_on_after(PATIENCE_SECONDS):
        while wanted() and await _stop_once(root, wanted):
            pass
    return [pid for pid in await _members(root) if _runs(pid)]


async def _stop_once(root: Root, wanted: Callable[[], bool]) -> bool:
    """Stop all generations, one after the other; whether one was found running that could be told to stop."""
    found = False
    seen: set[int] = set()
    level = root.first()
    while level:
        seen.update(level)
        for count, pid in enumerate(level, 1):
            if not wanted():
                return False
            if _runs(pid):
                found |= _tell(pid, SIGSTOP, root, seen)
            if count % SLICE == 0:
                await trio.lowlevel.checkpoint()
        await _stand_still(level)
        level = await _below(level, seen)
    await trio.lowlevel.checkpoint()
    return found


async def _stand_still(level: list[int]) -> None:
    with trio.move_on_after(STILL_SECONDS):
        while level := await _running(level):  # noqa: ASYNC110  # the kernel tells nobody but the parent
            await trio.sleep(LOOK_SECONDS)


async def _running(pids: list[int]) -> list[int]:
    found: list[int] = []
    for count, pid in enumerate(pids, 1):
        if _runs(pid):
            found.append(pid)
        if count % SLICE == 0:
            await trio.lowlevel.checkpoint()
    return found


async def _below(level: list[int], seen: set[int]) -> list[int]:
    """The next generation."""
    found: list[int] = []
    for count, parent in enumerate(level, 1):
        found += [child for child in tree.children(parent) if child not in seen]
        if count % SLICE == 0:
            await trio.lowlevel.checkpoint()
    return found


async def _members(root: Root) -> list[int]:
    """All processes of the job, parents first, found without holding up anybody else."""
    seen: set[int] = set()
    found: list[int] = []
    level = root.first()
    while level:
        seen.update(level)
        found += level
        level = await _below(level, seen)
    return found


async def go_on(root: Root, *, all_of_it: bool = False) -> list[int]:
    """Let everything that stands still go on, the first process last.

    Args:
        root: where its tree begins.
        all_of_it: tell those that run as well: they may have been told to stop a moment ago, and not have heard it yet.

    Returns:
        The processes that could not be told to.
    """
    members = await _members(root)
    seen = set(members)
    refused: list[int] = []
    for count, pid in enumerate(reversed(members), 1):
        if (all_of_it or _stands_still(pid)) and not _tell(pid, SIGCONT, root, seen):
            refused.append(pid)
        if count % SLICE == 0:
            await trio.lowlevel.checkpoint()
    return [pid for pid in refused if root.stands() and (stat := read_stat(pid)) is not None and stat[0] == b"T"]


def _runs(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat[0] not in (b"T", b"t") and not is_dead(stat)


def _stands_still(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat[0] in (b"T", b"D")  # in D, what it was told is still to come


def _tell(pid: int, signal: int, root: Root, seen: set[int]) -> bool:
    """Signal a process of the job; False if it is none any more, or is not ours to signal."""
    handle = open_process(pid)
    if handle is None:
        return False
    try:
        stat = read_stat(pid)
        if stat is None or is_dead(stat):
            return False
        ours = pid == root.leader or int(stat[1]) == root.pid or int(stat[1]) in seen
        return ours and root.stands() and send_signal(handle, signal)
    except PermissionError:
        return False
    finally:
        os.close(handle)
