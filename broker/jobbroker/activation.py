"""The socket that a service manager listened on before we were started, and passed on (sd_listen_fds(3)).

Standard library only: it is asked for before the lock is taken, since who was activated may ask a broker to hand over.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping, MutableMapping

FIRST = 3
"""The descriptor with which what was passed begins."""
VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class BadActivation(Exception):
    """What was passed is nothing clients of ours can connect to; the text says what it is."""


def passed(environ: Mapping[str, str], pid: int) -> int:
    """How many descriptors were passed to the process `pid`: none, if they were meant for another one."""
    count, whom = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_PID", "")
    return int(count) if whom == str(pid) and count.isdecimal() and count.isascii() else 0


def take(environ: MutableMapping[str, str]) -> socket.socket | None:
    """The socket that was passed to us, or None. No child inherits it, and nobody is told of it again.

    Raises:
        BadActivation: it is not one stream socket that listens at a path.
    """
    count = passed(environ, os.getpid())
    for name in VARIABLES:
        environ.pop(name, None)
    if not count:
        return None
    for descriptor in range(FIRST, FIRST + count):
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            raise BadActivation(f"descriptor {descriptor} was announced, and is not there") from None
    if count > 1:
        raise BadActivation(f"{count} sockets were passed, one is expected: a unit has one ListenStream")
    return _checked(FIRST)


def _checked(descriptor: int) -> socket.socket:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise BadActivation("what was passed is no socket")
    passed_on = socket.socket(fileno=descriptor)
    place = passed_on.getsockname()
    if passed_on.family != socket.AF_UNIX or passed_on.type != socket.SOCK_STREAM:
        raise BadActivation("what was passed is no Unix stream socket: ListenStream takes an absolute path")
    if not passed_on.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise BadActivation("the socket that was passed is a connection: the unit must not have Accept=yes")
    if not isinstance(place, str) or not place.startswith("/"):
        raise BadActivation("the socket that was passed has no path: ListenStream takes an absolute path")
    return passed_on
