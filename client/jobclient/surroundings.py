"""What a job takes over from whoever starts it: directory, environment, umask, soft limits, default time limit.

Read from /proc, because asking the kernel for the umask means to change it, and importing `resource` costs time.
"""

from __future__ import annotations

import os
import time

from jobclient.protocol.failure import JobBrokerError
from jobclient.raw import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobclient.raw import Text

TIMEOUT_VARIABLE = "JOBBROKER_JOB_TIMEOUT_MS"

_LIMITS = {
    "Max cpu time": "CPU",
    "Max file size": "FSIZE",
    "Max data size": "DATA",
    "Max stack size": "STACK",
    "Max core file size": "CORE",
    "Max resident set": "RSS",
    "Max processes": "NPROC",
    "Max open files": "NOFILE",
    "Max locked memory": "MEMLOCK",
    "Max address space": "AS",
    "Max pending signals": "SIGPENDING",
    "Max msgqueue size": "MSGQUEUE",
    "Max nice priority": "NICE",
    "Max realtime priority": "RTPRIO",
    "Max realtime timeout": "RTTIME",
}
"""Rows of /proc/self/limits that a broker in Python can set; it knows no RLIMIT_LOCKS, nor does Linux heed it."""
_NAME, _SOFT = slice(0, 26), slice(26, 47)
_PR_UMASK = b"\nUmask:\t"


def directory() -> str:
    """The current directory.

    Raises:
        JobBrokerError: it was removed, or may not be entered.
    """
    try:
        return os.getcwd()
    except OSError as exc:
        raise JobBrokerError(
            f"the current directory cannot be used: {exc.strerror or exc}  -> cd, or say where with -C"
        ) from exc


def environment(variables: Mapping[str, str]) -> dict[str, Text] | list[Text]:
    """Environment variables as they travel: an object, or a list of `NAME=value` if a name is not UTF-8."""
    values = {name: text(value) for name, value in variables.items()}
    if all(isinstance(text(name), str) for name in values):
        return values
    return [text(f"{name}={value}") for name, value in variables.items()]


def umask() -> int | None:
    """The umask of this process, None on a kernel that does not tell (before 4.7)."""
    status = _read("/proc/self/status")
    begin = status.find(_PR_UMASK)
    if begin < 0:
        return None
    begin += len(_PR_UMASK)
    return int(status[begin : status.index(b"\n", begin)], 8)


def soft_limits() -> dict[str, int]:
    """The soft limits of this process by name, -1 for none."""
    return parse_limits(_read("/proc/self/limits").decode())


def parse_limits(table: str) -> dict[str, int]:
    """The soft limits in the text of /proc/PID/limits."""
    limits: dict[str, int] = {}
    for line in table.splitlines()[1:]:
        name = _LIMITS.get(line[_NAME].rstrip())
        if name is not None:
            soft = line[_SOFT].strip()
            limits[name] = -1 if soft == "unlimited" else int(soft)
    return limits


def timeout_ms() -> int | None:
    """The time limit the environment asks for, None if it does not.

    Raises:
        ValueError: it says something else; worth a warning, no more.
    """
    value = os.environ.get(TIMEOUT_VARIABLE, "").strip()
    if not value:
        return None
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"{TIMEOUT_VARIABLE} is {value!r}, not a number of milliseconds; the default stays")
    return int(value)


def idempotency_key() -> str:
    """A key no other request has. Keys made one after another sort so: a store's index takes them at its end."""
    return f"{time.time_ns():016x}{os.urandom(8).hex()}"


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 65536)
    finally:
        os.close(descriptor)
