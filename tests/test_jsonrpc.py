"""The envelope, inwards: what a message is, whatever bytes come; batches and parameters have files of their own."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from jobclient.protocol.errors import InvalidRequest, ParseError
from jobclient.protocol.jsonrpc import Batch, Json, Malformed, Notification, Request, Response, decode
from strategies import DEEP, json_values

members = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "extra"])


def refused(message: bytes) -> tuple[bytes, type]:
    found = decode(message)
    assert isinstance(found, Malformed), found
    return found.id, type(found.error)


# --- ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity",
    [
        b"0", b"-1", b"7", b"1.50", b"1e3", b"-0", b"1e999", b"9" * 400, b'""', b'"1"', b"null",
        b'"67e55044-10b1-426f-9247-bb680e5fe0c8"', rb'"\u00e9\n\"\\"', '"é🦊"'.encode(), rb'"\ud83e\udd8a"',
    ],
)  # fmt: skip
def test_an_id_comes_back_byte_for_byte(identity: bytes) -> None:
    assert decode(b'{"jsonrpc":"2.0","id": ' + identity + b' ,"method":"m"}') == Request(identity, "m", b"{}")


@pytest.mark.parametrize("identity", [b"{}", b"[]", b"[1]", b"true", b"false", b'{"a":1}'])
def test_an_id_is_a_string_a_number_or_null(identity: bytes) -> None:
    assert refused(b'{"id":' + identity + b',"method":"m"}') == (b"null", InvalidRequest)


def test_without_an_id_it_is_a_notification() -> None:
    assert decode(b'{"jsonrpc":"2.0","method":"m","params":{"a":1}}') == Notification("m", b'{"a":1}')


# --- members --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [b"", b'"jsonrpc":"2.0",', b'"jsonrpc":"1.0",', b'"jsonrpc":null,'])
def test_the_version_may_be_absent_and_is_not_judged(version: bytes) -> None:
    assert decode(b"{" + version + b'"id":1,"method":"m"}') == Request(b"1", "m", b"{}")


def test_other_members_are_ignored() -> None:
    assert decode(b'{"id":1,"trace":{"a":[1]},"method":"m","timeout":3}') == Request(b"1", "m", b"{}")


def test_of_duplicate_members_the_last_counts() -> None:
    assert decode(b'{"id":1,"method":"a","id":2,"method":"b","params":1,"params":[]}') == Request(b"2", "b", b"[]")


def test_escapes_in_names_and_methods_are_read() -> None:
    assert decode(rb'{"i\u0064":1,"method":"a\/b\u002fc"}') == Request(b"1", "a/b/c", b"{}")


@pytest.mark.parametrize("method", [b"null", b"1", b"{}", b"[]", b"true"])
def test_a_method_that_is_no_string_is_refused_under_the_id(method: bytes) -> None:
    assert refused(b'{"id":5,"method":' + method + b"}") == (b"5", InvalidRequest)
    assert refused(b'{"method":' + method + b"}") == (b"null", InvalidRequest)


@pytest.mark.parametrize("message", [b"{}", b'{"id":null}', b'{"jsonrpc":"2.0"}', b'{"params":{}}'])
def test_an_object_that_is_no_call_is_refused(message: bytes) -> None:
    assert refused(message) == (b"null", InvalidRequest)


@pytest.mark.parametrize(
    "message", [b'{"id":1,"result":null}', b'{"id":1,"error":{"code":1}}', b'{"result":1}', b'{"error":null}']
)
def test_a_response_is_passed_on_as_it_came(message: bytes) -> None:
    assert decode(message) == Response(message)


@pytest.mark.parametrize("params", [b"{}", b"[]", b"null", b'"text"', b"3.0", b'{"a": [1, 2]}'])
def test_parameters_pass_through_as_they_came(params: bytes) -> None:
    assert decode(b'{"id":1,"method":"m","params": ' + params + b" }") == Request(b"1", "m", params)


@pytest.mark.parametrize("method", [b"$/setTrace", b"initialized", b"no/such/method", b""])
def test_what_a_method_is_called_is_nothing_to_the_envelope(method: bytes) -> None:
    assert decode(b'{"method":"' + method + b'"}') == Notification(method.decode(), b"{}")


# --- not JSON -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        b"", b" ", b"{", b"{]", b"nul", b"{} {}", b'{"id":1,"method":"m"}x', b"POST / HTTP/1.1", b"\x94\x00\x01",
        b'\xef\xbb\xbf{"id":1,"method":"m"}', b"{'id':1}", b'{"id":1,}', b'{"id":01,"method":"m"}',
        b'{"id":+1,"method":"m"}', b'{"id":NaN,"method":"m"}', b'{"id":1,"method":"m","params":{"a":NaN}}',
        b'{"id":1,"method":"m","params":[Infinity]}', b'{"id":"a\nb","method":"m"}', rb'{"id":"\x","method":"m"}',
        rb'{"id":1,"method":"m","params":{"a":"\x"}}', b'[1,2', b'[{"id":1,"method":"m"},]',
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused_without_an_id(message: bytes) -> None:
    assert refused(message) == (b"null", ParseError)


@pytest.mark.parametrize("message", [b"1", b'"text"', b"null", b"true", b"1.5", b" [] "])
def test_json_that_is_no_object_is_no_request(message: bytes) -> None:
    assert refused(message) == (b"null", InvalidRequest)


@pytest.mark.parametrize(
    "message",
    [
        b"[" * DEEP + b"]" * DEEP,
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b'{"id":1,"method":"m","params":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"id":1,"method":"m","params":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        b'{"id":' + b"[" * DEEP + b"]" * DEEP + b',"method":"m"}',
        b'{"x":' + b"[" * DEEP + b"]" * DEEP + b',"id":1,"method":"m"}',
        b'[{"id":1,"method":"m","params":' + b"[" * DEEP + b"]" * DEEP + b"}]",
    ],
    ids=["batch", "unclosed", "objects", "array in params", "object in params", "id", "elsewhere", "in a batch"],
)
def test_deep_nesting_is_refused_not_survived_by_luck(message: bytes) -> None:
    assert refused(message)[1] is ParseError


# --- text that is not Unicode ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", rb"\ud800", rb"\uDCff", rb"a\ud83e b", rb"\\\udc00"]
)
@pytest.mark.parametrize("where", [b'{"id":7,"method":"%s"}', b'{"id":7,"method":"m","params":{"a":["%s"]}}'])
def test_a_string_that_is_not_unicode_is_refused_under_the_id(bad: bytes, where: bytes) -> None:
    assert refused(where % bad) == (b"7", ParseError)


@pytest.mark.parametrize("bad", [b"\xff", rb"\ud800", rb"\udcff\udcff"])
def test_an_id_that_is_not_unicode_is_not_echoed(bad: bytes) -> None:
    assert refused(b'{"id":"%s","method":"m"}' % bad) == (b"null", ParseError)


@pytest.mark.parametrize("message", [b"\xff", rb'"\ud800"', rb'[{"id":1,"method":"\ud800"}]', b'{"id":1 \xff}'])
def test_without_a_request_around_it_there_is_no_id_to_use(message: bytes) -> None:
    assert refused(message) == (b"null", ParseError)


def test_a_backslash_before_u_is_not_an_escape() -> None:
    message = rb'{"id":1,"method":"m","params":{"a":"\\ud800"}}'
    assert decode(message) == Request(b"1", "m", rb'{"a":"\\ud800"}')


# --- anything -------------------------------------------------------------------------------------------------------


@given(st.binary())
def test_decode_takes_any_bytes(message: bytes) -> None:
    decode(message)


@given(st.text(alphabet='{}[]",:\\u0dD8cidmethodparams1.eE-+ ntrf'))
def test_decode_takes_anything_like_json(message: str) -> None:
    decode(message.encode())


@given(json_values)
def test_decode_takes_any_json(value: Json) -> None:
    found = decode(json.dumps(value).encode())
    assert isinstance(found, Batch | Request | Notification | Malformed | Response)


@given(st.dictionaries(members, json_values))
def test_decode_takes_any_object_with_our_members(value: dict[str, Json]) -> None:
    found = decode(json.dumps(value).encode())
    if isinstance(found, Request | Notification):
        assert found.method == value["method"]
        assert isinstance(found, Request) == ("id" in value)
