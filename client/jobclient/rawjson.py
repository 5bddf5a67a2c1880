"""JSON on the fast path: the C half of the standard library's json, without the Python half and the `re` it imports.

`_json` is private and may change or go; then the public module serves, 9 ms slower.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SEPARATORS = (",", ":")


class BadJson(ValueError):
    """The text is not JSON."""


class _Reading:
    """What the C scanner wants to know; JSON as JSON has it, without NaN."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> object:
        raise BadJson(f"{name} is no JSON")


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no JSON form")


try:
    import _json

    _scan = _json.make_scanner(_Reading)  # type: ignore[arg-type]
    _encode = _json.make_encoder(None, _refuse, _json.encode_basestring, None, ":", ",", False, False, False)

    def _to_text(value: object) -> str:
        return "".join(_encode(value, 0))

    def _from_text(text: str) -> Any:
        try:
            value, end = _scan(text, 0)
        except StopIteration as exc:
            raise BadJson(f"not JSON at character {exc.value}") from None
        if end != len(text):
            raise BadJson(f"more than JSON at character {end}")
        return value

    _from_text(_to_text({"": 0}))  # a change in the private interface shows here
except (ImportError, AttributeError, TypeError, ValueError):
    import json

    def _to_text(value: object) -> str:
        return json.dumps(value, separators=_SEPARATORS, ensure_ascii=False, allow_nan=False)

    def _from_text(text: str) -> Any:
        return json.loads(text, parse_constant=_Reading.parse_constant)


def encode(value: object) -> bytes:
    """A value as one line of JSON in UTF-8.

    Raises:
        InvalidParams: a string holds what is not text; see `raw.text` for what the operating system says.
    """
    try:
        return _to_text(value).encode()
    except UnicodeEncodeError as exc:
        from jobclient.protocol.errors import InvalidParams

        text: str = exc.object
        word = text[text.rfind('"', 0, exc.start) + 1 : text.find('"', exc.end)]
        raise InvalidParams(f"not UTF-8, as names, labels and references have to be: {word!r}") from None


def decode(text: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        BadJson: it has none.
    """
    try:
        return _from_text(text.decode())
    except BadJson:
        raise
    except SystemError as exc:  # the scanner looks for the public module's error, and that is not loaded
        raise BadJson("not JSON") from exc
    except (ValueError, RecursionError) as exc:
        raise BadJson(str(exc)) from exc
