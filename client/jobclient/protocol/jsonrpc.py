"""The JSON-RPC 2.0 envelope: bytes to requests, results to bytes. Knows no method and no socket.

Lenient in what it takes, after what real editors send (they leave out `jsonrpc`, write `[]` for "no parameters",
`3.0` for `3`); exact in what it gives: `jsonrpc` always, exactly one of `result` and `error`, the id as it came.
"""

from __future__ import annotations

import re
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from jobclient.protocol.errors import InvalidParams, InvalidRequest, ParseError, RemoteError, TooLarge, to_wire

T = TypeVar("T")
Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | bool | None"
"""A JSON value as the standard library and msgspec give it."""

MAX_BATCH = 10_000
"""Calls in one batch. A full message of the shortest elements would be millions, an answer of gigabytes."""
NO_PARAMS = b"{}"
_ID_FIRST = frozenset(b'"-0123456789n')
_SURROGATES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u]|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


class Request(Struct, frozen=True):
    """A call that wants an answer. `id` is the JSON text of the id, to be echoed byte for byte."""

    id: bytes
    method: str
    params: bytes


class Notification(Struct, frozen=True):
    """A call that wants none."""

    method: str
    params: bytes


class Malformed(Struct, frozen=True):
    """Something that must be answered with an error; `id` is `null` where none could be read."""

    id: bytes
    error: RemoteError


class Response(Struct, frozen=True):
    """An answer, as it came. The broker asks nothing itself, but the backend behind it may have."""

    message: bytes


Call = Request | Notification | Malformed | Response


class Batch(Struct, frozen=True):
    """Calls sent as one array, answered as one array."""

    calls: tuple[Call, ...]


class _Envelope(Struct):
    id: Raw | UnsetType = UNSET
    method: Raw | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


_envelopes = msgspec.json.Decoder(_Envelope)
_elements = msgspec.json.Decoder(list[Raw])
_texts = msgspec.json.Decoder(str)
_encoder = msgspec.json.Encoder()


def decode(message: bytes) -> Call | Batch:
    """Read one message. Never raises: what cannot be read becomes a `Malformed`."""
    try:
        message.decode()  # the envelope decoder skips over strings without looking, an id is echoed as it came
        if message[:1] == b"[":
            return _decode_batch(message)
        return _decode_call(message)
    except msgspec.ValidationError as exc:
        return Malformed(b"null", InvalidRequest(f"not a JSON-RPC request: {exc}"))
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return _refuse(message, exc)
    except RecursionError:
        return Malformed(b"null", ParseError("not JSON we can read: nested too deeply"))


def _refuse(message: bytes, why: Exception) -> Malformed | Response:
    """Answer what is not JSON, under its own id where all that is wrong is a string that is not Unicode.

    Python clients write bytes they cannot decode as half surrogate pairs, editors cut an emoji in two. Both wait for
    an answer, and one without an id tells them nothing.
    """
    mended = mend(message)
    call = decode(mended) if mended != message else None
    if isinstance(call, Response):  # there is nobody to tell what is wrong with it
        return call
    if not isinstance(call, Request):
        return Malformed(b"null", ParseError(f"not JSON: {why}"))
    identity = call.id if call.id in message else b"null"
    return Malformed(identity, ParseError('a string is not Unicode; send such bytes as {"base64": ...}'))


def mend(message: bytes) -> bytes:
    """The same message with U+FFFD for each half surrogate pair, and for what is no UTF-8."""
    return _SURROGATES.sub(_mend, message.decode(errors="replace").encode())


def _mend(found: re.Match[bytes]) -> bytes:
    return found[0] if found["lone"] is None else b"\\ufffd"


def _decode_batch(message: bytes) -> Call | Batch:
    elements = _elements.decode(message)
    if not elements:
        return Malformed(b"null", InvalidRequest("an empty batch"))
    if len(elements) > MAX_BATCH:
        return Malformed(b"null", TooLarge(f"a batch may have {MAX_BATCH} calls; split it"))
    return Batch(tuple(_decode_element(bytes(element)) for element in elements))


def _decode_element(element: bytes) -> Call:
    try:
        return _decode_call(element)
    except msgspec.ValidationError as exc:
        return Malformed(b"null", InvalidRequest(f"not a JSON-RPC request: {exc}"))


