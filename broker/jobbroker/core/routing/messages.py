"""Messages as values: what may pass, and how it is written again. No bytes of a peer are ever passed on as they came.

Both sides' JSON is read and written again, since one client's broken text, handed through, ends a backend that is
everybody's: invalid UTF-8 is the end of input to one of them, and NaN the end of patience to another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from jobclient.protocol import errors
from jobclient.protocol.jsonrpc import NO_PARAMS, Json, mend

MAX_DEPTH = 100
"""Nesting that passes; some parsers give up not far above."""

_VERSION: dict[str, Json] = {"jsonrpc": "2.0"}
_encoder = msgspec.json.Encoder()
_objects = msgspec.json.Decoder(dict[str, Any])  # of Json, which it cannot resolve
_values: msgspec.json.Decoder[Json] = msgspec.json.Decoder()


def read_params(params: bytes) -> Json:
    """The parameters of a client's message, None if it has none.

    Raises:
        InvalidRequest: they cannot be passed on.
    """
    if params is NO_PARAMS:
        return None
    try:
        value: Json = _values.decode(params)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise errors.InvalidRequest(f"`params` cannot be passed on to the backend: {exc}") from exc
    if value is None:
        return None
    if not isinstance(value, dict | list):
        raise errors.InvalidRequest("`params` must be an object or an array")
    if is_too_deep(value):
        raise errors.InvalidRequest(f"`params` is nested more than {MAX_DEPTH} deep")
    return value


def read_identity(identity: bytes) -> int | str:
    """The id of a client's request.

    Raises:
        InvalidRequest: it is one that some backends never answer.
    """
    try:
        value = _values.decode(identity)
    except msgspec.DecodeError:  # a number beyond all bounds
        value = None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise errors.InvalidRequest("the id of a request to the backend must be a string or a whole number")
    return value


def is_too_deep(value: Json) -> bool:
    """Whether a value is nested deeper than what passes."""
    level: list[Json] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [below for each in level for below in _members(each) if isinstance(below, dict | list)]
        if not level:
            return False
    return True


def _members(value: Json) -> Iterable[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def read_message(text: bytes) -> dict[str, Json] | None:
    """A message of the backend; None for what is none. Half a surrogate pair is mended, the rest of it counts."""
    try:
        return _objects.decode(text)
    except RecursionError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return _objects.decode(mend(text))
    except msgspec.DecodeError:
        return None


def write(message: dict[str, Json], *, jsonrpc: bool) -> bytes:
    """A message as JSON, with the member `jsonrpc` or without."""
    if jsonrpc:
        return _encoder.encode({**_VERSION, **message, **_VERSION})
    return _encoder.encode({key: value for key, value in message.items() if key != "jsonrpc"})


def text_of(value: Json) -> str:
    """A value for people: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else _encoder.encode(value).decode()
