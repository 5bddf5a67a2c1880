"""One job in its shim, from the claim to the end: start it, keep its output, hold its limits, end its tree, report.

The order of steps is the whole point; `core/record.py` says what a reader concludes from each prefix of it:

    claim -> A -> spawn -> S -> (T C)* -> (L -> signal)? -> leader a zombie -> tree empty -> drain -> X -> reap -> free

Standard library only: the shim loads this.
"""

from __future__ import annotations

import errno
import os
import select
import time

from jobbroker import tree
from jobbroker.capture import Capture, in_memory
from jobbroker.clock import mono_ms, wall_ms
from jobbroker.complain import complain
from jobbroker.core import ladder
from jobbroker.core.index import STDERR, STDOUT
from jobbroker.core.record import DamagedRecord
from jobbroker.family import Family
from jobbroker.identity import start_time
from jobbroker.intake import open_intake
from jobbroker.journal import Journal
from jobbroker.pipe import CHUNK, Pipe
from jobbroker.poke import Poke
from jobbroker.signals import SIGCONT, SIGTERM
from jobbroker.spawn import SpawnFailed, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobbroker.core.record import Head
    from jobbroker.shim import Shim

PAUSE_MS = 50
"""After a small read a stream is left alone so long: a chatty job costs 20 wake-ups a second, not a thousand. The first
output after silence is written at once."""
SMALL_READ = CHUNK // 2
KILL_PAUSE_MS = 5
"""Between rounds of killing, unless a child's end comes first."""
LONGEST_SLEEP_MS = 3_600_000
"""poll(2) counts its patience in an int, of which a limit of a month is too much."""
NAMED_SURVIVORS = 64
"""So many fit into the room that was set aside for the end."""