def _decode_call(message: bytes) -> Call:
    envelope = _envelopes.decode(message)
    if envelope.method is UNSET and (envelope.result is not UNSET or envelope.error is not UNSET):
        return Response(message)
    identity = b"null" if envelope.id is UNSET else bytes(envelope.id)
    if identity[0] not in _ID_FIRST:
        return Malformed(b"null", InvalidRequest("an id must be a string, a number or null"))
    if envelope.method is UNSET or bytes(envelope.method)[:1] != b'"':
        return Malformed(identity, InvalidRequest("`method` must be a string"))
    method = _texts.decode(envelope.method)
    params = NO_PARAMS if envelope.params is UNSET else bytes(envelope.params)
    if envelope.id is UNSET:
        return Notification(method, params)
    return Request(identity, method, params)


def decode_params(params: bytes, decoder: msgspec.json.Decoder[T], positional: tuple[str, ...] = ()) -> T:
    """Read parameters as the method's own type; an array stands for the members that `positional` names.

    Absent, `null`, `[]` and `{}` are the same, `[{...}]` is `{...}`, a member that is null is absent, `3.0` is `3`
    (editors.md S10, S11). The usual case costs one typed decode; only what does not fit is looked at twice.

    Raises:
        InvalidParams: naming the member that does not fit.
    """
    try:
        if params == b"null":
            params = NO_PARAMS
        elif params[:1] == b"[":
            params = _named(_elements.decode(params), positional)
        try:
            return decoder.decode(params)
        except msgspec.ValidationError:
            return msgspec.convert(_tidy(msgspec.json.decode(params)), decoder.type)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidParams(f"parameters: {exc}") from exc


def _named(values: list[Raw], positional: tuple[str, ...]) -> bytes:
    """The object an array stands for, its values as they came."""
    if len(values) == 1 and bytes(values[0])[:1] == b"{":
        return bytes(values[0])
    if len(values) > len(positional):
        raise InvalidParams("use named parameters: an object, not an array")
    members = (encode(name) + b":" + bytes(value) for name, value in zip(positional, values, strict=False))
    return b"{" + b",".join(members) + b"}"


def _tidy(value: Json) -> Json:
    """Drop members that are null, write integral floats as integers."""
    if isinstance(value, dict):
        return {key: _tidy(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_tidy(element) for element in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def encode(value: object) -> bytes:
    """JSON in which every string is Unicode without a NUL; what cannot be written so becomes U+FFFD.

    One editor's parser rejects a whole message for a NUL (editors.md S12), and half a surrogate pair, which is how
    Python keeps a byte of a path that is not UTF-8, has no place in UTF-8.
    """
    try:
        text = _encoder.encode(value)
        if b"\\u0000" not in text:
            return text
    except UnicodeEncodeError:
        pass
    plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_spell_out)
    return _encoder.encode(_writable(plain))


def _spell_out(value: object) -> object:
    if isinstance(value, Raw):
        return msgspec.json.decode(value, type=object)
    raise NotImplementedError(f"{type(value).__name__} has no JSON")


def _writable(value: Json | tuple[Json, ...]) -> Json:
    if isinstance(value, dict):
        return {_UNWRITABLE.sub("\ufffd", key): _writable(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(element) for element in value]
    if isinstance(value, str):
        return _UNWRITABLE.sub("\ufffd", value)
    return value


def encode_result(identity: bytes, result: object) -> bytes:
    """A response that carries a result."""
    return b'{"jsonrpc":"2.0","id":' + identity + b',"result":' + encode(result) + b"}"


def encode_error(identity: bytes, error: RemoteError) -> bytes:
    """A response that carries an error."""
    return b'{"jsonrpc":"2.0","id":' + identity + b',"error":' + encode(to_wire(error)) + b"}"


def encode_notification(method: str, params: object) -> bytes:
    """A notification; the broker sends no requests of its own."""
    return b'{"jsonrpc":"2.0","method":' + encode(method) + b',"params":' + encode(params) + b"}"


def encode_batch(responses: list[bytes]) -> bytes:
    """The answer to a batch, empty if the batch held only notifications."""
    return b"[" + b",".join(responses) + b"]" if responses else b""
