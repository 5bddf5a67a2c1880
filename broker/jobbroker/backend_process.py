"""The process of a backend, under a shim of its own: started, heard, ended, with everything that descends from it.

Its record is `backend/record`. A daemon that is killed leaves it locked for as long as the shim lives, which ends the
tree once the process has ended; a daemon that starts and finds it locked ends it first.
"""

from __future__ import annotations

import os

import trio

from jobbroker.channels import Channels
from jobbroker.core import record
from jobbroker.core.job import signal_name
from jobbroker.core.profile import Process
from jobbroker.core.routing.effects import Exit
from jobbroker.jobdir import JobDirectories
from jobbroker.leftover import NAME, tell_shim
from jobbroker.processes import NoShim, Shim
from jobbroker.requests import Surroundings
from jobbroker.stdio import Stdio


class BackendProcess:
    """One run of the backend.

    Attributes:
        pid: once it runs.
        begun: set once it runs, or surely does not.
        over: set once it has ended, with all that descends from it.
        error: why it did not begin.
    """

    def __init__(self, what: Process, directories: JobDirectories, channels: Channels, around: Surroundings) -> None:
        self._what = what
        self._directories = directories
        self._channels = channels
        self._around = around
        self._status: int | None = None
        self._claim: record.Line | None = None
        self.pid: int | None = None
        self.begun = trio.Event()
        self.over = trio.Event()
        self.error: str | None = None

    def start(self, stdio: Stdio) -> None:
        """Hand it to a shim, with its stdio; whether it runs is told by `begun`."""
        try:
            self._directories.remove(NAME)
            self._directories.create(self._head())
            with self._directories.opened(NAME) as directory:
                self._channels.offer(NAME, directory, stdio=stdio.theirs, audience=self)
        except (NoShim, OSError) as exc:
            self._fail(f"shim: {exc}")
        finally:
            stdio.give_away()

    def _head(self) -> record.Head:
        what = self._what
        env = dict(entry.split(b"=", 1) for entry in self._around.env)
        env |= {os.fsencode(name): os.fsencode(value) for name, value in what.env.items()}
        more = {
            b"graceMs": b"%d" % int(what.stop.term * 1000),
            b"umask": b"%d" % self._around.umask,
            b"rlimit.NOFILE": b"%d" % self._around.descriptors,
        }
        cwd = self._around.cwd if what.cwd is None else os.fsencode(os.path.expanduser(what.cwd))
        argv = [os.fsencode(word) for word in what.command]
        entries = [name + b"=" + value for name, value in env.items()]
        return record.Head(NAME.encode(), 0, b"backend", cwd, argv, entries, more)

    def _fail(self, error: str) -> None:
        self.error = error
        self.begun.set()
        self.over.set()

    def exit(self, stderr_tail: str, why: str | None = None) -> Exit:
        """How it ended, as far as that is known."""
        if self.error is not None:
            return Exit(f"could not be started: {self.error}", stderr_tail=stderr_tail)
        if self._status is None:
            return Exit(why or "is gone, nobody saw how", stderr_tail=stderr_tail)
        number = self._status & 0x7F
        if number:
            return Exit(why or f"was killed by {signal_name(number)}", None, signal_name(number), stderr_tail)
        code = self._status >> 8
        return Exit(why or f"ended with exit status {code}", code, None, stderr_tail)

    # --- ending it --------------------------------------------------------------------------------------------------

    def end(self, grace: float) -> None:
        """Ask its shim to end it: SIGTERM, and after the grace SIGKILL to the whole tree."""
        if self._claim is not None and not self.over.is_set():
            tell_shim(self._directories, self._claim, grace)

    # --- what its shim says -----------------------------------------------------------------------------------------

    def say(self, _name: str, _shim: Shim, lines: list[record.Line]) -> None:
        """A step of it."""
        for line in lines:
            match line.letter:
                case b"A":
                    self._claim = line
                case b"S":
                    self.pid = line.number(0)
                    self.begun.set()
                case b"F":
                    what = self._what.cwd if line.text(0) == "cwd" else self._what.command[0]
                    self._fail(f"{os.strerror(line.number(1)).lower()}: {what!r}")
                case b"X":
                    self._status = line.number(0)
                    self.over.set()
                case _:
                    pass

    def keep(self, _name: str, descriptors: list[int]) -> None:
        """It writes no output that would have to be kept."""
        for descriptor in descriptors:
            os.close(descriptor)

    def refuse(self, _name: str) -> None:
        """A shim could not have it."""
        self._fail("its record was claimed by somebody else")

    def see(self, _name: str) -> None:
        """It was stopped or goes on, which shows only in that it is silent."""

    def vanish(self, _name: str, _shim: Shim) -> None:
        """Its shim was killed: what runs without one is ended by `end_leftover`."""
        self._lose_sight()

    def fail(self, _name: str) -> None:
        """A fault of ours kept its shim from being heard."""
        self._lose_sight()

    def _lose_sight(self) -> None:
        self.error = self.error or (None if self.begun.is_set() else "its shim was killed")
        self.begun.set()
        self.over.set()
