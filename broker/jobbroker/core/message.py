"""The last message of an agent, out of what it wrote: by a rule that says where programs of its kind put it.

The rules are `stdout`, all of it; `json`, its last line that is a JSON object or array; and `json:part.text`, the field
of that name, out of the last such line that has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from jobclient.protocol.jsonrpc import Json

STDOUT, JSON = "stdout", "json"


def check_rule(rule: str) -> None:
    """See that a rule says where the last message is.

    Raises:
        ValueError: it does not.
    """
    kind, colon, path = rule.partition(":")
    if rule not in (STDOUT, JSON) and not (kind == JSON and colon and all(path.split("."))):
        raise ValueError(f"this is {STDOUT}, {JSON} or {JSON}:name.of.field")


def message(rule: str, stdout: bytes, *, cut: bool) -> str | None:
    """The last message of an agent, None where there is none by that rule.

    Args:
        rule: see above.
        stdout: what it wrote, or the end of that.
        cut: whether there was more before it; then the first line may be half a line.
    """
    if rule == STDOUT:
        return _text(stdout) or None
    path = [] if rule == JSON else rule.partition(":")[2].split(".")
    names = [name.encode() for name in path if not name.isdecimal()]
    for line in _lines_from_the_end(stdout, cut=cut):
        if _may_have(line, names):
            found = _field(line, path)
            if found is not None:
                return found
    return None


def _text(data: bytes) -> str:
    """As text without the line ends at its end; what is no text is marked as such, for no message holds a NUL."""
    return data.decode("utf-8", "replace").replace("\0", "\ufffd").rstrip("\r\n")


def _lines_from_the_end(data: bytes, *, cut: bool) -> Iterator[bytes]:
    end = len(data)
    while end > 0:
        start = data.rfind(b"\n", 0, end) + 1
        if start == 0 and cut:
            return
        yield data[start:end].strip()
        end = start - 1


def _may_have(line: bytes, names: list[bytes]) -> bool:
    """Whether it is worth reading as JSON: there may be a hundred thousand lines, and few with those names."""
    shape = (line[:1], line[-1:]) in ((b"{", b"}"), (b"[", b"]"))
    return shape and (all(name in line for name in names) or b"\\u" in line)


def _field(line: bytes, path: list[str]) -> str | None:
    """The member of a line of JSON that a path leads to, None if there is none; without a path, the line."""
    try:
        value: Json = json.loads(line)  # not msgspec, which is strict about numbers and halves of characters
    except (ValueError, RecursionError):
        return None
    if not path:
        return _text(line)
    for name in path:
        value = _member(value, name)
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _text(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode())


def _member(value: Json, name: str) -> Json:
    """`name` of an object, or the element of an array with that number; None if there is none."""
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, list) and name.isascii() and name.isdecimal() and len(name) < 10:
        return value[int(name)] if int(name) < len(value) else None
    return None
