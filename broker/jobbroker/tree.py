"""The process tree below a process: walk it, kill it. Standard library only: the shim loads this.

A job's descendants may call setsid, fork twice, start new groups: none of that takes them out of their shim's tree,
because the shim is a child subreaper. So the walk goes by parenthood, never by group or session.
"""

from __future__ import annotations

import os

from jobbroker.identity import read_stat, send_signal
from jobbroker.signals import SIGKILL, SIGSTOP


def children(pid: int) -> list[int]:
    """The direct children of a process, of all its threads; none if it is gone."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            return _children_by_scan(pid)
    return found


def _children_by_scan(pid: int) -> list[int]:
    """The same on a kernel built without CONFIG_PROC_CHILDREN."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        stat = read_stat(int(name)) if name.isdigit() else None
        if stat is not None and int(stat[1]) == pid:
            found.append(int(name))
    return found


def descendants(root: int) -> dict[int, int]:
    """Everything below `root`, as pid -> parent, parents first. Zombies are included."""
    parents: dict[int, int] = {}
    level = [root]
    while level:
        below: list[int] = []
        for parent in level:
            for child in children(parent):
                if child not in parents:
                    parents[child] = parent
                    below.append(child)
        level = below
    return parents


def kill_round(root: int) -> set[int]:
    """Stop, then kill everything below `root`, once. Repeat until nothing is left: it may have forked meanwhile.

    Stopping all before killing any keeps a respawning parent from answering each death with a birth.

    Returns:
        The processes that may not be signalled by us.
    """
    found = descendants(root)
    refused: set[int] = set()
    handles: list[int] = []
    for pid in found:
        handle = _open_member(pid, root, found)
        if handle is None:
            continue
        handles.append(handle)
        try:
            send_signal(handle, SIGSTOP)
        except PermissionError:
            refused.add(pid)
    for handle in handles:
        try:
            send_signal(handle, SIGKILL)
        except PermissionError:
            pass  # the same one that could not be stopped
        os.close(handle)
    return refused


def _open_member(pid: int, root: int, found: dict[int, int]) -> int | None:
    """A pidfd on a process still known to be below `root`: the pid may be a stranger's by now."""
    try:
        handle = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError):
        return None
    stat = read_stat(pid)
    if stat is not None and (int(stat[1]) == root or int(stat[1]) in found):
        return handle
    os.close(handle)
    return None
