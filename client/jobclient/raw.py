"""The raw layer: a socket, lines of JSON, requests and answers. No types, nothing heavy: the command line starts on it.

Finding a broker, or another one when this one is lost, is not done here; see `link.py`.
"""

from __future__ import annotations

import os
from time import monotonic

from jobclient import paths, rawjson
from jobclient.protocol import PROTOCOL_VERSION
from jobclient.protocol.failure import ConnectionLost, NotSent, RemoteError
from jobclient.protocol.framing import MAX_MESSAGE, LineReader, Oversized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from socket import AF_UNIX, SHUT_WR, SOCK_CLOEXEC, SOCK_STREAM, socket
    from typing import Any, TypeAlias

    Message: TypeAlias = dict[str, Any]
    Params: TypeAlias = Mapping[str, object]
    Call: TypeAlias = tuple[str, Params]
    Text: TypeAlias = str | dict[str, str]
else:
    try:
        from _socket import AF_UNIX, SHUT_WR, SOCK_CLOEXEC, SOCK_STREAM, socket
    except ImportError:  # it is private and may go; the public module costs 10 ms more
        from socket import AF_UNIX, SHUT_WR, SOCK_CLOEXEC, SOCK_STREAM, socket

READ = 256 * 1024
MOST_CALLS = 1000
"""Calls sent as one batch: fewer than a broker takes, more than would make it cheaper."""
FAREWELL = "notifications/broker/shuttingDown"
_NO_PARAMS: Params = {}


# --- text that may not be text --------------------------------------------------------------------------------------


def text(value: str) -> Text:
    """A string of the operating system's as it travels: bytes that are not UTF-8 as `{"base64": ...}`."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        from binascii import b2a_base64

        return {"base64": b2a_base64(os.fsencode(value), newline=False).decode()}
    return value


def untext(value: Text) -> str:
    """The string that travelled as `value`, what is not UTF-8 as surrogate escapes."""
    return value if isinstance(value, str) else os.fsdecode(unbase64(value["base64"]))


def unbase64(data: str) -> bytes:
    """The bytes of a base64 text."""
    from binascii import a2b_base64

    return a2b_base64(data)


# --- the connection -------------------------------------------------------------------------------------------------


def dial(path: str, deadline: float | None) -> socket:
    """A socket that is connected to the one at a path.

    Raises:
        OSError: nobody listens there (`FileNotFoundError`, `ConnectionRefusedError`), or there is no room in the
            listener's queue at the moment (`BlockingIOError`).
        PathError: the socket's directory is not private to us.
    """
    paths.check_private_dir(os.path.dirname(path))
    made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        made.settimeout(_left(deadline))
        with paths.short_address(path) as address:
            made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


def end_sending(connection: socket) -> None:
    """Close the sending half: the broker answers what it was asked, then hangs up."""
    try:
        connection.shutdown(SHUT_WR)
    except OSError:
        pass  # it has gone meanwhile, which reading will tell


class RawConnection:
    """A connection to the broker that listens at one path. Deadlines are `time.monotonic` seconds, None is never.

    Not for use from two threads at once. After any error but a `RemoteError` it is of no more use.

    Attributes:
        path: where that is.
        farewell: what the broker said when it announced its end, if it did.
    """

    __slots__ = ("_inbox", "_last_id", "_reader", "_socket", "farewell", "path")

    def __init__(self, path: str, deadline: float | None = None) -> None:
        """Connect.

        Raises:
            OSError, PathError: as `dial` does.
        """
        self.path = path
        self._socket = dial(path, deadline)
        self._reader = LineReader()
        self._inbox: list[Message | list[Message]] = []
        self._last_id = 0
        self.farewell: Message | None = None

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor, to poll for reading before `fill`."""
        return self._socket.fileno()

    # --- one thing after the other ----------------------------------------------------------------------------------

    def request(self, method: str, params: Params = _NO_PARAMS, deadline: float | None = None) -> Message:
        """Call a method and wait for its result.

        Raises:
            RemoteError: the broker answered with an error; the class says which.
            ConnectionLost: no answer came, and none will.
            TimedOut: no answer came before the deadline.
        """
        identity = self.send(method, params, deadline)
        kept: list[Message | list[Message]] = []
        try:
            while True:
                message = self.receive(deadline)
                if isinstance(message, dict):
                    if message.get("id") == identity:
                        return result_of(message)
                    if "method" in message:
                        kept.append(message)
        finally:
            self._inbox[:0] = kept

    def batch(self, calls: Sequence[Call], deadline: float | None = None) -> list[Message | RemoteError]:
        """Call many methods at once; results and errors in the order of the calls.

        Sent as one array, or as several where one would be over the limit of a message.
        """
        first = self._last_id + 1
        texts = [self._encode(method, params) for method, params in calls]
        answers: dict[object, Message] = {}
        for array in _arrays(texts):
            self._send(array, deadline)
            received = self.receive(deadline)
            while not isinstance(received, list):
                if received.get("id", 0) is None:  # the array as a whole was refused
                    result_of(received)
                received = self.receive(deadline)
            answers.update((answer.get("id"), answer) for answer in received)
        return [_outcome(answers.get(identity)) for identity in range(first, first + len(calls))]

    # --- pipelining and notifications -------------------------------------------------------------------------------

    def send(self, method: str, params: Params = _NO_PARAMS, deadline: float | None = None) -> int:
        """Send a request without waiting for its answer; returns the id the answer will carry."""
        self._send(self._encode(method, params), deadline)
        return self._last_id

    def receive(self, deadline: float | None = None) -> Message | list[Message]:
        """The next message: a notification (it has a `method`), an answer, or the answers to a batch."""
        while not self._inbox:
            self.fill(deadline)
        return self._inbox.pop(0)

    def ready(self) -> bool:
        """Whether `receive` would return at once."""
        return bool(self._inbox)

    def fill(self, deadline: float | None = None) -> None:
        """Take in what has arrived, or the next that arrives; not necessarily a whole message."""
        try:
            self._socket.settimeout(_left(deadline))
            chunk = self._socket.recv(READ)
        except (TimeoutError, BlockingIOError):
            raise _timed_out("the broker has not answered in time") from None
        except OSError as exc:
            raise ConnectionLost(f"the connection broke: {exc.strerror or exc}") from exc
        if not chunk:
            raise ConnectionLost(self._last_words())
        for line in self._reader.feed(chunk):
            self._take(line)

    def _take(self, line: bytes | Oversized) -> None:
        if isinstance(line, Oversized):
            raise _too_large(f"the broker sent a message of more than {MAX_MESSAGE} bytes")
        try:
            message: Message = rawjson.decode(line)
        except rawjson.BadJson as exc:
            raise ConnectionLost(f"what came from the socket is no broker's: {exc}") from exc
        self._inbox.append(message)
        if line[:1] == b"{" and message.get("method") == FAREWELL:
            self.farewell = message["params"]

    def _last_words(self) -> str:
        if self.farewell is None:
            return "the broker hung up before it answered"
        return f"the broker is going down ({self.farewell.get('reason', 'no reason given')})"

    def _encode(self, method: str, params: Params) -> bytes:
        self._last_id += 1
        line = rawjson.encode({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})
        if len(line) > MAX_MESSAGE:
            raise _too_large(f"{method}: {len(line)} bytes are over the limit of {MAX_MESSAGE} for one message")
        return line

    def _send(self, line: bytes, deadline: float | None) -> None:
        try:
            self._socket.settimeout(_left(deadline))
            self._socket.sendall(line + b"\n")
        except (TimeoutError, BlockingIOError):
            raise _timed_out("the broker does not read what is sent to it") from None
        except OSError as exc:
            raise NotSent(f"the connection broke: {exc.strerror or exc}") from exc


