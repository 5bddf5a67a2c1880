"""The shim: the one parent of a running job, and all that the job needs to be whole without any daemon.

It claims the job's record, writes each step into it before acting on it, starts the job, keeps its output, holds its
limits, ends its whole tree, and reports. It serves one job after another; its daemon may die at any moment, then it
finishes the job it has and goes. Standard library only, forked by the fork server, never exec'ed.

The order of steps is the whole point; `core/record.py` says what a reader concludes from each prefix of it:

    claim -> A -> spawn -> S -> (T C)* -> (L -> signal)? -> leader a zombie -> tree empty -> drain -> X -> reap -> free
"""

from __future__ import annotations

import os
import select
import time
from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket

from jobbroker import claim, tree
from jobbroker.capture import CHUNK, Capture, Pipe
from jobbroker.core import ladder, record
from jobbroker.core.index import STDERR, STDOUT
from jobbroker.identity import boot_id, start_time
from jobbroker.poke import Poke
from jobbroker.signals import SIGCHLD, SIGCONT, SIGTERM, set_wakeup_fd, signal
from jobbroker.spawn import SpawnFailed, spawn

MAX_JOBS = 500
"""A shim retires after so many jobs."""
PAUSE_MS = 50
"""After a small read a stream is left alone so long: a chatty job costs 20 wake-ups a second, not a thousand. The first
output after silence is written at once."""
SMALL_READ = CHUNK // 2
KILL_PAUSE_MS = 5
"""Between rounds of killing, unless a child's end comes first."""
RETRY_MS = 200
"""Between attempts to write an end that a full disk does not take."""
_ENDED = {os.CLD_EXITED: 0, os.CLD_KILLED: 0, os.CLD_DUMPED: 0x80}


def mono_ms() -> int:
    """Monotonic milliseconds, the clock of all limits."""
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    """Milliseconds since the epoch, for people."""
    return time.time_ns() // 1_000_000


