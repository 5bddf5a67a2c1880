"""Cut a byte stream into messages: one JSON text per line. Pure: bytes in, messages out; no sockets, no JSON.

The second framing (Content-Length headers) will be another class with `feed` and `finish`; `Connection` picks one by
the first byte a peer sends, see `is_line_framing`.
"""

from __future__ import annotations

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes in one message, either way (CONTRACT section 6). codex app-server and most language servers have no limit;
a broker shared by everybody needs one, and 16 MiB carries a batch of thousands of starts."""

_FIRST_OF_LINE = frozenset(b"{[ \t\r\n")


class Oversized:
    """Stands in the place of a message that was over the limit; its bytes were thrown away as they came."""

    __slots__ = ()


OVERSIZED = Oversized()


def is_line_framing(first: int) -> bool:
    """Whether a connection whose first byte is `first` speaks newline-delimited JSON."""
    return first in _FIRST_OF_LINE


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


def encode_line(message: bytes) -> bytes:
    """Frame one JSON text. It must hold no raw newline, which no JSON encoder of ours writes."""
    return message + b"\n"
