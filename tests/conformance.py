"""Every message of every test against docs/protocol.schema.json, read as a stranger would who has nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, cast

import jsonschema_rs

from source import ROOT

Schema = dict[str, Any]
PASSED_ON = ("backend/request",)
"""Methods whose errors are somebody else's."""


class Conformance:
    """What goes over one connection, held against the schema.

    What the broker refuses need not fit, and what it takes besides (`[]` for no parameters) is tested elsewhere. What
    is about a method the schema does not know is a backend's.
    """

    def __init__(self) -> None:
        self._asked: dict[str, Schema] = {}

    def sent(self, message: object) -> None:
        """Note what a client says; whether it had to fit depends on the answer."""
        for each in _singles(message):
            if "method" in each and "id" in each:
                self._asked[json.dumps(each["id"])] = each

    def received(self, message: object) -> None:
        """See that what the broker says fits, and what it is the answer to."""
        for each in _singles(message):
            if "method" in each:
                self._notified(each)
            else:
                self._answered(self._asked.pop(json.dumps(each.get("id")), None), each)

    def _notified(self, message: Schema) -> None:
        about = SCHEMA["notifications"].get(message["method"])
        if about is not None:
            assert about["from"] == "broker", message
            _fits(NOTIFICATION, message)
            _fits(NOTICES[message["method"]], message["params"])

    def _answered(self, request: Schema | None, answer: Schema) -> None:
        method = "" if request is None else str(request["method"])
        if "error" in answer:
            if request is None or (method in SCHEMA["methods"] and method not in PASSED_ON):
                _fits(REFUSAL, answer)
            return
        if request is None or method not in SCHEMA["methods"] or _is_a_backends(method, answer["result"]):
            return
        _fits(ANSWER, answer)
        _fits(RESULTS[method], answer["result"])
        if isinstance(request.get("params"), dict):
            _fits(REQUEST, request)


def _singles(message: object) -> Iterator[Schema]:
    for each in cast("list[object]", message) if isinstance(message, list) else [message]:
        if isinstance(each, dict):
            yield cast("Schema", each)


def _is_a_backends(method: str, result: object) -> bool:
    """Where a backend has a handshake, that is what `initialize` answers with."""
    return method == "initialize" and isinstance(result, dict) and "methods" not in result


def _fits(validator: jsonschema_rs.Validator, value: object) -> None:
    for error in validator.iter_errors(value):
        raise AssertionError(f"the schema does not have this: {error} in {json.dumps(value)[:2000]}")


def _exact(schema: Schema) -> Schema:
    """The schema without leave for members it does not have: results may grow, but not without a word in it."""
    exact = copy.deepcopy(schema)
    for definition in exact["$defs"].values():
        if definition.get("properties") and "additionalProperties" not in definition:
            definition["additionalProperties"] = False
    return exact


def _validator(schema: Schema, part: Schema) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({**{key: schema[key] for key in KEPT}, **part})


SCHEMA: Schema = json.loads((ROOT / "docs/protocol.schema.json").read_text())
KEPT = ("$schema", "$defs", "methods", "notifications")
EXACT = _exact(SCHEMA)
REQUEST, NOTIFICATION, ANSWER, REFUSAL = (
    _validator(SCHEMA, {"$ref": f"#/$defs/{name}"}) for name in ("Request", "Notification", "Answer", "Refusal")
)
RESULTS = {name: _validator(EXACT, about["result"]) for name, about in SCHEMA["methods"].items()}
NOTICES = {name: _validator(EXACT, about["params"]) for name, about in SCHEMA["notifications"].items()}
