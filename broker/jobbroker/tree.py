"""The process tree below a process: walk it, let it go on, kill it. Standard library only: the shim loads this.

A job's descendants may call setsid, fork twice, start new groups: none of that takes them out of their shim's tree,
because the shim is a child subreaper. So the walk goes by parenthood, never by group or session.
"""

from __future__ import annotations

import os

from jobbroker.identity import GONE, is_dead, open_process, read_file, read_stat, send_signal
from jobbroker.signals import SIGCONT, SIGKILL, SIGSTOP

_PROC_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def children(pid: int) -> list[int]:
    """The direct children of a process, of all its threads; none if it is gone.

    The kernel may pass one over while others are being reaped. Of our own children that cannot happen, since nobody
    reaps them but us; of others a second look tells, which `kill_round` needs anyway.
    """
    if not _PROC_CHILDREN:
        return _children_by_scan(pid)
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except GONE:
        return found
    for thread in threads:
        try:
            found += map(int, read_file(f"/proc/{pid}/task/{thread}/children").split())
        except GONE:
            continue
    return found


def own_children() -> list[int]:
    """The direct children of this process, which has one thread only."""
    if not _PROC_CHILDREN:
        return children(os.getpid())
    return [int(child) for child in read_file("/proc/thread-self/children").split()]


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


def survivors(root: int) -> list[int]:
    """What lives below `root`: zombies are dead, whoever should reap them."""
    return [pid for pid in descendants(root) if (stat := read_stat(pid)) is not None and not is_dead(stat)]


def let_go_on(root: int) -> None:
    """Continue whatever is stopped below `root`, wherever it went.

    A signal that ends a process stays pending while that is stopped; and one that obeys it may first wait for a child
    that is stopped. A signal to the group reaches none of those that left it.
    """
    found = descendants(root)
    for pid in found:
        stat = read_stat(pid)
        if stat is not None and stat[0] == b"T":
            try:
                signal_member(pid, SIGCONT, root, found)
            except PermissionError:  # another user's by now: the kill will name it
                pass


def kill_round(root: int) -> set[int]:
    """Stop, then kill everything below `root`, once. Repeat until nothing is left: it may have forked meanwhile.

    Stopping all before killing any keeps a respawning parent from answering each death with a birth. No handle is kept
    from one pass to the other: a tree may have more processes than we may open files. Children are killed before their
    parents: an orphan of a root that is no subreaper could not be told from a stranger.

    Returns:
        The processes that were killed, so far as they were alive.
    """
    found = descendants(root)
    killed: set[int] = set()
    for signal, members in ((SIGSTOP, list(found)), (SIGKILL, reversed(found))):
        for pid in members:
            try:
                if signal_member(pid, signal, root, found) and signal == SIGKILL:
                    killed.add(pid)
            except PermissionError:  # another user's: it will be named as a survivor
                pass
    return killed


def signal_member(pid: int, signal: int, root: int, found: dict[int, int]) -> bool:
    """Signal a process if it is still below `root`: the pid may be a stranger's by now. Whether it was alive.

    Raises:
        PermissionError: it belongs to another user.
    """
    handle = open_process(pid)
    if handle is None:
        return False
    try:
        stat = read_stat(pid)
        if stat is None or is_dead(stat) or not (int(stat[1]) == root or int(stat[1]) in found):
            return False
        return send_signal(handle, signal)
    finally:
        os.close(handle)
