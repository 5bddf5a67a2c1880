"""What a job reads from: nothing, a file, bytes that came with the request, or a pipe that is fed while it runs."""

from __future__ import annotations

from msgspec import Struct

from jobbroker.wiretext import as_bytes, as_wire, decoded, text_bytes
from jobclient.protocol.errors import InvalidParams, TooLarge
from jobclient.protocol.wire import StartParams, StdinKind, Text

MAX_DATA = 8 * 1024 * 1024
"""Bytes that may come with a request; more is better in a file, or through a pipe."""


class Stdin(Struct, frozen=True):
    """What a job reads from: which kind, the path of a file, the bytes."""

    kind: StdinKind = "null"
    file: Text | None = None
    data: bytes | None = None

    def head(self) -> dict[bytes, bytes]:
        """What its shim needs to know."""
        path = {} if self.file is None else {b"stdinFile": as_bytes(self.file, "stdin.file")}
        return {b"stdin": self.kind.encode(), **path}


def asked(params: StartParams) -> Stdin:
    """What a request asks for.

    Raises:
        InvalidParams: not one thing, or none that can be.
        TooLarge: more bytes than `MAX_DATA`.
    """
    source = params.stdin
    if source is None or isinstance(source, str):
        return Stdin(source or "null")
    if [source.file, source.text, source.base64].count(None) != 2:
        raise InvalidParams('`stdin` is "null", "pipe", or an object with one of `file`, `text` and `base64`')
    if source.file is not None:
        path = as_bytes(source.file, "stdin.file")
        if not path.startswith(b"/"):
            raise InvalidParams("`stdin.file` must be an absolute path")
        return Stdin("file", as_wire(path))
    data = decoded(source.base64, "stdin") if source.base64 is not None else text_bytes(source.text or "", "stdin")
    if len(data) > MAX_DATA:
        raise TooLarge(f"`stdin` may hold {MAX_DATA} bytes; for more name a `file`, or ask for a pipe and `job/input`")
    return Stdin("data", data=data)
