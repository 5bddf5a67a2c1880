"""Cut a byte stream into messages. Pure: bytes in, messages out; no sockets, no JSON.

Two framings: one JSON text a line, and Content-Length headers as language servers and their clients have them. The
first byte a client sends that is no blank tells which, see `EitherReader`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes in one message, either way (CONTRACT section 6). codex app-server and most language servers have no limit;
a broker shared by everybody needs one, and 16 MiB carries a batch of thousands of starts."""

MAX_HEADER = 8 * 1024
"""Bytes of headers in front of one message."""
MAX_DIGITS = 12
_BLANKS = b" \t\r\n"
_FIRST_OF_LINE = frozenset(b"{[")
_FIRST_OF_HEADERS = frozenset(b"Cc")


class Oversized:
    """Stands in the place of a message that was over the limit; its bytes were thrown away as they came."""

    __slots__ = ()


OVERSIZED = Oversized()


class LineReader:
    """Reassembles lines from chunks cut anywhere; blank lines vanish, CRLF is LF.

    Holds at most `limit` bytes: a longer line is skipped to its end and yields `OVERSIZED` once, after which the
    stream goes on as if nothing had happened. A line's blanks and carriage return count, else it would depend on how
    the stream was cut whether a line is too long.
    """

    __slots__ = ("_buffer", "_limit", "_searched", "_skipping")

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._searched = 0  # no newline before this offset: a long line is not searched again and again
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes | Oversized]:
        """Take the next bytes of the stream; return the messages they complete, in order."""
        if self._skipping:
            end = chunk.find(b"\n")
            if end < 0:
                return []
            chunk = chunk[end + 1 :]
            self._skipping = False
        self._buffer += chunk
        messages: list[bytes | Oversized] = []
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            self._take(end, messages)
        self._searched = len(self._buffer)
        if self._searched > self._limit:
            self._skipping = True
            self._clear()
            messages.append(OVERSIZED)
        return messages

    def finish(self) -> list[bytes | Oversized]:
        """The stream ended: a last line without its newline still counts."""
        messages: list[bytes | Oversized] = []
        if self._buffer:
            self._buffer += b"\n"
            self._take(len(self._buffer) - 1, messages)
        self._clear()
        return messages

    def _take(self, end: int, messages: list[bytes | Oversized]) -> None:
        line = bytes(self._buffer[:end]).strip(b" \t\r")
        del self._buffer[: end + 1]
        self._searched = 0
        if end > self._limit:
            messages.append(OVERSIZED)
        elif line:
            messages.append(line)

    def _clear(self) -> None:
        self._buffer.clear()
        self._searched = 0


class FramingLost(ValueError):
    """Bytes that are no framing, or no more: nobody knows where the next message begins, and nobody ever will.

    Attributes:
        before: the messages that came whole before that, so that it does not depend on how the stream was cut whether
            they are known.
        spoken: whether the framing itself is known, so that the peer can be told.
    """

    def __init__(self, what: str, *, spoken: bool = True) -> None:
        super().__init__(what)
        self.before: list[bytes | Oversized] = []
        self.spoken = spoken


class HeaderReader:
    """Reassembles messages behind Content-Length headers from chunks cut anywhere.

    Holds at most `limit` bytes of a message and `MAX_HEADER` of headers; a longer message is skipped as it comes and
    yields `OVERSIZED` once.
    """

    __slots__ = ("_buffer", "_left", "_limit", "_skip")

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._left = -1  # of the message whose headers were read; -1 while these are awaited
        self._skip = 0

    def feed(self, chunk: bytes) -> list[bytes | Oversized]:
        """Take the next bytes of the stream; return the messages they complete, in order.

        Raises:
            FramingLost: the stream can be read no further; the exception has what it completed before.
        """
        messages: list[bytes | Oversized] = []
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        self._buffer += chunk[skipped:]
        try:
            while self._buffer and not self._skip and self._step(messages):
                pass
        except FramingLost as exc:
            exc.before = messages
            raise
        return messages

    def finish(self) -> list[bytes | Oversized]:
        """The stream ended: a message that is not whole was none."""
        self._buffer.clear()
        return []

    def _step(self, messages: list[bytes | Oversized]) -> bool:
        """Take the next headers or the next message, if all of it is there."""
        if self._left < 0:
            end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEADER)
            if end < 0:
                if len(self._buffer) >= MAX_HEADER:
                    raise FramingLost("headers without an end")
                return False
            self._left = _content_length(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
        if self._left > self._limit:
            messages.append(OVERSIZED)
            self._skip = max(0, self._left - len(self._buffer))
            del self._buffer[: self._left]
        elif len(self._buffer) < self._left:
            return False
        else:
            if self._left:
                messages.append(bytes(self._buffer[: self._left]))
            del self._buffer[: self._left]
        self._left = -1
        return True


def _content_length(headers: bytes) -> int:
    for line in headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        value = value.strip()
        if name.strip().lower() == b"content-length" and value.isdigit() and len(value) <= MAX_DIGITS:
            return int(value)
    raise FramingLost("headers without a Content-Length")


class EitherReader:
    """Reassembles the messages of a client, whose first byte that is no blank tells which framing it speaks for good.

    `{` and `[` begin a line, `C` and `c` the headers Content-Length and Content-Type. Nothing else begins anything.

    Attributes:
        frame: puts a message to that client into its own framing: lines, until it has said something else.
        framing: which that is, None before it is known.
    """

    __slots__ = ("_limit", "_reader", "frame", "framing")

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._limit = limit
        self._reader: LineReader | HeaderReader | None = None
        self.frame: Callable[[bytes], bytes] = encode_line
        self.framing: Literal["lines", "headers"] | None = None

    def feed(self, chunk: bytes) -> list[bytes | Oversized]:
        """Take the next bytes of the stream; return the messages they complete, in order.

        Raises:
            FramingLost: the stream can be read no further; the exception has what it completed before.
        """
        if self._reader is None:
            chunk = chunk.lstrip(_BLANKS)
            if not chunk:
                return []
            self._reader = self._choose(chunk)
        return self._reader.feed(chunk)

    def finish(self) -> list[bytes | Oversized]:
        """The stream ended: see the two readers."""
        return [] if self._reader is None else self._reader.finish()

    def _choose(self, chunk: bytes) -> LineReader | HeaderReader:
        if chunk[0] in _FIRST_OF_LINE:
            self.framing = "lines"
            return LineReader(self._limit)
        if chunk[0] not in _FIRST_OF_HEADERS:
            raise FramingLost(f"no framing we know: {chunk[:16]!r}", spoken=False)
        self.frame, self.framing = encode_headers, "headers"
        return HeaderReader(self._limit)


def encode_headers(message: bytes) -> bytes:
    """Frame one JSON text by its length."""
    return b"Content-Length: %d\r\n\r\n" % len(message) + message


def encode_line(message: bytes) -> bytes:
    """Frame one JSON text. It must hold no raw newline, which no JSON encoder of ours writes."""
    return message + b"\n"
