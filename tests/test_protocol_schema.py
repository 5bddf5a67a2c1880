"""docs/protocol.schema.json is what the types say, is a schema, and takes no message that is none of ours."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, strategies as st
from msgspec import Struct

import protocol_schema
from conformance import RESULTS, SCHEMA, Conformance
from jobbroker.methods import METHODS
from jobclient.protocol import jsonrpc, wire
from jobclient.protocol.jsonrpc import Json
from protocol_doc import DOCUMENT, examples
from samples import snapshot

WHOLE = jsonschema_rs.validator_for(SCHEMA)
PING = {"pid": 1, "version": "1", "protocol": 1, "instance": "default", "startedAt": "", "uptimeMs": 1}


def test_the_file_is_what_the_types_say() -> None:
    assert protocol_schema.PATH.read_text() == protocol_schema.text(), "python tests/protocol_schema.py"


def test_it_is_a_schema() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    assert SCHEMA["protocol"] == wire.PROTOCOL_VERSION


@pytest.mark.parametrize("example", examples(DOCUMENT))
def test_it_takes_the_examples_of_the_document(example: Json) -> None:
    assert WHOLE.is_valid(example)


@pytest.mark.parametrize(
    "message",
    [
        {"id": 1, "method": "job/begin"},
        {"id": 1, "method": "job/get", "params": {}},
        {"id": 1, "method": "job/get", "params": {"id": 7}},
        {"id": 1, "method": "job/start", "params": {"argv": ["x"], "shell": True}},
        {"id": 1, "method": "job/start", "params": {"argv": "x"}},
        {"id": None, "method": "broker/ping"},
        {"method": "job/updated"},
        {"jsonrpc": "1.0", "id": 1, "method": "broker/ping"},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "error": None},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "", "data": {"kind": "internal"}}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "", "data": {"kind": "internal"}, "more": 1}},
        {"id": 1, "result": {}},
        [],
        "broker/ping",
    ],
    ids=str,
)
def test_it_does_not_take_these(message: object) -> None:
    assert not WHOLE.is_valid(message)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["base64", "a"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(METHODS))
@given(data=st.data())
def test_what_fits_the_schema_fits_the_types(name: str, data: st.DataObject) -> None:
    """Whatever parameters the schema takes, the broker's decoder takes; it takes more, so not the other way round."""
    params: type[Struct] = METHODS[name].params.type
    fields = [field.encode_name for field in msgspec.structs.fields(params)]
    given = data.draw(st.dictionaries(st.sampled_from([*fields, "more"]), JSON, max_size=3))
    if WHOLE.is_valid({"id": 1, "method": name, "params": given}):
        assert isinstance(jsonrpc.decode_params(jsonrpc.encode(given), METHODS[name].params), params)


# --- the tests' own watch over their messages -----------------------------------------------------------------------


def heard(answer: object, method: str = "broker/ping", params: object = None) -> None:
    watch = Conformance()
    watch.sent({"id": 1, "method": method, "params": params or {}})
    watch.received(answer)


def test_what_fits_passes() -> None:
    heard({"jsonrpc": "2.0", "id": 1, "result": PING})
    heard([{"jsonrpc": "2.0", "id": 1, "result": PING}])
    heard({"jsonrpc": "2.0", "id": 1, "result": {"whatever": 1}}, method="theirs")
    heard({"method": "theirs", "params": 7})
    assert set(RESULTS) == set(METHODS)


@pytest.mark.parametrize(
    ("answer", "method", "params"),
    [
        ({"jsonrpc": "2.0", "id": 1, "result": {**PING, "more": 1}}, "broker/ping", {}),
        ({"jsonrpc": "2.0", "id": 1, "result": {**PING, "pid": "1"}}, "broker/ping", {}),
        ({"jsonrpc": "2.0", "id": 1, "result": {"pid": 1}}, "broker/ping", {}),
        ({"id": 1, "result": PING}, "broker/ping", {}),
        ({"jsonrpc": "2.0", "id": 1, "result": PING}, "broker/ping", {"verbose": True}),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": ""}}, "broker/ping", {}),
        ({"jsonrpc": "2.0", "id": None, "error": {"code": -1, "message": ""}}, "theirs", {}),
        ({"jsonrpc": "2.0", "method": "notifications/job/updated", "params": {"job": {}, "cursor": ""}}, "", {}),
        ({"jsonrpc": "2.0", "method": "notifications/job/removed", "params": {"id": 1, "cursor": ""}}, "", {}),
        ({"jsonrpc": "2.0", "method": "exit"}, "", {}),
    ],
)
def test_what_does_not_is_told(answer: object, method: str, params: object) -> None:
    with pytest.raises(AssertionError):
        heard(answer, method, params)


def test_every_member_of_a_job_is_there() -> None:
    job = msgspec.to_builtins(snapshot().job)
    whole = {"jsonrpc": "2.0", "id": 1, "result": {"job": job}}
    heard(whole, "job/get", {"id": "x"})
    for member in job:
        less = {key: value for key, value in job.items() if key != member}
        with pytest.raises(AssertionError):
            heard({**whole, "result": {"job": less}}, "job/get", {"id": "x"})