class Shim:
    """A pooled shim: what outlives a single job."""

    def __init__(self, channel: int) -> None:
        self.channel = socket(AF_UNIX, SOCK_SEQPACKET, 0, channel)
        self.deserted = False  # the daemon is gone
        self.boot = boot_id()
        self.pid = os.getpid()
        self.started = start_time(self.pid) or 0
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in (SIGCHLD, SIGTERM):
            signal(number, _nothing)  # what matters is the byte in the pipe
        set_wakeup_fd(wake_end, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Take jobs until the daemon hangs up or enough were done."""
        for done in range(1, MAX_JOBS + 1):
            given = self.receive()
            if given is None:
                return
            run = Run(self, *given)
            clean = run.go()
            if self.deserted:
                return
            if done == MAX_JOBS or not clean:
                self.send(b"retiring")
                return

    def receive(self) -> tuple[bytes, int] | None:
        """Wait for a job: its id and its directory; None when the daemon is gone or closes the channel."""
        try:
            message, ancillary, _, _ = self.channel.recvmsg(64, 64, MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return None
        for level, kind, data in ancillary:
            if level == SOL_SOCKET and kind == SCM_RIGHTS:
                return message, int.from_bytes(data[:4], "little")
        return None

    def send(self, message: bytes) -> bool:
        """Tell the daemon; False if it is gone. A job has few messages: they always fit into the channel."""
        if not self.deserted:
            try:
                self.channel.send(message)
            except ConnectionError:
                self.deserted = True
        return not self.deserted

    def signals(self) -> bytes:
        """The signals that came since the last call."""
        try:
            return os.read(self.wake, 512)
        except BlockingIOError:
            return b""


class Run:
    """One job, from its claim to its end."""

    def __init__(self, shim: Shim, identity: bytes, directory: int) -> None:
        self.shim = shim
        self.id = identity
        self.directory = directory
        self.record = os.open("record", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
        self.poke = Poke(identity, directory)
        self.head: record.Head
        self.written = 0  # where the next line goes
        self.lines_begin = 0
        self.job = 0
        self.ended: int | None = None  # the leader's wait status, once it is a zombie
        self.alone = False  # nothing below us but the leader

    def go(self) -> bool:
        """Run the job; whether the shim may take another one afterwards."""
        try:
            if not self.claim():
                self.shim.send(self.id + b" refused")
                return True
            if not self.begin():
                return True
            self.watch()
            return self.finish()
        except BaseException as exc:
            self.fault(exc)
            return False
        finally:
            os.close(self.record)
            os.close(self.directory)

    def claim(self) -> bool:
        """Make the job ours, unless somebody else has it or decided that it shall not run."""
        if not claim.take(self.record):
            return False
        data = _read_all(self.record)
        self.head, lines = record.decode(data)
        self.lines_begin = data.rfind(b"\0") + 1
        self.written = max(self.lines_begin, data.rfind(b"\n") + 1)
        if self.written < len(data):
            os.ftruncate(self.record, self.written)  # a line cut short, which is no line
        return not lines

    def begin(self) -> bool:
        """Start the job, each step written first; False if it surely did not start."""
        self.shim.signals()  # whatever came while we were idle was meant for an earlier job
        self.pipes = [Pipe(STDOUT)] if self.head.amount(b"merged") else [Pipe(STDOUT), Pipe(STDERR)]
        ends = [pipe.open() for pipe in self.pipes]
        inodes = b",".join(b"%d" % pipe.inode for pipe in self.pipes)
        self.tell(b"A", self.shim.pid, self.shim.started, self.shim.boot, inodes)
        try:
            self.job = spawn(self.head, self.shim.null, ends[0], ends[-1])
        except SpawnFailed as exc:
            self.end_unspawned(exc)
            return False
        finally:
            for end in ends:
                os.close(end)
        now = mono_ms()
        self.tell(b"S", self.job, start_time(self.job) or 0, self.shim.boot, wall_ms(), now)
        self.capture = Capture(self.directory, self.head.amount(b"maxOutput"))
        self.ladder = ladder.Ladder(
            now,
            timeout_ms=self.head.amount(b"timeoutMs"),
            idle_ms=self.head.amount(b"idleTimeoutMs"),
            grace_ms=self.head.amount(b"graceMs"),
        )
        return True

    def end_unspawned(self, failure: SpawnFailed) -> None:
        """It did not run: say so, and be free again."""
        for pipe in self.pipes:
            pipe.close()
        self.release(self.write(b"F", failure.stage, failure.errno, wall_ms()))

    # --- while it runs ----------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """The loop: until the leader is a zombie and nothing else of the job is left, or cannot be killed."""
        self.paused: dict[int, int] = {}  # pipe -> when to look at it again
        poller = select.poll()
        poller.register(self.shim.wake, select.POLLIN)
        if not self.shim.deserted:
            poller.register(self.shim.channel.fileno(), select.POLLIN)
        for pipe in self.pipes:
            poller.register(pipe.descriptor, select.POLLIN)
        self.look_at_children()
        while True:
            now = mono_ms()
            step = self.ladder.step(now, leader_ended=self.ended is not None, tree_empty=self.alone)
            if step == ladder.FINISH:
                return
            if step == ladder.BEGIN:
                self.begin_end()
                continue
            patience = self.patience(now)
            if step == ladder.KILL:
                tree.kill_round(self.shim.pid)
                patience = KILL_PAUSE_MS
            for descriptor, _ in poller.poll(patience):
                self.handle(descriptor, poller)
            self.resume_reading(poller)

    def patience(self, now: int) -> int | None:
        """How long the loop may sleep, in milliseconds."""
        times = [*self.paused.values(), *self.poke.due()]
        due = self.ladder.due()
        if due is not None:
            times.append(due)
        return max(0, min(times) - now) if times else None

    def handle(self, descriptor: int, poller: select.poll) -> None:
        """Something happened."""
        if descriptor == self.shim.wake:
            came = self.shim.signals()
            if SIGTERM in came:
                self.read_ask()
            if SIGCHLD in came:
                self.look_at_children()
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
            self.paused[pipe.descriptor] = now + PAUSE_MS

    def resume_reading(self, poller: select.poll) -> None:
        """Look again at the streams whose pause is over."""
        if not self.paused:
            return
        now = mono_ms()
        for descriptor, when in list(self.paused.items()):
            if when <= now:
                del self.paused[descriptor]
                poller.register(descriptor, select.POLLIN)

    def look_at_children(self) -> None:
        """Our children changed: the leader stopped, went on or ended; a stranger that was left to us ended.

        The leader stays a zombie until its end is written: that keeps its pid, and its group's, from coming back. So
        it is asked for by pid, and strangers are found in /proc, since a zombie hides all others from a wait for any.
        """
        while self.ended is None:
            change = os.waitid(os.P_PID, self.job, os.WEXITED | os.WSTOPPED | os.WCONTINUED | os.WNOHANG | os.WNOWAIT)
            if change is None:
                break
            if change.si_code in _ENDED:
                code = change.si_status
                self.ended = code << 8 if change.si_code == os.CLD_EXITED else code | _ENDED[change.si_code]
            else:
                os.waitid(os.P_PID, self.job, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
                self.note_stop(stopped=change.si_code != os.CLD_CONTINUED)
        strangers = [child for child in tree.children(self.shim.pid) if child != self.job]
        for child in list(strangers):
            try:
                if os.waitpid(child, os.WNOHANG)[0]:
                    strangers.remove(child)
            except ChildProcessError:
                strangers.remove(child)
        self.alone = self.ended is not None and not strangers

    def note_stop(self, *, stopped: bool) -> None:
        """The kernel says that the leader was stopped or goes on, whoever did it. The ladder's own stops never show."""
        if self.ladder.reason is not None:
            return
        now = mono_ms()
        (self.ladder.stopped if stopped else self.ladder.continued)(now)
        if self.written - self.lines_begin < record.ROOM_FOR_STOPS:
            self.tell(b"T" if stopped else b"C", wall_ms(), now)

    def read_ask(self) -> None:
        """SIGTERM: the daemon asks for the end of the job. Without a readable `ask` it was not the daemon."""
        try:
            descriptor = os.open("ask", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.directory)
        except OSError:
            return
        try:
            reason, grace = os.read(descriptor, 64).split()
            self.ladder.ask(reason.decode(), int(grace), mono_ms())
        except (OSError, ValueError):
            return
        finally:
            os.close(descriptor)

    def begin_end(self) -> None:
        """Write why, then SIGTERM to the job's group, and SIGCONT: a stopped process keeps its SIGTERM pending."""
        self.tell(b"L", (self.ladder.reason or "internal").encode(), wall_ms(), mono_ms())
        for number in (SIGTERM, SIGCONT):
            try:
                os.killpg(self.job, number)  # ours: the leader is at most a zombie, so the group is no stranger's
            except ProcessLookupError:
                pass
            except PermissionError:  # all of it belongs to another user by now; the kill will name the survivors
                pass

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> bool:
        """Drain, write the end, reap, free the record; whether nothing of the job is left."""
        for pipe in self.pipes:
            self.drain_last(pipe)
        self.capture.close()
        left = [] if self.alone else [pid for pid in tree.descendants(self.shim.pid) if pid != self.job]
        survivors = b",".join(b"%d" % pid for pid in left)
        line = self.write(b"X", self.ended or 0, wall_ms(), mono_ms(), *self.totals(), survivors)
        os.waitpid(self.job, 0)
        self.release(line)
        return not left

    def drain_last(self, pipe: Pipe) -> None:
        """Take what is in the pipe now: the tree is dead, so that is all it wrote.

        Never wait for the end of the stream: somebody outside the tree may hold the pipe open for ever.
        """
        if pipe.descriptor < 0:
            return
        pending = pipe.pending()
        while pending > 0:
            data = pipe.read()
            if not data:
                break
            self.capture.store(pipe.kind, data)
            pending -= len(data)
        pipe.close()

    def totals(self) -> tuple[int, int, int, int]:
        """Size and dropped bytes of stdout, then of stderr."""
        size, dropped = self.capture.size, self.capture.dropped
        return size[STDOUT], dropped[STDOUT], size[STDERR], dropped[STDERR]

    def release(self, line: bytes) -> None:
        """Free the record, which publishes the end, and only then say so."""
        os.close(self.record)
        self.record = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        if not self.shim.send(self.id + b" " + line):
            self.poke.send_last()

    def fault(self, exc: BaseException) -> None:
        """A fault of ours: say it in the log, end the job, and leave no doubt in its record."""
        import traceback  # only now: it is large

        os.write(2, f"shim {self.shim.pid}: job {self.id.decode()}: ".encode())
        traceback.print_exception(exc)
        if not self.job:
            if self.written > self.lines_begin:
                self.end_unspawned(SpawnFailed(b"internal", 0))
            return
        self.write(b"L", b"internal", wall_ms(), mono_ms())
        while not self.alone:
            tree.kill_round(self.shim.pid)
            time.sleep(KILL_PAUSE_MS / 1000)
            self.look_at_children()
        self.finish()

    # --- saying so --------------------------------------------------------------------------------------------------

    def tell(self, letter: bytes, *fields: int | bytes) -> None:
        """Write a line, then tell the daemon of it, whichever daemon there is."""
        line = self.write(letter, *fields)
        if not self.shim.send(self.id + b" " + line):
            self.poke.send()

    def write(self, letter: bytes, *fields: int | bytes) -> bytes:
        """Write a line; try until it is written, whatever the disk says: the room for it was set aside."""
        line = record.encode_line(letter, *fields)
        while True:
            try:
                if os.pwrite(self.record, line, self.written) == len(line):
                    break
            except OSError:
                pass
            time.sleep(RETRY_MS / 1000)
        self.written += len(line)
        return line


def _nothing(_number: int, _frame: object) -> None:
    """A handler, so that the signal is neither deadly nor ignored."""


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size, 0)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), len(data))):
        data += more
    return data
