"""Parameters: lenient where editors are careless, strict where a client would be misled."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from jobclient.protocol import wire
from jobclient.protocol.errors import InvalidParams
from jobclient.protocol.jsonrpc import Json, decode_params
from jobclient.protocol.wire import MAX_NUMBER, Nothing, OutputParams, StartParams, SubscribeParams, WaitParams
from strategies import DEEP, json_values

start = msgspec.json.Decoder(StartParams)
wait = msgspec.json.Decoder(WaitParams)


def refusal(params: bytes, decoder: msgspec.json.Decoder[Any] = start) -> str:
    with pytest.raises(InvalidParams) as caught:
        decode_params(params, decoder)
    return caught.value.message


# --- forms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [b"null", b"[]", b"{}", b"[ ]", b"{ }", b"[{}]", b"[ { } ]"])
def test_no_parameters_have_many_forms(params: bytes) -> None:
    assert decode_params(params, msgspec.json.Decoder(Nothing)) == Nothing()
    assert decode_params(params, wait) == WaitParams()


@pytest.mark.parametrize("params", [b'{"argv":["a"]}', b'[{"argv":["a"]}]', b'[ {"argv" : ["a"]} ]'])
def test_an_array_of_one_object_is_the_object(params: bytes) -> None:
    assert decode_params(params, start) == StartParams(argv=["a"])


@pytest.mark.parametrize("params", [b"[1]", b'["a"]', b"[{},{}]", b"[[]]", b"[null]", b'[["a"]]'])
def test_positional_arguments_are_refused_not_misread(params: bytes) -> None:
    assert "named parameters" in refusal(params)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (b"[]", WaitParams()),
        (b'[["a"]]', WaitParams(ids=["a"])),
        (b'[["a"], 3.0]', WaitParams(ids=["a"], timeout_ms=3)),
        (b"[null, 5]", WaitParams(timeout_ms=5)),
        (b'[{"all":true}]', WaitParams(all=True)),
    ],
)
def test_an_array_stands_for_the_members_a_method_names(params: bytes, expected: WaitParams) -> None:
    assert decode_params(params, wait, ("ids", "timeoutMs")) == expected


def test_more_values_than_names_are_refused() -> None:
    with pytest.raises(InvalidParams, match="named parameters"):
        decode_params(b"[[], 1, 2]", wait, ("ids", "timeoutMs"))


@pytest.mark.parametrize("params", [b"1", b'"text"', b"true", b"1.5"])
def test_parameters_are_an_object(params: bytes) -> None:
    assert "object" in refusal(params)


@pytest.mark.parametrize("params", [b'{"id": 1.0}', b'[{"id": 1.0}]'])
def test_an_id_to_cancel_keeps_its_spelling(params: bytes) -> None:
    found = decode_params(params, msgspec.json.Decoder(wire.CancelRequestParams))
    assert bytes(found.id) == b"1.0"


# --- values ---------------------------------------------------------------------------------------------------------


def test_a_null_member_is_an_absent_member_however_deep() -> None:
    params = b'{"argv":["a"],"cwd":null,"bogus":null,"env":{"A":null,"B":"b"},"labels":{"c":null}}'
    assert decode_params(params, start) == StartParams(argv=["a"], env={"B": "b"}, labels={})
    nested = decode_params(b'{"jobs":{"status":null,"name":"n"}}', msgspec.json.Decoder(SubscribeParams))
    assert nested.jobs == wire.Filter(name="n")


def test_a_required_member_that_is_null_is_missing() -> None:
    assert "`signal`" in refusal(b'{"id":"tests","signal":null}', msgspec.json.Decoder(wire.SignalParams))


def test_a_null_within_an_array_is_no_member() -> None:
    assert "$.argv[1]" in refusal(b'{"argv":["a",null]}')


@pytest.mark.parametrize("number", [b"3", b"3.0", b"30e-1", b"0.3E+1"])
def test_an_integral_number_may_come_in_any_spelling(number: bytes) -> None:
    assert decode_params(b'{"argv":["a"],"timeoutMs":' + number + b"}", start).timeout_ms == 3


def test_the_largest_number_may_come_with_an_exponent() -> None:
    assert decode_params(b'{"argv":["a"],"timeoutMs":1e+14}', start).timeout_ms == MAX_NUMBER


@pytest.mark.parametrize(
    "number", [b"-1", b"3.5", b"1e15", b"1e308", b"1e999", b"9" * 30, b"9" * 5000, b"true", b'"3"']
)
def test_a_number_that_does_not_fit_is_refused(number: bytes) -> None:
    refusal(b'{"argv":["a"],"timeoutMs":' + number + b"}")


# --- refusals name the member ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bogus", [b"1", b'{"a":null}', b"[1.0]"])
def test_an_unknown_member_is_refused_by_name(bogus: bytes) -> None:
    assert "`timeout_ms`" in refusal(b'{"argv":["a"],"timeout_ms":' + bogus + b"}")


def test_an_unknown_member_within_a_member_is_refused_by_name() -> None:
    with pytest.raises(InvalidParams, match="`state`"):
        decode_params(b'{"jobs":{"state":"running"}}', msgspec.json.Decoder(SubscribeParams))


@pytest.mark.parametrize(
    ("params", "path"),
    [
        (b'{"argv":"ls"}', "$.argv"),
        (b'{"argv":["a",{"base64":1}]}', "$.argv[1].base64"),
        (b'{"argv":["a"],"labels":{"k":1}}', "$.labels[...]"),
        (b'{"argv":["a"],"merged":"yes"}', "$.merged"),
        (b'{"argv":["a"],"onDisconnect":"explode"}', "$.onDisconnect"),
        (b'{"argv":["a"],"rlimits":{"NOFILE":-2}}', "$.rlimits[...]"),
        (b'[{"argv":["a"],"umask":true}]', "$.umask"),
    ],
)
def test_a_wrong_type_is_refused_with_its_path(params: bytes, path: str) -> None:
    assert path in refusal(params)


def test_a_python_keyword_is_a_wire_name_as_any_other() -> None:
    assert decode_params(b'{"id":"a","from":"12"}', msgspec.json.Decoder(OutputParams)).from_ == "12"


# --- never anything but a refusal -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        b'{"bogus":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"argv":["a"],"umask":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"argv":["a"],"labels":' + b'{"a":' * 900 + b"null" + b"}" * 900 + b"}",
        b"[" * DEEP + b"]" * DEEP,
        rb'{"argv":["\ud800"]}',
        rb'{"bogus":1,"argv":["\ud800"]}',
        rb'{"bogus":1,"argv":["\x"]}',
        b'{"bogus":NaN}',
        b"{",
        b"",
    ],
)
def test_what_cannot_be_read_is_refused_too(params: bytes) -> None:
    assert refusal(params)


@given(json_values | st.dictionaries(st.sampled_from(StartParams.__struct_encode_fields__), json_values))
def test_any_json_is_taken_or_refused(value: Json) -> None:
    with contextlib.suppress(InvalidParams):
        assert isinstance(decode_params(json.dumps(value).encode(), start), StartParams)