def greet(path: str, deadline: float | None) -> RawConnection:
    """Connect to the broker at a path and see that it answers and speaks our version of the protocol.

    Raises:
        VersionMismatch: it speaks another one.
        OSError, PathError, ConnectionLost, TimedOut: as `RawConnection` does.
    """
    connection = RawConnection(path, deadline)
    try:
        check_version(connection.request("broker/ping", deadline=deadline))
    except BaseException as exc:
        connection.close()
        if isinstance(exc, RemoteError) and exc.kind == "method_not_found":
            raise _mismatch(None) from exc
        raise
    return connection


def check_version(ping: Message) -> None:
    """See that whoever answered a ping so speaks our version of the protocol."""
    if ping.get("protocol") != PROTOCOL_VERSION:
        raise _mismatch(ping.get("protocol"), ping.get("version"))


def result_of(answer: Message) -> Message:
    """The result an answer carries, or its error raised."""
    if "error" in answer:
        from jobclient.protocol.errors import from_wire

        raise from_wire(answer["error"])
    result: Message = answer["result"]
    return result


def _outcome(answer: Message | None) -> Message | RemoteError:
    if answer is None:
        return RemoteError("the broker left a call of a batch unanswered")
    try:
        return result_of(answer)
    except RemoteError as exc:
        return exc


def _arrays(texts: Sequence[bytes]) -> list[bytes]:
    """JSON arrays of the texts, none over the limits of a message and of a batch."""
    groups: list[list[bytes]] = []
    room = 0
    for each in texts:
        if room < len(each) + 1 or len(groups[-1]) == MOST_CALLS:
            groups.append([])
            room = MAX_MESSAGE - 1
        groups[-1].append(each)
        room -= len(each) + 1
    return [b"[" + b",".join(group) + b"]" for group in groups]


def _left(deadline: float | None) -> float | None:
    """Seconds until the deadline, as a socket's timeout; 0 would mean "do not wait at all"."""
    return None if deadline is None else max(deadline - monotonic(), 0.001)


# Errors are made with the classes for them loaded only now; see `protocol.failure`.


def _timed_out(what: str) -> RemoteError:
    from jobclient.protocol.errors import TimedOut

    return TimedOut(what)


def _too_large(what: str) -> RemoteError:
    from jobclient.protocol.errors import TooLarge

    return TooLarge(what)


def _mismatch(protocol: object, version: object = None) -> RemoteError:
    from jobclient.protocol.errors import VersionMismatch
    from jobclient.versions import mismatch

    return VersionMismatch(mismatch(protocol, version))
