"""The rules every type of the wire keeps, whichever is added next."""

from __future__ import annotations

import re
import types
import typing

import msgspec
import pytest
from msgspec import Struct

from jobclient.protocol import wire
from jobclient.protocol.jsonrpc import Json
from jobclient.protocol.wire import LIVE, MAX_NUMBER, TERMINAL, Params, Result, Status

STRUCTS: dict[str, type[Struct]] = {
    name: value
    for name, value in vars(wire).items()
    if isinstance(value, type) and issubclass(value, Struct) and value.__module__.startswith(f"{wire.__name__}.")
}
PARAMS = {name: struct for name, struct in STRUCTS.items() if issubclass(struct, Params)}
REQUIRED = {
    "BackendRequestParams": {"method"},
    "SignalParams": {"id", "signal"},
    "JobParams": {"id"},
    "InputParams": {"id"},
    "GetParams": {"id"},
    "OutputParams": {"id"},
    "CancelParams": {"id"},
    "UntilOutput": {"pattern"},
    "ScheduleParams": {"name"},
    "AddParams": {"name"},
    "TimedRemoveParams": {"name"},
    "TickParams": {"name"},
    "StageParams": {"batchId", "runner", "stage"},
}
SENT_BACK = {"id", "ids", "from", "before", "name", "idempotencyKey"}
"""Members in which a client gives back what it was given: strings, so that no JSON parser can round them (S11)."""

PASSED_ON = {"params"}
"""Members the broker does not look into: they are the backend's."""

struct = pytest.mark.parametrize("struct", STRUCTS.values(), ids=STRUCTS)
params = pytest.mark.parametrize("params", PARAMS.values(), ids=PARAMS)


def alternatives(hint: object) -> set[object]:
    """The members of a union, one level deep, without None."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return {each for each in (typing.get_args(hint) if union else (hint,)) if each is not type(None)}


# --- all structs ----------------------------------------------------------------------------------------------------


def test_the_walk_sees_them_all() -> None:
    assert len(STRUCTS) > 30
    assert {"Job", "StartParams", "BrokerStatus", "Base64", "CancelRequestParams"} <= set(STRUCTS)


@struct
def test_names_are_camel_case(struct: type[Struct]) -> None:
    for field in msgspec.structs.fields(struct):
        assert re.fullmatch(r"[a-z][a-z0-9]*([A-Z][a-z0-9]*)*", field.encode_name)
        words = field.name.rstrip("_").split("_")
        assert field.encode_name == words[0] + "".join(word.capitalize() for word in words[1:])


@struct
def test_every_type_says_what_it_is(struct: type[Struct]) -> None:
    assert (struct.__doc__ or "").strip().endswith(".")


# --- parameters -----------------------------------------------------------------------------------------------------


@params
def test_unknown_parameters_are_refused(params: type[Params]) -> None:
    assert params.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize("struct", [wire.InitializeParams, wire.CancelRequestParams])
def test_what_editors_send_unasked_may_hold_anything(struct: type[Struct]) -> None:
    msgspec.json.decode(b'{"id":1,"capabilities":{"a":[1]},"rootUri":null,"trace":"off"}', type=struct)


@params
def test_parameters_that_may_be_absent_default_to_nothing(params: type[Params]) -> None:
    required = {field.encode_name for field in msgspec.structs.fields(params) if field.required}
    assert required == REQUIRED.get(params.__name__, set())
    assert all(field.default is None for field in msgspec.structs.fields(params) if not field.required)


@params
def test_numbers_in_parameters_have_bounds(params: type[Params]) -> None:
    schema = msgspec.json.schema(params)
    for definition in schema["$defs"].values():
        for name, member in definition.get("properties", {}).items():
            for number in numbers(member) if name not in PASSED_ON else []:
                assert "minimum" in number, name
                assert "maximum" in number, name


def numbers(schema: Json) -> list[dict[str, Json]]:
    """The parts of a JSON schema that take a number."""
    if isinstance(schema, list):
        return [number for each in schema for number in numbers(each)]
    if not isinstance(schema, dict):
        return []
    found = [schema] if schema.get("type") in ("integer", "number") else []
    return found + numbers([schema.get(nested) for nested in ("anyOf", "additionalProperties", "items")])


@params
def test_what_clients_send_back_is_a_string(params: type[Params]) -> None:
    hints = typing.get_type_hints(params)
    for field in msgspec.structs.fields(params):
        if field.encode_name in SENT_BACK:
            assert alternatives(hints[field.name]) <= {str, list[str]}


def test_the_largest_number_is_exact_in_every_json_parser() -> None:
    assert MAX_NUMBER == 10**14 < 2**53


# --- results --------------------------------------------------------------------------------------------------------


def test_cursors_are_strings() -> None:
    cursors = [(wire.Output, "start"), (wire.Output, "next"), (wire.JobList, "next"), (wire.Subscribed, "cursor")]
    for struct, name in cursors:
        assert alternatives(typing.get_type_hints(struct)[name]) == {str}


@pytest.mark.parametrize("result", [struct for struct in STRUCTS.values() if issubclass(struct, Result)])
def test_results_may_grow(result: type[Result]) -> None:
    assert not result.__struct_config__.forbid_unknown_fields, "a client of today reads a broker of tomorrow"


def test_live_and_terminal_make_up_all_statuses() -> None:
    assert set(typing.get_args(Status)) == LIVE | TERMINAL
    assert not LIVE & TERMINAL
