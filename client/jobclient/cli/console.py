"""Where the command line speaks: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys

from jobclient import rawjson
from jobclient.cli import render
from jobclient.protocol.failure import JobBrokerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobclient.cli.render import Cell

OUT, ERR = 1, 2
_UTF8 = frozenset({"utf-8", "utf8"})


class Console:
    """The streams of this process, and what they can show.

    Attributes:
        instance: the broker that was named, to be named in advice as well; None for the default.
        columns: the width of the terminal on stdout, None if it is none.
        colour: whether stdout takes colours.
        unicode: whether stdout can show all characters.
    """

    __slots__ = ("colour", "columns", "instance", "unicode")

    def __init__(self, colour: str | None = None, instance: str | None = None) -> None:
        self.instance = instance
        self.columns = render.terminal_columns(OUT, os.environ)
        self.colour = render.wants_colour(colour, os.environ, terminal=self.columns is not None)
        self.unicode = sys.stdout is not None and (sys.stdout.encoding or "").lower() in _UTF8

    def print(self, *lines: str) -> None:
        """Lines of result."""
        self._encode(OUT, "".join(line + "\n" for line in lines))

    def table(self, rows: Sequence[Sequence[Cell]]) -> None:
        """A table, its first row the header."""
        self.print(*render.table(rows, colour=self.colour, columns=self.columns, ellipsis=self.ellipsis))

    @property
    def ellipsis(self) -> str:
        """What stands for the rest of a text that is cut."""
        return "\N{HORIZONTAL ELLIPSIS}" if self.unicode else "..."

    def json(self, value: object) -> None:
        """A result as one line of JSON, always in UTF-8."""
        write(OUT, rawjson.encode(value) + b"\n")

    def note(self, text: str) -> None:
        """A word to the person, in the name of the program."""
        self._encode(ERR, f"jobctl: {render.escape_lines(self._advise(text))}\n")

    def ask(self, text: str) -> None:
        """A question, its answer to be typed behind it."""
        self._encode(ERR, render.escape_lines(text))

    def hint(self, text: str) -> None:
        """A word that is of use only to a person who is watching."""
        if os.isatty(ERR) and os.isatty(OUT):
            self._encode(ERR, f"{render.escape_lines(self._advise(text))}\n")

    def _advise(self, text: str) -> str:
        """The text, its advice as it has to be typed for this broker."""
        return text if self.instance is None else text.replace("-> jobctl ", f"-> jobctl --instance {self.instance} ")

    def _encode(self, descriptor: int, text: str) -> None:
        stream = sys.stdout if descriptor == OUT else sys.stderr
        encoding = (stream.encoding if stream is not None else None) or "utf-8"
        write(descriptor, text.encode(encoding, "backslashreplace"))


def write(descriptor: int, data: bytes) -> None:
    """Write all of it, at once.

    Raises:
        BrokenPipeError: nobody reads.
        JobBrokerError: whatever it is redirected to cannot take it.
    """
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # somebody else made our terminal non-blocking
            import select

            select.select([], [descriptor], [])
        except BrokenPipeError:
            raise
        except OSError as exc:  # a full disk behind a redirection
            if descriptor != OUT:
                raise
            raise JobBrokerError(f"the output cannot be written: {(exc.strerror or str(exc)).lower()}") from exc