class Run:
    """One job, from its claim to its end."""

    def __init__(self, shim: Shim, identity: bytes, descriptors: list[int]) -> None:
        self.shim = shim
        self.id = identity
        self.directory, *self.given = descriptors  # what else is given is its stdio, which then is not ours to keep
        self.journal: Journal
        self.family: Family | None = None
        self.capture: Capture
        self.ladder: ladder.Ladder
        self.pipes: list[Pipe] = []
        self.theirs: list[int] = []  # the job's ends of the pipes, until it has them
        self.files: tuple[int, ...] = ()  # output and index, where they are in memory only
        self.input = -1  # our end of its stdin: any daemon opens it through /proc, to write
        self.paused: dict[Pipe, int] = {}  # when to look at them again
        self.killed: set[int] = set()  # processes that SIGTERM did not end
        self.poke = Poke(identity, self.directory)

    def go(self) -> bool:
        """Run the job; whether the shim may take another one afterwards."""
        try:
            head = self.claim()
            if head is None:
                self.shim.send(self.id + b" refused")
                return True
            return self.go_claimed(head)
        finally:
            for descriptor in (self.directory, *self.given):
                os.close(descriptor)

    def claim(self) -> Head | None:
        """Make the job ours, if it is one, and nobody was faster."""
        try:
            self.journal = Journal(self.directory)
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise  # our trouble, not the record's
            return None
        head = None
        try:
            head = self.journal.claim()
        except DamagedRecord:
            pass
        if head is None:
            self.journal.free()
        return head

    def go_claimed(self, head: Head) -> bool:
        """Run the job that is ours now; a fault of ours ends it and says so, and never leaves its record in doubt."""
        try:
            family = self.begin(head)
            if family is None:
                return True
            self.watch(family)
            return self.finish(family)
        except BaseException:
            self.fault()
            return False
        finally:
            self.close_input()
            self.journal.free()

    def begin(self, head: Head) -> Family | None:
        """Start the job, each step written first; None if it surely did not start."""
        shim = self.shim
        shim.signals()  # whatever came while we were idle was meant for an earlier job
        timeout, idle, grace = map(head.amount, (b"timeoutMs", b"idleTimeoutMs", b"graceMs"))
        try:
            self.capture = self.open_capture(head)
            streams = self.open_streams(head)
            self.tell(b"A", shim.pid, shim.started, shim.boot, self.inodes(), descriptors=self.files)
            leader = spawn(head, *streams)
        except SpawnFailed as exc:
            self.end_unspawned(exc)
            return None
        finally:
            self.close_theirs()
        self.family = Family(shim.pid, leader)
        now = mono_ms()
        self.ladder = ladder.Ladder(now, timeout_ms=timeout, idle_ms=idle, grace_ms=grace)
        self.tell(b"S", leader, start_time(leader) or 0, shim.boot, wall_ms(), now)
        return self.family

    def open_capture(self, head: Head) -> Capture:
        """What keeps the output. Files in memory are made now: the daemon gets them with A, so it always has them."""
        limit = head.amount(b"maxOutput")
        if head.more.get(b"persist") != b"0":
            return Capture(self.directory, limit)
        self.files = files = in_memory("jobbroker-output"), in_memory("jobbroker-index")
        return Capture(-1, limit, files)

    def open_streams(self, head: Head) -> tuple[int, int, int]:
        """Make the pipes, unless stdio was given; return the job's ends of them, as its stdin, stdout and stderr."""
        if self.given:
            return self.given[0], self.given[1], self.given[2]
        stdin = open_intake(head, self.directory)
        if head.more.get(b"stdin") == b"pipe":
            stdin, self.input = os.pipe2(os.O_CLOEXEC)
        if stdin is None:
            stdin = self.shim.null
        else:
            self.theirs.append(stdin)
        self.pipes = [Pipe(STDOUT)] if head.amount(b"merged") else [Pipe(STDOUT), Pipe(STDERR)]
        self.theirs += [pipe.open() for pipe in self.pipes]
        return stdin, self.theirs[-len(self.pipes)], self.theirs[-1]

    def close_theirs(self) -> None:
        """Let go of the job's ends of everything: while we hold one, nobody sees the end of that stream."""
        for end in (*self.theirs, *self.given):
            os.close(end)
        self.theirs, self.given = [], []

    def inodes(self) -> bytes:
        """By which the pipes are known in /proc, and where files in memory are found there; see `core/record.py`."""
        known = [b"%d" % pipe.inode for pipe in self.pipes]
        if self.input >= 0:
            known.append(b"i%d" % os.fstat(self.input).st_ino)
        known += [b"m%d.%d" % (number, os.fstat(number).st_ino) for number in self.files]
        return b",".join(known)

    def end_unspawned(self, failure: SpawnFailed) -> None:
        """It did not run: say so, and be free again."""
        for pipe in self.pipes:
            pipe.close()
        for descriptor in self.files:
            os.close(descriptor)
        self.publish(self.journal.write(b"F", failure.stage, failure.errno, wall_ms()))

    # --- while it runs ----------------------------------------------------------------------------------------------

    def watch(self, family: Family) -> None:
        """The loop: until the leader is a zombie and nothing else of the job is left, or cannot be killed.

        Whatever became of the job since its spawn has left a byte in the wake-up pipe, so there is no first look.
        """
        poller = select.poll()
        poller.register(self.shim.wake, select.POLLIN)
        if not self.shim.deserted:
            poller.register(self.shim.channel.fileno(), select.POLLIN)
        for pipe in self.pipes:
            poller.register(pipe.descriptor, select.POLLIN)
        while True:
            now = mono_ms()
            step = self.ladder.step(now, leader_ended=family.status is not None, tree_empty=family.alone)
            if step == ladder.FINISH:
                return
            if step == ladder.BEGIN:
                self.begin_end(family)
                continue
            patience = self.patience(now)
            if step == ladder.KILL:
                self.killed |= tree.kill_round(self.shim.pid)
                patience = KILL_PAUSE_MS
            for descriptor, _ in poller.poll(patience):
                self.handle(descriptor, poller, family)
            self.resume(poller)

    def patience(self, now: int) -> int | None:
        """How long the loop may sleep, in milliseconds."""
        times = [*self.paused.values(), self.ladder.due(), self.poke.due()]
        soonest = min([when for when in times if when is not None], default=None)
        return None if soonest is None else max(0, min(soonest - now, LONGEST_SLEEP_MS))

    def handle(self, descriptor: int, poller: select.poll, family: Family) -> None:
        """Something happened."""
        if descriptor == self.shim.wake:
            if SIGTERM in self.shim.signals():
                self.hear()
            for stopped in family.look():
                self.note_stop(stopped=stopped)
            return
        for pipe in self.pipes:
            if descriptor == pipe.descriptor:
                self.drain(pipe, poller)
                return
        poller.unregister(descriptor)  # the daemon never says more than one thing: that it is gone
        self.shim.deserted = True

    def drain(self, pipe: Pipe, poller: select.poll) -> None:
        """Take what a stream has; leave a trickle alone for a moment, close what ended."""
        data = pipe.read()
        if data is None:
            return
        if not data:
            poller.unregister(pipe.descriptor)
            pipe.close()
            return
        now = mono_ms()
        self.ladder.output(now)
        self.capture.store(pipe.kind, data)
        if len(data) < SMALL_READ:
            poller.unregister(pipe.descriptor)
            self.paused[pipe] = now + PAUSE_MS

    def resume(self, poller: select.poll) -> None:
        """Look again at the streams whose pause is over, and try again to wake a daemon that was too busy."""
        now = mono_ms()
        for pipe, when in list(self.paused.items()):
            if when <= now:
                del self.paused[pipe]
                poller.register(pipe.descriptor, select.POLLIN)
                self.drain(pipe, poller)
        due = self.poke.due()
        if due is not None and due <= now:
            self.poke.send()

    def note_stop(self, *, stopped: bool) -> None:
        """The kernel says that the leader was stopped or goes on, whoever did it. The ladder's own stops never show."""
        if self.ladder.reason is not None:
            return
        now = mono_ms()
        (self.ladder.stopped if stopped else self.ladder.continued)(now)
        if self.journal.takes_stop(stopped=stopped):
            self.tell(b"T" if stopped else b"C", wall_ms(), now)
        elif not self.shim.send(self.id + b" look"):  # the record says no more of it, but /proc does
            self.poke.send()

    def hear(self) -> None:
        """SIGTERM: the daemon left word, to end the job or its input. Without a word it was not the daemon."""
        try:
            reason, grace = self.word(b"ask").split()
            self.ladder.ask(reason.decode(), int(grace), mono_ms())
        except ValueError:
            pass
        if self.word(b"eof"):
            self.close_input()

    def word(self, name: bytes) -> bytes:
        """What a link says; nothing, if there is none. It is never followed: `JobDirectories` says why it is a link."""
        try:
            return os.readlink(name, dir_fd=self.directory)
        except OSError:
            return b""

    def close_input(self) -> None:
        """Let go of the job's stdin: once nobody else has it open to write, the job reads its end."""
        if self.input >= 0:
            os.close(self.input)
            self.input = -1

    def begin_end(self, family: Family) -> None:
        """Write why, then SIGTERM to the job's group, and SIGCONT: a stopped process keeps its SIGTERM pending.

        What left the group gets no SIGTERM, but goes on as well: somebody in the group may wait for it.
        """
        self.tell(b"L", (self.ladder.reason or "internal").encode(), wall_ms(), mono_ms())
        for number in (SIGTERM, SIGCONT):
            try:
                os.killpg(family.leader, number)  # ours: the leader is at most a zombie, so the group is no stranger's
            except ProcessLookupError:
                pass
            except PermissionError:  # all of it belongs to another user by now; the kill will name the survivors
                pass
        tree.let_go_on(self.shim.pid)

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self, family: Family) -> bool:
        """Drain, then end; whether nothing of the job is left."""
        for pipe in self.pipes:
            self.drain_last(pipe)
        self.capture.close()
        return self.end(family)

    def drain_last(self, pipe: Pipe) -> None:
        """Take what is in the pipe now: the tree is dead, so that is all it wrote.

        Never wait for the end of the stream: somebody outside the tree may hold the pipe open for ever.
        """
        if pipe.descriptor < 0:
            return
        pending = pipe.pending()
        while pending > 0 and (data := pipe.read()):
            self.capture.store(pipe.kind, data)
            pending -= len(data)
        pipe.close()

    def end(self, family: Family) -> bool:
        """Write the end, reap, free the record; whether nothing of the job is left."""
        left = family.survivors()
        named = b",".join(b"%d" % pid for pid in left[:NAMED_SURVIVORS])
        size, dropped = self.capture.size, self.capture.dropped
        totals = size[STDOUT], dropped[STDOUT], size[STDERR], dropped[STDERR]
        line = self.journal.write(b"X", family.status or 0, wall_ms(), mono_ms(), *totals, named, len(self.killed))
        family.reap()
        self.publish(line)
        return family.alone

    def fault(self) -> None:
        """A fault of ours: say it in the log, end the job, and leave no doubt in its record."""
        complain(f"shim {self.shim.pid}, job {self.id.decode()}")
        if self.journal.ended:
            return
        if self.family is None:
            self.end_unspawned(SpawnFailed(b"internal", 0))
            return
        self.tell(b"L", b"internal", wall_ms(), mono_ms())
        self.kill(self.family)
        self.end(self.family)

    def kill(self, family: Family) -> None:
        """Kill the job at once, by the barest means; its leader must end, the rest may prove unkillable."""
        give_up = mono_ms() + ladder.KILL_PATIENCE_MS
        pause = KILL_PAUSE_MS
        while True:
            try:
                tree.kill_round(self.shim.pid)
                family.look()
                if family.alone or (family.status is not None and mono_ms() >= give_up):
                    return
            except (
                OSError,
                MemoryError,
            ):  # perhaps the very fault that brought us here: nothing is true before it passes
                pass
            time.sleep(pause / 1000)
            pause = min(2 * pause, 1000)

    # --- saying so --------------------------------------------------------------------------------------------------

    def tell(self, letter: bytes, *fields: int | bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Write a line, then tell the daemon of it, whichever daemon there is."""
        line = self.journal.write(letter, *fields)
        if not self.shim.send(self.id + b" " + line, descriptors):
            self.poke.send()

    def publish(self, line: bytes) -> None:
        """Free the record, which publishes the end just written, and only then say so."""
        self.journal.free()
        if not self.shim.send(self.id + b" " + line):
            self.poke.send_last()
