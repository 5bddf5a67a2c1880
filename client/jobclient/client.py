"""The typed, blocking client: one method per method of the protocol, results as the structs of `protocol.wire`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from jobclient import calls, watch
from jobclient.calls import convert, data_of
from jobclient.event import Event as Event, Reset as Reset, event_of, filter_of
from jobclient.link import TIMEOUT, Link
from jobclient.protocol.failure import JobBrokerError
from jobclient.timedclient import TimedClient

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Literal, Self, Unpack

    from jobclient.calls import Call, Plan
    from jobclient.protocol import wire
    from jobclient.starting import StartOptions, Word

T = TypeVar("T")


class Client(TimedClient):
    """A client of one instance's broker, which is found, or started, with the first request.

    A broker that goes away is found or started again, and requests that cannot happen twice by that are repeated.
    For one thread of one process: another thread, or a process forked off, makes its own.

    Every method raises the errors of `jobclient.protocol.errors`: `RemoteError` and its subclasses for what the broker
    answered, `BrokerUnavailable`, `ConnectionLost` and `VersionMismatch` for what kept it from answering.

    A job is named by its id, `%number`, its name, or a unique beginning of its id.
    """

    def __init__(self, instance: str = "default", *, timeout: float = TIMEOUT, autospawn: bool = True) -> None:
        """Make a client; it connects with the first request.

        Args:
            instance: which broker.
            timeout: seconds to find or start a broker, and to wait for answers that need no waiting.
            autospawn: whether a broker may be started; `JOBBROKER_AUTOSPAWN=0` forbids it in any case.
        """
        self._link = Link(instance, timeout=timeout, autospawn=autospawn)
        self._options = (instance, timeout, autospawn)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; jobs go on."""
        self._link.close()

    # --- the broker -------------------------------------------------------------------------------------------------

    def ping(self) -> wire.Ping:
        """Who answers."""
        return self._do(calls.PING)

    def status(self) -> wire.BrokerStatus:
        """How the broker is."""
        return self._do(calls.STATUS)

    def shutdown(self, *, mode: wire.ShutdownMode = "ifIdle", grace_ms: int | None = None) -> None:
        """Ask the broker to end; by default it refuses while jobs are live.

        Raises:
            JobsActive: they are.
        """
        self._do(calls.shutdown(mode, grace_ms))
        self.close()

    # --- starting ---------------------------------------------------------------------------------------------------

    def start(self, argv: Sequence[Word], **options: Unpack[StartOptions]) -> wire.Started:
        """Start a command, the program and its arguments, without a shell; `StartOptions` says what may be said of it.

        What is not said is taken from this process, as for a child of its own.
        """
        return self._do(calls.start(argv, options))

    def start_agent(self, agent: str, prompt: str, **options: Unpack[StartOptions]) -> wire.Started:
        """Start an agent, such as codex, claude or opencode: an AI program that works on a prompt, and ends.

        `result` has its last message. If no time limit is given, the one of its settings holds, ten minutes as a rule.
        """
        return self._do(calls.start_agent(agent, prompt, options))

    def start_turn(
        self, method: str, params: wire.JsonParams | None = None, **options: Unpack[StartOptions]
    ) -> wire.Started:
        """Start a turn: a request to the instance's backend, followed as a job until it is done."""
        return self._do(calls.start_turn(method, params, options))

    def run(self, argv: Sequence[Word], *, check: bool = False, **options: Unpack[StartOptions]) -> wire.Job:
        """Start a command and wait for its end; the job as it ended.

        Raises:
            JobFailed: with `check`, if it has not completed.
        """
        return self._carry_out(calls.ended(self.start(argv, **options).job, check=check))

    # --- looking ----------------------------------------------------------------------------------------------------

    def get(self, job: str, *, env: bool = False) -> wire.Job:
        """A job as it is now; `env` for the environment it was started with."""
        return self._do(calls.get(job, env=env)).job

    def list(
        self,
        *,
        status: wire.Status | Sequence[wire.Status] | None = None,
        kind: str | None = None,
        label: Mapping[str, str] | None = None,
        name: str | None = None,
        cwd: Word | None = None,
        limit: int | None = None,
        before: str | None = None,
        order: Literal["desc", "asc"] | None = None,
    ) -> wire.JobList:
        """Jobs, the newest start first; `before` goes on where the last page's `next` said."""
        return self._do(
            calls.list_jobs(
                status=status, kind=kind, label=label, name=name, cwd=cwd, limit=limit, before=before, order=order
            )
        )

    def wait(
        self,
        *jobs: str,
        any: bool = False,  # noqa: A002  # the protocol's words
        all: bool = False,  # noqa: A002
        filter: wire.Filter | None = None,  # noqa: A002
        until_output: str | wire.UntilOutput | None = None,
        timeout_ms: int | None = None,
    ) -> wire.Waited:
        """Wait until jobs have ended; without a time limit, for as long as it takes.

        Those that have ended are returned in order of completion.

        Args:
            jobs: these jobs.
            any: be content with the first that ends.
            all: for all jobs that are live now.
            filter: for those of them that match.
            until_output: until the one job has written a line that matches, or has ended without.
            timeout_ms: how long to wait.

        Raises:
            InvalidState: the one job waited for is stopped.
        """
        plan = calls.wait(jobs, any=any, all=all, filter=filter, until_output=until_output, timeout_ms=timeout_ms)
        return self._carry_out(plan)

    def result(self, job: str) -> wire.ResultResult:
        """What a completed job left: the last 1 MiB of each stream.

        Raises:
            ResultUnavailable: the job has not completed; it runs, or it ended some other way.
        """
        return self._do(calls.result(job))

    def output(
        self,
        job: str,
        *,
        stream: wire.StreamName = "all",
        start: str | None = None,
        limit: int | None = None,
        tail: int | None = None,
        wait_ms: int = 0,
        times: bool = False,
    ) -> wire.Output:
        """A piece of output from the cursor `start` on, or the last `tail` lines; `times` asks for its `marks`.

        See also `follow`.
        """
        return self._do(
            calls.output(job, stream=stream, start=start, limit=limit, tail=tail, wait_ms=wait_ms, times=times)
        )

    def follow(self, job: str, *, stream: wire.StreamName = "all", start: str | None = None) -> Iterator[bytes]:
        """The output of a job as it comes, until its end; a broker that dies meanwhile costs no byte.

        Bytes the broker did not keep are missing without a word; `output` tells how many.
        """
        identity = self.get(job).id
        while True:
            piece = self._do(calls.following(identity, stream, start))
            if piece.data:
                yield data_of(piece)
            if piece.eof:
                return
            start = piece.next

    def events(
        self, jobs: wire.Filter | None = None, *, output: bool = False, ticks: bool = False, since: str | None = None
    ) -> Iterator[Event]:
        """Every change of jobs, by a connection of its own: first the live jobs as they are, at last the farewell.

        Ends after `BrokerShuttingDown`. A broker that dies without a word is replaced. What its successor does not know
        of what happened meanwhile is missing then, and a `Reset` says so.

        Args:
            jobs: which jobs; all by default.
            output: whether what they write comes as well, from now on.
            ticks: whether the ticks of timed jobs do.
            since: the `cursor` of an event, to begin with what has changed since instead.
        """
        instance, timeout, autospawn = self._options
        with Link(instance, timeout=timeout, autospawn=autospawn) as link:
            for message in watch.Watch(filter_of(jobs), since=since, output=output, ticks=ticks).messages(link):
                event = event_of(message)
                if event is not None:
                    yield event

    # --- acting -----------------------------------------------------------------------------------------------------

    def cancel(self, job: str, *, grace_ms: int | None = None, confirm: bool = True) -> wire.Cancelled:
        """End a job; with `confirm`, return when every process of it is dead."""
        return self._do(calls.cancel(job, grace_ms, confirm=confirm))

    def signal(self, job: str, signal: str | int, *, target: wire.Target = "group") -> wire.Job:
        """Send a signal to a job's process group, or to its leader alone."""
        return self._do(calls.signal(job, signal, target)).job

    def input(self, job: str, data: str | bytes = b"", *, close: bool = False) -> None:
        """Give a job that was started with `stdin="pipe"` something to read; returns when its pipe has it all.

        Args:
            job: which.
            data: what it is to read; large input goes in pieces.
            close: whether nothing comes after that.

        Raises:
            InvalidState: it reads no more; `data["written"]` bytes of all are in the pipe.
            ConnectionLost: the broker was killed, and how much of it is in the pipe is not known.
        """
        self._carry_out(calls.feed(job, data, close=close))

    def pause(self, job: str) -> wire.Job:
        """Stop all processes of a job; its limits wait for it. Raises `NotDelivered` if something runs on."""
        return self._do(calls.one("job/pause", job)).job

    def resume(self, job: str) -> wire.Job:
        """Let all processes of a job go on."""
        return self._do(calls.one("job/resume", job)).job

    def last_stopped(self) -> wire.Job:
        """The job that was stopped last, of those that still are. Raises `JobNotFound` if there is none."""
        return self._do(calls.LAST_STOPPED).job

    def processes(self, job: str) -> wire.Processes:
        """What a job consists of right now."""
        return self._do(calls.processes(job))

    def remove(self, job: str) -> wire.Removed:
        """Forget an ended job, with all it left."""
        return self._do(calls.remove(job))

    def cleanup(
        self,
        *,
        max_age_ms: int | None = None,
        keep: int | None = None,
        max_bytes: int | None = None,
        jobs: wire.Filter | None = None,
        dry_run: bool = False,
    ) -> wire.Removed:
        """Forget ended jobs: those that every argument allows.

        Args:
            max_age_ms: ended longer ago than this; 24 h by default, 0 with `max_bytes`.
            keep: never the newest so many of those the filter wants.
            max_bytes: the oldest, until the output of those that are left takes no more disk than this.
            jobs: only those a filter wants; all its statuses must be of ended jobs.
            dry_run: only tell which.
        """
        return self._do(calls.cleanup(max_age_ms, keep, max_bytes, jobs, dry_run=dry_run))

    # --- the backend ------------------------------------------------------------------------------------------------

    def backend_status(self) -> wire.Backend | None:
        """How the backend is; None where the instance fronts none."""
        return self._do(calls.BACKEND).backend

    def backend_request(
        self, method: str, params: wire.JsonParams | None = None, *, timeout_ms: int | None = None
    ) -> object:
        """Call a method of the backend's own; its result as it came. An error of its own comes as a `RemoteError`."""
        return self._do(calls.backend_request(method, params, timeout_ms)).result

    def backend_interrupt(self, job: str) -> wire.Job:
        """End a turn in the way its backend has for that."""
        return self._do(calls.one("backend/interrupt", job)).job

    def backend_profiles(self, name: str | None = None) -> Sequence[wire.BackendProfile]:
        """The profiles there are, or one of them, with its text."""
        return self._do(calls.backend_profiles(name)).profiles

    # ----------------------------------------------------------------------------------------------------------------

    def _do(self, call: Call[T]) -> T:
        return convert(self._link.request(call.method, call.params, patience=call.patience), call.kind)

    def _carry_out(self, plan: Plan[T]) -> T:
        try:
            call = next(plan)
            while True:
                try:
                    result = self._do(call)
                except JobBrokerError as exc:
                    call = plan.throw(exc)
                else:
                    call = plan.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
