"""Find the broker of an instance, or start one: the slow path, taken when nobody answers at the socket (CONTRACT 7).

What to do next is one pure function, `decide`. The lock on `lock` is the truth about whether a broker runs; a client
that would start one holds `spawn.lock`, so that of fifty only one does. A pid file is never asked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from jobclient import holder, paths, raw, spawn, systemctl, units
from jobclient.protocol import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, NoReturn, TypeAlias

    Answer: TypeAlias = Literal["absent", "busy"]
    """Why nobody answered: nobody is there, or whoever is there has no time (or is coming, or going)."""
    Step: TypeAlias = Literal["wait", "lock", "unit", "spawn", "give_up"]

_ABSENT = frozenset({errno.ENOENT, errno.ECONNREFUSED})
_BUSY = frozenset({errno.EAGAIN, errno.ECONNRESET, errno.EPIPE, errno.EINTR, errno.ETIMEDOUT})
_PAUSE = 0.02
MAX_KILLED = 5
"""A broker that somebody kills while it starts has no fault of its own: so often another one is started."""


def allowed() -> bool:
    """Whether the environment lets us start brokers."""
    return os.environ.get("JOBBROKER_AUTOSPAWN") != "0"


def reach(instance: str, deadline: float, *, may_start: bool) -> raw.RawConnection:
    """A connection to the instance's broker, which is started if there is none and it may be.

    Raises:
        BrokerUnavailable: with what was tried and what to do.
        VersionMismatch: a broker answers, but not in our version of the protocol.
        PathError: a place cannot be used safely.
    """
    search = _Search(instance, deadline, may_start=may_start)
    try:
        return search.run()
    finally:
        search.unlock()


def decide(answer: Answer, *, locked: bool, held: bool, may_start: bool, unit: bool) -> Step:
    """What to do when no broker answers.

    Args:
        answer: how the socket failed to.
        locked: whether we hold the lock of spawning.
        held: whether somebody holds the broker's lock; known only while we hold ours.
        may_start: whether a broker may be started.
        unit: whether systemd may be asked to, which is done once.
    """
    if answer == "busy":
        return "wait"
    if not locked:
        return "lock"
    if held:
        return "wait"  # coming up, going down, or under another runtime directory and busy
    if not may_start:
        return "give_up"
    return "unit" if unit else "spawn"


def classify(error: Exception) -> Answer | None:
    """Why a broker did not answer; None if it is no use to try again."""
    if isinstance(error, errors.ConnectionLost | errors.ShuttingDown | errors.TimedOut | TimeoutError):
        return "busy"
    if isinstance(error, OSError):
        if error.errno in _ABSENT:
            return "absent"
        if error.errno in _BUSY:
            return "busy"
    return None


class _Search:
    """One search for a broker, with what it has tried so far."""

    def __init__(self, instance: str, deadline: float, *, may_start: bool) -> None:
        self._instance = instance
        self._deadline = deadline
        self._may_start = may_start
        self._path = paths.socket_path(instance)
        self._lock = -1
        self._unit = may_start
        self._tried: list[str] = []
        self._killed = 0

    def run(self) -> raw.RawConnection:
        while True:
            answer = self._greet(self._path)
            if isinstance(answer, raw.RawConnection):
                return answer
            found = holder.find(self._instance) if self._lock >= 0 else None
            if found is not None and found.socket not in ("", self._path):
                elsewhere = self._greet(found.socket)
                if isinstance(elsewhere, raw.RawConnection):
                    return elsewhere
            step = decide(
                answer,
                locked=self._lock >= 0,
                held=found is not None,
                may_start=self._may_start,
                unit=self._unit and self._lock >= 0 and systemctl.installed(self._instance),
            )
            connection = self._take(step, found)
            if connection is not None:
                return connection

    def unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take(self, step: Step, found: holder.Holder | None) -> raw.RawConnection | None:
        match step:
            case "wait":
                self._pause(found)
            case "lock":
                if not self._try_lock():
                    self._pause(found)
            case "unit":
                self._unit = False
                self._tried.append(f"systemctl --user start {units.unit(self._instance)}.socket")
                systemctl.start_socket(self._instance)
            case "spawn":
                return self._spawn()
            case "give_up":
                self._give_up()
        return None

    def _greet(self, path: str) -> raw.RawConnection | Answer:
        try:
            return raw.greet(path, self._deadline)
        except (OSError, errors.JobBrokerError) as exc:
            answer = classify(exc)
            if answer is not None:
                return answer
            if isinstance(exc, OSError):
                raise errors.BrokerUnavailable(f"cannot connect to {path}: {exc.strerror or exc}") from exc
            raise

    def _try_lock(self) -> bool:
        """Take the lock of spawning; without the right to start anything, no directory is made for it."""
        path = paths.spawn_lock_path(self._instance)
        if self._may_start:
            paths.make_private_dir(paths.state_dir())
            paths.make_private_dir(os.path.dirname(path))
        elif not os.path.exists(os.path.dirname(path)):
            self._give_up()
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _spawn(self) -> raw.RawConnection | None:
        """Start a broker and watch it come up; None if it found that another one was faster."""
        broker = spawn.Spawned(self._instance)
        self._tried.append(f"a broker of our own (pid {broker.pid}, log {broker.log})")
        while True:
            answer = self._greet(self._path)
            if isinstance(answer, raw.RawConnection):
                return answer
            status = broker.status()
            if status == spawn.EX_TEMPFAIL or (status is not None and status < 0 and self._killed < MAX_KILLED):
                self._killed += status < 0
                self._pause(None)
                return None
            if status is not None:
                how = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
                raise errors.BrokerUnavailable(
                    f"the broker {how} while starting{broker.last_words()}\n  -> jobctl broker logs"
                )
            self._pause(None)

    def _pause(self, found: holder.Holder | None) -> None:
        left = self._deadline - time.monotonic()
        if left > 0:
            time.sleep(min(_PAUSE, left))
            return
        who = f"the broker (pid {found.pid})" if found is not None and found.pid else "the broker"
        tried = f"; tried: {', '.join(self._tried)}" if self._tried else ""
        raise errors.BrokerUnavailable(f"{who} does not answer at {self._path}{tried}  -> jobctl broker restart")

    def _give_up(self) -> NoReturn:
        why = "" if allowed() else ", and JOBBROKER_AUTOSPAWN=0 forbids to start one"
        raise errors.BrokerUnavailable(f"no broker is running{why}  -> jobctl broker start")
