"""The processes of one job as their shim sees them: the leader, which it started, and strangers that were left to it.

Standard library only: the shim loads this.
"""

from __future__ import annotations

import os

from jobbroker import tree

_ENDED = {os.CLD_EXITED: 0, os.CLD_KILLED: 0, os.CLD_DUMPED: 0x80}


class Family:
    """The leader of a job and whatever lost its own parent below us.

    The leader stays a zombie until its end is written: that keeps its pid, and its group's, from coming back. So it is
    asked for by pid, and strangers are found in /proc, since a zombie hides all others from a wait for any.

    Attributes:
        leader: pid of the process that was started.
        status: the leader's wait status, once it is a zombie.
        alone: the leader has ended, and nothing that descends from it is left.
    """

    __slots__ = ("_shim", "alone", "leader", "status")

    def __init__(self, shim: int, leader: int) -> None:
        self._shim = shim
        self.leader = leader
        self.status: int | None = None
        self.alone = False

    def look(self) -> list[bool]:
        """See who ended, and reap strangers; return the leader's stops (True) and continuations (False) since."""
        stops: list[bool] = []
        while self.status is None:
            end = os.waitid(os.P_PID, self.leader, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if end is not None:
                self.status = _wait_status(end)
                break
            try:
                change = os.waitid(os.P_PID, self.leader, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
            except ChildProcessError:  # it ended between the two calls: a zombie neither stops nor goes on
                continue
            if change is None:
                break
            stops.append(change.si_code != os.CLD_CONTINUED)
        self._reap_strangers()
        return stops

    def survivors(self) -> list[int]:
        """Who lives on though killed."""
        return [] if self.alone else [pid for pid in tree.survivors(self._shim) if pid != self.leader]

    def reap(self) -> None:
        """Let the leader go, now that its end is written."""
        os.waitpid(self.leader, 0)

    def _reap_strangers(self) -> None:
        """Reap until a look finds no dead: one seen alive may have left us a child of its own before it was reaped."""
        while True:
            strangers = [child for child in tree.own_children() if child != self.leader]
            left = [child for child in strangers if os.waitpid(child, os.WNOHANG)[0] == 0]
            if len(left) == len(strangers):
                break
        self.alone = self.status is not None and not left


def _wait_status(end: os.waitid_result) -> int:
    """The end of a process as wait(2) tells it."""
    code = end.si_status
    return code << 8 if end.si_code == os.CLD_EXITED else code | _ENDED[end.si_code]
