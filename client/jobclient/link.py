"""A link to an instance's broker: found or started when first needed, found again when lost, requests repeated if safe.

The fast path is a connection to a broker that runs; everything else is in `launch.py`, loaded only then.
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from jobclient import paths, raw
from jobclient.protocol.failure import ConnectionLost, JobBrokerError, NotSent, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from jobclient.raw import Call, Message, Params

TIMEOUT = 30.0
"""Seconds to find or start a broker, and seconds it may take to answer what needs no waiting."""

REPEATABLE = frozenset(
    {
        "broker/ping", "broker/status", "initialize",
        "job/get", "job/list", "job/result", "job/output", "job/wait", "job/cancel",
        "job/pause", "job/resume", "job/lastStopped", "job/processes",
        "job/start",  # with its idempotencyKey, which every client of ours sends
        "events/subscribe", "events/unsubscribe",
        "timed/list", "timed/show", "timed/pause", "timed/resume", "timed/log",
    }
)  # fmt: skip
"""Requests that may be sent again when the connection was lost before the answer: they cannot happen twice."""

SHUTTING_DOWN, TIMED_OUT = "shutting_down", "timeout"
"""Kinds of `RemoteError`, by name: their classes are loaded only when there is one."""

SHORT = 1.0
"""Seconds: a connection that did not last longer may be one of many that do not."""
MAX_SHORT = 5
_NO_PARAMS: Params = {}


class Link:
    """A way to the broker of one instance, for one thread of one process. Connects with the first request.

    Attributes:
        instance: the instance's name.
    """

    def __init__(self, instance: str = "default", *, timeout: float = TIMEOUT, autospawn: bool = True) -> None:
        """Prepare a link.

        Args:
            instance: which broker.
            timeout: seconds to find or start a broker, and to wait for answers that need no waiting.
            autospawn: whether a broker may be started; `JOBBROKER_AUTOSPAWN=0` forbids it in any case.

        Raises:
            BadInstanceName: there can be no such instance.
        """
        self.instance = paths.check_instance(instance)
        self._timeout = timeout
        self._autospawn = autospawn
        self._connection: raw.RawConnection | None = None
        self._pid = os.getpid()
        self._connected_at = 0.0
        self._short_lived = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. The next request would connect again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def connection(self) -> raw.RawConnection:
        """The connection, made if there is none.

        Raises:
            BrokerUnavailable: no broker answers and none could be started.
            VersionMismatch: one answers, in another version of the protocol.
        """
        if self._pid != os.getpid():
            raise JobBrokerError("this client was made before a fork  -> make a new one in the new process")
        if self._connection is None:
            self._connection = self._connect(self.deadline())
            self._connected_at = monotonic()
        return self._connection

    def deadline(self) -> float:
        """Until when a broker that needs no waiting must have answered what it is asked now."""
        return monotonic() + self._timeout

    def request(self, method: str, params: Params = _NO_PARAMS, *, patience: float | None = 0.0) -> Message:
        """Call a method, on another connection if this one is lost and the call may be repeated.

        Args:
            method: its name.
            params: by name.
            patience: seconds the broker may lawfully wait before it answers; None for as long as it likes.

        Raises:
            RemoteError: the broker's answer.
            ConnectionLost: whether the request was carried out is not known, and it may not be repeated.
            BrokerUnavailable: see `connection`.
        """
        begun = monotonic()
        deadline = None if patience is None else begun + self._timeout + patience
        while True:
            connection = self.connection()
            try:
                return connection.request(method, as_of_now(method, params, begun), deadline)
            except ConnectionLost as exc:
                self.lost(exc)
                if method not in REPEATABLE and not isinstance(exc, NotSent):
                    raise
            except RemoteError as exc:
                if exc.kind == SHUTTING_DOWN and method != "broker/shutdown":
                    self.leave(connection)
                    if exc.data.get("written"):
                        raise  # some of it was carried out: the caller knows what is left
                    continue
                if exc.kind == TIMED_OUT:
                    self.close()  # the answer may still come, and would be in the way
                raise
            except BaseException:
                self.close()
                raise

    def batch(self, calls: Sequence[Call], *, patience: float | None = 0.0) -> list[Message | RemoteError]:
        """Call many methods at once; results and errors in order. Repeated as a whole if all of it may be."""
        deadline = None if patience is None else monotonic() + self._timeout + patience
        while True:
            connection = self.connection()
            try:
                return connection.batch(calls, deadline)
            except ConnectionLost as exc:
                self.lost(exc)
                if not all(method in REPEATABLE for method, _ in calls):
                    raise
            except BaseException:
                self.close()
                raise

    def lost(self, error: ConnectionLost) -> None:
        """Give up a connection that broke, so that the next request makes another.

        Raises:
            ConnectionLost: connections break again and again as soon as they are made.
        """
        self.close()
        if monotonic() - self._connected_at > SHORT:
            self._short_lived = 0
            return
        self._short_lived += 1
        if self._short_lived > MAX_SHORT:
            raise error
        sleep(0.05 * self._short_lived)

    def leave(self, connection: raw.RawConnection) -> None:
        """Give up the connection to a broker that said it is going: once it hangs up, or we should find it again.

        Raises:
            ConnectionLost: as `lost` does.
        """
        deadline = monotonic() + SHORT
        try:
            while True:
                connection.fill(deadline)
        except (ConnectionLost, RemoteError) as exc:
            self.lost(ConnectionLost(str(exc)))

    def _connect(self, deadline: float) -> raw.RawConnection:
        try:
            return raw.greet(paths.socket_path(self.instance), deadline)
        except (OSError, ConnectionLost, RemoteError) as exc:
            if isinstance(exc, RemoteError) and exc.kind not in (SHUTTING_DOWN, TIMED_OUT):
                raise
            from jobclient import launch  # subprocess and all that; not on the way to a broker that runs

            return launch.reach(self.instance, deadline, may_start=self._autospawn and launch.allowed())


def as_of_now(method: str, params: Params, begun: float) -> Params:
    """The parameters for an attempt made now: a wait that is repeated has only the rest of its time."""
    if method != "job/wait" or params.get("timeoutMs") is None:
        return params
    asked = params["timeoutMs"]
    assert isinstance(asked, int)  # noqa: S101  # for the type checker
    return {**params, "timeoutMs": max(0, asked - round((monotonic() - begun) * 1000))}
