"""`output -t`: every line begins with the time at which it was written. Everything else stays byte for byte."""

from __future__ import annotations

import time

from jobclient.cli import quantities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jobclient.raw import Message

FORMATS = ("local", "iso", "unix")


def text(timestamp: str, form: str) -> str:
    """A time of the protocol as a person wants it: of this place, as it travels, or as seconds since 1970."""
    if form == "iso":
        return timestamp
    milliseconds = quantities.epoch_ms(timestamp)
    if form == "unix":
        return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
    here = time.localtime(milliseconds // 1000)
    return time.strftime("%Y-%m-%d %H:%M:%S", here) + f".{milliseconds % 1000:03d}"


class Stamps:
    """What is written line by line, and with its time; a line may come in several pieces.

    A line in which both streams have written is one line, as it is without times, with the time of its first byte.
    """

    __slots__ = ("_between", "_form")

    def __init__(self, form: str) -> None:
        self._form = form
        self._between = True  # two lines: the next byte begins one

    def put(self, data: bytes, piece: Message) -> bytes:
        """The data of a piece, or the beginning of it, with the times of its lines."""
        made: list[bytes] = []
        marks = piece["marks"]
        places = [*(mark["at"] for mark in marks), len(data)]
        for number, mark in enumerate(marks):
            part = data[places[number] : places[number + 1]]
            stamp = text(mark["time"], self._form).encode() + b" "
            while part:
                if self._between:
                    made.append(stamp)
                line = part[: part.find(b"\n") + 1] or part
                made.append(line)
                self._between = line.endswith(b"\n")
                part = part[len(line) :]
        return b"".join(made)
