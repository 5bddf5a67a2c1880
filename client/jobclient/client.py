"""The typed, blocking client: one method per method of the protocol, results as the structs of `protocol.wire`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import msgspec

from jobclient import watch
from jobclient.feeding import feed
from jobclient.link import TIMEOUT, Link
from jobclient.protocol import errors, wire
from jobclient.raw import FAREWELL, text, unbase64
from jobclient.starting import start_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Literal, Self, Unpack

    from jobclient.raw import Params
    from jobclient.starting import StartOptions, Word

T = TypeVar("T")


class Reset(msgspec.Struct, frozen=True):
    """What `Client.events` yields where it could not go on: forget what you know; all live jobs follow.

    Attributes:
        cursor: the place of what follows.
    """

    cursor: str


Event = wire.JobUpdated | wire.JobRemoved | wire.JobOutput | wire.BrokerShuttingDown | Reset
"""What `Client.events` yields."""

_EVENTS: dict[str, type[Event]] = {
    watch.UPDATED: wire.JobUpdated,
    watch.REMOVED: wire.JobRemoved,
    watch.OUTPUT: wire.JobOutput,
    watch.RESET: Reset,
    FAREWELL: wire.BrokerShuttingDown,
}
_LIVE: tuple[wire.Status, ...] = ("queued", "running", "stopped")
_FOLLOW_WAIT_MS = 60_000
_PIECE = 256 * 1024


class Client:
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
        return self._call("broker/ping", {}, wire.Ping)

    def status(self) -> wire.BrokerStatus:
        """How the broker is."""
        return self._call("broker/status", {}, wire.BrokerStatus)

    def shutdown(self, *, mode: wire.ShutdownMode = "ifIdle", grace_ms: int | None = None) -> None:
        """Ask the broker to end; by default it refuses while jobs are live.

        Raises:
            JobsActive: they are.
        """
        self._call("broker/shutdown", {"mode": mode, "graceMs": grace_ms}, wire.Done, patience=None)
        self.close()

    # --- starting ---------------------------------------------------------------------------------------------------

    def start(self, argv: Sequence[Word], **options: Unpack[StartOptions]) -> wire.Started:
        """Start a command, the program and its arguments, without a shell; `StartOptions` says what may be said of it.

        What is not said is taken from this process, as for a child of its own.
        """
        if isinstance(argv, str | bytes):
            raise TypeError("argv is a list of words, not one text; for a shell: ['sh', '-c', ...]")
        return self._start({"argv": [text(os.fsdecode(word)) for word in argv]}, options)

    def start_agent(self, agent: str, prompt: str, **options: Unpack[StartOptions]) -> wire.Started:
        """Start an agent, such as codex, claude or opencode: an AI program that works on a prompt, and ends.

        `result` has its last message. If no time limit is given, the one of its settings holds, ten minutes as a rule.
        """
        return self._start({"agent": agent, "prompt": prompt}, options)

    def _start(self, what: dict[str, object], options: StartOptions) -> wire.Started:
        params = {**what, **start_parameters(options)}
        return self._call("job/start", params, wire.Started)

    # --- looking ----------------------------------------------------------------------------------------------------

    def get(self, job: str, *, env: bool = False) -> wire.Job:
        """A job as it is now; `env` for the environment it was started with."""
        return self._call("job/get", {"id": job, "env": env}, wire.OneJob).job

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
        params: dict[str, object] = {
            "status": status,
            "kind": kind,
            "label": None if label is None else dict(label),
            "name": name,
            "cwd": None if cwd is None else text(os.fsdecode(cwd)),
            "limit": limit,
            "before": before,
            "order": order,
        }
        return self._call("job/list", params, wire.JobList)

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
        if [bool(jobs), all, filter is not None].count(True) != 1:
            raise TypeError("name jobs, or say all=True, or give a filter")
        if isinstance(until_output, str):
            until_output = wire.UntilOutput(pattern=until_output)
        params: dict[str, object] = {
            "ids": jobs or self._live(filter),
            "any": any,
            "timeoutMs": timeout_ms,
            "untilOutput": None if until_output is None else msgspec.to_builtins(until_output),
        }
        patience = None if timeout_ms is None else timeout_ms / 1000
        return self._call("job/wait", params, wire.Waited, patience=patience)

    def result(self, job: str) -> wire.ResultResult:
        """What a completed job left: the last 1 MiB of each stream.

        Raises:
            ResultUnavailable: the job has not completed; it runs, or it ended some other way.
        """
        return self._call("job/result", {"id": job}, wire.ResultResult)

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
        params: dict[str, object] = {
            "id": job,
            "stream": stream,
            "from": start,
            "limit": limit,
            "tail": tail,
            "waitMs": wait_ms,
            "times": times or None,
        }
        return self._call("job/output", params, wire.Output, patience=wait_ms / 1000)

    def follow(self, job: str, *, stream: wire.StreamName = "all", start: str | None = None) -> Iterator[bytes]:
        """The output of a job as it comes, until its end; a broker that dies meanwhile costs no byte.

        Bytes the broker did not keep are missing without a word; `output` tells how many.
        """
        identity = self.get(job).id
        while True:
            piece = self.output(identity, stream=stream, start=start, limit=_PIECE, wait_ms=_FOLLOW_WAIT_MS)
            if piece.data:
                yield unbase64(piece.data) if piece.encoding == "base64" else piece.data.encode()
            if piece.eof:
                return
            start = piece.next

    def events(
        self, jobs: wire.Filter | None = None, *, output: bool = False, since: str | None = None
    ) -> Iterator[Event]:
        """Every change of jobs, by a connection of its own: first the live jobs as they are, at last the farewell.

        Ends after `BrokerShuttingDown`. A broker that dies without a word is replaced. What its successor does not know
        of what happened meanwhile is missing then, and a `Reset` says so.

        Args:
            jobs: which jobs; all by default.
            output: whether what they write comes as well, from now on.
            since: the `cursor` of an event, to begin with what has changed since instead.
        """
        instance, timeout, autospawn = self._options
        wanted = None if jobs is None else msgspec.to_builtins(jobs)
        with Link(instance, timeout=timeout, autospawn=autospawn) as link:
            for message in watch.Watch(link, wanted, since=since, output=output).messages():
                kind = _EVENTS.get(message["method"])
                if kind is not None:
                    yield _convert(message["params"], kind)

    # --- acting -----------------------------------------------------------------------------------------------------

    def cancel(self, job: str, *, grace_ms: int | None = None, confirm: bool = True) -> wire.Cancelled:
        """End a job; with `confirm`, return when every process of it is dead."""
        params: dict[str, object] = {"id": job, "graceMs": grace_ms, "confirm": confirm}
        return self._call("job/cancel", params, wire.Cancelled, patience=None)

    def signal(self, job: str, signal: str | int, *, target: wire.Target = "group") -> wire.Job:
        """Send a signal to a job's process group, or to its leader alone."""
        return self._call("job/signal", {"id": job, "signal": signal, "target": target}, wire.OneJob).job

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
        feed(self._link, job, data.encode() if isinstance(data, str) else data)
        if close:
            self._call("job/input", {"id": job, "close": True}, wire.Done)

    def pause(self, job: str) -> wire.Job:
        """Stop all processes of a job; its limits wait for it. Raises `NotDelivered` if something runs on."""
        return self._call("job/pause", {"id": job}, wire.OneJob).job

    def resume(self, job: str) -> wire.Job:
        """Let all processes of a job go on."""
        return self._call("job/resume", {"id": job}, wire.OneJob).job

    def last_stopped(self) -> wire.Job:
        """The job that was stopped last, of those that still are. Raises `JobNotFound` if there is none."""
        return self._call("job/lastStopped", {}, wire.OneJob).job

    def processes(self, job: str) -> wire.Processes:
        """What a job consists of right now."""
        return self._call("job/processes", {"id": job}, wire.Processes)

    def remove(self, job: str) -> wire.Removed:
        """Forget an ended job, with all it left."""
        return self._call("job/remove", {"id": job}, wire.Removed)

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
        wanted: dict[str, object] = {} if jobs is None else msgspec.to_builtins(jobs)
        sizes: dict[str, object] = {"maxAgeMs": max_age_ms, "keep": keep, "maxBytes": max_bytes, "dryRun": dry_run}
        return self._call("job/cleanup", {**wanted, **sizes}, wire.Removed, patience=None)

    # ----------------------------------------------------------------------------------------------------------------

    def _live(self, wanted: wire.Filter | None) -> tuple[str, ...]:
        """The live jobs that are wanted, by id: after a reconnect, "all" would mean others."""
        wanted = wanted or wire.Filter()
        asked = [wanted.status] if isinstance(wanted.status, str) else wanted.status
        status: list[wire.Status] = [each for each in _LIVE if asked is None or each in asked]
        ids: tuple[str, ...] = ()
        before: str | None = None
        while True:
            params = {**msgspec.to_builtins(wanted), "status": status, "before": before}
            page = self._call("job/list", params, wire.JobList)
            ids += tuple(job.id for job in page.jobs)
            before = page.next
            if before is None:
                return ids

    def _call(self, method: str, params: Params, kind: type[T], *, patience: float | None = 0.0) -> T:
        return _convert(self._link.request(method, params, patience=patience), kind)


def _convert(value: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        raise errors.JobBrokerError(f"the broker's answer is not understood: {exc}  -> upgrade this client") from exc
