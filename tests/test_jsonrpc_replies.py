"""The envelope, outwards: what every client of every editor must be able to read."""

from __future__ import annotations

import json
import math
import re

import msgspec
import pytest
from hypothesis import given, strategies as st

from jobclient.protocol import wire
from jobclient.protocol.errors import BY_CODE, Busy, InternalError, RemoteError
from jobclient.protocol.jsonrpc import (
    Json,
    decode,
    encode,
    encode_batch,
    encode_error,
    encode_notification,
    encode_result,
)
from strategies import json_values

hostile = st.text(st.characters(codec=None, categories=("Cs", "Cc", "Lu")) | st.sampled_from("\0\\u0"))
hostile_values: st.SearchStrategy[Json] = st.recursive(
    hostile, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile, inner, max_size=3), max_leaves=8
)


def has_nul_escape(text: bytes) -> bool:
    return rb"\u0000" in re.sub(rb"\\[^u]", b"", text)


# --- members --------------------------------------------------------------------------------------------------------


def test_a_result() -> None:
    assert encode_result(b"0", wire.Removed(removed=["a"])) == b'{"jsonrpc":"2.0","id":0,"result":{"removed":["a"]}}'


@pytest.mark.parametrize("nothing", [None, wire.Done()])
def test_nothing_is_a_result_too(nothing: object) -> None:
    answer = json.loads(encode_result(b"1", nothing))
    assert list(answer) == ["jsonrpc", "id", "result"]
    assert not answer["result"]


@pytest.mark.parametrize("cls", BY_CODE.values(), ids=lambda cls: cls.kind)
def test_an_error(cls: type[RemoteError]) -> None:
    answer = json.loads(encode_error(b'"x"', cls("why", {"status": "running"})))
    assert answer == {
        "jsonrpc": "2.0",
        "id": "x",
        "error": {"code": cls.code, "message": "why", "data": {"status": "running", "kind": cls.kind}},
    }


def test_a_notification_has_no_id() -> None:
    answer = encode_notification("notifications/job/removed", wire.JobRemoved(id="a", cursor="e.1"))
    assert answer == b'{"jsonrpc":"2.0","method":"notifications/job/removed","params":{"id":"a","cursor":"e.1"}}'


@pytest.mark.parametrize("identity", [b"0", b"-7", b"1.50", b"1e3", b'"0"', rb'"\u00e9"', b"null", b"9" * 400])
def test_the_id_is_written_as_it_came(identity: bytes) -> None:
    assert b'"id":' + identity + b"," in encode_result(identity, {})
    assert b'"id":' + identity + b"," in encode_error(identity, Busy("b"))


@given(st.sampled_from([b"0", b'"a"', b"null"]), json_values)
def test_exactly_one_of_result_and_error(identity: bytes, value: Json) -> None:
    answers = json.loads(
        encode_batch([encode_result(identity, value), encode_error(identity, InternalError("m", {"v": value}))])
    )
    assert [set(answer) for answer in answers] == [{"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}]


# --- text -----------------------------------------------------------------------------------------------------------


@given(hostile_values)
def test_whatever_a_value_holds_the_output_is_clean(value: Json) -> None:
    text = encode_result(b"1", value)
    decoded = text.decode()
    assert not has_nul_escape(text)
    assert not re.search("[\x00-\x1f]", decoded), "every control character is escaped: a message is one line"
    assert not re.search(r"(?<!\\)(\\\\)*\\u[dD][89abAB]", decoded)
    json.loads(decoded)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\0b", "a\ufffdb"),
        ("\udcff", "\ufffd"),
        ({"\0": ["\0", {"\udc80": "\0"}]}, {"\ufffd": ["\ufffd", {"\ufffd": "\ufffd"}]}),
        (r"\u0000", r"\u0000"),
        ("\\\0", "\\\ufffd"),
        ({1: "\0"}, {"1": "\ufffd"}),
        (msgspec.Raw(rb'{"a":"\u0000"}'), {"a": "\ufffd"}),
        (("\0", b"\0"), ["\ufffd", "AA=="]),
        ("é🦊\x7f", "é🦊\x7f"),
    ],
    ids=lambda value: f"raw {bytes(value)!r}" if isinstance(value, msgspec.Raw) else repr(value),
)
def test_what_is_not_text_becomes_a_replacement_character(value: object, expected: object) -> None:
    assert json.loads(encode(value)) == expected


def test_a_struct_with_a_nul_keeps_its_wire_names() -> None:
    found = json.loads(encode(wire.JobResult(
        stdout="\0", stderr="", exit_code=0, duration_ms=1, truncated=False, encoding="utf-8"
    )))  # fmt: skip
    assert found["stdout"] == "\ufffd"
    assert {"exitCode", "durationMs"} < set(found)


def test_an_error_may_speak_of_a_path_that_is_not_utf8() -> None:
    answer = json.loads(encode_error(b"1", InternalError("cannot open '/tmp/\udcff\0'")))
    assert answer["error"]["message"] == "cannot open '/tmp/\ufffd\ufffd'"


def test_only_an_id_may_hold_a_nul_since_the_client_wrote_it() -> None:
    identity = rb'"a\u0000"'
    assert decode(b'{"id":' + identity + b',"method":"m"}') == decode(b'{"method":"m","id":' + identity + b"}")
    assert identity in encode_result(identity, None)


def test_what_json_cannot_say_is_null() -> None:
    assert encode([math.nan, math.inf]) == b"[null,null]"


def test_what_has_no_json_is_our_own_fault() -> None:
    with pytest.raises((TypeError, NotImplementedError)):
        encode([object(), "\0"])
