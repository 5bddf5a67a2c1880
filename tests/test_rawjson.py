"""JSON by the C half of the standard library alone, and by the public half where there is no other."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

from jobclient import rawjson
from jobclient.protocol.errors import InvalidParams
from jobclient.protocol.jsonrpc import Json
from strategies import DEEP, json_values


def encodable(value: Json) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True


@given(json_values.filter(encodable))
def test_there_and_back(value: Json) -> None:
    text = rawjson.encode(value)
    assert b"\n" not in text
    assert json.loads(text) == value
    assert rawjson.decode(text) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1,]",
        b"{1:2}",
        b"nul",
        b"1 2",
        b'"\\x"',
        b'"\x01"',
        b"NaN",
        b"-Infinity",
        b"\xff",
        b'"\xed\xa0\x80"',
    ],
)
def test_what_is_not_json(text: bytes) -> None:
    with pytest.raises(rawjson.BadJson):
        rawjson.decode(text)


@pytest.mark.parametrize("text", ["{", "[1 2]", '{"a" 1}', '"x', '{"a":1,}'])
def test_nor_is_it_where_the_public_module_is_not_loaded(text: str) -> None:
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from jobclient import rawjson\n"
        "assert 'json' not in sys.modules\n"
        f"try: rawjson.decode({text.encode()!r})\n"
        "except rawjson.BadJson: print('refused')"
    )
    assert subprocess.check_output([sys.executable, "-I", "-S", "-c", script], text=True) == "refused\n"


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_depth_is_an_error_not_a_crash(bracket: bytes) -> None:
    with pytest.raises(rawjson.BadJson):
        rawjson.decode(bracket * DEEP)


def test_what_is_not_text_is_refused_here() -> None:
    with pytest.raises(InvalidParams, match=r"not UTF-8.*: 'caf\\udce9'$"):
        rawjson.encode({"before": 1, "name": "caf\udce9", "after": "x"})


def test_what_has_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        rawjson.encode({"x": object()})
    with pytest.raises(ValueError):
        rawjson.encode(float("nan"))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_travels_as_utf8(value: str) -> None:
    assert rawjson.decode(rawjson.encode(value)) == value


FALLBACK = """
import sys
sys.modules["_json"] = sys.modules["_socket"] = None
import json.decoder, json.scanner
sys.modules["socket"] = stand_in = type(sys)("socket")
stand_in.AF_UNIX = stand_in.SHUT_WR = stand_in.SOCK_CLOEXEC = stand_in.SOCK_STREAM = 1
stand_in.socket = object
from jobclient import raw, rawjson
assert raw.socket is object
assert rawjson.decode(rawjson.encode({"a": [1, "ä", None]})) == {"a": [1, "ä", None]}
for bad in (b"NaN", b"{", b"\\xff"):
    try:
        rawjson.decode(bad)
    except rawjson.BadJson:
        continue
    raise AssertionError(bad)
print("json" in sys.modules)
"""


def test_a_python_without_the_private_modules_has_the_public_ones() -> None:
    done = subprocess.run([sys.executable, "-c", FALLBACK], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
