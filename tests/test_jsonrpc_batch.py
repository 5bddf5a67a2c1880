"""Batches: one array in, one array out, each element judged for itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from jobclient.protocol.errors import InvalidRequest, TooLarge
from jobclient.protocol.jsonrpc import (
    MAX_BATCH,
    Batch,
    Call,
    Malformed,
    Notification,
    Request,
    Response,
    decode,
    encode_batch,
    encode_error,
    encode_result,
)


def calls(message: bytes) -> tuple[Call, ...]:
    found = decode(message)
    assert isinstance(found, Batch), found
    return found.calls


def test_calls_keep_their_order_and_kind() -> None:
    message = b'[ {"id":0,"method":"a"}, {"method":"b","params":[1]} ,{"id":"x","method":"c","params":{}},{"result":1}]'
    assert calls(message) == (
        Request(b"0", "a", b"{}"),
        Notification("b", b"[1]"),
        Request(b'"x"', "c", b"{}"),
        Response(b'{"result":1}'),
    )


@pytest.mark.parametrize("message", [b"[]", b"[ ]", b"[\t]"])
def test_an_empty_batch_is_one_error_not_an_array(message: bytes) -> None:
    found = decode(message)
    assert isinstance(found, Malformed)
    assert (found.id, type(found.error)) == (b"null", InvalidRequest)


@pytest.mark.parametrize("element", [b"1", b'"text"', b"null", b"true", b"[]", b'[{"id":1,"method":"m"}]', b"{}"])
def test_an_element_that_is_no_request_is_answered_in_its_place(element: bytes) -> None:
    first, second = calls(b"[" + element + b',{"id":2,"method":"m"}]')
    assert isinstance(first, Malformed)
    assert (first.id, type(first.error)) == (b"null", InvalidRequest)
    assert second == Request(b"2", "m", b"{}")


def test_an_element_with_a_bad_method_is_refused_under_its_id() -> None:
    (found,) = calls(b'[{"id":9,"method":null}]')
    assert isinstance(found, Malformed)
    assert found.id == b"9"


def test_the_same_id_twice_is_answered_twice() -> None:
    assert calls(b'[{"id":1,"method":"a"},{"id":1,"method":"b"}]') == (
        Request(b"1", "a", b"{}"),
        Request(b"1", "b", b"{}"),
    )


def test_a_batch_has_a_limit_of_calls_that_names_itself() -> None:
    assert len(calls(b"[" + b"1," * (MAX_BATCH - 1) + b"1]")) == MAX_BATCH
    found = decode(b"[" + b"1," * MAX_BATCH + b"1]")
    assert isinstance(found, Malformed)
    assert isinstance(found.error, TooLarge)
    assert str(MAX_BATCH) in found.error.message


def test_answers_travel_as_one_array() -> None:
    answers = [encode_result(b"0", {}), encode_error(b"null", InvalidRequest("no"))]
    assert json.loads(encode_batch(answers)) == [json.loads(answer) for answer in answers]


def test_nothing_answers_a_batch_of_notifications() -> None:
    assert encode_batch([]) == b""


@given(st.lists(st.sampled_from([b"{}", b'{"id":1,"method":"m"}', b'{"method":"m"}', b"1", b"[]", b'{"result":1}'])))
def test_every_element_becomes_one_call(elements: list[bytes]) -> None:
    found = decode(b"[" + b",".join(elements) + b"]")
    assert len(found.calls) == len(elements) if isinstance(found, Batch) else not elements
