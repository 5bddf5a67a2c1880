"""Who runs a schedule: the holder of a lock file, which brokers may share. Each new leader has a term of its own.

The lock ends with its holder, however he ends. What the file says is only which term it is.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Callable

import msgspec
from msgspec import Struct

ROOM = 256
"""Bytes a lock file has: always as many, so that no term needs room on a full disk that an earlier one did not."""
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


log = logging.getLogger("jobbroker.timed")


class NotALeaderLock(OSError):
    """The file is something else, and is not touched."""


class _Text(Struct, frozen=True):
    """What stands in a lock file."""

    term: int
    leader: str
    pid: int


class LeaderLock:
    """One lock file.

    Attributes:
        term: the latest term of ours, or known to be over.
        held: whether it is ours.
    """

    def __init__(self, path: str, leader: str, term: int = 0) -> None:
        """`leader` is who we are, for people who look into the file; `term` the latest one that is known."""
        self.path = path
        self.term = term
        self._leader = leader
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether it was ours when we last looked."""
        return self._descriptor is not None

    def take(self) -> bool:
        """Whether we lead, which we begin to if nobody does.

        Raises:
            OSError: the file cannot be used.
        """
        if self._descriptor is not None:
            if self._is_in_place(self._descriptor):
                return True
            self.release()  # somebody removed it: others can lead by the next one
        descriptor = os.open(self.path, _FLAGS, 0o600)
        try:
            term = _term(descriptor, self.path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            if not self._is_in_place(descriptor):
                os.close(descriptor)
                return False
            term = max(_term(descriptor, self.path), self.term) + 1
            _write(descriptor, term, self._leader)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self.term = descriptor, term
        return True

    def check(self) -> None:
        """Whether the file can be a leader lock; it is made if it is not there.

        Raises:
            OSError: it cannot.
        """
        descriptor = os.open(self.path, _FLAGS, 0o600)
        try:
            _term(descriptor, self.path)
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Lead no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        ours = os.fstat(descriptor)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _term(descriptor: int, path: str) -> int:
    """The term a file speaks of; 0 for one that is empty.

    Raises:
        NotALeaderLock: it is no file of this kind.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise NotALeaderLock(f"{path} is not a regular file")
    text = os.pread(descriptor, ROOM + 1, 0)
    if not text:
        return 0
    try:
        found = msgspec.json.decode(text, type=_Text) if len(text) == ROOM else None
    except msgspec.MsgspecError:
        found = None
    if found is None or found.term < 0:
        raise NotALeaderLock(f"{path} is something else than a leader lock")
    return found.term


def _write(descriptor: int, term: int, leader: str) -> None:
    text = msgspec.json.encode(_Text(term, leader.encode("ascii", "replace").decode()[:100], os.getpid()))
    if os.pwrite(descriptor, text.ljust(ROOM), 0) != ROOM:
        os.ftruncate(descriptor, 0)
        raise OSError("no room for the term of a leader lock")


class Leaders:
    """The leader locks of a broker, and its own lock, with which it leads whatever asks for no other."""

    def __init__(self, leader: str, known: Callable[[str], int], note: Callable[[str, int], None]) -> None:
        """Begin with none.

        Args:
            leader: who we are, for people.
            known: the latest term of a lock that is known; that of the broker's own lock for an empty path.
            note: keeps it.
        """
        self._leader = leader
        self._known = known
        self._note = note
        self._locks: dict[str, LeaderLock] = {}
        self._own: int | None = None

    def lead(self, path: str | None) -> int | None:
        """The term in which we lead, which we begin to if nobody does; None if somebody else does.

        Raises:
            OSError: the lock cannot be used.
        """
        if path is None:
            if self._own is None:
                self._own = self._known("") + 1
                self._note("", self._own)
            return self._own
        if path not in self._locks:
            self._locks[path] = LeaderLock(path, self._leader, self._known(path))
        lock = self._locks[path]
        before = lock.term
        leads = lock.take()
        if lock.term != before:
            self._note(path, lock.term)
            log.info("leader now: lock=%s term=%d", path, lock.term)
        return lock.term if leads else None

    def leads(self, path: str | None) -> tuple[bool, int]:
        """Whether we lead, as far as we know, and our latest term."""
        if path is None:
            return True, self._own or self._known("")
        lock = self._locks.get(path)
        return (False, self._known(path)) if lock is None else (lock.held, lock.term)

    def keep(self, wanted: set[str]) -> None:
        """Let go of all other locks: others may lead what we have no schedule for any more."""
        for path in self._locks.keys() - wanted:
            self._locks.pop(path).release()
