"""The fork server: forks shims, and nothing else. Standard library only, exec'ed by the daemon, small on purpose.

It is forked from all day, so what it has loaded is what every shim shares with it, and whatever a shim would otherwise
do at birth is done here once. A daemon's death ends it; its own death costs nothing but the next daemon's exec.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, SOCK_SEQPACKET, socket

from jobbroker import tree
from jobbroker.capture import Capture
from jobbroker.complain import complain
from jobbroker.core import ladder, record
from jobbroker.core.index import STDOUT
from jobbroker.identity import start_time
from jobbroker.pipe import Pipe
from jobbroker.shim import Shim
from jobbroker.signals import SIGCHLD, signal

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
SIG_DFL, SIG_IGN = 0, 1
_IGNORED = (1, 2, 3, 13, 15, 24)
"""HUP INT QUIT PIPE TERM: a terminal or a careless kill must not orphan jobs. XCPU: nor must a job's soft limit of less
CPU time than the shim has used, which the shim borrows for the moment of the spawn."""

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def main(channel: int) -> None:
    """Serve on a connected SOCK_SEQPACKET socket: each message brings the channel of a shim to be forked."""
    server = socket(AF_UNIX, SOCK_SEQPACKET, 0, channel)
    os.set_inheritable(channel, False)
    os.setsid()
    os.chdir("/")
    for number in _IGNORED:
        signal(number, SIG_IGN)
    signal(SIGCHLD, SIG_IGN)  # shims need no reaping
    _prctl(PR_SET_NAME, b"jobbroker-fork", 0, 0, 0)
    rehearse()
    gc.collect()
    gc.freeze()
    while True:
        message, ancillary, _, _ = server.recvmsg(16, 64, MSG_CMSG_CLOEXEC)
        if not message:
            return
        for _, _, data in ancillary:
            given = int.from_bytes(data[:4], sys.byteorder)
            fork_shim(server, given)
            os.close(given)


def rehearse() -> None:
    """Do what every job needs, before the first fork: what is cached here is shared, and 0.1 MB less in every shim."""
    more = {b"umask": b"18", b"graceMs": b"5000", b"merged": b"1"}
    data = record.Head(b"x", 1, b"command", b"/", [b"true"], [b"A=b", b"PATH=/bin"], more).encode()
    for _ in range(10):  # the interpreter adapts its code after the eighth time
        head, _ = record.decode(data + record.encode_line(b"A", 1, 2, b"x", b"y"))
        plan = ladder.Ladder(1, timeout_ms=head.amount(b"none"), idle_ms=0, grace_ms=head.amount(b"graceMs"))
        plan.step(2, leader_ended=False, tree_empty=False)
        plan.due()
        start_time(os.getpid())
        tree.own_children()
        stream = Pipe(STDOUT)
        os.close(stream.open())
        stream.read()
        stream.close()
        Capture(-1, 0).close()


def fork_shim(server: socket, channel: int) -> None:
    """Fork once; if that is refused the daemon sees the channel end, and knows."""
    try:
        if os.fork():
            return
    except OSError as exc:
        os.write(2, f"fork server: no shim: {exc}\n".encode())
        return
    server.close()
    be_shim(channel)


def be_shim(channel: int) -> None:
    """In the child: become the parent of whatever loses its own below us, and take jobs. Never returns."""
    status = 70
    try:
        os.setsid()
        if _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the kernel knows no child subreapers")
        _prctl(PR_SET_NAME, b"jobbroker-shim", 0, 0, 0)
        Shim(channel).serve()
        status = 0
    except BaseException:
        complain(f"shim {os.getpid()}")
    finally:
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
