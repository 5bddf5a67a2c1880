"""The errors of the protocol: their numbers and names are promises, and both survive the wire."""

from __future__ import annotations

import inspect

import pytest

from jobclient.protocol import errors
from jobclient.protocol.errors import BY_CODE, Busy, JobNotFound, RemoteError, ResultUnavailable, from_wire, to_wire
from jobclient.protocol.jsonrpc import Json

PINNED = {
    "parse": -32700,
    "invalid_request": -32600,
    "method_not_found": -32601,
    "invalid_params": -32602,
    "internal": -32603,
    "request_cancelled": -32800,
    "busy": -31001,
    "job_not_found": -31002,
    "result_unavailable": -31003,
    "ambiguous_reference": -31004,
    "invalid_state": -31005,
    "not_delivered": -31006,
    "shutting_down": -31007,
    "backend_gone": -31008,
    "version_mismatch": -31009,
    "jobs_active": -31010,
    "timeout": -31011,
    "denied": -31012,
    "too_large": -31013,
    "store_unavailable": -31014,
}
CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, RemoteError) and cls is not RemoteError
]


def test_codes_and_kinds_are_pinned() -> None:
    assert {cls.kind: cls.code for cls in CLASSES} == PINNED


def test_every_class_has_a_code_and_a_kind_of_its_own() -> None:
    assert len({cls.code for cls in CLASSES}) == len({cls.kind for cls in CLASSES}) == len(CLASSES)


def test_the_table_holds_every_class() -> None:
    assert set(BY_CODE.values()) == set(CLASSES)


def test_every_class_says_what_it_means() -> None:
    assert all(cls.__doc__ and cls.__doc__.endswith(".") for cls in CLASSES)


@pytest.mark.parametrize("code", [code for code in PINNED.values() if code < -32000 and code != -32800])
def test_standard_codes_are_json_rpcs_own(code: int) -> None:
    assert code in {-32700, -32600, -32601, -32602, -32603}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.kind)
def test_round_trip(cls: type[RemoteError]) -> None:
    error = cls("what happened", {"status": "running", "candidates": ["a", "b"]})
    assert str(error) == "what happened"
    back = from_wire(
        {
            "code": cls.code,
            "message": "what happened",
            "data": {"kind": cls.kind, "status": "running", "candidates": ["a", "b"]},
        }
    )
    assert type(back) is cls
    assert to_wire(back) == to_wire(error)


def test_the_wire_form_has_exactly_three_members() -> None:
    assert to_wire(JobNotFound("no job 'x'")) == {
        "code": -31002,
        "message": "no job 'x'",
        "data": {"kind": "job_not_found"},
    }


def test_data_cannot_hide_the_kind() -> None:
    assert to_wire(Busy("in use", {"kind": "command", "by": "a"}))["data"] == {"kind": "busy", "by": "a"}


def test_data_is_each_errors_own() -> None:
    one, other = Busy("a"), Busy("b")
    one.data["by"] = "x"
    assert other.data == {}


def test_an_unknown_code_keeps_what_it_said() -> None:
    error = from_wire({"code": 4711, "message": "from a backend", "data": {"kind": "odd", "more": 1}})
    assert type(error) is RemoteError
    assert to_wire(error) == {"code": 4711, "message": "from a backend", "data": {"kind": "odd", "more": 1}}
    assert RemoteError.code == -32603, "the class is not changed by its instance"


def test_a_known_code_is_told_by_its_number_not_by_its_kind() -> None:
    assert type(from_wire({"code": -31003, "message": "", "data": {"kind": "busy"}})) is ResultUnavailable


@pytest.mark.parametrize("code", [None, "busy", 1.5, [], True])
def test_a_code_that_is_none_becomes_internal(code: Json) -> None:
    error = from_wire({"code": code, "message": "m"})
    assert (type(error), error.kind) == (RemoteError, "internal")


@pytest.mark.parametrize("data", [None, [], "text", 3, {}])
def test_data_of_any_shape_is_survived(data: Json) -> None:
    error = from_wire({"code": -31001, "message": "m", "data": data})
    assert (type(error), error.data) == (Busy, {})


@pytest.mark.parametrize("error", [{}, {"code": -31001, "message": None}, {"code": -31001, "message": ""}])
def test_an_error_without_a_message_says_so(error: dict[str, Json]) -> None:
    assert str(from_wire(error)) == "the broker gave no message"


def test_one_base_catches_everything() -> None:
    assert issubclass(RemoteError, errors.JobBrokerError)
    assert issubclass(errors.BrokerUnavailable, errors.JobBrokerError)
    assert issubclass(errors.ConnectionLost, errors.JobBrokerError)
